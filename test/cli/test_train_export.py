"""da3-ros train export: what cannot be written is one line, and nothing is left of it."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from da3_ros.cli.main import main


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"model.one": torch.ones(2, 3)}, "b.safetensors is of another network than .*model.two is missing"),
        (
            {"model.one": torch.ones(3, 2), "model.two": torch.ones(3)},
            r"b.safetensors is of another network than .*a.safetensors: .*one has shape \(3, 2\) instead of \(2, 3\)",
        ),
        (
            {"model.one": torch.ones(2, 3), "model.two": torch.ones(3), "model.three": torch.ones(1)},
            "b.safetensors is of another network than .*model.three is unexpected",
        ),
        ({"one": torch.ones(2, 3)}, "b.safetensors has a tensor 'one': weights in .* are named model"),
        ({}, "b.safetensors has no tensors"),
        ({"model.one": torch.full((2, 3), torch.inf), "model.two": torch.ones(3)}, "model.one has values that are not"),
    ],
)
def test_weights_that_have_no_mean_are_one_line(tmp_path, capsys, tensors, problem):
    a, b, output = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "out"))
    save_file({"model.one": torch.ones(2, 3), "model.two": torch.ones(3)}, a)
    save_file(tensors, b)
    assert main(["train", "export", "--mean", str(a), str(b), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert re.search(problem, error) and error.count("\n") == 1
    assert not output.exists()


def test_files_of_two_variants_with_one_layout_have_no_mean(tmp_path, capsys):
    files = []
    for variant in ("da3metric-large", "da3mono-large"):
        files.append(tmp_path / variant / "model.safetensors")
        files[-1].parent.mkdir()
        save_file({"model.one": torch.ones(3)}, files[-1])
        (files[-1].parent / "config.json").write_text(json.dumps({"model_name": variant}))
    assert main(["train", "export", "--mean", *map(str, files), "--output", str(tmp_path / "out.safetensors")]) == 2
    assert re.search("mono-large.*belongs to 'da3mono-large', .* to 'da3metric-large'", capsys.readouterr().err)


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys):
    a, b = (tmp_path / f"{name}.safetensors" for name in ("a", "b"))
    for file in (a, b):
        save_file({"model.one": torch.full((3,), 2.0 if file == a else 4.0)}, file)
    for arguments, problem in [
        ([a, b, "--output", tmp_path / "out"], "2 weights for one file: give one of them, or --mean"),
        (["--mean", a, "--output", tmp_path / "out"], "a mean takes two weights or more, and there is only .*a.safet"),
        (["--mean", a, tmp_path / "none", "--output", tmp_path / "out"], "no weights at .*none"),
        (["--mean", a, b, "--output", a / "out"], "cannot write the checkpoint .*out"),
    ]:
        assert main(["train", "export", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert re.search(problem, error) and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()
    # What is read may be what is written.
    assert main(["train", "export", "--mean", str(a), str(b), "--output", str(a), "--dtype", "float32"]) == 0
    assert torch.equal(load_file(a)["model.one"], torch.full((3,), 3.0))
