"""The networks that the configuration asks for."""

from __future__ import annotations

import torch

from da3_ros.config import METRIC_VARIANT, RANDOM_CHECKPOINT, ModelConfig
from da3_ros.model import VARIANTS, DepthAnything3, NestedDepthAnything3, SingleViewDepth, load_model
from da3_ros.model.dense_head import set_half_resolution
from da3_ros.model.layout import Network
from da3_ros.model.matmul import set_matmul_format
from da3_ros.model.weights import bundled_weights
from da3_ros.streaming.device import choose_matmul
from da3_ros.streaming.memory import make_blueprint, require_start
from da3_ros.streaming.window import WindowConfig


def load_network(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, window: WindowConfig
) -> tuple[Network, dict[str, str]]:
    """The network of ``config``, with the metric one nested where it names one, and where each comes from.

    Raises ConfigError where it and ``window`` do not fit into the device's memory, ConfigError and WeightsError as
    load_model does, UnavailableError as set_matmul_format does.
    """
    matmul = choose_matmul(config.matmul, config.dtype, device)
    metric_variant = VARIANTS[METRIC_VARIANT] if config.metric_checkpoint else None
    variant = VARIANTS[config.variant]
    blueprint = make_blueprint(variant, dtype, matmul, metric_variant)
    set_half_resolution(blueprint, config.half_resolution_head, config.guided_upsampling)
    require_start(blueprint, window, device)
    origin = {"checkpoint": config.checkpoint or (str(bundled_weights(variant)) if variant.bundled else variant.hub[0])}
    model = _load(config.variant, origin["checkpoint"], config, device, dtype)
    if config.metric_checkpoint:
        origin["metric checkpoint"] = config.metric_checkpoint
        metric = _load(METRIC_VARIANT, config.metric_checkpoint, config, device, dtype)
        assert isinstance(model, DepthAnything3) and isinstance(metric, SingleViewDepth)
        model = NestedDepthAnything3(model, metric)
    if matmul is not None:
        set_matmul_format(model, matmul)
    set_half_resolution(model, config.half_resolution_head, config.guided_upsampling)
    return model, {role: "random (untrained)" if name == RANDOM_CHECKPOINT else name for role, name in origin.items()}


def _load(variant: str, checkpoint: str, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Network:
    return load_model(
        variant,
        checkpoint,
        device=device,
        dtype=dtype,
        accept_noncommercial=config.accept_noncommercial,
    )
