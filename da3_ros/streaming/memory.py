"""How much memory a window needs, before anything is allocated, and the refusal where that is not there.

Nothing is estimated from formulas: the network and the window run once without data (on torch's ``meta`` device),
in the code that will run with data, and the bytes of all tensors that live at the same time are added up.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from da3_ros.datatypes import View, WindowView
from da3_ros.errors import ConfigError
from da3_ros.model import DepthAnything3, NestedDepthAnything3, SingleViewDepth, Variant
from da3_ros.model.key_reduction import reduce_keys
from da3_ros.model.layers import low_precision_parameters
from da3_ros.model.layout import Network, build
from da3_ros.model.matmul import set_matmul_format
from da3_ros.model.variants import PATCH
from da3_ros.streaming.device import choose_execution
from da3_ros.streaming.networks import make_window_network
from da3_ros.streaming.rig import Rig
from da3_ros.streaming.window import SlidingWindow, WindowConfig

GIB = 2**30
_BYTES_PER_INPUT_PIXEL = 40  # as it arrives, in float, and resized on its way
_MARGIN = 1.5  # of a window's memory: what allocators and libraries take on top (docs/performance.md)
# Steps that the allocator holds besides the one that runs, where steps are captured: the one before the capture, on the
# capture's own stream, and the one in the pool of the graphs. It shares no memory between the three.
_CAPTURED_STEPS = 2
_ROUGH_FACTOR = 150  # more than the memory of a window in units of one fp32 activation of all its tokens, run once


class TensorBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered: those alive now, and the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.most = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._add((args, kwargs), counts=False)  # made before, such as weights; results may be views of them
        result = func(*args, **(kwargs or {}))
        self._add(result, counts=True)
        return result

    def _add(self, tensors: Any, counts: bool) -> None:
        for leaf in tree_leaves(tensors):
            if isinstance(leaf, torch.Tensor):
                self._add_storage(leaf.untyped_storage(), counts)

    def _add_storage(self, storage: torch.UntypedStorage, counts: bool) -> None:
        key = storage._cdata
        if key in self._storages:
            return
        size = storage.nbytes() if counts else 0
        self._storages.add(key)
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.alive -= size


class _FusedAttention(TorchFunctionMode):
    """Attention takes what its fused kernels take: the result and one number for each query, never all pairs.

    Which kernel torch would choose for tensors without data is not laid down.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a window of views takes."""

    weights: int  # parameters of the network
    kept: int  # what stays between steps: activations of the window's views, tables
    step: int  # the most that one step takes beside that, its outputs included
    related: int  # what a window of other pictures takes beside a step (StreamingDA3.relate)
    pixels: int  # images, clouds and messages of the newest set on their way in and out

    @property
    def window(self) -> int:
        """All but the weights."""
        return self.kept + self.step + self.related + self.pixels

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.window

    def wanted(self, captured: bool) -> int:
        """Bytes, beside the weights, without which a window is refused.

        More than ``window``, which lives at the same time, by what torch's allocator reserves on top: a margin, and
        where steps are ``captured`` as CUDA graphs, compiled or not, two more steps. With 8 views of 504x378, one of
        them new, of images of 1120x840 that and the weights are 1.12, 2.33, 3.54 and 6.57 GiB for da3-small, base,
        large and giant in float16; compiled, 0.85, 1.76, 2.68 and 5.48 were reserved on an H100 (docs/performance.md).
        """
        return int(_MARGIN * (self.window + (_CAPTURED_STEPS * self.step if captured else 0)))


def make_blueprint(
    variant: Variant, dtype: torch.dtype, matmul: str | None = None, metric: Variant | None = None
) -> Network:
    """The network as load_model makes it, without storage; ``metric``: nested beside it."""
    with torch.device("meta"):
        network = build(variant)
        if metric is not None:
            first, second = network, build(metric)
            assert isinstance(first, DepthAnything3) and isinstance(second, SingleViewDepth)
            network = NestedDepthAnything3(first, second)
    for parameter in low_precision_parameters(network):
        parameter.data = parameter.data.to(dtype)
    if matmul is not None:
        set_matmul_format(network, matmul)
    return network.eval().requires_grad_(False)


def predict_memory(
    blueprint: Network, config: WindowConfig, canvas_hw: tuple[int, int], input_pixels: int = 0
) -> MemoryNeed:
    """What the network of ``blueprint`` needs with a full window of ``config``.

    ``canvas_hw``: size of the network's images. ``input_pixels``: of all images of a set together, as they arrive.
    """
    weights = sum(parameter.nbytes for parameter in blueprint.parameters())
    # A rig changes small tensors only, and its poses are not known yet.
    config = replace(config, pose_conditioning="none", execution="eager")
    with _FusedAttention(), TensorBytes() as count, torch.inference_mode():
        blueprint.prepare(*canvas_hw)
        reduce_keys(blueprint, *canvas_hw, config.key_reduction)
        network = make_window_network(blueprint, config, Rig())
        window = SlidingWindow(network.sets, config.cameras)
        images = torch.empty((config.cameras, 3, *canvas_hw), device="meta")
        view = View("camera", canvas_hw, (0, 0, *canvas_hw), np.full((3, 3), np.nan), False)
        for step in range(network.sets):
            slots = window.push([WindowView("camera", 0, "", True, view)] * config.cameras)
            if step < 2:  # the first makes the buffers, every other is like the second
                network.write(slots, images)
        kept = count.alive - images.nbytes
        network.predict(window.slots(), config.decoded(len(window.slots()), config.cameras))
        step = count.most - kept
        related = _related(blueprint, config, canvas_hw, count) if config.relates else 0
    pixels = input_pixels * _BYTES_PER_INPUT_PIXEL + images.nbytes
    return MemoryNeed(weights, kept, step, related, pixels)


def _related(blueprint: Network, config: WindowConfig, canvas_hw: tuple[int, int], count: TensorBytes) -> int:
    """The most bytes that the whole network takes for as many pictures as it is asked about at once."""
    network = blueprint.da3 if isinstance(blueprint, NestedDepthAnything3) else blueprint
    assert isinstance(network, DepthAnything3)
    before = count.most = count.alive
    images = torch.empty((1, config.relates, 3, *canvas_hw), device="meta")
    network(images, use_ray_pose=config.use_ray_pose, ref_view=config.ref_view)
    return count.most - before


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on ``device``; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    limits = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():  # of a container; without a limit it says max
        limits.append(int(limit) - int(used))
    return min(limits, default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def require_start(blueprint: Network, config: WindowConfig, device: torch.device) -> None:
    """Before weights are loaded and images have come: raises ConfigError where ``device`` cannot have enough memory.

    Images are taken to be twice as wide as high; with higher ones require_window may still refuse.
    """
    long_side = max(PATCH, config.process_res // PATCH * PATCH)
    _require(blueprint, config, (max(PATCH, long_side // 2 // PATCH * PATCH), long_side), 0, device, loaded=False)


def require_window(model: Network, config: WindowConfig, canvas_hw: tuple[int, int], input_pixels: int) -> None:
    """Before the buffers of a window are made for a loaded network: raises ConfigError where they do not fit.

    Arguments as in predict_memory.
    """
    _require(model, config, canvas_hw, input_pixels, model.device, loaded=True)


def _require(
    model: Network,
    config: WindowConfig,
    canvas_hw: tuple[int, int],
    input_pixels: int,
    device: torch.device,
    *,
    loaded: bool,
) -> None:
    free = free_memory(device)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    height, width = canvas_hw
    captured = choose_execution(config.execution, device) != "eager"
    rough = _ROUGH_FACTOR * (config.views + config.relates) * (height * width // PATCH**2 + 1) * model.variant.dim * 4
    rough *= 1 + _CAPTURED_STEPS * captured
    if free is None or rough + input_pixels * _BYTES_PER_INPUT_PIXEL + weights <= free:
        return  # plainly enough; looking closely takes up to seconds
    need = predict_memory(_blueprint_of(model), config, canvas_hw, input_pixels)
    window = need.wanted(captured)
    if window + (0 if loaded else need.weights) <= free:
        return
    there = ", which are there" if loaded else ""
    raise ConfigError(
        f"{_numbers(model, config, canvas_hw, need, captured)}{there}; {max(free, 0) / GIB:.1f} GiB are free on "
        f"{device}: {_mend(config, captured)}"
    )


@contextmanager
def say_when_out_of_memory(
    model: Network, config: WindowConfig, canvas_hw: tuple[int, int], input_pixels: int
) -> Iterator[None]:
    """For what makes a loaded network's window ready: raises ConfigError where CUDA runs out of memory all the same.

    Another process may have taken what was free before, or libraries need more than was predicted. Arguments as in
    predict_memory.
    """
    device = model.device
    free = free_memory(device)
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        captured = choose_execution(config.execution, device) != "eager"
        need = predict_memory(_blueprint_of(model), config, canvas_hw, input_pixels)
        before = "" if free is None else f"; {max(free, 0) / GIB:.1f} GiB were free"
        raise ConfigError(
            f"out of memory on {device} while steps were made ready: "
            f"{_numbers(model, config, canvas_hw, need, captured)}, by prediction{before}: {_mend(config, captured)}"
        ) from error


def _numbers(
    model: Network, config: WindowConfig, canvas_hw: tuple[int, int], need: MemoryNeed, captured: bool
) -> str:
    """What is to run, and what that needs."""
    height, width = canvas_hw
    dtype = str(next(low_precision_parameters(model)).dtype).removeprefix("torch.")
    return (
        f"{model.variant.name} with {config.views} views of {width}x{height} in {dtype} needs "
        f"{(need.wanted(captured) + need.weights) / GIB:.1f} GiB, {need.weights / GIB:.1f} of them for weights"
    )


def _mend(config: WindowConfig, captured: bool) -> str:
    """What takes less memory."""
    return (
        "lower window.sets or model.process_res, choose a smaller model.variant, "
        + ("set window.decode to newest, " if config.decode == "all" else "")
        + ("set loops.enabled to false, " if config.relates else "")
        + ("set model.execution to eager (slower), " if captured else "")
        + "or end what else runs there"
    )


def _blueprint_of(model: Network) -> Network:
    """``model`` without storage, with whatever was put into it after loading."""
    tensors = [*model.parameters(), *model.buffers()]
    memo = {id(tensor): torch.nn.Parameter(torch.empty_like(tensor, device="meta"), False) for tensor in tensors}
    return copy.deepcopy(model, memo)
