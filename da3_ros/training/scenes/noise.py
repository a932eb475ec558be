"""What surface patterns are made of: tileable noise, cells, lines and colours, all (variants, size, size)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rand(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Uniform in 0..1, on the generator's device."""
    return torch.rand(*shape, generator=generator, device=generator.device)


def grid(size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Texel centres: u along columns and v along rows, each (1, size, size) in 0..1."""
    line = (torch.arange(size, device=generator.device) + 0.5) / size
    return line.view(1, 1, size).expand(1, size, size), line.view(1, size, 1).expand(1, size, size)


def noise(n: int, size: int, cells: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Smooth tileable noise, (n, size, size) in about 0..1, with ``cells`` = lattice points along v and u."""
    rows, columns = (min(count, size) for count in cells)
    lattice = rand(generator, n, 1, rows, columns)
    padded = F.pad(lattice, (2, 2, 2, 2), mode="circular") if min(rows, columns) >= 2 else lattice
    scale_v, scale_u = size // rows, size // columns
    fine = F.interpolate(
        padded, size=(padded.shape[2] * scale_v, padded.shape[3] * scale_u), mode="bicubic", align_corners=False
    )
    top, left = (2 * scale_v, 2 * scale_u) if padded is not lattice else (0, 0)
    return fine[:, 0, top : top + size, left : left + size]


def fractal(n: int, size: int, cells: int, octaves: int, generator: torch.Generator) -> torch.Tensor:
    """Sum of ``octaves`` noises, each twice as fine and half as strong; (n, size, size) in about 0..1."""
    total = torch.zeros(n, size, size, device=generator.device)
    weight = 0.0
    for octave in range(octaves):
        strength = 0.55**octave
        total += strength * noise(n, size, (cells << octave, cells << octave), generator)
        weight += strength
    return total / weight


def per_cell(n: int, row: torch.Tensor, column: torch.Tensor, cells: int, generator: torch.Generator):
    """One random value for each cell: (n, size, size), looked up by integer ``row`` and ``column`` maps."""
    table = rand(generator, n, cells * cells)
    index = (row.long() % cells) * cells + column.long() % cells
    return table.gather(1, index.expand(n, -1, -1).reshape(n, -1)).view(n, *index.shape[1:])


def line_at(distance: torch.Tensor, width: float) -> torch.Tensor:
    """1 on a line, 0 beside it, with a soft edge; ``distance`` and ``width`` in the same unit."""
    return (1.5 - distance / width).clamp(0.0, 1.0)


def edge_distance(position: torch.Tensor) -> torch.Tensor:
    """Distance to the nearest integer."""
    return (position - position.round()).abs()


def grey(value: torch.Tensor) -> torch.Tensor:
    return value.clamp(0.02, 1.0).unsqueeze(-1).expand(*value.shape, 3)


def blend(value: torch.Tensor, dark: tuple[float, ...], light: tuple[float, ...]) -> torch.Tensor:
    """Blend two colours by ``value`` (n, size, size)."""
    low = torch.tensor(dark, device=value.device)
    high = torch.tensor(light, device=value.device)
    return low + (high - low) * value.clamp(0.0, 1.0).unsqueeze(-1)
