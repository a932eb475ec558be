"""Parameters of the node on the command line: ``-p NAME:=VALUE``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from da3_ros.errors import ConfigError


def add_parameter_option(parser: argparse.ArgumentParser, example: str) -> None:
    """Adds ``-p``; ``args.parameters`` then lists the texts given, for ``parse_parameter``."""
    parser.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help=f"set a parameter of the node, for example {example} (may be repeated)",
    )


def parse_parameter(text: str) -> tuple[str, Any]:
    """``NAME:=VALUE``; what is no JSON number, list or boolean is a string."""
    name, separator, value = text.partition(":=")
    if not separator or not name:
        raise ConfigError(f"-p takes NAME:=VALUE, for example -p window.sets:=6, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
