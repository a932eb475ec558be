"""Loops count only in agreement: with the map as it is, or with another loop of the same stretch of way.

A single verdict may be wrong where two places are built alike. Two loops that were found from different keyframes and
demand the same correction are hardly wrong by chance. Along the way from the one to the other the map may be very
unsure, and then anything would agree; so for this comparison it counts as no less sure than the loops are.
"""

from __future__ import annotations

import numpy as np

from da3_ros.tracking.pose_graph import Constraint, PoseGraph

# Squared deviations within which two statements agree: 99.9 % of chi-squared with 7 degrees of freedom.
GATE = 24.3
_REMEMBERED = 20
_COMPARED = 3  # loops of the map
_STRETCH = 50  # keyframes that the ends of two loops may be apart: further away it is another stretch of way


class LoopAgreement:
    """Holds back loops until another one agrees. Not thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Constraint] = []

    def admit(self, loop: Constraint, graph: PoseGraph) -> list[Constraint]:
        """The loops to take in now that ``loop`` is found: none, itself, or itself and those that waited for it."""
        if graph.misfit(loop) <= GATE:
            return [loop]
        known = [other for other in self._waiting if other.a in graph and other.b in graph]
        agreeing = [other for other in known if self._agree(loop, other, graph)]
        # The map may be less sure than the loop is; along the way from one that it has, it is known how much.
        nearest = sorted(graph.loops, key=lambda other: _apart(loop, other))[:_COMPARED]
        if not agreeing and not any(self._agree(loop, other, graph) for other in nearest):
            self._waiting = [*known, loop][-_REMEMBERED:]
            return []
        self._waiting = [other for other in known if all(other is not one for one in agreeing)]
        return [*agreeing, loop]

    @staticmethod
    def _agree(loop: Constraint, other: Constraint, graph: PoseGraph) -> bool:
        """Whether the way around by ``loop`` leads where ``other``, of another keyframe, leads."""
        if other.b == loop.b or _apart(loop, other) > _STRETCH:
            return False
        around = graph.chain(other.a, loop.a).then(loop).then(graph.chain(loop.b, other.b))
        sure = loop.variance + np.minimum(around.variance - loop.variance, loop.variance + other.variance)
        return graph.squared_deviations(Constraint(around.a, around.b, around.S_a_b, sure), other) <= GATE


def _apart(loop: Constraint, other: Constraint) -> int:
    """Keyframes between the ends of two loops, at the end where there are more."""
    return max(abs(other.a - loop.a), abs(other.b - loop.b))
