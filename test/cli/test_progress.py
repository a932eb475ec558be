"""Who looks at a terminal sees how far the work is and how long it will still take; files get no bars."""

import fcntl
import itertools
import os
import pty
import re
import struct
import sys
import termios
from threading import Thread

import numpy as np
import pytest
from recording_helpers import STEPS, TruthfulPipeline, depth, pose, stamp

from da3_ros.cli import replay
from da3_ros.cli.main import main
from da3_ros.evaluation import segments
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum

LEAN = ["--set", "publish.points=false", "publish.merged_points=false"]
OF_TIME = r"(\d+)%\|[^|]*\| ([\d.]+) of ([\d.]+) s recorded \[[\d:]+, ([\d:]+|\?) left\]"
OF_PICTURES = r"(\d+)%\|[^|]*\| (\d+)/(\d+) \[[\d:]+<([\d:]+|\?),"


@pytest.fixture
def seen_on_a_terminal(monkeypatch):
    """Run a command with standard error on a pseudo-terminal of 120 columns; gives the bars, each with all that it was.

    A second passes each time that one looks at the clock.
    """

    def run(*arguments: str) -> list[str]:
        reader, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        seen: list[bytes] = []

        def read() -> None:
            try:
                while data := os.read(reader, 65536):
                    seen.append(data)
            except OSError:  # the other end is closed
                pass

        thread = Thread(target=read)
        thread.start()
        clock = itertools.count(1000.0)
        with monkeypatch.context() as patch, os.fdopen(terminal, "w") as stream:
            patch.setattr(sys, "stderr", stream)
            patch.setattr("tqdm.std.time", lambda: next(clock))
            code = main(list(arguments))
        thread.join()
        os.close(reader)
        assert code == 0, b"".join(seen)
        return [line for line in b"".join(seen).decode().split("\r\n") if line.startswith("\r")]

    return run


@pytest.fixture(autouse=True)
def truthful(sequence, monkeypatch):
    """No network: the pipeline of both commands knows the truth."""

    class Described(TruthfulPipeline):
        description = {"variant": "truth", "weights_trained": True}

        def reset(self):
            pass

        def set_rig(self, rig):
            pass

    for module in (segments, replay):
        monkeypatch.setattr(module, "Pipeline", lambda config, repeatable: Described(sequence.cameras[0]))


def assert_goes_to_the_end(lines: str, bar: str, total: str) -> None:
    """The bar moves, the time that is left becomes less, and nothing is left at the end."""
    found = re.findall(bar, lines)
    assert {each[2] for each in found} == {total}, lines
    percents = [int(each[0]) for each in found]
    assert percents == sorted(percents) and len(set(percents)) >= STEPS - 1
    assert percents[-1] == 100 and found[-1][1] == total
    left = [
        60 * int(minutes) + int(seconds)
        for minutes, seconds in re.findall(r"(\d+):(\d+)", " ".join(each[3] for each in found))
    ]
    assert left[1:] == sorted(left[1:], reverse=True) and left[0] >= 2 and left[-1] == 0  # the first is a guess


def test_replay(bag, tmp_path, seen_on_a_terminal):
    (run,) = seen_on_a_terminal("replay", str(bag), "--output", str(tmp_path / "out.mcap"), *LEAN)
    assert_goes_to_the_end(run, OF_TIME, "0.7")


def test_evaluate(bag, tmp_path, seen_on_a_terminal):
    poses, run, page = seen_on_a_terminal("evaluate", str(bag), "--output", str(tmp_path / "m.json"))
    assert_goes_to_the_end(run, OF_TIME, "0.7")
    for name, lines in (("poses", poses), ("pictures for the page", page)):
        assert lines.startswith(f"\r{name}: ")
        assert_goes_to_the_end(lines, OF_TIME, "0.7")


def test_evaluate_what_was_recorded(bag, tmp_path, seen_on_a_terminal):
    assert main(["replay", str(bag), "--output", str(tmp_path / "out.mcap"), *LEAN]) == 0
    options = ("--estimates", str(tmp_path / "out.mcap"), "--output", str(tmp_path / "m.json"), "--report", "none")
    _, poses, run = seen_on_a_terminal("evaluate", str(bag), *options)
    assert poses.startswith("\rposes: ")
    assert_goes_to_the_end(run, OF_TIME, "0.7")


@pytest.mark.parametrize("stamped", [True, False])
def test_evaluate_another_program_s(bag, tmp_path, seen_on_a_terminal, stamped):
    folder = tmp_path / "depth"
    folder.mkdir()
    for step in range(STEPS):
        np.save(folder / f"{stamp(step) if stamped else step}.npy", np.nan_to_num(depth(step)))
    stamps = np.array([stamp(step) for step in range(STEPS)])
    write_tum(tmp_path / "poses.tum", Trajectory(stamps, np.stack([pose(step) for step in range(STEPS)])))
    options = ("--external", str(tmp_path / "poses.tum"), "--external-depth", str(folder), "--report", "none")
    _, *stamps_read, run = seen_on_a_terminal("evaluate", str(bag), "--output", str(tmp_path / "m.json"), *options)
    assert_goes_to_the_end(run, OF_PICTURES, str(STEPS))
    assert bool(stamps_read) is not stamped
    for lines in stamps_read:
        assert lines.startswith("\rstamps of pictures: ")
        assert_goes_to_the_end(lines, OF_TIME, "0.7")


def test_evaluate_parts(bag, tmp_path, seen_on_a_terminal):
    """The bar of the part that is being worked on goes away; that of the parts stays."""
    lines = seen_on_a_terminal(
        "evaluate", str(bag), "--segment", "0.35", "--output", str(tmp_path / "m.json"), "--report", "none"
    )
    assert re.search(r"100%\|[^|]*\| 2/2 \[", lines[-1]), lines
    assert re.search(OF_TIME, "".join(lines))


def test_a_file_gets_no_bars(bag, tmp_path, capsys):
    assert main(["replay", str(bag), "--output", str(tmp_path / "out.mcap"), *LEAN]) == 0
    assert main(["evaluate", str(bag), "--output", str(tmp_path / "m.json")]) == 0
    assert capsys.readouterr().err == ""
