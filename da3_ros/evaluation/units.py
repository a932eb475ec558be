"""Depth in the wrong unit: millimetres where metres belong (32FC1 is metres by REP 118) are noticed, never rescaled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_STEP = 7  # of the rows and columns that are looked at
_FAR = 100.0  # metres: a median beyond is unlike any robot's, and every one in millimetres is beyond
_THOUSAND = (300.0, 3000.0)  # what true over estimated depth may be where one is in millimetres
_MOST_FRAMES = 1000


class FrameUnits(NamedTuple):
    """Medians of the depth of one frame; ``whole``: whether all its true values are whole numbers."""

    predicted: float
    true: float
    whole: bool


class UnitCheck:
    """Looks at the depth of one camera."""

    def __init__(self) -> None:
        self._frames: list[FrameUnits] = []

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Depth maps (H, W) of the same pixels, NaN where there is none."""
        if len(self._frames) < _MOST_FRAMES:
            coarse = [values[::_STEP, ::_STEP] for values in (predicted, true)]
            seen, known = coarse[0][np.isfinite(coarse[0])], coarse[1][np.isfinite(coarse[1])]
            if seen.size and known.size:
                whole = bool((known == np.rint(known)).all())
                self._frames.append(FrameUnits(float(np.median(seen)), float(np.median(known)), whole))

    def merge(self, later: UnitCheck) -> None:
        """Take over the frames of ``later``."""
        self._frames = (self._frames + later._frames)[:_MOST_FRAMES]

    @property
    def warning(self) -> str | None:
        """A sentence where the depth, true or estimated, is likely to be in millimetres."""
        if not self._frames:
            return None
        predicted, true = (float(np.median([frame[index] for frame in self._frames])) for index in (0, 1))
        ratio = true / predicted
        low, high = _THOUSAND
        if true > _FAR and (low < ratio < high or all(frame.whole for frame in self._frames)):
            return (
                f"the true depth looks like millimetres: half of it is beyond {true:.0f} m, {ratio:.3g} times the "
                "estimate. Floating point depth (32FC1) is metres, millimetres are 16UC1 (REP 118): nothing was "
                "rescaled, so mend the recording"
            )
        if predicted > _FAR and low < 1 / ratio < high:
            return (
                f"the estimated depth looks like millimetres: half of it is beyond {predicted:.0f} m, {1 / ratio:.3g} "
                "times the truth. Floating point depth is metres: nothing was rescaled"
            )
        return None
