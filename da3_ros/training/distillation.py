"""Pseudo ground truth: what a large network sees on recordings, in metres where something measured depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.errors import InputError
from da3_ros.model.nested import NestedDepthAnything3
from da3_ros.model.network import DepthAnything3
from da3_ros.training.alignment import fit_depth
from da3_ros.training.batch import SceneBatch
from da3_ros.training.recordings import Window

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST_CONFIDENT = 0.1          # of the teacher's pixels that teach nothing


@dataclass(frozen=True)
class Lesson:
    """One window as the student is to see it, on the CPU, and how many of its views were aligned to measurements."""

    scene: SceneBatch
    aligned: int


class Teacher:
    """An any-view network whose answers are taken for the truth."""

    def __init__(self, network: DepthAnything3 | NestedDepthAnything3, seed: int):
        self._network = network
        self._device = network.device
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self._mean = torch.tensor(_MEAN, device=self._device).view(3, 1, 1)
        self._deviation = torch.tensor(_DEVIATION, device=self._device).view(3, 1, 1)

    @torch.no_grad()
    def teach(self, window: Window) -> Lesson:
        """Depth by scale and shift onto what was measured, view by view; camera centres by the window's scale.

        A view that cannot be aligned takes the median scale of those that can, and where none can all keep the
        teacher's own unit. Intrinsics are the calibrated ones where there are any.
        """
        images = window.images.to(self._device)
        answer = self._network(((images.float() / 255 - self._mean) / self._deviation)[None])
        assert answer.extrinsics is not None and answer.intrinsics is not None and answer.depth_conf is not None
        sky = ~answer.depth[0].isfinite()
        depth = torch.where(sky, 1.0, answer.depth[0].float())
        fit = fit_depth(depth, window.measured.to(self._device), window.known.to(self._device) & ~sky, self._generator)
        scale = fit.scale[fit.trusted].median() if fit.trusted.any() else torch.ones((), device=self._device)
        depth = torch.where(fit.trusted[:, None, None], fit.apply(depth), scale * depth)

        content = window.content.to(self._device)
        confidence = answer.depth_conf[0].float()
        sure = confidence >= torch.where(content, confidence, torch.nan).flatten(1).nanquantile(
            _LEAST_CONFIDENT, dim=1
        )[:, None, None]
        T_cam_world = torch.eye(4, device=self._device).repeat(len(images), 1, 1)
        T_cam_world[:, :3] = answer.extrinsics[0]
        T_cam_world[:, :3, 3] *= scale
        K = window.K.to(self._device)
        K = torch.where(K.isfinite().all(-1).all(-1)[:, None, None], K, answer.intrinsics[0].float())
        scene = SceneBatch(images, depth, content & sure & ~sky & (depth > 0), content & sky, K, T_cam_world)
        return Lesson(scene.to("cpu"), int(fit.trusted.sum()))


class Lessons:
    """A Source of windows that were taught before: each sample is a stretch of views of one of them."""

    def __init__(self, lessons: Iterable[Lesson], device: torch.device):
        self.scenes: Sequence[SceneBatch] = [lesson.scene for lesson in lessons]
        if not self.scenes:
            raise InputError("the recordings hold no complete window of views: nothing can be learned from them")
        sizes = {scene.size for scene in self.scenes}
        if len(sizes) > 1:
            raise InputError(f"the recordings' views have different sizes ({sorted(sizes)}): distil on one at a time")
        self._device = device

    @property
    def size(self) -> tuple[int, int]:
        """H, W of all views."""
        return self.scenes[0].size

    @property
    def most_views(self) -> int:
        """Views that every window has."""
        return min(len(scene.images) for scene in self.scenes)

    def __call__(self, seeds: Tensor, views: int, size: tuple[int, int]) -> SceneBatch:
        """Samples of ``views`` neighbouring views; ``size`` is that of the recordings."""
        assert size == self.size and views <= self.most_views
        parts: list[list[Tensor]] = []
        for seed in seeds.tolist():
            draw = torch.Generator().manual_seed(seed)
            scene = self.scenes[int(torch.randint(len(self.scenes), (), generator=draw))]
            first = int(torch.randint(len(scene.images) - views + 1, (), generator=draw))
            stretch = slice(first, first + views)
            parts.append([value[stretch] for value in vars(scene).values()])
        return SceneBatch(*(torch.stack(column) for column in zip(*parts, strict=True))).to(self._device)
