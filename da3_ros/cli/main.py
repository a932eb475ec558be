"""``da3-ros``: finds the subcommand and turns errors that a user can mend into one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from da3_ros.errors import Da3Error

# Modules with add_arguments(parser) and run(args) -> exit code. Imported only when they are asked for: torch alone
# takes seconds.
COMMANDS = {
    "demo": ("da3_ros.cli.demo", "send a several-camera sequence through the node and show what comes out"),
    "bringup": ("da3_ros.cli.bringup", "start the node, as `ros2 launch da3_ros bringup.launch.py` does"),
    "replay": ("da3_ros.cli.replay", "run a recording through the pipeline: depth, clouds and poses as a recording"),
    "evaluate": ("da3_ros.cli.evaluate", "score depth, poses and confidence of a recording against the truth"),
    "compare": ("da3_ros.cli.compare", "show two evaluations side by side, and fail where one is worse than allowed"),
    "bags": ("da3_ros.cli.bags", "show what is in a recording, or make one of a folder of pictures"),
    "weights": ("da3_ros.cli.weights", "list, fetch and verify the published checkpoints"),
    "bench": ("da3_ros.cli.bench", "time the network and the whole step, stage by stage"),
    "train": ("da3_ros.cli.train", "train a network, distil a large one into a small one, export and evaluate"),
    "memory": ("da3_ros.cli.bench_memory", "predict the memory that windows take, and compare it with what they take"),
    "approximations": ("da3_ros.cli.bench_approximations", "time what is faster than exact, and how far off it is"),
    "export": ("da3_ros.cli.export", "write a network as an ONNX file for one number of views and one image size"),
    "gaussians": ("da3_ros.cli.gaussians", "make 3D Gaussians of pictures of one scene: a PLY file and new views"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code: 0, 1 when the work failed, 2 for what the user can mend."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="da3-ros", description="Depth Anything 3 for ROS 2.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    chosen = parser.parse_known_args(arguments[:1])[0].command
    module_name, text = COMMANDS[chosen]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        print(
            f"da3-ros {chosen}: the Python module {error.name} is missing: run `make env` and use .venv/bin/da3-ros, "
            "or source a ROS 2 distribution and install what package.xml names",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser(prog=f"da3-ros {chosen}", description=f"{text[0].upper()}{text[1:]}.")
    module.add_arguments(parser)
    try:
        return module.run(parser.parse_args(arguments[1:]))
    except Da3Error as error:
        print(f"da3-ros {chosen}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
