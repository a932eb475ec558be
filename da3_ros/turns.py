"""How long a thread may keep Python's interpreter while others wait for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds, 5 ms by default. The thread that runs the network gives the interpreter up at each of torch's calls, some two
# hundred in a step, while others unpack images or write messages: it would wait that long to have it back.
_SWITCH_INTERVAL_S = 2e-4


def shorten_turns() -> None:
    """For the whole process, for good."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


@contextmanager
def short_turns() -> Iterator[None]:
    """The same within it."""
    before = sys.getswitchinterval()
    shorten_turns()
    try:
        yield
    finally:
        sys.setswitchinterval(before)
