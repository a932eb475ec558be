"""Pictures as surface patterns: those that scikit-image ships, or a folder of one's own.

Drawn patterns have the statistics of whoever drew them. A picture brings what they lack: objects, letters, skin, stone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from da3_ros.errors import ConfigError
from da3_ros.training.scenes.noise import rand
from da3_ros.training.scenes.patterns import Pattern

SCIKIT_IMAGE = "scikit-image"
PREFIX = "picture: "  # of such patterns' names

# Left out: its stereo pair, which is one of the recordings that networks are scored on, and figures of a few colours.
_SHIPPED = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
_SUFFIXES = (".png", ".jpg", ".jpeg")
_LEAST_PIXELS = 32


def picture_patterns(source: str) -> dict[str, Pattern]:
    """One pattern for each picture of ``source``, by name: 'scikit-image' or a folder of PNG and JPEG files.

    A pattern's variants are squares of the picture, from half of its shorter side to all of it, mirrored in one half of
    the cases. They do not tile: where the square repeats on a surface there is an edge, as between two posters.

    Raises:
        ConfigError: scikit-image is not installed, or the folder has no picture, or one that cannot be read.
    """
    return {PREFIX + path.name: _pattern(path) for path in _files(source)}


def _files(source: str) -> Sequence[Path]:
    if source == SCIKIT_IMAGE:
        found = importlib.util.find_spec("skimage")
        if found is None or found.origin is None:
            raise ConfigError("textures is 'scikit-image', which is not installed: pip install scikit-image")
        return [Path(found.origin).parent / "data" / name for name in _SHIPPED]
    folder = Path(source)
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            f"textures is '{source}' but must be '{SCIKIT_IMAGE}' or a folder with pictures ({', '.join(_SUFFIXES)})"
        )
    return files


def _pattern(path: Path) -> Pattern:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None or min(pixels.shape[:2]) < _LEAST_PIXELS:
        raise ConfigError(f"textures: {path} is no picture of {_LEAST_PIXELS} pixels at least")
    colour = torch.from_numpy(np.ascontiguousarray(pixels[::-1, :, ::-1]))  # rows upwards, as patterns have them
    albedo = (colour.permute(2, 0, 1).float() / 255).pow(2.2)

    def squares(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
        out = []
        for side, down, right, turned in rand(generator, n, 4).tolist():
            H, W = albedo.shape[1:]
            side = round(min(H, W) * (0.5 + 0.5 * side))
            top, left = int(down * (H - side + 1)), int(right * (W - side + 1))
            square = albedo[None, :, top : top + side, left : left + side].to(generator.device)
            square = F.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)
            out.append(square.flip(-1) if turned < 0.5 else square)
        return torch.cat(out).permute(0, 2, 3, 1)

    return squares
