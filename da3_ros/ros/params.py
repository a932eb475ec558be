"""The configuration tree as ROS parameters: declared with types, ranges and descriptions, read back as a Config.

What is wrong at start-up (a typo, a wrong type, a value out of range) is kept and reported by ``config()``, so that
the node fails to configure with one line instead of dying in its constructor. Parameters can be mended while the
node is unconfigured. Once it is configured only the dynamic ones may change, by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from da3_ros import config as tree
from da3_ros.config import Config
from da3_ros.errors import ConfigError

# Parameters that rclpy itself declares.
_FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple: Parameter.Type.STRING_ARRAY,
}


def describe(parameter: tree.Parameter) -> ParameterDescriptor:
    """Type, range, choices and description of ``parameter`` as ROS tools show them."""
    descriptor = ParameterDescriptor(
        name=parameter.name, type=_TYPES[parameter.type].value, description=parameter.description
    )
    constraints = []
    if parameter.choices:
        constraints.append(f"one of: {', '.join(parameter.choices)}")
    if not parameter.dynamic:
        # Not read_only: that flag could never be taken back, and a failed configure must be mendable.
        constraints.append("can change only while the node is unconfigured")
    descriptor.additional_constraints = "; ".join(constraints)
    if parameter.ge is not None and parameter.le is not None:
        if parameter.type is int:
            descriptor.integer_range = [IntegerRange(from_value=int(parameter.ge), to_value=int(parameter.le), step=1)]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(parameter.ge), to_value=float(parameter.le))
            ]
    return descriptor


class NodeParameters:
    """Declares every parameter of Config on ``node`` and turns their values into a validated Config.

    ``overrides``: values from the command line and from parameter files, by name. To be used from the node's
    executor thread.
    """

    def __init__(self, node: Node, overrides: Mapping[str, Parameter]):
        self._node = node
        self._overrides = {name: parameter for name, parameter in overrides.items() if not name.startswith(_FOREIGN)}
        self._known: dict[str, tree.Parameter] = {}
        self._unknown: list[str] = []  # overrides that mean nothing, declared so that they can be deleted
        self._refused: dict[str, Any] = {}  # overrides that do not fit their parameter
        self._frozen: Callable[[Config], None] | None = None
        for parameter in tree.parameters():
            self._declare(parameter)
        self._declare_cameras()
        self._unknown = [name for name in self._overrides if name not in self._known]
        for name in self._unknown:
            self._declare_unknown(name)
        node.add_pre_set_parameters_callback(self._widen_integers)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._after_set)

    def config(self) -> Config:
        """The configuration that the parameters describe now; raises one ConfigError with every problem."""
        return tree.from_flat(self._values({}))

    def freeze(self, on_change: Callable[[Config], None]) -> None:
        """From now on only dynamic parameters may change; ``on_change`` gets the new configuration."""
        self._frozen = on_change

    def thaw(self) -> None:
        """Let every parameter change again."""
        self._frozen = None

    def _values(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        names = [name for name in (*self._known, *self._unknown) if self._node.has_parameter(name)]
        values = {name: self._node.get_parameter(name).value for name in names}
        return values | self._refused | dict(changes)

    def _declare(self, parameter: tree.Parameter) -> None:
        """Declare one parameter of the tree with its override, or with its default if that does not fit."""
        name, value = parameter.name, parameter.default
        override = self._overrides.get(name)
        if override is not None:
            raw = override.value
            if parameter.type is tuple and override.type_ == Parameter.Type.NOT_SET:
                raw = []  # an empty list has no element that would tell its type
            if tree.value_problem(parameter, raw):
                self._refused[name] = raw
            else:
                value = raw
        self._known[name] = parameter
        if parameter.type is tuple:
            # Declared by type: rclpy takes an empty list for a byte array.
            self._node.declare_parameter(name, _TYPES[tuple], descriptor=describe(parameter), ignore_override=True)
            self._node.set_parameters([Parameter(name, _TYPES[tuple], list(value))])
        else:
            self._node.declare_parameter(
                name, parameter.type(value), descriptor=describe(parameter), ignore_override=True
            )

    def _declare_unknown(self, name: str) -> None:
        """Make an override that means nothing visible, so that `ros2 param delete` can remove it."""
        descriptor = ParameterDescriptor(
            dynamic_typing=True, description="not a parameter of this node: delete or correct it"
        )
        self._node.declare_parameter(name, self._overrides[name].value, descriptor, ignore_override=True)

    def _declare_cameras(self) -> None:
        """Declare ``camera.<name>.*`` for exactly the cameras that there are."""
        cameras = tuple(self._node.get_parameter("cameras").value or ())
        wanted = {
            parameter.name: parameter for parameter in tree.parameters(cameras) if parameter.name.startswith("camera.")
        }
        for name in [name for name in self._known if name.startswith("camera.") and name not in wanted]:
            self._node.undeclare_parameter(name)
            del self._known[name]
            self._refused.pop(name, None)
        for name, parameter in wanted.items():
            if name not in self._known:
                if name in self._unknown:
                    self._unknown.remove(name)
                    self._node.undeclare_parameter(name)
                self._declare(parameter)

    def _widen_integers(self, changes: list[Parameter]) -> list[Parameter]:
        """Take `1` for `1.0`, as YAML files do; rclpy would refuse it as the wrong type."""
        return [
            Parameter(change.name, Parameter.Type.DOUBLE, float(change.value))
            if change.type_ == Parameter.Type.INTEGER and self._is_float(change.name)
            else change
            for change in changes
        ]

    def _is_float(self, name: str) -> bool:
        return name in self._known and self._known[name].type is float

    def _check(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse what the configuration does not allow, with the reason."""
        own = {change.name: change.value for change in changes if change.name in self._known}
        for name, value in own.items():
            problem = tree.value_problem(self._known[name], value)
            if problem:
                return SetParametersResult(successful=False, reason=problem)
            if self._frozen and not self._known[name].dynamic:
                return SetParametersResult(
                    successful=False,
                    reason=f"{name} is fixed while the node is configured: deactivate, clean up, set it, configure",
                )
        if self._frozen and own:
            try:
                tree.from_flat(self._values(own))
            except ConfigError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _after_set(self, changes: list[Parameter]) -> None:
        names = {change.name for change in changes}
        for name in names:
            self._refused.pop(name, None)
        if "cameras" in names and not self._frozen:
            self._declare_cameras()
        if self._frozen and names & self._known.keys():
            self._frozen(self.config())
