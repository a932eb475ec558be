"""How far the node's answers in a demo are from the truth of the sequence, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from da3_ros.config import Config
from da3_ros.errors import UnavailableError
from da3_ros.evaluation.evaluation import Evaluation
from da3_ros.evaluation.score import jsonable
from da3_ros.evaluation.settings import EvaluationSettings
from da3_ros.ingest.bag import Bag


@dataclass(frozen=True)
class Accuracy:
    """Errors of one run. ``scaled``: depth and path were brought to the size of the truth, once for the whole run.

    ``abs_rel`` and ``delta1`` by camera. ``ate_m``: root mean square distance of the positions from the true ones,
    over a path of ``path_m``; None where there are no poses, or ``path_note`` says why they could not be compared.
    ``note``: why nothing could be compared.
    """

    scaled: bool
    abs_rel: Mapping[str, float]
    delta1: Mapping[str, float]
    ate_m: float | None = None
    path_m: float | None = None
    path_note: str = ""
    note: str = ""

    def lines(self) -> dict[str, str]:
        """What of it there is, named, in words; empty where the sequence knows no truth."""
        if self.note:
            return {"accuracy": self.note}
        aligned = " (one scale for the run)" if self.scaled else ""
        lines = {}
        if self.abs_rel:
            values = (
                f"{name} {self.abs_rel[name]:.3f} / {100 * self.delta1[name]:.1f} %" for name in sorted(self.abs_rel)
            )
            lines["depth"] = f"AbsRel / delta1{aligned}: {', '.join(values)}"
        if self.ate_m is not None and self.path_m is not None:
            lines["trajectory"] = f"{self.ate_m:.3f} m off over {self.path_m:.2f} m{aligned}"
        elif self.path_note:
            lines["trajectory"] = f"not compared: {self.path_note}"
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return jsonable(asdict(self))


def read_accuracy(sequence: Path, recording: Path, config: Config, metric: bool) -> Accuracy:
    """Compare the node's ``recording`` with the truth in the bag ``sequence``; ``metric``: its lengths are metres."""
    try:
        found = Evaluation(Bag([sequence]), config, EvaluationSettings(estimates=recording)).run()
    except UnavailableError as error:
        return Accuracy(not metric, {}, {}, note=f"none: {error}")
    depth = {name: score["recording"]["none" if metric else "median"] for name, score in found["depth"].items()}
    trajectory = found["trajectory"]
    ate = trajectory and trajectory["ate"]["se3" if metric else "sim3"]
    return Accuracy(
        scaled=not metric,
        abs_rel={name: errors["abs_rel"] for name, errors in depth.items()},
        delta1={name: errors["delta1"] for name, errors in depth.items()},
        ate_m=ate and ate["rmse"],
        path_m=trajectory["path_length"] if ate else None,
        path_note=trajectory["notes"][-1].partition(":")[0] if trajectory and not ate else "",
    )
