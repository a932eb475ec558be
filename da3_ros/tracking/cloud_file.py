"""The map as a file that viewers and libraries read: PLY or PCD, binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from da3_ros.errors import InputError
from da3_ros.tracking.voxel_map import Cloud


def write_cloud(path: Path, cloud: Cloud) -> None:
    """Write ``cloud`` to ``path``, which ends in .ply (with the weight as ``confidence``) or .pcd; it appears whole.

    Raises InputError for another suffix, for an empty cloud, and where the file cannot be written.
    """
    writers = {".ply": _ply, ".pcd": _pcd}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path} is neither .ply nor .pcd: set map.save_path to a name that ends in one of them")
    if not len(cloud):
        raise InputError("the map is empty: nothing is written")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(writers[path.suffix.lower()](cloud))
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _ply(cloud: Cloud) -> bytes:
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    points = np.empty(len(cloud), dtype=[*kinds, ("confidence", "<f4")])
    for index, name in enumerate("xyz"):
        points[name] = cloud.xyz[:, index]
    for index, name in enumerate(("red", "green", "blue")):
        points[name] = cloud.rgb[:, index]
    points["confidence"] = cloud.weight
    names = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {names[kind]} {name}\n" for name, kind in [*kinds, ("confidence", "<f4")])
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(cloud)}\n{properties}end_header\n"
    return head.encode() + points.tobytes()


def _pcd(cloud: Cloud) -> bytes:
    points = np.empty(len(cloud), dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    for index, name in enumerate("xyz"):
        points[name] = cloud.xyz[:, index]
    red, green, blue = cloud.rgb.astype(np.uint32).T
    points["rgb"] = (red << 16) | (green << 8) | blue
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\n"
        f"COUNT 1 1 1 1\nWIDTH {len(cloud)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(cloud)}\nDATA binary\n"
    )
    return head.encode() + points.tobytes()
