"""The networks that the configuration asks for."""

from __future__ import annotations

import torch

from da3_ros.config import METRIC_VARIANT, RANDOM_CHECKPOINT, ModelConfig
from da3_ros.model import VARIANTS, DepthAnything3, NestedDepthAnything3, SingleViewDepth, load_model
from da3_ros.model.layout import Network


def load_network(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> tuple[Network, dict[str, str]]:
    """The network of ``config``, with the metric one nested where it names one, and where each comes from.

    Raises ConfigError and WeightsError as load_model does.
    """
    origin = {"checkpoint": config.checkpoint or VARIANTS[config.variant].hub[0]}
    model = _load(config.variant, origin["checkpoint"], config, device, dtype)
    if config.metric_checkpoint:
        origin["metric checkpoint"] = config.metric_checkpoint
        metric = _load(METRIC_VARIANT, config.metric_checkpoint, config, device, dtype)
        assert isinstance(model, DepthAnything3) and isinstance(metric, SingleViewDepth)
        model = NestedDepthAnything3(model, metric)
    return model, {role: "random (untrained)" if name == RANDOM_CHECKPOINT else name for role, name in origin.items()}


def _load(variant: str, checkpoint: str, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Network:
    return load_model(
        variant,
        None if checkpoint == RANDOM_CHECKPOINT else checkpoint,
        device=device,
        dtype=dtype,
        accept_noncommercial=config.accept_noncommercial,
    )
