"""The search for the nearest solid as one Triton kernel; importing this needs Triton. It follows ``casting``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 512  # pixels of a program
_MISS = tl.constexpr(1e30)


@triton.jit
def _interval(o, d):
    """Where -1 <= o + t d <= 1."""
    inverse = 1.0 / tl.where(tl.abs(d) < 1e-9, 1e-9, d)
    middle, reach = -o * inverse, tl.abs(inverse)
    return middle - reach, middle + reach


@triton.jit
def _roots(a, b, c):
    """Both t of a t^2 + 2 b t + c = 0, the first beyond the second where there is none."""
    discriminant = b * b - a * c
    root = tl.where(discriminant > 0, tl.sqrt(tl.maximum(discriminant, 0.0)), -_MISS)
    inverse = 1.0 / tl.maximum(a, 1e-12)
    return (-b - root) * inverse, (-b + root) * inverse


@triton.jit
def _unit_ray(start, axes, k, n, x, y, z):
    """Origin and direction in the unit coordinates of solid k."""
    ox, oy, oz = tl.load(start + k), tl.load(start + n + k), tl.load(start + 2 * n + k)
    dx = tl.load(axes + k) * x + tl.load(axes + n + k) * y + tl.load(axes + 2 * n + k) * z
    dy = tl.load(axes + 3 * n + k) * x + tl.load(axes + 4 * n + k) * y + tl.load(axes + 5 * n + k) * z
    dz = tl.load(axes + 6 * n + k) * x + tl.load(axes + 7 * n + k) * y + tl.load(axes + 8 * n + k) * z
    return ox, oy, oz, dx, dy, dz


@triton.jit
def _nearer(best, enter, leave, k, nearest_m: tl.constexpr, index_mask: tl.constexpr):
    """The lesser of ``best`` and the key of solid k."""
    distance = tl.where((enter < leave) & (enter > nearest_m), enter, _MISS)
    return tl.minimum(best, (distance.to(tl.int32, bitcast=True) & ~index_mask) | k)


@triton.jit
def _nearest_kernel(
    start, axes, numbers, x, y, z, key, P, n,
    cylinders: tl.constexpr, balls: tl.constexpr, nearest_m: tl.constexpr, index_mask: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """One block of pixels of one view."""
    view = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    inside = pixel < P
    x = tl.load(x + view * P + pixel, mask=inside, other=0.0)
    y = tl.load(y + view * P + pixel, mask=inside, other=0.0)
    z = tl.load(z + view * P + pixel, mask=inside, other=1.0)
    start += view * 3 * n
    axes += view * 9 * n
    best = tl.full((block,), 0x7F800000, tl.int32)
    for k in range(tl.load(numbers + 3 * view)):
        ox, oy, oz, dx, dy, dz = _unit_ray(start, axes, k, n, x, y, z)
        enter_x, leave_x = _interval(ox, dx)
        enter_y, leave_y = _interval(oy, dy)
        enter_z, leave_z = _interval(oz, dz)
        enter = tl.maximum(tl.maximum(enter_x, enter_y), enter_z)
        leave = tl.minimum(tl.minimum(leave_x, leave_y), leave_z)
        best = _nearer(best, enter, leave, k, nearest_m, index_mask)
    for k in range(cylinders, cylinders + tl.load(numbers + 3 * view + 1)):
        ox, oy, oz, dx, dy, dz = _unit_ray(start, axes, k, n, x, y, z)
        enter, leave = _roots(dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - 1.0)
        enter_z, leave_z = _interval(oz, dz)
        best = _nearer(best, tl.maximum(enter, enter_z), tl.minimum(leave, leave_z), k, nearest_m, index_mask)
    for k in range(balls, balls + tl.load(numbers + 3 * view + 2)):
        ox, oy, oz, dx, dy, dz = _unit_ray(start, axes, k, n, x, y, z)
        b, c = ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1.0
        enter, leave = _roots(dx * dx + dy * dy + dz * dz, b, c)
        best = _nearer(best, enter, leave, k, nearest_m, index_mask)
    tl.store(key + view * P + pixel, best, mask=inside)


def nearest_key(
    start: Tensor, axes: Tensor, numbers: Tensor, counts: tuple[int, int, int], way: tuple[Tensor, Tensor, Tensor],
    nearest_m: float, index_bits: int,
) -> Tensor:  # fmt: skip
    """As of ``casting.nearest_key``; all tensors contiguous."""
    V, P = way[0].shape
    key = torch.empty(V, P, dtype=torch.int32, device=start.device)
    _nearest_kernel[(triton.cdiv(P, _BLOCK), V)](
        start, axes, numbers, *way, key, P, start.shape[-1],
        cylinders=counts[0], balls=counts[0] + counts[1], nearest_m=nearest_m, index_mask=(1 << index_bits) - 1,
        block=_BLOCK,
    )  # fmt: skip
    return key
