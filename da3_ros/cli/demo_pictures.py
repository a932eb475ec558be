"""Real pictures as a demo sequence: a folder with ``calibration.yaml`` (FORMAT below), or with ``meta.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError

from da3_ros.cli.demo_bag import BASE_FRAME
from da3_ros.cli.demo_folder import NOMINAL_RATE_HZ, Picture, PictureFolder, parse_camera
from da3_ros.cli.demo_meta import parse_meta
from da3_ros.cli.demo_sequence import FIRST_STAMP_NS, Sequence, SequenceCamera, SequenceImage, SequenceStep
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.geometry.se3 import invert

FORMAT = """\
calibration.yaml in the folder DIR:

  rate_hz: 10.0                 # nominal; used where a camera has no stamps
  cameras:
    left:
      images: left/*.png        # sorted by name; the i-th pictures of all cameras belong together
      stamps: left/stamps.txt   # optional: seconds, one a line, one for each picture
      depth: truth/*.png        # optional ground truth: uint16, 0 = none, metres = value / depth_scale
      depth_scale: 1000.0
      width: 640                # size that K belongs to (optional: checked where given)
      height: 480
      K: [500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1]    # row by row; left out: not calibrated
      distortion_model: plumb_bob                       # none, plumb_bob, rational_polynomial, equidistant
      D: [0.1, -0.05, 0, 0, 0]
      T_base_cam: [[0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, 0.9], [0, 0, 0, 1]]    # optional: camera in base_link

A folder with a meta.json that lists cameras and frames with poses is read too.
"""
CALIBRATION_FILES = ("calibration.yaml", "calibration.yml", "calibration.json", "meta.json")
# Without --steps no more than this many moments: a demo should end.
DEFAULT_STEPS = 24


def read_pictures(folder: Path, steps: int | None) -> Sequence:
    """The sequence in ``folder``, its first ``steps`` moments (None: at most DEFAULT_STEPS).

    Raises InputError, naming file and camera, when something is missing or does not fit.
    """
    if not folder.is_dir():
        raise InputError(f"--images {folder} is no folder")
    found = next((folder / name for name in CALIBRATION_FILES if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{folder} has none of {', '.join(CALIBRATION_FILES)}: write one, see da3-ros demo --help")
    try:
        content = yaml.safe_load(found.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{found} is not valid YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), dict) or not content["cameras"]:
        raise InputError(f"{found} names no cameras: it needs a mapping 'cameras' from name to calibration")
    parse = parse_meta if found.name == "meta.json" else _parse_calibration
    return _to_sequence(parse(content, found), folder, steps)


def _parse_calibration(content: Mapping[str, Any], where: Path) -> PictureFolder:
    cameras, pictures = [], {}
    for name, values in content["cameras"].items():
        if not isinstance(values, dict) or not values.get("images"):
            raise InputError(f"{where}: camera '{name}' needs 'images', a pattern such as {name}/*.png")
        cameras.append(parse_camera(name, values, "T_base_cam", where))
        files = _glob(where.parent, values["images"], name, where)
        depths = _glob(where.parent, values["depth"], name, where) if values.get("depth") else [None] * len(files)
        stamps = _stamps(where.parent / values["stamps"]) if values.get("stamps") else [None] * len(files)
        for what, items in (("depth images", depths), ("stamps", stamps)):
            if len(items) != len(files):
                raise InputError(f"{where}: camera '{name}' has {len(files)} images but {len(items)} {what}")
        scale = float(values.get("depth_scale", 1000.0))
        pictures[name] = tuple(
            Picture(file, stamp, depth, scale) for file, stamp, depth in zip(files, stamps, depths, strict=True)
        )
    rate_hz = float(content.get("rate_hz") or NOMINAL_RATE_HZ)
    if rate_hz <= 0:
        raise InputError(f"{where}: rate_hz must be positive, not {rate_hz:g}")
    return PictureFolder(where.parent.resolve().name, tuple(cameras), pictures, rate_hz)


def _glob(folder: Path, pattern: str, name: str, where: Path) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(f"{where}: camera '{name}': no file matches {pattern}")
    return files


def _stamps(path: Path) -> list[Decimal]:
    try:
        return [Decimal(line) for line in path.read_text().split()]
    except (OSError, UnicodeDecodeError, InvalidOperation) as error:
        raise InputError(f"{path} cannot be read as stamps, seconds one a line: {type(error).__name__}") from error


def _to_sequence(folder: PictureFolder, where: Path, steps: int | None) -> Sequence:
    """Check that the pictures fit together, and describe them; they are read later, one moment at a time."""
    counts = {name: len(pictures) for name, pictures in folder.pictures.items()}
    available = min(counts.values())
    notes = list(folder.notes)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        notes.append(f"the cameras have different numbers of images ({listed}): the first {available} of each are used")
    used = min(available, steps if steps is not None else DEFAULT_STEPS)
    if used < 1:
        raise InputError(f"nothing to play in {where}: --steps must be at least 1 and every camera needs a picture")
    if used < available and steps is None:
        notes.append(f"the first {used} of {available} moments are used (--steps {available} for all)")
    if any(picture.time_s is None for pictures in folder.pictures.values() for picture in pictures[:used]):
        notes.append(f"there are no stamps: a nominal rate of {folder.rate_hz:g} Hz is used")
    cameras = tuple(_with_size(camera, folder.pictures[camera.name][0].file) for camera in folder.cameras)
    first = next((camera for camera in cameras if camera.T_base_cam is not None), cameras[0])
    tracked = BASE_FRAME if first.T_base_cam is not None else first.frame_id

    def read() -> Iterator[SequenceStep]:
        for step in range(used):
            stamps = _stamps_ns(folder, step)
            images = tuple(_read_picture(camera, folder.pictures[camera.name][step], stamps) for camera in cameras)
            T = folder.pictures[first.name][step].T_world_cam
            if T is not None and first.T_base_cam is not None:
                T = T @ invert(first.T_base_cam)
            yield SequenceStep(max(stamps.values()), images, T)

    times = [_stamps_ns(folder, step).values() for step in range(used)]
    spread_s = max(max(stamps) - min(stamps) for stamps in times) / 1e9
    return Sequence(folder.title, cameras, used, tracked, read, tuple(notes), spread_s)


def _stamps_ns(folder: PictureFolder, step: int) -> dict[str, int]:
    """Stamp of each camera's picture number ``step``; those without one follow the nominal rate."""
    nominal = FIRST_STAMP_NS + round(step * 1e9 / folder.rate_hz)
    times = {name: pictures[step].time_s for name, pictures in folder.pictures.items()}
    return {
        name: nominal if time is None else FIRST_STAMP_NS + int((time * 1_000_000_000).to_integral_value())
        for name, time in times.items()
    }


def _with_size(camera: SequenceCamera, file: Path) -> SequenceCamera:
    """The camera with the size of its pictures in its calibration, which must not contradict it."""
    calibration = camera.calibration
    if calibration is None:
        return camera
    width, height = _open(file).size
    if (calibration.width or width, calibration.height or height) != (width, height):
        raise InputError(
            f"camera '{camera.name}': {file} is {width}x{height}, but its calibration belongs to "
            f"{calibration.width}x{calibration.height}"
        )
    sized = CameraCalibration(width, height, calibration.K, calibration.D, calibration.distortion_model)
    return SequenceCamera(camera.name, camera.frame_id, sized, camera.T_base_cam)


def _read_picture(camera: SequenceCamera, picture: Picture, stamps: Mapping[str, int]) -> SequenceImage:
    rgb = np.asarray(_open(picture.file).convert("RGB"))
    depth = None
    if picture.depth_file is not None:
        stored = np.asarray(_open(picture.depth_file)).astype(np.float32)
        depth = np.where(stored > 0, stored / picture.depth_scale, np.nan).astype(np.float32)
        if depth.shape != rgb.shape[:2]:
            raise InputError(f"{picture.depth_file} has shape {depth.shape}, its picture {rgb.shape[:2]}")
    return SequenceImage(camera.name, stamps[camera.name], rgb, depth, picture.file)


def _open(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{file} cannot be read as a picture: {error}") from error
