"""``da3-ros weights``: the published checkpoints, which of them are here, and whether they are sound."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from da3_ros.cli.weights_memory import LoadingMemory
from da3_ros.cli.weights_verify import Report, verify
from da3_ros.errors import WeightsError
from da3_ros.model import VARIANTS, Variant
from da3_ros.model.checkpoint import check_file, check_folder, find_file
from da3_ros.model.hub import HubId, cached_commits, cached_part, fetch, find_cached, parse_hub_id
from da3_ros.model.layout import variant_layout
from da3_ros.model.weights import bundled_weights

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMES = "variant (its preferred release), hub id (owner/name or owner/name@revision)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros weights``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("list", help="all published checkpoints: size, licence, cached or not")
    action.set_defaults(act=_list)
    action.add_argument("--json", action="store_true", help="print JSON instead of a table")

    action = actions.add_parser("fetch", help="bring checkpoints into the cache of the hub client, or update them")
    action.set_defaults(act=_fetch)
    action.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help=_NAMES)
    action.add_argument("--json", action="store_true", help="print JSON instead of lines")

    action = actions.add_parser("verify", help="check structure, values and SHA-256 of checkpoints, without a network")
    action.set_defaults(act=_verify)
    action.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help=f"file, folder, or, cached: {_NAMES}")
    action.add_argument("--variant", choices=VARIANTS, metavar="V", help="expected variant (default: found out)")
    action.add_argument(
        "--memory", nargs="+", choices=_DTYPES, default=[], metavar="DTYPE",
        help="also load it in each DTYPE, and measure time and peak memory",
    )  # fmt: skip
    action.add_argument("--device", default="cpu", help="where --memory loads it (default: %(default)s)")
    action.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 1 where a checkpoint failed verification."""
    return args.act(args)


def _list(args: argparse.Namespace) -> int:
    releases = [_release(variant, repo) for variant in VARIANTS.values() for repo in variant.hub]
    if args.json:
        print(json.dumps([asdict(release) for release in releases], indent=1))
        return 0
    rows = [("variant", "hub id", "parameters", "download", "licence", "cached")]
    for one in releases:
        licence = one.licence + (" *" if one.noncommercial else "")
        rows.append((
            one.variant, one.hub_id, f"{one.parameters / 1e6:,.0f} M", _gigabytes(one.bytes), licence, one.cached
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("* for non-commercial use only: loaded only with model.accept_noncommercial set to true")
    return 0


@dataclass(frozen=True)
class Release:
    """One published checkpoint, and what of it is in the local cache."""

    variant: str
    hub_id: str
    parameters: int
    bytes: int
    licence: str
    noncommercial: bool
    cached_commits: tuple[str, ...]
    cached_part_bytes: int  # of an interrupted download

    @property
    def cached(self) -> str:
        if self.cached_commits:
            return ", ".join(commit[:12] for commit in self.cached_commits)
        return f"{_gigabytes(self.cached_part_bytes)} of it" if self.cached_part_bytes else "no"


def _release(variant: Variant, repo: str) -> Release:
    parameters = sum(math.prod(shape) for shape in variant_layout(variant).values())
    return Release(
        variant=variant.name,
        hub_id=repo,
        parameters=parameters,
        bytes=4 * parameters,  # all are published in float32
        licence=variant.licence,
        noncommercial=variant.noncommercial,
        cached_commits=tuple(cached_commits(repo)),
        cached_part_bytes=cached_part(repo),
    )


def _fetch(args: argparse.Namespace) -> int:
    rows = []
    for text in args.checkpoints:
        if text in VARIANTS and VARIANTS[text].bundled:
            raise WeightsError(f"the weights of {text} come with this package: there is nothing to fetch")
        hub_id = _hub_id(text)
        if hub_id is None:
            raise WeightsError(f"'{text}' is neither a variant nor a hub id: see da3-ros weights list")
        name = hub_id.variant
        path = fetch(hub_id, partial(check_folder, variant=name))
        if name:
            check_file(path, name, variant_layout(VARIANTS[name]))
        licence = _licence(VARIANTS[name] if name else None)
        rows.append({"checkpoint": str(hub_id), "file": str(path), "variant": name, "licence": licence})
        if not args.json:
            print(f"{hub_id}: {path}\n  licence: {licence}")
    if args.json:
        print(json.dumps(rows, indent=1))
    return 0


def _verify(args: argparse.Namespace) -> int:
    paths = [_find(text) for text in args.checkpoints]
    dtypes = [_DTYPES[name] for name in args.memory]
    reports = []
    for path in paths:
        reports.append(verify(path, args.variant, dtypes, args.device))
        if not args.json:
            _print_report(reports[-1])
    if args.json:
        print(json.dumps([_plain(report) for report in reports], indent=1))
    return 0 if all(report.passed for report in reports) else 1


def _find(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists():
        file = find_file(path)
        if file is None:
            raise WeightsError(f"no model.safetensors in {path}")
        return file
    if text in VARIANTS and VARIANTS[text].bundled:
        return bundled_weights(VARIANTS[text])
    hub_id = _hub_id(text)
    if hub_id is None:
        raise WeightsError(f"'{text}' is neither a file or folder here, nor a variant or hub id")
    cached = find_cached(hub_id)
    if cached is None:
        raise WeightsError(f"'{hub_id}' is not in the cache: run `da3-ros weights fetch {hub_id}`")
    return cached


def _hub_id(text: str) -> HubId | None:
    return HubId(VARIANTS[text].hub[0]) if text in VARIANTS else parse_hub_id(text)


def _licence(variant: Variant | None) -> str:
    if variant is None:
        return "unknown: not one of the published checkpoints, see its page on the hub"
    if variant.noncommercial:
        return f"{variant.licence}, for non-commercial use only: needs model.accept_noncommercial to be true"
    return variant.licence


def _print_report(report: Report) -> None:
    print(f"{report.file}\n  {' or '.join(report.variants) or 'unknown variant'}")
    if report.variants:
        print(f"  licence    {_licence(VARIANTS[report.variants[0]])}")
    for check in report.checks:
        print(f"  {check.name:10s} {check.outcome:7s}  {check.detail}")
    for load in report.memory:
        print(f"  loading    {_memory_line(load)}")


def _memory_line(load: LoadingMemory) -> str:
    line = (
        f"{load.dtype} on {load.device}: network {_gigabytes(load.network)}, host memory "
        f"{_gigabytes(load.host_before)} before, {_gigabytes(load.host_peak)} at the peak, "
        f"{_gigabytes(load.host_overhead)} beside the network"
    )
    if load.device_peak:
        line += f", device memory {_gigabytes(load.device_peak)} at the peak"
    return f"{line}, {load.seconds:.1f} s"


def _plain(report: Report) -> dict[str, Any]:
    return {
        "file": str(report.file),
        "variants": report.variants,
        "licence": VARIANTS[report.variants[0]].licence if report.variants else None,
        "passed": report.passed,
        "checks": [asdict(check) for check in report.checks],
        "memory": [{**asdict(load), "host_overhead": load.host_overhead} for load in report.memory],
    }


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
