"""``da3-ros bringup``: the same processes as the launch file, started without ``launch``."""

from __future__ import annotations

import argparse

from da3_ros.bringup import DEFAULT_CONFIG, LOG_LEVELS, bringup
from da3_ros.cli.node_parameters import add_parameter_option, parse_parameter
from da3_ros.cli.processes import run_until_first_ends


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros bringup``; the launch file has the same."""
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="ROS parameter file, or the name of an example (default: %(default)s)",
    )
    parser.add_argument("--model", default="", metavar="VARIANT", help="network variant, such as da3-base")
    parser.add_argument("--checkpoint", default="", metavar="PATH", help="safetensors, hub id, or 'random'")
    parser.add_argument("--namespace", default="", help="namespace of the node and all its topics")
    parser.add_argument("--use-sim-time", action="store_true", help="take the time from /clock")
    parser.add_argument("--rviz", action="store_true", help="start RViz too")
    parser.add_argument("--log-level", default="info", choices=LOG_LEVELS, help="of the node (default: %(default)s)")
    parser.add_argument(
        "--no-autostart", action="store_true", help="wait for a lifecycle manager to configure and activate"
    )
    add_parameter_option(parser, "window.sets:=6")


def run(args: argparse.Namespace) -> int:
    """Run until the first process ends or a signal comes; returns that process's exit code."""
    processes = bringup(
        args.config,
        model=args.model,
        checkpoint=args.checkpoint,
        namespace=args.namespace,
        use_sim_time=args.use_sim_time,
        rviz=args.rviz,
        log_level=args.log_level,
        autostart=not args.no_autostart,
        overrides=dict(parse_parameter(text) for text in args.parameters),
    )
    return run_until_first_ends(processes)
