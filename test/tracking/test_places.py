"""Places are known again by descriptors that change as the view does."""

from dataclasses import replace

import numpy as np

from da3_ros.evaluation import simulated_maps as drives
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.tracking.mapping import Mapper, MappingSettings
from da3_ros.tracking.places import PlaceIndex


def test_a_place_of_a_short_drive_is_known_again_from_a_little_aside():
    """80 pictures of a lap of 60 and a third, 384 numbers each: fewer than there are numbers, each with noise."""
    rng = np.random.default_rng(0)
    waves, phases = rng.normal(size=(384, 2)) * 1.2, rng.uniform(0, 6.28, 384)
    places, angles = PlaceIndex(), [2 * np.pi * (step + (0.5 if step >= 60 else 0.0)) / 60 for step in range(80)]
    for number, angle in enumerate(angles):
        where = np.array([np.cos(angle), np.sin(angle)])
        places.add(number, (np.cos(waves @ where + phases) + 0.1 * rng.normal(size=384))[None])
    for new in range(62, 80):
        best = places.best(new, range(40))
        assert best is not None
        assert abs(best.old - (new - 60)) <= 2
        assert best.similarity > 0.4


def test_odometry_is_no_surer_than_the_views_that_it_comes_from():
    chains = []
    for view_variance in ((0.0, 0.0), (0.02**2, 0.05**2)):
        drive = drives.Drive(sim.straight(20, speed=2.0))
        mapper = Mapper(MappingSettings(window_views=4, map=False), drive.look)
        for step in range(len(drive)):
            mapper.step(replace(drive.maps(step), view_variance=view_variance))
        mapper.close()
        assert mapper._store[1].view_variance == view_variance  # which loops take where a place has but one view
        chains.append(mapper._graph.chain(0, 1).variance)
    added = chains[1] - chains[0]
    np.testing.assert_allclose(added[:3], 0.02**2)
    assert (added[3:6] >= 0.05**2).all() and added[6] > 1e-5
