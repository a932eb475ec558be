"""Fixtures of the tests of da3_ros.ros."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for ros_harness, under any import mode of pytest

from fake_pipeline import FakePipeline
from ros_harness import Cameras, Graph, Program, overrides


@pytest.fixture
def graph():
    """A ROS context with a node that the test uses."""
    made = Graph()
    yield made
    made.close()


@pytest.fixture
def cameras(graph):
    """Two simulated cameras, left and right."""
    return Cameras(graph)


class NodeUnderTest:
    """The node in this process, with a pipeline whose results are known."""

    def __init__(self, graph, namespace="", **parameters):
        from da3_ros.ros.node import Da3Node

        self.pipelines: list[FakePipeline] = []
        values = {"cameras": ["left", "right"], "diagnostics__period_s": 0.1} | parameters
        self.node = Da3Node(
            self._make, namespace=namespace, context=graph.context, parameter_overrides=overrides(**values)
        )
        self.graph = graph
        graph.executor.add_node(self.node)

    def _make(self, config):
        self.pipelines.append(FakePipeline(config))
        return self.pipelines[-1]

    @property
    def pipeline(self) -> FakePipeline:
        return self.pipelines[-1]

    def configure(self):
        return self.graph.call(self.node.trigger_configure)

    def activate(self):
        return self.graph.call(self.node.trigger_activate)

    def close(self):
        self.graph.executor.remove_node(self.node)
        assert self.node.close(5.0), "a thread was still busy"
        self.node.destroy_node()
        self.node = None


@pytest.fixture
def make_node(graph):
    """Makes a NodeUnderTest; parameters as keywords, with __ for a dot."""
    made = []

    def make(**parameters):
        made.append(NodeUnderTest(graph, **parameters))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture
def active_node(make_node):
    """A configured and active node for the cameras left and right."""
    node = make_node()
    node.configure()
    node.activate()
    return node


@pytest.fixture
def start_program(tmp_path):
    """Starts a Program; ended after the test."""
    started = []

    def start(*arguments, **options):
        started.append(Program(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for program in started:
        program.close()
