"""Text files that commands write where the user says."""

from __future__ import annotations

from pathlib import Path

from da3_ros.errors import InputError


def write_text(file: Path, text: str) -> None:
    """Write ``text`` and a line end. Raises InputError where that cannot be done."""
    try:
        file.write_text(text + "\n")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}") from error
