"""One step of each kind of network over the window: what is kept of a view, and what is computed for the window.

All are exact: ``predict`` gives what the network's own forward gives for the images of the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from da3_ros.datatypes import View
from da3_ros.model import DepthAnything3, Features, NestedDepthAnything3, SingleViewDepth
from da3_ros.model.camera import normalise_cameras
from da3_ros.model.dense_head import DenseMaps
from da3_ros.model.guided_upsampling import as_guide
from da3_ros.model.layout import Network
from da3_ros.model.metric_scale import in_metres
from da3_ros.model.reference_view import select_reference
from da3_ros.model.sky import sky_mask
from da3_ros.streaming.cache import ViewCache
from da3_ros.streaming.device import choose_execution, pinned, pinned_indices
from da3_ros.streaming.entries import make_entries
from da3_ros.streaming.programs import Programs
from da3_ros.streaming.rig import Rig, align_to_known
from da3_ros.streaming.window import Slot, WindowConfig


@dataclass(frozen=True)
class NetworkOutput:
    """What a network says of the window of N views and of M decoded ones; fields as in WindowPrediction."""

    depth: torch.Tensor
    depth_conf: torch.Tensor | None = None
    T_cam_world: torch.Tensor | None = None
    K: torch.Tensor | None = None
    reference_index: torch.Tensor | None = None
    sky: torch.Tensor | None = None
    metres_per_unit: torch.Tensor | None = None
    metres_stddev: torch.Tensor | None = None
    features: torch.Tensor | None = None


class AnyViewWindow:
    """An any-view network: what depends on one image alone is kept (see entries), and the dense head runs for the
    wanted views only.
    """

    def __init__(self, model: DepthAnything3, config: WindowConfig, rig: Rig, programs: Programs):
        self._model = model
        self._config = config
        self._rig = rig
        self._programs = programs
        self._conditioned = config.pose_conditioning != "none"
        self._summaries = ViewCache(config.views)
        self._entries = make_entries(model, config.views, self._conditioned)
        self._guides = ViewCache(config.views)  # images, where depth is enlarged with them
        self.sets = config.sets  # that the window is to hold
        self.views = config.views  # of a full window

    def write(self, slots: Sequence[Slot], images: torch.Tensor) -> None:
        """Take in the images (n, 3, H, W) of the views in ``slots``."""
        self._programs.run("write", self._write, self._rows(slots), images)

    def predict(self, slots: Sequence[Slot], wanted: Sequence[int]) -> NetworkOutput:
        """All views in ``slots``; dense maps of those at ``wanted``, in ascending order. Without any: poses and
        intrinsics alone."""
        inputs = self._inputs(slots)
        return self._programs.run("predict", self._predict, self._rows(slots), self._pin(wanted), *inputs)

    def warm_up(self, images: torch.Tensor) -> None:
        """Compile and capture the step of a full window with a complete set, such as images (n, 3, H, W).

        What the window holds is lost.
        """
        rows = self._pin(range(self.views))
        for row in rows.to(images.device):  # fills the window
            self._write(row[None], images[:1])
        self._programs.warm_up("write", self._write, rows[-len(images) :], images)
        all_wanted, newest = (self._config.decoded(self.views, len(images), older) for older in (True, False))
        for wanted in dict.fromkeys((all_wanted, newest, ())):
            self._programs.warm_up("predict", self._predict, rows, self._pin(wanted), *self._stand_ins())

    def _rows(self, slots: Sequence[Slot]) -> torch.Tensor:
        return self._pin(slot.index for slot in slots)

    def _pin(self, values: Iterable[int]) -> torch.Tensor:
        """int64 on the host, from where the device fetches it without making the host wait."""
        return pinned_indices(tuple(values), self._model.device)

    def _inputs(self, slots: Sequence[Slot]) -> tuple[torch.Tensor, ...]:
        """What ``_predict`` takes besides rows: the known cameras, if they condition the network."""
        return self._rig.cameras([slot.view for slot in slots], self._model.device) if self._conditioned else ()

    def _stand_ins(self) -> tuple[torch.Tensor, ...]:
        """Something of the kinds and shapes of ``_inputs`` for a full window."""
        if not self._conditioned:
            return ()
        return torch.eye(4).repeat(1, self.views, 1, 1), torch.eye(3).repeat(1, self.views, 1, 1)

    def _write(self, rows: torch.Tensor, images: torch.Tensor) -> None:
        state = self._model.encode_views(images[None])
        # The mean over patches tells places apart better than the summary does (docs/tracking.md, Loops).
        self._summaries.write(rows, state.summary[0], state.tokens[0, :, 1:].mean(dim=1))
        self._entries.write(rows, state)
        if self._model.head.guided:
            self._guides.write(rows, as_guide(images))

    def _predict(self, rows: torch.Tensor, wanted: torch.Tensor, *rig: torch.Tensor) -> NetworkOutput:
        everything = len(wanted) == len(rows)
        if self._config.use_ray_pose:  # each camera comes from its own ray map
            features, reference = self._relate(rows, None, rig)
            maps = self._model.decode_dense(features, ray=True, images=self._guide(rows))
            cameras = self._model.decode_ray_cameras(maps, features.size)
            if not everything:
                maps = DenseMaps(maps.depth[:, wanted], maps.depth_conf[:, wanted])
        else:
            features, reference = self._relate(rows, None if everything else wanted, rig)
            maps, cameras = self._programs.beside(
                lambda: self._maps(features, self._guide(rows, wanted)), lambda: self._model.decode_cameras(features)
            )
        _, means = self._summaries.read(rows)
        output = replace(_any_view_output(maps, cameras, reference), features=means)
        if self._conditioned and self._config.scale_from_cameras:
            assert output.T_cam_world is not None
            T_cam_world, metres, stddev = align_to_known(rig[0][0], output.T_cam_world)
            output = replace(output, T_cam_world=T_cam_world, metres_per_unit=metres, metres_stddev=stddev)
        return output

    def _relate(
        self, rows: torch.Tensor, wanted: torch.Tensor | None, rig: tuple[torch.Tensor, ...]
    ) -> tuple[Features, torch.Tensor]:
        """Features of the views in ``rows``, levels of the ``wanted`` or all, and the reference view's index (1,)."""
        summary, _ = self._summaries.read(rows)
        if self._conditioned:
            T_cam_base, K = rig
            reference = torch.zeros(1, dtype=torch.int64, device=rows.device)  # the origin of conditioned views
            camera_tokens = self._model.encode_cameras(normalise_cameras(T_cam_base), K, self._entries.size)
        else:
            reference = select_reference(summary[None], self._config.ref_view)
            camera_tokens = self._model.role_tokens(reference, len(rows))
        entry = self._entries.read(rows, reference, camera_tokens)
        return self._model.backbone.mix(entry, wanted), reference

    def _guide(self, rows: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor | None:
        """Images (1, n, 3, H, W) of the views in ``rows``, int64, or of those ``wanted``, if the head wants any."""
        if not self._model.head.guided:
            return None
        return self._guides.read(rows if wanted is None else rows[wanted])[0][None]

    def _maps(self, features: Features, guide: torch.Tensor | None) -> DenseMaps:
        if features.levels[0].shape[1]:
            return self._model.decode_dense(features, images=guide)
        nothing = torch.empty((1, 0, *features.size), device=features.camera.device)
        return DenseMaps(nothing, nothing)


class NestedWindow(AnyViewWindow):
    """The same with the metric network beside it, which runs on new views only: its depth and sky are kept.

    The scale is that of all views together, so with it the dense head of the any-view network runs for all of them.
    """

    def __init__(self, model: NestedDepthAnything3, config: WindowConfig, rig: Rig, programs: Programs):
        super().__init__(model.da3, config, rig, programs)
        self._nested = model
        self._metric = ViewCache(config.views)

    def _inputs(self, slots: Sequence[Slot]) -> tuple[torch.Tensor, ...]:
        """Also the focal lengths (N,) of calibrated views and the contents' rectangles (N, 4)."""
        views = [slot.view.view for slot in slots]
        contents = self._pin(edge for view in views for edge in view.content).view(-1, 4)
        return (_focal(views, self._model.device), contents, *super()._inputs(slots))

    def _stand_ins(self) -> tuple[torch.Tensor, ...]:
        return (torch.ones(self.views), torch.zeros((self.views, 4), dtype=torch.int64), *super()._stand_ins())

    def _write(self, rows: torch.Tensor, images: torch.Tensor) -> None:
        super()._write(rows, images)
        maps = self._nested.da3_metric.maps(images[None])
        self._metric.write(rows, maps.depth[0], sky_mask(maps.sky[0]))

    def _predict(self, rows: torch.Tensor, wanted: torch.Tensor, *inputs: torch.Tensor) -> NetworkOutput:
        focal, contents, *rig = inputs
        canonical_depth, is_sky = self._metric.read(rows)
        if not self._config.metric_scale:
            return replace(super()._predict(rows, wanted, *rig), sky=is_sky[wanted])
        everything = torch.arange(len(rows), device=rows.device)
        output = super()._predict(rows, everything, *rig)
        assert output.depth_conf is not None and output.K is not None
        valid = _content_mask(contents, (is_sky.shape[-2], is_sky.shape[-1]))
        scale = self._nested.scale(
            output.depth[None],
            output.depth_conf[None],
            output.K[None],
            canonical_depth[None],
            is_sky[None],
            focal[None],
            valid[None],
        )
        return replace(
            output,
            depth=output.depth[wanted],
            depth_conf=output.depth_conf[wanted],
            sky=is_sky[wanted],
            metres_per_unit=scale.metres[0],
            metres_stddev=scale.stddev[0],
        )


class SingleViewWindow:
    """A network that sees each view alone: nothing is kept, and the window is the newest set."""

    sets = 1

    def __init__(self, model: SingleViewDepth, config: WindowConfig, programs: Programs):
        self.views = config.cameras
        self._model = model
        self._programs = programs
        self._images: torch.Tensor | None = None  # of the newest set

    def write(self, slots: Sequence[Slot], images: torch.Tensor) -> None:
        """Take in the images (n, 3, H, W) of the views in ``slots``."""
        self._images = images

    def predict(self, slots: Sequence[Slot], wanted: Sequence[int]) -> NetworkOutput:
        """Depth of the views at ``wanted``, all or none of the set; of the metric network in metres."""
        assert self._images is not None and len(wanted) in (0, len(slots))
        if not wanted:
            depth = self._images.new_empty((0, *self._images.shape[-2:]), dtype=torch.float32)
            return self._output(depth, depth > 0, depth.new_empty(0))
        focal = _focal([slot.view.view for slot in slots], self._model.device)
        return self._programs.run("predict", self._predict, self._images, focal)

    def warm_up(self, images: torch.Tensor) -> None:
        """Compile and capture the step of a complete set, such as images (n, 3, H, W)."""
        self._programs.warm_up("predict", self._predict, images, torch.ones(len(images)))

    def _predict(self, images: torch.Tensor, focal: torch.Tensor) -> NetworkOutput:
        maps = self._model.maps(images[None])
        return self._output(maps.depth[0], sky_mask(maps.sky[0]), focal)

    def _output(self, depth: torch.Tensor, is_sky: torch.Tensor, focal: torch.Tensor) -> NetworkOutput:
        canonical_focal = self._model.variant.canonical_focal
        if canonical_focal is None:
            return NetworkOutput(depth, sky=is_sky)
        one = torch.ones((), device=depth.device)
        return NetworkOutput(
            in_metres(depth, focal, canonical_focal), sky=is_sky, metres_per_unit=one, metres_stddev=one * torch.nan
        )


WindowNetwork = AnyViewWindow | NestedWindow | SingleViewWindow


def make_window_network(model: Network, config: WindowConfig, rig: Rig) -> WindowNetwork:
    """An empty window for ``model``; ``rig`` is consulted at each step if it is to condition the network."""
    execution = choose_execution(config.execution, model.device)
    programs = Programs(model.device, execution, config.max_graphs, config.repeatable)
    if isinstance(model, NestedDepthAnything3):
        return NestedWindow(model, config, rig, programs)
    if isinstance(model, SingleViewDepth):
        return SingleViewWindow(model, config, programs)
    return AnyViewWindow(model, config, rig, programs)


def _any_view_output(
    maps: DenseMaps, cameras: tuple[torch.Tensor, torch.Tensor], reference: torch.Tensor
) -> NetworkOutput:
    extrinsics, K = cameras
    T_cam_world = torch.zeros((extrinsics.shape[1], 4, 4), device=extrinsics.device)
    T_cam_world[:, :3] = extrinsics[0]
    T_cam_world[:, 3, 3] = 1.0
    return NetworkOutput(maps.depth[0], maps.depth_conf[0], T_cam_world, K[0], reference[0])


def _focal(views: Sequence[View], device: torch.device) -> torch.Tensor:
    """Calibrated focal lengths (N,) float32, the mean of fx and fy in canvas pixels; NaN for uncalibrated cameras.

    On the host; see pinned.
    """
    focal = [(view.K[0, 0] + view.K[1, 1]) / 2 for view in views]
    return pinned(np.array(focal, dtype=np.float32), device)


def _content_mask(contents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which pixels (N, H, W) lie within contents (N, 4): top, left, height, width."""
    top, left, height, width = contents[..., None].unbind(1)  # (N, 1) each
    y, x = (torch.arange(extent, device=contents.device) for extent in size)
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    return rows[:, :, None] & columns[:, None, :]
