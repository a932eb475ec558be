"""Pictures of which nothing is known: a folder without a description, or a video, as the sequence of one camera."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from da3_ros.cli.demo_sequence import FIRST_STAMP_NS, Sequence, SequenceCamera, SequenceImage, SequenceStep, frame_id
from da3_ros.errors import InputError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_CAMERA = "camera"


def plain_sequence(source: Path, rate_hz: float, steps: int) -> Sequence:
    """The pictures in the folder ``source`` by name, or the frames of the video ``source``; the first ``steps``.

    ``rate_hz`` is that of the pictures; a video has its own. Raises InputError where there is no picture.
    """
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in _SUFFIXES)[:steps]
        if not files:
            raise InputError(f"{source} has neither a description nor pictures ({', '.join(_SUFFIXES)})")
        pictures, count = (lambda: _of_files(files)), len(files)
        notes = [f"there are no stamps: a nominal rate of {rate_hz:g} Hz is used"]
    else:
        video = _open(source)
        rate_hz = video.get(cv2.CAP_PROP_FPS) or rate_hz
        count = min(steps, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        video.release()
        pictures, notes = (lambda: _of_video(source)), [f"the video's rate of {rate_hz:.4g} Hz gives the stamps"]

    def read() -> Iterator[SequenceStep]:
        for number, (rgb, file) in enumerate(islice(pictures(), steps)):
            stamp_ns = FIRST_STAMP_NS + round(number * 1e9 / rate_hz)
            yield SequenceStep(stamp_ns, (SequenceImage(_CAMERA, stamp_ns, rgb, None, file),))

    camera = SequenceCamera(_CAMERA, frame_id(_CAMERA), None, None)
    notes.append("there is no calibration: set camera.camera.camera_info_topic to 'none' for the node")
    return Sequence(source.resolve().name, (camera,), count, camera.frame_id, read, tuple(notes))


def _of_files(files: list[Path]) -> Iterator[tuple[np.ndarray, Path | None]]:
    for file in files:
        try:
            yield np.asarray(Image.open(file).convert("RGB")), file
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{file} cannot be read as a picture: {error}") from error


def _of_video(source: Path) -> Iterator[tuple[np.ndarray, Path | None]]:
    video = _open(source)
    try:
        while True:
            there, bgr = video.read()
            if not there:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), None
    finally:
        video.release()


def _open(source: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(source))
    if not source.is_file() or not video.isOpened():
        raise InputError(f"{source} is neither a folder of pictures nor a video that OpenCV can read")
    return video
