"""Pictures of one scene to 3D Gaussians: reading, the network, and which Gaussians are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from da3_ros.datatypes import Frame
from da3_ros.errors import InputError
from da3_ros.geometry.gaussian_ply import GaussianCloud, prune_mask
from da3_ros.geometry.image import ImagePreparer, plan_views
from da3_ros.model import DepthAnything3

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Pruning:
    """What of the network's Gaussians is left out of the scene; see prune_mask for the first two."""

    border: float = 0.0
    depth_quantile: float = 1.0
    min_opacity: float = 0.0


@dataclass(frozen=True, eq=False)
class Window:
    """N pictures as the network sees them, on its device."""

    names: tuple[str, ...]
    images: torch.Tensor  # (N, 3, H, W) normalised
    colours: torch.Tensor  # (N, 3, H, W) float32, 0 to 1
    content: torch.Tensor  # (N, H, W) bool: picture, not padding

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's images."""
        height, width = self.images.shape[-2:]
        return height, width


@dataclass(frozen=True, eq=False)
class Scene:
    """Gaussians of the views that were not held out, and the cameras of all N views in the same frame."""

    cloud: GaussianCloud
    predicted: int  # Gaussians before pruning: one for every pixel
    extrinsics: torch.Tensor  # (N, 3, 4) world to camera
    intrinsics: torch.Tensor  # (N, 3, 3) in network pixels


def is_bag(path: Path) -> bool:
    """Whether ``path`` is a recording: a rosbag2 folder, an MCAP or a ROS 1 bag file."""
    return (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix in (".mcap", ".bag"))


def find_pictures(paths: Sequence[Path], most: int | None) -> list[Path]:
    """The picture files among ``paths``, folders standing for all pictures in them by name; at most ``most``.

    When there are more, they are taken at even distances, the first and the last among them. Raises InputError where
    there is none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"there is no picture or folder {path}")
    if not files:
        raise InputError(f"no pictures in {', '.join(map(str, paths))}: files ending in {', '.join(_SUFFIXES)}")
    return files if most is None else [files[i] for i in spread(len(files), min(most, len(files)))]


def spread(total: int, chosen: int) -> list[int]:
    """``chosen`` of the indices 0 to total - 1 at even distances, the first and the last among them."""
    return np.linspace(0, total - 1, chosen).round().astype(int).tolist()


def held_out_views(total: int, count: int) -> list[int]:
    """Which ``count`` of ``total`` views to hold out: at even distances, and, while others do, not the ends.

    Raises InputError unless at least one view is left.
    """
    if not 0 <= count < total:
        raise InputError(f"--holdout is {count}, but of {total} views 0 to {total - 1} can be held out")
    inside = spread(total, count + 2)[1:-1] if count + 2 <= total else list(range(total))[-count:]
    return inside if count else []


def read_pictures(files: Sequence[Path]) -> list[tuple[str, Frame]]:
    """The pictures, upright (EXIF), by name of the file. Raises InputError for one that cannot be read."""
    found = []
    for file in files:
        pixels = _read_picture(file)
        # Pictures of equal size are one camera to the preparer, which then needs one set of tables.
        found.append((file.name, Frame(f"{pixels.shape[1]}x{pixels.shape[0]}", 0, pixels)))
    return found


def make_window(pictures: Sequence[tuple[str, Frame]], process_res: int, device: torch.device) -> Window:
    """Named frames at the network's resolution, whose longest side is ``process_res``; rectified where calibrated."""
    frames = [frame for _, frame in pictures]
    plans = plan_views({frame.camera: (frame.size_hw, frame.calibration) for frame in frames}, process_res, {})
    images, colours = ImagePreparer(plans, device).prepare(frames)
    content = torch.zeros(len(frames), *images.shape[-2:], dtype=torch.bool, device=device)
    for view, frame in enumerate(frames):
        top, left, height, width = plans[frame.camera].view.content
        content[view, top : top + height, left : left + width] = True
    return Window(tuple(name for name, _ in pictures), images, colours.float() / 255, content)


def _read_picture(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            return np.ascontiguousarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{file} is no picture that can be read: {' '.join(str(error).split())}") from error


@torch.inference_mode()
def reconstruct(
    model: DepthAnything3,
    window: Window,
    held_out: Sequence[int],
    pruning: Pruning,
    use_ray_pose: bool = False,
    published_rotations: bool = False,
) -> Scene:
    """Gaussians of all views but ``held_out``, which the network sees all the same: their cameras need it."""
    images = window.images[None]
    state = model.encode_views(images)
    features = model.mix_views(state, model.role_tokens(model.select_reference(state), len(window.names)))
    if use_ray_pose:
        cameras = model.decode_ray_cameras(model.decode_dense(features, ray=True), window.size)
    else:
        cameras = model.decode_cameras(features)
    kept = torch.tensor(
        [view for view in range(len(window.names)) if view not in held_out], device=window.images.device
    )
    features = features.views(kept)
    depth = model.decode_dense(features).depth
    extrinsics, intrinsics = (value[:, kept] for value in cameras)
    gaussians = model.decode_gaussians(features, images[:, kept], depth, extrinsics, intrinsics, published_rotations)
    cloud = GaussianCloud(*gaussians.window(0))
    mask = prune_mask(depth[0], pruning.border, pruning.depth_quantile) & window.content[kept]
    used = mask.flatten() & (cloud.opacities >= pruning.min_opacity) & cloud.valid()
    return Scene(cloud.keep(used), len(cloud.means), cameras[0][0], cameras[1][0])
