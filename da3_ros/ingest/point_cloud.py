"""PointCloud2 messages (rclpy's or those of a recording) to points."""

from __future__ import annotations

from typing import Any

import numpy as np

from da3_ros.errors import InputError

_FLOATS = {7: "f4", 8: "f8"}  # sensor_msgs/PointField


def points_from_cloud(message: Any, topic: str) -> np.ndarray:
    """x, y, z (n, 3) float64 of the cloud's points, without those that are not finite.

    Raises InputError for a cloud without the fields x, y and z, or with other numbers than float32 and float64 in
    them, and for one whose bytes are too few.
    """
    fields = {field.name: field for field in message.fields}
    order = ">" if message.is_bigendian else "<"
    names = ("x", "y", "z")
    if any(name not in fields or fields[name].datatype not in _FLOATS for name in names):
        there = ", ".join(f"{name} (type {field.datatype})" for name, field in fields.items()) or "none"
        raise InputError(f"{topic} needs fields x, y, z of float32 or float64; it has {there}")
    layout = np.dtype(
        {
            "names": names,
            "formats": [order + _FLOATS[fields[name].datatype] for name in names],
            "offsets": [fields[name].offset for name in names],
            "itemsize": message.point_step,
        }
    )
    data = np.frombuffer(message.data, np.uint8)
    length = message.width * message.point_step
    if len(data) < message.height * message.row_step or message.row_step < length:
        raise InputError(
            f"{topic}: {message.height} rows of {message.width} points of {message.point_step} bytes do not fit into "
            f"{len(data)} bytes"
        )
    rows = data[: message.height * message.row_step].reshape(message.height, message.row_step)[:, :length]
    found = np.ascontiguousarray(rows).reshape(-1).view(layout)
    points = np.stack([found[name].astype(np.float64) for name in names], axis=-1)
    return points[np.isfinite(points).all(axis=1)]
