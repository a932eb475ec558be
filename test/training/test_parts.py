"""Checkpoints in parts: nothing is lost or larger than allowed, and a missing part is one clear line."""

import pytest
import torch

from da3_ros.errors import WeightsError
from da3_ros.training.parts import read_parts, write_parts


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "large": torch.randn(100, 50, generator=generator),         # 20 kB: cut
        "small": torch.randn(7, generator=generator).half(),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        **{f"layer.{i}": torch.randn(30, 30, generator=generator) for i in range(8)},
    }


def test_round_trip_in_parts(tmp_path):
    write_parts(tensors(), tmp_path / "all", part_bytes=8000)
    files = list((tmp_path / "all").iterdir())
    assert len(files) > 5 and all(file.stat().st_size < 8000 + 2000 for file in files)
    found = read_parts(tmp_path / "all")
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name


def test_files_are_at_most_16_megabytes(tmp_path):
    """Of a state with as many small tensors as a network has, whose names are in the header."""
    name = "exp_avg_sq/backbone.pretrained.blocks.{}.attn.qkv.weight.{:030}"
    small = {name.format(i, i): torch.zeros(2500) for i in range(3500)}
    write_parts({**small, "large": torch.zeros(3000, 2000)}, tmp_path / "all")
    sizes = [file.stat().st_size for file in (tmp_path / "all").iterdir()]
    assert sum(sizes) > 59e6 and max(sizes) <= 16e6


def test_channels_last_tensors_keep_their_values(tmp_path):
    kernel = torch.randn(4, 6, 3, 3).to(memory_format=torch.channels_last)
    write_parts({"kernel": kernel}, tmp_path / "all", part_bytes=300)
    assert torch.equal(read_parts(tmp_path / "all")["kernel"], kernel)


def test_what_was_there_is_replaced_as_a_whole(tmp_path):
    write_parts(tensors(), tmp_path / "all", part_bytes=8000)
    write_parts({"one": torch.ones(3)}, tmp_path / "all", part_bytes=8000)
    assert read_parts(tmp_path / "all").keys() == {"one"}
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


def test_a_missing_part(tmp_path):
    write_parts(tensors(), tmp_path / "all", part_bytes=8000)
    sorted((tmp_path / "all").iterdir())[1].unlink()
    with pytest.raises(WeightsError, match="some of the parts are missing"):
        read_parts(tmp_path / "all")
    with pytest.raises(WeightsError, match="no weights at .*elsewhere"):
        read_parts(tmp_path / "elsewhere")


def test_a_damaged_part(tmp_path):
    write_parts({"one": torch.ones(300)}, tmp_path / "all")
    file = next((tmp_path / "all").iterdir())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="is not a complete safetensors file"):
        read_parts(tmp_path / "all")
