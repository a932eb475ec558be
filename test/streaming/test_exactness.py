"""A step of the window gives what the whole network gives for the same images: whatever comes, stays or is missing."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from streaming_helpers import CAMERAS, make_model, make_set, make_stream

from da3_ros.datatypes import FrameSet

STEPS = 30
NAMES = (*CAMERAS, "rear", "front")


@dataclass
class Mirror:
    """Runs a stream at random and knows what its window must hold."""

    stream: object
    cameras: tuple[str, ...]
    rng: np.random.Generator
    anchors: bool  # old views are kept at random
    images: dict = field(default_factory=dict)  # (stamp, camera) -> (3, H, W)
    sets: list = field(default_factory=list)  # of (stamp, camera), oldest first

    def step(self, number):
        """One set with cameras missing at random; the prediction or None, and the window's images (1, N, 3, H, W)."""
        present = [name for name in self.cameras if self.rng.random() < 0.75] or [self.rng.choice(self.cameras)]
        frame_set = make_set(self.rng, number, tuple(map(str, present)))
        for frame in frame_set.frames:
            single, _ = self.stream.prepare(FrameSet(frame.stamp_ns, (frame,)))
            self.images[frame.stamp_ns, frame.camera] = single[0].clone()
        prediction = self.stream.step(frame_set, evict=self._evict(len(present)))
        self.sets.append([(frame.stamp_ns, frame.camera) for frame in frame_set.frames])
        held = [key for one in self.sets for key in one]
        if prediction is not None:
            assert [(view.stamp_ns, view.camera) for view in prediction.views] == held
        return prediction, torch.stack([self.images[key] for key in held])[None], len(present)

    def _evict(self, needed):
        config = self.stream.config
        held = list(self.stream.slots)
        if self.anchors and self.rng.random() < 0.5 and held:
            # As many as must leave, and perhaps one more, from anywhere in the window.
            least = max(0, len(held) + needed - config.views)
            count = int(self.rng.integers(least, min(least + 2, len(held)) + 1))
            leaving = [held[index] for index in self.rng.permutation(len(held))[:count]]
            keys = {(slot.view.stamp_ns, slot.view.camera) for slot in leaving}
            self.sets = [one for one in ([key for key in old if key not in keys] for old in self.sets) if one]
            return leaving
        while len(self.sets) >= config.sets or (len(self.sets) and sum(map(len, self.sets)) + needed > config.views):
            self.sets.pop(0)
        return None


def check(model, stream, anchors, steps, seed, **options):
    mirror = Mirror(stream, NAMES[: stream.config.cameras], np.random.default_rng(seed), anchors)
    stream.step(make_set(mirror.rng, 0, mirror.cameras))  # every camera once, so that the canvas is known
    stream.reset()
    for number in range(1, steps + 1):
        got, images, new = mirror.step(number)
        assert (got is None) == bool(number % stream.config.stride)
        if got is None:
            continue
        with torch.inference_mode():
            want = model(images, **options)
        decoded = slice(0 if stream.config.decode == "all" else images.shape[1] - new, None)
        assert got.decoded == tuple(range(images.shape[1]))[decoded]
        torch.testing.assert_close(got.depth, want.depth[0, decoded], rtol=1e-5, atol=0)
        torch.testing.assert_close(got.depth_conf, want.depth_conf[0, decoded], rtol=1e-5, atol=0)
        torch.testing.assert_close(got.T_cam_world[:, :3], want.extrinsics[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got.K, want.intrinsics[0], rtol=1e-5, atol=1e-5 * images.shape[-1])


# variant, sets, cameras, stride, reference view, decode, old views kept
CASES = [
    ("da3-small", 3, 2, 1, "saddle_balanced", "newest", True),
    ("da3-base", 8, 1, 2, "middle", "newest", False),
    ("da3-large", 2, 2, 1, "saddle_sim_range", "all", True),
    ("da3-giant", 3, 2, 2, "first", "newest", True),
]
MORE = [
    (variant, sets, cameras, stride, ref_view, decode, anchors)
    for variant in ("da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant")
    for sets, cameras, stride in ((1, 2, 1), (4, 1, 1), (4, 2, 3), (8, 1, 4), (3, 3, 2), (2, 4, 1))
    for ref_view, decode in (
        ("saddle_balanced", "newest"), ("saddle_sim_range", "all"), ("middle", "newest"), ("first", "all")
    )
    for anchors in (False, True)
]  # fmt: skip


def check_case(variant, sets, cameras, stride, ref_view, decode, anchors):
    model = make_model(variant)
    stream = make_stream(model, sets=sets, cameras=cameras, stride=stride, ref_view=ref_view, decode=decode)
    check(model, stream, anchors, STEPS, seed=1, ref_view=ref_view)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_steps(case):
    check_case(*case)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE, ids=lambda case: "-".join(map(str, case)))
def test_steps_of_every_kind(case):
    check_case(*case)


@pytest.mark.parametrize("variant", ["da3-small", "da3-giant"])
def test_a_step_without_dense_maps_has_the_same_poses(variant):
    model, rng = make_model(variant), np.random.default_rng(2)
    dense, bare = make_stream(model), make_stream(model)
    for number in range(4):
        frame_set = make_set(rng, number)
        a, b = dense.step(frame_set), bare.step(frame_set, dense=False)
        assert b.decoded == () and b.depth.shape == (0, *dense.canvas_hw)
        torch.testing.assert_close(b.T_cam_world, a.T_cam_world, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(b.K, a.K, rtol=1e-5, atol=1e-3)


def test_colours_are_those_of_the_decoded_views():
    model, rng = make_model("da3-small"), np.random.default_rng(3)
    stream = make_stream(model, decode="all")
    colours = []
    for number in range(4):
        frame_set = make_set(rng, number)
        colours = [*colours, stream.prepare(frame_set)[1].clone()][-3:]
        assert torch.equal(stream.step(frame_set).colours, torch.cat(colours))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_within_the_spread_of_two_full_runs(dtype):
    """Another order of the views is another order of sums: a step differs from the network by no more than that."""
    model, rng = make_model("da3-small", dtype), np.random.default_rng(4)
    stream = make_stream(model, sets=4, cameras=1)
    images, errors, spreads = [], [], []
    for number in range(8):
        frame_set = make_set(rng, number, CAMERAS[:1])
        images = [*images, stream.prepare(frame_set)[0].clone()][-4:]
        got = stream.step(frame_set)
        window = torch.cat(images)[None]
        with torch.inference_mode():
            want = model(window).depth[0, -1]
            turned = model(window.flip(1)).depth[0, 0]
        errors.append(((got.depth[0] - want).abs() / want).median())
        spreads.append(((turned - want).abs() / want).median())
    assert 0 < sum(spreads) < 0.2 and sum(errors) <= 1.5 * sum(spreads)
