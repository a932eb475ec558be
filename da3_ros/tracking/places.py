"""Place recognition from what the network's own backbone says of each image; no other model.

A view's descriptor is the mean of its patch tokens where the part of the backbone ends that sees each image alone
(which the streaming engine computes in any case; WindowPrediction.features). What all images of a drive have in
common is taken out by whitening, learned from the drive itself; similarity is then the cosine.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

_DIMENSIONS = 128  # after projection; whitening costs their cube
_RENEW_AFTER = 1.25  # growth of the number of keyframes after which whitening is learned anew
# Of the mean variance, added to each. With less, the pictures of a drive of 100 keyframes all become unlike each other,
# as each has directions of its own that are blown up: two of one place, too.
_SHRINKAGE = 10.0
_FEWEST = 8  # keyframes before any place is recognised


@dataclass(frozen=True)
class Candidate:
    """Two keyframes that look alike, by which of their cameras (their positions), and the cosine."""

    old: int
    new: int
    old_camera: int
    new_camera: int
    similarity: float


class PlaceIndex:
    """Descriptors of keyframes. Not thread-safe.

    Whitening is learned anew as keyframes accumulate: the same keyframes in the same order give the same answers.
    """

    # Products and decompositions are torch's, whose number of threads is set: NumPy's library takes all cores, and
    # where others want them, too, its threads wait for each other, for seconds in all.

    def __init__(self) -> None:
        self._raw: dict[int, np.ndarray] = {}  # keyframe -> (C, D') projected, in order
        self._projection: np.ndarray | None = None
        self._mean = np.zeros(0)
        self._whiten = np.zeros((0, 0))
        self._white: dict[int, np.ndarray] = {}  # keyframe -> (C, D') of unit length
        self._learned_from = 0

    def __len__(self) -> int:
        return len(self._raw)

    def add(self, keyframe: int, descriptors: np.ndarray) -> None:
        """Take in a keyframe by the descriptors (C, D) of its cameras."""
        self._raw[keyframe] = self._project(descriptors)
        if len(self._raw) >= max(_FEWEST, _RENEW_AFTER * self._learned_from):
            self._learn()
        if self._learned_from:
            self._white[keyframe] = self._normalise(self._raw[keyframe])

    def remove(self, keyframe: int) -> None:
        """Forget a keyframe."""
        del self._raw[keyframe]
        self._white.pop(keyframe, None)

    def best(self, new: int, among: Collection[int]) -> Candidate | None:
        """Of the keyframes ``among`` the one that looks most like keyframe ``new``; None before enough are known."""
        known = [number for number in among if number in self._white]
        if not known or new not in self._white:
            return None
        rows = np.concatenate([self._white[number] for number in known])
        owners = [(number, camera) for number in known for camera in range(len(self._white[number]))]
        cosine = (torch.from_numpy(rows) @ torch.from_numpy(self._white[new]).T).numpy()  # (sum of C, C)
        row, new_camera = np.unravel_index(int(cosine.argmax()), cosine.shape)
        old, old_camera = owners[int(row)]
        return Candidate(old, new, old_camera, int(new_camera), float(cosine[row, new_camera]))

    def _project(self, descriptors: np.ndarray) -> np.ndarray:
        """To _DIMENSIONS at most, by fixed random directions, which keep angles (Johnson and Lindenstrauss)."""
        descriptors = descriptors.astype(np.float64)
        dimensions = descriptors.shape[-1]
        if dimensions <= _DIMENSIONS:
            return descriptors
        if self._projection is None:
            directions = np.random.default_rng(0).normal(size=(dimensions, _DIMENSIONS))
            self._projection = torch.linalg.qr(torch.from_numpy(directions))[0].numpy()
        return descriptors @ self._projection

    def _learn(self) -> None:
        rows = np.concatenate(list(self._raw.values()))
        self._mean = rows.mean(0)
        centred = rows - self._mean
        spread = torch.from_numpy(centred)
        values, vectors = (part.numpy() for part in torch.linalg.eigh(spread.T @ spread / len(rows)))
        values = values.clip(min=0.0)
        self._whiten = vectors / np.sqrt(values + _SHRINKAGE * values.mean() + 1e-12)
        self._learned_from = len(self._raw)
        self._white = {number: self._normalise(raw) for number, raw in self._raw.items()}

    def _normalise(self, raw: np.ndarray) -> np.ndarray:
        white = (raw - self._mean) @ self._whiten
        return white / np.linalg.norm(white, axis=-1, keepdims=True).clip(min=1e-12)
