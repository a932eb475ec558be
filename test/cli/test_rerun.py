"""Recordings for the Rerun viewer: what is in them, and what is said where they cannot be written."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from recording_helpers import STEPS, TruthfulPipeline, pose, stamp

from da3_ros.cli.main import main
from da3_ros.evaluation import segments
from da3_ros.evaluation.rerun_file import RerunFile
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum
from da3_ros.geometry.se3 import T_BODY_OPTICAL

QUICK = ["--set", "model.checkpoint=random", "model.process_res=56", "window.sets=2", "model.device=cpu"]


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def rrd(*arguments) -> str:
    """What Rerun's own program says."""
    return subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


def rows(file) -> Counter:
    """Number of rows by entity and archetype, the layout's left out."""
    rrd("verify", file)
    found: Counter = Counter()
    pattern = r"^Chunk\(.*?\) with (\d+) rows .* - /((?:estimate|truth|pictures|errors)\S*) - data columns: \[(\w+):"
    for count, entity, archetype in re.findall(pattern, rrd("print", file), re.MULTILINE):
        found[entity, archetype] += int(count)
    return found


@pytest.mark.optional("rerun")
def test_everything_is_in_the_recording(bag, sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    out = ["--output", str(tmp_path / "m.json"), "--rerun", str(tmp_path / "out.rrd")]
    assert main(["evaluate", str(bag), *out]) == 0
    each = {
        ("pictures/front", "Image"), ("estimate/front", "Transform3D"), ("estimate/front/depth", "Pinhole"),
        ("estimate/front/depth", "DepthImage"), ("estimate/front/confidence", "Image"),
        ("estimate/front/points", "Points3D"), ("truth/front", "Transform3D"), ("truth/front/depth", "Pinhole"),
        ("truth/front/depth", "DepthImage"), ("truth/front/points", "Points3D"), ("errors/front/abs_rel", "Scalars"),
        ("errors/front/abs_rel_medians_aligned", "Scalars"), ("errors/front/scale", "Scalars"),
        ("estimate/frames/base_link", "Transform3D"),
    }  # fmt: skip
    # For the whole time: both ways, both worlds' axes, and the unit of the estimate's points and depth.
    once = {
        ("estimate/trajectory", "LineStrips3D"), ("truth/trajectory", "LineStrips3D"), ("estimate", "ViewCoordinates"),
        ("truth", "ViewCoordinates"), ("estimate/front/points", "Transform3D"),
        ("estimate/frames/base_link", "Arrows3D"),
    }  # fmt: skip
    found = rows(tmp_path / "out.rrd")
    found["pictures/front", "Image"] += found.pop(("pictures/front", "EncodedImage"), 0)
    found["estimate/front/depth", "DepthImage"] -= 1
    assert found == {**dict.fromkeys(each, STEPS), **dict.fromkeys(once, 1)}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.optional("rerun")
def test_a_replay_writes_one_too(bag, tmp_path):
    out = ["--output", str(tmp_path / "out.mcap"), "--rerun", str(tmp_path / "out.rrd")]
    assert main(["replay", str(bag), *out, *QUICK]) == 0
    found = rows(tmp_path / "out.rrd")
    assert found["estimate/front/points", "Points3D"] == found["estimate/front", "Transform3D"] == STEPS
    assert found["estimate/frames/base_link", "Transform3D"] == STEPS
    # The map lies where map -> odom has it: once, with the transform of its frame and that of its unit.
    assert found["estimate/frames/map/points", "Points3D"] == found["estimate/frames/map", "Transform3D"] == 1
    again = ["--output", str(tmp_path / "b.mcap"), *out[2:], *QUICK]
    assert main(["replay", str(bag), *again, "publish.depth=false"]) == 2
    assert not (tmp_path / "b.mcap").exists()


@pytest.mark.optional("rerun")
def test_an_estimate_in_another_unit_lies_on_the_truth_and_its_cameras_are_drawn(bag, sequence, tmp_path, monkeypatch):
    """The viewer draws no camera below a transform that scales."""

    class HalfPipeline(TruthfulPipeline):
        def submit(self, frame_set, request):
            estimate = super().submit(frame_set, request).result()
            estimate.outputs[0].depth[:] *= 0.5
            for view in estimate.views:
                if view.newest:
                    view.T_odom_cam[:3, 3] *= 0.5
            return type("Done", (), {"result": lambda self: estimate})()

    logged: dict[tuple[str, bool], dict] = {}
    log = RerunFile._log

    def noted(self, entity, what, static=False):
        values = {name: getattr(what, name).as_arrow_array().to_pylist() for name in ("translation", "scale", "meter")
                  if getattr(what, name, None) is not None}  # fmt: skip
        logged.setdefault((entity, static), {}).update(values)
        log(self, entity, what, static)

    monkeypatch.setattr(RerunFile, "_log", noted)
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: HalfPipeline(sequence.cameras[0]))
    out = ["--output", str(tmp_path / "m.json"), "--rerun", str(tmp_path / "out.rrd"), "--report", "none"]
    assert main(["evaluate", str(bag), *out]) == 0
    assert logged["estimate/front/points", True]["scale"][0] == pytest.approx([2, 2, 2])
    assert logged["estimate/front/depth", True]["meter"] == pytest.approx([0.5])
    estimated, true = (logged[f"{world}/front", False] for world in ("estimate", "truth"))
    assert estimated["translation"][0] == pytest.approx(true["translation"][0], abs=1e-5)
    assert "scale" not in estimated and not logged["estimate", True]


@pytest.mark.optional("rerun")
def test_a_world_with_y_down_is_shown_upright(bag, sequence, tmp_path, monkeypatch):
    import rerun

    logged = {}
    monkeypatch.setattr(RerunFile, "_log", lambda self, entity, what, static=False: logged.update({entity: what}))
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    T = np.linalg.inv(T_BODY_OPTICAL) @ np.stack([pose(step) for step in range(STEPS)])
    write_tum(tmp_path / "way.tum", Trajectory(np.array([stamp(step) for step in range(STEPS)]), T))
    truth = ["--poses", str(tmp_path / "way.tum"), "--pose-frame", "base_link"]
    for more, up in ((truth, rerun.ViewCoordinates.RIGHT_HAND_Y_DOWN), ([], rerun.ViewCoordinates.RIGHT_HAND_Z_UP)):
        out = ["--output", str(tmp_path / "m.json"), "--rerun", str(tmp_path / "out.rrd"), "--report", "none"]
        assert main(["evaluate", str(bag), *out, *more]) == 0
        assert logged["estimate"] == logged["truth"] == up


def test_without_rerun_the_mend_is_said_before_the_work(bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: pytest.fail("loaded"))
    assert main(["evaluate", str(bag), "--rerun", str(tmp_path / "o.rrd"), "--output", str(tmp_path / "m.json")]) == 2
    error = capsys.readouterr().err
    assert "pip install rerun-sdk" in error and error.count("\n") == 1
    assert main(["evaluate", str(bag), "--rerun", str(tmp_path / "o.rrd"), "--segment", "1"]) == 2
    assert "are for one recording" in capsys.readouterr().err


@pytest.mark.optional("rerun")
def test_a_recording_that_was_cut_short_does_not_appear(bag, tmp_path):
    from da3_ros.ingest.bag import Bag

    with pytest.raises(KeyboardInterrupt), RerunFile(tmp_path / "o.rrd", Bag([bag]), {}):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
