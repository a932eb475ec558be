"""Procedural scenes with exact ground truth: furnished rooms, camera rigs moving through them, a ray caster.

Everything is a function of a seeded ``torch.Generator``, runs on its device, and is tensors over rooms, cameras and
rays. Needs torch alone.
"""

from da3_ros.training.scenes.atlas import Atlas, make_atlas
from da3_ros.training.scenes.distance import surface_distance
from da3_ros.training.scenes.furnish import make_hall, make_rooms
from da3_ros.training.scenes.lightmap import Lightmap, bake
from da3_ros.training.scenes.render import Cameras, Pictures, render
from da3_ros.training.scenes.rig import MOTIONS, RigCamera, make_rig, trajectory
from da3_ros.training.scenes.rooms import Rooms

__all__ = [
    "MOTIONS",
    "Atlas",
    "Cameras",
    "Lightmap",
    "Pictures",
    "RigCamera",
    "Rooms",
    "bake",
    "make_atlas",
    "make_hall",
    "make_rig",
    "make_rooms",
    "render",
    "surface_distance",
    "trajectory",
]
