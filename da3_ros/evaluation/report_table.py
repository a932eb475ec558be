"""Tables of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
    """An HTML table; numbers with four digits, None as a dash."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(shown(cell))}</td>' for cell in row)}</tr>" for row in rows)
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
