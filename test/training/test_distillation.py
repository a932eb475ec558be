"""Distillation end to end: a recording with measured depth, a teacher, a student that learns what the teacher sees."""

import json

import numpy as np
import pytest
import torch
from model_helpers import make_network
from training_helpers import TINY

from da3_ros.cli import train_distill
from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_sequence import Sequence, SequenceCamera, SequenceImage, SequenceStep, frame_id
from da3_ros.cli.main import main
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.model import VARIANTS, save_checkpoint
from da3_ros.training.distillation import Lessons, Teacher
from da3_ros.training.recordings import read_windows

HEIGHT, WIDTH, SETS = 42, 56, 4
K = np.array([[40.0, 0, WIDTH / 2 - 0.5], [0, 40.0, HEIGHT / 2 - 0.5], [0, 0, 1]])
SCALE, SHIFT = 1.7, 0.4


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    monkeypatch.setattr(train_distill, "ANY_VIEW_VARIANTS", ("tiny",))


def picture(step):
    """A smooth picture that moves."""
    x = np.linspace(0, 3, WIDTH) + 0.3 * step
    y = np.linspace(0, 2, HEIGHT)[:, None]
    waves = [np.sin(x + y), np.cos(2 * x - y), np.sin(x * y)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def write_bag(path, depths):
    """Six moments of one camera; ``depths`` (4, H, W) of the first four, NaN where nothing was measured."""
    camera = SequenceCamera("front", frame_id("front"), CameraCalibration(WIDTH, HEIGHT, K), None)

    def read():
        for step in range(SETS + 2):
            depth = depths[step] if step < len(depths) else None
            image = SequenceImage("front", 10**18 + step * 10**8, picture(step), depth, None)
            yield SequenceStep(image.stamp_ns, (image,), None)

    write_sequence(Sequence("test", (camera,), SETS + 2, "base_link", read), path, "raw")
    return path


def what_the_teacher_sees(network):
    """Depth (4, H, W) of the first window."""
    images = torch.from_numpy(np.stack([picture(step) for step in range(SETS)])).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return network(((images - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))[None]).depth[0].numpy()


@pytest.fixture
def recorded(tmp_path):
    """Teacher, and a recording in which half of the pixels are measured, of these 40 % wrongly."""
    network = make_network(TINY)
    rng = np.random.default_rng(0)
    measured = SCALE * what_the_teacher_sees(network) + SHIFT
    measured = np.where(rng.random(measured.shape) < 0.4, rng.uniform(0.3, 20, measured.shape), measured)
    measured[rng.random(measured.shape) < 0.5] = np.nan
    return network, write_bag(tmp_path / "bag", measured.astype(np.float32))


def test_a_window_has_what_was_recorded(recorded):
    [window] = read_windows(recorded[1], [], SETS, WIDTH)
    assert np.array_equal(window.images[2].permute(1, 2, 0).numpy(), picture(2))
    assert window.content.all() and 0.4 < window.known.float().mean() < 0.6
    assert torch.allclose(window.K[0], torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]]))


def test_the_lesson_is_in_metres_in_spite_of_outliers(recorded):
    network, bag = recorded
    [window] = read_windows(bag, [], SETS, WIDTH)
    lesson = Teacher(network, seed=0).teach(window)
    assert lesson.aligned == SETS
    wanted = torch.from_numpy(SCALE * what_the_teacher_sees(network) + SHIFT)
    assert ((lesson.scene.depth / wanted - 1).abs() < 0.01).all()
    assert 0.85 < lesson.scene.valid.float().mean() < 0.95      # without the least confident tenth
    assert torch.equal(lesson.scene.K, window.K)


def test_without_measurements_the_teachers_unit_stays(tmp_path):
    network = make_network(TINY)
    [window] = read_windows(write_bag(tmp_path / "bag", []), [], SETS, WIDTH)
    lesson = Teacher(network, seed=0).teach(window)
    assert lesson.aligned == 0
    assert torch.allclose(lesson.scene.depth, torch.from_numpy(what_the_teacher_sees(network)), rtol=1e-4)


def test_depth_of_another_size_is_refused(tmp_path):
    bag = write_bag(tmp_path / "bag", np.ones((SETS, 20, 30), dtype=np.float32))
    with pytest.raises(InputError, match="depth of camera 'front' is 30x20 and its picture 56x42: record depth"):
        list(read_windows(bag, [], SETS, WIDTH))


def test_samples_are_stretches_of_windows(recorded):
    network, bag = recorded
    lessons = Lessons([Teacher(network, seed=0).teach(window) for window in read_windows(bag, [], SETS, WIDTH)],
                      torch.device("cpu"))  # fmt: skip
    batch = lessons(torch.arange(20), 2, (HEIGHT, WIDTH))
    assert batch.images.shape == (20, 2, 3, HEIGHT, WIDTH)
    taught = lessons.scenes[0].images
    starts = {next(i for i in range(SETS) if torch.equal(one[0], taught[i])) for one in batch.images}
    assert starts == {0, 1, 2}
    assert torch.equal(batch.images, lessons(torch.arange(20), 2, (HEIGHT, WIDTH)).images)


def test_the_command(recorded, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, bag = recorded
    save_checkpoint(network, tmp_path / "teacher.safetensors")
    arguments = ["train", "distill", "--teacher", tmp_path / "teacher.safetensors", "--student", "tiny",
                 "--init", "random", "--bags", bag, "--process-res", WIDTH, "--steps", 60, "--batch", 1,
                 "--learning-rate", 2e-3, "--device", "cpu"]  # fmt: skip
    run = tmp_path / "runs" / "tiny-distilled"
    assert main([str(one) for one in arguments]) == 0
    printed = capsys.readouterr()
    assert "tiny taught 1 windows; 4 of 4 views aligned to measured depth" in printed.err
    assert "step 60 of 60; weights:" in printed.out
    assert list((run / "weights").glob("*.safetensors"))
    losses = [json.loads(line)["loss"] for line in (run / "figures.jsonl").open()]
    assert losses[-1] < losses[0]

    # The same command goes on, here with a run that is done; one with other lessons does not pass for it.
    assert main([str(one) for one in arguments]) == 0
    capsys.readouterr()
    assert main([str(one) for one in [*arguments, "--sets", 3]]) == 2
    assert "tiny-distilled holds a distillation with another sets: give another --output" in capsys.readouterr().err
    other = [write_bag(tmp_path / "other", []) if one == bag else one for one in arguments]
    assert main([str(one) for one in other]) == 2
    assert "with another bags" in capsys.readouterr().err


def test_a_teacher_that_is_none(recorded, tmp_path, capsys):
    arguments = ["train", "distill", "--student", "tiny", "--bags", str(recorded[1]), "--output", str(tmp_path / "run")]
    assert main([*arguments, "--teacher", str(tmp_path / "none.safetensors")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert main([*arguments, "--teacher", "depth-anything/DA3MONO-LARGE"]) == 2
    assert "the teacher depth-anything/DA3MONO-LARGE is da3mono-large: wanted one of tiny" in capsys.readouterr().err
