"""Loops count only in agreement: with the map as it is, or with another loop of the same stretch of way.

A single verdict may be wrong where two places are built alike. Two loops that were found from different keyframes and
demand the same correction are hardly wrong by chance.
"""

from __future__ import annotations

from da3_ros.tracking.pose_graph import Constraint, PoseGraph

# Squared deviations within which two statements agree: 99.9 % of chi-squared with 7 degrees of freedom.
GATE = 24.3
_REMEMBERED = 20
_COMPARED = 3  # loops of the map


class LoopAgreement:
    """Holds back loops until another one agrees. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Constraint] = []

    def admit(self, loop: Constraint, graph: PoseGraph) -> list[Constraint]:
        """The loops to take in now that ``loop`` is found: none, itself, or itself and those that waited for it."""
        if graph.misfit(loop) <= GATE:
            return [loop]
        known = [other for other in self._waiting if other.a in graph and other.b in graph]
        agreeing = [other for other in known if other.b != loop.b and self._agree(loop, other, graph)]
        # The map may be less sure than the loop is; along the way from one that it has, it is known how much.
        if not agreeing and not any(
            other.b != loop.b and self._agree(loop, other, graph) for other in self._near(loop, graph)
        ):
            self._waiting = [*known, loop][-_REMEMBERED:]
            return []
        self._waiting = [other for other in known if all(other is not one for one in agreeing)]
        return [*agreeing, loop]

    @staticmethod
    def _near(loop: Constraint, graph: PoseGraph) -> list[Constraint]:
        """The loops of the map whose ends are nearest to those of ``loop``."""
        return sorted(graph.loops, key=lambda other: abs(other.a - loop.a) + abs(other.b - loop.b))[:_COMPARED]

    @staticmethod
    def _agree(loop: Constraint, other: Constraint, graph: PoseGraph) -> bool:
        """Whether the way around by ``loop`` leads where ``other`` leads."""
        near, far = graph.chain(other.a, loop.a), graph.chain(loop.b, other.b)
        return graph.squared_deviations(near.then(loop).then(far), other) <= GATE
