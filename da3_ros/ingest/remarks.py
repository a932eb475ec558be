"""Sentences about a recording, and numbers of messages in them that stay right however it is read."""

from __future__ import annotations


class Remarks:
    """Sentences without repetition. Some are about a number of messages: each counts once, in whatever parts the
    recording is read and however often. For that a time is kept for each message that is counted."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}  # as a set with an order
        self._messages: dict[tuple[str, str], set[tuple[int, int]]] = {}

    def say(self, text: str) -> None:
        """A sentence about no messages in particular."""
        self._sentences[text] = None

    def count(self, before: str, after: str, time_ns: int, number: int = 1) -> None:
        """One more message of a sentence: how many they are stands between ``before`` and ``after``. It is told from
        others by ``time_ns`` and its ``number`` among those of that time."""
        self._messages.setdefault((before, after), set()).add((time_ns, number))

    def merge(self, other: Remarks) -> None:
        """Add those of another reader of the same recording."""
        self._sentences |= other._sentences
        for sentence, messages in other._messages.items():
            self._messages.setdefault(sentence, set()).update(messages)

    def texts(self) -> list[str]:
        """What is to be told."""
        return [*self._sentences, *(f"{start}{len(found)}{end}" for (start, end), found in self._messages.items())]
