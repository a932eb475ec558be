"""Procedural surface patterns: tileable squares of linear albedo, made from seeded random numbers.

Every pattern is a function (variants, size, generator) -> (variants, size, size, 3) float32 in 0..1. Row 0 is the
lower edge (v = 0), column 0 the left edge (u = 0). ``PATTERNS`` names them all. Colours are kept near grey where
a surface's own tint is meant to colour them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from da3_ros.training.scenes.noise import (
    blend,
    edge_distance,
    fractal,
    grey,
    grid,
    line_at,
    noise,
    per_cell,
    rand,
)

Pattern = Callable[[int, int, torch.Generator], torch.Tensor]


def plaster(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Painted wall with soft blotches and fine grain."""
    blotches = fractal(n, size, 4, 4, generator)
    grain = noise(n, size, (128, 128), generator)
    marks = (fractal(n, size, 16, 3, generator) - 0.6).clamp(0.0, 0.1) * 1.5
    return grey(0.62 + 0.3 * blotches + 0.18 * (grain - 0.5) - marks)


def wallpaper(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Vertical stripes with a small diamond motif."""
    u, v = grid(size, generator)
    stripe = ((u * 8).floor() % 2) * 0.16
    diamond = edge_distance(u * 8 + 0.5) + edge_distance(v * 8 + (u * 8).floor() * 0.5) * 0.8
    motif = line_at(diamond, 0.18) * 0.35
    wear = fractal(n, size, 8, 4, generator)
    return grey(0.72 - stripe - motif + 0.25 * (wear - 0.5))


def planks(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Floor boards along u with grain, joints and tones of their own."""
    u, v = grid(size, generator)
    row = (v * 8).floor()
    shift = rand(generator, n, 8).gather(1, row.long().expand(n, -1, -1).reshape(n, -1)).view(n, size, size)
    along = u * 2 + shift
    tone = per_cell(n, row, along.floor() % 2, 8, generator)
    grain = noise(n, size, (128, 4), generator) * 0.5 + noise(n, size, (64, 8), generator) * 0.5
    joint = torch.maximum(line_at(edge_distance(v * 8), 0.03), line_at(edge_distance(along), 0.006))
    value = 0.25 + 0.35 * tone + 0.7 * (grain - 0.5)
    return blend(value, (0.16, 0.08, 0.035), (0.72, 0.48, 0.27)) * (1.0 - 0.75 * joint.unsqueeze(-1))


def wood(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Sawn wood: rings bent by noise, grain along u."""
    _, v = grid(size, generator)
    bend = noise(n, size, (4, 2), generator) + 0.35 * noise(n, size, (16, 4), generator)
    rings = 0.5 + 0.5 * torch.sin(6.2832 * (4.0 * v + 2.5 * bend))
    grain = noise(n, size, (128, 8), generator)
    return blend(0.25 + 0.4 * rings + 0.45 * (grain - 0.4), (0.17, 0.085, 0.04), (0.74, 0.50, 0.29))


def tiles(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Checkered stone tiles with grout."""
    u, v = grid(size, generator)
    row, column = (v * 4).floor(), (u * 4).floor()
    checker = ((row + column) % 2) * 0.42
    tone = per_cell(n, row, column, 4, generator) * 0.18
    veins = (fractal(n, size, 8, 5, generator) - 0.5) * 0.7
    grout = torch.maximum(line_at(edge_distance(u * 4), 0.022), line_at(edge_distance(v * 4), 0.022))
    return grey((0.28 + checker + tone + veins) * (1.0 - grout) + 0.4 * grout)


def bricks(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Running bond brickwork."""
    u, v = grid(size, generator)
    row = (v * 12).floor()
    along = u * 4 + 0.5 * (row % 2)
    tone = per_cell(n, row, along.floor() % 4, 12, generator)
    rough = fractal(n, size, 32, 3, generator)
    mortar = torch.maximum(line_at(edge_distance(v * 12), 0.07), line_at(edge_distance(along), 0.023))
    brick = blend(0.2 + 0.6 * tone + 0.7 * (rough - 0.5), (0.25, 0.09, 0.06), (0.66, 0.34, 0.24))
    return torch.lerp(brick, torch.full_like(brick, 0.55), mortar.unsqueeze(-1)).clamp(0.02, 1.0)


def carpet(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Woven rug: border, medallions and pile."""
    u, v = grid(size, generator)
    x, y = (u - 0.5).abs() * 2, (v - 0.5).abs() * 2
    border = ((torch.maximum(x, y) * 12).floor() % 2) * (torch.maximum(x, y) > 0.66)
    medallion = ((((x * 7) ** 2 + (y * 7) ** 2).sqrt() + 1.2 * torch.cos(8 * torch.atan2(y, x))).floor() % 2) * 0.8
    pile = noise(n, size, (128, 128), generator) * 0.35 + fractal(n, size, 16, 3, generator) * 0.2
    figure = torch.where(torch.maximum(x, y) > 0.66, border, medallion)
    return blend(0.75 * figure + pile - 0.15, (0.30, 0.05, 0.05), (0.80, 0.66, 0.45))


def fabric(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Coarse weave with uneven threads."""
    u, v = grid(size, generator)
    weave = torch.sin(6.2832 * 48 * u) * torch.sin(6.2832 * 48 * v) * 0.10
    plaid = ((u * 6).floor() % 3 == 0).float() * 0.14 + ((v * 6).floor() % 3 == 0).float() * 0.14
    uneven = fractal(n, size, 16, 4, generator)
    return grey(0.66 + weave - plaid + 0.5 * (uneven - 0.5))


def books(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Spines of a row of books: own colours, bands and titles."""
    u, v = grid(size, generator)
    count = 20
    edges = torch.cumsum(0.5 + rand(generator, n, count), 1)
    edges = edges / edges[:, -1:]
    column = u[0, 0].expand(n, size).contiguous()
    book = torch.searchsorted(edges, column).clamp(max=count - 1)  # (n, size)
    palette = 0.06 + 0.75 * rand(generator, n, count, 3) ** 1.5
    colour = palette.gather(1, book.unsqueeze(-1).expand(n, size, 3)).unsqueeze(1)  # (n, 1, size, 3)
    height = (0.72 + 0.26 * rand(generator, n, count)).gather(1, book).unsqueeze(1)  # (n, 1, size)
    band = (0.2 + 0.5 * rand(generator, n, count)).gather(1, book).unsqueeze(1)
    ink = noise(n, size, (64, 128), generator) > 0.52
    title = ((v - band).abs() < 0.11) & ink
    stripe = (v - band + 0.16).abs() < 0.015
    colour = torch.where((title | stripe).unsqueeze(-1), 1.0 - 0.9 * colour, colour.expand(n, size, size, 3))
    left = F.pad(edges, (1, 0))[:, :-1].gather(1, book)
    gap = (torch.minimum(column - left, edges.gather(1, book) - column) * size).clamp(0.0, 2.0) / 2.0
    above = (v > height).unsqueeze(-1)
    return torch.where(above, torch.full_like(colour, 0.03), colour * (0.35 + 0.65 * gap[:, None, :, None]))


def painting(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A picture: patches of strong colour with hard outlines in a dark frame."""
    u, v = grid(size, generator)
    field = fractal(n, size, 4, 4, generator)
    patch = (field * 14).floor()
    palette = rand(generator, n, 14, 3)
    index = patch.long().clamp(0, 13).view(n, -1, 1).expand(n, -1, 3)
    colour = palette.gather(1, index).view(n, size, size, 3)
    strokes = noise(n, size, (64, 32), generator).unsqueeze(-1)
    frame = torch.maximum((u - 0.5).abs(), (v - 0.5).abs()).unsqueeze(-1)
    colour = colour * (0.6 + 0.6 * strokes)
    colour = torch.where(frame > 0.43, torch.full_like(colour, 0.85), colour)
    return torch.where(frame > 0.465, torch.full_like(colour, 0.08), colour).clamp(0.02, 1.0)


def poster(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """A printed sheet: headline, lines of text and a block of colour."""
    u, v = grid(size, generator)
    line = (v * 16).floor()
    length = 0.5 + 0.4 * rand(generator, n, 16).gather(1, line.long().expand(n, -1, -1).reshape(n, -1))
    letters = noise(n, size, (32, 32), generator) > 0.48
    in_line = (v * 16 % 1 > 0.25) & (v * 16 % 1 < 0.8) & (u > 0.1) & (u < length.view(n, size, size))
    text = in_line & letters & (v < 0.55)
    headline = (v > 0.84) & (v < 0.93) & (u > 0.1) & (u < 0.9) & (noise(n, size, (32, 16), generator) > 0.45)
    sheet = torch.full((n, size, size, 3), 0.85, device=generator.device)
    block = 0.1 + 0.7 * rand(generator, n, 1, 1, 3)
    picture = ((v > 0.58) & (v < 0.8) & (u > 0.1) & (u < 0.9)).unsqueeze(-1)
    shade = fractal(n, size, 8, 4, generator).unsqueeze(-1) * 1.6
    sheet = torch.where(picture, block * shade, sheet)
    return torch.where((text | headline).unsqueeze(-1), torch.full_like(sheet, 0.05), sheet).clamp(0.02, 1.0)


def marble(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Polished stone with veins."""
    u, _ = grid(size, generator)
    warp = fractal(n, size, 4, 5, generator)
    veins = torch.sin(6.2832 * (2 * u + 2.5 * warp)).abs() ** 0.4
    return grey(0.2 + 0.45 * veins + 0.22 * (noise(n, size, (128, 128), generator) - 0.5))


def concrete(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Rough cast concrete with pores."""
    cloud = fractal(n, size, 4, 6, generator)
    pores = (noise(n, size, (64, 64), generator) > 0.86) * 0.25
    return grey(0.35 + 0.5 * cloud - pores)


def metal(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Brushed and scratched sheet with ribs."""
    _, v = grid(size, generator)
    brushed = noise(n, size, (128, 8), generator)
    rust = (fractal(n, size, 8, 4, generator) - 0.58).clamp(0.0, 0.2) * 1.6
    rib = line_at(edge_distance(v * 4), 0.05) * 0.3
    return grey(0.6 + 0.35 * (brushed - 0.5) - rust - rib)


def leaves(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Dense foliage."""
    mass = fractal(n, size, 16, 4, generator)
    return blend((mass - 0.3) * 2.2, (0.015, 0.06, 0.01), (0.35, 0.62, 0.16))


def outdoors(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """The view through a window: sky, clouds and a tree line, with glazing bars."""
    u, v = grid(size, generator)
    clouds = fractal(n, size, 4, 5, generator)
    sky = blend((clouds - 0.35) * 2.0, (0.45, 0.65, 0.95), (1.0, 1.0, 1.0))
    trees = blend(fractal(n, size, 16, 4, generator) * 1.4 - 0.3, (0.03, 0.08, 0.02), (0.30, 0.42, 0.15))
    horizon = 0.25 + 0.22 * noise(n, size, (8, 8), generator)[:, :1, :]
    view = torch.where((v < horizon).unsqueeze(-1), trees, sky)
    bars = torch.minimum(edge_distance(u * 2), edge_distance(v * 2))
    return torch.where((bars < 0.025).unsqueeze(-1), torch.full_like(view, 0.45), view)


def plain(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Nearly even paint with light wear."""
    wear = fractal(n, size, 16, 4, generator)
    return grey(0.8 + 0.25 * (wear - 0.5))


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (
        plaster, wallpaper, planks, wood, tiles, bricks, carpet, fabric, books, painting, poster, marble, concrete,
        metal, leaves, outdoors, plain,
    )
}  # fmt: skip
