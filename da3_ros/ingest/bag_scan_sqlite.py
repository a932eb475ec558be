"""rosbag2's SQLite files, row by row: rows on damaged pages are left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from da3_ros.errors import InputError
from da3_ros.ingest.bag_scan import NO_DEFINITION, Lost, RawMessage, StoredTopic, definition

# Damaged rows one after the other, after which the rest of the file is taken to be damaged too.
_PATIENCE = 1000


def scan_sqlite(file: Path, lost: Lost) -> Iterator[StoredTopic | RawMessage]:
    """What is readable of ``file``, in the order in which it was recorded.

    Raises InputError where not even the list of topics can be read.
    """
    connection = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
    # Otherwise SQLite refuses a file that is shorter than its header says; nothing can be written to an immutable one.
    connection.execute("PRAGMA writable_schema = ON")
    try:
        try:
            topics = connection.execute("SELECT id, name, type FROM topics").fetchall()
        except sqlite3.DatabaseError as error:
            raise InputError(f"{file} has no readable list of topics ({error})") from error
        try:
            rows = connection.execute(
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            ).fetchall()
        except sqlite3.DatabaseError:  # older recordings have no such table
            rows = []
        definitions = {name: definition(encoding, text) for name, encoding, text in rows}
        for _, name, kind in topics:
            yield StoredTopic(name, kind, definitions.get(kind, NO_DEFINITION))
        yield from _messages(connection, {number: name for number, name, _ in topics}, lost)
    finally:
        connection.close()


def _messages(connection: sqlite3.Connection, topics: dict[int, str], lost: Lost) -> Iterator[RawMessage]:
    last, damaged, missing, text = 0, 0, 0, ""
    select = "SELECT id, topic_id, timestamp, data FROM messages WHERE"
    while damaged < _PATIENCE:
        try:
            for row, topic, receive_ns, data in connection.execute(f"{select} id > ? ORDER BY id", (last,)):
                last, damaged = row, 0
                if topic in topics:
                    yield RawMessage(topics[topic], receive_ns, data)
            break
        except sqlite3.DatabaseError:
            last, damaged = last + 1, damaged + 1
        # The cursor reads a row ahead: the one that it should have given next may be whole, and the damage behind it.
        try:
            for _, topic, receive_ns, data in connection.execute(f"{select} id = ?", (last,)):
                damaged = 0
                if topic in topics:
                    yield RawMessage(topics[topic], receive_ns, data)
        except sqlite3.DatabaseError as error:
            missing, text = missing + 1, str(error)
    if damaged >= _PATIENCE:
        lost(f"the rows from number {last - damaged + 1} on ({text})")
        missing -= damaged
    if missing > 0:
        lost(f"{missing} rows ({text})")
