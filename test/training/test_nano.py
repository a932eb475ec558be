"""da3-nano: its size, and the weights that come with the package."""

import pytest
import torch
from safetensors.torch import save_file

from da3_ros.cli.main import main
from da3_ros.errors import WeightsError
from da3_ros.model import VARIANTS, load_model, weights
from da3_ros.training.checkpoints import published
from da3_ros.training.initial import initial_network

CPU = torch.device("cpu")


@pytest.fixture
def network():
    return initial_network(VARIANTS["da3-nano"], 0, CPU)


def test_it_is_a_small_da3_small():
    """Same layers in the same roles, half as wide."""
    nano, small = VARIANTS["da3-nano"], VARIANTS["da3-small"]
    assert (nano.depth, nano.mix_start, nano.out_layers) == (small.depth, small.mix_start, small.out_layers)
    assert 2 * nano.dim == small.dim and 2 * nano.features == small.features
    assert tuple(2 * channels for channels in nano.out_channels) == small.out_channels


def test_its_file_is_at_most_24_megabytes(tmp_path, network):
    save_file(published(dict(network.named_parameters()), torch.float16), tmp_path / "nano.safetensors")
    assert (tmp_path / "nano.safetensors").stat().st_size <= 24e6


def test_bundled_weights_are_loaded_without_being_named(tmp_path, network, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    save_file(published(dict(network.named_parameters()), torch.float16), tmp_path / "da3-nano.safetensors")
    loaded = load_model("da3-nano")
    for name, value in network.named_parameters():
        assert torch.equal(loaded.get_parameter(name), value.half().float()), name


def test_without_bundled_weights_nothing_is_made_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    with pytest.raises(WeightsError, match="da3-nano are not in this installation .*'random' for untrained"):
        load_model("da3-nano")
    assert load_model("da3-nano", "random").variant.name == "da3-nano"
    assert main(["weights", "verify", "da3-nano"]) == 2
    assert "not in this installation" in capsys.readouterr().err


def test_there_is_nothing_to_fetch(capsys):
    assert main(["weights", "fetch", "da3-nano"]) == 2
    assert "come with this package: there is nothing to fetch" in capsys.readouterr().err


def test_values_beyond_half_precision_are_refused():
    with pytest.raises(WeightsError, match=r"model\.one has values that are not finite in torch\.float16"):
        published({"one": torch.tensor([1e6])}, torch.float16)
