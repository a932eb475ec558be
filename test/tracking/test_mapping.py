"""Loops and map of whole drives: drift goes, what is wrong stays out, moving things fade, work stays bounded."""

from dataclasses import replace

import numpy as np
import pytest

from da3_ros.evaluation import simulated_maps as drives
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.keyframe_map import _Layer
from da3_ros.tracking.loop_closure import SharedWindow
from da3_ros.tracking.mapping import Mapper, MappingSettings, OdomChange
from da3_ros.tracking.places import Candidate
from da3_ros.tracking.pose_graph import PoseGraph
from da3_ros.tracking.similarity import scale_of

SETTINGS = MappingSettings(window_views=4, voxel_m=0.2, keyframe_motion=0.15, interval=4, delay=3)


def run(drive, settings=SETTINGS, look=None, change=None):
    """The mapper after a drive, and T_map_odom of each step."""
    mapper, corrections = Mapper(settings, look or drive.look), []
    for step in range(len(drive)):
        mapper.step(drive.maps(step, change))
        corrections.append(mapper.T_map_odom)
    for _ in range(100):  # let what is under way come to its end
        mapper.step(None)
    mapper.close()
    return mapper, corrections


def keyframe_error(mapper, drive):
    """Root mean square distance in metres of the keyframes' positions from the true ones."""
    stamps, poses = mapper.keyframe_poses()
    steps = (stamps - 1_000_000_000) // 100_000_000
    off = [pose[:3, 3] - drive.true[step][:3, 3] for step, pose in zip(steps, poses, strict=True)]
    return float(np.sqrt(np.mean(np.square(off).sum(-1))))


def odometry_error(drive):
    off = [odom[:3, 3] - true[:3, 3] for odom, true in zip(drive.odom, drive.true, strict=True)]
    return float(np.sqrt(np.mean(np.square(off).sum(-1))))


@pytest.fixture(scope="module")
def eight():
    """Two rounds of an eight with a drift of a quarter of a degree in each metre."""
    return drives.Drive(sim.figure_of_eight(240, turns=2), yaw_drift=0.004, depth_noise=0.02)


@pytest.fixture(scope="module")
def closed(eight):
    """The mapper after that drive, and T_map_odom of each step; tests only read of it."""
    return run(eight)


def test_loops_take_the_drift_out_of_the_map_and_leave_odom_alone(eight, closed):
    mapper, corrections = closed
    report = mapper.report()
    assert report.loops >= 3
    assert odometry_error(eight) > 0.3
    assert keyframe_error(mapper, eight) < 0.25 * odometry_error(eight)
    last = corrections[-1] @ eight.odom[-1]
    assert np.linalg.norm(last[:3, 3] - eight.true[-1][:3, 3]) < 0.2


def test_the_map_lies_on_the_walls_after_loops(eight, closed):
    open_, _ = run(eight, MappingSettings(**{**SETTINGS.__dict__, "loops": False}))
    errors = {}
    for name, mapper in (("open", open_), ("closed", closed[0])):
        xyz = mapper.cloud().xyz @ eight.way[0][:3, :3].T + eight.way[0][:3, 3]
        walls = np.stack(
            [
                np.abs(np.abs(xyz[:, 0]) - sim.HALL[0] / 2),
                np.abs(np.abs(xyz[:, 1]) - sim.HALL[1] / 2),
                np.abs(xyz[:, 2] + 0.5),
                np.abs(xyz[:, 2] - sim.HALL[2]),
            ]
        )
        errors[name] = float(np.mean(walls.min(0)))
    assert errors["closed"] < 0.12
    assert errors["closed"] < 0.6 * errors["open"]


def test_the_same_drive_gives_the_same_map_twice():
    clouds = []
    for _ in range(2):
        drive = drives.Drive(sim.figure_of_eight(120, turns=1.5), yaw_drift=0.004, depth_noise=0.02)
        mapper, corrections = run(drive)
        clouds.append((mapper.cloud(), np.array(corrections)))
    (first, way), (second, again) = clouds
    assert np.array_equal(way, again)
    assert first.xyz.tobytes() == second.xyz.tobytes() and first.rgb.tobytes() == second.rgb.tobytes()
    assert not np.allclose(way[-1], np.eye(4))  # there were loops


def test_a_network_that_relates_places_wrongly_moves_nothing(eight):
    rng = np.random.default_rng(3)

    def lies(views):
        window = eight.look(views)
        poses, half = window.T_world_cam.copy(), len(views) // 2
        centre = poses[half, :3, 3].copy()
        turn = T_from(sim.yaw(rng.uniform(0.3, 1.5)), np.zeros(3))
        for pose in poses[half:]:  # the new place as a whole is put elsewhere
            pose[:3, 3] -= centre
            pose[:] = turn @ pose
            pose[:3, 3] += centre + rng.normal(size=3) * 0.01
        return SharedWindow(poses, window.depth)

    mapper, corrections = run(eight, look=lies)
    report = mapper.report()
    assert report.windows > 5
    assert sum(report.refused.values()) > 0.5 * report.windows
    assert np.linalg.norm(corrections[-1][:3, 3]) < 0.5 * odometry_error(eight)


def test_keyframes_are_bounded_and_loops_still_close(eight):
    settings = MappingSettings(**{**SETTINGS.__dict__, "keyframes": 60})
    mapper, _ = run(eight, settings)
    report = mapper.report()
    assert report.keyframes == 60
    assert report.loops >= 1
    assert keyframe_error(mapper, eight) < 0.5 * odometry_error(eight)


def test_a_step_does_a_small_part_of_the_work_after_a_loop(monkeypatch, eight):
    """One iteration of the solver, eight keyframes of a map that is built anew, one window in so many steps."""
    iterations, built, windows = [], [], []
    step, advance, put = Mapper.step, PoseGraph.advance, _Layer.put

    def stepped(self, maps):
        iterations.append(0)
        built.append(0)
        step(self, maps)
        windows.append(self.report().windows)

    def advanced(self):
        optimizer = self._optimizer
        before = optimizer.iterations()
        done = advance(self)
        iterations[-1] += optimizer.iterations() - before
        return done

    def put_in(self, *args):
        built[-1] += 1
        put(self, *args)

    monkeypatch.setattr(Mapper, "step", stepped)
    monkeypatch.setattr(PoseGraph, "advance", advanced)
    monkeypatch.setattr(_Layer, "put", put_in)
    run(eight)
    assert max(iterations) == 1 and sum(iterations) >= 6
    assert min(np.diff(np.flatnonzero(np.diff(windows)))) == SETTINGS.interval > SETTINGS.delay
    assert max(built) <= 8 + 1 and built.count(8) + built.count(9) > 2  # and the step's own keyframe


def test_standing_still_adds_no_keyframes():
    drive = drives.Drive([sim.straight(1)[0]] * 50)
    mapper, _ = run(drive)
    assert mapper.report().keyframes == 1


def test_what_drives_through_the_picture_fades_out_of_the_map():
    way = sim.straight(60, speed=1.0)
    drive = drives.Drive(way)
    state = {"step": 0}

    def passing(depth, colours):
        """A block one metre ahead, 8 pixels wide, that crosses the picture during the first half of the drive."""
        step, state["step"] = state["step"], state["step"] + 1
        depth, colours = depth.copy(), colours.copy()
        left = step * 2
        if step < 24:
            depth[12:30, left : left + 8] = 1.0
            colours[12:30, left : left + 8] = (255, 0, 255)
        return depth, colours

    mapper, _ = run(drive, change=passing)
    cloud = mapper.cloud()
    inside = np.abs(cloud.xyz[:, 1]) < 2.0  # metres from the way: nothing stands there
    inside &= (cloud.xyz[:, 2] > 0.1) & (cloud.xyz[:, 2] < 3.0) & (cloud.xyz[:, 0] < 8.0)
    drive_with = len(cloud)
    assert inside.sum() < 0.002 * drive_with


def test_reset_forgets_everything():
    mapper, corrections = run(drives.Drive(sim.figure_of_eight(120, turns=1.5), yaw_drift=0.004, depth_noise=0.02))
    assert len(mapper.cloud()) and not np.array_equal(corrections[-1], np.eye(4))
    mapper.reset()
    assert mapper.report().keyframes == 0
    assert len(mapper.cloud()) == 0
    assert np.array_equal(mapper.T_map_odom, np.eye(4))
    mapper.close()


class RescaledDrive(drives.Drive):
    """Lengths are ``factor`` times too many until step ``at``, where the scale jumps to the right one."""

    def __init__(self, way, at, factor, **noise):
        super().__init__(way, **noise)
        self._at, self._factor = at, factor
        here = self.odom[at][:3, 3]
        self.odom = [
            T_from(T[:3, :3], here + factor * (T[:3, 3] - here)) if step < at else T
            for step, T in enumerate(self.odom)
        ]
        self._unit = {}  # pose in odom -> factor

    def maps(self, step, change=None):
        maps = super().maps(step, change)
        factor = self._factor if step < self._at else 1.0
        views = tuple(replace(view, depth=factor * view.depth) for view in maps.views)
        self._unit.update({view.T_odom_cam.tobytes(): factor for view in views})
        here = self.odom[self._at][:3, 3]
        growth = 1 / self._factor if step == self._at else 1.0
        return replace(maps, views=views, change=OdomChange.of(growth, (1 - growth) * here))

    def look(self, views):
        window = super().look(views)
        units = [self._unit[view.T_odom_cam.tobytes()] for view in views]
        return replace(window, depth=[one / unit for one, unit in zip(window.depth, units, strict=True)])


def test_a_jump_of_the_scale_forgets_no_keyframes_and_compares_none_across_it():
    drive = RescaledDrive(sim.straight(12, speed=3.0), 6, 1.5)
    mapper, corrections = run(drive, MappingSettings(**{**SETTINGS.__dict__, "loops": False, "keyframe_motion": 0.01}))
    assert mapper.report().restarts == 0 and mapper.report().keyframes == 12
    assert [keyframe.jumps for keyframe in mapper.keyframes] == 6 * [0] + 6 * [1]
    # Surfaces before it are half as far again as those after it: compared, the one would fade.
    assert not any(view.against.any() for keyframe in mapper.keyframes for view in keyframe.views)
    assert np.allclose(corrections[-1], np.eye(4))  # the robot does not jump on the map
    for new in (False, True):  # nor is a place of both
        views = mapper._search._place(Candidate(5, 6, 0, 0, 1.0), new).views
        assert [keyframe.number for keyframe, _ in views] == ([6] if new else [5, 4])


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_a_jump_of_the_scale_forgets_nothing_and_loops_close_across_it(factor):
    way = sim.figure_of_eight(240, turns=2)
    drive = RescaledDrive(way, 130, factor, depth_noise=0.02)
    mapper, _ = run(drive)
    assert mapper.report().restarts == 0
    stamps, poses = mapper.keyframe_poses()
    steps = (stamps - 1_000_000_000) // 100_000_000
    assert steps[0] == 0 and steps[-1] > 230
    first = {keyframe.number: int(step) for keyframe, step in zip(mapper.keyframes, steps, strict=True)}
    assert sum(first[loop.a] < 130 <= first[loop.b] for loop in mapper.loops) >= 2
    # One map in one unit: which one, the first keyframe says.
    true = np.stack([drive.true[step][:3, 3] for step in steps])
    places, units = poses[:, :3, 3] / factor, [scale_of(mapper._graph.pose(k.number)) for k in mapper.keyframes]
    places -= places[0] - true[0]
    assert np.abs(np.log(np.array(units) / np.where(steps < 130, 1.0, factor))).max() < 0.1
    assert np.sqrt(np.mean(np.square(places - true).sum(-1))) < 0.3  # of 46 m
