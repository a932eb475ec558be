"""bench_tracking --network --real: recorded pictures with true poses and depth as drives."""

import json

import numpy as np
import pytest
from helpers import shared_data
from PIL import Image

from da3_ros.cli import bench_tracking


@pytest.fixture
def recording(tmp_path):
    """The first pictures of a real one, much smaller, its meta.json to match; ``depth`` false: without true depth."""
    source, steps, size = shared_data("realsense_box"), 6, (80, 60)

    def make(depth=True):
        meta = json.loads((source / "meta.json").read_text())
        (camera,) = meta["cameras"].values()
        by = size[0] / camera["width"]
        for one in (camera, meta.get("intrinsics", {})):
            one.update({key: by * one[key] for key in ("fx", "fy", "cx", "cy") if key in one})
            one.update(width=size[0], height=size[1])
        meta["frames"] = meta["frames"][:steps]
        for frame in meta["frames"]:
            for key in ("image", "depth"):
                if key in frame:
                    (tmp_path / frame[key]).parent.mkdir(exist_ok=True)
                    Image.open(source / frame[key]).resize(size, Image.Resampling.NEAREST).save(tmp_path / frame[key])
            if not depth:
                frame.pop("depth", None)
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        return tmp_path

    return make


def run(folder, *more):
    return bench_tracking.main(
        ["--network", "--device", "cpu", "-p", "model.cpu_threads:=1", "-p", "model.process_res:=84",
         "--real", str(folder), *more]
    )  # fmt: skip


def test_a_recording_is_compared_with_its_truth(recording, capsys, tmp_path):
    path = tmp_path / "figures.json"
    assert run(recording(), "--sources", "range", "--json", str(path)) == 0
    (drive,) = json.loads(path.read_text())["drives"]
    assert drive["steps"] == 6 and drive["sources"] == {"range": 6} and drive["source"] == "range"
    assert np.isfinite(drive["nees"]) and 0 < drive["ate_m"] < 0.5
    assert 0.01 < drive["distance_m"] < 1.0


def test_a_recording_without_truth_is_refused_in_one_line(recording, capsys):
    assert run(recording(depth=False)) == 1
    assert "no true depth" in capsys.readouterr().err
