"""The parameter table of the README, made from the configuration tree.

``python -m da3_ros.config_docs README.md`` writes it between the two markers; a test checks that it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from da3_ros.config import Parameter, parameters

BEGIN, END = "<!-- parameters: begin (made by python -m da3_ros.config_docs) -->", "<!-- parameters: end -->"


def parameter_table() -> str:
    """All parameters as a Markdown table; ``*`` marks those that may change while the node is active."""
    lines = ["| Parameter | Default | Values | Meaning |", "|---|---|---|---|"]
    for parameter in parameters(("<name>",)):
        name = f"`{parameter.name}`" + (" *" if parameter.dynamic else "")
        lines.append(f"| {name} | {_default(parameter)} | {_values(parameter)} | {parameter.description} |")
    return "\n".join(lines)


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[]`"
    return f"`{value}`" if value != "" else "empty"


def _values(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(f"`{choice}`" for choice in parameter.choices)
    if parameter.ge is not None:
        return f"{parameter.ge:g} to {parameter.le:g}"
    return {bool: "`true`, `false`", str: "text", tuple: "list of texts"}[parameter.type]


def replace_table(text: str) -> str:
    """``text`` with everything between the markers replaced by the current table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{parameter_table()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(replace_table(readme.read_text()))
