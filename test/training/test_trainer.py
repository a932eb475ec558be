"""Runs: what is drawn, what a kill costs (nothing), what two processes do."""

import itertools
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_helpers import TINY, tiny_run, walls

from da3_ros.cli.main import main
from da3_ros.errors import ConfigError, WeightsError
from da3_ros.model import VARIANTS, load_model
from da3_ros.training import journal
from da3_ros.training.checkpoints import published
from da3_ros.training.config import Shape
from da3_ros.training.data import draw_decoded
from da3_ros.training.losses import LossWeights, objective
from da3_ros.training.parts import write_parts
from da3_ros.training.processes import Processes
from da3_ros.training.targets import make_targets
from da3_ros.training.trainer import Trainer

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


def make(folder, source=walls, **settings):
    return Trainer(tiny_run(**settings), source, folder, ALONE)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True))


class Killed(Exception):
    pass


class KilledAfter:
    def __init__(self, steps):
        self.left = steps

    def __call__(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return walls(*arguments)


def figures(folder):
    return [json.loads(line) for line in (folder / "figures.jsonl").read_text().splitlines()]


def test_a_killed_run_loses_nothing(tmp_path):
    """Killed after step 5, its last state being of step 3: the outcome is that of the unbroken run, bit for bit."""
    whole = make(tmp_path / "whole")
    assert whole.run()
    with pytest.raises(Killed):
        make(tmp_path / "killed", KilledAfter(5)).run()
    resumed = make(tmp_path / "killed")
    assert resumed.done == 3
    assert resumed.run() and resumed.done == 6
    assert same(whole, resumed)
    assert all(torch.equal(whole.mean.weights[name], value) for name, value in resumed.mean.weights.items())
    assert [one["step"] for one in figures(tmp_path / "killed")] == [2, 4, 6]
    losses = [[one["loss"] for one in figures(tmp_path / name)] for name in ("whole", "killed")]
    assert losses[0] == losses[1]


def test_a_killed_run_has_the_figures_up_to_its_last_state(tmp_path):
    """Those of the very step after which it was written, too, which come back from the device later."""
    with pytest.raises(Killed):
        make(tmp_path, KilledAfter(5), checkpoint_every=2).run()
    assert [one["step"] for one in figures(tmp_path)] == [2, 4]
    resumed = make(tmp_path, checkpoint_every=2)
    assert resumed.done == 4 and resumed.run()
    assert [one["step"] for one in figures(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("moment", ["the tensors are written", "the state's last file is written"])
def test_a_run_killed_while_it_saves_loses_nothing(tmp_path, monkeypatch, moment):
    """In the save after step 6 half of a file is written: what counts is the state of step 3, whole."""
    whole = make(tmp_path / "whole")
    whole.run()

    def half_of_tensors(tensors, folder, *arguments):
        if "step-00000006" in folder.name:
            (folder.parent / f"{folder.name}.partial").mkdir(parents=True)
            (folder.parent / f"{folder.name}.partial" / "part-001-of-002.safetensors").write_bytes(b"half")
            raise Killed
        write_parts(tensors, folder, *arguments)

    write_text = Path.write_text

    def half_of_text(path, text, *arguments, **named):
        if "step-00000006" in str(path):
            write_text(path, text[: len(text) // 2], *arguments, **named)
            raise Killed
        write_text(path, text, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "the tensors are written":
            patch.setattr("da3_ros.training.checkpoints.write_parts", half_of_tensors)
        else:
            patch.setattr(Path, "write_text", half_of_text)
        make(tmp_path / "killed").run()
    with (tmp_path / "killed" / "figures.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    resumed = make(tmp_path / "killed")
    assert resumed.done == 3 and resumed.run()
    assert same(whole, resumed)
    assert [one["step"] for one in figures(tmp_path / "killed")] == [2, 4, 6]
    assert [one.name for one in sorted((tmp_path / "killed" / "states").glob("step*"))] == [
        "step-00000003", "step-00000006",
    ]  # fmt: skip


def test_a_run_asked_to_end_finishes_its_step_and_goes_on_later(tmp_path):
    """SIGTERM, as a cluster sends it before it kills."""
    whole = make(tmp_path / "whole")
    whole.run()
    calls = []

    def terminated(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return walls(*arguments)

    ended = make(tmp_path / "ended", terminated)
    assert not ended.run()
    assert ended.done == 2
    resumed = make(tmp_path / "ended")
    assert resumed.done == 2 and resumed.run()
    assert same(whole, resumed)


def test_training_learns(tmp_path):
    """Walls whose colour tells their distance, for fifty steps: the loss falls to a fraction."""
    trainer = make(tmp_path, steps=50, shapes=(Shape(2, 28, 42, 4),), log_every=10, checkpoint_every=50, warmup=10)
    trainer.run()
    losses = [one["loss"] for one in figures(tmp_path)]
    assert losses[-1] < 0.4 * losses[0]


def test_a_time_budget_brings_the_descent_forward(tmp_path, monkeypatch):
    """A clock that runs one second a look: of 60 s less the reserve, the last third goes to the descent."""
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    shapes = (Shape(1, 28, 28, 2),)
    trainer = make(tmp_path, shapes=shapes, steps=10_000, decay=0.33, log_every=1, checkpoint_every=10_000, warmup=2)
    trainer.run(minutes=1.0)
    rates = [one["rate"] for one in figures(tmp_path)]
    assert trainer.done < 60 and trainer.done <= trainer.schedule.steps < 100
    assert 0.5 < trainer.schedule.decay_start / trainer.done < 0.8
    assert rates[-1] < 0.2 * max(rates)


class Board:
    """Stands for TensorBoard's writer."""

    def __init__(self):
        self.scalars, self.pictures = [], []

    def add_scalar(self, name, value, step):
        self.scalars.append((name, step))

    def add_image(self, name, image, step):
        self.pictures.append((step, image))

    def flush(self):
        pass

    def close(self):
        pass


def test_curves_and_pictures(tmp_path, monkeypatch):
    """A row for each view of image, true depth, predicted depth and confidence."""
    board = Board()
    monkeypatch.setattr(journal, "_open_board", lambda folder, done: board)
    make(tmp_path, shapes=(Shape(2, 28, 42, 2),), pictures_every=3).run()
    assert ("loss", 2) in board.scalars and ("gradient norm", 6) in board.scalars
    assert [step for step, _ in board.pictures] == [3, 6]
    assert {tuple(image.shape) for _, image in board.pictures} == {(3, 2 * 28, 4 * 42)}
    image = board.pictures[0][1]
    assert 0 <= image.min() and image.max() <= 1 and image.isfinite().all()


@pytest.mark.optional("tensorboard")
def test_tensorboard_has_the_curves_and_pictures_of_a_run_that_went_on(tmp_path):
    """Of both parts of a killed run: its files hold every report once, and the pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"shapes": (Shape(2, 28, 42, 2),), "pictures_every": 3}
    with pytest.raises(Killed):
        make(tmp_path, KilledAfter(6), **settings).run()        # one of them is for the picture
    make(tmp_path, **settings).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    written = figures(tmp_path)
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [
        (one["step"], pytest.approx(one["loss"])) for one in written
    ]
    assert {"samples/s", "rate", "gradient norm", "camera"} <= set(events.Tags()["scalars"])
    [name] = events.Tags()["images"]
    assert [one.step for one in events.Images(name)] == [3, 6]
    assert (events.Images(name)[0].height, events.Images(name)[0].width) == (2 * 28, 4 * 42)


def test_batches_may_be_used_several_times(tmp_path):
    """Each batch is made once for three steps, also where a run goes on in the middle of them."""
    made = []

    def source(seeds, views, size):
        made.append(int(seeds[0]))
        return walls(seeds, views, size)

    whole = make(tmp_path / "whole", source, uses=3)
    whole.run()
    assert len(made) == 2 and len(set(made)) == 2
    with pytest.raises(Killed):
        make(tmp_path / "killed", KilledAfter(1), uses=3, checkpoint_every=2).run()
    resumed = make(tmp_path / "killed", uses=3, checkpoint_every=2)
    assert resumed.done == 2 and resumed.run()
    assert same(whole, resumed)


def test_batches_may_be_made_together(tmp_path):
    """Three at once, of one kind: the same samples as one by one, also where a run goes on in the middle of them."""
    made = []

    def source(seeds, views, size):
        made.append(seeds.tolist())
        return walls(seeds, views, size)

    shapes = (Shape(2, 28, 42, 2),)
    whole = make(tmp_path / "whole", source, together=3, shapes=shapes)
    whole.run()
    assert [len(seeds) for seeds in made] == [6, 6] and len({seed for seeds in made for seed in seeds}) == 12
    one_by_one = make(tmp_path / "one", shapes=shapes)
    assert not same(whole, one_by_one)
    one_by_one.run()
    assert same(whole, one_by_one)
    with pytest.raises(Killed):
        make(tmp_path / "killed", KilledAfter(1), together=3, shapes=shapes, checkpoint_every=2).run()
    resumed = make(tmp_path / "killed", together=3, shapes=shapes, checkpoint_every=2)
    assert resumed.done == 2 and resumed.run()
    assert same(whole, resumed)


def test_dense_maps_may_be_made_of_some_pictures_only(tmp_path):
    """Of half of them, others in every step; cameras are learned of all."""
    batch = walls(torch.arange(3), 4, (28, 42))
    trainer = make(tmp_path, shapes=(Shape(4, 28, 42, 3),), decoded=0.5)
    drawn = [draw_decoded(0, step, 0, Shape(4, 28, 42, 3), 0.5, torch.device("cpu")).tolist() for step in range(20)]
    assert all(len(set(one)) == 6 for one in drawn) and {number for one in drawn for number in one} == set(range(12))
    decoded = torch.tensor([1, 2, 3, 7, 10, 11])
    whole = trainer.step_module.answer(batch, torch.zeros(3, dtype=torch.int64))
    some = trainer.step_module.answer(batch, torch.zeros(3, dtype=torch.int64), decoded=decoded)
    torch.testing.assert_close(some.depth, whole.depth[decoded])
    torch.testing.assert_close(some.ray, whole.ray[decoded])
    torch.testing.assert_close(some.centre, whole.centre)
    # Of pictures that are not decoded only the cameras count.
    targets = make_targets(batch, torch.zeros(3, dtype=torch.int64)).flat()
    spoilt_targets = replace(targets, depth=targets.depth.clone())
    spoilt_targets.depth[0] += 5.0
    loss = [objective(some, one.of(decoded), LossWeights())["loss"] for one in (targets, spoilt_targets)]
    assert loss[0] == loss[1]
    assert trainer.run()


def test_another_configuration_is_refused(tmp_path):
    make(tmp_path).run()
    with pytest.raises(ConfigError, match="holds a run with another learning_rate, ema: go on with its own"):
        make(tmp_path, learning_rate=0.5, ema=0.5)


def test_weights_go_from_run_to_run_and_into_the_published_layout(tmp_path, capsys):
    first = make(tmp_path / "first")
    first.run()
    second = make(tmp_path / "second", init=str(tmp_path / "first" / "weights"))
    for name, value in second.network.named_parameters():
        assert torch.equal(value, first.mean.weights[name].half().float()), name
    partly = make(tmp_path / "partly", init=str(tmp_path / "first" / "weights"), fresh="cam_dec")
    untrained = dict(make(tmp_path / "none").network.named_parameters())
    for name, value in partly.network.named_parameters():
        expected = untrained[name] if name.startswith("cam_dec.") else first.mean.weights[name].half().float()
        assert torch.equal(value, expected), name
    third = make(tmp_path / "third", init=str(tmp_path / "first" / "states"))
    assert all(torch.equal(value, first.mean.weights[name]) for name, value in third.network.named_parameters())

    assert main(["train", "export", str(tmp_path / "first"), "--output", str(tmp_path / "out.safetensors")]) == 0
    assert "out.safetensors: 0.78 M parameters, 1.6 MB" in capsys.readouterr().out
    model = load_model("tiny", tmp_path / "out.safetensors")
    assert all(torch.equal(value, first.mean.weights[name].half().float()) for name, value in model.named_parameters())


def test_the_mean_of_runs_and_files_is_exported(tmp_path, capsys):
    """Each counts the same; taken in fp32, so it may lie between two values of fp16."""
    first, second = make(tmp_path / "first"), make(tmp_path / "second", seed=5)
    first.run()
    second.run()
    network = make(tmp_path / "none").network
    save_file(published(dict(network.named_parameters()), torch.float32), tmp_path / "third.safetensors")
    weights = [str(tmp_path / name) for name in ("first", "second", "third.safetensors")]
    for dtype in ("float32", "float16"):
        output = tmp_path / "new" / f"{dtype}.safetensors"
        assert main(["train", "export", "--mean", *weights, "--output", str(output), "--dtype", dtype]) == 0
        assert f"{dtype}.safetensors: 0.78 M parameters" in capsys.readouterr().out
        written = load_file(output)
        assert written.keys() == published(dict(network.named_parameters()), torch.float32).keys()
        for name, value in network.named_parameters():
            mean = torch.stack([first.mean.weights[name], second.mean.weights[name], value.detach()]).double().mean(0)
            expected = mean.to(getattr(torch, dtype))
            assert written[f"model.{name}"].dtype == expected.dtype
            torch.testing.assert_close(written[f"model.{name}"], expected, rtol=1e-6 if dtype == "float32" else 1e-3,
                                       atol=1e-7)  # fmt: skip
    assert load_model("tiny", tmp_path / "new" / "float16.safetensors").variant.name == "tiny"


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"model.one": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not fit tiny"):
        make(tmp_path / "run", init=str(tmp_path / "other.safetensors"))


def test_gradients_reach_every_weight_that_counts(tmp_path):
    """With posed and unposed samples; but for the three auxiliary stacks that published files merely hold."""
    trainer = make(tmp_path, shapes=(Shape(3, 28, 42, 2),))
    batch = walls(torch.tensor([1, 2]), 3, (28, 42))
    trainer.step_module(batch, torch.tensor([0, 1]), posed=1)["loss"].backward()
    idle = {name for name, one in trainer.network.named_parameters() if one.requires_grad and not one.grad.any()}
    assert not idle
    frozen = {name for name, one in trainer.network.named_parameters() if not one.requires_grad}
    assert frozen and all("_aux." in name for name in frozen)
