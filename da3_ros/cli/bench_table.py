"""Rows of figures as Markdown tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any


def print_report(
    machine: Mapping[str, str], rows: Sequence[Any], destination: str | None, tables: Sequence[tuple[str, ...]] = ((),)
) -> None:
    """Print the machine and one table for each tuple of columns (all of them where it is empty).

    ``destination``: file for machine and rows as JSON, or ``-`` for JSON on the standard output instead of tables.
    """
    if destination:
        text = json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1)
        if destination == "-":
            print(text)
            return
        Path(destination).write_text(text + "\n")
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    print("\n\n".join(table(rows, columns) for columns in tables))


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
