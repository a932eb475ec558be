"""Runs each case against our own implementation and, where it is installed, against the upstream package."""

import importlib
import os
import threading
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

FALLBACK = "da3_ros.ros.compat._fallback"
# test module -> (our modules, upstream module)
IMPLEMENTATIONS = {
    "test_message_filters": ((f"{FALLBACK}.message_filters",), "message_filters"),
    "test_tf2_buffer": ((f"{FALLBACK}.tf2_buffer", f"{FALLBACK}.tf2_errors"), "tf2_ros"),
    "test_tf2_topics": ((f"{FALLBACK}.tf2_buffer", f"{FALLBACK}.tf2_topics"), "tf2_ros"),
    "test_point_cloud2": ((f"{FALLBACK}.point_cloud2",), "sensor_msgs_py.point_cloud2"),
    "test_tf_transformations": ((f"{FALLBACK}.tf_transformations",), "tf_transformations"),
    "test_cv_bridge": ((f"{FALLBACK}.cv_bridge",), "cv_bridge"),
}


class Names:
    """The public names of several modules in one place, as an upstream package has them."""

    def __init__(self, *modules: str):
        for module in modules:
            self.__dict__.update(vars(importlib.import_module(module)))


def upstream(module: str) -> object | None:
    """The upstream module, or None where it does not import."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``implementation``: ours, and upstream's where there is one."""
    if "implementation" not in metafunc.fixturenames:
        return
    ours, theirs = IMPLEMENTATIONS[metafunc.module.__name__.rpartition(".")[2]]
    cases = {"ours": Names(*ours), "upstream": upstream(theirs)}
    cases = {name: case for name, case in cases.items() if case is not None}
    metafunc.parametrize("implementation", list(cases.values()), ids=list(cases))


class Graph:
    """Nodes in a ROS domain of their own, spun in the background until the test ends."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        # Away from robots and from test runs beside this one: /tf is one topic for all.
        self.context.init(domain_id=1 + os.getpid() % 100)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.nodes: list[Node] = []
        self.thread.start()

    def node(self, name: str, **kwargs: object) -> Node:
        """A new node that is being spun."""
        node = Node(name, context=self.context, **kwargs)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def close(self) -> None:
        """Stop spinning and leave the domain."""
        self.executor.shutdown()
        self.thread.join()
        for node in self.nodes:
            node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """A private ROS graph on this machine only."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    graph = Graph()
    yield graph
    graph.close()
