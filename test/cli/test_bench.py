"""The arithmetic of `da3-ros bench`, its one-line refusals, and one real measurement of each kind on the CPU."""

import csv
import importlib.util
import json
import sys
import types

import pytest
import torch

from da3_ros.cli import bench, bench_growth
from da3_ros.cli.bench_floor import step_gflop
from da3_ros.cli.bench_growth import GrowthPoint
from da3_ros.cli.bench_plot import draw_growth, write_csv
from da3_ros.cli.bench_reference import ReferenceTimes
from da3_ros.cli.bench_step import Case, EngineTimes, NodeTimes, make_row, reserved_from_now_on
from da3_ros.cli.bench_targets import find_target
from da3_ros.cli.main import main
from da3_ros.errors import UnavailableError

SMALL = ["--variants", "da3-small", "--process-res", "56", "--image-size", "80x60", "--device", "cpu", "--seconds", "0"]


@pytest.mark.parametrize(
    ("variant", "one_new", "four_new"),
    [
        ("da3-small", 533, 703), ("da3-base", 1460, 1999), ("da3-large", 5206, 6784), ("da3-giant", 17985, 21336),
    ],
)  # fmt: skip
def test_arithmetic_of_a_step(variant, one_new, four_new):
    """Worked out by hand for 8 views of 504x378 and compared there with counted operations."""
    assert round(step_gflop(variant, 8, 1, 378, 504)) == one_new
    assert round(step_gflop(variant, 8, 4, 378, 504)) == four_new


def test_arithmetic_grows_as_attention_does():
    assert step_gflop("da3-base", 16, 1, 378, 504) > 2 * step_gflop("da3-base", 8, 1, 378, 504)
    assert step_gflop("da3-base", 8, 1, 756, 1008) > 4 * step_gflop("da3-base", 8, 1, 378, 504)


def row(variant, new, step, forward=None, call=None, device="cuda", views=8, size_hw=(378, 504), dtype="bfloat16"):
    """``step``: of the engine; with tracking it takes twice as long, which no target is about."""
    case = Case(variant, views, new, (960, 1280), 504, torch.device(device), "bfloat16", {})
    engine = EngineTimes(size_hw, dtype, step, 1.1 * step)
    node = NodeTimes(2 * step, 2.2 * step, 3 * step, 1e3 / step, {"network": step}, 9.0, 1.0)
    return make_row(case, engine, node, ReferenceTimes(forward, call), 500.0)


def test_a_row_holds_ratios_and_the_floor():
    measured = row("da3-base", 1, 4.0, forward=50.0, call=120.0)
    assert (measured.times_forward, measured.times_call) == (12.5, 30.0)
    assert measured.floor == pytest.approx(1460 / 500, rel=1e-3), "GFLOP over TFLOP/s is milliseconds"
    assert (measured.target_ms, measured.target) == (4.5, "met")


@pytest.mark.parametrize(
    ("variant", "step", "forward", "call", "verdict"),
    [
        ("da3-large", 12.0, None, None, "met"),
        ("da3-large", 15.0, None, None, "missed: 1.25 x the time"),
        ("da3-large", 12.0, 60.0, 200.0, "missed: forward 5.0 of 6"),
        ("da3-giant", 30.0, 150.0, 600.0, "met"),
        ("da3-giant", 38.0, 150.0, 600.0, "missed: forward 3.9 of 4"),
        ("da3-small", 5.0, 20.0, 50.0, "missed: 2.00 x the time, call 10.0 of 15, forward 4.0 of 6"),
    ],
)  # fmt: skip
def test_targets_are_met_or_what_was_missed_is_said(variant, step, forward, call, verdict):
    assert row(variant, 1, step, forward, call).target == verdict


def test_other_windows_sizes_and_devices_have_no_target():
    assert find_target("da3-small", 8, 4, (378, 504), "float16", "cuda").step_ms == 3.5
    for change in ({"device": "cpu"}, {"views": 4}, {"size_hw": (280, 504)}, {"dtype": "float32"}):
        assert row("da3-small", 1, 1.0, **change).target is None, change


def test_bench_measures_a_step(thin, capsys):
    assert main(["bench", *SMALL, "--views", "2", "--new", "1", "2", "3", "--matmul-tflops", "1", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["machine"]["image"] == "80x60 rgb8"
    one, two = answer["rows"]
    assert [(r["views"], r["new"], r["height"], r["width"]) for r in (one, two)] == [(2, 1, 42, 56), (2, 2, 42, 56)]
    assert 0 < one["engine"] <= one["engine_p95"] and 0 < one["with_tracking"] <= one["with_tracking_p95"]
    assert one["steps_per_s"] > 0 and one["start_s"] > 0
    assert one["floor"] == pytest.approx(step_gflop("da3-small", 2, 1, 42, 56)), "1 TFLOP/s"
    assert one["target"] is None and one["reference_call"] is None and one["memory_gib"] is None
    assert one["stages"]["network"] > 0


def test_bench_prints_tables_without_what_was_not_measured(thin, capsys):
    assert main(["bench", *SMALL, "--views", "1", "--new", "1", "--matmul-tflops", "1"]) == 0
    text = capsys.readouterr().out
    assert "| da3-small | 1 | 1 | 42 | 56 |" in text and "steps_per_s" in text
    assert "reference_call" not in text and "memory_gib" not in text and "target" not in text


def test_parameters_of_the_node_reach_the_pipeline(capsys):
    given = ["--views", "1", "--new", "1", "--matmul-tflops", "1"]
    assert main(["bench", *SMALL, *given, "-p", "model.execution:=graphs"]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


class FakeReference(torch.nn.Module):
    """Stands for the class of depth-anything-3 that the bench drives: remembers what it was asked for."""

    calls: list = []

    def __init__(self, model_name):
        super().__init__()
        self.calls.append(model_name)

    def forward(self, images, export_feat_layers):
        self.calls.append(("forward", tuple(images.shape)))

    def inference(self, pictures, process_res):
        self.calls.append(("inference", len(pictures), pictures[0].shape, process_res))


def test_memory_of_a_step_is_without_the_networks_that_were_there_before(monkeypatch):
    """As that of the reference, which stays for the next case of its variant."""
    gib = {"now": 3.0, "most": 9.0}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: gib.update(now=2.0))  # what is kept of earlier work goes
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: gib.update(most=gib["now"]))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: gib["now"] * 2**30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: gib["most"] * 2**30)
    reserved = reserved_from_now_on(torch.device("cuda"))
    gib["most"] = 3.5
    assert reserved() == 1.5


def test_the_cpu_gets_as_many_threads_as_the_node_would_take(capsys, monkeypatch):
    taken = []
    monkeypatch.setattr(bench, "set_cpu_threads", lambda requested, device: taken.append(requested))
    monkeypatch.setattr(bench, "_step_rows", lambda *_: [row("da3-small", 1, 1.0, device="cpu")])
    for parameters in ([], ["-p", "model.cpu_threads:=2"]):
        assert main(["bench", *SMALL, "--views", "2", "--new", "1", *parameters]) == 0
    capsys.readouterr()
    assert taken == [0, 2]


def test_the_reference_sees_the_same_window_and_is_timed_once_for_it(thin, capsys, monkeypatch):
    api = types.ModuleType("depth_anything_3.api")
    api.DepthAnything3 = FakeReference
    monkeypatch.setitem(sys.modules, "depth_anything_3.api", api)
    monkeypatch.setattr(FakeReference, "calls", [])
    given = ["--views", "2", "--new", "1", "2", "--matmul-tflops", "1", "--reference", "--json", "-"]
    assert main(["bench", *SMALL, *given]) == 0
    one, two = json.loads(capsys.readouterr().out)["rows"]
    assert one["times_call"] == pytest.approx(one["reference_call"] / one["engine"])
    assert one["times_forward"] == pytest.approx(one["reference_forward"] / one["engine"])
    assert (two["reference_call"], two["reference_forward"]) == (one["reference_call"], one["reference_forward"])
    assert FakeReference.calls.count("da3-small") == 1
    assert set(FakeReference.calls) == {
        "da3-small", ("forward", (1, 2, 3, 42, 56)), ("inference", 2, (60, 80, 3), 56),
    }  # fmt: skip
    assert FakeReference.calls.count(("forward", (1, 2, 3, 42, 56))) == 5, "2 to warm up, 3 timed"


def test_stages_of_the_network(capsys):
    assert main(["bench", *SMALL, "--stages", "--views", "2", "--new", "1", "--json", "-"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["rows"]
    assert (stage["height"], stage["width"]) == (42, 56)
    assert all(stage[name] > 0 for name in ("forward", "encode", "mix", "decode", "cameras"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--views", "8", "--new", "3"], "multiple of a number of new views"),
        (["--image-size", "big"], "--image-size must be WIDTHxHEIGHT"),
        (["--image-size", "1280x1"], "--image-size must be WIDTHxHEIGHT"),
        (["--matmul-tflops", "0"], "--matmul-tflops must be more than 0"),
        (["-p", "window.sets"], "-p takes NAME:=VALUE"),
        (["-p", "window.set:=4"], "window.set"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(capsys, arguments, says):
    assert main(["bench", *SMALL, *arguments]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(("option", "package"), [("--plot", "matplotlib"), ("--reference", "depth_anything_3")])
def test_packages_that_are_not_there_are_named(capsys, monkeypatch, tmp_path, option, package):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name, *rest)
    )
    arguments = [option, str(tmp_path)] if option == "--plot" else [option]
    assert main(["bench", *SMALL, *arguments]) == 2
    assert package.replace("_", "-") in capsys.readouterr().err


def test_only_the_way_through_ros_needs_ros(thin, capsys, monkeypatch):
    class NoRos:
        def find_spec(self, name, *_):
            if name == "ament_index_python":
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    for name in [name for name in sys.modules if name.startswith(("ament_index_python", "da3_ros.bringup"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "da3_ros.cli.bench_ros_run", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoRos(), *sys.meta_path])
    assert main(["bench", "--ros", "--device", "cpu"]) == 2
    assert "--ros needs ROS 2" in capsys.readouterr().err
    assert main(["bench", *SMALL, "--views", "1", "--new", "1", "--matmul-tflops", "1"]) == 0


def test_growth_is_measured_drawn_and_written(thin, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(bench_growth, "VIEWS", (1, 2))
    monkeypatch.setattr(bench_growth, "CAMERAS", (1,))
    monkeypatch.setattr(bench_growth, "SIZES", (56, 70))
    monkeypatch.setattr(bench_growth, "_SETS", 2)
    monkeypatch.setattr(bench_growth, "_VIEWS", 1)
    assert main(["bench", *SMALL, "--plot", str(tmp_path / "new"), "--matmul-tflops", "1"]) == 0
    with (tmp_path / "new" / "growth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["sweep"], r["x"], r["views"], r["new"], r["width"]) for r in rows] == [
        ("views", "1", "1", "1", "56"), ("views", "2", "2", "1", "56"), ("cameras", "1", "2", "1", "56"),
        ("size", "56", "1", "1", "56"), ("size", "70", "1", "1", "70"),
    ]  # fmt: skip
    assert rows[1]["step"] == rows[2]["step"], "one window is measured once"
    pictures = sorted(path.name for path in (tmp_path / "new").glob("*.png"))
    assert pictures == ["growth-cameras.png", "growth-size.png", "growth-views.png"]
    said = capsys.readouterr().out
    assert all(name in said for name in ("growth.csv", "growth-size.png"))


def test_a_variant_that_cannot_be_measured_leaves_those_before(capsys, monkeypatch, tmp_path):
    def measure(case, *_):
        if case.variant == "da3-base":
            raise UnavailableError("out of memory")
        return [GrowthPoint("views", x, case.variant, x, 1, 42, 56, 1.0, 1.1, 0.1, None) for x in (2, 4)]

    monkeypatch.setattr(bench, "measure_growth", measure)
    options = [*SMALL, "--plot", str(tmp_path), "--matmul-tflops", "1", "--variants", "da3-small", "da3-base"]
    assert main(["bench", *options]) == 2
    assert "out of memory" in capsys.readouterr().err
    assert (tmp_path / "growth-views.png").stat().st_size > 0
    assert (tmp_path / "growth.csv").read_text().count("da3-small") == 2


def test_only_sweeps_with_points_are_drawn(tmp_path):
    points = [GrowthPoint("views", x, "da3-small", x, 1, 42, 56, 1.0 * x, 1.1 * x, 0.1, None) for x in (2, 4)]
    assert draw_growth(points, "a machine", tmp_path) == [tmp_path / "growth-views.png"]
    write_csv(points, tmp_path / "points.csv")
    assert (tmp_path / "points.csv").read_text().splitlines()[1].endswith(",2,2.2,0.1,")
