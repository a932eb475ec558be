"""Few of a series whose length nobody knows beforehand, at even distances."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class EvenlyKept(Generic[T]):
    """Keeps at most ``most`` things, and at least half as many once there were more, the first one among them."""

    def __init__(self, most: int):
        self._most = most
        self._seen = 0
        self._every = 1
        self.kept: list[T] = []

    def next_is_wanted(self) -> bool:
        """Counts one more thing, and says whether to ``keep`` it."""
        wanted = self._seen % self._every == 0
        self._seen += 1
        return wanted

    def keep(self, thing: T) -> None:
        """Keep what was wanted."""
        self.kept.append(thing)
        self._thin_out()

    def extend(self, later: list[T]) -> None:
        """Take over what was kept of a later series."""
        self.kept += later
        self._thin_out()

    def _thin_out(self) -> None:
        while len(self.kept) > self._most:
            del self.kept[1::2]
            self._every *= 2
