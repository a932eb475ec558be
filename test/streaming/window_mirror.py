"""A stream that is run at random beside a record of what its window must hold."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from streaming_helpers import CAMERAS, make_set

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction

STEPS = 30
NAMES = (*CAMERAS, "rear", "front")


@dataclass(frozen=True)
class Step:
    """What a step gave, and the window that it must have been about."""

    prediction: WindowPrediction | None
    images: torch.Tensor  # (1, N, 3, H, W)
    frames: list[Frame]  # N, oldest first
    new: int  # the newest of them, which came with this step
    decoded: slice  # those with dense maps


@dataclass
class Mirror:
    """Steps of ``stream`` with sets from ``make_set(rng, number, cameras)``, of which cameras are missing at random."""

    stream: object
    rng: np.random.Generator
    anchors: bool = False  # old views are kept at random
    make_set: Callable[..., FrameSet] = make_set
    images: dict = field(default_factory=dict)  # (stamp, camera) -> (3, H, W)
    sets: list = field(default_factory=list)  # of frames, oldest first

    def run(self, steps=STEPS):
        """Yields the steps that predict; those that ``stride`` leaves out do not."""
        cameras = NAMES[: self.stream.config.cameras]
        self.stream.step(self.make_set(self.rng, 0, cameras))  # every camera once, so that the canvas is known
        self.stream.reset()
        for number in range(1, steps + 1):
            present = tuple(name for name in cameras if self.rng.random() < 0.75)
            step = self.step(self.make_set(self.rng, number, present or (str(self.rng.choice(cameras)),)))
            assert (step.prediction is None) == bool(number % self.stream.config.stride)
            if step.prediction is not None:
                yield step

    def step(self, frame_set):
        for frame in frame_set.frames:
            single, _ = self.stream.prepare(FrameSet(frame.stamp_ns, (frame,)))
            self.images[_key(frame)] = single[0].clone()
        new = len(frame_set.frames)
        prediction = self.stream.step(frame_set, evict=self._evict(new))
        self.sets.append(list(frame_set.frames))
        held = [frame for one in self.sets for frame in one]
        decoded = slice(0 if self.stream.config.decode == "all" else len(held) - new, None)
        if prediction is not None:
            assert [_key(view) for view in prediction.views] == [_key(frame) for frame in held]
            assert prediction.decoded == tuple(range(len(held)))[decoded]
        images = torch.stack([self.images[_key(frame)] for frame in held])[None]
        return Step(prediction, images, held, new, decoded)

    def _evict(self, needed):
        config = self.stream.config
        held = list(self.stream.slots)
        if self.anchors and self.rng.random() < 0.5 and held:
            # As many as must leave, and perhaps one more, from anywhere in the window.
            least = max(0, len(held) + needed - config.views)
            count = int(self.rng.integers(least, min(least + 2, len(held)) + 1))
            leaving = [held[index] for index in self.rng.permutation(len(held))[:count]]
            keys = {_key(slot.view) for slot in leaving}
            self.sets = [one for one in ([f for f in old if _key(f) not in keys] for old in self.sets) if one]
            return leaving
        while len(self.sets) >= config.sets or (len(self.sets) and sum(map(len, self.sets)) + needed > config.views):
            self.sets.pop(0)
        return None


def _key(view):
    return view.stamp_ns, view.camera


def assert_same(step, want):
    """The step has the numbers of ``want``, a Prediction for its window, to 1e-5."""
    got = step.prediction
    torch.testing.assert_close(got.depth, want.depth[0, step.decoded], rtol=1e-5, atol=0)
    torch.testing.assert_close(got.depth_conf, want.depth_conf[0, step.decoded], rtol=1e-5, atol=0)
    torch.testing.assert_close(got.T_cam_world[:, :3], want.extrinsics[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.K, want.intrinsics[0], rtol=1e-5, atol=1e-5 * step.images.shape[-1])
