"""Colours of what the rays met: textures, a lamp with shadows, a second one without, sky, haze, highlights.

As in ``casting``, every value of the pixels is a (V, P) tensor of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.scenes.charts import chart_at, chart_extent
from da3_ros.training.worlds import tables as t
from da3_ros.training.worlds.casting import Hits, Triple, dot, gathered, pixel_rays, shape_of, unit_ray, world_rays
from da3_ros.training.worlds.tables import ViewTables

_CLOUD_HEIGHT_M = 60.0


def shade(tables: ViewTables, atlas: Atlas, hits: Hits, shadow: Tensor, H: int, W: int) -> Tensor:
    """Linear display colour (V, 3, H, W), 0..1, of ``hits`` and whether they are in the shadow of the lamp (V, P)."""
    light = tables.light
    way = world_rays(tables, *pixel_rays(tables.K, H, W))
    stretch = dot(way, way).sqrt()  # metres along the ray for each metre of depth
    sky = ~hits.hit
    depth = torch.where(sky, 0.0, hits.depth)
    o, d = unit_ray(tables, hits.solid, way)
    shape = shape_of(hits.solid, tables.counts)
    face, chart, outward = chart_at(shape, *(o[i] + depth * d[i] for i in range(3)))
    room = hits.solid == sum(tables.counts)
    row = torch.where(room, hits.solid + face, hits.solid)

    def feature(column: int) -> Tensor:
        return gathered(tables, row, column)

    normal = [dot([feature(3 * axis + j) for axis in range(3)], outward) for j in range(3)]
    length = torch.where(room, -1.0, 1.0) * dot(normal, normal).clamp(min=1e-18).rsqrt()
    normal = [component * length for component in normal]
    extent = chart_extent(shape, face, *(feature(t.HALF + i) for i in range(3)))

    # The clouds are a level layer far above, seen through the same look-up.
    up = way[2] / stretch
    tile = torch.where(sky, 4 * _CLOUD_HEIGHT_M, feature(t.TILE))
    to_cloud = _CLOUD_HEIGHT_M / (way[2].clamp(min=0.0) + 0.08 * stretch)
    own = gathered(tables, row, t.DETAIL)  # any number of the surface's own: no two begin alike
    u = torch.where(sky, way[0] * to_cloud, chart[0] * extent[0]) / tile + 0.37 * own
    v = torch.where(sky, way[1] * to_cloud, chart[1] * extent[1]) / tile + 0.61 * own
    cosine = (dot(normal, way) / stretch).abs().clamp(min=0.05)
    footprint = torch.where(sky, to_cloud, depth / cosine.sqrt()) / tables.K[:, 0, 0, None]
    level = torch.log2((footprint * atlas.size / tile).clamp(min=1.0))
    texture = torch.where(sky, light.clouds.unsqueeze(1), feature(t.TEXTURE).int())
    albedo = _sampled(atlas, texture, u, v, level)
    fine = _sampled(atlas, own.int(), 3.7 * u, 3.7 * v, level + 1.9)

    point = hits.point
    lit, shine = _lamp(light.lamp, light.lamp_reach, point, normal, way, stretch)
    lit, shine = torch.where(shadow, 0.0, lit), torch.where(shadow, 0.0, shine)
    filled, _ = _lamp(light.fill, light.lamp_reach, point, normal, way, stretch)
    corner = _corners(tables, point, normal)
    haze = 1.0 - torch.exp(-depth * stretch / light.haze_m.unsqueeze(1))
    # Clouds are where the texture is bright, and none at the very horizon.
    cover = ((albedo[1] - 1.0 + light.cloudiness.unsqueeze(1)) * 3.0).clamp(0.0, 1.0) * (up * 6.0).clamp(0.0, 1.0)
    emission, gloss = feature(t.EMISSION), feature(t.GLOSS)
    colours = []
    for c in range(3):
        lamp, fill, ambient, zenith, horizon = (
            part[:, c, None]
            for part in (light.lamp_colour, light.fill_colour, light.ambient, light.zenith, light.horizon)
        )
        received = ambient * (0.7 + 0.3 * normal[2]) * corner + lamp * lit + fill * filled * corner
        paint = albedo[c] * feature(t.TINT + c) * (0.75 + 0.5 * fine[c])
        out = paint * (received + emission) + lamp * shine * gloss
        out = out + haze * (horizon - out)
        above = horizon + up.clamp(0.0, 1.0).sqrt() * (zenith - horizon)
        above = above + cover * (0.6 + 0.5 * horizon - above)
        colours.append((1.0 - torch.exp(-1.4 * torch.where(sky, above, out))).view(-1, H, W))
    return torch.stack(colours, 1)


def softened(colour: Tensor, solid: Tensor) -> Tensor:
    """``colour`` (V, 3, H, W) with a 3 x 3 tent mean where a neighbour shows another ``solid`` (V, H, W).

    Every ray is a point, a camera's pixel is not.
    """
    near = torch.nn.functional.pad(solid.float().unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    here = near[..., 1:-1, 1:-1]
    edge = (near[..., 1:-1, 2:] != here) | (near[..., 1:-1, :-2] != here)
    edge = edge | (near[..., 2:, 1:-1] != here) | (near[..., :-2, 1:-1] != here)
    wide = torch.nn.functional.pad(colour, (1, 1, 1, 1), mode="replicate")
    across = 0.25 * wide[..., :-2] + 0.5 * wide[..., 1:-1] + 0.25 * wide[..., 2:]
    mean = 0.25 * across[..., :-2, :] + 0.5 * across[..., 1:-1, :] + 0.25 * across[..., 2:, :]
    return torch.where(edge, mean, colour)


def _sampled(atlas: Atlas, texture: Tensor, u: Tensor, v: Tensor, level: Tensor) -> list[Tensor]:
    """Albedo, three channels, as of ``Atlas.sample``, without bringing the texels' rows to memory."""
    rows, weights = atlas.neighbours(texture, u, v, level)
    texels = atlas.texels.view(-1)
    return [dot(weights, [texels[3 * row + c] for row in rows]) for c in range(3)]


def _lamp(
    lamp: Tensor, reach: Tensor, point: Triple, normal: list[Tensor], way: Triple, stretch: Tensor
) -> tuple[Tensor, Tensor]:
    """Diffuse light and highlight (V, P) of a lamp at (V, 3)."""
    towards = [lamp[:, i, None] - point[i] for i in range(3)]
    square = dot(towards, towards).clamp(min=1e-6)
    towards = [component * square.rsqrt() for component in towards]
    fall = 1.0 / (1.0 + square / reach.square().unsqueeze(1))
    half = [towards[i] - way[i] / stretch for i in range(3)]
    highlight = (dot(normal, half) * dot(half, half).clamp(min=1e-6).rsqrt()).clamp(min=0.0)
    facing = dot(normal, towards).clamp(min=0.0)
    return facing * fall, torch.where(facing > 0, highlight**40, 0.0) * fall


def _corners(tables: ViewTables, point: Triple, normal: list[Tensor]) -> Tensor:
    """How much of the light from around reaches points (V, P) near the floor and in the corners of a room."""
    light = torch.ones_like(point[0])
    for i in range(3):
        wall = tables.room_half[:, i, None] - (point[i] - tables.room_centre[:, i, None]).abs()
        light = light * (1.0 - 0.45 * (1.0 - normal[i].abs()) * torch.exp(-wall.clamp(min=0.0) / 0.25))
    return light
