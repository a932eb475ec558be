"""Each module of ``compat`` is the upstream package where that imports, and ours where it does not."""

import runpy
import sys
import types

import pytest

UPSTREAM = {
    "message_filters": "message_filters",
    "tf2_ros": "tf2_ros",
    "point_cloud2": "sensor_msgs_py.point_cloud2",
    "tf_transformations": "tf_transformations",
    "cv_bridge": "cv_bridge",
}


def exports(module):
    """What a fresh import of the module exports, by name."""
    names = runpy.run_module(f"da3_ros.ros.compat.{module}")
    return {name: names[name] for name in names["__all__"]}


def block(monkeypatch, package):
    """Make the package fail to import, as where it is not installed."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, package.partition(".")[0], None)


@pytest.mark.parametrize(("module", "package"), UPSTREAM.items())
def test_without_upstream_everything_is_ours(monkeypatch, module, package):
    block(monkeypatch, package)
    for name, thing in exports(module).items():
        assert thing.__module__.startswith("da3_ros.ros.compat._fallback."), name


@pytest.mark.parametrize(("module", "package"), UPSTREAM.items())
def test_with_upstream_everything_is_upstreams(monkeypatch, module, package):
    block(monkeypatch, package)
    fake = types.ModuleType(package)
    fake.__dict__.update({name: object() for name in exports(module)})
    monkeypatch.setitem(sys.modules, package.partition(".")[0], types.ModuleType(package))
    monkeypatch.setitem(sys.modules, package, fake)
    for name, thing in exports(module).items():
        assert thing is getattr(fake, name), name


@pytest.mark.parametrize(("module", "package"), UPSTREAM.items())
def test_an_upstream_package_that_lacks_a_name_is_not_mixed_with_ours(monkeypatch, module, package):
    block(monkeypatch, package)
    names = list(exports(module))
    fake = types.ModuleType(package)
    fake.__dict__.update({name: object() for name in names[1:]})
    monkeypatch.setitem(sys.modules, package.partition(".")[0], types.ModuleType(package))
    monkeypatch.setitem(sys.modules, package, fake)
    for name, thing in exports(module).items():
        assert thing.__module__.startswith("da3_ros.ros.compat._fallback."), name
