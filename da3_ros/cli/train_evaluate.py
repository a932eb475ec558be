"""``da3-ros train evaluate``: how well weights do on held-out scenes, and on real recordings with ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from da3_ros.config import ANY_VIEW_VARIANTS
from da3_ros.errors import ConfigError
from da3_ros.streaming.device import choose_device

if TYPE_CHECKING:
    from da3_ros.cli.demo_sequence import Sequence, SequenceStep
    from da3_ros.training.held_out import Predictor, Scores, WindowScore

_VIEWS = 8  # of a window of a real recording, at most
_MOST_MOMENTS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros train evaluate``."""
    parser.add_argument("--weights", metavar="FILE", help="safetensors file, folder or hub id (default: bundled ones)")
    parser.add_argument("--variant", default="da3-nano", choices=ANY_VIEW_VARIANTS, help="default: %(default)s")
    parser.add_argument(
        "--sequences", type=int, default=200, metavar="N", help="held-out scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the held-out scenes' pictures, multiples of 14 (default: 168 224)",
    )
    parser.add_argument(
        "--real",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders of pictures as of da3-ros demo --images",
    )
    parser.add_argument(
        "--process-res",
        type=int,
        default=280,
        metavar="PX",
        help="longest side of the recordings' pictures in the network (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Score the weights on everything that was asked for."""
    from tqdm import tqdm

    from da3_ros.model import DepthAnything3, load_model
    from da3_ros.model.variants import PATCH
    from da3_ros.training.held_out import SIZE, evaluate, held_out_sequences, network_predictor
    from da3_ros.training.worlds import SceneSource

    height, width = args.size or SIZE
    if min(height, width) < PATCH or height % PATCH or width % PATCH:
        raise ConfigError(f"--size {height} {width}: the network takes multiples of {PATCH} pixels")
    device = choose_device(args.device)
    network = load_model(args.variant, args.weights, device)
    assert isinstance(network, DepthAnything3)
    predict = network_predictor(network)
    scores: dict[str, Scores] = {}
    if args.sequences > 0:
        with tqdm(total=args.sequences, desc="held out", unit="scene", disable=not sys.stderr.isatty()) as bar:
            batches = held_out_sequences(SceneSource(device, compiled=False), args.sequences, (height, width))
            scores["held out"] = evaluate(predict, batches, bar.update)
    if args.real:  # only then: a machine that merely trains need not have what reads recordings
        from da3_ros.cli.demo_pictures import read_pictures
    for folder in args.real:
        sequence = read_pictures(folder, _MOST_MOMENTS)
        scores[sequence.title] = _score_recording(sequence, predict, args.process_res)
    if args.json:
        print(json.dumps({name: asdict(found) for name, found in scores.items()}, indent=2))
    else:
        print(table(scores))
    return 0


def table(scores: dict[str, Scores]) -> str:
    """A line for each recording: medians over its windows of views, AUC the mean, as in percent; moved: of pairs that
    are at least a twentieth of the mean depth apart."""
    lines = [
        f"{'':<34}{'windows':>8}{'AbsRel':>8}{'delta1':>8}{'AUC@30':>8}{'moved':>8}{'rotation':>10}{'direction':>11}{'FoV':>7}",
        f"{'':<34}{'':>8}{'':>8}{'':>8}{'%':>8}{'%':>8}{'deg':>10}{'deg':>11}{'deg':>7}",
    ]
    for name, s in scores.items():
        lines.append(
            f"{name[:33]:<34}{s.windows:>8}{s.abs_rel:>8.3f}{s.delta1:>8.3f}{s.auc30:>8.1f}{s.auc30_moved:>8.1f}"
            f"{s.rotation_deg:>10.2f}{s.direction_deg:>11.2f}{s.fov_deg:>7.2f}"
        )
    return "\n".join(lines)


def _score_recording(sequence: Sequence, predict: Predictor, process_res: int) -> Scores:
    """Scores of consecutive windows of up to 8 views, none of which share a picture."""
    from da3_ros.training.held_out import Scores

    moments = max(1, _VIEWS // len(sequence.cameras))
    windows = _windows(sequence, moments)
    return Scores.of([_score_moments(sequence, window, predict, process_res) for window in windows])


def _windows(sequence: Sequence, moments: int) -> Iterator[list[SequenceStep]]:
    """Consecutive steps, ``moments`` at a time; what is left at the end counts if more than half or all there is."""
    window: list[SequenceStep] = []
    for step in sequence.read():
        window.append(step)
        if len(window) == moments:
            yield window
            window = []
    if 2 * len(window) > moments or sequence.steps < moments:
        yield window


def _score_moments(
    sequence: Sequence, window: list[SequenceStep], predict: Predictor, process_res: int
) -> WindowScore:
    """Score of one window; depth is compared at the size of the pictures."""
    import torch

    from da3_ros.datatypes import Frame
    from da3_ros.geometry.camera import horizontal_fov
    from da3_ros.geometry.image import ImagePreparer, depth_to_input_size, plan_views
    from da3_ros.training.held_out import horizontal_fov_deg, score_window

    cameras = {camera.name: camera for camera in sequence.cameras}
    images = [image for step in window for image in step.images]
    sizes = {image.camera: image.rgb.shape[:2] for image in images}
    plans = plan_views({name: (sizes[name], cameras[name].calibration) for name in cameras}, process_res, {})
    frames = [Frame(image.camera, image.stamp_ns, image.rgb, "rgb8") for image in images]
    colours = ImagePreparer(plans, "cpu").prepare(frames)[1]
    predicted = predict(colours.unsqueeze(0))

    depths, truths = [], []
    for i, image in enumerate(images):
        plan = plans[image.camera]
        top, left, height, width = plan.view.content
        content = predicted.depth[0, i, top : top + height, left : left + width].cpu()
        full, _ = depth_to_input_size(content, plan, torch.from_numpy(plan.view.K_content))
        distorted = plan.calibration is not None and plan.calibration.distorted
        known = image.depth is not None and not distorted  # the depth of a distorted picture has no pinhole pixels
        depths.append(full.flatten())
        truths.append(torch.from_numpy(image.depth).flatten() if known else torch.full_like(full, torch.nan).flatten())
    poses = [_pose(sequence, step, image.camera) for step in window for image in step.images]
    posed = all(pose is not None for pose in poses)
    T = torch.stack([pose for pose in poses if pose is not None]).inverse() if posed else torch.zeros(0, 4, 4)
    width = plans[images[0].camera].view.canvas_hw[1]
    fov = torch.tensor([horizontal_fov(plans[image.camera].view.K, width) for image in images])
    return score_window(
        torch.cat(depths),
        torch.cat(truths),
        predicted.T_cam_world[0] if posed else T,
        T,
        horizontal_fov_deg(predicted.K[0], width),
        torch.rad2deg(fov),
    )


def _pose(sequence: Sequence, step: SequenceStep, name: str):
    """T_world_cam (4, 4) of a camera of the rig, None where it is not known."""
    import torch

    camera = next(camera for camera in sequence.cameras if camera.name == name)
    if step.T_world_tracked is None:
        return None
    T = step.T_world_tracked
    if camera.T_base_cam is not None:
        return torch.from_numpy(T @ camera.T_base_cam)
    return torch.from_numpy(T) if len(sequence.cameras) == 1 else None
