"""One forward pass of training: a batch of scenes through the network's public stages to the terms of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from da3_ros.model.camera import normalise_cameras
from da3_ros.model.layers import QKV
from da3_ros.model.network import DepthAnything3
from da3_ros.training.batch import SceneBatch
from da3_ros.training.losses import Answer, LossWeights, objective
from da3_ros.training.matching import match_loss, relative_poses
from da3_ros.training.targets import make_targets

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)    # of ImageNet, as everywhere in this package


class TrainingStep(nn.Module):
    """The network with its objective. Parameters are fp32; with ``bf16``, linear layers, convolutions and attention
    run in bfloat16 by autocast, except where cameras are encoded and decoded.
    """

    def __init__(self, network: DepthAnything3, weights: LossWeights, *, bf16: bool = False):
        super().__init__()
        self.network = network
        self.weights = weights
        self.bf16 = bf16
        self._mean, self._deviation = (
            torch.tensor(values, device=network.device).view(3, 1, 1) for values in (_MEAN, _DEVIATION)
        )
        self._objective: Callable[..., dict[str, Tensor]] = objective
        self._match: Callable[..., Tensor] = match_loss

    def compile_parts(self) -> None:
        """Compiles layers, head and objective each by itself: all layers of a kind share one graph, so that a new shape
        costs seconds and not minutes. Of convolutions the compiler makes nothing better, but of what is between."""
        torch._dynamo.config.recompile_limit = 64       # layers of three kinds, for every shape
        for block in self.network.backbone.pretrained.blocks:
            block.compile(dynamic=False)
        self.network.head.compile(dynamic=False)
        self._objective = torch.compile(objective, dynamic=False)
        self._match = torch.compile(match_loss, dynamic=False)

    def forward(
        self, batch: SceneBatch, reference: Tensor, posed: int = 0, decoded: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Terms of the loss, scalars. ``reference`` (B,) int64 is each sample's reference view.

        The first ``posed`` samples are told their cameras, so their reference must be view 0. Dense maps are made and
        judged of the pictures ``decoded`` (M,) int64, counted through the batch; of all if None.
        """
        answer, qkv = self._answer(batch, reference, posed, decoded)
        targets = make_targets(batch, reference).flat()
        targets = targets if decoded is None else targets.of(decoded)
        terms = self._objective(answer, targets, self.weights, batch.images.shape[1])
        if self.weights.match and batch.images.shape[1] > 1:
            geometry = (batch.depth, batch.valid, batch.K, relative_poses(batch.T_cam_world))
            terms["match"] = self._match(qkv.q, qkv.k, *geometry, reference)
            terms["loss"] = terms["loss"] + self.weights.match * terms["match"]
        return terms

    def answer(
        self, batch: SceneBatch, reference: Tensor, posed: int = 0, decoded: Tensor | None = None
    ) -> Answer:
        """What the network says of a batch, of the B x N views in a row; arguments as of ``forward``.

        What treats views alike sees them in a row too: then batches of the same number of views share what was
        compiled, however the views are spread over samples.
        """
        return self._answer(batch, reference, posed, decoded)[0]

    def _answer(
        self, batch: SceneBatch, reference: Tensor, posed: int, decoded: Tensor | None
    ) -> tuple[Answer, QKV]:
        """The same, and queries and keys of the first layer across views."""
        network, (samples, views) = self.network, batch.images.shape[:2]
        with torch.autocast(network.device.type, torch.bfloat16, enabled=self.bf16):
            state = network.encode_views(self.normalise(batch.images).flatten(0, 1)[None])
            state = replace(
                state,
                tokens=state.tokens.unflatten(1, (samples, views))[0],
                summary=state.summary.unflatten(1, (samples, views))[0],
            )
            tokens = network.role_tokens(reference, views)
            if posed:
                cameras = normalise_cameras(batch.T_cam_world[:posed])
                with torch.autocast(network.device.type, enabled=False):
                    known = network.encode_cameras(cameras, batch.K[:posed], batch.size)
                tokens = torch.cat([known, tokens[posed:]])
            entry = network.backbone.enter(state.tokens, tokens, state.size)
            features = network.backbone.mix(entry)
            levels = (level.flatten(0, 1) for level in features.levels)
            chosen = tuple((level if decoded is None else level.index_select(0, decoded))[None] for level in levels)
            maps = network.decode_dense(replace(features, levels=chosen), ray=True)
        assert maps.ray is not None and maps.ray_conf is not None
        with torch.autocast(network.device.type, enabled=False):
            camera = network.cam_dec.encoding(features.camera.flatten(0, 1))
        return Answer(maps.depth[0], maps.depth_conf[0], maps.ray[0], maps.ray_conf[0], *camera), entry.qkv

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, N, 3, H, W) as the network wants them, fp32; uint8, or floats in 0..1."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        return (images.float() / scale - self._mean) / self._deviation
