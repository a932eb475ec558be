"""``da3-ros gaussians``: 3D Gaussians of pictures of one scene, as a file and, on a CUDA machine, as new pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from da3_ros.config import RANDOM_CHECKPOINT
from da3_ros.datatypes import Frame
from da3_ros.errors import InputError, WeightsError
from da3_ros.evaluation.gaussian_scene import (
    Pruning,
    Scene,
    Window,
    find_pictures,
    held_out_views,
    is_bag,
    make_window,
    read_pictures,
    reconstruct,
)
from da3_ros.evaluation.novel_views import PROTOCOL, draw_views, view_quality
from da3_ros.geometry.gaussian_ply import PUBLISHED_BORDER, PUBLISHED_DEPTH_QUANTILE, write_gaussian_ply
from da3_ros.model import VARIANTS, DepthAnything3, load_model
from da3_ros.rendering import cameras_between, find_rasterizer, render
from da3_ros.streaming.device import choose_device, choose_dtype, describe_device

_VARIANT = "da3-giant"
_BAG_VIEWS = 16  # of a recording, where --views does not say: it has far more images than memory holds


@dataclass(frozen=True)
class Figures:
    """What ``--json`` writes. PSNR is in dB over the pixels of the picture, by its file name; SSIM likewise."""

    variant: str
    checkpoint: str
    device: str
    dtype: str
    views: int
    height: int
    width: int
    network_s: float
    gaussians_predicted: int
    gaussians_written: int
    file: str
    held_out_psnr: dict[str, float] | None = None
    held_out_psnr_mean: float | None = None
    kept_psnr: dict[str, float] | None = None
    kept_psnr_mean: float | None = None
    held_out_ssim_mean: float | None = None
    kept_ssim_mean: float | None = None
    protocol: str | None = None
    pictures: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros gaussians``."""
    what = parser.add_argument_group("what the network sees")
    what.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="pictures of one scene, their folder, or one recording"
    )
    what.add_argument(
        "--views",
        type=int,
        metavar="N",
        help=f"take N of them at even distances (default: all, of a recording {_BAG_VIEWS})",
    )
    what.add_argument(
        "--topics", nargs="+", default=[], metavar="T", help="of a recording (default: all with pictures)"
    )
    what.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the recording (default: 0)")
    what.add_argument("--duration", type=float, metavar="S", help="seconds of the recording (default: to its end)")
    what.add_argument("--process-res", type=int, default=504, metavar="PX", help="longest side (default: %(default)s)")
    network = parser.add_argument_group("the network")
    network.add_argument(
        "--checkpoint",
        default=VARIANTS[_VARIANT].hub[0],
        help="of da3-giant: file, folder, hub id, or 'random': untrained (default: %(default)s)",
    )
    network.add_argument(
        "--accept-noncommercial", action="store_true", help="accept that its weights are for non-commercial use only"
    )
    network.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> (default: %(default)s)")
    network.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    network.add_argument("--use-ray-pose", action="store_true", help="cameras from the ray maps")
    network.add_argument(
        "--published-rotations",
        action="store_true",
        help="orientations of the Gaussians as the published code has them, with its mixed-up quaternions",
    )
    out = parser.add_argument_group("the file")
    out.add_argument("--out", type=Path, default=Path("scene.ply"), help="(default: %(default)s)")
    out.add_argument("--degree", type=int, choices=(0, 1, 2), default=2, help="of the colours' harmonics (default: 2)")
    out.add_argument(
        "--border",
        type=float,
        default=0.0,
        metavar="SHARE",
        help=f"of height and width to leave out on each side (the published export: {PUBLISHED_BORDER:g})",
    )
    out.add_argument(
        "--depth-quantile",
        type=float,
        default=1.0,
        metavar="SHARE",
        help=f"of each view's pixels, the nearest, to keep (the published export: {PUBLISHED_DEPTH_QUANTILE:g})",
    )
    out.add_argument("--min-opacity", type=float, default=0.0, metavar="A", help="leave out what is more transparent")
    pictures = parser.add_argument_group("new pictures (need gsplat and a CUDA device)")
    pictures.add_argument("--render", type=Path, metavar="DIR", help="write pictures of held-out and new views there")
    pictures.add_argument(
        "--holdout", type=int, default=0, metavar="K", help="leave the Gaussians of K views out, compare with PSNR"
    )
    pictures.add_argument(
        "--between", type=int, default=1, metavar="M", help="new views between neighbours with --render (default: 1)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output, no table)")


def run(args: argparse.Namespace) -> int:
    """Reconstruct, write, render; what cannot work is said before the network is loaded."""
    if args.checkpoint != RANDOM_CHECKPOINT and VARIANTS[_VARIANT].noncommercial and not args.accept_noncommercial:
        raise WeightsError(
            f"the weights of {_VARIANT} are for non-commercial use only ({VARIANTS[_VARIANT].licence}): add "
            "--accept-noncommercial if yours is"
        )
    drawing = args.render is not None or args.holdout > 0
    if drawing:
        find_rasterizer()
    device = choose_device(args.device)
    if drawing and device.type != "cuda":
        raise InputError(f"--render and --holdout need the network on a CUDA device, not on {device}")
    dtype = choose_dtype(args.dtype, device)
    window = make_window(_pictures(args), args.process_res, device)
    held_out = held_out_views(len(window.names), args.holdout)

    checkpoint = None if args.checkpoint == RANDOM_CHECKPOINT else args.checkpoint
    model = load_model(_VARIANT, checkpoint, device, dtype, accept_noncommercial=args.accept_noncommercial)
    assert isinstance(model, DepthAnything3)
    started = time.perf_counter()
    pruning = Pruning(args.border, args.depth_quantile, args.min_opacity)
    scene = reconstruct(model, window, held_out, pruning, args.use_ray_pose, args.published_rotations)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    written = write_gaussian_ply(args.out, scene.cloud.to_degree(args.degree))

    height, width = window.size
    figures = {
        "variant": _VARIANT, "checkpoint": args.checkpoint, "device": describe_device(device),
        "dtype": str(dtype).removeprefix("torch."), "views": len(window.names), "height": height, "width": width,
        "network_s": seconds, "gaussians_predicted": scene.predicted, "gaussians_written": written,
        "file": str(args.out),
    }  # fmt: skip
    if drawing:
        figures |= _draw(scene, window, held_out, args.render, args.between)
    _print(Figures(**figures), args.json)
    return 0


def _pictures(args: argparse.Namespace) -> list[tuple[str, Frame]]:
    if args.views is not None and args.views < 1:
        raise InputError(f"--views is {args.views}, but at least one view is needed")
    if len(args.images) == 1 and is_bag(args.images[0]):
        from da3_ros.evaluation.gaussian_bag import read_bag  # rosbags is needed for recordings alone

        most = _BAG_VIEWS if args.views is None else args.views
        return read_bag(args.images[:1], args.topics, args.start, args.duration, most)
    if args.topics or args.start or args.duration is not None:
        raise InputError("--topics, --start and --duration are for a recording: name one, and nothing else")
    return read_pictures(find_pictures(args.images, args.views))


def _draw(scene: Scene, window: Window, held_out: list[int], folder: Path | None, between: int) -> dict:
    """PSNR and SSIM of all views, and, with a folder, pictures of the held-out views beside the real ones and of new
    views."""
    seen = draw_views(scene, window)
    psnrs, ssims = view_quality(seen, window)
    kept_views = [view for view in range(len(seen)) if view not in held_out]
    kept = {window.names[view]: psnrs[view] for view in kept_views}
    found = {"kept_psnr": kept, "kept_psnr_mean": float(np.mean(list(kept.values())))}
    found["kept_ssim_mean"] = float(np.mean([ssims[view] for view in kept_views]))
    if held_out:
        missed = {window.names[view]: psnrs[view] for view in held_out}
        found |= {"held_out_psnr": missed, "held_out_psnr_mean": float(np.mean(list(missed.values())))}
        found["held_out_ssim_mean"] = float(np.mean([ssims[view] for view in held_out]))
        found["protocol"] = PROTOCOL
    if folder is None:
        return found
    files = []
    for view in held_out:
        both = torch.cat([window.colours[view], seen[view]], dim=-1)
        files.append(_save(both, folder / f"held_out_{view:03d}.png"))
    poses, K = cameras_between(scene.extrinsics, scene.intrinsics, between)
    for number in range(len(poses)):
        image = render(scene.cloud, poses[number, None], K[number, None], window.size).images[0]
        files.append(_save(image, folder / f"new_{number:03d}.png"))
    return found | {"pictures": tuple(files)}


def _save(image: torch.Tensor, file: Path) -> str:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}") from error
    return str(file)


def _print(figures: Figures, target: str | None) -> None:
    if target:
        text = json.dumps(asdict(figures), indent=1)
        if target == "-":
            print(text)
            return
        Path(target).write_text(text + "\n")
    if figures.checkpoint == RANDOM_CHECKPOINT:
        print("note: untrained (random) weights: the Gaussians mean nothing", file=sys.stderr)
    print(f"{figures.variant} on {figures.device} ({figures.dtype}): {figures.views} views of "
          f"{figures.width}x{figures.height}, {figures.network_s:.1f} s")  # fmt: skip
    print(f"{figures.gaussians_written:,} of {figures.gaussians_predicted:,} Gaussians in {figures.file}")
    for title, values, mean, likeness in (
        ("held out", figures.held_out_psnr, figures.held_out_psnr_mean, figures.held_out_ssim_mean),
        ("kept", figures.kept_psnr, figures.kept_psnr_mean, figures.kept_ssim_mean),
    ):
        for name, value in (values or {}).items():
            print(f"  {title:8s}  {name:30s}  {value:6.2f} dB")
        if values:
            print(f"  {title:8s}  {'mean PSNR':30s}  {mean:6.2f} dB, SSIM {likeness:.3f}")
    if figures.protocol:
        print(f"({figures.protocol})")
    if figures.pictures:
        print(f"{len(figures.pictures)} pictures beside {figures.pictures[0]}")
