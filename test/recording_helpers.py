"""A short recording with truth, and a pipeline that knows it, for the tests of ``da3-ros evaluate``."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from demo_helpers import make_camera

from da3_ros.cli.demo_sequence import Sequence, SequenceImage, SequenceStep
from da3_ros.datatypes import CameraOutput, Estimate, ScaleEstimate, ViewEstimate
from da3_ros.egress.bag import new_recording
from da3_ros.evaluation import segments
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.bag import Bag

START_NS = 1_700_000_000_123_456_789
STEPS = 8
WIDTH, HEIGHT = 64, 48


def pose(step: int) -> np.ndarray:
    """Of base_link: a bent way with turns."""
    turn = matrix_from_quat_xyzw(np.array([0.0, 0.02 * step, 0.05 * step, 1.0]))
    return T_from(turn, np.array([0.5 * step, 0.05 * step**2, 0.1 * np.sin(step)]))


def depth(step: int) -> np.ndarray:
    """A slanted wall, with a hole."""
    values = np.linspace(2.0, 4.0, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0) + 0.1 * step
    values[:4, :4] = np.nan
    return values


def stamp(step: int) -> int:
    return START_NS + step * 100_000_000


def true_sequence() -> Sequence:
    """One undistorted camera, a picture, its depth and a pose at each of STEPS moments."""
    camera = make_camera("front")
    # Without distortion, so that the true depth is also that of a pinhole camera.
    camera = type(camera)(camera.name, camera.frame_id, type(camera.calibration)(WIDTH, HEIGHT, camera.calibration.K),
                          camera.T_base_cam)  # fmt: skip

    def read():
        for step in range(STEPS):
            pixels = np.random.default_rng(step).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            yield SequenceStep(stamp(step), (SequenceImage("front", stamp(step), pixels, depth(step)),), pose(step))

    return Sequence("test", (camera,), STEPS, "base_link", read)


def truth_changed(bag, path, change):
    """The recording with other true poses: ``change`` gets the number and the message of each; False leaves it out."""
    recording = Bag([bag])
    with new_recording(path) as out:
        number = 0
        for raw in recording.raw():
            kind = recording.topics[raw.topic].type
            if raw.topic == "/ground_truth/odometry":
                message = recording.deserialize(raw)
                if change(number, message) is not False:
                    out.write(raw.topic, raw.receive_ns, message)
                number += 1
            else:
                out.write_raw(raw.topic, kind, raw.receive_ns, raw.data, recording.ros2_types())
    return path


def other_clock(number, message):
    """Poses whose stamps fit no picture."""
    message.header.stamp.sec += 1000


class TruthfulPipeline:
    """A pipeline that knows the truth: windows of three views, depth with more confidence where it is near."""

    description = {"variant": "truth"}

    def __init__(self, camera):
        self._camera, self._views = camera, []

    def submit(self, frame_set, request):
        (frame,) = frame_set.frames
        step = round((frame.stamp_ns - START_NS) / 1e8)
        K, T = self._camera.calibration.K, pose(step)
        old = [replace(view, newest=False) for view in self._views[-2:]]
        view = ViewEstimate("front", frame.stamp_ns, frame.frame_id, True, False, T @ self._camera.T_base_cam,
                            (HEIGHT, WIDTH), K, K, 1.0)  # fmt: skip
        self._views = [*old, view]
        output = CameraOutput("front", frame.stamp_ns, frame.frame_id, K, (HEIGHT, WIDTH), depth(step), depth(step) + 1)
        estimate = Estimate(frame.stamp_ns, step, tuple(self._views), (output,), T, ScaleEstimate(),
                            timings_ms={"network": 10.0 + step})  # fmt: skip
        return SimpleNamespace(result=lambda: estimate)

    def set_rig(self, rig):
        np.testing.assert_allclose(rig["front"], self._camera.T_base_cam, atol=1e-9)

    def reset(self):
        raise AssertionError("time goes forward")


class HalfTruthfulPipeline(TruthfulPipeline):
    """One that gets the depth of the left half wrong by 20 %, and of all of the fifth picture."""

    description = {"variant": "half & <truth>", "weights_trained": True}

    def submit(self, frame_set, request):
        estimate = super().submit(frame_set, request).result()
        depth = estimate.outputs[0].depth
        depth[:, : WIDTH // 4] *= 1.2
        if estimate.step == 4:
            depth[:, WIDTH // 2 :] *= 3
        return type("Done", (), {"result": lambda self: estimate})()


def knows_the_truth(monkeypatch, sequence, pipeline=TruthfulPipeline):
    """Evaluations use ``pipeline``, for one recording after the other; a list of those that were made."""
    made = []

    class Reused(pipeline):
        """Counts, and may be used for one recording after the other."""

        def __init__(self, config, repeatable):
            super().__init__(sequence.cameras[0])
            made.append(self)

        def reset(self):
            self._views = []

        def set_rig(self, rig):
            self._rig = dict(rig)

    monkeypatch.setattr(segments, "Pipeline", Reused)
    return made
