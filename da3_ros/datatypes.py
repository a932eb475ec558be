"""The nouns of the package: what flows from image message to published estimate.

Shape letters, used in comments and docstrings everywhere:
B batch, S synchronized sets in the window, C cameras, N views (N <= S x C), M decoded views, H W pixels,
h w patches, P = h x w patches, D channels.

Time is ``stamp_ns: int`` (nanoseconds). ``T_a_b`` is a 4x4 matrix that maps points in frame b to frame a;
camera frames are OpenCV optical frames (x right, y down, z forward; REP 103).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch


@dataclass(frozen=True)
class CameraCalibration:
    """Calibration that belongs to the pixels of one image (binning and region of interest already applied).

    ``K``: (3, 3) float64 in pixels, (0, 0) being the centre of the first pixel, as OpenCV and
    sensor_msgs/CameraInfo have it. ``D``: distortion coefficients of
    ``distortion_model`` (``none``, ``plumb_bob``, ``rational_polynomial``, ``equidistant``).
    """

    width: int
    height: int
    K: np.ndarray
    D: tuple[float, ...] = ()
    distortion_model: str = "none"

    @property
    def distorted(self) -> bool:
        """Whether the image needs rectification."""
        return self.distortion_model != "none" and any(value != 0.0 for value in self.D)

    def key(self) -> tuple:
        """A hashable identity: two calibrations with equal keys give equal pixels and rays."""
        return (self.width, self.height, self.distortion_model, self.D, self.K.tobytes())


@dataclass(frozen=True)
class Frame:
    """One image of one camera, pixels as the driver sent them (conversion happens on the GPU).

    ``image`` is uint8, C-contiguous or a row-strided view: (H, W, 3) for rgb8 and bgr8, (H, W, 4) for rgba8 and
    bgra8, (H, W, 1) for mono8, (H, W, 2) for mono16 (little endian), yuv422 (UYVY) and yuv422_yuy2 (YUYV),
    (H * 3 / 2, W, 1) for nv12 and nv21. Where a GPU has decoded it, it is a tensor there, of any strides.
    ``T_odom_base``: (4, 4) float64, where the robot's own odometry has the base at ``stamp_ns``, in metres; None where
    nobody asked for it.
    """

    camera: str
    stamp_ns: int
    image: np.ndarray | torch.Tensor
    encoding: str = "rgb8"
    frame_id: str = ""
    calibration: CameraCalibration | None = None
    T_odom_base: np.ndarray | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        rows, width = self.image.shape[:2]
        return (rows * 2 // 3 if self.encoding in ("nv12", "nv21") else rows), width


@dataclass(frozen=True)
class FrameSet:
    """The frames that belong together: at most one of each camera, within ``sync.slop_s`` of each other.

    ``stamp_ns`` is the newest stamp among the frames. A camera that is missing has no frame. ``ranges``: (K, 3) points
    in metres that another sensor of the robot measured at about that time, in the base's frame, or in that of the
    cameras whose frame id is ``ranges_frame``.
    """

    stamp_ns: int
    frames: tuple[Frame, ...]
    ranges: np.ndarray | None = None
    ranges_frame: str = ""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that are present."""
        return tuple(frame.camera for frame in self.frames)


@dataclass(frozen=True)
class View:
    """What the network sees of one camera: a pinhole view with the principal point at the canvas centre.

    The canvas is (canvas_h, canvas_w); the camera's content is the centred rectangle ``content`` =
    (top, left, height, width) of it, and all else is padding. ``K``: (3, 3) float64 in canvas pixels with
    OpenCV pixel centres; its principal point is the canvas centre ((canvas_w - 1) / 2, (canvas_h - 1) / 2) to
    within half a pixel. NaN for a camera that is not calibrated. ``K_content`` is the same for the content
    rectangle alone: the intrinsics of the depth image that is published.
    """

    camera: str
    canvas_hw: tuple[int, int]
    content: tuple[int, int, int, int]
    K: np.ndarray
    calibrated: bool

    @property
    def K_content(self) -> np.ndarray:
        """(3, 3) intrinsics in pixels of the content rectangle."""
        K = self.K.copy()
        K[0, 2] -= self.content[1]
        K[1, 2] -= self.content[0]
        return K


@dataclass(frozen=True)
class WindowView:
    """One view in the window: which camera, when, and whether it belongs to the newest set.

    ``T_odom_cam``: (4, 4) float64, the camera's pose that the network is told, in metres; None where it is told none.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    newest: bool
    view: View
    T_odom_cam: np.ndarray | None = None


@dataclass(frozen=True)
class WindowPrediction:
    """What the network says of the window, in the window's own gauge (origin and scale are arbitrary).

    Tensors stay on the model's device. ``views`` has N entries, oldest set first; ``decoded`` holds the
    indices (into ``views``) of the M views whose dense maps were made. Networks that see each view alone give
    neither confidence, poses nor intrinsics, and their views are the newest set. ``metres_per_unit`` is what depth
    and translations are to be multiplied by: NaN where the source of scale has nothing to go by (nothing but sky, a
    rig whose baselines do not show), None where there is no such source.
    """

    views: tuple[WindowView, ...]
    decoded: tuple[int, ...]
    depth: torch.Tensor  # (M, H, W) float32, z-depth, > 0
    depth_conf: torch.Tensor | None  # (M, H, W) float32, >= 1
    T_cam_world: torch.Tensor | None  # (N, 4, 4) float32
    K: torch.Tensor | None  # (N, 3, 3) float32, predicted, canvas pixels, principal point (W / 2, H / 2)
    reference_index: torch.Tensor | None  # () int64
    colours: torch.Tensor  # (M, 3, H, W) uint8 RGB of the decoded views
    sky: torch.Tensor | None = None  # (M, H, W) bool; depth there has no meaning
    metres_per_unit: torch.Tensor | None = None  # () float32
    metres_stddev: torch.Tensor | None = None  # () float32, NaN where it is not known
    features: torch.Tensor | None = None  # (N, D) mean over the patches of each image alone, see tracking.places

    def of_newest(self) -> WindowPrediction:
        """The same with the dense maps of the newest set alone; itself where there are no others."""
        older = sum(not self.views[index].newest for index in self.decoded)
        if not older:
            return self
        return replace(
            self,
            decoded=self.decoded[older:],
            depth=self.depth[older:],
            depth_conf=None if self.depth_conf is None else self.depth_conf[older:],
            colours=self.colours[older:],
            sky=None if self.sky is None else self.sky[older:],
        )


@dataclass(frozen=True)
class OutputRequest:
    """Which outputs somebody listens to; what is not asked for is not computed. Sets hold camera names.

    ``window_depth``, ``window_confidence``: of every view of the window, with ``window.decode`` all; all else is of the
    newest set.
    """

    depth: frozenset[str] = frozenset()
    confidence: frozenset[str] = frozenset()
    points: frozenset[str] = frozenset()
    sky: frozenset[str] = frozenset()
    dynamic: frozenset[str] = frozenset()
    merged_points: bool = False
    map_points: bool = False
    window_depth: frozenset[str] = frozenset()
    window_confidence: frozenset[str] = frozenset()

    @property
    def of_window(self) -> bool:
        """Whether maps of older views are asked for."""
        return bool(self.window_depth or self.window_confidence)

    @property
    def dense(self) -> bool:
        """Whether anything is asked for that comes from a depth map."""
        of_newest = self.depth or self.confidence or self.points or self.sky or self.merged_points
        return bool(of_newest) or self.of_window

    @staticmethod
    def everything(cameras: tuple[str, ...]) -> OutputRequest:
        """All outputs of the newest set of all ``cameras``, and the map."""
        names = frozenset(cameras)
        return OutputRequest(
            depth=names, confidence=names, points=names, sky=names, dynamic=names, merged_points=True, map_points=True
        )


@dataclass(frozen=True)
class PointBuffer:
    """A point cloud in its final byte layout: float32 x, y, z and packed rgb, 16 bytes a point.

    ``data`` is (height, width, 16) uint8; height is 1 for unorganised clouds. Points are in ``frame_id``.
    """

    data: np.ndarray
    frame_id: str
    dense: bool  # no NaN among the points


@dataclass(frozen=True)
class CameraOutput:
    """Everything that is published for one view (arrays on the host); of the newest set, where nothing else is said.

    ``depth``: (H, W) float32 metres or network units, NaN invalid, +Inf beyond range (sky); or uint16 millimetres,
    0 invalid. ``sky``: (H, W) uint8, 255 where the network sees sky, of the size of depth. ``dynamic``: (H, W) uint8,
    255 where older views contradict what is there now, of the network's size. ``K``: (3, 3) intrinsics of exactly these
    images (``dynamic`` apart). What the network does not have is None.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    K: np.ndarray
    size_hw: tuple[int, int]
    depth: np.ndarray | None = None
    confidence: np.ndarray | None = None  # (H, W) float32, >= 1, NaN where depth is invalid
    points: PointBuffer | None = None
    sky: np.ndarray | None = None
    dynamic: np.ndarray | None = None


@dataclass(frozen=True)
class ViewEstimate:
    """Pose and intrinsics of one view of the window in the output frame.

    Without pose, predicted intrinsics and confidence (NaN) where the network sees each view alone; without pose
    too in a step whose metric scale is not known, unless the robot's odometry gave it.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    newest: bool
    reference: bool
    T_odom_cam: np.ndarray | None  # (4, 4)
    size_hw: tuple[int, int]
    K: np.ndarray  # (3, 3) in use, pixels of size_hw
    K_predicted: np.ndarray | None  # (3, 3) from the network
    median_confidence: float


@dataclass(frozen=True)
class ScaleEstimate:
    """Metres per network unit, with standard deviation and source (``none``: not metric, values NaN).

    Depth and poses have been multiplied by it. With another source, NaN says that this step has no scale: then there
    is no depth but that of sky, and there are no poses but those that the robot's odometry gave.
    """

    source: str = "none"
    metres_per_unit: float = float("nan")
    stddev: float = float("nan")


@dataclass(frozen=True)
class TrackingEstimate:
    """How the window was put into odom; see tracking.TrackedStep and TrackReport, from which it is made.

    ``covariance`` (6, 6) of T_odom_base (of the first camera's pose without a rig), None where it is not known.
    """

    status: str
    keyframe: bool
    covariance: np.ndarray | None
    anew: bool = False  # odom began anew: the rig has come late, or the first metres
    scale_sources: tuple[str, ...] = ()  # that were taken in at this step
    scale_jumped: tuple[str, ...] = ()  # whose other scale was taken over at this step
    scale_rejected: tuple[str, ...] = ()  # that contradict the scale
    steady: float = 1.0
    overlap: float = 1.0
    misfit_rad: Mapping[str, float] = field(default_factory=dict)  # camera -> turn against the body
    misfit_m: Mapping[str, float] = field(default_factory=dict)  # camera -> displacement against the body
    moved: Mapping[str, str] = field(default_factory=dict)  # camera -> what its place on the robot is off by


@dataclass(frozen=True)
class MapReport:
    """Counts and figures of keyframes, loops and map. ``windows`` of the network across two places were looked at;
    ``refused``: reason -> how many of them."""

    keyframes: int = 0
    keyframe_bytes: int = 0
    windows: int = 0
    loops: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    voxels: int = 0
    map_full: bool = False
    restarts: int = 0  # where odom began anew
    left_out: int = 0  # steps that came faster than keyframes and map were done with them
    correction_m: float = 0.0
    correction_rad: float = 0.0
    durations_ms: Mapping[str, float] = field(default_factory=dict)  # part -> longest in a step so far


@dataclass(frozen=True)
class MapEstimate:
    """Where loops have put odom: T_map_odom (4, 4). ``points``: the map, now and then, where it is asked for."""

    T_map_odom: np.ndarray
    report: MapReport
    points: PointBuffer | None = None


@dataclass(frozen=True)
class Estimate:
    """The result of one step, ready to become messages. Without ``tracking`` every window stands for itself."""

    stamp_ns: int
    step: int
    views: tuple[ViewEstimate, ...]
    outputs: tuple[CameraOutput, ...]
    T_odom_base: np.ndarray | None  # (4, 4); None when the rig's extrinsics are not known, or without poses
    scale: ScaleEstimate
    merged_points: PointBuffer | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)  # camera -> what is wrong with it
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # stage -> milliseconds
    tracking: TrackingEstimate | None = None
    mapping: MapEstimate | None = None
    # Depth and confidence of every view of the window, oldest set first, where they are asked for.
    window_outputs: tuple[CameraOutput, ...] = ()

    @property
    def has_poses(self) -> bool:
        """Whether the views have poses."""
        return all(view.T_odom_cam is not None for view in self.views)
