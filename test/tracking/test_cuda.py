"""Tracking on a GPU: what the CPU says, from graphs as from single operations, without a wait and in steady memory."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.placement import Placement
from da3_ros.streaming.transfer import Downloader
from da3_ros.tracking import ScaleFilter, Tracker, TrackingSettings, WindowTracking
from da3_ros.tracking.map_session import DynamicStep
from da3_ros.tracking.scale_sources import SOURCES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FIELDS = ("T_odom_cam", "metres_per_unit", "metric", "depth", "weight", "report")
NOISE = sim.Noise(depth=0.03, view_depth=0.01, rotation_rad=0.002, translation=0.005)


@contextmanager
def no_wait(watch=True):
    """Within it a wait for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error" if watch else "default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def close(got, want, tolerance, what):
    torch.testing.assert_close(
        got, want, rtol=tolerance, atol=tolerance, equal_nan=True, msg=lambda text: f"{what}: {text}"
    )


class Side:
    """A tracker on one device, fed with simulated windows; what it has found is copied."""

    def __init__(self, device, execution="eager", views=12):
        self.device = device
        self.tracker = Tracker(ScaleFilter(5.0, 5), device, views, execution)

    def step(self, window, rig, sources=SOURCES, ranges=None, watch=False):
        tensors = window.T_cam_world, window.K, window.depth, torch.full_like(window.depth, 2.0), sim.colours(window)
        metres = torch.tensor([window.metres_per_unit, 0.02 * window.metres_per_unit]).to(self.device)
        moved = [one.to(self.device) for one in tensors]
        if not watch:
            tracked = self.tracker.step(window.views, *moved, rig, sources, metres, ranges)
        else:
            with no_wait():
                tracked = self.tracker.step(window.views, *moved, rig, sources, metres, ranges)
        return {name: getattr(tracked, name).clone().cpu() for name in FIELDS}


RANGES = np.array([[0, 20.0, 15.0, 3.0], [0, 40.0, 20.0, 4.0]])
MISSING = {step: {"left"} for step in (9, 10, 17)}
DRIVES = {
    "stereo": (sim.STEREO, ("rig",)),
    "one camera": (sim.FRONT, ("range", "metric_model")),
    "ring, all sources": (sim.RING, SOURCES),
}


@pytest.mark.parametrize("rig, sources", DRIVES.values(), ids=DRIVES)
@pytest.mark.parametrize("noise", [sim.Noise(), NOISE], ids=["exact", "noisy"])
def test_cuda_says_what_the_cpu_says(rig, sources, noise):
    cpu, cuda = Side(CPU), Side(CUDA, "graphs")
    for step, window in enumerate(sim.windows(sim.circle(30), rig, 3, noise, missing=MISSING)):
        ranges = RANGES if step % 3 else None
        want, got = cpu.step(window, rig, sources, ranges), cuda.step(window, rig, sources, ranges)
        for name in FIELDS:
            # A pixel that is read on the other side of an edge moves what many pixels say together by little.
            close(got[name], want[name], 2e-3, f"{name}, step {step}")
    assert cuda.tracker._programs.graphs > 0


def test_graphs_give_what_single_operations_give():
    eager, graphs = Side(CUDA), Side(CUDA, "graphs")
    for step, window in enumerate(sim.windows(sim.circle(40), sim.STEREO, 3, NOISE, missing=MISSING)):
        want, got = eager.step(window, sim.STEREO), graphs.step(window, sim.STEREO)
        for name in FIELDS:
            close(got[name], want[name], 1e-9, f"{name}, step {step}")


def test_a_drive_gives_the_same_bytes_each_time():
    found = []
    for _ in range(2):
        side = Side(CUDA, "graphs")
        windows = sim.windows(sim.circle(30), sim.RING, 3, NOISE)
        found.append([side.step(window, sim.RING)["report"].numpy().tobytes() for window in windows])
    assert found[0] == found[1]


@pytest.mark.parametrize("execution", ["eager", "graphs"])
def test_no_wait_in_a_step(execution):
    side = Side(CUDA, execution)
    for step, window in enumerate(sim.windows(sim.circle(14), sim.RING, 3)):
        side.step(window, sim.RING, watch=step > 6)


@pytest.mark.parametrize("execution", ["eager", "graphs"])
def test_a_window_that_is_not_finite_is_left_out_without_a_wait(execution):
    cpu, cuda = Side(CPU), Side(CUDA, execution)
    for step, window in enumerate(sim.windows(sim.circle(16), sim.STEREO, 3, NOISE)):
        if step in (0, 9, 10):
            window = replace(window, T_cam_world=torch.full_like(window.T_cam_world, torch.nan))
        want, got = cpu.step(window, sim.STEREO), cuda.step(window, sim.STEREO, watch=step > 6)
        assert got["T_odom_cam"].isnan().all() if step in (0, 9, 10) else got["T_odom_cam"].isfinite().all()
        for name in ("T_odom_cam", "metres_per_unit", "metric"):
            close(got[name], want[name], 2e-3, f"{name}, step {step}")


def test_memory_is_flat_over_200_steps():
    drive, used = Drive(CUDA, "graphs"), []
    for step, window in enumerate(sim.windows(sim.circle(200), sim.STEREO, 4, leaving=drive.tracking.leaving)):
        drive.step(window)
        if step % 50 == 49:
            torch.cuda.synchronize()
            used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert used[-1] == used[1]


class Drive:
    """Tracking with anchors, placement and the search for what moves, as the pipeline puts them together.

    ``stands_back``: the robot's own odometry has the frame.
    """

    def __init__(self, device, execution="eager", stands_back=False):
        self.device, self._stands_back = device, stands_back
        settings = TrackingSettings(("rig",), 4, 2, execution=execution)
        self.tracking = WindowTracking(settings, device)
        self.tracking.set_rig(sim.STEREO)
        self.placement = Placement(device, execution != "eager", self.tracking, stands_back=stands_back)
        self.placement.set_rig(sim.STEREO)
        self.moving = DynamicStep(0.15, device, execution)
        self._downloader = Downloader(device)
        self._number = 0
        self._buffers = {}
        self.places = ()  # where what was published last lies on the device

    def _in_place(self, name, value):
        """Where the network's graphs leave it."""
        if self.device.type == "cpu":
            return value.clone()
        return self._buffers.setdefault((name, value.shape), torch.empty_like(value, device=self.device)).copy_(value)

    def step(self, window, thing=False, watch=False):
        """Where the views are and which pixels move, on the host, and how the step went."""
        newest = [view for view in window.views if view.newest]
        first, stamp_ns = len(window.views) - len(newest), newest[-1].stamp_ns
        depth = window.depth.clone()
        if thing:  # something nearer than all else
            depth[:, 10:30, 10:30] = 0.6 / window.metres_per_unit
        depth, confidence, T_cam_world, K, colours = (
            self._in_place(name, tensor)
            for name, tensor in {
                "depth": depth, "confidence": torch.full_like(depth, 2.0), "T": window.T_cam_world, "K": window.K,
                "colours": sim.colours(window),
            }.items()
        )  # fmt: skip
        decoded = tuple(range(first, len(window.views)))
        prediction = WindowPrediction(window.views, decoded, depth, confidence, T_cam_world, K, None, colours)
        T_odom_base = window.T_world_base if self._stands_back else None
        frames = tuple(
            Frame(view.camera, view.stamp_ns, np.empty((0, 0, 3)), T_odom_base=T_odom_base) for view in newest
        )
        self._number += 1
        with no_wait() if watch else no_wait(False):
            self.tracking.note(FrameSet(stamp_ns, frames))
            placed = self.placement.place(prediction)
            tracked = placed.tracked
            dynamic = self.moving.step(stamp_ns, prediction, placed.K, tracked)
            self.tracking.exclude(dynamic)
            masks = self.moving.full_size(dynamic, sim.HEIGHT, sim.WIDTH)
            named = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": placed.T_odom_cam, "K": placed.K, "T_odom_base": placed.T_odom_base, "masks": masks,
            }  # fmt: skip
            download = self._downloader.start(named)
            pending = self.tracking.submit(self._number, stamp_ns, prediction, tracked, download)
        self.places = tuple(one.data_ptr() for one in (placed.T_odom_cam, placed.T_odom_base, masks))
        return download.wait(), pending


def drive(device, execution):
    """Poses and masks of 40 steps, of which something comes into view at the 25th, and the steps."""
    found = Drive(device, execution)
    windows = sim.windows(sim.circle(40), sim.STEREO, 4, leaving=found.tracking.leaving)
    arrays, pending = [], []
    for step, window in enumerate(windows):
        watch = execution == "graphs" and step > 34
        downloaded, one = found.step(window, thing=step >= 25, watch=watch)
        arrays.append((downloaded["T_odom_base"].copy(), downloaded["masks"].copy()))
        pending.append(one)
    return arrays, pending


@pytest.mark.parametrize("execution", ["eager", "graphs"])
def test_the_whole_of_tracking_agrees_with_the_cpu_also_about_what_moves(execution):
    """On CUDA anchors go by an earlier step, so windows differ, but not where the robot is, and what moves."""
    want, _ = drive(CPU, "eager")
    got, pending = drive(CUDA, execution)
    for (T, masks), (T_want, masks_want) in zip(got, want, strict=True):
        np.testing.assert_allclose(T, T_want, atol=5e-3)
        assert np.mean(masks != masks_want) < 0.02
    moving = [masks.mean() / 255 for _, masks in got]
    assert max(moving[:25]) < 0.02 < 0.1 < moving[27]
    assert all(one.settle().status in ("started", "still", "tracking", "moving_objects") for one in pending)


@pytest.mark.parametrize("stands_back", [False, True])
def test_what_is_published_lies_in_the_same_places_again(stands_back):
    """Else the graphs that read it were captured anew and anew."""
    found, got, places = Drive(CUDA, "graphs", stands_back=stands_back), [], []
    windows = sim.windows(sim.circle(60), sim.STEREO, 4, leaving=found.tracking.leaving)
    for step, window in enumerate(windows):
        arrays, _ = found.step(window, watch=step > 50)
        got.append(arrays["T_odom_base"].tobytes())
        places.append(found.places)
    assert len(set(got)) == 60
    assert len(set(places[30:])) <= 4
