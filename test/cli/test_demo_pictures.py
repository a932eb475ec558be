"""Folders of real pictures: what their calibration says reaches the sequence; what is wrong is said in one line."""

import numpy as np
import pytest
import yaml
from helpers import shared_data
from PIL import Image

from da3_ros.cli.demo_pictures import read_pictures
from da3_ros.errors import InputError

T = [[0, 0, 1, 0.3], [-1, 0, 0, 0.05], [0, -1, 0, 0.9], [0, 0, 0, 1]]


@pytest.fixture
def folder(tmp_path):
    """Two cameras with three pictures each; the left one has stamps, depth and a place on the robot."""
    for name in ("left", "right", "truth"):
        (tmp_path / name).mkdir()
        for number in range(3):
            file = tmp_path / name / f"{number}.png"
            if name == "truth":
                depth = np.full((48, 64), 1500, np.uint16)
                depth[0] = 0
                Image.fromarray(depth).save(file)
            else:
                Image.fromarray(np.full((48, 64, 3), 10 * number, np.uint8)).save(file)
    (tmp_path / "left" / "stamps.txt").write_text("10.000000001\n10.1\n10.2\n")
    return tmp_path


@pytest.fixture
def describe(folder):
    """Writes calibration.yaml; keywords change or (None) remove entries of the left camera."""

    def write(**changes):
        left = {
            "images": "left/*.png", "stamps": "left/stamps.txt", "depth": "truth/*.png", "depth_scale": 500,
            "width": 64, "height": 48, "K": [50, 0, 31, 0, 51, 24, 0, 0, 1],
            "distortion_model": "equidistant", "D": [0.1, 0, 0, 0], "T_base_cam": T,
        } | changes  # fmt: skip
        left = {key: value for key, value in left.items() if value is not None}
        right = {"images": "right/*.png", "stamps": "left/stamps.txt"}
        (folder / "calibration.yaml").write_text(yaml.safe_dump({"cameras": {"left": left, "right": right}}))
        return folder

    return write


def test_everything_in_the_file_reaches_the_sequence(describe):
    sequence = read_pictures(describe(), None)
    left, right = sequence.cameras
    assert (left.calibration.width, left.calibration.distortion_model) == (64, "equidistant")
    np.testing.assert_array_equal(left.calibration.K, [[50, 0, 31], [0, 51, 24], [0, 0, 1]])
    np.testing.assert_array_equal(left.T_base_cam, T)
    assert right.calibration is None and right.T_base_cam is None
    steps = list(sequence.read())
    assert len(steps) == 3
    assert steps[1].stamp_ns - steps[0].stamp_ns == 99_999_999, "nanoseconds survive"
    image = steps[2].images[0]
    assert image.rgb[0, 0, 0] == 20
    assert np.isnan(image.depth[0, 0]) and image.depth[1, 0] == 3.0
    assert not sequence.notes


def test_missing_stamps_get_a_nominal_rate_and_it_is_said(describe):
    sequence = read_pictures(describe(stamps=None), 2)
    assert any("nominal rate of 10 Hz" in note for note in sequence.notes)
    assert sequence.steps == len(list(sequence.read())) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"K": [1, 2, 3]}, "camera 'left': K must be 9 numbers"),
        ({"K": [0, 0, 31, 0, 51, 24, 0, 0, 1]}, "positive focal"),
        ({"images": "nothing/*.png"}, "camera 'left': no file matches nothing"),
        ({"images": None}, "camera 'left' needs 'images'"),
        ({"distortion_model": "fisheye9"}, "fisheye9"),
        ({"D": [0.1, 0.2]}, "camera 'left': equidistant has 4"),
        ({"T_base_cam": [[1, 0, 0, 0]] * 4}, "camera 'left': T_base_cam is no rigid transform"),
        ({"width": 640}, "camera 'left'"),
        ({"depth": "left/1.png"}, "3 images but 1 depth images"),
        ({"stamps": "left/0.png"}, "stamps"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(describe, changes, said):
    with pytest.raises(InputError, match=said) as error:
        read_pictures(describe(**changes), None)
    assert "\n" not in str(error.value)


def test_folders_without_a_usable_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        read_pictures(tmp_path / "nothing", None)
    with pytest.raises(InputError, match=r"has none of calibration\.yaml"):
        read_pictures(tmp_path, None)
    (tmp_path / "calibration.yaml").write_text("cameras: [")
    with pytest.raises(InputError, match="not valid YAML"):
        read_pictures(tmp_path, None)
    (tmp_path / "calibration.yaml").write_text("cameras: {}")
    with pytest.raises(InputError, match="names no cameras"):
        read_pictures(tmp_path, None)


@pytest.mark.parametrize(
    ("name", "cameras", "steps", "calibrated", "moves"),
    [
        ("dgp_surround6", 6, 3, True, True),
        ("hololens_dvmvs_a", 1, 24, True, True),
        ("middlebury_motorcycle", 2, 1, True, True),
        ("realsense_box", 1, 24, True, True),
        ("lund_door12", 1, 12, True, True),
        ("da3_assets", 1, 2, False, False),
    ],
)
def test_recordings_with_meta_json(name, cameras, steps, calibrated, moves):
    sequence = read_pictures(shared_data(name), None)
    assert (len(sequence.cameras), sequence.steps) == (cameras, steps)
    assert all((camera.calibration is not None) == calibrated for camera in sequence.cameras)
    step = next(sequence.read())
    assert len(step.images) == cameras
    assert (step.T_world_tracked is not None) == moves
    for camera, image in zip(sequence.cameras, step.images, strict=True):
        if calibrated:
            assert image.rgb.shape[:2] == (camera.calibration.height, camera.calibration.width)


def test_the_rig_of_a_recording_explains_its_camera_poses():
    sequence = read_pictures(shared_data("dgp_surround6"), None)
    assert sequence.tracked_frame == "base_link"
    first, last = (step.T_world_tracked for step in (list(sequence.read())[i] for i in (0, -1)))
    np.testing.assert_allclose(first, np.eye(4), atol=0.05)  # its world is the vehicle at the first moment
    assert 2.0 < np.linalg.norm(last[:3, 3]) < 3.5  # 1.27 m between steps
