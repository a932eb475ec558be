"""How errors of single views become an error of the frame, through the means by which tracking places its windows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

_LATELY = 0.1  # what a new window counts for in the mean of what views are off


class ViewErrors:
    """Covariances of the errors that the poses of a window's views have in odom, of turns and of positions.

    A window lays the views that it shares with the last one on their poses by a mean, and each view's pose is the mean
    of what its windows said (window_program). Both are linear in the errors of the views, which are independent from
    window to window and alike in all views; so covariances follow by the same means. An anchor that has been in many
    windows has an error that was averaged away, and holds the frame as long as it stays. All axes are alike.
    """

    def __init__(self) -> None:
        self._keys: list[Hashable] = []
        self._windows: list[int] = []  # how many windows each view's pose comes from
        self._covariance = np.zeros((2, 0, 0))  # of turns (rad^2) and of positions (m^2)
        self._body = np.zeros(2)  # variance of the newest body's
        self._views = np.full(2, np.nan)  # variance of single views, lately
        self.found = np.full(2, np.nan)  # variances of single views in the last window, NaN where it shows none
        self._frame = np.zeros(2)
        self._bodies = 1  # how many of the last views the newest body's pose is the mean of
        self._guess: np.ndarray | None = None  # variance of single views that was taken before any was found

    @property
    def views(self) -> np.ndarray:
        """Variances (2,) of the poses of single views in a window: as found lately, or as taken until any is found."""
        if not np.isnan(self._views).any():
            return self._views
        return np.zeros(2) if self._guess is None else self._guess

    def enlarge(self, growth: float) -> None:
        """Lengths have become ``growth`` times as many, as with the first metres; what views are off has, too."""
        units = np.array([1.0, growth**2])
        self._covariance = self._covariance * units[:, None, None]
        self._body, self._views, self._frame = self._body * units, self._views * units, self._frame * units
        if self._guess is not None:
            self._guess = self._guess * units

    def count_from_here(self) -> None:
        """Errors are those against the newest body from now on, which has none: odom's way begins with it."""
        body = np.zeros(len(self._keys))
        body[-self._bodies :] = 1 / self._bodies
        relative = np.eye(len(body)) - body
        self._covariance = relative @ self._covariance @ relative.T
        self._body, self._frame = np.zeros(2), np.zeros(2)

    def step(
        self,
        keys: Sequence[Hashable],
        newest: int,
        connected: bool,
        together: bool,
        residual: np.ndarray,
        single: np.ndarray,
        worth: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a window of views ``keys`` (the last ``newest`` are the newest set) adds to the frame's variance, for
        later windows to inherit, what its newest body's pose has beyond that, and by what all that was added before
        is to be multiplied, now that it is known better. (2,) each: turns, positions.

        ``connected``: views that were there before hold the window; else its newest body is where the last one was.
        ``together``: the newest set is one body's. ``residual`` (2,): mean squares, for each axis, of what the shared
        views are off after they were laid on their poses; ``single`` (2,): variance of a view as long as no window
        has shared two, and nothing tells. ``worth`` of each view: what it counts for in those means; None: all alike.
        """
        first = not self._keys
        known = {key: row for row, key in enumerate(self._keys)} if connected else {}
        before = [known[key] for key in keys if key in known]
        shared = np.array([key in known for key in keys])
        counts = np.array([1 + (self._windows[known[key]] if key in known else 0) for key in keys])
        count = len(before)
        weight = shared * (1.0 if worth is None else worth)
        weight = weight / max(weight.sum(), 1e-12)
        learnt = np.ones(2)
        self.found = np.full(2, np.nan)
        if count >= 2:
            stored = weight[shared] @ [1 / self._windows[index] for index in before]
            self.found = found = residual / (1 - np.square(weight).sum()).clip(min=1e-3) / (1 + stored)
            if self._guess is not None:
                learnt, self._guess = found / self._guess, None
                self._covariance *= learnt[:, None, None]
                self._body, self._frame = self._body * learnt, self._frame * learnt
            self._views = np.where(np.isnan(self._views), found, self._views + _LATELY * (found - self._views))
            variance = self._views
        else:
            variance = np.asarray(single, dtype=np.float64) if np.isnan(self._views).any() else self._views
            if not first and np.isnan(self._views).any():
                self._guess = variance
        if first:
            variance = np.zeros(2)
        views = len(keys)
        mean = np.zeros((views, len(self._keys)))  # by the errors before, the same for all views
        own = np.eye(views)  # by this window's
        if count:
            mean[:, before] = weight[shared]
            own -= weight
        keep = np.zeros_like(mean)
        keep[np.flatnonzero(shared), before] = 1.0
        if together:  # the cameras of the newest set are held together by the rig
            own[views - newest :] = own[views - newest :].mean(0)
        share = np.where(shared, 1 / counts, 1.0)[:, None]
        carry, add = (1 - share) * keep + share * mean, share * own
        self._covariance = carry @ self._covariance @ carry.T + variance[:, None, None] * (add @ add.T)
        if not count:  # the window is placed by the last body
            self._covariance += self._body[:, None, None]
        self._keys, self._windows = list(keys), counts.tolist()
        frame = self._covariance.mean((1, 2))
        self._bodies = newest if together else 1
        self._body = self._covariance[:, -self._bodies :, -self._bodies :].mean((1, 2))
        grown = np.maximum(frame, self._frame)
        added, self._frame = grown - self._frame, grown
        return added, np.maximum(self._body - grown, 0.0), learnt
