"""Rows of figures as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any


def table(rows: Sequence[Any], columns: Iterable[str] = ()) -> str:
    """``columns`` (all of them if none are named) of dataclass instances; those that nobody measured are left out."""
    heads = list(columns) or [item.name for item in fields(rows[0])]
    heads = [head for head in heads if any(getattr(row, head) is not None for row in rows)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for row in rows:
        lines.append(" | ".join(_cell(getattr(row, head)) for head in heads))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.3g}"
