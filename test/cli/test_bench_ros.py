"""`da3-ros bench --ros`: its figures, its search for a rate, its refusals, and one real run over DDS."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from da3_ros.cli import bench_ros
from da3_ros.cli.bench_ros_figures import Answers, Sent, evaluate
from da3_ros.cli.bench_ros_run import RosSettings, Trial, cpu_seconds
from da3_ros.cli.main import main
from da3_ros.errors import UnavailableError

MS = 1_000_000
SECOND = 1000 * MS
TOPICS = ("/a/depth", "/a/points", "/window")
PERIOD = SECOND // 10
STAMPS = [100 * SECOND + index * PERIOD for index in range(20)]


def answers(published_ms, topics=3, stamps=STAMPS):
    """Each of ``stamps`` answered on ``topics`` topics so many milliseconds later, and received 2 ms after that."""
    return Answers(
        TOPICS,
        {
            stamp: (topics, stamp + ms * MS, stamp + (ms + 2) * MS)
            for stamp, ms in zip(stamps, published_ms, strict=True)
        },
    )


def figures(heard, **cameras):
    cameras = {name: Sent(stamps, 0) for name, stamps in cameras.items()} or {"a": Sent(STAMPS, 0)}
    return evaluate(cameras, heard, STAMPS[0], STAMPS[0] + 2 * SECOND)


def test_everything_answered():
    found = figures(answers(range(1, 21)))
    assert (found.sent, found.answered, found.dropped, found.held) == (20, 20, 0, True)
    assert found.answered_hz == 10.0
    assert (found.published.p50, found.published.most) == (10.5, 20.0)
    assert found.published.p95 == pytest.approx(19.05)
    assert found.received.p50 == 12.5


def test_a_set_is_answered_when_all_topics_have_come():
    heard = answers([5] * 20)
    partly = {**heard.times, STAMPS[3]: (2, STAMPS[3] + 900 * MS, STAMPS[3] + 900 * MS)}
    found = figures(replace(heard, times=partly))
    assert (found.answered, found.dropped, found.held) == (19, 1, False)
    assert found.published.most == 5.0, "what is not answered has no latency"
    missing = {stamp: times for stamp, times in heard.times.items() if stamp != STAMPS[7]}
    assert figures(replace(heard, times=missing)).dropped == 1


def test_a_stamp_that_a_camera_missed_is_not_the_node_s_fault():
    found = figures(answers([5] * 20), a=STAMPS, b=STAMPS[1:])
    assert (found.sent, found.incomplete, found.answered, found.held) == (19, 1, 19, True)


def test_only_the_measured_time_counts():
    found = evaluate({"a": Sent(STAMPS, 0)}, answers([5] * 20), STAMPS[5], STAMPS[10])
    assert (found.sent, found.answered, found.seconds) == (5, 5, 0.5)


def test_nothing_answered_is_not_held_and_has_no_latency():
    found = figures(Answers(TOPICS, {}))
    assert not found.held and found.answered_hz == 0 and found.published.p95 != found.published.p95
    assert not evaluate({"a": Sent([], 0)}, Answers(TOPICS, {}), 0, SECOND).held, "nothing was sent"
    assert figures(Answers((), {stamp: (0, stamp, stamp) for stamp in STAMPS})).answered == 0


class Node:
    """Answers everything up to a rate; ``moody`` rates are held in short trials only."""

    def __init__(self, most_hz, moody=()):
        self.most_hz, self.moody = most_hz, moody
        self.tried = []

    def trial(self, rate_hz, seconds):
        self.tried.append((rate_hz, seconds))
        good = rate_hz <= self.most_hz and not (seconds == 60 and any(abs(rate_hz - bad) < 0.01 for bad in self.moody))
        heard = answers([5] * 20) if good else answers([5] * 20, topics=1)
        return Trial(rate_hz, figures(heard), 0.5, 0.1, {})


@pytest.mark.parametrize("most_hz", [0.3, 1.0, 3.1, 7.9, 23.0])
def test_the_rate_found_is_held_and_close_to_the_highest(most_hz):
    node = Node(most_hz)
    trial = bench_ros.find_held(node, 60)
    assert most_hz / 1.16 < trial.rate_hz <= most_hz and trial.figures.held
    assert node.tried[-1] == (trial.rate_hz, 60), "the whole measurement has the last word"
    assert all(seconds == 10 for _, seconds in node.tried[:-1])


def test_a_rate_that_is_not_held_for_long_is_lowered():
    assert bench_ros.find_held(Node(4.0, moody=(4.0,)), 60).rate_hz == pytest.approx(4.0 / 1.15)
    with pytest.raises(UnavailableError, match=r"lost even at 0\.125 Hz"):
        bench_ros.find_held(Node(0.1), 60)


@pytest.mark.parametrize(
    ("device", "published_ms", "verdict"), [("cuda", 30, "met"), ("cuda", 40, "missed"), ("cpu", 30, None)]
)
def test_the_target_holds_for_its_own_scenario(device, published_ms, verdict):
    settings = RosSettings("da3-base", 4, (720, 1280), 3, 504, device, "auto", "reliable")
    trial = Trial(30.0, figures(answers([published_ms] * 20)), 0.5, 0.1, {})
    assert bench_ros._row(settings, trial, 60, torch.device(device)).target == verdict
    assert bench_ros._row(replace(settings, cameras=3), trial, 60, torch.device(device)).target is None
    assert bench_ros._row(replace(settings, network=False), trial, 60, torch.device(device)).target is None


def test_cpu_time_of_a_process():
    busy = "t = __import__('time')\nwhile t.process_time() < 0.4: pass\nprint(flush=True)\nt.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
    child.stdout.readline()
    assert 0.3 < cpu_seconds(child.pid) < 5
    child.kill()
    child.communicate()
    with pytest.raises(UnavailableError, match="needs Linux"):
        cpu_seconds(child.pid)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cameras", "0"], "--cameras must be from 1 to 64"),
        (["--rate", "-1"], "--rate must be from 0"),
        (["--duration", "0.5"], "--duration must be at least 1"),
        (["-p", "window.set:=4"], "window.set"),
        (["-p", "nothing"], "-p takes NAME:=VALUE"),
        (["--sets", "99"], "window.sets"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(capsys, arguments, says):
    started = time.monotonic()
    assert main(["bench", "--ros", "--device", "cpu", "--rate", "1", *arguments]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert time.monotonic() - started < 60, "before anything is started"


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize("options", [[], ["--no-network"]])
def test_two_cameras_over_dds(capsys, options):
    """The node, two cameras and the meter as processes of their own; everything that is sent is answered."""
    own = os.getpid()
    arguments = ["--process-res", "56", "--image-size", "160x120", "--rate", "2", "--sets", "2", "--duration", "4"]
    assert main(["bench", "--ros", "--device", "cpu", *arguments, *options, "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["variant"], row["cameras"], row["image_width"], row["image_height"]) == ("da3-small", 2, 160, 120)
    assert row["network"] is not bool(options)
    assert 6 <= row["sent"] <= 9 and row["answered"] == row["sent"] and row["dropped"] == 0
    assert 0 < row["published_p50"] <= row["published_p95"] <= row["published_max"]
    assert row["published_p50"] <= row["received_p50"], "it is received after it was published"
    assert 0 < row["node_cpu"] < 4
    children = subprocess.run(["ps", "--ppid", str(own), "-o", "cmd="], capture_output=True, text=True).stdout
    assert "da3" not in children, "nothing is left behind"
