"""``python -m da3_ros.cli.bench_loops``: loops of a network's own drive, for docs/tracking.md.

Each furnished room is rendered and driven round 1.6 times with one camera. With ``--real`` folders of real pictures
with true poses, as of ``da3-ros demo --images``, are played to their end and back instead, so that each place is seen
twice. The network tracks the drive, without anything metric, and is asked about places that it knows again; the way
that comes of it is compared with the true one after the best similarity.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from da3_ros.cli.demo_pictures import read_pictures
from da3_ros.cli.demo_sequence import SequenceCamera, SequenceStep, procedural_sequence
from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.errors import Da3Error, InputError
from da3_ros.evaluation.trajectory import Trajectory, absolute_error
from da3_ros.geometry.se3 import invert, rotation_angle
from da3_ros.pipeline import Pipeline
from da3_ros.tracking.mapping import Mapper
from da3_ros.tracking.similarity import scale_of

_WRONG_SHIFT = 0.5  # of the median depth: a loop that is off by more is false, and
_WRONG_DEG = 20.0  # a loop that turns by more than the truth does is false
_ALL = 1_000_000  # moments of a folder, at most


def main(args: Sequence[str] | None = None) -> int:
    """Print a row for each drive."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_loops", description=__doc__)
    parser.add_argument("--rooms", type=int, nargs="+", default=[3, 6], help="seeds (default: 3 6)")
    parser.add_argument("--real", type=Path, nargs="+", metavar="FOLDER", help="of pictures, instead of rooms")
    parser.add_argument("--steps", type=int, default=115, help="in a room, at 3 Hz, 0.23 m each (default: 115)")
    parser.add_argument("--variant", default="da3-nano", help="as model.variant")
    parser.add_argument("--size", type=int, default=224, help="as model.process_res")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(args)
    print("| drive | keyframes | windows | loops | false | odom, ATE (m) | map, ATE (m) | refused |\n|" + "---|" * 8)
    try:
        for folder in options.real or ():
            name, drive = folder.resolve().name, there_and_back(folder)
            print("| " + " | ".join([f"{name}, there and back", *measure(*drive, options)]) + " |", flush=True)
        for seed in () if options.real else options.rooms:
            room = procedural_sequence(1, options.steps, seed=seed, motion="drive", rate_hz=3.0)
            row = measure(room.cameras[0], room.read(), options)
            print("| " + " | ".join([f"room {seed}", *row]) + " |", flush=True)
    except Da3Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def there_and_back(folder: Path) -> tuple[SequenceCamera, Iterator[SequenceStep]]:
    """The first camera of a folder of pictures, and its drive to the end and back, stamps going on.

    Raises InputError where the folder cannot be read, or has no true poses.
    """
    sequence = read_pictures(folder, _ALL)
    steps = list(sequence.read())
    if any(step.T_world_tracked is None for step in steps):
        raise InputError(f"{folder} has no true poses: there is nothing to compare with")
    last = 2 * steps[-1].stamp_ns
    back = [replace(step, stamp_ns=last - step.stamp_ns) for step in steps[-2::-1]]
    return sequence.cameras[0], iter(steps + back)


def measure(camera: SequenceCamera, steps: Iterator[SequenceStep], options: argparse.Namespace) -> list[str]:
    """The cells of one drive's row, after its name."""
    flat = {
        "cameras": (camera.name,), "model.variant": options.variant, "model.device": options.device,
        "model.process_res": options.size, "window.sets": 6, "loops.interval": 3, "loops.delay": 2,
    }  # fmt: skip
    pipeline = Pipeline(from_flat(flat, PipelineConfig))
    mapper = pipeline.mapper
    # A folder of one camera tracks the camera, whose place on the robot is not known.
    arm = np.eye(4) if camera.T_base_cam is None else camera.T_base_cam
    true: dict[int, np.ndarray] = {}
    for step in steps:
        image = next(image for image in step.images if image.camera == camera.name)
        frame = Frame(camera.name, step.stamp_ns, image.rgb, frame_id=camera.frame_id, calibration=camera.calibration)
        pipeline.step(FrameSet(step.stamp_ns, (frame,)), OutputRequest())
        assert step.T_world_tracked is not None
        true[step.stamp_ns] = step.T_world_tracked @ arm
    for _ in range(60):  # what is under way comes to its end
        mapper.step(None)
    row = _figures(mapper, true)
    pipeline.close()
    return row


def _figures(mapper: Mapper, true: dict[int, np.ndarray]) -> list[str]:
    keyframes = mapper.keyframes
    stamps, poses = mapper.keyframe_poses()
    truth = np.stack([true[int(stamp)] for stamp in stamps])
    odom = np.stack([keyframe.views[0].T_odom_cam for keyframe in keyframes])
    # The body of a robot whose camera has no known place is the camera, in the axes of REP 103.
    cameras = np.stack(
        [T @ invert(one.T_odom_body) @ one.views[0].T_odom_cam for T, one in zip(poses, keyframes, strict=True)]
    )
    of = {keyframe.number: T for keyframe, T in zip(keyframes, truth, strict=True)}
    false = 0
    for loop in mapper.loops:
        a, b = (next(k for k in keyframes if k.number == number) for number in (loop.a, loop.b))
        arms = [invert(one.T_odom_body) @ one.views[0].T_odom_cam for one in (a, b)]
        T_true = invert(of[loop.a]) @ of[loop.b]
        T_true[:3, 3] *= _extent(cameras) / _extent(truth)
        false += is_false(invert(arms[0]) @ loop.S_a_b @ arms[1], T_true, a.median_depth)
    errors = [
        absolute_error(Trajectory(stamps, poses), Trajectory(stamps, truth), "sim3").rmse for poses in (odom, cameras)
    ]
    report = mapper.report()
    refused = ", ".join(f"{count} {reason}" for reason, count in report.refused.items()) or "none"
    counts = [report.keyframes, report.windows, report.loops, false]
    return [*map(str, counts), *(f"{error:.3f}" for error in errors), refused]


def is_false(S_a_b: np.ndarray, T_a_b_true: np.ndarray, median_depth: float) -> bool:
    """Whether a loop (4, 4) between two cameras is wrong by more than a network's errors, lengths in one unit."""
    turn = rotation_angle(T_a_b_true[:3, :3].T @ S_a_b[:3, :3] / scale_of(S_a_b))
    shift = float(np.linalg.norm(S_a_b[:3, 3] - T_a_b_true[:3, 3]))
    return np.degrees(turn) > _WRONG_DEG or shift > _WRONG_SHIFT * median_depth


def _extent(poses: np.ndarray) -> float:
    """How far poses (K, 4, 4) are spread, RMS."""
    return float(np.sqrt(poses[:, :3, 3].var(0).sum()))


if __name__ == "__main__":
    sys.exit(main())
