"""ONNX files give PyTorch's numbers in ONNX Runtime at their shape, and are refused at any other."""

from dataclasses import replace

import pytest
import torch
from model_helpers import SHRUNKEN, TINY, make_images, make_network

from da3_ros.errors import InputError, UnavailableError
from da3_ros.model import onnx_export
from da3_ros.model.onnx_export import OnnxNetwork, export_onnx, largest_differences

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

_VIEWS, _HEIGHT, _WIDTH = 3, 56, 70
_SHORT = replace(TINY, name="short", depth=5, out_layers=(1, 2, 3, 4), mix_start=1)
_SINGLE = replace(TINY, name="single", depth=4, out_layers=(0, 1, 2, 3), mix_start=None)


def _export(variant, folder, ref_view="saddle_balanced"):
    model = make_network(variant)
    export_onnx(model, folder / "network.onnx", make_images(_VIEWS, _HEIGHT, _WIDTH), ref_view)
    return model, OnnxNetwork(folder / "network.onnx")


def _differences(model, network, seed, ref_view="saddle_balanced"):
    images = make_images(_VIEWS, _HEIGHT, _WIDTH, seed=seed)
    with torch.inference_mode():
        wanted = model(images, ref_view=ref_view)
    return largest_differences(network(images.numpy()), wanted)


@pytest.fixture(scope="module")
def any_view(tmp_path_factory):
    return _export(_SHORT, tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_view_outputs_equal_those_of_pytorch(any_view, seed):
    differences = _differences(*any_view, seed)
    assert set(differences) == {"depth", "depth_conf", "extrinsics", "intrinsics"}
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize("shape", [(1, 2, 3, 56, 70), (1, 3, 3, 70, 56), (2, 3, 3, 56, 70)])
def test_another_shape_is_refused_in_one_line(any_view, shape):
    with pytest.raises(InputError, match=r"network.onnx was exported for 1 x 3 views of 70x56, but the images are "
                       rf"{shape[0]} x {shape[1]} views of {shape[4]}x{shape[3]}: export it again") as error:
        any_view[1](torch.zeros(shape).numpy())
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_single_view_outputs_equal_those_of_pytorch(tmp_path):
    model, network = _export(_SINGLE, tmp_path)
    differences = _differences(model, network, 1)
    assert set(differences) == {"depth", "sky"}
    assert max(differences.values()) < 1e-5


def test_a_difference_is_found(any_view):
    model, network = any_view
    images = make_images(_VIEWS, _HEIGHT, _WIDTH)
    with torch.inference_mode():
        wanted = model(images)
    depth = wanted.depth.clone()
    depth[0, 0, 0, 0] += 0.1 * depth.max()
    found = largest_differences(network(images.numpy()), replace(wanted, depth=depth))
    assert found["depth"] > 0.05 > found["depth_conf"]
    depth[0, 0, 0, 0] = torch.inf
    assert largest_differences(network(images.numpy()), replace(wanted, depth=depth))["depth"] == float("inf")


def test_packages_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="pip install onnx onnxscript"):
        export_onnx(make_network(TINY), tmp_path / "network.onnx", make_images(1, 14, 14))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["giant", "metric", "nested"])
def test_other_networks_equal_pytorch_too(name, tmp_path):
    model, network = _export(SHRUNKEN[name], tmp_path)
    assert max(_differences(model, network, 1).values()) < 1e-4
