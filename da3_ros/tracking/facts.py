"""What the host knows of a window before the network has run, on its way to the device in one copy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

# Depths measured by the robot's own sensors that are compared with the network's in one step.
MOST_RANGES = 64


@dataclass(frozen=True)
class Facts:
    """Of N views, of which the last M are the newest set. Float64 arrays on the host, tensors on the device."""

    row: np.ndarray  # (N + 1,) row of the tracker's memory, and that of the frame itself
    shared: np.ndarray  # (N + 1,) 1 where the view was in the last window, usable or not, and for the frame
    mounted: np.ndarray  # (N,) 1 where its camera's place on the robot is known
    mount: np.ndarray  # (N, 4, 4) T_base_cam, identity where not known
    hangs: np.ndarray  # (N,) 1 for cameras of the newest set that the body's pose comes from
    even: np.ndarray  # (N,) the same over how many they are, 0 where there is none
    arm: np.ndarray  # (M,) row of Memory.arms of the newest views' cameras
    armed: np.ndarray  # (N,) 1 where that of the view's camera is not to be written any more
    pairs: np.ndarray  # (2, K) see known_ways
    partners: np.ndarray  # (2,) likewise
    T_given_base: np.ndarray  # (N, 4, 4) where the robot's odometry had the base at its stamp, else identity
    content: np.ndarray  # (M, 4) top, left, height, width of the newest views' content
    ranges: np.ndarray  # (MOST_RANGES, 4) index into the newest views, pixel u, v, metres; NaN where there is none
    elapsed_s: np.ndarray  # () since the last window
    alone: np.ndarray  # () 1 where it is not more than one
    chief: np.ndarray  # (2,) indices of the views by which an unconnected window is placed, and that the body is at
    chief_mount: np.ndarray  # (2, 4, 4) T_body_cam of the two
    chief_arm: np.ndarray  # () row of Memory.arms of the second one's camera
    chief_armed: np.ndarray  # () 1 where that row says where on the body it is
    kept: np.ndarray  # (2, 4, 4) 1 for what the body keeps of its last pose, without metres and with
    hung: np.ndarray  # () row of Memory.arms of the camera that the last body was at
    hung_lever: np.ndarray  # (3,) from the base to it in metres, in its axes; 0 for the first window
    error_growth: np.ndarray  # () see pose_noise
    pace: np.ndarray  # () how many times as long as the body's last step this one took
    # After a usable window, and after one that was not: the share of the shared views that have just become
    # established, and the entries of the noise of steady_motion.
    by_last: np.ndarray  # (2, 1 + 4)
    unforeseen: np.ndarray  # () 1 where the body's last motion says nothing of this one
    motion: np.ndarray  # (4, 4) of the body since the last window, as the robot's odometry has it, else identity

    def pack(self, device: torch.device) -> Tensor:
        """(n,) float64 on the host, from where ``device`` fetches it without making the host wait."""
        flat = np.concatenate([np.asarray(getattr(self, item.name), np.float64).ravel() for item in fields(self)])
        tensor = torch.from_numpy(flat)
        return tensor.pin_memory() if device.type == "cuda" else tensor


class FactsLayout:
    """Finds the facts of N views with M newest ones in the packed tensor."""

    def __init__(self, views: int, newest: int):
        N, M = views, newest
        self._shapes: dict[str, tuple[int, ...]] = {
            "row": (N + 1,), "shared": (N + 1,), "mounted": (N,), "mount": (N, 4, 4), "hangs": (N,), "even": (N,),
            "arm": (M,), "armed": (N,), "pairs": (2, N * (N - 1) // 2), "partners": (2,), "T_given_base": (N, 4, 4),
            "content": (M, 4), "ranges": (MOST_RANGES, 4), "elapsed_s": (), "alone": (),
            "chief": (2,), "chief_mount": (2, 4, 4), "chief_arm": (), "chief_armed": (), "kept": (2, 4, 4),
            "hung": (), "hung_lever": (3,), "error_growth": (), "pace": (), "by_last": (2, 5), "unforeseen": (),
            "motion": (4, 4),
        }  # fmt: skip

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """Name -> view of ``packed`` (n,)."""
        parts = packed.split([math.prod(shape) for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}


def known_ways(group: np.ndarray, mounted: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which displacements between N views are known, by the rig and by the robot's odometry.

    ``group`` (N,): number of the set that a view belongs to; ``mounted`` and ``given`` (N,): 1 where its camera's place
    on the robot, and where the robot's place at its stamp are known. (2, K): 1 for those of the K pairs of an earlier
    view with a later one; (2,): how many views take part.
    """
    first, second = np.triu_indices(len(group), 1)
    same_set, given = group[first] == group[second], given * mounted
    companions = ((group[:, None] == group) * mounted).sum(1) * mounted > 1
    pairs = np.stack([mounted[first] * mounted[second] * same_set, given[first] * given[second] * ~same_set])
    return pairs, np.array([companions.sum(), given.sum()])
