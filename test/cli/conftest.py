"""Makes the helpers of test/ importable under any import mode of pytest; a recording with its truth."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="module")
def sequence():
    from recording_helpers import true_sequence

    return true_sequence()


@pytest.fixture(scope="module")
def bag(sequence, tmp_path_factory):
    from da3_ros.cli.demo_bag import write_sequence

    path = tmp_path_factory.mktemp("bags") / "truth.mcap"
    write_sequence(sequence, path, "raw")
    return path


@pytest.fixture(scope="module")
def page(bag, sequence, tmp_path_factory):
    """A report of depth that is wrong in places, with metrics.json (m.json) beside it."""
    from recording_helpers import HalfTruthfulPipeline

    from da3_ros.cli.main import main
    from da3_ros.evaluation import segments

    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "Pipeline", lambda config, repeatable: HalfTruthfulPipeline(sequence.cameras[0]))
        output = ["--output", str(folder / "m.json"), "--report", str(folder / "r.html"), "--max-depth", "100"]
        assert main(["evaluate", str(bag), *output, "--set", "window.sets=3"]) == 0
    return folder / "r.html"
