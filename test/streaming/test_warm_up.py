"""What a pipeline prepares before the first images, with stand-ins for graphs that count."""

import numpy as np
import pytest
from graph_stand_ins import made  # noqa: F401
from pipeline_helpers import CALIBRATION, CAMERAS, make_pipeline, make_set

from da3_ros import pipeline
from da3_ros.datatypes import CameraCalibration, OutputRequest
from da3_ros.errors import FrameError

PORTRAIT = CameraCalibration(64, 84, np.array([[60.0, 0, 31.5], [0, 60.0, 41.5], [0, 0, 1]]))
BESIDE = CameraCalibration(84, 64, np.array([[60.0, 0, -50.0], [0, 60.0, 31.5], [0, 0, 1]]))
EVERYTHING = OutputRequest.everything(CAMERAS)
# Taking in all cameras' views; the window with their depth, and without.
NETWORK = 3


@pytest.fixture
def captures(made, monkeypatch):  # noqa: F811
    """A pipeline whose network captures on the CPU, and nothing else."""
    monkeypatch.setattr(pipeline, "choose_execution", lambda name, device: "eager")
    return make_pipeline(model__execution="graphs")


def test_after_the_warm_up_the_first_sets_prepare_nothing_anew(captures, made, caplog):  # noqa: F811
    assert captures.warms_up
    captures.warm_up(dict.fromkeys(CAMERAS, CALIBRATION))
    assert len(made.captured) == NETWORK
    with caplog.at_level("INFO"):
        caplog.clear()
        for step in (1, 2, 3):  # the window is full from the second on
            assert captures.step(make_set(step, seed=step), EVERYTHING).step == step
    assert len(made.captured) == NETWORK
    assert "preparing steps" not in caplog.text and "starts again" not in caplog.text


def test_without_it_the_first_set_does_it(captures, made):  # noqa: F811
    captures.step(make_set(), EVERYTHING)
    assert len(made.captured) == NETWORK


def test_images_of_another_size_than_announced_have_their_own(captures, made):  # noqa: F811
    captures.warm_up(dict.fromkeys(CAMERAS, PORTRAIT))
    announced = captures.canvas_hw
    captures.step(make_set(), EVERYTHING)
    assert captures.canvas_hw == announced[::-1]
    assert len(made.captured) == 2 * NETWORK


def test_a_calibration_that_cannot_be_used_leaves_it_to_the_first_set(captures, made):  # noqa: F811
    with pytest.raises(FrameError, match="principal point"):
        captures.warm_up({"left": CALIBRATION, "right": BESIDE})
    captures.step(make_set(), EVERYTHING)
    assert len(made.captured) == NETWORK


def test_a_pipeline_that_captures_nothing_has_none():
    assert not make_pipeline().warms_up
