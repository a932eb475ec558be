"""One training run, as its YAML file describes it."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from da3_ros.errors import ConfigError
from da3_ros.model.variants import PATCH, VARIANTS
from da3_ros.training.losses import LossWeights

MOST_STEPS = 2**24
MOST_SAMPLES = 1024     # of one step on one process: see data.sample_seeds


@dataclass(frozen=True)
class Shape:
    """A kind of batch: ``batch`` samples on each process of ``views`` pictures of height x width pixels.

    Every step draws one kind; ``share`` is how often, relative to the others.
    """

    views: int
    height: int
    width: int
    batch: int
    share: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """H, W of each picture."""
        return self.height, self.width


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes; the same file and machine give the same weights."""

    steps: int
    shapes: tuple[Shape, ...]
    variant: str = "da3-nano"
    init: str = ""                  # weights to begin from (file or folder); empty: drawn from the seed
    fresh: str = ""                 # parameters that begin so are drawn all the same, such as cam_dec
    textures: str = ""              # pictures on some surfaces: scikit-image, or a folder of them; empty: none
    seed: int = 0                   # of weights, data and everything else that is drawn
    learning_rate: float = 1.0e-3
    warmup: int = 500               # steps
    decay: float = 0.3              # share of the run in which the learning rate descends, at its end; 0: never
    weight_decay: float = 0.05
    clip: float = 1.0               # largest norm of the gradients
    ema: float = 0.999              # of the running mean of the weights, which is what is exported
    posed: float = 0.2              # share of the samples whose cameras the network is told
    decoded: float = 1.0            # share of the pictures of a step whose dense maps are made; cameras are of all
    together: int = 1               # batches of one kind in a row that are made at once
    uses: int = 1                   # steps in a row that see each batch, with other reference views
    losses: LossWeights = field(default_factory=LossWeights)
    bf16: bool = True
    compile: bool = True
    log_every: int = 50             # steps
    pictures_every: int = 2000      # steps
    checkpoint_every: int = 2000    # steps


def read_run(path: Path) -> RunConfig:
    """The run that a YAML file describes. Raises ConfigError that lists every problem."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no readable YAML file ({str(error).splitlines()[0]})") from error
    problems: list[str] = []
    config = _build(RunConfig, content, "", problems)
    if config is not None and not problems:
        problems += _contradictions(config)
    if config is None or problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    return config


def _contradictions(config: RunConfig) -> list[str]:
    problems = []
    variant = VARIANTS.get(config.variant)
    if variant is None or not variant.any_view or variant.metric is not None:
        known = [name for name, one in VARIANTS.items() if one.any_view and one.metric is None]
        problems.append(f"variant is '{config.variant}' but must be one of: {', '.join(known)}")
    if not config.shapes:
        problems.append("shapes is empty: at least one kind of batch is needed")
    for shape in config.shapes:
        if shape.height % PATCH or shape.width % PATCH or min(shape.height, shape.width) < PATCH:
            problems.append(f"shapes: {shape.height} x {shape.width} must be multiples of {PATCH}")
        if not 1 <= shape.batch <= MOST_SAMPLES or shape.views < 1 or shape.share <= 0:
            problems.append(f"shapes: batch must be 1 to {MOST_SAMPLES}, views at least 1, share above 0")
    bounds: dict[str, tuple[float, float]] = {
        "steps": (1, MOST_STEPS), "learning_rate": (0, 1), "warmup": (0, MOST_STEPS), "decay": (0, 1),
        "weight_decay": (0, 1), "clip": (1e-6, 1e6), "ema": (0, 1), "posed": (0, 1),
        "decoded": (0.01, 1), "uses": (1, 100), "together": (1, 64),
        "seed": (0, 2**20), "log_every": (1, MOST_STEPS), "pictures_every": (1, MOST_STEPS),
        "checkpoint_every": (1, MOST_STEPS),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        if not low <= getattr(config, name) <= high:
            problems.append(f"{name} is {getattr(config, name)} but must be {low:g} to {high:g}")
    return problems


def _build(kind: Any, content: Any, where: str, problems: list[str]) -> Any:
    """An instance of the dataclass ``kind`` of a mapping; None, and what is wrong in ``problems``."""
    if not isinstance(content, dict):
        problems.append(f"{where or 'the file'} must be a mapping of {', '.join(one.name for one in fields(kind))}")
        return None
    types, known, values = get_type_hints(kind), {one.name: one for one in fields(kind)}, {}
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            problems.append(f"unknown {where}{name}" + (f" (did you mean {near[0]}?)" if near else ""))
            continue
        values[name] = _convert(types[name], value, f"{where}{name}", problems)
    for name, one in known.items():
        if name not in content and one.default is MISSING and one.default_factory is MISSING:
            problems.append(f"{where}{name} is missing")
    return None if problems else kind(**values)


def _convert(kind: Any, value: Any, name: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{name}.", problems)
    if get_origin(kind) is tuple:
        if isinstance(value, list):
            return tuple(_build(get_args(kind)[0], one, f"{name}.", problems) for one in value)
    elif kind is float and not isinstance(value, bool):
        try:
            return float(value)         # YAML takes 1e-3 for text
        except (TypeError, ValueError):
            pass
    elif type(value) is kind:
        return value
    problems.append(f"{name} is {value!r} but must be {'a list' if get_origin(kind) is tuple else kind.__name__}")
    return None
