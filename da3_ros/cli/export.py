"""``da3-ros export``: a network as an ONNX file, checked in ONNX Runtime against PyTorch before it is called good."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from da3_ros.config import REFERENCE_VIEWS, VARIANTS
from da3_ros.errors import ConfigError
from da3_ros.model import load_model
from da3_ros.model.onnx_export import OPSET, OnnxNetwork, export_onnx, largest_differences
from da3_ros.model.variants import PATCH

# Largest difference between the two, relative to the largest value of an output.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Export:
    """What was written, and how far ONNX Runtime is from PyTorch on images that the export has not seen."""

    file: str
    variant: str
    opset: int
    views: int
    height: int
    width: int
    weights_trained: bool
    largest_differences: dict[str, float]

    @property
    def good(self) -> bool:
        """Whether every output agrees."""
        return all(difference <= _TOLERANCE for difference in self.largest_differences.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros export``."""
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="where to write; weights go to FILE.onnx.data")
    parser.add_argument("--variant", default="da3-small", choices=VARIANTS, metavar="V", help="default %(default)s")
    parser.add_argument(
        "--checkpoint", help="file, folder or hub id (default: random weights, for trying out a deployment)"
    )
    parser.add_argument("--accept-noncommercial", action="store_true", help="use weights with such a licence")
    parser.add_argument("--views", type=int, default=1, metavar="N", help="views of a window (default %(default)s)")
    parser.add_argument(
        "--size", default="504x378", metavar="WxH", help="of the images, multiples of 14 (default %(default)s)"
    )
    parser.add_argument("--ref-view", default="saddle_balanced", choices=REFERENCE_VIEWS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(args: argparse.Namespace) -> int:
    """Export, check, report; 1 where the check fails."""
    height, width = parse_size(args.size)
    if args.views < 1:
        raise ConfigError(f"--views must be at least 1, not {args.views}")
    if not args.file.parent.is_dir():
        raise ConfigError(f"the folder of {args.file} does not exist: make it first")
    model = load_model(args.variant, args.checkpoint, accept_noncommercial=args.accept_noncommercial)
    images, others = (_images(seed, args.views, height, width) for seed in (0, 1))
    export_onnx(model, args.file, images, args.ref_view)
    with torch.inference_mode():
        wanted = model(others, ref_view=args.ref_view)
    network = OnnxNetwork(args.file)
    export = Export(
        file=str(args.file),
        variant=args.variant,
        opset=OPSET,
        views=args.views,
        height=height,
        width=width,
        weights_trained=args.checkpoint is not None,
        largest_differences=largest_differences(network(others.numpy()), wanted),
    )
    print(json.dumps(asdict(export), indent=1) if args.json else _text(export))
    return 0 if export.good else 1


def _images(seed: int, views: int, height: int, width: int) -> torch.Tensor:
    """Normalised images (1, N, 3, H, W) of noise, each view with a brightness and contrast of its own."""
    generator = torch.Generator().manual_seed(seed)
    contrast = 0.3 + torch.rand((1, views, 1, 1, 1), generator=generator)
    brightness = torch.randn((1, views, 3, 1, 1), generator=generator)
    return torch.randn((1, views, 3, height, width), generator=generator) * contrast + brightness


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of WIDTHxHEIGHT; raises ConfigError unless both are multiples of a patch."""
    width, _, height = text.partition("x")
    sides = [int(side) if side.isdigit() else 0 for side in (height, width)]
    if any(side < PATCH or side % PATCH for side in sides):
        raise ConfigError(f"--size must be WIDTHxHEIGHT in pixels, multiples of {PATCH} such as 504x378, not {text!r}")
    return sides[0], sides[1]


def _text(export: Export) -> str:
    lines = [
        f"{export.file}: {export.variant}{'' if export.weights_trained else ' with random weights'}, ONNX opset "
        f"{export.opset}, for {export.views} views of {export.width}x{export.height} and nothing else"
    ]
    lines += [
        f"  {name}: differs from PyTorch by at most {difference:.1e} of its largest value"
        for name, difference in export.largest_differences.items()
    ]
    lines.append("good" if export.good else f"not good: the differences must not exceed {_TOLERANCE:g}; do not use it")
    return "\n".join(lines)
