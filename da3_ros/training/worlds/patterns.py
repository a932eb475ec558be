"""Further surface patterns, for training: the ground, house fronts, plain figures. As in ``scenes.patterns``."""

from __future__ import annotations

import torch

from da3_ros.training.scenes.noise import blend, edge_distance, fractal, grey, grid, line_at, noise, per_cell, rand
from da3_ros.training.scenes.patterns import PATTERNS, Pattern


def grass(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A meadow: blades, tufts and dry patches."""
    tufts, blades = fractal(n, size, 8, 4, generator), noise(n, size, (128, 128), generator)
    green = blend(0.55 * tufts + 0.6 * blades - 0.1, (0.03, 0.08, 0.015), (0.34, 0.46, 0.14))
    dry = ((fractal(n, size, 4, 4, generator) - 0.5) * 5).clamp(0.0, 0.8).unsqueeze(-1)
    return torch.lerp(green, blend(blades, (0.2, 0.15, 0.07), (0.6, 0.5, 0.3)), dry)


def asphalt(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Tarmac with grains, patches and cracks."""
    grains, stains = noise(n, size, (128, 128), generator), fractal(n, size, 4, 5, generator)
    crack = line_at((fractal(n, size, 4, 5, generator) - 0.5).abs(), 0.006)
    return grey((0.1 + 0.22 * grains + 0.25 * stains) * (1.0 - 0.6 * crack))


def gravel(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Loose stones on soil, each of its own tone."""
    u, v = grid(size, generator)
    bend_u, bend_v = noise(n, size, (16, 16), generator), noise(n, size, (16, 16), generator)
    row, column = v * 24 + 1.6 * bend_v, u * 24 + 1.6 * bend_u
    stone = per_cell(n, row.floor(), column.floor(), 24, generator)
    gap = torch.minimum(edge_distance(row), edge_distance(column)).clamp(max=0.3) / 0.3
    return blend(0.2 + 0.6 * stone, (0.16, 0.13, 0.10), (0.72, 0.68, 0.62)) * (0.3 + 0.7 * gap).unsqueeze(-1)


def soil(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Earth and sand with clods."""
    return blend(fractal(n, size, 4, 6, generator) * 1.5 - 0.25, (0.10, 0.06, 0.03), (0.72, 0.56, 0.38))


def facade(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A house front: rows of windows with frames, some lit, some with curtains, some storeys with a ledge."""
    u, v = grid(size, generator)
    row, column = (v * 4).floor(), (u * 4).floor()
    wide, high = (0.18 + 0.2 * rand(generator, n, 1, 1) for _ in range(2))
    x, y = (u * 4 - column - 0.5).abs(), (v * 4 - row - 0.5).abs()
    pane, frame = (x < wide) & (y < high), (x < wide + 0.04) & (y < high + 0.04)
    wall = grey(0.5 + 0.35 * (fractal(n, size, 8, 4, generator) - 0.3)) * (0.5 + 0.5 * rand(generator, n, 1, 1, 3))
    glass = per_cell(n, row, column, 4, generator).unsqueeze(-1) ** 2 * 0.8
    glass = glass * (0.5 + fractal(n, size, 8, 3, generator)).unsqueeze(-1) + 0.03
    bar = (x < 0.012) | ((y - 0.1).abs() < 0.012)
    front = torch.where(frame.unsqueeze(-1), 0.3 + 0.6 * rand(generator, n, 1, 1, 1), wall)
    front = torch.where((pane & ~bar).unsqueeze(-1), glass.expand_as(front), front)
    ledge = (edge_distance(v * 4) < 0.03) & (rand(generator, n, 1, 1) < 0.5)
    return torch.where(ledge.unsqueeze(-1), 0.7 * front + 0.15, front).clamp(0.02, 1.0)


def shingles(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Roof tiles in rows."""
    u, v = grid(size, generator)
    row = (v * 16).floor()
    along = u * 12 + 0.5 * (row % 2)
    tone = per_cell(n, row, along.floor() % 12, 16, generator)
    shadow = (v * 16 - row) * 0.6 + 0.4
    seam = line_at(edge_distance(along), 0.05)
    value = (0.25 + 0.4 * tone + 0.3 * noise(n, size, (64, 64), generator)) * shadow * (1 - 0.6 * seam)
    return blend(value, (0.05, 0.02, 0.02), (0.85, 0.55, 0.42))


def checker(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Squares of two colours."""
    u, v = grid(size, generator)
    cells = 2 ** (1 + (rand(generator, n, 1, 1) * 4).floor())
    dark = (((u * cells).floor() + (v * cells).floor()) % 2).unsqueeze(-1)
    return _two_colours(n, dark, generator)


def stripes(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Bands of two colours, upright, level or slanted."""
    u, v = grid(size, generator)
    along = (rand(generator, n, 1, 1) * 3).floor()
    across = (1 + (rand(generator, n, 1, 1) * 3).floor()) * (along != 1)
    share = 0.2 + 0.6 * rand(generator, n, 1, 1)
    phase = (u * (along + (along + across == 0)) + v * across) * 3
    return _two_colours(n, (phase % 1 < share).float().unsqueeze(-1), generator)


def clouds(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Soft colourless swirls, from black to white."""
    return grey((fractal(n, size, 4, 6, generator) - 0.5) * 2.2 + 0.5)


def colours(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Noise in three colours at once."""
    return torch.stack([fractal(n, size, 4, 5, generator) for _ in range(3)], -1).mul(1.6).sub(0.3).clamp(0.02, 1.0)


def patches(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Angular cells of different colours with dirt on them."""
    u, v = grid(size, generator)
    bend = fractal(n, size, 4, 3, generator)
    row, column = (v * 6 + 1.5 * bend).floor(), (u * 6 - 1.5 * bend + 0.5 * (v * 6).floor()).floor()
    channels = [per_cell(n, row, column, 6, generator) for _ in range(3)]
    dirt = 0.6 + 0.6 * fractal(n, size, 8, 4, generator).unsqueeze(-1)
    return (torch.stack(channels, -1) * dirt).clamp(0.02, 1.0)


def print_(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A packet's print: bars of colour, blocks of small type, a round mark."""
    u, v = grid(size, generator)
    base = (0.15 + 0.8 * rand(generator, n, 1, 1, 3)).expand(n, size, size, 3)
    bar = ((v - rand(generator, n, 1, 1)).abs() < 0.12).unsqueeze(-1)
    base = torch.where(bar, rand(generator, n, 1, 1, 3), base)
    far = (u - 0.3 - 0.4 * rand(generator, n, 1, 1)).square() + (v - 0.3 - 0.4 * rand(generator, n, 1, 1)).square()
    base = torch.where((far.sqrt() < 0.05 + 0.15 * rand(generator, n, 1, 1)).unsqueeze(-1), 1.0 - base, base)
    letters = (noise(n, size, (64, 64), generator) > 0.5) & (v * 24 % 1 > 0.4) & (u % 0.5 > 0.06)
    block = (v > 0.1) & (v < 0.15 + 0.3 * rand(generator, n, 1, 1))
    base = torch.where((letters & block).unsqueeze(-1), 0.9 - 0.8 * base, base)
    return (base * (0.9 + 0.2 * noise(n, size, (64, 64), generator)).unsqueeze(-1)).clamp(0.02, 1.0)


def _two_colours(n: int, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Two random colours mixed by ``mask`` (n, size, size, 1), worn by noise."""
    first, second = rand(generator, n, 1, 1, 3), rand(generator, n, 1, 1, 3)
    wear = 0.75 + 0.5 * fractal(n, mask.shape[1], 8, 4, generator).unsqueeze(-1)
    return (torch.lerp(first, second, mask) * wear).clamp(0.02, 1.0)


WORLD_PATTERNS: dict[str, Pattern] = {
    **PATTERNS,
    **{
        pattern.__name__: pattern
        for pattern in (
            grass, asphalt, gravel, soil, facade, shingles, checker, stripes, clouds, colours, patches, print_
        )
    },
}  # fmt: skip
