"""Rigid transforms, cameras, image resampling with its intrinsics, and clouds: torch and numpy only."""
