"""A step of the window gives what the whole network gives for the same images: whatever comes, stays or is missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from streaming_helpers import assert_same_rays, make_model, make_set, make_stream, record_ray_cameras
from window_mirror import Mirror, assert_same

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
    for step in Mirror(stream, np.random.default_rng(1), anchors).run():
        with torch.inference_mode():
            assert_same(step, model(step.images, ref_view=ref_view))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_steps(case):
    check_case(*case)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE, ids=lambda case: "-".join(map(str, case)))
def test_steps_of_every_kind(case):
    check_case(*case)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sets", "cameras", "stride", "ref_view"), [(3, 2, 1, "saddle_balanced"), (4, 1, 2, "middle"), (2, 4, 1, "first")]
)
@pytest.mark.parametrize("variant", ["da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant"])
def test_steps_with_poses_from_rays(variant, sets, cameras, stride, ref_view, monkeypatch):
    model, solved = make_model(variant), record_ray_cameras(monkeypatch)
    stream = make_stream(model, sets=sets, cameras=cameras, stride=stride, ref_view=ref_view, use_ray_pose=True)
    for step in Mirror(stream, np.random.default_rng(5), anchors=True).run():
        with torch.inference_mode():
            want = model(step.images, ref_view=ref_view, use_ray_pose=True)
        ours, theirs = solved[-2:]
        assert_same_rays(ours, theirs)
        assert_same(step, replace(want, extrinsics=ours[2], intrinsics=ours[3]))


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


def spread(some, others):
    """Mean differences of two predictions of the same views: of depth, confidence and focal lengths relative, of
    rotations, of translations."""
    depth, confidence, T_cam_world, K = (torch.stack((a, b)) for a, b in zip(some, others, strict=True))
    focal = K[..., :2, :2].diagonal(dim1=-2, dim2=-1)
    relative = [(a / b - 1).abs().mean() for a, b in (depth, confidence, focal)]
    absolute = [(a - b).abs().mean() for a, b in (T_cam_world[..., :3], T_cam_world[..., 3])]
    return torch.stack(relative + absolute)


def check_low_precision(variant, dtype, sets, cameras, steps):
    """Another order of the views is another order of sums: a step differs from the network by no more than that."""
    model = make_model(variant, dtype)
    stream = make_stream(model, sets=sets, cameras=cameras, ref_view="first")

    def whole(step, order):
        with torch.inference_mode():
            want = model(step.images[:, order], ref_view="first")
        back = torch.tensor(order).argsort()
        depth, confidence = want.depth[0, back][step.decoded], want.depth_conf[0, back][step.decoded]
        return depth, confidence, want.extrinsics[0, back], want.intrinsics[0, back]

    errors, spreads = torch.zeros(5), torch.zeros(5)
    for step in Mirror(stream, np.random.default_rng(4)).run(steps):
        got = step.prediction
        views = list(range(len(step.frames)))
        want = whole(step, views)
        errors += spread((got.depth, got.depth_conf, got.T_cam_world[:, :3], got.K), want)
        # The first view, which is the reference, stays where it is, so that nothing but rounding differs.
        spreads += spread(whole(step, views[:1] + views[:0:-1]), want)
    assert (spreads > 0).all() and (spreads < 0.02 * steps).all(), spreads
    assert (errors <= spreads).all(), (errors, spreads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_within_the_spread_of_two_full_runs(dtype):
    check_low_precision("da3-small", dtype, sets=4, cameras=1, steps=8)


@pytest.mark.slow
@pytest.mark.parametrize(("sets", "cameras"), [(4, 1), (3, 2), (2, 4)])
@pytest.mark.parametrize("variant", ["da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant"])
def test_thirty_steps_in_low_precision(variant, sets, cameras):
    check_low_precision(variant, torch.bfloat16, sets, cameras, steps=30)
