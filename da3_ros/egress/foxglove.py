"""A layout for Foxglove (https://docs.foxglove.dev/docs/layouts): what a node or a replay publishes, on one screen.

``config/foxglove.json`` is the one for the cameras of ``config/four_camera_ring.yaml``, made by
``python -m da3_ros.egress.foxglove > config/foxglove.json``; ``da3-ros bags layout`` makes one for any recording.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SHIPPED_CAMERAS = ("front", "left", "rear", "right")
# Without preloading a jump to another time loses the frames that were sent before it.
_FRAMES = {"enablePreloading": True}
_LABEL_M, _AXES = 0.05, 0.3  # size of a frame's name, and of its axes (1: one metre), which shall not hide a room
_DISTANCE_M = 8.0  # of the eye from odom's origin, at first


def foxglove_layout(
    cameras: Sequence[str],
    namespace: str = "",
    pictures: Mapping[str, str] | None = None,
    odom: str = "odom",
    farthest: float = 10.0,
) -> dict[str, Any]:
    """The layout as Foxglove imports it (JSON). ``pictures``: image topic by camera (None: ``<camera>/image_raw``);
    ``farthest``: the end of depth's colours, in the unit of the depth images.

    A 3D view of clouds, path and frames that follows ``odom``, a row of picture, depth and confidence for each camera,
    plots of the position, and the window's message.
    """
    prefix = f"/{namespace.strip('/')}".rstrip("/")
    if pictures is None:
        pictures = {camera: f"{prefix}/{camera}/image_raw" for camera in cameras}
    panels: dict[str, Any] = {
        "3D!world": {
            "followTf": odom,
            "followMode": "follow-pose",
            "cameraState": {"distance": _DISTANCE_M, "phi": 60, "thetaOffset": 45, "perspective": True},
            "topics": {
                f"{prefix}/points": _cloud(visible=True),
                **{f"{prefix}/{camera}/points": _cloud(visible=False) for camera in cameras},
                f"{prefix}/path": {"visible": True, "gradient": ["#e6782cff", "#e6782c80"], "lineWidth": 0.03},
                f"{prefix}/odometry": {"visible": True},
                "/ground_truth/odometry": {"visible": True},
            },
            "scene": {"transforms": {**_FRAMES, "labelSize": _LABEL_M, "axisScale": _AXES}},
            "layers": {"grid": {"layerId": "foxglove.Grid", "visible": True, "frameLocked": True, "size": 20}},
        },
        "Plot!position": {
            "paths": [
                {"value": f"{prefix}/odometry.pose.pose.position.{axis}", "enabled": True, "label": axis,
                 "timestampMethod": "headerStamp"}
                for axis in "xyz"
            ],
            "showLegend": True,
            "xAxisVal": "timestamp",
        },
        "RawMessages!window": {"topicPath": f"{prefix}/window"},
    }  # fmt: skip
    rows: list[Any] = []
    for camera in cameras:
        row = []
        if camera in pictures:
            panels[f"Image!{camera}"] = _image({"imageTopic": pictures[camera]})
            row.append(f"Image!{camera}")
        info = f"{prefix}/{camera}/depth/camera_info"
        for name, topic, span in (
            ("depth", "depth/image_rect", {"minValue": 0, "maxValue": farthest}),
            ("confidence", "confidence", {}),
        ):
            panels[f"Image!{camera}_{name}"] = _image(
                {
                    "imageTopic": f"{prefix}/{camera}/{topic}",
                    "calibrationTopic": info,
                    "colorMode": "colormap",
                    "colorMap": "turbo",
                    **span,
                }
            )
            row.append(f"Image!{camera}_{name}")
        rows.append(_split("row", row))
    below = _split("row", ["Plot!position", "RawMessages!window"])
    return {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split("row", [_split("column", ["3D!world", below], 70), _split("column", rows)]),
    }


def _image(mode: Mapping[str, Any]) -> dict[str, Any]:
    return {"imageMode": mode, "scene": {"transforms": _FRAMES}}


def _cloud(visible: bool) -> dict[str, Any]:
    return {"visible": visible, "colorField": "rgb", "colorMode": "rgb", "pointSize": 2}


def _split(direction: str, parts: Sequence[Any], percentage: float | None = None) -> Any:
    """``parts`` side by side (row) or one above the other (column), of equal size without ``percentage``."""
    if len(parts) == 1:
        return parts[0]
    share = 100 / len(parts) if percentage is None else percentage
    return {
        "direction": direction, "first": parts[0], "second": _split(direction, parts[1:]), "splitPercentage": share,
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(foxglove_layout(SHIPPED_CAMERAS), sys.stdout, indent=1)
    print()
