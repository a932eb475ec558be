"""Cameras that drop out and come back: nothing is compiled after the warm-up, and captures are few.

Here with stand-ins for the compiler and for graphs that count; with the real ones in test_in_flight_cuda.py.
"""

import os

import numpy as np
import pytest
import torch
from graph_stand_ins import made  # noqa: F401
from streaming_helpers import make_model, make_set, make_stream

from da3_ros.model import attention
from da3_ros.model.attention import without_plans
from da3_ros.model.regions import compiled_regions, region
from da3_ros.streaming import programs
from da3_ros.streaming.networks import AnyViewWindow
from da3_ros.streaming.programs import Programs

CAMERAS = ("left", "rear", "right")
FIELDS = ("depth", "depth_conf", "T_cam_world", "K")


@region
def scaled(x):
    return x * 2 + 1


def test_a_shape_that_was_not_warmed_up_runs_as_it_is_at_once_and_as_a_graph_when_it_comes_up_again(made):  # noqa: F811
    run = Programs(torch.device("cpu"), "compiled", 4)
    run.warm_up("scale", scaled, torch.ones(8))
    assert (len(made.compiled), len(made.captured)) == (1, 1)
    for number in range(4):
        for size in (8, 5):
            assert run.run("scale", scaled, torch.full((size,), float(number))).tolist() == [2 * number + 1] * size
        assert len(made.captured) == 1 + min(number, 1)
    assert len(made.compiled) == 1


def test_more_shapes_than_graphs_do_not_capture_each_time(made, monkeypatch):  # noqa: F811
    """Each capture takes as long as a few steps; a graph that is given up at once would be made again and again."""
    run, rng = Programs(torch.device("cpu"), "graphs", 4), np.random.default_rng(0)
    for _ in range(100):
        size = int(rng.integers(1, 9))
        assert run.run("scale", scaled, torch.ones(size)).tolist() == [3.0] * size
        assert run.graphs <= 4
    assert len(made.captured) == 4
    monkeypatch.setattr(programs, "_IDLE_RUNS", 10)
    for _ in range(20):
        run.run("scale", scaled, torch.ones(20))
    assert len(made.captured) == 5, "what has been idle makes room for what comes up at each step now"
    assert run.graphs == 4
    for size in (1, 2, 3, 20, 21) * 10:  # three of them have been captured again, or still are
        run.run("scale", scaled, torch.ones(size))
    settled = len(made.captured)
    for size in (1, 2, 3, 20, 21) * 10:
        run.run("scale", scaled, torch.ones(size))
    assert len(made.captured) == settled, "four of five have a graph, and all are in use"


@pytest.mark.parametrize("execution", ["eager", "graphs", "compiled"])
def test_no_kernel_is_planned_for_a_new_shape(execution, made):  # noqa: F811
    """cuDNN's attention would be, for tenths of a second: it is left out for as long as a program runs."""
    run, seen = Programs(torch.device("cpu"), execution, 2), []
    before = torch.backends.cuda.cudnn_sdp_enabled()

    def program(x):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return x

    for _ in range(2):
        run.run("look", program, torch.ones(1))
    looked = seen if execution == "eager" else seen[:-1]  # the last is the stand-in of the graph
    assert len(looked) >= 2 and not any(looked)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_where_the_compiler_fails_steps_go_on_without_it_and_it_is_said_once(made, monkeypatch, caplog):  # noqa: F811
    def broken(graph, inputs):
        raise RuntimeError("no C compiler found")

    monkeypatch.setattr(programs, "compiled_regions", lambda new: compiled_regions(new=new, backend=broken))
    run = Programs(torch.device("cpu"), "compiled", 4)
    for name in ("first", "second"):
        run.warm_up(name, scaled, torch.ones(3))
        assert run.run(name, scaled, torch.ones(3)).tolist() == [3.0] * 3
    assert run.execution == "graphs" and run.graphs == 2
    said = [one.getMessage() for one in caplog.records if (one.name, one.levelname) == (programs.__name__, "WARNING")]
    assert len(said) == 1 and "torch.compile does not work here, so steps run on uncompiled kernels" in said[0]


@pytest.fixture
def refused(monkeypatch):
    """From now on CUDA refuses to capture anything, with the error that is put in; how often it was asked."""
    found = []

    def refuse(error):
        def capture(program, stream, pool):
            found.append(program)
            program()
            raise error

        monkeypatch.setattr(programs, "capture", capture)
        return found

    return refuse


def warnings_of(caplog):
    return [one.getMessage() for one in caplog.records if (one.name, one.levelname) == (programs.__name__, "WARNING")]


@pytest.mark.parametrize("execution", ["graphs", "compiled"])
def test_where_capturing_fails_at_the_warm_up_steps_run_eagerly_and_it_is_said_once(made, refused, caplog, execution):  # noqa: F811
    asked = refused(RuntimeError("operation not permitted when stream is capturing"))
    run = Programs(torch.device("cpu"), execution, 4)
    for name in ("first", "second"):
        run.warm_up(name, scaled, torch.ones(3))
    for number in range(3):
        for name in ("first", "second"):
            assert run.run(name, scaled, torch.full((3,), float(number))).tolist() == [2 * number + 1] * 3
    assert (run.execution, run.graphs, len(asked)) == ("eager", 0, 1)
    (said,) = warnings_of(caplog)
    assert "steps run eagerly" in said and "operation not permitted when stream is capturing" in said


def test_where_capturing_fails_in_flight_steps_go_on_and_graphs_that_are_there_stay(made, refused, caplog):  # noqa: F811
    run = Programs(torch.device("cpu"), "graphs", 4)
    run.warm_up("scale", scaled, torch.ones(8))
    asked = refused(RuntimeError("operation not permitted when stream is capturing"))
    for number in range(4):
        for size in (8, 5, 6):
            assert run.run("scale", scaled, torch.full((size,), float(number))).tolist() == [2 * number + 1] * size
    assert (run.execution, run.graphs, len(asked), len(warnings_of(caplog))) == ("eager", 1, 1, 1)


def test_what_is_no_failure_to_capture_is_raised(made, refused):  # noqa: F811
    """Out of memory is for the one who chose the window; what a program itself raises is a bug."""
    refused(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    run = Programs(torch.device("cpu"), "graphs", 4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run.warm_up("scale", scaled, torch.ones(3))

    def broken(x):
        raise RuntimeError("the sizes of tensors do not match")

    with pytest.raises(RuntimeError, match="do not match"):
        run.warm_up("broken", broken, torch.ones(3))
    assert run.execution == "graphs"


def test_what_was_compiled_is_kept_in_the_users_cache_unless_torch_was_told_where(made, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for told, kept in ((None, str(tmp_path / "da3_ros" / "inductor")), ("/elsewhere", "/elsewhere")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", told or "")
        if told is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        Programs(torch.device("cpu"), "compiled", 4).warm_up("scale", scaled, torch.ones(4))
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == kept


@pytest.mark.parametrize("repeatable", [False, True])
def test_what_must_be_repeatable_does_not_go_by_measured_times(made, repeatable):  # noqa: F811
    seen = []

    def program(x):
        seen.append((attention._measuring.active, torch.backends.cudnn.benchmark))
        return x

    Programs(torch.device("cpu"), "graphs", 4, repeatable).warm_up("program", program, torch.ones(4))
    assert any(measures for measures, _ in seen) is any(chooses for _, chooses in seen) is not repeatable


def make_streams(name, execution, **settings):
    """One that captures, warmed up, and one that runs everything as it is."""
    model = make_model(name)
    settings = {"sets": 2, "cameras": len(CAMERAS), **settings}
    stream = make_stream(model, execution=execution, **settings)
    stream.warm_up(dict.fromkeys(CAMERAS, ((48, 64), None)))
    return stream, make_stream(model, execution="eager", **settings)


def present(rng, step):
    """Every camera is missing now and then, one of them for long; all come back."""
    there = [name for name in CAMERAS if rng.random() < 0.7 and not (name == "rear" and 12 <= step < 20)]
    return tuple(there or CAMERAS[:1]) if 0 < step < 26 else CAMERAS


def assert_same_steps(stream, eager, seed, steps, present):
    rng = np.random.default_rng(seed)
    for step in range(steps):
        frame_set = make_set(rng, step, present(rng, step))
        want, got = eager.step(frame_set), stream.step(frame_set)
        for one in FIELDS:
            torch.testing.assert_close(getattr(got, one), getattr(want, one), rtol=1e-4, atol=1e-4, msg=one.__add__)


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("da3-small", "graphs"),
        pytest.param("da3-small", "compiled", marks=pytest.mark.slow),
        pytest.param("da3-giant", "compiled", marks=pytest.mark.slow),
    ],
)
def test_cameras_that_drop_out_compile_nothing_and_capture_little(name, execution, made):  # noqa: F811
    stream, eager = make_streams(name, execution, max_graphs=6)
    assert stream._network._programs.execution == execution
    compiled, captured = len(made.compiled), len(made.captured)
    assert (compiled > 0) == (execution == "compiled")
    assert captured == 3, "taking in all cameras' views; the window with their depth, and without"
    assert_same_steps(stream, eager, 1, 30, present)
    assert made.compiled[compiled:] == []
    assert captured < len(made.captured) <= stream.config.max_graphs
    assert stream._network._programs.graphs <= stream.config.max_graphs


def test_a_full_window_needs_no_capture_and_a_camera_that_is_gone_three(made):  # noqa: F811
    stream, _ = make_streams("da3-small", "graphs")
    rng, captured = np.random.default_rng(2), len(made.captured)
    for step in range(6):
        stream.step(make_set(rng, step, CAMERAS if step != 3 else CAMERAS[:2]))
    assert len(made.captured) == captured, "a camera that was missing once"
    for step in range(6, 12):
        stream.step(make_set(rng, step, CAMERAS[:2]))
    assert len(made.captured) == captured + 3, "two new views; three old and two new, for the second time; twice two"


def test_another_size_of_images_in_flight_compiles_nothing_and_says_so(made, monkeypatch, caplog):  # noqa: F811
    """At the start the last camera decides what is compiled; later that would blind the robot for seconds."""
    warmed = []
    monkeypatch.setattr(AnyViewWindow, "warm_up", lambda self, images: warmed.append(tuple(images.shape)))
    model = make_model("da3-small")
    stream, eager = (make_stream(model, sets=2, cameras=2, execution=how) for how in ("compiled", "eager"))
    rng = np.random.default_rng(5)

    def step(number, cameras, size):
        frame_set = make_set(rng, number, cameras, size)
        torch.testing.assert_close(stream.step(frame_set).depth, eager.step(frame_set).depth, rtol=1e-4, atol=1e-4)

    step(0, ("left",), (48, 64))
    step(1, ("left", "right"), (64, 48))
    assert warmed == [(2, 3, 42, 56), (2, 3, 56, 42)], "while it starts"
    for number in range(2, 4):
        step(number, ("left", "right"), (64, 48))
    for number in range(4, 9):
        step(number, ("left", "right"), (48, 64))
    assert len(warmed) == 2 and made.compiled == []
    assert stream._network._programs.graphs > 0, "what comes up again is captured all the same"
    assert "the network's images are 56x42 now" in caplog.text and "until the node is configured again" in caplog.text


def test_cudnn_s_plans_are_out_as_long_as_any_thread_is_in_flight():
    """Threads do not end in the order in which they began, and the last one leaves it as it was."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        first, second = without_plans(), without_plans()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        second.__exit__(None, None, None)
        assert torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
