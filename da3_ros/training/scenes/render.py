"""Pictures and exact z-depth of rooms, for many pinhole cameras at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from da3_ros.training.scenes.lightmap import Lightmap
from da3_ros.training.scenes.rooms import Rooms
from da3_ros.training.scenes.tracing import Hits, Rays, trace

_TILE = 16
_SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(frozen=True)
class Cameras:
    """N pinhole cameras of one image size in rooms.

    ``room`` (N,) int64; ``K`` (N, 3, 3) pixels, (0, 0) being the centre of the first pixel; ``T_world_cam``
    (N, 4, 4), optical axes x right, y down, z forward.
    """

    room: torch.Tensor
    K: torch.Tensor
    T_world_cam: torch.Tensor
    width: int
    height: int


@dataclass(frozen=True)
class Pictures:
    """``image`` (N, H, W, 3) uint8 sRGB and ``depth`` (N, H, W) float32 z-depth in metres at pixel centres."""

    image: torch.Tensor
    depth: torch.Tensor


def render(
    rooms: Rooms, lightmap: Lightmap, cameras: Cameras, progress: Callable[[int], None] | None = None
) -> Pictures:
    """See ``rooms`` through ``cameras``. ``progress`` is told how many cameras were finished.

    Pixels on outlines are the mean of four rays; within surfaces the texture's mip levels do that work.
    """
    batch = 4 if rooms.device.type == "cpu" else 64
    images, depths = [], []
    for start in range(0, len(cameras.room), batch):
        part = slice(start, start + batch)
        chunk = Cameras(cameras.room[part], cameras.K[part], cameras.T_world_cam[part], cameras.width, cameras.height)
        picture = _render_batch(rooms, lightmap, chunk)
        images.append(picture.image)
        depths.append(picture.depth)
        if progress:
            progress(len(chunk.room))
    return Pictures(torch.cat(images), torch.cat(depths))


def _render_batch(rooms: Rooms, lightmap: Lightmap, cameras: Cameras) -> Pictures:
    tiles = _Tiles(rooms, cameras)
    N, H, W = len(cameras.room), cameras.height, cameras.width
    colour = torch.empty(N * tiles.count * _TILE * _TILE, 3, device=rooms.device)
    depth = torch.empty(len(colour), device=rooms.device)
    surface = torch.empty(len(colour), dtype=torch.int64, device=rooms.device)
    pixels = torch.arange(len(colour), device=rooms.device).view(-1, _TILE * _TILE)
    for group in tiles.chunks(_TILE * _TILE):
        hits = trace(rooms, tiles.rays(group, tiles.pixel_uv(group)))
        rows = pixels[group].reshape(-1)
        colour[rows] = _shade(rooms, lightmap, cameras, hits)
        depth[rows] = hits.distance
        surface[rows] = hits.solid * 6 + hits.face
    edges = tiles.to_pixels(_outlines(tiles.to_image(surface), tiles.to_image(depth))).nonzero()[:, 0]
    offsets = torch.tensor(_SUBPIXELS, device=rooms.device)
    tile, place = edges // (_TILE * _TILE), edges % (_TILE * _TILE)
    for chosen in tiles.split(tile, len(_SUBPIXELS)):
        group = tile[chosen]
        uv = tiles.pixel_uv(group).gather(2, place[chosen].view(-1, 1, 1).expand(-1, 2, 1))
        hits = trace(rooms, tiles.rays(group, uv + offsets.T))
        colour[edges[chosen]] = _shade(rooms, lightmap, cameras, hits).view(-1, len(_SUBPIXELS), 3).mean(1)
    image = (colour.clamp(0.0, 1.0) ** (1 / 2.2) * 255 + 0.5).to(torch.uint8)
    return Pictures(tiles.to_image(image).view(N, H, W, 3), tiles.to_image(depth).view(N, H, W))


class _Tiles:
    """The images cut into square tiles, each with the solids that it may show."""

    def __init__(self, rooms: Rooms, cameras: Cameras):
        self.cameras = cameras
        self.columns = math.ceil(cameras.width / _TILE)
        self.lines = math.ceil(cameras.height / _TILE)
        self.count = self.columns * self.lines
        self.K_inverse = torch.linalg.inv(cameras.K)
        self._candidates, self._numbers = self._cull(rooms)

    def pixel_uv(self, tile: torch.Tensor) -> torch.Tensor:
        """Pixel coordinates (G, 2, pixels of a tile) of the tiles with numbers ``tile`` (G,)."""
        within = torch.arange(_TILE * _TILE, device=tile.device)
        place = tile % self.count
        u = (place % self.columns * _TILE).unsqueeze(1) + within % _TILE
        v = (place // self.columns * _TILE).unsqueeze(1) + within // _TILE
        return torch.stack([u, v], 1).float()

    def directions(self, tile: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        """World directions (G, 3, r) of unit z-depth through pixel coordinates ``uv`` (G, 2, r)."""
        camera = tile // self.count
        ones = torch.ones_like(uv[:, :1])
        optical = self.K_inverse[camera] @ torch.cat([uv, ones], 1)
        return self.cameras.T_world_cam[camera, :3, :3] @ optical

    def rays(self, tile: torch.Tensor, uv: torch.Tensor) -> Rays:
        """Rays of the tiles ``tile`` (G,) through ``uv`` (G, 2, r), with candidates enough for all of them."""
        camera = tile // self.count
        needed = self._numbers[:, tile].amax(1).tolist()
        candidates = tuple(order[tile, :count] for order, count in zip(self._candidates, needed, strict=True))
        return Rays(
            self.cameras.room[camera], self.cameras.T_world_cam[camera, :3, 3], self.directions(tile, uv), candidates
        )

    def chunks(self, rays: int) -> list[torch.Tensor]:
        """All tiles, sorted by their number of candidates so that a chunk's tiles need about the same."""
        return list(self.split(torch.arange(self._numbers.shape[1], device=self.K_inverse.device), rays, index=False))

    def split(self, tile: torch.Tensor, rays: int, index: bool = True) -> list[torch.Tensor]:
        """Split ``tile`` (or the indices into it) into chunks of similar work that fit the processor's cache."""
        if not len(tile):
            return []
        order = self._numbers.sum(0)[tile].argsort()
        budget = (1 << 15) if tile.device.type == "cpu" else (1 << 22)
        parts = order.split(max(1, budget // rays))
        return [part if index else tile[part] for part in parts]

    def to_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N x tiles x pixels of a tile, ...) in tile order -> (N, H, W, ...)."""
        rest = pixels.shape[1:]
        grid = pixels.view(-1, self.lines, self.columns, _TILE, _TILE, *rest).transpose(2, 3)
        image = grid.reshape(-1, self.lines * _TILE, self.columns * _TILE, *rest)
        return image[:, : self.cameras.height, : self.cameras.width]

    def to_pixels(self, image: torch.Tensor) -> torch.Tensor:
        """The inverse of ``to_image`` for (N, H, W) masks; what lies outside the image is False."""
        full = image.new_zeros(len(image), self.lines * _TILE, self.columns * _TILE)
        full[:, : self.cameras.height, : self.cameras.width] = image
        grid = full.view(-1, self.lines, _TILE, self.columns, _TILE).transpose(2, 3)
        return grid.reshape(-1)

    def _cull(self, rooms: Rooms) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """For each shape the solids' numbers, those in sight of the tile first (tiles, solids); how many are.

        A solid is in sight when its bounding ball meets the cone about the tile's corner rays.
        """
        tile = torch.arange(len(self.cameras.room) * self.count, device=rooms.device)
        edge = self.pixel_uv(tile)
        low, high = edge[..., 0] - 0.5, edge[..., -1] + 0.5
        corners = torch.stack(
            [low, torch.stack([high[:, 0], low[:, 1]], 1), torch.stack([low[:, 0], high[:, 1]], 1), high], -1
        )
        rays = torch.nn.functional.normalize(self.directions(tile, corners), dim=1)
        axis = torch.nn.functional.normalize(rays.sum(-1), dim=1)  # (tiles, 3)
        spread = (axis.unsqueeze(-1) * rays).sum(1).clamp(-1.0, 1.0).acos().amax(-1, keepdim=True)
        camera = tile // self.count
        room = self.cameras.room[camera]
        towards = rooms.centre[room, :-1] - self.cameras.T_world_cam[camera, None, :3, 3]
        distance = towards.norm(dim=-1)
        angle = ((towards * axis.unsqueeze(1)).sum(-1) / distance.clamp(min=1e-6)).clamp(-1.0, 1.0).acos()
        ratio = rooms.radius()[room, :-1] / distance.clamp(min=1e-6)
        reach = torch.where(ratio >= 1.0, math.pi, ratio.clamp(max=1.0).asin())
        in_sight = angle <= spread + reach + 1e-3
        orders, numbers, start = [], [], 0
        for count in rooms.counts:
            mask = in_sight[:, start : start + count]
            orders.append(mask.int().argsort(dim=1, descending=True) + start)
            numbers.append(mask.sum(1))
            start += count
        return tuple(orders), torch.stack(numbers)


def _outlines(surface: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Pixels (N, H, W) whose right or lower neighbour, or they themselves as such, belong to something else."""
    right = (surface[:, :, 1:] != surface[:, :, :-1]) | (_jump(depth[:, :, 1:], depth[:, :, :-1]))
    below = (surface[:, 1:] != surface[:, :-1]) | (_jump(depth[:, 1:], depth[:, :-1]))
    edge = torch.zeros_like(surface, dtype=torch.bool)
    edge[:, :, 1:] |= right
    edge[:, :, :-1] |= right
    edge[:, 1:] |= below
    edge[:, :-1] |= below
    return edge


def _jump(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs() > 0.1 * torch.minimum(a, b)


def _shade(rooms: Rooms, lightmap: Lightmap, cameras: Cameras, hits: Hits) -> torch.Tensor:
    """Linear display colour (N, 3) of the hits, 0..1."""
    surfaces, count = rooms.surfaces, rooms.centre.shape[1] - 1
    row = hits.room * surfaces.texture.shape[1] + hits.solid + torch.where(hits.solid == count, hits.face, 0)
    tile_m = surfaces.tile_m.flatten()[row]
    whole = tile_m <= 0
    squares = hits.extent / torch.where(whole, hits.extent, tile_m)  # squares along the chart
    uv = hits.uv * squares + surfaces.shift.flatten(0, 1)[row].T
    metres_per_texel = torch.where(whole, hits.extent.amax(0), tile_m) / rooms.atlas.size
    # Surfaces seen at a slant are blurred only halfway as their long side would ask, or floors turn to fog.
    footprint = hits.distance / cameras.K[0, 0, 0] / hits.cosine.clamp(min=0.05).sqrt()
    level = torch.log2((footprint / metres_per_texel).clamp(min=1.0))
    albedo = rooms.atlas.sample(surfaces.texture.flatten()[row], uv, level)
    albedo = albedo * surfaces.tint.flatten(0, 1)[row]
    light = lightmap.sample(rooms, hits) + surfaces.emission.flatten()[row].unsqueeze(-1)
    return 1.0 - torch.exp(-1.3 * albedo * light)
