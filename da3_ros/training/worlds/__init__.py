"""Endless training scenes: many worlds at once as padded tensors, cameras that move through them, exact depth.

Everything is a function of a sample's seed (``SceneSource``). Textures and charts are those of ``scenes``, whose
renderer makes fewer and finer pictures of furnished rooms.
"""

from da3_ros.training.worlds.samples import SceneSource

__all__ = ["SceneSource"]
