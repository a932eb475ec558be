"""Networks as ONNX files, for one number of views and one image size: for TensorRT and ONNX Runtime.

Everything that the network computes from shapes is a constant of the file, so the file is for those shapes only.
Needs the packages onnx and onnxscript to write files, and onnxruntime to run them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from da3_ros.errors import InputError, UnavailableError
from da3_ros.model.layout import Network
from da3_ros.model.prediction import Prediction

OPSET = 18                      # TensorRT 10 reads opsets 9 to 20; every operator here is in 18
INPUT = "images"
_OUTPUTS = ("depth", "depth_conf", "extrinsics", "intrinsics", "sky", "scale")


class _Outputs(nn.Module):
    """The network as a function of images alone, with the tensors of its Prediction in the order of _OUTPUTS."""

    def __init__(self, model: Network, ref_view: str):
        super().__init__()
        self.model = model
        self.ref_view = ref_view

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.model(images, ref_view=self.ref_view)).values())


def _tensors(prediction: Prediction) -> dict[str, Tensor]:
    values = {name: getattr(prediction, name) for name in _OUTPUTS}
    return {name: value for name, value in values.items() if value is not None}


@torch.inference_mode()
def export_onnx(model: Network, path: str | Path, images: Tensor, ref_view: str = "saddle_balanced") -> None:
    """Writes ``model`` for images of the shape of ``images`` (1, N, 3, H, W), float32; their content plays no part.

    The file has one input, ``images``, normalised as for the network, and outputs named as the fields of Prediction,
    of those that the network has: depth, depth_conf, extrinsics, intrinsics, sky, scale. Weights lie beside it in
    ``<path>.data``. Raises UnavailableError without the packages for it, InputError for images that do not fit.
    """
    _need("onnx", "onnxscript")
    height, width = images.shape[-2:]
    model.prepare(height, width)
    names = list(_tensors(model(images, ref_view=ref_view)))
    with _quiet():
        program = torch.onnx.export(
            _Outputs(model, ref_view).eval(), (images,), dynamo=True, opset_version=OPSET,
            input_names=[INPUT], output_names=names, optimize=True, verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=True)


class OnnxNetwork:
    """A file of ``export_onnx`` in ONNX Runtime, on the CPU. Raises UnavailableError without onnxruntime."""

    def __init__(self, path: str | Path):
        _need("onnxruntime")
        import onnxruntime

        self._path = path
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.shape = tuple(self._session.get_inputs()[0].shape)         # (1, N, 3, H, W)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Outputs by name for images (1, N, 3, H, W) float32; InputError for another shape than the file's."""
        if tuple(images.shape) != self.shape:
            raise InputError(
                f"{self._path} was exported for {_describe(self.shape)}, but the images are {_describe(images.shape)}: "
                "export it again for these"
            )
        return dict(zip(self._names, self._session.run(self._names, {INPUT: images}), strict=True))


def largest_differences(got: Mapping[str, np.ndarray], wanted: Prediction) -> dict[str, float]:
    """By output the largest difference relative to the largest finite value; infinite where Inf is not in the same
    places."""
    differences = {}
    for name, tensor in _tensors(wanted).items():
        exact, value = tensor.cpu().numpy().astype(np.float64), got[name].astype(np.float64)
        finite = np.isfinite(exact)
        same = exact.shape == value.shape and bool((finite == np.isfinite(value)).all())
        if not same:
            differences[name] = float("inf")
            continue
        largest = np.abs(exact[finite]).max(initial=np.finfo(np.float64).tiny)
        differences[name] = float(np.abs(exact[finite] - value[finite]).max(initial=0.0) / largest)
    return differences


def _describe(shape: tuple[int, ...]) -> str:
    if len(shape) != 5:
        return f"of shape {tuple(shape)}"
    return f"{shape[0]} x {shape[1]} views of {shape[4]}x{shape[3]}"


def _need(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UnavailableError(f"ONNX files need packages that are not installed: pip install {' '.join(missing)}")


@contextlib.contextmanager
def _quiet():
    """Keeps the exporter's progress report, which it prints, and its warnings to developers off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
