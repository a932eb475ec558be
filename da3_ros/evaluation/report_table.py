"""Tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple


class Link(NamedTuple):
    """A cell that leads to the element ``target`` of the same page."""

    text: str
    target: str


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
    """An HTML table; numbers with four digits, None as a dash, a Link as one. Columns of words begin on the left."""
    rows = list(rows)
    # The first column does so by the style sheet, and settings do.
    kinds = [
        ' class="text"' if column and not kind and rows and all(isinstance(row[column], str) for row in rows) else ""
        for column in range(len(heads))
    ]
    head = "".join(f"<th{of}>{escape(text)}</th>" for of, text in zip(kinds, heads, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{of}>{_cell(cell)}</td>' for of, cell in zip(kinds, row, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="{kind}"><tr>{head}</tr>{body}</table></div>'


def shown(value: Any) -> str:
    """A value as the page has it: four digits, a dash for None, what is in a list one after the other."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1e-6 else f"{value:.1g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def _cell(value: Any) -> str:
    if isinstance(value, Link):
        return f'<a href="#{escape(value.target)}">{escape(value.text)}</a>'
    return escape(shown(value))
