"""JPEG pictures decoded on the GPU and by the CPU: how long it takes, and by how much the results differ.

Run with ``python -m da3_ros.cli.bench_jpeg PICTURE.jpg ...``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.errors import InputError, UnavailableError
from da3_ros.ingest.jpeg import open_gpu_decoder
from da3_ros.streaming.device import describe_device

_TOGETHER = 4  # pictures, as of four cameras


def main(given: Sequence[str] | None = None) -> None:
    """Print a table with one line for each picture."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_jpeg", description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each figure")
    arguments = parser.parse_args(given)
    encoded = {path.name: read_jpeg(path) for path in arguments.pictures}
    device = torch.device("cuda")
    decoder = open_gpu_decoder(device) if torch.cuda.is_available() else None
    if decoder is None:
        raise UnavailableError("pictures are decoded by the CPU here: this needs a GPU and torchvision's nvJPEG")
    repeats = Repeats(arguments.seconds, warm_up=5)
    print(f"{describe_device(device)}, torch {torch.__version__}\n")
    print(f"picture | size | OpenCV, ms | nvJPEG, ms | nvJPEG, ms for {_TOGETHER} | difference, mean | 99 % | most | "
          "luminance, mean | most")  # fmt: skip
    for name, data in encoded.items():
        expected = decode_by_cpu(data)
        together = decoder.decode([data] * _TOGETHER)
        if together is None:
            print(f"{name} | nvJPEG cannot read it")
            continue
        times = [
            median_ms(partial(decode_by_cpu, data), torch.device("cpu"), repeats),
            median_ms(partial(decoder.decode, [data]), device, repeats),
            median_ms(partial(decoder.decode, [data] * _TOGETHER), device, repeats),
        ]
        height, width = expected.shape[:2]
        figures = [f"{value:.3g}" for value in (*times, *differences(together[0].cpu().numpy(), expected))]
        print(" | ".join([name, f"{width}x{height}", *figures]), flush=True)


def read_jpeg(path: Path) -> np.ndarray:
    """The file's bytes (n,) uint8. Raises InputError where it is no JPEG picture."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if data[:2].tobytes() != b"\xff\xd8":
        raise InputError(f"{path} is no JPEG picture")
    return data


def decode_by_cpu(data: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, red first. Raises InputError where the picture is damaged."""
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError("a picture is damaged")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def differences(found: np.ndarray, expected: np.ndarray) -> tuple[float, float, float, float, float]:
    """Grey levels by which (H, W, 3) uint8 pictures differ: mean, 99th percentile and most of the channels; mean and
    most of their luminance (ITU-R BT.601)."""
    channels = np.abs(found.astype(np.int16) - expected)
    luminance = np.abs((found.astype(np.float32) - expected) @ np.array([0.299, 0.587, 0.114], np.float32))
    percentile = float(np.percentile(channels, 99))
    return float(channels.mean()), percentile, float(channels.max()), float(luminance.mean()), float(luminance.max())


if __name__ == "__main__":
    main()
