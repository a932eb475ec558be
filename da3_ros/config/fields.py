"""Fields of the configuration tree: default, description, range and choices, and what fits them."""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args, get_type_hints


def param(
    default: Any,
    description: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
    dynamic: bool = False,
) -> Any:
    """A configuration field. ``ge``/``le`` are inclusive; ``dynamic`` ones may change while the node is active."""
    metadata = {"description": description, "ge": ge, "le": le, "choices": choices, "dynamic": dynamic}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Parameter:
    """One leaf of the tree, under its dotted name."""

    name: str
    type: type
    default: Any
    description: str
    ge: float | None
    le: float | None
    choices: tuple[str, ...] | None
    dynamic: bool


def tree_parameters(config_type: type, cameras: tuple[str, ...]) -> list[Parameter]:
    """All parameters of ``config_type`` in order; its ``camera`` part once for each name in ``cameras``."""
    found = []
    hints = get_type_hints(config_type)
    for item in fields(config_type):
        if item.name == "camera":
            _, section = get_args(hints[item.name])
            for name in cameras:
                found += _section(f"camera.{name}", section)
        elif dataclasses.is_dataclass(hints[item.name]):
            found += _section(item.name, hints[item.name])
        else:
            found.append(_leaf(item.name, item, hints[item.name]))
    return found


def _section(prefix: str, section: type) -> list[Parameter]:
    hints = get_type_hints(section)
    return [_leaf(f"{prefix}.{item.name}", item, hints[item.name]) for item in fields(section)]


def _leaf(name: str, item: dataclasses.Field, hint: Any) -> Parameter:
    kind = hint if isinstance(hint, type) else tuple
    assert item.default is not MISSING, name
    return Parameter(name=name, type=kind, default=item.default, **item.metadata)


def to_flat(config: Any) -> dict[str, Any]:
    """Dotted name -> value for every parameter of ``config``; tuples become lists."""
    flat = {}
    for parameter in tree_parameters(type(config), config.cameras):
        value: Any = config
        parts = parameter.name.split(".")
        if parts[0] == "camera":
            value, parts = config.camera_config(parts[1]), parts[2:]
        for part in parts:
            value = getattr(value, part)
        flat[parameter.name] = list(value) if isinstance(value, tuple) else value
    return flat


_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text", tuple: "a list of texts"}


def value_problem(parameter: Parameter, value: Any) -> str:
    """What is wrong with ``value`` for ``parameter`` by its type, range or choices; empty when it fits."""
    if not type_fits(parameter.type, value):
        return f"{parameter.name} must be {_KINDS[parameter.type]}, not {value!r}"
    if parameter.ge is not None and parameter.le is not None and not parameter.ge <= value <= parameter.le:
        return f"{parameter.name} must be within [{parameter.ge:g}, {parameter.le:g}], not {value!r}"
    if parameter.choices and value not in parameter.choices:
        return f"{parameter.name} must be one of {', '.join(parameter.choices)}, not {value!r}"
    return ""


def type_fits(kind: type, value: Any) -> bool:
    """Whether ``value`` has the type of a parameter; a number may be written as an integer."""
    if kind is tuple:
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
