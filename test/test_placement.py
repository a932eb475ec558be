"""Windows in the odom frame, one after another, with other cameras and another rig each time."""

import numpy as np
import torch

from da3_ros.datatypes import View, WindowPrediction, WindowView
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, invert, matrix_from_quat_xyzw
from da3_ros.placement import Placement

CANVAS = (28, 42)
SEEN_K = np.array([[40.0, 0, 21], [0, 41, 14], [0, 0, 1]])  # the image's corner is (0, 0)


def view(camera, focal):
    K = np.full((3, 3), np.nan) if focal is None else np.array([[focal, 0, 20.5], [0, focal, 13.5], [0, 0, 1]])
    return View(camera, CANVAS, (0, 0, *CANVAS), K, focal is not None)


VIEWS = {"left": view("left", 30.0), "right": view("right", None), "back": view("back", 50.0)}


def pose(seed):
    random = np.random.default_rng(seed)
    quaternion = random.normal(size=4)
    return T_from(matrix_from_quat_xyzw(quaternion / np.linalg.norm(quaternion)), random.normal(size=3))


def predict(cameras, newest, metres=None):
    """A prediction of ``cameras``, of which the last ``newest`` are the newest set; its camera poses are seeds."""
    first = len(cameras) - newest
    T_cam_world = np.stack([pose(index) for index in range(len(cameras))])
    return WindowPrediction(
        views=tuple(
            WindowView(camera, 100 - index if index >= first else index, "", index >= first, VIEWS[camera])
            for index, camera in enumerate(cameras)
        ),
        decoded=(),
        depth=torch.empty(0, *CANVAS),
        depth_conf=None,
        T_cam_world=torch.from_numpy(T_cam_world).float(),
        K=torch.from_numpy(SEEN_K).float().expand(len(cameras), 3, 3),
        reference_index=torch.tensor(0),
        colours=torch.empty(0, 3, *CANVAS, dtype=torch.uint8),
        metres_per_unit=None if metres is None else torch.tensor(metres),
    )


def check(window, cameras, newest, rig, metres=1.0):
    T_world_cam = []
    for index in range(len(cameras)):
        T_cam_world = pose(index)
        T_cam_world[:3, 3] *= metres
        T_world_cam.append(invert(T_cam_world))
    T_odom_world = rig.get(cameras[0], T_BODY_OPTICAL) @ invert(T_world_cam[0])
    expected = np.stack([T_odom_world @ T for T in T_world_cam])
    np.testing.assert_allclose(window.T_odom_cam, expected, atol=1e-5)
    placed = [index for index in range(len(cameras) - newest, len(cameras)) if cameras[index] in rig]
    if placed:  # stamps fall with the index: the first of them is the newest
        np.testing.assert_allclose(window.T_odom_base, expected[placed[0]] @ invert(rig[cameras[placed[0]]]), atol=1e-5)
    else:
        assert window.T_odom_base is None
    seen = SEEN_K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    for index, camera in enumerate(cameras):
        np.testing.assert_allclose(window.K_predicted[index], seen)
        np.testing.assert_allclose(window.K[index], VIEWS[camera].K if VIEWS[camera].calibrated else seen)


def test_windows_of_changing_cameras_and_rigs():
    placement = Placement(torch.device("cpu"))
    rigs = [{}, {"left": pose(10), "back": pose(11)}, {"left": pose(12)}, {"right": pose(13)}]
    windows = [("left", "right"), ("right", "left"), ("back", "left"), ("left", "right", "back", "left")]
    for rig in rigs:
        placement.set_rig(rig)
        for cameras in (*windows, *reversed(windows)):
            for newest in (1, 2):
                check(placement.place(predict(cameras, newest)), cameras, newest, rig)
    check(placement.place(predict(windows[0], 2, 2.5)), windows[0], 2, rigs[-1], 2.5)


def test_a_view_that_is_planned_anew_has_its_new_intrinsics(monkeypatch):
    placement = Placement(torch.device("cpu"))
    for focal in (30.0, 60.0, 90.0):
        monkeypatch.setitem(VIEWS, "left", view("left", focal))
        check(placement.place(predict(("left", "right"), 2)), ("left", "right"), 2, {})


def test_many_combinations_of_cameras_do_not_pile_up():
    placement = Placement(torch.device("cpu"))
    prediction = predict(("left", "right"), 2)
    for _ in range(2000):
        new = WindowView("left", 1, "", True, view("left", 30.0))
        placement.place(WindowPrediction(**{**vars(prediction), "views": (new, prediction.views[1])}))
    assert len(placement._constants) <= 512
