"""The contact sheet shows what there is, where it is, and says when it means nothing."""

import numpy as np
from PIL import Image

from da3_ros.cli.demo_sheet import Panels, colour_map, draw_sheet


def ramp() -> np.ndarray:
    return np.linspace(1.0, 8.0, 64, dtype=np.float32)[None].repeat(48, 0)


def sheet(tmp_path, moments, warning="", cameras=("left", "right")):
    panels = Panels(np.full((48, 64, 3), 200, np.uint8), ramp(), ramp(), ramp())
    shown = [(f"t {number}", dict.fromkeys(cameras, panels)) for number in range(moments)]
    draw_sheet(tmp_path / "sheet.png", "title", ["a line"], warning, shown, "m")
    return np.asarray(Image.open(tmp_path / "sheet.png"))


def test_near_is_light_far_is_dark_and_nothing_is_grey():
    depth = ramp()
    depth[0, 0], depth[0, 1] = np.nan, np.inf
    colours = colour_map(depth, (1.0, 8.0), confidence=False).astype(int)
    brightness = colours[1].sum(-1)
    assert brightness[0] > 2 * brightness[-1] and (np.diff(brightness) <= 3).all()
    assert np.ptp(colours[0, 0]) < 10 and not np.array_equal(colours[0, 0], colours[0, 1])


def test_equal_ratios_of_depth_are_equal_steps_of_colour():
    row = colour_map(np.array([[1.0, 2.0, 4.0]], np.float32), (1.0, 4.0), confidence=False)
    middle = colour_map(np.array([[0.5]], np.float32), (0.0, 1.0), confidence=False)  # no logarithm from zero
    np.testing.assert_allclose(row[0, 1].astype(int), middle[0, 0].astype(int), atol=1)


def test_more_cameras_and_moments_make_a_larger_sheet(tmp_path):
    small = sheet(tmp_path, 1).shape
    large = sheet(tmp_path, 3).shape
    tall = sheet(tmp_path, 2, cameras=[f"c{number}" for number in range(6)]).shape
    assert large[1] > small[1] and tall[0] > large[0]


def test_the_warning_is_on_the_picture(tmp_path):
    plain, warned = sheet(tmp_path, 1), sheet(tmp_path, 1, warning="UNTRAINED weights")
    assert warned.shape[0] > plain.shape[0]
    orange = (warned[..., 0] > 200) & (warned[..., 2] < 120)
    rows = np.flatnonzero(orange[:110].any(1))
    assert len(rows) > 5, "text in the warning's colour in the head"


def test_maps_are_placed_on_the_part_of_the_image_that_they_show(tmp_path):
    image = np.full((48, 64, 3), 200, np.uint8)
    depth = np.ones((24, 32), np.float32) + np.eye(24, 32, dtype=np.float32)
    panels = Panels(image, None, depth, None, (0.5, 0.0, 1.0, 0.5))
    draw_sheet(tmp_path / "sheet.png", "t", [], "", [("t 0", {"front": panels})], "")
    page = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    rows, columns = np.nonzero((page == 200).all(-1))  # the image; the depth is drawn below it
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    top, left = rows.max() + 1 + 6, columns.min()
    colourful = np.ptp(page[top : top + height, left : left + width], axis=-1) > 60
    assert colourful[: height // 2, width // 2 :].mean() > 0.9
    assert not colourful[:, : width // 2 - 1].any() and not colourful[height // 2 + 1 :].any()


def test_lone_points_of_a_lidar_stay_visible(tmp_path):
    truth = np.full((480, 640), np.nan, np.float32)
    truth[::24, ::24] = np.linspace(1, 9, 20)[:, None]
    panels = Panels(np.zeros((480, 640, 3), np.uint8), truth, None, None)
    draw_sheet(tmp_path / "sheet.png", "t", [], "", [("t 0", {"front": panels})], "")
    page = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    assert ((page.max(-1) - page.min(-1)) > 100).sum() > 400 * 2
