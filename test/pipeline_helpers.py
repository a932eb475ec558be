"""Two small cameras and a pipeline for them."""

import numpy as np

from da3_ros.config import PipelineConfig, from_flat
from da3_ros.datatypes import CameraCalibration, Frame, FrameSet
from da3_ros.pipeline import Pipeline

K = np.array([[60.0, 0, 41.5], [0, 60.0, 31.5], [0, 0, 1]])
CALIBRATION = CameraCalibration(84, 64, K)
CAMERAS = ("left", "right")


def make_pipeline(**settings):
    values = {
        "cameras": CAMERAS,
        "model.variant": "da3-nano",
        "model.checkpoint": "random",
        "model.device": "cpu",
        "model.process_res": 84,
        "window.sets": 2,
    }
    flat = {**values, **{key.replace("__", "."): value for key, value in settings.items()}}
    return Pipeline(from_flat(flat, PipelineConfig))


def make_set(step=1, calibrations=(CALIBRATION, CALIBRATION), cameras=CAMERAS, seed=0):
    rng = np.random.default_rng(seed)
    frames = tuple(
        Frame(
            name,
            step * 10**8 + index,
            rng.integers(0, 256, (64, 84, 3), dtype=np.uint8),
            frame_id=f"{name}_optical",
            calibration=calibration,
        )
        for index, (name, calibration) in enumerate(zip(cameras, calibrations, strict=False))
    )
    return FrameSet(frames[-1].stamp_ns, frames)
