"""Two evaluations side by side: which way is worse, what is past a tolerance, and files that are no evaluations."""

import copy
import json

import pytest

from da3_ros.cli.main import main

METRICS = {
    "frames": 50,
    "depth": {
        "front": {
            "per_frame": {"none": {"abs_rel": 0.1, "delta1": 0.9}, "median": {"abs_rel": 0.08, "delta1": 0.95}},
            "scale": {"median": 2.0, "relative_std": 0.1},
            "over_time": [{"abs_rel": 0.1}],
        }
    },
    "trajectory": {"ate": {"se3": {"rmse": 0.5}}, "scale_error": -0.05, "auc": {"30": 0.8}, "frame": "base_link"},
    "consistency": {},
    "windows": None,
    "surface": None,
    "run": {"variant": "da3-small", "weights_trained": True, "rate_hz": 20.0, "latency_ms": {"network": {"p50": 40.0}}},
}
ABS_REL = "depth.front.per_frame.none.abs_rel"


@pytest.fixture
def compared(tmp_path, capsys):
    """Compare METRICS with METRICS where the numbers at some paths are others: code, output and errors."""

    def compare(changes, *more):
        changed = copy.deepcopy(METRICS)
        for path, value in changes.items():
            *above, last = path.split(".")
            place = changed
            for key in above:
                place = place[key]
            place[last] = value
        for name, metrics in (("a.json", METRICS), ("b.json", changed)):
            (tmp_path / name).write_text(json.dumps(metrics))
        code = main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), *more])
        return code, *capsys.readouterr()

    return compare


@pytest.mark.parametrize(
    ("path", "value", "tolerance", "code"),
    [
        (ABS_REL, 0.104, "abs_rel=5%", 0),
        (ABS_REL, 0.106, "abs_rel=5%", 1),
        (ABS_REL, 0.01, "abs_rel=5%", 0),  # ten times better
        (ABS_REL, 0.106, "abs_rel=0.01", 0),  # not relative
        (ABS_REL, 0.120, "abs_rel=0.01", 1),
        (ABS_REL, 0.5, "depth.*.median.abs_rel=5%", 0),  # another one
        (ABS_REL, 0.5, "depth.*.none.abs_rel=5%", 1),
        (ABS_REL, 0.5, "rel=5%", 2),  # half a name is none
        (ABS_REL, None, "abs_rel=500%", 1),  # what cannot be computed any more
        ("depth.front.per_frame.none.delta1", 0.8, "delta1=5%", 1),
        ("depth.front.per_frame.none.delta1", 1.0, "delta1=5%", 0),
        ("depth.front.scale.median", 2.2, "scale.median=5%", 1),
        ("depth.front.scale.median", 1.8, "scale.median=5%", 1),
        ("trajectory.scale_error", 0.04, "scale_error=0%", 0),
        ("trajectory.scale_error", 0.06, "scale_error=0.005", 1),
        ("trajectory.auc.30", 0.7, "auc.30=5%", 1),
        ("trajectory.auc.30", 0.9, "auc.30=5%", 0),
        ("run.rate_hz", 10.0, "rate_hz=20%", 1),
        ("run.latency_ms.network.p50", 80.0, "latency_ms.*.p50=20%", 1),
        ("depth", {}, "abs_rel=5%", 1),
    ],
)
def test_past_a_tolerance_the_exit_code_is_1(compared, path, value, tolerance, code):
    assert compared({path: value}, "--tolerance", tolerance)[0] == code


def test_both_are_shown_side_by_side(compared):
    changes = {ABS_REL: 0.2, "trajectory.auc.30": 0.9, "run.variant": "da3-base", "trajectory.scale_error": None}
    code, out, err = compared(changes)
    assert (code, err) == (0, "")
    rows = {line.split()[1]: line.split() for line in out.splitlines()}
    assert rows[ABS_REL] == ["-", ABS_REL, "0.1", "0.2", "+100.0%", "worse"]
    assert rows["trajectory.auc.30"] == ["+", "trajectory.auc.30", "0.8", "0.9", "+12.5%", "better"]
    assert rows["trajectory.scale_error"] == ["0", "trajectory.scale_error", "-0.05", "-", "only", "in", "A"]
    assert "  run.variant" in out and "da3-small  da3-base" in out
    assert "over_time" not in out and "weights_trained" not in out


def test_what_is_past_is_named_and_the_rest_is_judged_too(compared):
    changes = {ABS_REL: 0.2, "trajectory.ate.se3.rmse": 0.9, "run.rate_hz": 5.0}
    code, out, err = compared(changes, "--tolerance", "abs_rel=5%", "rmse=0.1")
    assert code == 1 and out.count("PAST TOLERANCE") == 2
    assert err.splitlines() == [
        f"past abs_rel=5%: {ABS_REL} was 0.1 and is 0.2",
        "past rmse=0.1: trajectory.ate.se3.rmse was 0.5 and is 0.9",
    ]


def test_numbers_that_differ_in_later_digits_are_shown_to_differ(compared):
    code, out, err = compared({ABS_REL: 0.1000004, "run.rate_hz": 20.0}, "--tolerance", "abs_rel=0%")
    assert code == 1 and err == f"past abs_rel=0%: {ABS_REL} was 0.1 and is 0.1000004\n"
    rows = {row.split()[1]: row.split() for row in out.splitlines()[1:]}
    assert rows[ABS_REL][2:5] == ["0.1", "0.1000004", "+0.0004%"]
    assert rows["run.rate_hz"][2:] == ["20", "20", "0"]
    _, _, err = compared({ABS_REL: 0.1 + 2e-17}, "--tolerance", "abs_rel=0%")
    assert f"was {0.1:.17g} and is {0.1 + 2e-17:.17g}" in err


def test_json(compared):
    code, out, _ = compared({ABS_REL: 0.2, "run.variant": "x"}, "--json", "--tolerance", "abs_rel=5%")
    found = json.loads(out)
    assert code == 1 and found["passed"] is False and found["settings"] == {"run.variant": ["da3-small", "x"]}
    number = next(each for each in found["numbers"] if each["name"] == ABS_REL)
    assert number == {"name": ABS_REL, "a": 0.1, "b": 0.2, "better": "lower", "worse": 0.1, "past": ["abs_rel=5%"]}
    assert json.loads(compared({}, "--json", "--tolerance", "abs_rel=0%")[1])["passed"] is True


SETTINGS = {
    "evaluated_with": {"tolerance_s": 0.02, "max_depth_m": None, "true_depth": {"front": "/front/depth"}},
    "node_parameters": {"cameras": ["front"], "window.sets": 4, "model.variant": "da3-small", "loops.enabled": True},
    "versions": {"torch": "2.13.0", "numpy": "2.3.0"},
}


def test_settings_that_differ_are_shown_and_never_judged(tmp_path, capsys):
    """They are no scores: twice as many sets in the window, or another limit, is neither worse nor better."""
    before = {**METRICS, "run": {**METRICS["run"], **SETTINGS}}
    now = copy.deepcopy(before)
    now["run"]["evaluated_with"] |= {"max_depth_m": 10.0, "true_depth": {"front": "/lidar"}}
    now["run"]["node_parameters"] |= {"cameras": ["front", "rear"], "window.sets": 8, "points.stride": 2}
    del now["run"]["node_parameters"]["loops.enabled"]
    now["run"]["versions"]["torch"] = "2.11.0"
    for name, metrics in (("a.json", before), ("b.json", now), ("old.json", METRICS)):
        (tmp_path / name).write_text(json.dumps(metrics))

    def compare(a, b, *more):
        return main(["compare", str(tmp_path / a), str(tmp_path / b), *more]), *capsys.readouterr()

    code, out, err = compare("a.json", "b.json", "--tolerance", "depth.*=0%", "*.rmse=0%")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.endswith("differs")}
    assert rows == {
        "run.evaluated_with.max_depth_m": ["-", "10.0", "differs"],
        "run.evaluated_with.true_depth.front": ["/front/depth", "/lidar", "differs"],
        "run.node_parameters.cameras": ["front", "front,", "rear", "differs"],
        "run.node_parameters.window.sets": ["4", "8", "differs"],
        "run.node_parameters.points.stride": ["-", "2", "differs"],
        "run.node_parameters.loops.enabled": ["True", "-", "differs"],
        "run.versions.torch": ["2.13.0", "2.11.0", "differs"],
    }
    code, _, err = compare("a.json", "b.json", "--tolerance", "window.sets=0%")
    assert code == 2 and "fits no number" in err
    assert "differs" not in compare("a.json", "a.json")[1]
    # What an older version wrote says nothing of them.
    for one, other in (("a.json", "old.json"), ("old.json", "a.json")):
        code, out, err = compare(one, other, "--tolerance", "*=0%")
        assert (code, err) == (0, "") and "differs" not in out


def failed(recording, segment=0, segments=1) -> dict:
    return {"recording": recording, "segment": segment, "segments": segments, "attempts": 1, "error": "no such topic"}


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        ([], [failed("b.mcap")], ["b.mcap: no such topic"]),
        ([failed("b.mcap")], [failed("b.mcap")], []),
        ([failed("b.mcap")], [], []),
        ([failed("b.mcap")], [failed("b.mcap"), failed("a.mcap")], ["a.mcap: no such topic"]),
        ([failed("b.mcap", 2, 3)], [failed("b.mcap", 0, 3)], []),  # as much of it as before
        ([failed("b.mcap", 1, 3)], [failed("b.mcap", 0, 2)], ["b.mcap, part 1 of 2: no such topic"]),
    ],
)
def test_a_recording_that_could_be_evaluated_before_must_not_fail(tmp_path, capsys, before, now, wanted):
    """Whatever the tolerances say: the numbers are of the other recordings only."""
    recordings = dict.fromkeys(("a.mcap", "b.mcap"), METRICS)
    for name, failures in (("a", before), ("b", now)):
        left = {key: value for key, value in recordings.items() if key not in [each["recording"] for each in failures]}
        (tmp_path / name).write_text(json.dumps({**METRICS, "recordings": left, "failed": failures}))
    arguments = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--tolerance", "abs_rel=5%"]
    code = main(arguments)
    printed = capsys.readouterr()
    assert code == (1 if wanted else 0)
    assert printed.err.splitlines() == [f"failed in B, but not in A: {text}" for text in wanted]
    assert any(line.split()[:2] == ["+", "recordings"] for line in printed.out.splitlines())
    assert main([*arguments, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["failures"], found["passed"]) == (wanted, not wanted)


def write_recordings(file, path, **errors):
    """Metrics of several recordings, ``path`` with each one's name in it, and AbsRel by name; the file's name."""
    recordings = {}
    for name, abs_rel in errors.items():
        each = copy.deepcopy(METRICS)
        each["depth"]["front"]["per_frame"]["none"]["abs_rel"] = abs_rel
        recordings[path.format(name)] = each
    file.write_text(json.dumps({**METRICS, "recordings": recordings, "failed": []}))
    return str(file)


def test_each_of_several_recordings_is_compared_too(tmp_path, capsys):
    """One that got worse while another got better would not show in the numbers of both."""
    a = write_recordings(tmp_path / "a.json", "/data/monday/{}.mcap", hall=0.2, yard=0.1)
    b = write_recordings(tmp_path / "b.json", "/data/tuesday/{}.mcap", hall=0.1, yard=0.2, street=0.3)
    assert main(["compare", a, b]) == 0
    rows = {line.split()[1]: line.split()[2:] for line in capsys.readouterr().out.splitlines()[1:] if line[0] != " "}
    assert rows[f"recordings.hall.mcap.{ABS_REL}"] == ["0.2", "0.1", "-50.0%", "better"]
    assert rows[f"recordings.yard.mcap.{ABS_REL}"] == ["0.1", "0.2", "+100.0%", "worse"]
    assert rows["recordings"] == ["2", "3", "+50.0%", "better"] and not any("street" in name for name in rows)
    assert main(["compare", a, b, "--tolerance", "none.abs_rel=5%"]) == 1
    assert capsys.readouterr().err == (
        f"past none.abs_rel=5%: recordings.yard.mcap.{ABS_REL} was 0.1 and is 0.2\n"
    )


def test_a_tolerance_holds_for_each_recording(tmp_path, capsys):
    """For a number that one of them has no more, too, and where files in two folders have one name."""
    a = write_recordings(tmp_path / "a.json", "/{}/run.mcap", hall=0.2, yard=0.1, street=0.1)
    b = write_recordings(tmp_path / "b.json", "/{}/run.mcap", hall=0.206, yard=0.15, street=None)
    assert main(["compare", a, b, "--tolerance", "none.abs_rel=5%"]) == 1
    yard, street = capsys.readouterr().err.splitlines()
    assert yard == f"past none.abs_rel=5%: recordings./yard/run.mcap.{ABS_REL} was 0.1 and is 0.15"
    assert street.startswith(f"past none.abs_rel=5%: recordings./street/run.mcap.{ABS_REL} was 0.1 and is ")
    assert main(["compare", a, a, "--tolerance", "none.abs_rel=5%"]) == 0
    one = f"recordings./yard/run.mcap.{ABS_REL}"
    assert main(["compare", a, b, "--tolerance", f"{one}=60%"]) == 0
    assert main(["compare", a, b, "--tolerance", f"{one}=40%"]) == 1


def test_folders_stand_for_the_metrics_in_them(tmp_path, capsys):
    """As `da3-ros evaluate --output A` makes them."""
    for name, abs_rel in (("A", 0.1), ("B", 0.2)):
        (tmp_path / name).mkdir()
        changed = copy.deepcopy(METRICS)
        changed["depth"]["front"]["per_frame"]["none"]["abs_rel"] = abs_rel
        (tmp_path / name / "metrics.json").write_text(json.dumps(changed))
    assert main(["compare", str(tmp_path / "A"), str(tmp_path / "B"), "--tolerance", "abs_rel=5%"]) == 1
    assert capsys.readouterr().err == f"past abs_rel=5%: {ABS_REL} was 0.1 and is 0.2\n"
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "A"), str(tmp_path / "empty")]) == 2
    assert "metrics.json cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "b.json cannot be read: No such file"),
        ("{", "b.json is no JSON"),
        ("\xff\xfe", "b.json is no JSON"),
        ("[1]", "does not come from da3-ros evaluate"),
        ('{"depth": {}}', "does not come from da3-ros evaluate"),
        ('{"depth": {}, "trajectory": {}, "run": {}, "failed": 5}', "'failed' is no list"),
        ('{"depth": {}, "trajectory": {}, "run": {}, "failed": [{"recording": "a"}]}', "'failed' is no list"),
    ],
)
def test_files_that_are_no_evaluations_are_refused_in_one_line(tmp_path, capsys, content, wanted):
    (tmp_path / "a.json").write_text(json.dumps(METRICS))
    if content is not None:
        (tmp_path / "b.json").write_bytes(content.encode("latin-1"))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    captured = capsys.readouterr()
    assert wanted in captured.err and captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize("text", ["abs_rel", "=5%", "abs_rel=x", "abs_rel=-1", "abs_rel=nan", "abs_rel=%"])
def test_tolerances_that_are_none(compared, text):
    code, out, err = compared({}, "--tolerance", text)
    assert (code, out) == (2, "") and "is no tolerance" in err


def test_a_tolerance_for_nothing_is_refused(compared):
    code, _, err = compared({}, "--tolerance", "abs_rell=5%")
    assert code == 2 and "fits no number of the first file" in err
