"""`da3-ros export`: a file that was checked, and one line for what cannot be exported."""

import json

import pytest

from da3_ros.cli import export as command
from da3_ros.cli.main import main
from da3_ros.model import VARIANTS
from da3_ros.model.variants import Variant


@pytest.fixture
def thin(monkeypatch):
    """Variants keep their names; the networks are thin and shallow."""
    thin = Variant("thin", 64, 5, (1, 2, 3, 4), 1, 16, (8, 8, 8, 8), ("nobody/THIN",), "Apache-2.0")
    monkeypatch.setitem(VARIANTS, "da3-small", thin)


@pytest.mark.slow
@pytest.mark.usefixtures("thin")
def test_a_file_is_written_checked_and_reported(tmp_path, capsys):
    file = tmp_path / "thin.onnx"
    assert main(["export", str(file), "--views", "2", "--size", "56x42", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert file.is_file()
    assert (report["views"], report["height"], report["width"], report["opset"]) == (2, 42, 56, 18)
    assert set(report["largest_differences"]) == {"depth", "depth_conf", "extrinsics", "intrinsics"}
    assert max(report["largest_differences"].values()) < 1e-4


@pytest.mark.usefixtures("thin")
@pytest.mark.parametrize(("difference", "code", "text"), [(9e-4, 0, "good"), (2e-3, 1, "do not use it")])
def test_a_file_that_differs_from_pytorch_fails(difference, code, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "export_onnx", lambda *args: None)
    monkeypatch.setattr(command, "OnnxNetwork", lambda file: lambda images: {})
    monkeypatch.setattr(command, "largest_differences", lambda got, wanted: {"depth": difference})
    assert main(["export", str(tmp_path / "thin.onnx"), "--size", "28x28"]) == code
    assert text in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["x.onnx", "--size", "500x378"], "--size must be WIDTHxHEIGHT in pixels, multiples of 14 such as 504x378"),
        (["x.onnx", "--size", "504"], "not '504'"),
        (["x.onnx", "--views", "0"], "--views must be at least 1, not 0"),
        (["nowhere/x.onnx"], "the folder of nowhere/x.onnx does not exist: make it first"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(arguments, text, capsys):
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
