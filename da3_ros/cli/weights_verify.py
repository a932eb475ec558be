"""What ``da3-ros weights verify`` looks at: structure, values, SHA-256 and loading memory of one checkpoint."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from da3_ros.cli.weights_memory import LoadingMemory, measure_loading
from da3_ros.errors import WeightsError
from da3_ros.model import VARIANTS
from da3_ros.model.checkpoint import WEIGHTS_FILE, check_file, read_config, read_layout, read_tensors
from da3_ros.model.hub import file_sha256, published_sha256
from da3_ros.model.layout import Layout, fitting_variants, nearest_variants, variant_layout

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``unknown`` where there was nothing to compare with."""

    name: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks of one checkpoint; ``variants`` are several where only the values of their weights differ."""

    file: Path
    variants: tuple[str, ...]
    checks: tuple[Check, ...]
    memory: tuple[LoadingMemory, ...] = ()

    @property
    def passed(self) -> bool:
        return all(check.outcome != FAILED for check in self.checks)


def verify(path: Path, variant: str | None, memory: list[torch.dtype], device: str) -> Report:
    """Check a safetensors file against ``variant``, or against the one that it says or seems to be.

    ``memory``: dtypes in which to load it on ``device`` and measure. Never asks the hub.
    """
    try:
        layout = read_layout(path)
        names = (variant,) if variant else _variants(path, layout)
        if not names:
            raise WeightsError(f"{path} fits no known variant")
        check_file(path, names[0], variant_layout(VARIANTS[names[0]]))
    except WeightsError as error:
        failed = (Check("structure", FAILED, str(error)), _check_sha256(path))
        return Report(path, (variant,) if variant else (), failed)
    count = sum(math.prod(shape) for shape in layout.values())
    structure = Check("structure", OK, f"{len(layout)} tensors, {count:,} parameters, {path.stat().st_size:,} bytes")
    checks = (structure, _check_values(path, layout), _check_sha256(path))
    loads = tuple(measure_loading(names[0], path, device, dtype) for dtype in memory)
    return Report(path, names, checks, loads)


def _variants(path: Path, layout: Layout) -> tuple[str, ...]:
    """What a checkpoint says it is, else what its tensors fit, else what they are most like."""
    named = read_config(path.parent) if path.name == WEIGHTS_FILE else None
    return (named,) if named else fitting_variants(layout) or nearest_variants(layout)


def _check_values(path: Path, layout: Layout) -> Check:
    bad = []
    progress = tqdm(read_tensors(path, layout, torch.device("cpu")), "values", len(layout), **_bar())
    for key, tensor in progress:
        broken = tensor.numel() - int(torch.isfinite(tensor).sum())
        if broken:
            bad.append(f"{key} has {broken} of {tensor.numel()} values that are not finite")
        del tensor
    if not bad:
        return Check("values", OK, "all finite")
    return Check("values", FAILED, bad[0] + (f" (and {len(bad) - 1} more tensors)" if len(bad) > 1 else ""))


def _check_sha256(path: Path) -> Check:
    wanted = published_sha256(path)
    if wanted is None:
        return Check("sha256", UNKNOWN, "no record from the hub beside this file")
    found = file_sha256(path)
    if found != wanted:
        return Check("sha256", FAILED, f"{found}, but the hub gave {wanted}: fetch it again")
    return Check("sha256", OK, f"{found}, as on the hub")


def _bar() -> dict[str, bool]:
    return {"disable": not sys.stderr.isatty(), "leave": False}
