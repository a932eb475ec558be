"""``sensor_msgs_py.point_cloud2``: PointCloud2 messages from and to NumPy."""

try:
    from sensor_msgs_py.point_cloud2 import create_cloud, create_cloud_xyz32, read_points, read_points_numpy
except ImportError:
    from da3_ros.ros.compat._fallback.point_cloud2 import (
        create_cloud,
        create_cloud_xyz32,
        read_points,
        read_points_numpy,
    )

__all__ = ["create_cloud", "create_cloud_xyz32", "read_points", "read_points_numpy"]
