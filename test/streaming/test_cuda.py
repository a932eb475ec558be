"""The engine on a GPU: graphs give what eager steps give, the host never waits, and memory stays flat."""

import numpy as np
import pytest
import torch
from streaming_helpers import CAMERAS, make_model, make_set, make_stream

from da3_ros.datatypes import CameraCalibration
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("exact_products"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(64, 48, K)
FORWARD = matrix_from_quat_xyzw(np.array([-0.5, 0.5, -0.5, 0.5]))
RIG = {"left": T_from(FORWARD, np.array([0.3, 0.06, 1.0])), "right": T_from(FORWARD, np.array([0.3, -0.06, 1.0]))}
FIELDS = ("depth", "depth_conf", "T_cam_world", "K", "reference_index", "sky", "metres_per_unit")
NETWORKS = ["da3-small", "da3-giant", "da3metric-large", "da3nested-giant-large"]


def make_cuda_stream(name, execution, dtype=torch.float32, **settings):
    return make_stream(make_model(name, dtype).cuda(), execution=execution, **settings)


def values(prediction):
    """Copies: the next step overwrites what a prediction holds."""
    found = {name: getattr(prediction, name) for name in FIELDS}
    return {name: value.clone() for name, value in found.items() if value is not None}


def no_wait(stream, frame_set):
    """One step of the network, images being on the device, in which a wait for the device is an error."""
    images, _ = stream.prepare(frame_set)
    network, slots = stream._network, stream.slots
    new = len(frame_set.frames)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            network.write(slots[-new:], images)
            return network.predict(slots, tuple(range(len(slots) - new, len(slots))))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("execution", ["graphs", "compiled"])
def test_graphs_give_what_eager_steps_give(name, execution):
    """Also while the window fills, with cameras missing, and when shapes come up again."""
    eager, other = (make_cuda_stream(name, how) for how in ("eager", execution))
    rng = np.random.default_rng(1)
    for step in range(16):
        present = CAMERAS if rng.random() < 0.6 else (CAMERAS[rng.integers(2)],)
        frame_set = make_set(rng, step, present, calibration=CALIBRATION)
        want, got = values(eager.step(frame_set)), values(other.step(frame_set))
        assert got.keys() == want.keys()
        for field, value in want.items():
            where = f"{field}, step {step}: "
            if field == "sky":  # a pixel that lies on the threshold may fall to either side of it
                assert (got[field] != value).float().mean() < 1e-3, where
                continue
            torch.testing.assert_close(got[field], value, rtol=1e-3, atol=1e-3, msg=where.__add__)
    assert other._network._programs.execution == execution


@pytest.mark.parametrize("execution", ["graphs", "compiled"])
def test_the_window_across_two_places_has_a_lower_priority_than_steps(execution):
    """A graph's kernels keep the priority of the stream that it was captured on."""
    stream = make_cuda_stream("da3-small", execution)
    stream.step(make_set(np.random.default_rng(0), 0))
    programs = stream._network._programs
    assert programs.graphs and max(programs._stream.priority, programs._side.priority) < stream._beside.priority


@pytest.mark.parametrize("settings", [{}, {"use_ray_pose": True}, {"ref_view": "middle"}, {"decode": "all"}])
@pytest.mark.parametrize("execution", ["eager", "graphs", "compiled"])
def test_no_wait_in_a_step(execution, settings):
    stream = make_cuda_stream("da3-small", execution, torch.float16, **settings)
    for step in range(4):
        frame_set = make_set(np.random.default_rng(step), step)
        stream.step(frame_set)
    no_wait(stream, frame_set)


@pytest.mark.parametrize("name", ["da3-giant", "da3nested-giant-large"])
def test_no_wait_with_a_rig(name):
    stream = make_cuda_stream(name, "graphs", sets=1, pose_conditioning="rig")
    stream.set_rig(RIG)
    for step in range(3):
        frame_set = make_set(np.random.default_rng(step), step, calibration=CALIBRATION)
        stream.step(frame_set)
    no_wait(stream, frame_set)


def test_the_number_of_graphs_is_bounded():
    stream = make_cuda_stream("da3-small", "graphs", sets=4, max_graphs=3)
    rng = np.random.default_rng(2)
    eager = make_cuda_stream("da3-small", "eager", sets=4)
    for step in range(40):
        frame_set = make_set(rng, step, CAMERAS[: 1 + rng.integers(2)] if step else CAMERAS)
        got, want = stream.step(frame_set).depth.clone(), eager.step(frame_set).depth
        torch.testing.assert_close(got, want, rtol=1e-3, atol=0)
        assert stream._network._programs.graphs <= 3


@pytest.mark.slow
def test_memory_is_flat_over_2000_steps():
    stream = make_cuda_stream("da3-small", "compiled", torch.float16, sets=4)
    rng = np.random.default_rng(3)
    sets = [make_set(rng, step, CAMERAS[: 1 + rng.integers(2)] if step else CAMERAS) for step in range(50)]
    used = []
    for step in range(2000):
        stream.step(sets[step % 50])
        if step % 100 == 99:
            torch.cuda.synchronize()
            used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert used[-1] == used[2]
