"""One step of each kind of network over the window: what is kept of a view, and what is computed for the window.

All are exact: ``predict`` gives what the network's own forward gives for the images of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from da3_ros.datatypes import View
from da3_ros.model import DepthAnything3, Features, NestedDepthAnything3, SingleViewDepth, ViewState
from da3_ros.model.camera import normalise_cameras
from da3_ros.model.dense_head import DenseMaps
from da3_ros.model.layout import Network
from da3_ros.model.metric_scale import in_metres
from da3_ros.model.sky import sky_mask
from da3_ros.streaming.cache import ViewCache
from da3_ros.streaming.rig import Rig, align_to_rig
from da3_ros.streaming.window import Slot, WindowConfig


@dataclass(frozen=True)
class NetworkOutput:
    """What a network says of the window of N views and of its M newest ones; fields as in WindowPrediction."""

    depth: torch.Tensor
    depth_conf: torch.Tensor | None = None
    T_cam_world: torch.Tensor | None = None
    K: torch.Tensor | None = None
    reference_index: torch.Tensor | None = None
    sky: torch.Tensor | None = None
    metres_per_unit: torch.Tensor | None = None
    metres_stddev: torch.Tensor | None = None


class AnyViewWindow:
    """An any-view network: layers before the first cross-view layer depend on one image alone, so their output is
    kept; the dense head runs for the newest views only.
    """

    def __init__(self, model: DepthAnything3, config: WindowConfig, rig: Rig):
        self._model = model
        self._config = config
        self._rig = rig
        self._activations = ViewCache(config.views)
        self._size = (0, 0)
        self.sets = config.sets  # that the window is to hold

    def write(self, slots: tuple[Slot, ...], images: torch.Tensor) -> None:
        """Take in the images (n, 3, H, W) of the views in ``slots``."""
        state = self._model.encode_views(images[None])
        self._activations.write(slots, state.tokens[0], state.summary[0])
        self._size = state.size

    def predict(self, slots: tuple[Slot, ...], new: int) -> NetworkOutput:
        """All views in ``slots``, of which the last ``new`` are decoded (0: poses and intrinsics alone)."""
        features, reference = self._relate(slots)
        maps, extrinsics, K = self._decode(features, new)
        output = _any_view_output(maps, extrinsics, K, reference, new)
        if self._config.pose_conditioning == "rig" and self._config.rig_scale:
            assert output.T_cam_world is not None
            T_cam_base, _ = self._rig_cameras(slots)
            T_cam_world, metres, stddev = align_to_rig(T_cam_base[0], output.T_cam_world)
            output = replace(output, T_cam_world=T_cam_world, metres_per_unit=metres, metres_stddev=stddev)
        return output

    def _relate(self, slots: tuple[Slot, ...]) -> tuple[Features, torch.Tensor]:
        """Features of all views, and the index (1,) of the reference view."""
        tokens, summary = self._activations.read(slots)
        state = ViewState(tokens[None], summary[None], self._size)
        if self._config.pose_conditioning == "rig":
            T_cam_base, K = self._rig_cameras(slots)
            camera_tokens = self._model.encode_cameras(normalise_cameras(T_cam_base), K, self._size)
            first = torch.zeros(1, dtype=torch.int64, device=tokens.device)  # the origin of conditioned views
            return self._model.mix_views(state, camera_tokens), first
        reference = self._model.select_reference(state, self._config.ref_view)
        return self._model.mix_views(state, self._model.role_tokens(reference, len(slots))), reference

    def _rig_cameras(self, slots: tuple[Slot, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rig.cameras([slot.view.view for slot in slots], self._model.device)

    def _decode(self, features: Features, newest: int) -> tuple[DenseMaps, torch.Tensor, torch.Tensor]:
        """Dense maps of at least the ``newest`` views; extrinsics (1, N, 3, 4) and K (1, N, 3, 3) of all."""
        if self._config.use_ray_pose:
            maps = self._model.decode_dense(features, ray=True)  # of all: each camera comes from its own ray map
            return maps, *self._model.decode_ray_cameras(maps, features.size)
        if newest:
            maps = self._model.decode_dense(features.views(slice(-newest, None)))
        else:
            nothing = torch.empty((1, 0, *features.size), device=features.camera.device)
            maps = DenseMaps(nothing, nothing)
        return maps, *self._model.decode_cameras(features)


class NestedWindow(AnyViewWindow):
    """The same with the metric network beside it, which runs on new views only: its depth and sky are kept.

    The scale is that of all views together, so with it the dense head of the any-view network runs for all of them.
    """

    def __init__(self, model: NestedDepthAnything3, config: WindowConfig, rig: Rig):
        super().__init__(model.da3, config, rig)
        self._nested = model
        self._metric = ViewCache(config.views)

    def write(self, slots: tuple[Slot, ...], images: torch.Tensor) -> None:
        super().write(slots, images)
        maps = self._nested.da3_metric.maps(images[None])
        self._metric.write(slots, maps.depth[0], sky_mask(maps.sky[0]))

    def predict(self, slots: tuple[Slot, ...], new: int) -> NetworkOutput:
        canonical_depth, is_sky = self._metric.read(slots)
        if not self._config.metric_scale:
            return replace(super().predict(slots, new), sky=is_sky[len(slots) - new :])
        features, reference = self._relate(slots)
        maps, extrinsics, K = self._decode(features, len(slots))
        views = [slot.view.view for slot in slots]
        valid = _content_mask(views, is_sky.device)
        scale = self._nested.scale(
            maps.depth,
            maps.depth_conf,
            K,
            canonical_depth[None],
            is_sky[None],
            _focal(views, is_sky.device)[None],
            None if valid is None else valid[None],
        )
        return replace(
            _any_view_output(maps, extrinsics, K, reference, new),
            sky=is_sky[len(slots) - new :],
            metres_per_unit=scale.metres[0],
            metres_stddev=scale.stddev[0],
        )


class SingleViewWindow:
    """A network that sees each view alone: nothing is kept, and the window is the newest set."""

    sets = 1

    def __init__(self, model: SingleViewDepth):
        self._model = model
        self._images: torch.Tensor | None = None  # of the newest set

    def write(self, slots: tuple[Slot, ...], images: torch.Tensor) -> None:
        """Take in the images (n, 3, H, W) of the views in ``slots``."""
        self._images = images

    def predict(self, slots: tuple[Slot, ...], new: int) -> NetworkOutput:
        """Depth of the last ``new`` views in ``slots`` (0 or all); of the metric network in metres."""
        assert self._images is not None and new in (0, len(slots))
        if new:
            maps = self._model.maps(self._images[None])
            depth, is_sky = maps.depth[0], sky_mask(maps.sky[0])
        else:
            depth = self._images.new_empty((0, *self._images.shape[-2:]), dtype=torch.float32)
            is_sky = depth > 0
        canonical_focal = self._model.variant.canonical_focal
        if canonical_focal is None:
            return NetworkOutput(depth, sky=is_sky)
        focal = _focal([slot.view.view for slot in slots[:new]], depth.device)
        one = torch.ones((), device=depth.device)
        return NetworkOutput(
            in_metres(depth, focal, canonical_focal), sky=is_sky, metres_per_unit=one, metres_stddev=one * torch.nan
        )


WindowNetwork = AnyViewWindow | NestedWindow | SingleViewWindow


def make_window_network(model: Network, config: WindowConfig, rig: Rig) -> WindowNetwork:
    """An empty window for ``model``; ``rig`` is consulted at each step if it is to condition the network."""
    if isinstance(model, NestedDepthAnything3):
        return NestedWindow(model, config, rig)
    if isinstance(model, SingleViewDepth):
        return SingleViewWindow(model)
    return AnyViewWindow(model, config, rig)


def _any_view_output(
    maps: DenseMaps, extrinsics: torch.Tensor, K: torch.Tensor, reference: torch.Tensor, new: int
) -> NetworkOutput:
    T_cam_world = torch.zeros((extrinsics.shape[1], 4, 4), device=extrinsics.device)
    T_cam_world[:, :3] = extrinsics[0]
    T_cam_world[:, 3, 3] = 1.0
    first = maps.depth.shape[1] - new  # there are maps of more views than the new ones where something needs them
    return NetworkOutput(maps.depth[0, first:], maps.depth_conf[0, first:], T_cam_world, K[0], reference[0])


def _focal(views: Sequence[View], device: torch.device) -> torch.Tensor:
    """Calibrated focal lengths (N,) float32, the mean of fx and fy in canvas pixels; NaN for uncalibrated cameras."""
    focal = np.array([(view.K[0, 0] + view.K[1, 1]) / 2 for view in views], dtype=np.float32)
    return torch.from_numpy(focal).to(device, non_blocking=True)


def _content_mask(views: Sequence[View], device: torch.device) -> torch.Tensor | None:
    """Which pixels (N, H, W) are content and not padding; None where no view is padded."""
    if all(view.content == (0, 0, *view.canvas_hw) for view in views):
        return None
    mask = torch.zeros((len(views), *views[0].canvas_hw), dtype=torch.bool, device=device)
    for index, view in enumerate(views):
        top, left, height, width = view.content
        mask[index, top : top + height, left : left + width] = True
    return mask
