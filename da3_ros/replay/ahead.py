"""Compressed pictures of a recording decoded on other threads, some messages before their turn.

What becomes of a message is still decided when it is its turn, in the order of the recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from da3_ros.errors import FrameError
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.ingest.decode import decode_compressed
from da3_ros.ingest.from_msg import Pixels, as_bytes
from da3_ros.streaming.device import usable_cores

_MOST_THREADS = 4
# What is ahead at most: pictures of each camera, and messages of all topics.
_MOST_PICTURES = 3
_MOST_MESSAGES, _MOST_BYTES = 256, 32 << 20


class Picture(NamedTuple):
    """A deserialized message, None where its bytes do not fit its type, and what gives its pixels or raises FrameError;
    None where nothing has decoded it."""

    message: Any
    pixels: Callable[[], Pixels] | None = None


# A message, and with a picture what waits until it is decoded.
Read = tuple[RawMessage, Callable[[], Picture] | None]


class PicturesAhead:
    """``cameras``: camera of each topic whose pictures (CompressedImage) are decoded; ``deserialize`` as Bag's.

    To be used in a with statement, which waits for what is being decoded.
    """

    def __init__(self, cameras: Mapping[str, str], deserialize: Callable[[RawMessage], Any]):
        self._cameras, self._deserialize = cameras, deserialize
        threads = min(len(cameras), _MOST_THREADS, max(1, usable_cores() - 1))
        self._pool = ThreadPoolExecutor(threads, "da3-decode") if cameras else None

    def __enter__(self) -> PicturesAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, messages: Iterable[RawMessage]) -> Iterator[Read]:
        """``messages`` in their order."""
        waiting: deque[tuple[RawMessage, Future[Picture] | None]] = deque()
        pictures = size = 0

        def first() -> Read:
            nonlocal pictures, size
            raw, begun = waiting.popleft()
            pictures, size = pictures - (begun is not None), size - len(raw.data)
            return raw, None if begun is None else begun.result

        for raw in messages:
            begun = self._begin(raw)
            waiting.append((raw, begun))
            pictures, size = pictures + (begun is not None), size + len(raw.data)
            while waiting and self._enough(pictures, len(waiting), size):
                yield first()
        while waiting:
            yield first()

    def _enough(self, pictures: int, messages: int, size: int) -> bool:
        """Whether the first of those ahead is to be used; with nothing to decode it is used at once."""
        most = _MOST_PICTURES * len(self._cameras)
        return self._pool is None or pictures > most or messages > _MOST_MESSAGES or size > _MOST_BYTES

    def _begin(self, raw: RawMessage) -> Future[Picture] | None:
        camera = self._cameras.get(raw.topic)
        return None if self._pool is None or camera is None else self._pool.submit(self._decode, raw, camera)

    def _decode(self, raw: RawMessage, camera: str) -> Picture:
        message = self._deserialize(raw)
        if message is None:
            return Picture(None)
        try:
            decoded = decode_compressed(as_bytes(message.data), message.format, camera)
        except FrameError as error:
            return Picture(message, _raising(error))
        return Picture(message, lambda: decoded)


def _raising(error: FrameError) -> Callable[[], Pixels]:
    def pixels() -> Pixels:
        raise error

    return pixels
