"""Many recordings: together and one by one, in parts, with failures, here and on a Ray cluster."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace

import pytest
import torch
from recording_helpers import STEPS, TruthfulPipeline, knows_the_truth, other_clock, truth_changed

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.config import from_flat
from da3_ros.egress.bag import new_recording
from da3_ros.errors import ConfigError
from da3_ros.evaluation import ground_truth, segments, stamped
from da3_ros.evaluation.findings import Findings
from da3_ros.evaluation.segments import Failure, Recording, Segment, SegmentQueue, SegmentResult, run_segments
from da3_ros.evaluation.settings import EvaluationSettings, Span
from da3_ros.ingest.bag import Bag

QUICK = ["--set", "model.checkpoint=random", "model.variant=da3-nano", "model.process_res=56", "window.sets=2",
         "model.device=cpu", "model.cpu_threads=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def three(bag, tmp_path):
    """A folder with two recordings and a file that is none."""
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("a.mcap", "b.mcap"):
        (folder / name).symlink_to(bag)
    (folder / "broken.mcap").write_bytes(b"no recording")
    return folder


def evaluate(tmp_path, *arguments, code=0) -> dict:
    output = tmp_path / "many.json"
    assert main(["evaluate", *map(str, arguments), "--output", str(output)]) == code
    return json.loads(output.read_text())


def test_a_pattern_scores_each_and_all_and_says_what_failed(three, sequence, tmp_path, monkeypatch, capsys):
    made = knows_the_truth(monkeypatch, sequence)
    metrics = evaluate(tmp_path, three / "*.mcap", "--report", tmp_path / "r.html", code=1)
    names = [str(three / name) for name in ("a.mcap", "b.mcap")]
    assert list(metrics["recordings"]) == names and metrics["frames"] == 2 * STEPS
    assert [each["frames"] for each in metrics["recordings"].values()] == [STEPS, STEPS]
    (failed,) = metrics["failed"]
    assert failed["recording"].endswith("broken.mcap") and "is no MCAP file" in failed["error"]
    assert metrics["depth"]["front"]["frames"] == 2 * STEPS and metrics["trajectory"]["pieces"] == 2
    assert metrics["trajectory"]["ate"]["none"]["rmse"] == pytest.approx(0.0, abs=1e-6)
    assert len(made) == 1  # the network stays loaded
    printed = capsys.readouterr()
    assert "broken.mcap" in printed.err and "a.mcap: 8 frames in 1 parts" in printed.out
    page = (tmp_path / "r.html").read_text()
    assert page.count("<details ") == page.count('class="cloud"') == 2
    assert "Failed: the numbers above do not know of this" in page
    for number, name in enumerate(names, 1):
        assert f'<td><a href="#recording-{number}">{name}</a></td><td>{STEPS}</td>' in page


def test_what_is_of_single_recordings_is_not_said_of_all(three, sequence, tmp_path, monkeypatch):
    knows_the_truth(monkeypatch, sequence)
    collect, rendered = segments.Evaluation.collect, {"views": 3, "psnr": 20.0, "ssim": 0.5}

    def collect_more(self):
        found = collect(self)
        found.novel_views = rendered
        return found

    monkeypatch.setattr(segments.Evaluation, "collect", collect_more)
    metrics = evaluate(tmp_path, three / "*.mcap", "--report", "none", code=1)
    assert [each["novel_views"] for each in metrics["recordings"].values()] == [rendered, rendered]
    assert metrics["novel_views"] is None


def test_a_pattern_that_fits_nothing_and_recordings_that_are_all_broken(three, tmp_path, capsys):
    output = ["--output", str(tmp_path / "m.json")]
    assert main(["evaluate", str(three / "*.db3"), *output]) == 2
    assert "nothing fits the pattern" in capsys.readouterr().err
    assert main(["evaluate", str(three / "brok*.mcap"), "--segment", "1", *output]) == 2
    assert "is no MCAP file" in capsys.readouterr().err and not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--segment", "1", "--surface", "eth3d"], "need whole recordings"),
        (["--segment", "1", "--external", "poses.tum"], "are for one recording"),
        (["--workers", "2"], "give --ray too"),
        (["--segment", "-1"], "must not be below 0"),
    ],
)
def test_what_does_not_go_together_is_said(bag, tmp_path, capsys, more, wanted):
    assert main(["evaluate", str(bag), *more, "--output", str(tmp_path / "m.json")]) == 2
    assert wanted in capsys.readouterr().err


def test_parts_find_what_the_whole_finds(bag, tmp_path):
    """The network's windows are full at the start of each part, so that every depth is the same."""
    whole = evaluate(tmp_path, bag, *QUICK)
    parts = evaluate(tmp_path, bag, *QUICK, "--segment", "0.25")
    assert parts["recordings"][str(bag)]["segments"] == 3
    assert parts["run"]["sets"] == parts["run"]["estimates"] == whole["run"]["estimates"] == STEPS
    assert_equal(parts["depth"], whole["depth"])
    assert parts["windows"]["count"] == whole["windows"]["count"]
    assert parts["windows"]["auc"] == pytest.approx(whole["windows"]["auc"])
    assert parts["trajectory"]["pieces"] == 3 and parts["trajectory"]["associated_poses"] == STEPS
    assert whole["trajectory"]["positions"]["starts"] == [0]
    assert len(parts["trajectory"]["positions"]["starts"]) == 3


def test_what_is_lost_of_one_recording_is_not_said_of_another(bag, tmp_path, monkeypatch, sequence):
    knows_the_truth(monkeypatch, sequence)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    metrics = evaluate(tmp_path, bag, cut, "--report", "none")
    whole, part = (metrics["recordings"][str(path)]["lost"] for path in (bag, cut))
    assert whole == [] and part and metrics["lost"] == [f"{cut}: {text}" for text in part]


def test_images_that_cannot_be_used_are_counted_once(bag, tmp_path, capsys):
    """Also those before a part, which are to fill its window, and those that are read beyond its end."""
    damaged = tmp_path / "damaged.mcap"
    with new_recording(damaged) as writer:
        source, images = Bag([bag]), 0
        for raw in source.raw():
            images += raw.topic == "/front/image_raw"
            bad = raw.topic == "/front/image_raw" and images in (1, 3, 6)
            data = raw.data.replace(b"rgb8", b"rgb9") if bad else raw.data
            writer.write_raw(raw.topic, source.topics[raw.topic].type, raw.receive_ns, data, source.ros2_types())
    for parts in ((), ("--segment", "0.25")):
        run = evaluate(tmp_path, damaged, *QUICK, "--report", "none", *parts)["run"]
        assert (run["sets"], run["estimates"]) == (STEPS, STEPS - 3)
        assert run["dropped"] == {"front: encoding": 3}
        assert "not used: 3 images of front: encoding" in capsys.readouterr().err


@pytest.fixture
def in_narrow_parts(sequence, monkeypatch):
    """Parts that read little of the truth beside them, and a pipeline that knows it all."""
    knows_the_truth(monkeypatch, sequence)
    monkeypatch.setattr(TruthfulPipeline, "reset", lambda self: None)
    monkeypatch.setattr(TruthfulPipeline, "set_rig", lambda self, rig: None)
    monkeypatch.setattr(ground_truth, "_SLACK_NS", 150_000_000)
    monkeypatch.setattr(stamped, "_SLACK_NS", 150_000_000)


def test_what_is_damaged_in_parts_of_a_recording_counts_once(bag, tmp_path, in_narrow_parts):
    """True depth and poses, of which parts see different ones, and both what is at their edges."""
    damaged = tmp_path / "damaged.mcap"
    source, seen = Bag([bag]), Counter()
    with new_recording(damaged) as out:
        for raw in source.raw():
            kind, data, number = source.topics[raw.topic].type, raw.data, seen[raw.topic]
            seen[raw.topic] += 1
            if raw.topic == "/front/ground_truth/depth" and number in (1, 3, 4, 6):
                data = data[:9]
            if raw.topic == "/ground_truth/odometry" and number in (1, 5):
                data = data[:9]
            if raw.topic == "/ground_truth/odometry" and number in (0, 4, 7):
                message = source.deserialize(raw)
                message.pose.pose.position.x = float("nan")
                out.write(raw.topic, raw.receive_ns, message)
                continue
            out.write_raw(raw.topic, kind, raw.receive_ns, data, source.ros2_types())
    lost = [f"{n} messages of {topic} cannot be deserialized"
            for n, topic in ((2, "/ground_truth/odometry"), (4, "/front/ground_truth/depth"))]  # fmt: skip
    for parts in ((), ("--segment", "0.25")):
        metrics = evaluate(tmp_path, damaged, *QUICK, "--report", "none", *parts)
        assert sorted(metrics["lost"]) == lost
        assert [text for text in metrics["notes"] if "true poses" in text] == [
            "3 true poses are no rotation and finite place: left out"
        ]
        assert metrics["depth"]["front"]["frames"] == STEPS - 4


def test_parts_without_true_transforms_keep_their_depth(bag, tmp_path, in_narrow_parts):
    """As without true poses on a topic."""
    source, half, seen = Bag([bag]), tmp_path / "half.mcap", 0
    with new_recording(half) as out:
        for raw in source.raw():
            seen += raw.topic == "/tf"
            if raw.topic != "/tf" or seen < STEPS // 2:
                kind = source.topics[raw.topic].type
                out.write_raw(raw.topic, kind, raw.receive_ns, raw.data, source.ros2_types())
    truth = ["--pose-tf", "world:ground_truth/base_link", "--pose-frame", "base_link", "--report", "none"]
    metrics = evaluate(tmp_path, half, *QUICK, *truth, "--segment", "0.2")
    assert metrics["failed"] == [] and metrics["depth"]["front"]["frames"] == STEPS
    assert metrics["trajectory"]["associated_poses"] == STEPS // 2 - 1
    assert "there are no transforms world:ground_truth/base_link of some parts: no errors there" in metrics["notes"]


@pytest.fixture
def unlike(bag, sequence, tmp_path):
    """A folder of three recordings: whole, with true poses of another clock, and without any truth."""
    folder = tmp_path / "unlike"
    folder.mkdir()
    (folder / "a.mcap").symlink_to(bag)
    truth_changed(bag, folder / "late.mcap", other_clock)

    def bare():
        for step in sequence.read():
            (image,) = step.images
            yield replace(step, images=(replace(image, depth=None),), T_world_tracked=None)

    write_sequence(replace(sequence, read=bare), folder / "without.mcap", "raw")
    return folder


def test_a_recording_whose_truth_does_not_fit_costs_the_others_nothing(bag, unlike, sequence, tmp_path, monkeypatch):
    knows_the_truth(monkeypatch, sequence)
    alone = evaluate(tmp_path, bag, "--report", "none")
    metrics = evaluate(tmp_path, unlike / "*.mcap", "--report", tmp_path / "r.html")
    whole, late, without = (metrics["recordings"][str(unlike / name)] for name in
                            ("a.mcap", "late.mcap", "without.mcap"))  # fmt: skip
    assert metrics["failed"] == [] and metrics["frames"] == 3 * STEPS
    assert whole["trajectory"]["associated_poses"] == STEPS
    assert late["trajectory"] is without["trajectory"] is None and late["windows"] is without["windows"] is None
    assert any("no estimated pose is within 0.02 s" in note for note in late["notes"])
    assert any("there are no true poses" in note for note in without["notes"])
    assert late["depth"]["front"]["frames"] == STEPS and without["depth"] == {}
    # All together are the errors of what has a truth.
    assert_equal(metrics["windows"], alone["windows"])
    for name in ("ate", "rpe", "auc", "scale_error", "associated_poses"):
        assert_equal(metrics["trajectory"][name], alone["trajectory"][name])
    assert metrics["trajectory"]["estimated_poses"] == 2 * STEPS  # as many are of a recording with true poses
    assert metrics["depth"]["front"]["frames"] == 2 * STEPS
    assert any(note.startswith(f"{unlike / 'late.mcap'}: ") for note in metrics["notes"])
    page = (tmp_path / "r.html").read_text()
    assert page.count("<details ") == 3 and "no estimated pose is within 0.02 s" in page
    # Each says where its truth is from; all together what they have alike.
    poses = [each["run"]["evaluated_with"]["true_poses"] for each in (whole, late, without)]
    assert poses == ["/ground_truth/odometry", "/ground_truth/odometry", None]
    assert metrics["run"]["evaluated_with"] == {"tolerance_s": 0.02, "max_depth_m": None, "true_depth": {}}
    assert metrics["run"]["node_parameters"] == whole["run"]["node_parameters"]
    assert page.count("<td>true poses from</td><td>/ground_truth/odometry</td>") == 2


@pytest.mark.slow
def test_recordings_whose_truth_does_not_fit_on_a_cluster(unlike, tmp_path):
    ray = pytest.importorskip("ray", reason="the cluster needs the extra ray")
    here = evaluate(tmp_path, unlike / "*.mcap", *QUICK, "--segment", "0.4", "--report", "none")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        options = ("--segment", "0.4", "--ray", "auto", "--workers", "2", "--report", "none")
        cluster = evaluate(tmp_path, unlike / "*.mcap", *QUICK, *options)
    finally:
        ray.shutdown()
    assert cluster["failed"] == [] and cluster["trajectory"]["associated_poses"] == STEPS
    for name in ("depth", "trajectory", "windows", "consistency", "notes"):
        assert_equal(cluster[name], here[name])


def assert_equal(a, b):
    if isinstance(b, dict):
        assert a.keys() == b.keys()
        for key in b:
            assert_equal(a[key], b[key])
    elif isinstance(b, list):
        for pair in zip(a, b, strict=True):
            assert_equal(*pair)
    elif isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    else:
        assert a == b


def result() -> SegmentResult:
    return SegmentResult(Findings(source={}), None, None)


class Scripted:
    """Workers that answer what they are told to, in the order in which they were started."""

    def __init__(self, count, answers):
        self.count, self._answers, self.started, self._running = count, answers, [], []

    def start(self, worker, recording, segment):
        self.started.append((worker, segment))
        self._running.append((worker, segment))

    def wait(self):
        worker, segment = self._running.pop(0)
        answers = self._answers.get(segment, [])
        return worker, answers.pop(0) if answers else result()


def parts(recording, count):
    return [Segment(recording, number, count, Span(number, number + 1)) for number in range(count)]


def test_failed_parts_are_tried_three_times_unless_that_cannot_help():
    first, second, third = parts(0, 3)
    died = Failure("the worker died", final=False)
    workers = Scripted(2, {first: [died, died], second: [Failure("no such topic", final=True)], third: [died] * 3})
    told = []
    results, lost = run_segments(["a"], parts(0, 3), workers, failed=lambda s, text, again: told.append((s, again)))
    assert set(results) == {first}
    assert [(each.segment, each.attempts, each.error) for each in lost] == [
        (second, 1, "no such topic"),
        (third, 3, "the worker died"),
    ]
    assert told.count((first, True)) == 2 and told.count((third, True)) == 2 and (second, False) in told


def test_workers_go_through_recordings_in_order_and_steal_from_the_end():
    queue = SegmentQueue([*parts(0, 4), *parts(1, 2)])
    taken = [(worker, queue.take(worker)) for worker in (0, 1, 0, 1, 1, 0)]
    found = [(worker, segment.recording, segment.number) for worker, segment in taken]
    # Worker 1 is done with its own recording and steals the last part of the other one.
    assert found == [(0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1), (1, 0, 3), (0, 0, 2)]
    assert queue.take(0) is None


def test_without_ray_the_same_runs_here(bag, tmp_path, monkeypatch, capsys, sequence):
    import sys

    knows_the_truth(monkeypatch, sequence)
    monkeypatch.setitem(sys.modules, "ray", None)
    metrics = evaluate(tmp_path, bag, "--ray", "auto", "--segment", "0.4")
    assert metrics["frames"] == STEPS and metrics["recordings"][str(bag)]["segments"] == 2
    assert "pip install ray" in capsys.readouterr().err
    assert main(["evaluate", str(bag), "--ray", "10.0.0.1:6379", "--output", str(tmp_path / "n.json")]) == 2
    assert "pip install ray" in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_of_which_one_is_killed(bag, tmp_path, capsys):
    """One worker gets SIGKILL when it has just been given a part: another one does it, and all numbers are those of one
    process."""
    ray = pytest.importorskip("ray", reason="the cluster needs the extra ray")
    from da3_ros.evaluation.ray_workers import RayWorkers

    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("a.mcap", "b.mcap"):
        (folder / name).symlink_to(bag)
    here = evaluate(tmp_path, folder / "*.mcap", *QUICK, "--segment", "0.25")
    killed = []
    start = RayWorkers.start

    def start_and_kill(self, worker, recording, segment):
        if not killed and self._running:  # both workers are busy from now on
            killed.append(ray.get(self._actors[worker].pid.remote()))
            start(self, worker, recording, segment)
            os.kill(killed[0], signal.SIGKILL)
        else:
            start(self, worker, recording, segment)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RayWorkers, "start", start_and_kill)
            cluster = evaluate(
                tmp_path, folder / "*.mcap", *QUICK, "--segment", "0.25", "--ray", "auto", "--workers", "2",
                "--report", tmp_path / "r.html",
            )  # fmt: skip
    finally:
        ray.shutdown()
    assert killed and len(cluster["retried"]) == 1 and "the worker died" in cluster["retried"][0]
    assert cluster["failed"] == []
    for name in ("depth", "trajectory", "windows", "consistency"):
        assert_equal(cluster[name], here[name])
    assert "Tried again" in (tmp_path / "r.html").read_text()


@pytest.mark.slow
def test_each_worker_of_a_cluster_has_a_gpu_of_its_own(tmp_path):
    """On GPUs that Ray is only told of: without a count there are as many workers, and no more are to be had."""
    ray = pytest.importorskip("ray", reason="the cluster needs the extra ray")
    from da3_ros.evaluation.ray_workers import RayWorkers

    ray.init(num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with RayWorkers("auto") as workers:
            calls = [actor.__ray_call__ for actor in workers._actors]
            seen = ray.get([call.remote(lambda _: os.environ["CUDA_VISIBLE_DEVICES"]) for call in calls])
            assert sorted(seen) == ["0", "1"]
            # What one machine cannot open, another one may: it is tried again.
            missing = Recording((tmp_path / "missing.mcap",), from_flat({"cameras": ["front"]}), EvaluationSettings())
            workers.start(0, missing, parts(0, 1)[0])
            worker, outcome = workers.wait()
            assert worker == 0 and not outcome.final and "there is no recording" in outcome.error
        with RayWorkers("auto", on_cpu=True) as workers:
            assert workers.count == 2
        with pytest.raises(ConfigError, match="3 workers are asked for, but the cluster has 2 GPUs"):
            RayWorkers("auto", 3)
    finally:
        ray.shutdown()


@pytest.mark.gpu
def test_recordings_on_a_cluster_of_two_gpus(bag, tmp_path):
    """Each worker has its network on a card of its own, and all numbers are those of one process on one of them."""
    ray = pytest.importorskip("ray", reason="the cluster needs the extra ray")
    from da3_ros.evaluation.ray_workers import RayWorkers

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("a.mcap", "b.mcap"):
        (folder / name).symlink_to(bag)
    options = (*QUICK[:-2], "model.device=cuda", "--segment", "0.4", "--report", "none")
    here = evaluate(tmp_path, folder / "*.mcap", *options)
    cards, close = {}, RayWorkers.close

    def card(_):
        import torch

        return str(torch.cuda.get_device_properties(0).uuid), torch.cuda.device_count(), torch.cuda.memory_allocated()

    def looked_at(self):
        cards.update({number: ray.get(actor.__ray_call__.remote(card)) for number, actor in enumerate(self._actors)})
        close(self)

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RayWorkers, "close", looked_at)
            cluster = evaluate(tmp_path, folder / "*.mcap", *options, "--ray", "auto", "--workers", "2")
    finally:
        ray.shutdown()
    print(f"cards of the workers (uuid, how many it sees, bytes of it in use): {cards}")
    assert len(cards) == 2 and len({uuid for uuid, _, _ in cards.values()}) == 2
    assert all(visible == 1 and used > 0 for _, visible, used in cards.values())
    assert cluster["failed"] == [] and cluster["retried"] == []
    for name in ("depth", "trajectory", "windows", "consistency"):
        assert_equal(cluster[name], here[name])


def test_paths_for_workers_elsewhere_are_absolute(bag, sequence, tmp_path, monkeypatch):
    import sys

    knows_the_truth(monkeypatch, sequence)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(bag.parent)
    metrics = evaluate(tmp_path, bag.name, "--ray", "auto")
    assert metrics["bags"] == [str(bag)]
