"""The attention product: one function, and which kernel it runs, of torch's and of ours.

Which kernel is fastest depends on the chip and the shape. ``measured`` finds out, once for each shape; shapes that
were never measured take torch's own choice.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]

_log = logging.getLogger(__name__)
_HOPPER = 9             # compute capability, major
_REPEATS = 7
_CALLS = 5              # in one graph: what launching takes must not decide between kernels of a few microseconds
_LONG_MS = 1.0          # what takes longer is timed singly, and twice: windows of 32 views would start seconds later


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]


def _cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.dtype not in (torch.float16, torch.bfloat16):      # it takes them, and returns NaN
        raise RuntimeError(f"cuDNN's attention is for 16 bits, not for {q.dtype}")
    return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False)[0]


def _efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, False)[0]


@torch.library.custom_op("da3_ros::attend", mutates_args=())
def _triton(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    from da3_ros.model.triton_kernels import attend

    return attend(q, k, v, rows, columns, warps, stages)


@_triton.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    groups, heads, queries, dim = q.shape
    return q.new_empty((groups, queries, heads, dim)).transpose(1, 2)


@torch.library.custom_op("da3_ros::attend_hopper", mutates_args=())
def _gluon(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    if torch.cuda.get_device_capability(q.device)[0] != _HOPPER or q.dtype not in (torch.float16, torch.bfloat16):
        name = torch.cuda.get_device_name(q.device)
        raise RuntimeError(f"the kernel is for 16 bits on Hopper, not for {q.dtype} on {name}")
    from da3_ros.model.gluon_kernels import attend  # ImportError where Triton has no Gluon

    return attend(q, k, v, rows, columns, warps, stages)


@_gluon.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    groups, heads, queries, dim = q.shape
    return q.new_empty((groups, queries, heads, dim)).transpose(1, 2)


KERNELS: dict[str, Kernel] = {
    "flash": _flash,
    "cudnn": _cudnn,
    "efficient": _efficient,
    "triton 64x64": partial(_triton, rows=64, columns=64, warps=4, stages=3),
    "triton 64x128": partial(_triton, rows=64, columns=128, warps=4, stages=3),
    "triton 128x64": partial(_triton, rows=128, columns=64, warps=8, stages=3),
    "gluon 64x128": partial(_gluon, rows=64, columns=128, warps=4, stages=2),
}
_CLOSE = 0.02           # relative difference of two kernels' results that rounding explains, bfloat16 included


class _Measuring(threading.local):
    active = False


_measuring = _Measuring()
_choices: dict[tuple, str] = {}         # names of KERNELS


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of q (G, heads, Tq, d), k and v (G, heads, Tk, d); (G, heads, Tq, d)."""
    if not torch.compiler.is_compiling() and _measuring.active:
        _measure(q, k, v)
    kernel = _choice(q.device.type, q.dtype, tuple(q.shape), tuple(k.shape))
    return F.scaled_dot_product_attention(q, k, v) if kernel is None else KERNELS[kernel](q, k, v)


def _choice(*kind: object) -> str | None:
    return _choices.get(kind)


def keep_choices() -> None:
    """What is compiled from now on keeps the kernels that were known when it was.

    Loads torch's compiler, which takes seconds: to be called by those who compile.
    """
    torch.compiler.assume_constant_result(_choice)


@contextmanager
def measured() -> Iterator[None]:
    """Within it, this thread's first use of each shape on a CUDA device times the kernels and keeps the fastest.

    The host waits for the device meanwhile.
    """
    before, _measuring.active = _measuring.active, True
    try:
        yield
    finally:
        _measuring.active = before


class _WithoutPlans:
    """How many are within ``without_plans``, in all threads, and what torch may choose when nobody is."""

    lock = threading.Lock()
    within = 0
    allowed = True


@contextmanager
def without_plans() -> Iterator[None]:
    """Within it torch's own choice, in the whole process, is not cuDNN's kernel. Threads may be within it at once.

    That is what torch takes first on Hopper and later, and cuDNN builds a plan for each shape that it has not met:
    tenths of a second. Shapes whose kernel was measured keep it.
    """
    state = _WithoutPlans
    with state.lock:
        if not state.within:
            state.allowed = torch.backends.cuda.cudnn_sdp_enabled()
            torch.backends.cuda.enable_cudnn_sdp(False)
        state.within += 1
    try:
        yield
    finally:
        with state.lock:
            state.within -= 1
            if not state.within:
                torch.backends.cuda.enable_cudnn_sdp(state.allowed)


def _measure(q: Tensor, k: Tensor, v: Tensor) -> None:
    kind = (q.device.type, q.dtype, tuple(q.shape), tuple(k.shape))
    if kind in _choices or q.device.type != "cuda":
        return
    expected = F.scaled_dot_product_attention(q, k, v).float()
    times: dict[str, float] = {}
    for name, kernel in KERNELS.items():
        try:
            error = (kernel(q, k, v).float() - expected).norm() / expected.norm()
            if not error < _CLOSE:
                _log.warning("attention kernel %s is wrong for %s by %.2g", name, tuple(q.shape), error)
                continue
            times[name] = _median_ms(kernel, q, k, v)
        except Exception as reason:     # that it does not take this chip, dtype or shape, or cannot be compiled here
            _log.debug("attention kernel %s cannot be used for %s: %s", name, tuple(q.shape), reason)
    if times:
        _choices[kind] = min(times, key=times.__getitem__)
        found = ", ".join(f"{name} {time:.3f} ms" for name, time in times.items())
        _log.info("attention of %s to %s: %s", tuple(q.shape), tuple(k.shape), found)


def _median_ms(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Of a call within a graph, as it will run: by itself a kernel of Triton's takes 0.4 ms of the host's time, too."""

    from da3_ros.cuda_graphs import capture  # only where there is a device to time

    alone = min(_elapsed_ms(lambda: kernel(q, k, v)) for _ in range(2))
    calls, repeats = (_CALLS, _REPEATS) if alone < _LONG_MS else (1, 2)

    def run() -> None:
        for _ in range(calls):
            kernel(q, k, v)

    torch.cuda.synchronize(q.device)
    graph, _ = capture(run, torch.cuda.Stream(q.device))
    graph.replay()
    return median(_elapsed_ms(graph.replay) / calls for _ in range(repeats))


def _elapsed_ms(run: Callable[[], object]) -> float:
    """By the device's clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
