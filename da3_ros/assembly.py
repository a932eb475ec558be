"""The dense outputs of a placed window, on the device and in the layout in which they are published."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from da3_ros.config import PointsConfig, PublishConfig
from da3_ros.cuda_graphs import Replay
from da3_ros.datatypes import OutputRequest, WindowPrediction
from da3_ros.geometry.clouds import lower_median, pack_points
from da3_ros.geometry.image import ViewPlan
from da3_ros.placement import PlacedWindow
from da3_ros.streaming.outputs import (
    Cloud,
    DenseViews,
    crop_views,
    encode_depth,
    encode_sky,
    merge_points,
    resize_depth,
    select_points,
)
from da3_ros.streaming.transfer import Download, Downloader, pack
from da3_ros.tracking import invert_rigid

_GRAPHS = 8


def wanted_views(prediction: WindowPrediction, request: OutputRequest) -> tuple[int, ...]:
    """The decoded views of the newest set that somebody wants, as indices into the window's views."""
    cameras = request.depth | request.confidence | request.points | request.sky | request.dynamic
    newest = [index for index in prediction.decoded if prediction.views[index].newest]
    return tuple(index for index in newest if request.merged_points or prediction.views[index].camera in cameras)


def wanted_of_window(prediction: WindowPrediction, request: OutputRequest) -> tuple[int, ...]:
    """The decoded views, older ones too, whose own maps somebody wants, as indices into the window's views."""
    cameras = request.window_depth | request.window_confidence
    return tuple(index for index in prediction.decoded if prediction.views[index].camera in cameras)


class Outputs:
    """Starts the downloads of what is published of placed windows. Not thread-safe.

    With ``graphs`` all that the device does for it is one CUDA graph, once a window in the same place has come up
    before.
    """

    def __init__(self, device: torch.device, graphs: bool):
        self._downloader = Downloader(device)
        self._replay = Replay(device, _GRAPHS if graphs else 0)
        self._last: Download | None = None

    def start(
        self,
        window: PlacedWindow,
        whole: WindowPrediction,
        plans: Mapping[str, ViewPlan],
        request: OutputRequest,
        points: PointsConfig,
        publish: PublishConfig,
    ) -> Download:
        """Assemble what is in ``request``, see ``assemble``, and bring it to the host."""

        def tensors() -> dict[str, torch.Tensor]:
            return assemble(window, whole, plans, request, points, publish)

        # Tables for the input's size are kept for the latest plans only: a graph would outlive them.
        if window.K.device.type == "cpu" or publish.depth_resolution != "network":
            return self._downloader.start(tensors())
        prediction = window.prediction
        views = tuple((view.camera, view.newest, view.view.content) for view in prediction.views)
        packed, places = self._replay.run(
            (views, whole.decoded, request, points, publish),
            (
                window.T_odom_cam, window.T_odom_base, window.K, window.K_predicted, prediction.reference_index,
                window.metres_per_unit, prediction.metres_stddev, *_tracked_tensors(window).values(),
                prediction.depth, prediction.depth_conf, prediction.sky,
                prediction.colours if request.points or request.merged_points else None,
                window.dynamic if request.dynamic else None,
                *((whole.depth, whole.depth_conf, whole.sky) if request.of_window else ()),
            ),
            lambda: pack(tensors()),
            after=None if self._last is None else self._last.done,  # it may still be on its way from the same buffer
        )  # fmt: skip
        self._last = self._downloader.fetch(packed, places)
        return self._last


def assemble(
    window: PlacedWindow,
    whole: WindowPrediction,
    plans: Mapping[str, ViewPlan],
    request: OutputRequest,
    points: PointsConfig,
    publish: PublishConfig,
) -> dict[str, torch.Tensor]:
    """Everything that goes to the host, by name; only what is in ``request``. No host synchronization.

    ``window`` has the maps of the newest set, ``whole`` those of all decoded views. ``plans``: of all cameras of the
    window.
    Of the window: ``K``, ``T_odom_cam``, ``T_odom_base``, ``K_predicted``, ``reference``, ``metres_per_unit``,
    ``metres_stddev``, ``points`` with ``points_count``. Of a tracked one ``track_report`` (see TrackReport), and of its
    newest views ``track_depth``, ``track_weight`` (see TrackedWindow) and ``track_features`` (M, D). Of a camera:
    ``depth/<c>`` or ``sky/<c>`` with ``image_K/<c>``, ``confidence/<c>``, ``points/<c>``, ``dynamic/<c>``. Of a view:
    ``median/<index>``, its confidence's, and of the whole window ``window_depth/<index>`` with ``window_K/<index>``,
    ``window_confidence/<index>``.
    """
    prediction = window.prediction
    optional = {
        "T_odom_cam": window.T_odom_cam,
        "T_odom_base": window.T_odom_base,
        "K_predicted": window.K_predicted,
        "reference": prediction.reference_index,
        "metres_per_unit": window.metres_per_unit,
        "metres_stddev": prediction.metres_stddev,
    }
    tracked = _tracked_tensors(window).items()
    optional |= {name: one if one.dtype == torch.float64 else one.float() for name, one in tracked}
    out = {"K": window.K} | {name: tensor for name, tensor in optional.items() if tensor is not None}
    clouds: list[Cloud] = []
    poses: list[torch.Tensor | None] = []
    for indices in _groups(wanted_views(prediction, request), window):
        cameras = [prediction.views[index].camera for index in indices]
        views = _dense_views(window, indices)
        if views.confidence is not None:
            for index, median in zip(indices, lower_median(views.confidence), strict=True):
                out[f"median/{index}"] = median
            _add(out, "confidence", request.confidence, cameras, views.confidence)
        if window.dynamic is not None and request.dynamic.intersection(cameras):
            top, left, height, width = prediction.views[indices[0]].view.content
            first = len(prediction.views) - len(window.dynamic)
            masks = window.dynamic[indices[0] - first : indices[-1] + 1 - first]
            _add(out, "dynamic", request.dynamic, cameras, masks[:, top : top + height, left : left + width])
        if request.depth.intersection(cameras) or request.sky.intersection(cameras):
            depths, Ks = resize_depth(views, [plans[camera] for camera in cameras], publish.depth_resolution)
            _add(out, "image_K", request.depth | request.sky, cameras, Ks)
            _add(
                out, "depth", request.depth, cameras, [encode_depth(depth, publish.depth_encoding) for depth in depths]
            )
            if prediction.sky is not None:
                _add(out, "sky", request.sky, cameras, [encode_sky(depth) for depth in depths])
        if request.merged_points or request.points.intersection(cameras):
            cloud = select_points(views, points)
            clouds.append(cloud)
            poses.extend(_T_merged_cam(window, index, points.frame) for index in indices)
            if request.points.intersection(cameras):
                _add(out, "points", request.points, cameras, pack_points(*cloud))
    out |= _of_window(replace(window, prediction=whole), plans, request, publish)
    known = [pose for pose in poses if pose is not None]
    if request.merged_points and clouds and len(known) == len(poses):
        out["points"], out["points_count"] = merge_points(clouds, known, points.voxel_m)
    return out


def _of_window(
    window: PlacedWindow, plans: Mapping[str, ViewPlan], request: OutputRequest, publish: PublishConfig
) -> dict[str, torch.Tensor]:
    """What ``assemble`` has of the whole window's views."""
    out = {}
    prediction = window.prediction
    for indices in _groups(wanted_of_window(prediction, request), window):
        cameras = [prediction.views[index].camera for index in indices]
        views = _dense_views(window, indices)
        depths, Ks = resize_depth(views, [plans[camera] for camera in cameras], publish.depth_resolution)
        medians = None if views.confidence is None else lower_median(views.confidence)
        for row, (index, camera) in enumerate(zip(indices, cameras, strict=True)):
            if camera in request.window_depth:
                out[f"window_depth/{index}"] = encode_depth(depths[row], publish.depth_encoding)
                out[f"window_K/{index}"] = Ks[row]
            if views.confidence is not None and medians is not None:
                out[f"median/{index}"] = medians[row]
                if camera in request.window_confidence:
                    out[f"window_confidence/{index}"] = views.confidence[row]
    return out


def _tracked_tensors(window: PlacedWindow) -> dict[str, torch.Tensor]:
    """What the host's side of tracking takes."""
    tracked, features = window.tracked, window.prediction.features
    if tracked is None:
        return {}
    found = {"track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight}
    return found if features is None else found | {"track_features": features[-len(tracked.depth) :]}


def _add(
    out: dict[str, torch.Tensor],
    kind: str,
    wanted: frozenset[str],
    cameras: Sequence[str],
    values: torch.Tensor | Sequence[torch.Tensor],
) -> None:
    """Put the values of the ``cameras`` that are ``wanted`` into ``out``."""
    for camera, value in zip(cameras, values, strict=True):
        if camera in wanted:
            out[f"{kind}/{camera}"] = value


def _groups(indices: Sequence[int], window: PlacedWindow) -> list[tuple[int, ...]]:
    """Runs of views that can be processed together: neighbours whose content has the same size and place."""
    if window.K.device.type == "cpu":
        return [(index,) for index in indices]  # one image at a time stays in the processor's cache
    prediction = window.prediction

    def kind(item: tuple[int, int]) -> tuple:
        position, index = item
        row = prediction.decoded.index(index)
        return index - position, row - position, prediction.views[index].view.content

    runs = itertools.groupby(enumerate(indices), kind)
    return [tuple(index for _, index in run) for _, run in runs]


def _dense_views(window: PlacedWindow, indices: tuple[int, ...]) -> DenseViews:
    """Cropped maps of decoded views that are neighbours in the window."""
    prediction = window.prediction
    first = prediction.decoded.index(indices[0])
    rows = slice(first, first + len(indices))
    return crop_views(
        prediction.views[indices[0]].view.content,
        prediction.depth[rows],
        None if prediction.depth_conf is None else prediction.depth_conf[rows],
        prediction.colours[rows],
        None if prediction.sky is None else prediction.sky[rows],
        window.K[indices[0] : indices[-1] + 1],
        window.metres_per_unit,
    )


def _T_merged_cam(window: PlacedWindow, index: int, frame: str) -> torch.Tensor | None:
    """Pose of a view in the frame of the merged cloud; None without poses, or without the rig for the base."""
    if frame == "odom":
        return None if window.T_odom_cam is None else window.T_odom_cam[index]
    if window.T_odom_base is None or window.T_odom_cam is None:
        return None
    return invert_rigid(window.T_odom_base) @ window.T_odom_cam[index]
