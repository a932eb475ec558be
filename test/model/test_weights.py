"""Checkpoints: every way in which a file can fail to fit gives one clear line."""

import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from model_helpers import TINY, make_images, make_network
from safetensors.torch import load_file, save_file

from da3_ros.errors import ConfigError, WeightsError
from da3_ros.model import VARIANTS, load_model, save_checkpoint
from da3_ros.model.weights import build, fill_from_file

QKV = "model.backbone.pretrained.blocks.1.attn.qkv.weight"
IMAGES = make_images(2, 28, 42)


@pytest.fixture(autouse=True)
def _tiny_variants(monkeypatch):
    """Two small rows in the table of variants: adding a variant is adding a row."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    monkeypatch.setitem(VARIANTS, "tiny-wide", replace(TINY, name="tiny-wide", dim=128))


@pytest.fixture
def tensors():
    """The tensors of a published file of variant tiny."""
    return {"model." + name: value.clone() for name, value in make_network(TINY).named_parameters()}


def refusal(path, variant="tiny", **kwargs) -> str:
    """The single line with which a checkpoint is refused."""
    with pytest.raises(WeightsError) as error:
        load_model(variant, path, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_file_and_hub_folder(tmp_path, tensors):
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "tiny", "anything": 1}))
    expected = make_network(TINY)(IMAGES).depth
    for checkpoint in (tmp_path, str(tmp_path), tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        model = load_model("tiny", checkpoint)
        assert torch.equal(model(IMAGES).depth, expected)
        assert not model.training and not any(value.requires_grad for value in model.parameters())


def test_round_trip(tmp_path):
    """save_checkpoint writes the published layout: each tensor once, names with their prefix, metadata of torch."""
    model = make_network(TINY)
    save_checkpoint(model, tmp_path / "a.safetensors")
    stored = load_file(tmp_path / "a.safetensors")
    assert len(stored) == len(model.state_dict()) - 6
    assert all(name.startswith("model.") for name in stored)
    assert "model.head.scratch.output_conv2_aux.0.2.weight" in stored
    assert "model.head.scratch.output_conv2_aux.3.2.weight" not in stored
    loaded = load_model("tiny", tmp_path / "a.safetensors")
    assert all(torch.equal(value, stored["model." + name]) for name, value in loaded.named_parameters())
    shared = {id(one["2"]) for one in loaded.head.scratch["output_conv2_aux"]}
    assert len(shared) == 1


def test_overwriting_the_file_of_a_network_in_use(tmp_path, tensors):
    """Weights may be mapped from the file: a new checkpoint of that name must not change a network in use."""
    save_file(tensors, tmp_path / "model.safetensors")
    used = load_model("tiny", tmp_path)
    other = load_model("tiny", tmp_path)
    for value in other.parameters():
        value.data = value.data + 1
    save_checkpoint(other, tmp_path / "model.safetensors")
    assert torch.equal(used(IMAGES).depth, make_network(TINY)(IMAGES).depth)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path, tensors, monkeypatch):
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    before = file.read_bytes()

    def run_out_of_space(tensors, path, **kwargs):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", run_out_of_space)
    with pytest.raises(WeightsError, match="cannot write the checkpoint .*No space left"):
        save_checkpoint(make_network(TINY), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_dtype(tmp_path, tensors):
    """A file in any floating dtype gives a network in the dtype that was asked for."""
    half = {name: value.bfloat16() for name, value in tensors.items()}
    save_file(half, tmp_path / "half.safetensors")
    model = load_model("tiny", tmp_path / "half.safetensors")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    model = load_model("tiny", tmp_path / "half.safetensors", dtype=torch.bfloat16)
    assert model.head.scratch["output_conv1"].weight.dtype == torch.bfloat16
    assert model.backbone.pretrained.norm.weight.dtype == torch.float32


def test_random_weights_are_seeded():
    one, two = load_model("tiny"), load_model("tiny")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one(IMAGES).depth.std() > 0.05


def test_missing_key(tmp_path, tensors):
    del tensors[QKV]
    save_file(tensors, tmp_path / "a.safetensors")
    message = refusal(tmp_path / "a.safetensors")
    assert f"{QKV} is missing;" in message and "a.safetensors does not fit tiny" in message
    assert "nearest is tiny" in message


def test_extra_key(tmp_path, tensors):
    tensors["model.backbone.extra"] = torch.zeros(1)
    tensors["model.backbone.more"] = torch.zeros(1)
    save_file(tensors, tmp_path / "a.safetensors")
    assert "model.backbone.extra is unexpected (and 1 more)" in refusal(tmp_path / "a.safetensors")


def test_wrong_shape(tmp_path, tensors):
    tensors[QKV] = torch.zeros(192, 65)
    save_file(tensors, tmp_path / "a.safetensors")
    assert f"{QKV} has shape (192, 65) instead of (192, 64);" in refusal(tmp_path / "a.safetensors")


def test_wrong_variant(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    message = refusal(tmp_path / "a.safetensors", "tiny-wide")
    assert "does not fit tiny-wide" in message and message.endswith("it fits tiny")
    save_file({"weight": torch.zeros(3)}, tmp_path / "b.safetensors")
    assert refusal(tmp_path / "b.safetensors").endswith("it fits no known variant")


def test_integer_tensor(tmp_path, tensors):
    tensors[QKV] = tensors[QKV].to(torch.int8)
    save_file(tensors, tmp_path / "a.safetensors")
    assert f"{QKV} is I8 but must be one of F64, F32, F16, BF16" in refusal(tmp_path / "a.safetensors")


def test_truncated_file(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    for size in (0, 4, 1000, len(content) - 1):
        (tmp_path / "a.safetensors").write_bytes(content[:size])
        assert "a.safetensors is not a complete safetensors file" in refusal(tmp_path / "a.safetensors")


def test_pickle_is_never_read(tmp_path, tensors):
    torch.save(tensors, tmp_path / "model.safetensors")
    assert "is not a complete safetensors file" in refusal(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    for checkpoint in (tmp_path, tmp_path / "pytorch_model.bin"):
        assert "pytorch_model.bin is a pickled checkpoint" in refusal(checkpoint)


def test_nothing_there(tmp_path):
    assert "no checkpoint at" in refusal(tmp_path / "none.safetensors")
    assert "model.safetensors" in refusal(tmp_path)


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
def test_configuration_beside_the_file(tmp_path, tensors, nested):
    """Both layouts of config.json are read, and must agree with the variant and with the tensors."""
    save_file(tensors, tmp_path / "model.safetensors")

    def write(name):
        content = {"model_name": name}
        (tmp_path / "config.json").write_text(json.dumps({"config": content} if nested else content))

    write("da3-large")
    for checkpoint in (tmp_path, tmp_path / "model.safetensors"):
        message = refusal(checkpoint)
        assert "config.json says 'da3-large' but the tensors of model.safetensors are those of tiny" in message
    write("tiny")
    assert "belongs to 'tiny', not to 'tiny-wide': set model.variant to 'tiny'" in refusal(tmp_path, "tiny-wide")
    write("a name of later years")
    load_model("tiny", tmp_path)
    # A file under a name of its own is not what the configuration is about.
    write("da3-large")
    (tmp_path / "model.safetensors").rename(tmp_path / "mine.safetensors")
    load_model("tiny", tmp_path / "mine.safetensors")


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_damaged_configuration(tmp_path, tensors, content):
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(content)
    assert "config.json is not a valid configuration" in refusal(tmp_path)


def test_variants_that_differ_in_their_values_only(tmp_path, tensors, monkeypatch):
    """Metric and mono networks have the same tensors: only the configuration tells them apart."""
    monkeypatch.setitem(VARIANTS, "twin", replace(TINY, name="twin"))
    save_file(tensors, tmp_path / "model.safetensors")
    load_model("tiny", tmp_path)
    load_model("twin", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "twin"}))
    assert "belongs to 'twin', not to 'tiny'" in refusal(tmp_path)


def test_noncommercial_weights_must_be_accepted(tmp_path, tensors, monkeypatch, caplog):
    monkeypatch.setitem(VARIANTS, "tiny", replace(TINY, licence="CC-BY-NC-4.0"))
    save_file(tensors, tmp_path / "model.safetensors")
    for checkpoint in (tmp_path, "nobody/TINY"):
        message = refusal(checkpoint)
        assert "weights of tiny are published under CC-BY-NC-4.0, for non-commercial use only" in message
        assert "model.accept_noncommercial" in message and "da3-small, da3-base" in message
        assert "da3-large" not in message
    load_model("tiny")                      # random weights are nobody's
    with caplog.at_level(logging.WARNING):
        load_model("tiny", tmp_path, accept_noncommercial=True)
    assert "non-commercial use only (CC-BY-NC-4.0)" in caplog.text


def test_the_file_may_be_replaced_while_the_network_is_in_use(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    model = load_model("tiny", tmp_path / "a.safetensors")
    expected = model(IMAGES).depth
    size = (tmp_path / "a.safetensors").stat().st_size
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.write(bytes(size))
    assert torch.equal(model(IMAGES).depth, expected)


def test_network_of_several_parts(tmp_path, tensors):
    """A network made of two keeps each under its own prefix in one file: keys come from the network itself."""
    class Two(torch.nn.Module):
        variant = replace(TINY, name="two")

        def __init__(self):
            super().__init__()
            self.one, self.other = build(TINY), build(TINY)

    parts = {f"model.{part}.{name.removeprefix('model.')}": value + (part == "other")
             for part in ("one", "other") for name, value in tensors.items()}
    save_file(parts, tmp_path / "a.safetensors")
    model = Two()
    fill_from_file(model, tmp_path / "a.safetensors", torch.device("cpu"), torch.float32)
    stored = {"model." + name: value for name, value in model.named_parameters()}
    assert stored.keys() == parts.keys() and all(torch.equal(stored[key], parts[key]) for key in parts)


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown model variant 'da3-huge'; there are: .*da3-small, da3-base"):
        load_model("da3-huge")
    with pytest.raises(ConfigError, match=r"unknown dtype torch\.int8"):
        load_model("tiny", dtype=torch.int8)
    with pytest.raises(ConfigError, match="device 'warp:0' cannot be used here"):
        load_model("tiny", device="warp:0")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device 'cuda' cannot be used here"):
            load_model("tiny", device="cuda")


def test_imports_only_torch():
    """The package imports, builds and runs with torch alone; safetensors only where a file is read or written."""
    program = """
import sys
for name in ("rclpy", "sensor_msgs", "cv2", "PIL", "scipy", "matplotlib", "huggingface_hub", "depth_anything_3",
             "torchvision", "omegaconf", "einops", "yaml", "safetensors"):
    sys.modules[name] = None
import torch
from da3_ros.model import VARIANTS, load_model
assert not [name for name in sys.modules if name.startswith("da3_ros.") and
            not name.startswith(("da3_ros.model", "da3_ros.errors", "da3_ros.geometry"))]
load_model("da3-small")(torch.zeros(1, 1, 3, 28, 28))
print(len(VARIANTS))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
