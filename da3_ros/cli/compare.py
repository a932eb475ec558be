"""``da3-ros compare``: two evaluations side by side; fails where the second is worse than it may be."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from da3_ros.evaluation.compare import ComparedNumber, Comparison, Tolerance, compare, read_metrics

_ALL_DIGITS = 17  # tell any two floating point numbers apart
_SIGNS = {"lower": "-", "higher": "+", "nearer 0": "0", "same": "="}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros compare``."""
    parser.add_argument("a", type=Path, metavar="A", help="metrics.json of da3-ros evaluate, or its folder: before")
    parser.add_argument("b", type=Path, metavar="B", help="the same of what is now")
    parser.add_argument(
        "--tolerance",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=N",
        help="how much worse B may be, as 5%% of A or in the number's unit; NAME as in the table, or the end of it "
        "(abs_rel), with * for anything. Past one of them the exit code is 1, and where a recording failed in B that "
        "did not in A",
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Compare: 0, or 1 where something is past a tolerance or could not be evaluated any more."""
    tolerances = [Tolerance.parse(text) for text in args.tolerance]
    found = compare(read_metrics(args.a), read_metrics(args.b), tolerances)
    if args.json:
        print(json.dumps({**asdict(found), "passed": found.passed}, indent=1))
    else:
        _print(found)
    for number in found.past:
        a, b = _both_shown(number)
        print(f"past {', '.join(number.past)}: {number.name} was {a} and is {b}", file=sys.stderr)
    for text in found.failures:
        print(f"failed in B, but not in A: {text}", file=sys.stderr)
    return 0 if found.passed else 1


def _print(found: Comparison) -> None:
    rows = [("(better: - lower, + higher, 0 nearer 0, = neither)", "A", "B", "change", "")]
    rows += [(f"{_SIGNS[each.better]} {each.name}", *_both_shown(each), _change(each), _verdict(each))
             for each in found.numbers]  # fmt: skip
    rows += [(f"  {name}", _setting(a), _setting(b), "", "differs") for name, (a, b) in found.settings.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, a, b, change, verdict in rows:
        line = f"{name:{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}  {change:>{widths[3]}}  {verdict}"
        print(line.rstrip())


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _both_shown(number: ComparedNumber) -> tuple[str, str]:
    """Both values in as many digits, four or more, as it takes to tell them apart."""
    digits = 4
    while digits < _ALL_DIGITS and number.a != number.b and _shown(number.a, digits) == _shown(number.b, digits):
        digits += 1
    return _shown(number.a, digits), _shown(number.b, digits)


def _shown(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def _change(number: ComparedNumber) -> str:
    if number.a is None or number.b is None:
        return ""
    if number.a == number.b:
        return "0"
    if not number.a:
        return f"{number.b - number.a:+.3g}"
    percent = 100 * (number.b - number.a) / abs(number.a)
    return f"{percent:+.1f}%" if abs(percent) >= 0.05 else f"{percent:+.1g}%"


def _verdict(number: ComparedNumber) -> str:
    if number.past:
        return "PAST TOLERANCE"
    if number.worse is None:
        return "only in A" if number.b is None else "only in B"
    if number.better == "same" or number.worse == 0:
        return ""
    return "worse" if number.worse > 0 else "better"
