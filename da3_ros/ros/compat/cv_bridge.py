"""``cv_bridge``: Image and CompressedImage messages from and to OpenCV arrays."""

try:
    from cv_bridge import CvBridge, CvBridgeError
except ImportError:
    from da3_ros.ros.compat._fallback.cv_bridge import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]
