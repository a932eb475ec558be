"""The sliding window on the device: each view's own activations are computed once and kept until it leaves.

Exact: a step gives what ``model()`` gives for the images of the window (see networks).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction, WindowView
from da3_ros.errors import FrameError, InputError
from da3_ros.geometry.image import ImagePreparer, ViewPlan, plan_views
from da3_ros.model.layout import Network
from da3_ros.streaming.networks import WindowNetwork, make_window_network
from da3_ros.streaming.rig import Rig
from da3_ros.streaming.timing import StageTimer
from da3_ros.streaming.window import SlidingWindow, Slot, WindowConfig

_log = logging.getLogger(__name__)


class StreamingDA3:
    """``step(frame_set)`` advances the window by one set and returns the prediction for all of its views.

    The views' common canvas follows from the cameras' sizes and calibrations as they are first seen; when one of
    them changes, or another camera appears, the canvas is planned anew and the window starts again. Networks that
    see each view alone predict the newest set, without poses.
    """

    def __init__(self, model: Network, config: WindowConfig, max_fov_deg: Mapping[str, float] | None = None):
        self._model: Network | None = model
        self.config = config
        self._max_fov_deg = dict(max_fov_deg or {})
        self._known: dict[str, tuple] = {}  # camera -> what its plan was made from
        self._plans: dict[str, ViewPlan] = {}
        self._preparer: ImagePreparer | None = None
        self._network: WindowNetwork | None = None
        self._rig = Rig()
        self._window = SlidingWindow(config.sets, config.cameras)
        self._pushes = 0

    def plan(self, camera: str) -> ViewPlan:
        """How images of ``camera`` become its view."""
        return self._plans[camera]

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the network's images; known after the first step."""
        return next(iter(self._plans.values())).view.canvas_hw

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics, for ``pose_conditioning`` rig: camera name -> (4, 4) T_base_cam in metres."""
        self._rig.update(T_base_cam)

    def reset(self) -> None:
        """Empty the window; plans and buffers stay."""
        sets = self.config.sets if self._network is None else self._network.sets
        self._window = SlidingWindow(sets, self.config.cameras)
        self._pushes = 0

    def close(self) -> None:
        """Give the network and all buffers back to the device."""
        self._model = self._preparer = self._network = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def step(
        self, frame_set: FrameSet, timer: StageTimer | None = None, *, dense: bool = True
    ) -> WindowPrediction | None:
        """Push ``frame_set`` and predict; None for sets between two network steps (``stride``).

        Without ``dense`` no view is decoded: poses and intrinsics alone, as when nobody listens to depth.
        Raises InputError for frames that do not fit the window, FrameError for images that cannot be used; the
        window is then as it was before.
        """
        if self._model is None:
            raise InputError("this StreamingDA3 is closed: make a new one")
        timer = timer or StageTimer(self._model.device)
        images, colours = self.prepare(frame_set)
        timer.mark("prepare")
        assert self._network is not None
        slots = self._window.push([self._view(frame) for frame in frame_set.frames])
        self._network.write(slots, images)
        self._pushes += 1
        if self._pushes % self.config.stride:
            return None
        prediction = self._predict(slots, colours, dense)
        timer.mark("network")
        return prediction

    def prepare(self, frame_set: FrameSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Network images (n, 3, H, W), normalised, and colours (n, 3, H, W) uint8 of a set, on the device."""
        self._check(frame_set)
        self._plan(frame_set.frames)
        assert self._preparer is not None
        return self._preparer.prepare(frame_set.frames)

    def _predict(self, newest: tuple[Slot, ...], colours: torch.Tensor, dense: bool) -> WindowPrediction:
        """Run the network for the whole window; the newest set is decoded if ``dense``."""
        assert self._network is not None
        slots = self._window.slots()
        first_new = len(slots) - len(newest)
        decoded = range(first_new, len(slots)) if dense else range(0)
        output = self._network.predict(slots, len(decoded))
        old = [slot.view for slot in slots[:first_new]]
        return WindowPrediction(
            views=tuple(
                [WindowView(view.camera, view.stamp_ns, view.frame_id, False, view.view) for view in old]
                + [slot.view for slot in newest]
            ),
            decoded=tuple(decoded),
            depth=output.depth,
            depth_conf=output.depth_conf,
            T_cam_world=output.T_cam_world,
            K=output.K,
            reference_index=output.reference_index,
            colours=colours[: len(decoded)],
            sky=output.sky,
            metres_per_unit=output.metres_per_unit,
            metres_stddev=output.metres_stddev,
        )

    def _check(self, frame_set: FrameSet) -> None:
        cameras = frame_set.cameras
        if len(set(cameras)) != len(cameras):
            raise InputError(f"the frame set at {frame_set.stamp_ns} ns has a camera twice: {', '.join(cameras)}")
        if not 1 <= len(cameras) <= self.config.cameras:
            raise InputError(
                f"a frame set has {len(cameras)} frames, but the window was made for 1 to {self.config.cameras}"
            )
        if self.config.pose_conditioning == "rig":
            for frame in frame_set.frames:
                self._rig.check(frame)
        variant = None if self._model is None else self._model.variant
        if variant is None or variant.any_view:
            return
        for frame in frame_set.frames:
            if frame.calibration is None:
                raise FrameError(
                    frame.camera,
                    "calibration",
                    f"{variant.name} predicts no intrinsics and the image has no calibration: publish its CameraInfo, "
                    "or choose another model.variant",
                )

    def _plan(self, frames: tuple[Frame, ...]) -> None:
        """Plan the canvas anew where ``frames`` have a camera, size or calibration not seen so far."""
        seen = {
            frame.camera: (frame.size_hw, None if frame.calibration is None else frame.calibration.key())
            for frame in frames
        }
        changed = [camera for camera, key in seen.items() if self._known.get(camera) != key]
        if not changed:
            return
        inputs = {camera: (plan.input_hw, plan.calibration) for camera, plan in self._plans.items()}
        inputs |= {frame.camera: (frame.size_hw, frame.calibration) for frame in frames}
        method = self.config.process_res_method
        plans = plan_views(inputs, self.config.process_res, self._max_fov_deg, method)
        model = self._model
        assert model is not None
        if self._plans:
            _log.info("the images of %s are new or have changed: the window starts again", ", ".join(changed))
        self._preparer = ImagePreparer(plans, model.device)
        self._network = make_window_network(model, self.config, self._rig)
        self._plans, self._known = plans, {**self._known, **seen}
        model.prepare(*self.canvas_hw)
        self.reset()

    def _view(self, frame: Frame) -> WindowView:
        view = self._plans[frame.camera].view
        return WindowView(frame.camera, frame.stamp_ns, frame.frame_id, True, view)
