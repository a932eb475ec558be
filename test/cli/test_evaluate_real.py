"""Real sequences: made recordings by our own command, and evaluated all together with the bundled network."""

import json

import pytest
import torch
from helpers import shared_data

from da3_ros.cli.main import main
from da3_ros.ingest.bag import Bag

# Cameras, moments, whether there is true depth, and poses.
SEQUENCES = {
    "dgp_surround6": (6, 3, True, True),
    "hololens_dvmvs_a": (1, 50, True, True),
    "lund_door12": (1, 12, False, True),
    "middlebury_motorcycle": (2, 1, True, True),
    "open3d_icl_livingroom5_SYNTHETIC": (1, 5, True, True),
    "realsense_box": (1, 30, True, True),
}


@pytest.mark.slow
def test_real_sequences(tmp_path, capsys):
    threads = torch.get_num_threads()
    for name, (cameras, moments, *_) in SEQUENCES.items():
        bag = tmp_path / f"{name}.mcap"
        assert main(["bags", "from-images", str(shared_data(name)), "--output", str(bag)]) == 0
        pictures = [topic for topic, found in Bag([bag]).topics.items() if "image_raw" in topic]
        assert len(pictures) == cameras and Bag([bag]).count(pictures) == cameras * moments
    network = ["model.variant=da3-nano", "model.device=cpu", "model.cpu_threads=1", "model.process_res=112"]
    out = ["--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]
    assert main(["evaluate", str(tmp_path / "*.mcap"), *out, "--set", *network, "window.sets=3"]) == 0
    torch.set_num_threads(threads)
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["failed"] == []
    for name, (cameras, moments, has_depth, has_poses) in SEQUENCES.items():
        found = metrics["recordings"][str(tmp_path / f"{name}.mcap")]
        assert found["frames"] == cameras * moments and found["run"]["dropped"] == {}
        assert bool(found["depth"]) == has_depth and (found["trajectory"] is not None or moments == 1) == has_poses
        for score in found["depth"].values():
            # Metres in metres: a wrong unit or wrong rays would be far off whatever the network knows.
            assert 0.0 < score["per_frame"]["median"]["abs_rel"] < 1.0 and score["per_frame"]["none"]["covered"] > 0.8
    assert any("lund_door12" in note and "no true depth" in note for note in metrics["notes"])
    with capsys.disabled():
        print()
        for name, found in metrics["recordings"].items():
            errors = [score["per_frame"]["median"]["abs_rel"] for score in found["depth"].values()]
            print(f"{name.rpartition('/')[2]}: AbsRel, medians aligned: {', '.join(f'{e:.3f}' for e in errors) or '-'}")
