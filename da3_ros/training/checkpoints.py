"""State of a run on disk, complete: a run that goes on from it does what the unbroken run would have done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from da3_ros.errors import ConfigError, WeightsError
from da3_ros.model.checkpoint import WEIGHTS_FILE, read_config
from da3_ros.model.layout import PREFIX, check_layout, network_layout
from da3_ros.model.network import DepthAnything3
from da3_ros.training.config import RunConfig
from da3_ros.training.optim import RunningMean, Schedule
from da3_ros.training.parts import read_parts, write_parts, write_whole

STATES, WEIGHTS = "states", "weights"        # in the folder of a run
_KEEP = 2
_STATE = "state.json"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")       # of the optimisers


def save_state(
    folder: Path,
    step: int,
    config: RunConfig,
    schedule: Schedule,
    network: nn.Module,
    mean: RunningMean,
    optimizers: Sequence[torch.optim.Optimizer],
) -> Path:
    """Writes the state after ``step`` steps into a folder of its own in ``folder``; older ones but one are removed."""
    target = folder / f"step-{step:08d}"
    names = {id(value): name for name, value in network.named_parameters()}
    tensors: dict[str, Tensor] = {f"weights/{name}": value for name, value in network.named_parameters()}
    tensors |= {f"mean/{name}": value for name, value in mean.weights.items()}
    for optimizer in optimizers:
        for parameter, kept in optimizer.state.items():
            tensors |= {f"{key}/{names[id(parameter)]}": value for key, value in kept.items()}
    write_parts(tensors, target)
    state = {"step": step, "config": asdict(config), "schedule": asdict(schedule)}
    write_whole(target / _STATE, json.dumps(state, indent=1))       # last: what has it is complete
    for old in _states(folder)[:-_KEEP]:
        shutil.rmtree(old)
    return target


def load_state(
    folder: Path, config: RunConfig, network: nn.Module, mean: RunningMean, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[int, Schedule] | None:
    """Puts the newest state in ``folder`` into network, mean and optimizers; steps done and schedule, None if none.

    Raises ConfigError where it is of a run with another configuration.
    """
    states = _states(folder)
    if not states:
        return None
    state = json.loads((states[-1] / _STATE).read_text())
    then, now = state["config"], json.loads(json.dumps(asdict(config)))
    other = [name for name in now if then.get(name) != now[name]]
    if other:
        raise ConfigError(
            f"{folder} holds a run with another {', '.join(other)}: go on with its own configuration, or give another "
            "--output (and init: the weights in this one, to begin from them)"
        )
    tensors = read_parts(states[-1])
    owner = {p: one for one in optimizers for group in one.param_groups for p in group["params"]}
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(tensors[f"weights/{name}"])
            mean.weights[name].copy_(tensors[f"mean/{name}"])
            kept = {key: tensors[f"{key}/{name}"] for key in _MOMENTS if f"{key}/{name}" in tensors}
            if kept:
                owner[value].state[value] = {
                    key: one.to(value.device).contiguous(memory_format=_format_of(value, one))
                    for key, one in kept.items()
                }
    return state["step"], Schedule(**state["schedule"])


def _format_of(parameter: Tensor, value: Tensor) -> torch.memory_format:
    """The layout of the parameter, which the fused optimiser demands of its state too."""
    if value.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights by parameter name, fp32: of a file or folder in the published layout, or of the state of a run.

    Of a run it is the running mean in the newest state that the folder ``path`` holds. Raises WeightsError where
    there are none, and for tensors under names that the published layout does not have.
    """
    states = _states(path) or _states(path / STATES)
    tensors = read_parts(states[-1] if states else path)
    mean = {name.removeprefix("mean/"): value for name, value in tensors.items() if name.startswith("mean/")}
    foreign = [name for name in tensors if not name.startswith(PREFIX)]
    if not tensors or (foreign and not mean):
        found = f"has a tensor '{foreign[0]}'" if foreign else "has no tensors"
        raise WeightsError(f"{path} {found}: weights in the published layout are named {PREFIX}...")
    return {name.removeprefix(PREFIX): value.float() for name, value in (mean or tensors).items()}


def mean_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights at several ``paths``, each of which counts the same, by parameter name, fp32.

    Two of them are in memory at a time. Raises WeightsError where one cannot be read, or is of another network than
    the first: another variant, or other names or shapes.
    """
    first, *others = paths
    total = read_weights(first)
    wanted = {PREFIX + name: tuple(value.shape) for name, value in total.items()}
    for path in others:
        variants = _named_variant(first), _named_variant(path)
        if None not in variants and len(set(variants)) > 1:
            raise WeightsError(f"{path} belongs to '{variants[1]}', {first} to '{variants[0]}': these have no mean")
        weights = read_weights(path)
        found = {PREFIX + name: tuple(value.shape) for name, value in weights.items()}
        check_layout(wanted, found, f"{path} is of another network than {first}")
        total = {name: value + weights[name] for name, value in total.items()}
    return {name: value / len(paths) for name, value in total.items()}


def _named_variant(path: Path) -> str | None:
    """The variant that a config.json beside a published file names; None where there is none."""
    return read_config(path.parent) if path.name == WEIGHTS_FILE else None


def load_weights(network: DepthAnything3, path: Path, keep: str = "") -> None:
    """Copies the weights at ``path`` into a network, but not into parameters whose names begin with ``keep``.

    Raises WeightsError unless they fit exactly.
    """
    weights = read_weights(path)
    found = {PREFIX + name: tuple(value.shape) for name, value in weights.items()}
    check_layout(network_layout(network), found, f"{path} does not fit {network.variant.name}")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if not (keep and name.startswith(keep)):
                value.copy_(weights[name])


def published(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights by parameter name as a published file holds them. Raises WeightsError where ``dtype`` cannot."""
    converted = {PREFIX + name: value.to(dtype) for name, value in weights.items()}
    broken = [name for name, value in converted.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{broken[0]} has values that are not finite in {dtype}; choose another dtype or checkpoint")
    return converted


def _states(folder: Path) -> list[Path]:
    """Complete states in a folder, the oldest first."""
    return sorted(one.parent for one in folder.glob(f"step-*/{_STATE}"))
