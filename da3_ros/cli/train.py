"""``da3-ros train``: train a network on rendered scenes, and hand its weights over."""

from __future__ import annotations

import argparse
from pathlib import Path

from da3_ros.cli import train_distill, train_evaluate
from da3_ros.errors import ConfigError
from da3_ros.streaming.device import choose_device

_DTYPES = ("float16", "bfloat16", "float32")
_HOST_THREADS = 4  # where a GPU trains; more only wait for each other while textures are drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros train``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser(
        "run", help="train as a YAML file says; goes on where the run in --output stopped (torchrun: on several GPUs)"
    )
    action.set_defaults(act=_run)
    action.add_argument("config", type=Path, metavar="CONFIG", help="the run, such as config/train/da3-nano.yaml")
    action.add_argument("--output", type=Path, metavar="DIR", help="its folder (default: runs/<name of CONFIG>)")
    action.add_argument("--init", metavar="WEIGHTS", help="begin from these weights (instead of init in CONFIG)")
    action.add_argument("--minutes", type=float, help="stop after this time, with a checkpoint")
    action.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")

    action = actions.add_parser("export", help="the weights of a run as a checkpoint in the published layout")
    action.set_defaults(act=_export)
    action.add_argument(
        "runs", type=Path, nargs="+", metavar="WEIGHTS",
        help="folder of a run, of one of its states, or of parts, or a safetensors file",
    )  # fmt: skip
    action.add_argument("--mean", action="store_true", help="the mean of several WEIGHTS; each counts the same")
    action.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    action.add_argument("--dtype", default="float16", choices=_DTYPES, help="default: %(default)s")

    action = actions.add_parser("evaluate", help="errors of weights on held-out scenes and on real recordings")
    action.set_defaults(act=train_evaluate.run)
    train_evaluate.add_arguments(action)

    action = actions.add_parser("distill", help="a small network learns on recordings what a large one sees in them")
    action.set_defaults(act=train_distill.run)
    train_distill.add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    return args.act(args)


def _run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    import torch

    from da3_ros.training.config import read_run
    from da3_ros.training.processes import join, leave, see_own_gpu
    from da3_ros.training.sources import make_source
    from da3_ros.training.trainer import Trainer

    config = read_run(args.config)
    if args.init is not None:
        config = replace(config, init=args.init)
    folder = args.output or Path("runs") / args.config.stem
    see_own_gpu()
    processes = join(choose_device(args.device).type)
    if processes.device.type == "cuda":
        torch.set_num_threads(_HOST_THREADS)
    try:
        source = make_source(processes.device, compiled=config.compile, textures=config.textures)
        trainer = Trainer(config, source, folder, processes)
        begun = trainer.done
        finished = trainer.run(args.minutes)
    finally:
        leave(processes)
    if processes.leads:
        print(
            f"steps {begun} to {trainer.done} of {trainer.schedule.steps} "
            f"{'done' if finished else 'done; the same command goes on from there'}; weights: {folder / 'weights'}"
        )
    return 0


def _export(args: argparse.Namespace) -> int:
    import torch

    from da3_ros.model.weights import write_tensors
    from da3_ros.training.checkpoints import mean_weights, published

    if len(args.runs) > 1 and not args.mean:
        raise ConfigError(f"{len(args.runs)} weights for one file: give one of them, or --mean for the mean of all")
    if len(args.runs) == 1 and args.mean:
        raise ConfigError(f"a mean takes two weights or more, and there is only {args.runs[0]}: leave out --mean")
    weights = published(mean_weights(args.runs), getattr(torch, args.dtype))
    write_tensors(weights, args.output)
    print(f"{args.output}: {sum(value.numel() for value in weights.values()) / 1e6:.2f} M parameters, "
          f"{args.output.stat().st_size / 1e6:.1f} MB")  # fmt: skip
    return 0
