"""Replays that were interrupted, or whose disk is full: they go on, end with the same bytes, or say why not."""

import errno
import json
import re
import shutil

import pytest
from bag_helpers import START_NS, STEP_NS
from replay_helpers import run

from da3_ros.cli import replay as command
from da3_ros.cli.main import main
from da3_ros.egress.bag import BagWriter
from da3_ros.pipeline import Pipeline


def submitted(monkeypatch, interrupted_at):
    """Numbers of the sets that the pipeline gets from now on; the run that gives it one more is interrupted."""
    submit, numbers = Pipeline.submit, []

    def interrupted(self, frame_set, request):
        numbers.append((frame_set.stamp_ns - START_NS) // STEP_NS)
        if len(numbers) == interrupted_at:
            raise KeyboardInterrupt
        return submit(self, frame_set, request)

    monkeypatch.setattr(Pipeline, "submit", interrupted)
    return numbers


# The first part has the sets 0 to 2. The frame odom goes back to set 0; on a known rig a window stands for itself.
@pytest.mark.parametrize(
    ("parameters", "again"), [([], 3), (["model.pose_conditioning=rig", "window.sets=1"], 1)], ids=["tracked", "rig"]
)
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(bag, tmp_path, monkeypatch, capsys, parameters, again):
    monkeypatch.setattr(command, "PART_SETS", 3)
    assert run(bag, tmp_path / "whole.mcap", *parameters) == 0
    numbers = submitted(monkeypatch, interrupted_at=6)
    assert run(bag, tmp_path / "out.mcap", *parameters) == 130
    assert not (tmp_path / "out.mcap").exists()
    assert "going on" not in capsys.readouterr().err
    assert run(bag, tmp_path / "out.mcap", *parameters, "--json", str(tmp_path / "figures.json")) == 0
    assert numbers[6:] == list(range(3 - again, 7))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["resumed_at_set"], figures["again_sets"]) == (3, again)
    said = capsys.readouterr().err
    assert f"going on behind the first 3 sets, whose output is in {tmp_path / 'out.mcap.parts'}: " in said
    assert f"the network runs again over the last {again} of them" in said
    assert (tmp_path / "out.mcap").read_bytes() == (tmp_path / "whole.mcap").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "out.mcap", "whole.mcap"]


def test_the_help_says_what_an_interrupted_run_does_again(capsys):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "goes on when the same command is given again" in said and "network runs again from the start" in said


def test_a_run_that_is_interrupted_again_and_again_loses_no_part(bag, tmp_path, monkeypatch):
    """Also while it takes over what was written before."""
    monkeypatch.setattr(command, "PART_SETS", 2)
    assert run(bag, tmp_path / "whole.mcap", "--pass-through", "/chatter") == 0
    submitted(monkeypatch, interrupted_at=6)
    assert run(bag, tmp_path / "out.mcap", "--pass-through", "/chatter") == 130
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(BagWriter, "flush", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
            assert run(bag, tmp_path / "out.mcap", "--pass-through", "/chatter") == 130
    assert run(bag, tmp_path / "out.mcap", "--pass-through", "/chatter", "--json", str(tmp_path / "f.json")) == 0
    assert json.loads((tmp_path / "f.json").read_text())["resumed_at_set"] == 4
    assert (tmp_path / "out.mcap").read_bytes() == (tmp_path / "whole.mcap").read_bytes()


def test_a_damaged_part_is_not_gone_on_with(bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "PART_SETS", 3)
    submitted(monkeypatch, interrupted_at=6)
    assert run(bag, tmp_path / "out.mcap") == 130
    (file,) = (tmp_path / "out.mcap.parts").rglob("*.mcap")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    assert run(bag, tmp_path / "out.mcap") == 2
    said = capsys.readouterr().err
    assert "is damaged (crc validation failed" in said and f": delete {tmp_path / 'out.mcap.parts'}" in said
    (file,) = (tmp_path / "out.mcap.parts" / "before").rglob("*.mcap")
    file.unlink()
    assert run(bag, tmp_path / "out.mcap") == 2
    said = capsys.readouterr().err
    assert "cannot be read" in said and f": delete {tmp_path / 'out.mcap.parts'}" in said


@pytest.mark.parametrize("damage", ["no folder", "half a state", "another state"])
def test_parts_that_somebody_has_tidied_up_are_not_gone_on_with(bag, tmp_path, monkeypatch, capsys, damage):
    monkeypatch.setattr(command, "PART_SETS", 3)
    submitted(monkeypatch, interrupted_at=6)
    assert run(bag, tmp_path / "out.mcap") == 130
    parts = tmp_path / "out.mcap.parts"
    if damage == "no folder":
        shutil.rmtree(parts / "written")
    else:
        (parts / "state.json").write_text('{"sets": 2' if damage == "half a state" else '{"of": "something else"}')
    assert run(bag, tmp_path / "out.mcap") == 2
    assert re.search(r"out\.mcap\.parts is damaged \(.*\): delete it", capsys.readouterr().err)


def test_whole_parts_are_there_though_the_process_is_killed_at_once(bag, tmp_path, monkeypatch):
    """Nothing of what the state says is still in this process's memory."""
    monkeypatch.setattr(command, "PART_SETS", 3)
    sizes, boundary = [], command.Output.boundary

    def looked_at(self, number):
        boundary(self, number)
        state = self._folder / "state.json"
        if state.is_file():
            sizes.append((json.loads(state.read_text())["size"], self._writer.file.stat().st_size))

    monkeypatch.setattr(command.Output, "boundary", looked_at)
    assert run(bag, tmp_path / "out.mcap") == 0
    assert len(sizes) >= 2 and all(there >= said for said, there in sizes)


def test_a_disk_that_is_full_is_said_in_one_line(bag, tmp_path, monkeypatch, capsys):
    written = []

    def full(self, channel, *_):
        written.append(channel)
        if len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("da3_ros.egress.bag.McapFile.add_message", full)
    assert run(bag, tmp_path / "out.mcap") == 2
    error = capsys.readouterr().err.strip()
    assert "cannot be written: No space left on device" in error and error.count("\n") == 0
    assert len(written) == 31 and not (tmp_path / "out.mcap").exists()


def test_parts_of_another_run_are_not_gone_on_with(bag, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Pipeline, "submit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(bag, tmp_path / "out.mcap") == 130
    monkeypatch.undo()
    assert run(bag, tmp_path / "out.mcap", "window.stride=2") == 2
    assert "out.mcap.parts belongs to another replay" in capsys.readouterr().err
