"""The sliding window on the device: each view's own activations are computed once and kept until it leaves.

Exact: a step gives what ``model()`` gives for the images of the window (see networks).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from da3_ros.datatypes import CameraCalibration, Frame, FrameSet, WindowPrediction, WindowView
from da3_ros.errors import FrameError, InputError
from da3_ros.geometry.image import ImagePreparer, ViewPlan, plan_views
from da3_ros.geometry.prepare import normalise_pictures
from da3_ros.geometry.se3 import invert
from da3_ros.model import DepthAnything3, NestedDepthAnything3
from da3_ros.model.key_reduction import reduce_keys
from da3_ros.model.layout import Network
from da3_ros.streaming.cache import ViewCache
from da3_ros.streaming.device import choose_execution, pinned_indices
from da3_ros.streaming.memory import require_window, say_when_out_of_memory
from da3_ros.streaming.networks import WindowNetwork, make_window_network
from da3_ros.streaming.odometry import Odometry
from da3_ros.streaming.rig import Rig
from da3_ros.streaming.stillness import Stillness
from da3_ros.streaming.timing import StageTimer
from da3_ros.streaming.window import SlidingWindow, Slot, WindowConfig

_log = logging.getLogger(__name__)

CameraInput = tuple[tuple[int, int], CameraCalibration | None]  # height and width of a camera's images, calibration


class StreamingDA3:
    """``step(frame_set)`` advances the window by one set and returns the prediction for all of its views.

    The views' common canvas follows from the cameras' sizes and calibrations as they are first seen; when one of
    them changes, or another camera appears, the canvas is planned anew and the window starts again. If it is another
    canvas, nothing is compiled for it once the window has been full: steps go on at once, on torch's own kernels.
    Networks that see each view alone predict the newest set, without poses.
    """

    def __init__(self, model: Network, config: WindowConfig, max_fov_deg: Mapping[str, float] | None = None):
        self._model: Network | None = model
        self.config = config
        self._max_fov_deg = dict(max_fov_deg or {})
        self._known: dict[str, tuple] = {}  # camera -> what its plan was made from
        self._plans: dict[str, ViewPlan] = {}
        self._preparer: ImagePreparer | None = None
        self._network: WindowNetwork | None = None
        self._execution = choose_execution(config.execution, model.device)
        # Of relate, below the steps (STEP_PRIORITY); one for good, since the allocator keeps what a stream has used for
        # that stream alone.
        self._beside = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        self._rig = Odometry() if config.pose_conditioning == "odometry" else Rig()
        self._colours = ViewCache(config.views)  # of all views, where all are decoded
        self._window = SlidingWindow(config.sets, config.cameras)
        self._pushes = 0
        self._under_way = False  # whether the window has been full since the last warm-up that was asked for
        self._stillness = Stillness(config.skip_below) if config.skip_below > 0 else None
        self.skipped = 0  # sets that ``skip_below`` kept from the network

    def plan(self, camera: str) -> ViewPlan:
        """How images of ``camera`` become its view."""
        return self._plans[camera]

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the network's images; known after the first step."""
        return next(iter(self._plans.values())).view.canvas_hw

    @property
    def warms_up(self) -> bool:
        """Whether steps are compiled or captured, so that ``warm_up`` spares the first step that."""
        return self._execution != "eager"

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What the window holds, oldest set first."""
        return self._window.slots()

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics, for ``pose_conditioning``: camera name -> (4, 4) T_base_cam in metres."""
        self._rig.update(T_base_cam)

    def reset(self) -> None:
        """Empty the window; plans and buffers stay."""
        sets = self.config.sets if self._network is None else self._network.sets
        self._window = SlidingWindow(sets, self.config.cameras)
        self._pushes = 0
        if self._stillness is not None:
            self._stillness.reset()

    def close(self) -> None:
        """Give the network and all buffers back to the device."""
        self._model = self._preparer = self._network = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def step(
        self,
        frame_set: FrameSet,
        timer: StageTimer | None = None,
        *,
        dense: bool = True,
        older: bool = True,
        evict: Collection[Slot] | None = None,
        entered: Callable[[FrameSet], None] = lambda frame_set: None,
    ) -> WindowPrediction | None:
        """Push ``frame_set`` and predict; None for sets between two network steps (``stride``), and for those that
        ``skip_below`` leaves out: they do not enter the window.

        Without ``dense`` no view is decoded: poses and intrinsics alone, as when nobody listens to depth. Without
        ``older`` those of the newest set alone, even where ``decode`` is all. ``evict``: the views,
        among ``slots``, that leave for the new ones; None: the oldest set of a full window. ``entered`` is
        told of the set once it is in the window.
        The prediction's tensors may be buffers that the next step overwrites: whoever needs them longer copies them
        on this stream first. Raises InputError for frames that do not fit the window, FrameError for images that
        cannot be used; the window is then as it was before.
        """
        if self._model is None:
            raise InputError("this StreamingDA3 is closed: make a new one")
        timer = timer or StageTimer(self._model.device)
        window = self._window
        images, colours = self._prepare(frame_set, reuse=True)
        timer.mark("prepare")
        if self._window is not window:  # planned anew, so what was to leave has left
            evict = None
        if self._stillness is not None and not self._stillness.moved(frame_set, colours):
            self.skipped += 1
            return None
        assert self._network is not None
        slots = self._window.push([self._view(frame) for frame in frame_set.frames], evict)
        self._network.write(slots, images)
        if self.config.decode == "all":
            self._colours.write(_rows(slots, images.device), colours)
        entered(frame_set)
        self._under_way |= len(self._window) == self._network.sets
        self._pushes += 1
        if self._pushes % self.config.stride:
            return None
        prediction = self._predict(slots, colours, dense, older)
        timer.mark("network")
        return prediction

    @torch.inference_mode()
    def prepare(self, frame_set: FrameSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Network images (n, 3, H, W), normalised, and colours (n, 3, H, W) uint8 of a set, on the device."""
        return self._prepare(frame_set)

    def _prepare(self, frame_set: FrameSet, reuse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        self._check(frame_set)
        self._plan(frame_set.frames)
        assert self._preparer is not None
        return self._preparer.prepare(frame_set.frames, reuse)

    @torch.inference_mode()
    def relate(
        self, pictures: Sequence[np.ndarray], contents: Sequence[tuple[int, int, int, int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Poses T_world_cam (N, 4, 4) float64 and depth (N, H, W) float32 of N pictures as one window, apart from ours.

        ``pictures`` (H, W, 3) uint8 RGB of the network's size, with ``contents`` (top, left, height, width) that are
        no padding. May be called from one other thread beside ``step``; waits for the device, on a stream of its own.
        """
        model = self._model
        if model is None:
            raise InputError("this StreamingDA3 is closed: make a new one")
        network = model.da3 if isinstance(model, NestedDepthAnything3) else model
        assert isinstance(network, DepthAnything3)
        with torch.cuda.stream(self._beside):
            images = normalise_pictures(torch.from_numpy(np.stack(pictures)).to(network.device), contents)
            prediction = network(images[None], use_ray_pose=self.config.use_ray_pose, ref_view=self.config.ref_view)
            T = torch.eye(4, dtype=torch.float64).repeat(len(pictures), 1, 1)
            T[:, :3] = prediction.extrinsics[0].double().cpu()
            return invert(T.numpy()), prediction.depth[0].float().cpu().numpy()

    def _predict(
        self, newest: tuple[Slot, ...], colours: torch.Tensor, dense: bool, older: bool
    ) -> WindowPrediction:
        """Run the network for the whole window; the newest set is decoded if ``dense``, others if ``older`` too."""
        assert self._network is not None
        slots = self._window.slots()
        first_new = len(slots) - len(newest)
        decoded = self.config.decoded(len(slots), len(newest), older) if dense else ()
        output = self._network.predict(slots, decoded)
        if len(decoded) > len(newest):
            (colours,) = self._colours.read(_rows(slots, colours.device))
        old = [slot.view for slot in slots[:first_new]]
        return WindowPrediction(
            views=tuple([replace(view, newest=False) for view in old] + [slot.view for slot in newest]),
            decoded=decoded,
            depth=output.depth,
            depth_conf=output.depth_conf,
            T_cam_world=output.T_cam_world,
            K=output.K,
            reference_index=output.reference_index,
            colours=colours[: len(decoded)],
            sky=output.sky,
            metres_per_unit=output.metres_per_unit,
            metres_stddev=output.metres_stddev,
            features=output.features,
        )

    def _check(self, frame_set: FrameSet) -> None:
        cameras = frame_set.cameras
        if len(set(cameras)) != len(cameras):
            raise InputError(f"the frame set at {frame_set.stamp_ns} ns has a camera twice: {', '.join(cameras)}")
        if not 1 <= len(cameras) <= self.config.cameras:
            raise InputError(
                f"a frame set has {len(cameras)} frames, but the window was made for 1 to {self.config.cameras}"
            )
        if self.config.pose_conditioning != "none":
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
        inputs: dict[str, CameraInput] = {
            camera: (plan.input_hw, plan.calibration) for camera, plan in self._plans.items()
        }
        inputs |= {frame.camera: (frame.size_hw, frame.calibration) for frame in frames}
        if self._plans:
            _log.info("the images of %s are new or have changed: the window starts again", ", ".join(changed))
        self._prepare_for(inputs)
        self._known |= seen

    @torch.inference_mode()
    def warm_up(self, inputs: Mapping[str, CameraInput]) -> None:
        """Plan the canvas for cameras, and compile and capture the steps of a full window for it.

        ``inputs``: camera -> height and width of its images, and their calibration or None. Takes seconds, or, where
        nothing was compiled for this network on this machine before, tens of seconds; otherwise the first step that
        sees new cameras takes them. The window is empty afterwards.
        """
        self._under_way = False
        self._prepare_for(inputs)
        self._known = {
            camera: (tuple(size_hw), None if calibration is None else calibration.key())
            for camera, (size_hw, calibration) in inputs.items()
        }

    def _prepare_for(self, inputs: Mapping[str, CameraInput]) -> None:
        """Make everything that follows from the cameras; what the canvas alone decides stays if that does."""
        model = self._model
        if model is None:
            raise InputError("this StreamingDA3 is closed: make a new one")
        method = self.config.process_res_method
        plans = plan_views(dict(inputs), self.config.process_res, self._max_fov_deg, method)
        before = self.canvas_hw if self._network is not None else None
        self._plans = plans
        self._preparer = ImagePreparer(plans, model.device)
        if self.canvas_hw != before:
            self._network = None  # its buffers go first
            sizes = [height * width for (height, width), _ in inputs.values()]
            window = model, self.config, self.canvas_hw, sum(sizes)
            require_window(*window)
            with say_when_out_of_memory(*window):
                self._network = self._make_window(model)
        self.reset()

    def _make_window(self, model: Network) -> WindowNetwork:
        """An empty window for the canvas as it is planned; its steps are compiled and captured where that is wanted."""
        execution = self._execution if not self._under_way else _without_compiling(self._execution)
        network = make_window_network(model, replace(self.config, execution=execution), self._rig)
        self._colours = ViewCache(self.config.views)
        model.prepare(*self.canvas_hw)
        reduce_keys(model, *self.canvas_hw, self.config.key_reduction)
        if execution != self._execution:
            height, width = self.canvas_hw
            _log.warning(
                "the network's images are %dx%d now: steps run on kernels that are not compiled for them, and "
                "take longer, until the node is configured again", width, height,
            )  # fmt: skip
        elif execution != "eager" and not self._under_way:
            self._warm_up(network, model.device)
        return network

    def _warm_up(self, network: WindowNetwork, device: torch.device) -> None:
        """Compile and capture the steps with a full window and a complete set, for the canvas as it is planned."""
        started = time.monotonic()
        height, width = self.canvas_hw
        _log.info("preparing steps with %d views of %dx%d, which may take minutes", network.views, width, height)
        network.warm_up(torch.rand((self.config.cameras, 3, *self.canvas_hw), device=device))
        seconds = time.monotonic() - started
        _log.info("steps with %d views of %dx%d are ready after %.1f s", network.views, width, height, seconds)

    def _view(self, frame: Frame) -> WindowView:
        view = self._plans[frame.camera].view
        T_odom_cam = self._rig.T_odom_cam(frame)
        return WindowView(frame.camera, frame.stamp_ns, frame.frame_id, True, view, T_odom_cam)


def _without_compiling(execution: str) -> str:
    return "graphs" if execution == "compiled" else execution


def _rows(slots: Sequence[Slot], device: torch.device) -> torch.Tensor:
    return pinned_indices(tuple(slot.index for slot in slots), device).to(device, non_blocking=True)
