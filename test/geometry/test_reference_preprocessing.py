"""Preprocessing on tensors against the published package's own, which uses PIL and OpenCV, on real images.

``pytest -s`` prints the differences that docs/preprocessing.md states.
"""

import cv2
import numpy as np
import pytest
import torch
from helpers import shared_data
from published_package import published

from da3_ros.config import PROCESS_RES_METHODS
from da3_ros.datatypes import CameraCalibration, Frame
from da3_ros.errors import FrameError, InputError
from da3_ros.geometry.image import ImagePreparer, plan_views

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
RESOLUTION = 504

REAL_IMAGES = [
    ("da3_assets", "SOH", "000.png"),
    ("dgp_surround6", "rgb", "CAMERA_05"),
    ("hololens_dvmvs_a", "rgb"),
    ("lund_door12", "images"),
    ("middlebury_motorcycle", "motorcycle_left.png"),
    ("realsense_box", "rgb"),
]


@pytest.fixture(scope="module")
def reference():
    """The published preprocessing: image, K and method to network image and K."""
    process = published("depth_anything_3.utils.io.input_processor").InputProcessor()

    def run(image, K, method):
        images, _, Ks = process([image], None, K[None].copy(), RESOLUTION, method, sequential=True)
        return images[0], np.asarray(Ks[0], dtype=np.float64)

    return run


def read(parts):
    path = shared_data(*parts)
    if path.is_dir():
        path = sorted(file for file in path.rglob("*") if file.is_file())[0]
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., :3], cv2.COLOR_BGR2RGB)


def central(height, width):
    """Intrinsics with the principal point in the image's middle, as OpenCV counts."""
    return np.array([[0.8 * width, 0, (width - 1) / 2], [0, 0.82 * width, (height - 1) / 2], [0, 0, 1.0]])


HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


@pytest.mark.parametrize("method", PROCESS_RES_METHODS)
@pytest.mark.parametrize("parts", REAL_IMAGES, ids="/".join)
def test_real_images_and_their_intrinsics_equal_the_references(reference, parts, method):
    image = read(parts)
    height, width = image.shape[:2]
    K = central(height, width)
    plans = plan_views(
        {"cam": ((height, width), CameraCalibration(width, height, K))}, RESOLUTION, {}, process_res_method=method
    )
    ours, colours = ImagePreparer(plans, "cpu").prepare([Frame("cam", 1, image)])
    # The reference scales cx without regard to where a pixel's centre is: right where (0, 0) is the image's corner.
    theirs, theirs_K = reference(image, K + HALF_PIXEL, method)
    assert ours[0].shape == theirs.shape
    np.testing.assert_allclose(plans["cam"].view.K + HALF_PIXEL, theirs_K, rtol=1e-6)
    grey = ((theirs * STD + MEAN) * 255).round()
    difference = (colours[0] - grey).abs()
    shape = f"{width}x{height} -> {theirs.shape[2]}x{theirs.shape[1]}"
    print(
        f"{'/'.join(parts)} {method} {shape}: at most {difference.max():.0f} grey levels, mean {difference.mean():.4f}"
    )
    assert difference.max() <= 1
    assert difference.mean() < 0.22
    assert (ours[0] - theirs).abs().max() < 1.01 / 255 / 0.224


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("upper_bound_resize", (280, 504)),
        ("upper_bound_crop", (280, 504)),
        ("lower_bound_resize", (504, 896)),
        ("lower_bound_crop", (504, 896)),
    ],
)
def test_sizes_of_a_full_hd_image(method, expected):
    plan = plan_views({"cam": ((1080, 1920), None)}, RESOLUTION, {}, method)["cam"]
    assert plan.view.canvas_hw == expected
    # 504 x 283.5 becomes 284 rows, of which the crop drops 4.
    assert plan.lost_fraction == pytest.approx(4 / 284 if method == "upper_bound_crop" else 0.0)


@pytest.mark.parametrize("method", PROCESS_RES_METHODS)
def test_cameras_of_different_sizes_share_a_canvas_and_keep_their_content(method):
    sizes = {"wide": (370, 1226), "tall": (640, 480)}
    plans = plan_views({name: (size, None) for name, size in sizes.items()}, 252, {}, method)
    rng = np.random.default_rng(0)
    frames = {name: Frame(name, 1, rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for name, size in sizes.items()}
    together = ImagePreparer(plans, "cpu").prepare(list(frames.values()))[1]
    for row, (name, size) in enumerate(sizes.items()):
        alone = plan_views({name: (size, None)}, 252, {}, method)
        expected = ImagePreparer(alone, "cpu").prepare([frames[name]])[1][0]
        top, left, height, width = plans[name].view.content
        assert torch.equal(together[row, :, top : top + height, left : left + width], expected)


def test_a_crop_that_leaves_nothing_names_the_camera_and_the_mend():
    with pytest.raises(FrameError, match=r"camera 'line': its view is 504x5 pixels.*use a \*_resize method") as caught:
        plan_views({"line": ((10, 1008), None)}, 504, {}, "upper_bound_crop")
    assert caught.value.reason == "size"
    with pytest.raises(InputError, match="'squash' but must be one of upper_bound_resize, "):
        plan_views({"cam": ((480, 640), None)}, 504, {}, "squash")
