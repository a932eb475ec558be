"""Run files: every mistake is named, all at once; and which samples a step sees."""

from pathlib import Path

import pytest
import torch
from training_helpers import tiny_run

from da3_ros.errors import ConfigError
from da3_ros.training.config import LossWeights, Shape, read_run
from da3_ros.training.data import FIRST_TRAINING_SEED, draw_reference, sample_seeds, shape_of

CPU = torch.device("cpu")


def read(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    return read_run(tmp_path / "run.yaml")


GOOD = "steps: 10\nshapes: [{views: 3, height: 168, width: 224, batch: 4}]\n"


def test_a_run(tmp_path):
    config = read(tmp_path, GOOD + "learning_rate: 1e-3\nlosses: {gradient: 0.5}\n")
    assert config.learning_rate == 0.001 and config.variant == "da3-nano"
    assert config.shapes == (Shape(3, 168, 224, 4, 1.0),)
    assert config.losses == LossWeights(gradient=0.5)


def test_all_mistakes_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, "shapes: [{views: 3, height: 168, wdith: 224, batch: 4}]\nsteps: many\nlearning_rte: 1\n")
    message = str(error.value)
    for part in (
        "unknown shapes.wdith (did you mean width?)", "shapes.width is missing", "steps is 'many' but must be int",
        "unknown learning_rte (did you mean learning_rate?)",
    ):  # fmt: skip
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(("line", "complaint"), [
    ("variant: da3-huge", "variant is 'da3-huge' but must be one of: da3-nano, da3-small"),
    ("variant: da3metric-large", "must be one of"),
    ("decay: 1.5", "decay is 1.5 but must be 0 to 1"),
    ("shapes: []", "shapes is empty"),
    ("shapes: [{views: 1, height: 100, width: 224, batch: 4}]", "100 x 224 must be multiples of 14"),
    ("bf16: 1", "bf16 is 1 but must be bool"),
])  # fmt: skip
def test_contradictions(tmp_path, line, complaint):
    name = line.partition(":")[0]
    kept = "".join(one + "\n" for one in GOOD.splitlines() if not one.startswith(name + ":"))
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path, kept + line)


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml is no readable YAML file"):
        read_run(tmp_path / "none.yaml")


OURS = sorted((Path(__file__).parents[2] / "config" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", OURS, ids=[path.stem for path in OURS])
def test_our_own_runs(path):
    read_run(path)


def test_no_sample_is_seen_twice():
    """Over steps, processes and runs, and none that evaluation may use."""
    seen = torch.cat([
        sample_seeds(seed, step, rank, batch, CPU)
        for seed in (0, 1) for step in (0, 1, 2**24 - 1) for rank in (0, 63) for batch in (1024,)
    ])  # fmt: skip
    assert len(seen.unique()) == len(seen) and seen.min() >= FIRST_TRAINING_SEED
    assert torch.equal(sample_seeds(1, 5, 2, 8, CPU), sample_seeds(1, 5, 2, 8, CPU))


def test_kinds_of_batches_come_in_their_shares():
    config = tiny_run(shapes=(Shape(2, 28, 42, 2, share=3.0), Shape(1, 42, 28, 3, share=1.0)))
    drawn = [shape_of(config, step).views for step in range(400)]
    assert 260 < drawn.count(2) < 340
    assert drawn == [shape_of(config, step).views for step in range(400)]


def test_reference_views():
    shape = Shape(4, 28, 28, 64)
    drawn = draw_reference(0, 7, 0, shape, 16, CPU)
    assert drawn[:16].abs().max() == 0 and drawn[16:].unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(drawn, draw_reference(0, 7, 0, shape, 16, CPU))
    assert not torch.equal(drawn, draw_reference(0, 8, 0, shape, 16, CPU))
