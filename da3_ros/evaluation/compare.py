"""Two evaluations side by side: every number of two metrics.json, which way is better, and what is past a tolerance."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from da3_ros.errors import InputError
from da3_ros.evaluation.report_recordings import failure_text
from da3_ros.evaluation.run_settings import SETTINGS

Better = Literal["lower", "higher", "nearer 0", "same"]
METRICS_FILE = "metrics.json"  # in a folder
# What da3-ros evaluate writes, and what of it every version has written.
_PARTS = ("depth", "trajectory", "consistency", "windows", "surface", "novel_views", "run")
_NEEDED = ("depth", "trajectory", "run")
_FAILED = {"recording", "segment", "segments", "attempts", "error"}      # of each in "failed"
_HIGHER = {
    *("delta1", "delta2", "delta3", "covered", "pixels", "overlap", "within_1", "within_5", "within_10", "pairs"),
    *("precision", "recall", "f1", "views", "frames", "sets", "estimates", "poses", "estimated_poses"),
    *("associated_poses", "rate_hz", "real_time_factor", "recordings", "psnr", "ssim", "kept_psnr", "kept_ssim"),
}
_LOWER = {
    *("abs_rel", "rmse", "mean", "median", "std", "smallest", "largest", "median_error", "scale_flicker"),
    *("local_flicker", "relative_std", "rank_correlation", "ause", "accuracy", "completeness", "chamfer"),
    *("p50", "p95", "max", "largest_difference"),
}
_NEARER_ZERO = {"scale_error", "shift"}


@dataclass(frozen=True)
class Tolerance:
    """How much worse the numbers that ``name`` fits may be: ``amount`` in their unit, or as a share of the first.

    ``name`` is a path such as ``trajectory.ate.se3.rmse`` or the end of one (``abs_rel``); * stands for anything.
    """

    name: str
    amount: float
    relative: bool

    @staticmethod
    def parse(text: str) -> Tolerance:
        """Of ``NAME=5%`` or ``NAME=0.02``. Raises InputError for anything else."""
        name, _, value = text.rpartition("=")
        relative = value.endswith("%")
        try:
            amount = float(value.removesuffix("%"))
        except ValueError:
            amount = math.nan
        if not name or not 0 <= amount < math.inf:
            raise InputError(f"'{text}' is no tolerance: wanted NAME=5% or NAME=0.02, at least 0")
        return Tolerance(name, amount / 100 if relative else amount, relative)

    def fits(self, path: str) -> bool:
        """Whether it is about the number at ``path``."""
        return fnmatchcase(path, self.name) or fnmatchcase(path, f"*.{self.name}")

    def __str__(self) -> str:
        return f"{self.name}={self.amount * 100:g}%" if self.relative else f"{self.name}={self.amount:g}"


@dataclass(frozen=True)
class ComparedNumber:
    """One number of both evaluations; None: it has none there.

    ``worse``: by how much the second one is worse, in its unit (below 0: better); of numbers of which neither way is
    better, by how much it differs. ``past``: the tolerances that it is past, as they were given.
    """

    name: str
    a: float | None
    b: float | None
    better: Better
    worse: float | None
    past: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """``settings``: what else differs between the runs (variant, device, parameters ...), as both have it; None where
    one has it not. ``failures``: what the second run could not evaluate, although the first one could, a line each."""

    numbers: tuple[ComparedNumber, ...]
    settings: Mapping[str, tuple[Any, Any]]
    failures: tuple[str, ...] = ()

    @property
    def past(self) -> list[ComparedNumber]:
        """The numbers that are past a tolerance."""
        return [number for number in self.numbers if number.past]

    @property
    def passed(self) -> bool:
        """Whether nothing is past a tolerance, and nothing has failed."""
        return not self.past and not self.failures


def read_metrics(path: Path) -> dict[str, Any]:
    """What ``da3-ros evaluate`` wrote into ``path``, a file or its folder. Raises InputError for other files."""
    path = path / METRICS_FILE if path.is_dir() else path
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): give the metrics.json of da3-ros evaluate") from error
    if not isinstance(found, dict) or not all(part in found for part in _NEEDED):
        raise InputError(f"{path} does not come from da3-ros evaluate: wanted an object with {', '.join(_NEEDED)}")
    failed = found.get("failed", [])
    if not isinstance(failed, list) or not all(isinstance(one, dict) and _FAILED <= one.keys() for one in failed):
        raise InputError(f"{path} does not come from da3-ros evaluate: 'failed' is no list of recordings that failed")
    return found


def compare(a: Mapping[str, Any], b: Mapping[str, Any], tolerances: Sequence[Tolerance] = ()) -> Comparison:
    """``b`` against ``a``, both from ``read_metrics``. Lists (errors over time, positions) are left out.

    A number that only ``a`` has is past every tolerance that fits it: what cannot be computed any more is no pass. Nor
    is a recording of which ``b`` could evaluate less than ``a``: the numbers do not know of the rest. Where both are of
    several recordings, those that both have are compared each too, below ``recordings.<name>``. Raises InputError for a
    tolerance that fits no number of ``a``, since it would never be past.
    """
    left, right = (dict(_leaves(_counted(each))) for each in (a, b))
    for name, pair in _recordings_of_both(a, b).items():
        for leaves, metrics in zip((left, right), pair, strict=True):
            found = _leaves(_counted(metrics), f"recordings.{name}")
            leaves |= {path: value for path, value in found if value is None or _is_number(value)}
    names = [*left, *(name for name in right if name not in left)]
    numbers: list[ComparedNumber] = []
    settings: dict[str, tuple[Any, Any]] = {}
    for name in names:
        values = left.get(name), right.get(name)
        if all(value is None or _is_number(value) for value in values):
            if values != (None, None):
                numbers.append(_compared(name, *values, tolerances))
        elif values[0] != values[1]:
            settings[name] = values
    settings |= _differing_settings(a, b)
    for tolerance in tolerances:
        if not any(number.a is not None and tolerance.fits(number.name) for number in numbers):
            raise InputError(
                f"the tolerance {tolerance} fits no number of the first file: names are paths as in the table, or "
                "their ends, such as depth.*.per_frame.none.abs_rel or abs_rel"
            )
    return Comparison(tuple(numbers), settings, tuple(_failures(a, b)))


def better(name: str) -> Better:
    """Which way a number is better; ``same`` where neither is."""
    *above, last = name.split(".")
    if above and above[-1] == "auc":
        return "higher"
    if last in _NEARER_ZERO:
        return "nearer 0"
    if last in _HIGHER:
        return "higher"
    # The median of the frames' scales is no error, but what the unit of the depth is.
    return "lower" if last in _LOWER and not name.endswith("scale.median") else "same"


def _counted(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of an evaluation: its numbers, and of how many frames and recordings they are."""
    recordings = {"recordings": len(metrics["recordings"])} if "recordings" in metrics else {}
    parts = {part: metrics.get(part) for part in _PARTS}
    if isinstance(parts["run"], Mapping):
        parts["run"] = {name: value for name, value in parts["run"].items() if name not in SETTINGS}
    return {"frames": metrics.get("frames"), **recordings, **parts}


def _recordings_of_both(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Name -> its numbers in ``a`` and ``b``. The same file may be in another folder now: where the names of all files
    differ, folders do not count."""
    left, right = (each.get("recordings") or {} for each in (a, b))
    if all(len({Path(name).name for name in names}) == len(names) for names in (left, right)):
        left, right = ({Path(name).name: each for name, each in names.items()} for names in (left, right))
    return {name: (left[name], right[name]) for name in left if name in right}


def _differing_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What the two runs were evaluated with: parameters, versions, truth. Those of older versions do not say it."""
    found: dict[str, tuple[Any, Any]] = {}
    for group in SETTINGS:
        left, right = (dict(_settings(each["run"], group)) for each in (a, b))
        if left and right:
            names = [*left, *(name for name in right if name not in left)]
            found |= {
                name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)
            }
    return found


def _settings(run: Any, group: str) -> Iterator[tuple[str, Any]]:
    """Paths and values, lists as a whole."""
    found = run.get(group) if isinstance(run, Mapping) else None
    for name, value in found.items() if isinstance(found, Mapping) else ():
        if isinstance(value, Mapping):
            yield from ((f"run.{group}.{name}.{key}", each) for key, each in value.items())
        else:
            yield f"run.{group}.{name}", value


def _failures(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Recordings of which ``b`` lost a larger share than ``a``."""
    before, now = _lost_shares(a), _lost_shares(b)
    for failed in b.get("failed", ()):
        if now[failed["recording"]] > before.get(failed["recording"], 0):
            yield failure_text(failed)


def _lost_shares(metrics: Mapping[str, Any]) -> dict[str, Fraction]:
    """Recording -> which share of its parts could not be evaluated."""
    shares: dict[str, Fraction] = {}
    for failed in metrics.get("failed", ()):
        share = Fraction(1, failed["segments"])
        shares[failed["recording"]] = shares.get(failed["recording"], Fraction()) + share
    return shares


def _compared(name: str, a: float | None, b: float | None, tolerances: Sequence[Tolerance]) -> ComparedNumber:
    direction = better(name)
    worse: float | None = None
    if a is not None and b is not None:
        worse = {"lower": b - a, "higher": a - b, "nearer 0": abs(b) - abs(a), "same": abs(b - a)}[direction]
    past = tuple(
        str(tolerance)
        for tolerance in tolerances
        if a is not None
        and tolerance.fits(name)
        and (worse is None or worse > tolerance.amount * (abs(a) if tolerance.relative else 1.0))
    )
    return ComparedNumber(name, a, b, direction, worse, past)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and what is there, of nested objects without their lists."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, f"{name}.{key}" if name else key)
    elif not isinstance(value, list):
        yield name, None if isinstance(value, float) and not math.isfinite(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
