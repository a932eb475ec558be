"""Procedural surface patterns: tileable squares of linear albedo, made from seeded random numbers.

Every pattern is a function (variants, size, generator) -> (variants, size, size, 3) float32 in 0..1. Row 0 is the
lower edge (v = 0), column 0 the left edge (u = 0). ``PATTERNS`` names them all. Colours are kept near grey where
a surface's own tint is meant to colour them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Pattern = Callable[[int, int, torch.Generator], torch.Tensor]


def _rand(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=generator, device=generator.device)


def _grid(size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Texel centres: u along columns and v along rows, each (1, size, size) in 0..1."""
    line = (torch.arange(size, device=generator.device) + 0.5) / size
    return line.view(1, 1, size).expand(1, size, size), line.view(1, size, 1).expand(1, size, size)


def _noise(n: int, size: int, cells: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Smooth tileable noise, (n, size, size) in about 0..1, with ``cells`` = lattice points along v and u."""
    rows, columns = (min(count, size) for count in cells)
    lattice = _rand(generator, n, 1, rows, columns)
    padded = F.pad(lattice, (2, 2, 2, 2), mode="circular") if min(rows, columns) >= 2 else lattice
    scale_v, scale_u = size // rows, size // columns
    fine = F.interpolate(
        padded, size=(padded.shape[2] * scale_v, padded.shape[3] * scale_u), mode="bicubic", align_corners=False
    )
    top, left = (2 * scale_v, 2 * scale_u) if padded is not lattice else (0, 0)
    return fine[:, 0, top : top + size, left : left + size]


def _fractal(n: int, size: int, cells: int, octaves: int, generator: torch.Generator) -> torch.Tensor:
    """Sum of ``octaves`` noises, each twice as fine and half as strong; (n, size, size) in about 0..1."""
    total = torch.zeros(n, size, size, device=generator.device)
    weight = 0.0
    for octave in range(octaves):
        strength = 0.55**octave
        total += strength * _noise(n, size, (cells << octave, cells << octave), generator)
        weight += strength
    return total / weight


def _per_cell(n: int, row: torch.Tensor, column: torch.Tensor, cells: int, generator: torch.Generator):
    """One random value for each cell: (n, size, size), looked up by integer ``row`` and ``column`` maps."""
    table = _rand(generator, n, cells * cells)
    index = (row.long() % cells) * cells + column.long() % cells
    return table.gather(1, index.expand(n, -1, -1).reshape(n, -1)).view(n, *index.shape[1:])


def _line(distance: torch.Tensor, width: float) -> torch.Tensor:
    """1 on a line, 0 beside it, with a soft edge; ``distance`` and ``width`` in the same unit."""
    return (1.5 - distance / width).clamp(0.0, 1.0)


def _edge_distance(position: torch.Tensor) -> torch.Tensor:
    """Distance to the nearest integer."""
    return (position - position.round()).abs()


def _grey(value: torch.Tensor) -> torch.Tensor:
    return value.clamp(0.02, 1.0).unsqueeze(-1).expand(*value.shape, 3)


def _mix(value: torch.Tensor, dark: tuple[float, ...], light: tuple[float, ...]) -> torch.Tensor:
    """Blend two colours by ``value`` (n, size, size)."""
    low = torch.tensor(dark, device=value.device)
    high = torch.tensor(light, device=value.device)
    return low + (high - low) * value.clamp(0.0, 1.0).unsqueeze(-1)


def plaster(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Painted wall with soft blotches and fine grain."""
    blotches = _fractal(n, size, 4, 4, generator)
    grain = _noise(n, size, (128, 128), generator)
    marks = (_fractal(n, size, 16, 3, generator) - 0.6).clamp(0.0, 0.1) * 1.5
    return _grey(0.62 + 0.3 * blotches + 0.18 * (grain - 0.5) - marks)


def wallpaper(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Vertical stripes with a small diamond motif."""
    u, v = _grid(size, generator)
    stripe = ((u * 8).floor() % 2) * 0.16
    diamond = _edge_distance(u * 8 + 0.5) + _edge_distance(v * 8 + (u * 8).floor() * 0.5) * 0.8
    motif = _line(diamond, 0.18) * 0.35
    wear = _fractal(n, size, 8, 4, generator)
    return _grey(0.72 - stripe - motif + 0.25 * (wear - 0.5))


def planks(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Floor boards along u with grain, joints and tones of their own."""
    u, v = _grid(size, generator)
    row = (v * 8).floor()
    shift = _rand(generator, n, 8).gather(1, row.long().expand(n, -1, -1).reshape(n, -1)).view(n, size, size)
    along = u * 2 + shift
    tone = _per_cell(n, row, along.floor() % 2, 8, generator)
    grain = _noise(n, size, (128, 4), generator) * 0.5 + _noise(n, size, (64, 8), generator) * 0.5
    joint = torch.maximum(_line(_edge_distance(v * 8), 0.03), _line(_edge_distance(along), 0.006))
    value = 0.25 + 0.35 * tone + 0.7 * (grain - 0.5)
    return _mix(value, (0.16, 0.08, 0.035), (0.72, 0.48, 0.27)) * (1.0 - 0.75 * joint.unsqueeze(-1))


def wood(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Sawn wood: rings bent by noise, grain along u."""
    _, v = _grid(size, generator)
    bend = _noise(n, size, (4, 2), generator) + 0.35 * _noise(n, size, (16, 4), generator)
    rings = 0.5 + 0.5 * torch.sin(6.2832 * (4.0 * v + 2.5 * bend))
    grain = _noise(n, size, (128, 8), generator)
    return _mix(0.25 + 0.4 * rings + 0.45 * (grain - 0.4), (0.17, 0.085, 0.04), (0.74, 0.50, 0.29))


def tiles(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Checkered stone tiles with grout."""
    u, v = _grid(size, generator)
    row, column = (v * 4).floor(), (u * 4).floor()
    checker = ((row + column) % 2) * 0.42
    tone = _per_cell(n, row, column, 4, generator) * 0.18
    veins = (_fractal(n, size, 8, 5, generator) - 0.5) * 0.7
    grout = torch.maximum(_line(_edge_distance(u * 4), 0.022), _line(_edge_distance(v * 4), 0.022))
    return _grey((0.28 + checker + tone + veins) * (1.0 - grout) + 0.4 * grout)


def bricks(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Running bond brickwork."""
    u, v = _grid(size, generator)
    row = (v * 12).floor()
    along = u * 4 + 0.5 * (row % 2)
    tone = _per_cell(n, row, along.floor() % 4, 12, generator)
    rough = _fractal(n, size, 32, 3, generator)
    mortar = torch.maximum(_line(_edge_distance(v * 12), 0.07), _line(_edge_distance(along), 0.023))
    brick = _mix(0.2 + 0.6 * tone + 0.7 * (rough - 0.5), (0.25, 0.09, 0.06), (0.66, 0.34, 0.24))
    return torch.lerp(brick, torch.full_like(brick, 0.55), mortar.unsqueeze(-1)).clamp(0.02, 1.0)


def carpet(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Woven rug: border, medallions and pile."""
    u, v = _grid(size, generator)
    x, y = (u - 0.5).abs() * 2, (v - 0.5).abs() * 2
    border = ((torch.maximum(x, y) * 12).floor() % 2) * (torch.maximum(x, y) > 0.66)
    medallion = ((((x * 7) ** 2 + (y * 7) ** 2).sqrt() + 1.2 * torch.cos(8 * torch.atan2(y, x))).floor() % 2) * 0.8
    pile = _noise(n, size, (128, 128), generator) * 0.35 + _fractal(n, size, 16, 3, generator) * 0.2
    figure = torch.where(torch.maximum(x, y) > 0.66, border, medallion)
    return _mix(0.75 * figure + pile - 0.15, (0.30, 0.05, 0.05), (0.80, 0.66, 0.45))


def fabric(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Coarse weave with uneven threads."""
    u, v = _grid(size, generator)
    weave = torch.sin(6.2832 * 48 * u) * torch.sin(6.2832 * 48 * v) * 0.10
    plaid = ((u * 6).floor() % 3 == 0).float() * 0.14 + ((v * 6).floor() % 3 == 0).float() * 0.14
    uneven = _fractal(n, size, 16, 4, generator)
    return _grey(0.66 + weave - plaid + 0.5 * (uneven - 0.5))


def books(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Spines of a row of books: own colours, bands and titles."""
    u, v = _grid(size, generator)
    count = 20
    edges = torch.cumsum(0.5 + _rand(generator, n, count), 1)
    edges = edges / edges[:, -1:]
    column = u[0, 0].expand(n, size).contiguous()
    book = torch.searchsorted(edges, column).clamp(max=count - 1)  # (n, size)
    palette = 0.06 + 0.75 * _rand(generator, n, count, 3) ** 1.5
    colour = palette.gather(1, book.unsqueeze(-1).expand(n, size, 3)).unsqueeze(1)  # (n, 1, size, 3)
    height = (0.72 + 0.26 * _rand(generator, n, count)).gather(1, book).unsqueeze(1)  # (n, 1, size)
    band = (0.2 + 0.5 * _rand(generator, n, count)).gather(1, book).unsqueeze(1)
    ink = _noise(n, size, (64, 128), generator) > 0.52
    title = ((v - band).abs() < 0.11) & ink
    stripe = (v - band + 0.16).abs() < 0.015
    colour = torch.where((title | stripe).unsqueeze(-1), 1.0 - 0.9 * colour, colour.expand(n, size, size, 3))
    left = F.pad(edges, (1, 0))[:, :-1].gather(1, book)
    gap = (torch.minimum(column - left, edges.gather(1, book) - column) * size).clamp(0.0, 2.0) / 2.0
    above = (v > height).unsqueeze(-1)
    return torch.where(above, torch.full_like(colour, 0.03), colour * (0.35 + 0.65 * gap[:, None, :, None]))


def painting(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A picture: patches of strong colour with hard outlines in a dark frame."""
    u, v = _grid(size, generator)
    field = _fractal(n, size, 4, 4, generator)
    patch = (field * 14).floor()
    palette = _rand(generator, n, 14, 3)
    index = patch.long().clamp(0, 13).view(n, -1, 1).expand(n, -1, 3)
    colour = palette.gather(1, index).view(n, size, size, 3)
    strokes = _noise(n, size, (64, 32), generator).unsqueeze(-1)
    frame = torch.maximum((u - 0.5).abs(), (v - 0.5).abs()).unsqueeze(-1)
    colour = colour * (0.6 + 0.6 * strokes)
    colour = torch.where(frame > 0.43, torch.full_like(colour, 0.85), colour)
    return torch.where(frame > 0.465, torch.full_like(colour, 0.08), colour).clamp(0.02, 1.0)


def poster(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A printed sheet: headline, lines of text and a block of colour."""
    u, v = _grid(size, generator)
    line = (v * 16).floor()
    length = 0.5 + 0.4 * _rand(generator, n, 16).gather(1, line.long().expand(n, -1, -1).reshape(n, -1))
    letters = _noise(n, size, (32, 32), generator) > 0.48
    in_line = (v * 16 % 1 > 0.25) & (v * 16 % 1 < 0.8) & (u > 0.1) & (u < length.view(n, size, size))
    text = in_line & letters & (v < 0.55)
    headline = (v > 0.84) & (v < 0.93) & (u > 0.1) & (u < 0.9) & (_noise(n, size, (32, 16), generator) > 0.45)
    sheet = torch.full((n, size, size, 3), 0.85, device=generator.device)
    block = 0.1 + 0.7 * _rand(generator, n, 1, 1, 3)
    picture = ((v > 0.58) & (v < 0.8) & (u > 0.1) & (u < 0.9)).unsqueeze(-1)
    shade = _fractal(n, size, 8, 4, generator).unsqueeze(-1) * 1.6
    sheet = torch.where(picture, block * shade, sheet)
    return torch.where((text | headline).unsqueeze(-1), torch.full_like(sheet, 0.05), sheet).clamp(0.02, 1.0)


def marble(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Polished stone with veins."""
    u, _ = _grid(size, generator)
    warp = _fractal(n, size, 4, 5, generator)
    veins = torch.sin(6.2832 * (2 * u + 2.5 * warp)).abs() ** 0.4
    return _grey(0.2 + 0.45 * veins + 0.22 * (_noise(n, size, (128, 128), generator) - 0.5))


def concrete(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Rough cast concrete with pores."""
    cloud = _fractal(n, size, 4, 6, generator)
    pores = (_noise(n, size, (64, 64), generator) > 0.86) * 0.25
    return _grey(0.35 + 0.5 * cloud - pores)


def metal(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Brushed and scratched sheet with ribs."""
    _, v = _grid(size, generator)
    brushed = _noise(n, size, (128, 8), generator)
    rust = (_fractal(n, size, 8, 4, generator) - 0.58).clamp(0.0, 0.2) * 1.6
    rib = _line(_edge_distance(v * 4), 0.05) * 0.3
    return _grey(0.6 + 0.35 * (brushed - 0.5) - rust - rib)


def leaves(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Dense foliage."""
    mass = _fractal(n, size, 16, 4, generator)
    return _mix((mass - 0.3) * 2.2, (0.015, 0.06, 0.01), (0.35, 0.62, 0.16))


def outdoors(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """The view through a window: sky, clouds and a tree line, with glazing bars."""
    u, v = _grid(size, generator)
    clouds = _fractal(n, size, 4, 5, generator)
    sky = _mix((clouds - 0.35) * 2.0, (0.45, 0.65, 0.95), (1.0, 1.0, 1.0))
    trees = _mix(_fractal(n, size, 16, 4, generator) * 1.4 - 0.3, (0.03, 0.08, 0.02), (0.30, 0.42, 0.15))
    horizon = 0.25 + 0.22 * _noise(n, size, (8, 8), generator)[:, :1, :]
    view = torch.where((v < horizon).unsqueeze(-1), trees, sky)
    bars = torch.minimum(_edge_distance(u * 2), _edge_distance(v * 2))
    return torch.where((bars < 0.025).unsqueeze(-1), torch.full_like(view, 0.45), view)


def plain(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Nearly even paint with light wear."""
    wear = _fractal(n, size, 16, 4, generator)
    return _grey(0.8 + 0.25 * (wear - 0.5))


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (
        plaster, wallpaper, planks, wood, tiles, bricks, carpet, fabric, books, painting, poster, marble, concrete,
        metal, leaves, outdoors, plain,
    )
}  # fmt: skip
