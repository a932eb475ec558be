"""``da3-ros train distill``: a small network learns on recordings what a large one sees in them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from da3_ros.config import ANY_VIEW_VARIANTS, NESTED_VARIANTS, RANDOM_CHECKPOINT
from da3_ros.errors import ConfigError, WeightsError
from da3_ros.streaming.device import choose_device

if TYPE_CHECKING:
    import torch

    from da3_ros.training.config import RunConfig
    from da3_ros.training.distillation import Lesson, Lessons

_SOURCE = "distillation.json"   # in the folder of the run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros train distill``."""
    parser.add_argument("--teacher", required=True, metavar="WEIGHTS", help="the large network: hub id, file or folder")
    parser.add_argument("--student", required=True, choices=ANY_VIEW_VARIANTS, metavar="V", help="variant to train")
    parser.add_argument(
        "--init", metavar="WEIGHTS", help="weights that the student begins with (default: its own; random: none)"
    )
    parser.add_argument("--bags", required=True, nargs="+", type=Path, metavar="BAG", help="recordings to learn from")
    parser.add_argument("--topics", nargs="+", default=[], metavar="T", help="of images (default: all with pictures)")
    parser.add_argument("--sets", type=int, default=4, metavar="N", help="moments of a window (default: %(default)s)")
    parser.add_argument(
        "--process-res", type=int, default=280, metavar="PX", help="longest side of a view (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="windows of a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the run (default: runs/V-distilled)")
    parser.add_argument("--minutes", type=float, help="stop training after this time, with a checkpoint")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--accept-noncommercial", action="store_true", help="use weights with such a licence")


def run(args: argparse.Namespace) -> int:
    """Let the teacher look at the recordings, then train the student on what it saw."""
    from da3_ros.training.parts import write_whole
    from da3_ros.training.processes import Processes
    from da3_ros.training.trainer import Trainer

    device = choose_device(args.device)
    folder = args.output or Path("runs") / f"{args.student}-distilled"
    taught_by = _source_of(args)
    _check_same(folder, taught_by)
    lessons = _teach(args, device)
    config = _config(args, lessons)
    trainer = Trainer(config, lessons, folder, Processes(0, 1, device))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _SOURCE, json.dumps(taught_by, indent=1))
    finished = trainer.run(args.minutes)
    print(
        f"step {trainer.done} of {trainer.schedule.steps}"
        f"{'' if finished else '; the same command goes on from there'}; weights: {folder / 'weights'}"
    )
    return 0


def _source_of(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the lessons of a run: its configuration knows nothing of it."""
    bags = [str(path.expanduser().absolute()) for path in args.bags]
    return {"teacher": args.teacher, "bags": bags, "topics": args.topics, "sets": args.sets,
            "process_res": args.process_res}  # fmt: skip


def _check_same(folder: Path, taught_by: Mapping[str, Any]) -> None:
    """Raises ConfigError where the run in ``folder`` learns something else: to go on with it would be a lie."""
    file = folder / _SOURCE
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    other = [name for name, value in taught_by.items() if before.get(name) != value]
    if other:
        raise ConfigError(f"{folder} holds a distillation with another {', '.join(other)}: give another --output")


def _teach(args: argparse.Namespace, device: torch.device) -> Lessons:
    from da3_ros.model import DepthAnything3, NestedDepthAnything3, load_model
    from da3_ros.training.distillation import Lessons, Teacher

    variant = _variant_of(args.teacher)
    network = load_model(variant, args.teacher, device, accept_noncommercial=args.accept_noncommercial)
    assert isinstance(network, (DepthAnything3, NestedDepthAnything3))
    found = list(_lessons(args, Teacher(network, seed=0)))
    aligned, views = sum(lesson.aligned for lesson in found), sum(len(lesson.scene.images) for lesson in found)
    print(f"{variant} taught {len(found)} windows; {aligned} of {views} views aligned to measured depth",
          file=sys.stderr)  # fmt: skip
    return Lessons(found, device)


def _lessons(args: argparse.Namespace, teacher) -> Iterator[Lesson]:
    from tqdm import tqdm

    from da3_ros.training.recordings import read_windows

    with tqdm(desc="teaching", unit="window", disable=None) as bar:
        for path in args.bags:
            for window in read_windows(path, args.topics, args.sets, args.process_res):
                yield teacher.teach(window)
                bar.update()


def _variant_of(checkpoint: str) -> str:
    """The variant whose weights ``checkpoint`` holds. Raises WeightsError for one that predicts no cameras."""
    from da3_ros.model.checkpoint import find_file, read_layout
    from da3_ros.model.hub import parse_hub_id
    from da3_ros.model.layout import fitting_variants

    able = (*ANY_VIEW_VARIANTS, *NESTED_VARIANTS)
    path = Path(checkpoint).expanduser()
    hub_id = None if path.exists() else parse_hub_id(checkpoint)
    names: tuple[str, ...] = ()
    if hub_id is not None:
        names = (hub_id.variant,) if hub_id.variant else ()
    else:
        file = find_file(path)
        if file is None:
            raise WeightsError(f"there is no checkpoint {checkpoint}: give a safetensors file, its folder, or a hub id")
        names = fitting_variants(read_layout(file))
    if not names or names[0] not in able:
        raise WeightsError(
            f"the teacher {checkpoint} is {names[0] if names else 'no known network'}: wanted one of {', '.join(able)}"
        )
    return names[0]


def _config(args: argparse.Namespace, lessons: Lessons) -> RunConfig:
    from da3_ros.model import VARIANTS
    from da3_ros.model.weights import bundled_weights, find_weights
    from da3_ros.training.config import RunConfig, Shape

    variant = VARIANTS[args.student]
    if args.init is None:
        init = str(bundled_weights(variant) if variant.bundled else find_weights(variant.hub[0], args.student))
    else:
        init = "" if args.init == RANDOM_CHECKPOINT else args.init
    height, width = lessons.size
    # Fewer views are seen more at a time, so that all steps cost about the same.
    counts = sorted({1, max(1, lessons.most_views // 2), lessons.most_views})
    shapes = tuple(
        Shape(views, height, width, args.batch * lessons.most_views // views, share=float(views)) for views in counts
    )
    return RunConfig(
        steps=args.steps,
        shapes=shapes,
        variant=args.student,
        init=init,
        learning_rate=args.learning_rate,
        warmup=min(100, args.steps // 10),
        compile=False,
    )
