"""``da3-ros train evaluate`` on a small recording of known geometry."""

import json

import cv2
import numpy as np
import pytest

from da3_ros.cli import train_evaluate
from da3_ros.cli.demo_pictures import read_pictures
from da3_ros.cli.main import main


@pytest.fixture
def recording(tmp_path):
    """Three moments of one camera that moves along x before a wall 2 m away."""
    frames = []
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (84, 112, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), noise)
        cv2.imwrite(str(tmp_path / f"d{i}.png"), np.full((84, 112), 2000, np.uint16))
        T = np.eye(4)
        T[0, 3] = 0.1 * i
        frames.append({"camera": "cam", "image": f"{i}.png", "depth": f"d{i}.png", "c2w": T.tolist()})
    camera = {"width": 112, "height": 84, "fx": 112.0, "fy": 112.0, "cx": 55.5, "cy": 41.5}
    meta = {"name": "wall", "cameras": {"cam": camera}, "depth_scale": 1000, "pose_units": "m", "frames": frames}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_a_prediction_that_is_right_scores_so(recording):
    import torch

    from da3_ros.training.held_out import Predicted

    def right(images):
        assert images.shape == (1, 3, 3, 210, 280)
        T = torch.eye(4).repeat(1, 3, 1, 1)
        T[0, :, 0, 3] = -torch.arange(3) * 0.5  # the same way in another unit
        K = torch.tensor([[280.0, 0, 140], [0, 280.0, 105], [0, 0, 1]]).expand(1, 3, 3, 3)
        return Predicted(torch.full((1, 3, 210, 280), 10.0), T, K)

    found = train_evaluate._score_recording(read_pictures(recording, None), right, 280)
    assert found.windows == 1 and found.abs_rel < 1e-5 and found.delta1 == 1.0
    assert found.auc30 == pytest.approx(100.0) and found.fov_deg < 1e-3
    assert "wall" in train_evaluate.table({"wall": found})


def test_the_command_scores_weights_on_recordings(recording, capsys):
    arguments = ["--weights", "random", "--sequences", "0", "--device", "cpu", "--json", "--real", str(recording)]
    assert main(["train", "evaluate", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wall"]["windows"] == 1 and found["wall"]["abs_rel"] < 2.0


def test_held_out_scenes_have_the_size_that_is_asked_for(monkeypatch, capsys):
    from da3_ros.training import held_out

    sizes, make = [], held_out.network_predictor

    def noting(network):
        predict = make(network)
        return lambda images: (sizes.append(tuple(images.shape[-2:])), predict(images))[1]

    monkeypatch.setattr(held_out, "network_predictor", noting)
    arguments = ["train", "evaluate", "--weights", "random", "--sequences", "1", "--device", "cpu", "--size"]
    assert main([*arguments, "28", "42"]) == 0
    assert sizes == [(28, 42)] and "held out" in capsys.readouterr().out
    assert main([*arguments, "30", "42"]) == 2
    assert "--size 30 42: the network takes multiples of 14 pixels" in capsys.readouterr().err


def test_pictures_of_recordings_get_the_size_that_is_asked_for(recording, monkeypatch, capsys):
    from da3_ros.training import held_out

    sizes, make = [], held_out.network_predictor

    def noting(network):
        predict = make(network)
        return lambda images: (sizes.append(images.shape[-1]), predict(images))[1]

    monkeypatch.setattr(held_out, "network_predictor", noting)
    arguments = ["--weights", "random", "--sequences", "0", "--device", "cpu", "--process-res", "140"]
    assert main(["train", "evaluate", *arguments, "--real", str(recording)]) == 0
    assert sizes == [140] and "wall" in capsys.readouterr().out


def test_a_folder_that_is_none_is_one_line(tmp_path, capsys):
    arguments = ["--weights", "random", "--sequences", "0", "--device", "cpu", "--real", str(tmp_path / "none")]
    assert main(["train", "evaluate", *arguments]) == 2
    assert "none" in capsys.readouterr().err
