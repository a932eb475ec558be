"""The reference package's predictions and ours, from the same weights, through the same metrics: the same numbers.

The reference's are scored as any other program's output is, from files (``da3-ros evaluate --external``).
"""

import json

import numpy as np
import pytest
import torch
from published_package import published

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_sequence import procedural_sequence
from da3_ros.cli.main import main
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum
from da3_ros.geometry.se3 import invert
from da3_ros.model import VARIANTS, save_checkpoint

STEPS, PROCESS_RES = 5, 112


@pytest.fixture(scope="module")
def sequence():
    made = procedural_sequence(1, STEPS, seed=3, motion="drone", width=320, height=240)
    steps = list(made.read())
    return type(made)(made.title, made.cameras, STEPS, made.tracked_frame, lambda: iter(steps))


def evaluate(bag, output, *more) -> dict:
    assert main(["evaluate", str(bag), "--output", str(output), *map(str, more)]) == 0
    return json.loads(output.read_text())


@torch.inference_mode()
def test_the_reference_scores_as_we_do(sequence, pair, tmp_path):
    process = published("depth_anything_3.utils.io.input_processor").InputProcessor()
    model, reference = pair(VARIANTS["da3-small"])
    save_checkpoint(model, tmp_path / "weights.safetensors")
    write_sequence(sequence, tmp_path / "bag.mcap", "raw")
    camera = sequence.cameras[0]
    (tmp_path / "depth").mkdir()
    pictures, stamps, poses = [], [], []
    for step in sequence.read():
        (image,) = step.images
        pictures.append(image.rgb)
        stamps.append(image.stamp_ns)
        images, _, _ = process(pictures, None, None, PROCESS_RES, "upper_bound_resize", sequential=True)
        found = reference(torch.as_tensor(np.asarray(images))[None])
        np.save(tmp_path / "depth" / f"{image.stamp_ns}.npy", found["depth"][0, -1].numpy())
        T_cam_world = np.tile(np.eye(4), (len(pictures), 1, 1))
        T_cam_world[:, :3] = found["extrinsics"][0, :, :3].double().numpy()
        poses.append(T_cam_world[0] @ invert(T_cam_world[-1]))  # in the first camera, as every window of the node is
    T_cam_base = invert(camera.T_base_cam)
    write_tum(tmp_path / "poses.tum", Trajectory(np.array(stamps), camera.T_base_cam @ np.stack(poses) @ T_cam_base))

    quick = [f"model.process_res={PROCESS_RES}", f"window.sets={STEPS}", "model.device=cpu", "model.variant=da3-small",
             f"model.checkpoint={tmp_path / 'weights.safetensors'}", "scale.source=none",
             "model.pose_conditioning=none"]  # fmt: skip
    ours = evaluate(tmp_path / "bag.mcap", tmp_path / "ours.json", "--set", *quick)
    files = ["--external", tmp_path / "poses.tum", "--external-depth", tmp_path / "depth"]
    theirs = evaluate(tmp_path / "bag.mcap", tmp_path / "theirs.json", *files)

    (name,) = ours["depth"]
    assert ours["depth"][name]["frames"] == theirs["depth"][name]["frames"] == STEPS
    for alignment, errors in ours["depth"][name]["per_frame"].items():
        if alignment != "none":  # tracking gives all windows one unit; the reference gives each its own
            assert errors == pytest.approx(theirs["depth"][name]["per_frame"][alignment], rel=0.01, abs=2e-3), alignment
