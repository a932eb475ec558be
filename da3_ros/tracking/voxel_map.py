"""A voxel-hashed cloud: for each cube of space the confidence-weighted mean of the points and colours in it.

Open addressing in flat arrays: an insertion of n points costs O(n), whatever the size of the map, and what was put
in can be taken out again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BITS = 21  # of a voxel's index on each axis: three fit into an int64
_LIMIT = 1 << (_BITS - 1)
_EMPTY = np.int64(-1)
_FULL = 0.6  # share of used slots from which on the table is doubled
_LEAST_WEIGHT = 1e-3  # below it a voxel holds nothing but rounding
_SUMS = 7  # weight, then weighted x, y, z relative to the voxel's corner in voxels, and red, green, blue


@dataclass(frozen=True)
class Cloud:
    """``xyz`` (n, 3) float32 metres, ``rgb`` (n, 3) uint8, ``weight`` (n,) float32; ordered by voxel."""

    xyz: np.ndarray
    rgb: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


class VoxelMap:
    """Cubes with sides of ``voxel`` metres, at most ``limit`` of them: points in further ones are not taken in.

    Not thread-safe.
    """

    def __init__(self, voxel: float, limit: int):
        self.voxel = voxel
        self._limit = limit
        self._allocate(1 << 14)

    def __len__(self) -> int:
        """Voxels in use, those included of which everything was taken out again."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether points had to be left out for ``limit``."""
        return self._full

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._keys.nbytes + self._sums.nbytes

    def add(self, xyz: np.ndarray, rgb: np.ndarray, weight: np.ndarray) -> None:
        """Take in points (n, 3) in metres with colours (n, 3) uint8 and weights (n,); negative ones take out.

        Points that are not finite, of no weight or too far from the origin (2^20 voxels) are left out.
        """
        scaled = xyz.astype(np.float64) / self.voxel
        cell = np.floor(scaled)
        kept = (np.abs(cell) < _LIMIT).all(-1) & (weight != 0) & np.isfinite(weight)  # false for NaN
        cell, scaled = cell[kept], scaled[kept]
        index = cell.astype(np.int64) + _LIMIT
        key = (index[:, 0] << 2 * _BITS) | (index[:, 1] << _BITS) | index[:, 2]
        weight = weight[kept].astype(np.float64)
        values = np.concatenate([np.ones((len(key), 1)), scaled - cell, rgb[kept]], axis=1) * weight[:, None]
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
        if len(first):
            self._put(key[first], np.add.reduceat(values[order], first, axis=0))

    def snapshot(self) -> VoxelMap:
        """The same at this moment; what comes later does not change it."""
        copy = VoxelMap(self.voxel, self._limit)
        copy._keys, copy._sums = self._keys.copy(), self._sums.copy()
        copy._used, copy._full = self._used, self._full
        return copy

    def cloud(self) -> Cloud:
        """Everything in it."""
        rows = np.flatnonzero((self._keys != _EMPTY) & (self._sums[:, 0] > _LEAST_WEIGHT))
        rows = rows[np.argsort(self._keys[rows])]
        key, sums = self._keys[rows], self._sums[rows].astype(np.float64)
        mask = (1 << _BITS) - 1
        cell = np.stack([(key >> 2 * _BITS) & mask, (key >> _BITS) & mask, key & mask], axis=1) - _LIMIT
        means = sums[:, 1:] / sums[:, :1]
        xyz = (cell + means[:, :3].clip(0.0, 1.0)) * self.voxel
        return Cloud(
            xyz.astype(np.float32), means[:, 3:].round().clip(0, 255).astype(np.uint8), sums[:, 0].astype(np.float32)
        )

    def _allocate(self, slots: int) -> None:
        self._keys = np.full(slots, _EMPTY, dtype=np.int64)
        self._sums = np.zeros((slots, _SUMS), dtype=np.float32)
        self._used = 0
        self._full = False

    def _put(self, key: np.ndarray, sums: np.ndarray) -> None:
        """Add ``sums`` (k, 7) to the voxels with distinct keys (k,)."""
        slot, found = self._find(key)
        new = np.flatnonzero(~found)
        room = self._limit - self._used
        if len(new) > room:
            self._full = True
            drop = np.zeros(len(key), dtype=bool)
            drop[new[max(0, room) :]] = True
            key, sums, slot, found = key[~drop], sums[~drop], slot[~drop], found[~drop]
            new = np.flatnonzero(~found)
        if self._used + len(new) > _FULL * len(self._keys):
            self._grow(self._used + len(new))
            slot, found = self._find(key)
        if len(new):
            slot[new] = self._claim(key[new])
            self._used += len(new)
        self._sums[slot] += sums.astype(np.float32)

    def _find(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slots (k,) of ``key``, and which of them have one already."""
        mask = len(self._keys) - 1
        slot = _hash(key) & mask
        found = np.zeros(len(key), dtype=bool)
        open_ = np.arange(len(key))
        while len(open_):
            there = self._keys[slot[open_]]
            hit = there == key[open_]
            found[open_[hit]] = True
            open_ = open_[~hit & (there != _EMPTY)]
            slot[open_] = (slot[open_] + 1) & mask
        return slot, found

    def _claim(self, key: np.ndarray) -> np.ndarray:
        """New slots (k,) for keys that have none."""
        mask = len(self._keys) - 1
        slot = _hash(key) & mask
        open_ = np.arange(len(key))
        while len(open_):
            free = open_[self._keys[slot[open_]] == _EMPTY]
            self._keys[slot[free]] = key[free]  # of several that want a slot the last one has it
            open_ = open_[self._keys[slot[open_]] != key[open_]]
            slot[open_] = (slot[open_] + 1) & mask
        return slot

    def _grow(self, needed: int) -> None:
        keys, sums = self._keys, self._sums
        rows = np.flatnonzero(keys != _EMPTY)
        slots = len(keys)
        while needed > _FULL * slots / 2:
            slots *= 2
        full = self._full
        self._allocate(slots)
        self._full = full
        self._sums[self._claim(keys[rows])] = sums[rows]
        self._used = len(rows)


def _hash(key: np.ndarray) -> np.ndarray:
    """Fibonacci hashing: the high bits of a product with the golden ratio's odd fraction."""
    mixed = (key ^ (key >> 31)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(20)).astype(np.int64)
