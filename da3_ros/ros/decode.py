"""Images with a rare encoding to RGB, through cv_bridge."""

from __future__ import annotations

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from da3_ros.ros.compat.cv_bridge import CvBridge
from da3_ros.ros.taken_image import TakenImage

_bridge = CvBridge()


def cv_bridge_converter(message: Image | TakenImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB; a ``Converter`` for da3_ros.ingest."""
    if isinstance(message, TakenImage):
        message = deserialize_message(message.serialized.tobytes(), Image)
    return _bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")
