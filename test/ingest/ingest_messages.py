"""Message-shaped objects, as rclpy makes them (array.array data) and as rosbags does (NumPy data)."""

from array import array
from types import SimpleNamespace

import numpy as np

STAMP = (12, 345_678_901)
STAMP_NS = 12_345_678_901


def header(sec=STAMP[0], nanosec=STAMP[1], frame_id="cam_optical"):
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image_message(pixels, encoding, *, padding=0, bigendian=0, kind="rclpy", height=None):
    """An Image of ``pixels`` (rows, W, ...) with ``padding`` bytes after each row."""
    rows, width = pixels.shape[:2]
    raw = np.ascontiguousarray(pixels).view(np.uint8).reshape(rows, -1)
    step = raw.shape[1] + padding
    padded = np.full((rows, step), 0xEE, dtype=np.uint8)
    padded[:, : raw.shape[1]] = raw
    data = padded.reshape(-1) if kind == "rosbags" else array("B", padded.tobytes())
    return SimpleNamespace(
        header=header(),
        height=rows if height is None else height,
        width=width,
        encoding=encoding,
        is_bigendian=bigendian,
        step=step,
        data=data,
    )


def compressed_message(data, picture_format):
    return SimpleNamespace(header=header(), format=picture_format, data=array("B", bytes(data)))


def info_message(width=640, height=480, fx=500.0, fy=510.0, cx=321.5, cy=238.5, **fields):
    """A CameraInfo; ``fields`` replace its attributes."""
    roi = fields.pop("roi", (0, 0, 0, 0))
    values = {
        "header": header(),
        "width": width,
        "height": height,
        "distortion_model": "plumb_bob",
        "d": array("d", [0.0] * 5),
        "k": np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
        "r": np.eye(3).ravel(),
        "p": np.array([fx - 20, 0, cx + 2, 0, 0, fy - 20, cy + 3, 0, 0, 0, 1.0, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3], do_rectify=False),
    }
    return SimpleNamespace(**{**values, **fields})
