"""What a demo sequence is, whatever it was made of, and the procedural one: a rig driving through a rendered room."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import ConfigError

# Any date will do; zero would look like a missing stamp.
FIRST_STAMP_NS = 1_700_000_000_000_000_000
_PICTURES_AT_ONCE = 64  # on a GPU


@dataclass(frozen=True)
class SequenceCamera:
    """One camera. ``calibration`` None: not calibrated; ``T_base_cam`` (4, 4) None: its place is not known."""

    name: str
    frame_id: str
    calibration: CameraCalibration | None
    T_base_cam: np.ndarray | None


@dataclass(frozen=True)
class SequenceImage:
    """One picture: ``rgb`` (H, W, 3) uint8; ``depth`` (H, W) float32 ground truth z-depth in metres, NaN where none.

    ``file``: the JPEG or PNG that it came from, if it did.
    """

    camera: str
    stamp_ns: int
    rgb: np.ndarray
    depth: np.ndarray | None = None
    file: Path | None = None


@dataclass(frozen=True)
class SequenceStep:
    """Pictures of one moment, and the true pose (4, 4) of ``Sequence.tracked_frame`` in a fixed world, if known.

    ``stamp_ns`` is the newest stamp among the pictures.
    """

    stamp_ns: int
    images: tuple[SequenceImage, ...]
    T_world_tracked: np.ndarray | None = None


@dataclass(frozen=True)
class Sequence:
    """A recording to be. ``read`` makes the steps one by one; ``notes`` are sentences that the user must be told.

    ``spread_s``: the largest difference of stamps within a step.
    """

    title: str
    cameras: tuple[SequenceCamera, ...]
    steps: int
    tracked_frame: str  # base_link, or the frame of the only camera
    read: Callable[[], Iterator[SequenceStep]]
    notes: tuple[str, ...] = ()
    spread_s: float = 0.0


def frame_id(camera: str) -> str:
    """Optical frame of a camera, by the usual naming."""
    return f"{camera}_optical_frame"


def procedural_sequence(
    cameras: int,
    steps: int,
    *,
    seed: int,
    motion: str,
    width: int = 320,
    height: int = 240,
    rate_hz: float = 10.0,
    device: str = "cpu",
) -> Sequence:
    """A rig of ``cameras`` that moves through a furnished room for ``steps`` moments at ``rate_hz``.

    The room, its light and all pictures are rendered on ``device`` when the sequence is read. Raises ConfigError for
    counts below one.
    """
    if cameras < 1 or steps < 1:
        raise ConfigError(f"a sequence needs at least one camera and one step, not {cameras} and {steps}")
    from da3_ros.training import scenes  # torch: seconds to import

    rig = scenes.make_rig(cameras, width, height)

    def read() -> Iterator[SequenceStep]:
        import torch
        from tqdm import tqdm

        generator = torch.Generator().manual_seed(seed)
        on_cpu = torch.device(device).type == "cpu"
        workers, at_once = (os.cpu_count() or 1, 1) if on_cpu else (1, max(1, _PICTURES_AT_ONCE // cameras))
        # The operations are small: threads within them would mostly wait for each other, threads of steps do not.
        torch.set_num_threads(1)
        with (
            tqdm(total=steps * cameras, desc="render", unit="image", disable=not sys.stderr.isatty()) as bar,
            ThreadPoolExecutor(workers) as pool,
        ):
            # Drawn on the CPU, so that all devices show the same room on the same way.
            rooms = scenes.make_rooms(1, generator)
            lightmap = scenes.Lightmap(scenes.bake(rooms, generator).texels.to(device))
            way = scenes.trajectory(motion, rooms, steps, rate_hz, generator)[0]  # (steps, 4, 4)
            rooms = rooms.to(device)

            def render(numbers: range) -> list[SequenceStep]:
                poses = torch.stack([way[step] @ camera.T_base_cam for step in numbers for camera in rig]).float()
                K = torch.stack([camera.K for _ in numbers for camera in rig]).float()
                room = torch.zeros(len(poses), dtype=torch.int64, device=device)
                seen = scenes.Cameras(room, K.to(device), poses.to(device), width, height)
                pictures = scenes.render(rooms, lightmap, seen)
                images, depths = pictures.image.cpu().split(cameras), pictures.depth.cpu().split(cameras)
                return [moment(*one) for one in zip(numbers, images, depths, strict=True)]

            def moment(step: int, images: torch.Tensor, depths: torch.Tensor) -> SequenceStep:
                stamp_ns = FIRST_STAMP_NS + round(step * 1e9 / rate_hz)
                pictures = tuple(
                    SequenceImage(camera.name, stamp_ns, rgb.numpy(), depth.numpy())
                    for camera, rgb, depth in zip(rig, images, depths, strict=True)
                )
                return SequenceStep(stamp_ns, pictures, way[step].numpy())

            parts = [range(first, min(first + at_once, steps)) for first in range(0, steps, at_once)]
            for first in range(0, len(parts), workers):
                for rendered in pool.map(render, parts[first : first + workers]):
                    bar.update(cameras * len(rendered))
                    yield from rendered

    described = tuple(
        SequenceCamera(
            camera.name,
            frame_id(camera.name),
            CameraCalibration(width, height, camera.K.numpy()),
            camera.T_base_cam.numpy(),
        )
        for camera in rig
    )
    return Sequence(f"procedural room, {motion}", described, steps, "base_link", read)
