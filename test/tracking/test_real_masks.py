"""Masks of what moves on real recordings in which nothing does, with the bundled network."""

import numpy as np
import pytest
from helpers import shared_data

from da3_ros.cli.demo_pictures import read_pictures
from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.pipeline import Pipeline


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hololens_dvmvs_a", "realsense_box"])
def test_next_to_nothing_moves_in_a_scene_that_stands_still(name, capsys):
    sequence = read_pictures(shared_data(name), None)
    camera = sequence.cameras[0]
    flat = {
        "cameras": (camera.name,), "model.variant": "da3-nano", "model.device": "cpu", "model.cpu_threads": 1,
        "model.process_res": 280, "window.sets": 4, "map.enabled": False, "loops.enabled": False,
    }  # fmt: skip
    pipeline, masks = Pipeline(from_flat(flat, PipelineConfig)), []
    for step in sequence.read():
        frame = Frame(camera.name, step.stamp_ns, step.images[0].rgb, calibration=camera.calibration)
        estimate = pipeline.step(FrameSet(step.stamp_ns, (frame,)), OutputRequest.everything((camera.name,)))
        masks.append((estimate.outputs[0].dynamic > 0).mean())
    pipeline.close()
    with capsys.disabled():
        print(f"\n{name}: {np.mean(masks[5:]):.2%} of the pixels masked")
    assert np.mean(masks[5:]) < 0.02
