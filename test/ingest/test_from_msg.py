"""Image messages to frames: every encoding, padding, byte order, and what is refused."""

from array import array

import cv2
import numpy as np
import pytest
from ingest_messages import STAMP_NS, compressed_message, header, image_message

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import FrameError
from da3_ros.geometry.image import ImagePreparer, plan_views
from da3_ros.ingest.convert import rosbags_converter
from da3_ros.ingest.from_msg import frame_from_compressed, frame_from_image

RNG = np.random.default_rng(0)


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


DIRECT = [
    ("rgb8", "rgb8", 3),
    ("bgr8", "bgr8", 3),
    ("8UC3", "bgr8", 3),
    ("rgba8", "rgba8", 4),
    ("bgra8", "bgra8", 4),
    ("8UC4", "bgra8", 4),
    ("mono8", "mono8", 1),
    ("8UC1", "mono8", 1),
    ("mono16", "mono16", 2),
    ("16UC1", "mono16", 2),
    ("yuv422", "yuv422", 2),
    ("uyvy", "yuv422", 2),
    ("yuv422_yuy2", "yuv422_yuy2", 2),
    ("yuyv", "yuv422_yuy2", 2),
]


@pytest.mark.parametrize("kind", ["rclpy", "rosbags"])
@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize(("encoding", "expected", "size"), DIRECT)
def test_direct_encodings(encoding, expected, size, padding, kind):
    pixels = noise(6, 8, size)
    msg = image_message(pixels, encoding, padding=padding, kind=kind)
    frame = frame_from_image(msg, "cam")
    assert (frame.camera, frame.stamp_ns, frame.frame_id) == ("cam", STAMP_NS, "cam_optical")
    assert frame.encoding == expected
    assert frame.size_hw == (6, 8)
    np.testing.assert_array_equal(frame.image, pixels)
    # No copy: the frame sees what happens to the message's data.
    msg.data[0] ^= 0xFF
    assert frame.image[0, 0, 0] == pixels[0, 0, 0] ^ 0xFF


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_planar_encodings_have_the_height_of_the_picture(encoding):
    pixels = noise(6, 8, 1)
    frame = frame_from_image(image_message(pixels, encoding, padding=5, height=4), "cam")
    assert frame.size_hw == (4, 8)
    np.testing.assert_array_equal(frame.image, pixels)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_big_endian_values_are_swapped(encoding):
    values = noise(4, 6, dtype=np.uint16)
    big = image_message(values.astype(">u2")[..., None].view(np.uint8), encoding, bigendian=1, padding=3)
    little = image_message(values.astype("<u2")[..., None].view(np.uint8), encoding, padding=3)
    np.testing.assert_array_equal(frame_from_image(big, "cam").image, frame_from_image(little, "cam").image)
    # For single bytes the flag means nothing.
    mono = image_message(noise(4, 6, 1), "mono8", bigendian=1)
    assert frame_from_image(mono, "cam").image.shape == (4, 6, 1)


def test_frame_id_and_calibration_are_carried():
    calibration = CameraCalibration(8, 6, np.eye(3))
    frame = frame_from_image(image_message(noise(6, 8, 3), "rgb8"), "cam", "front_optical_frame", calibration)
    assert frame.frame_id == "front_optical_frame"
    assert frame.calibration is calibration


def broken(**changes):
    msg = image_message(noise(6, 8, 3), "rgb8")
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"data": array("B", bytes(100))}, "data_length", "data has 100 bytes, but 6 rows of 24 bytes make 144"),
        ({"data": array("B", bytes(200))}, "data_length", "data has 200 bytes"),
        ({"data": array("B")}, "data_length", "data has 0 bytes"),
        ({"step": 23}, "data_length", "step is 23 bytes, but a row of 8 pixels in rgb8 has 24"),
        ({"step": 0}, "data_length", "step is 0"),
        ({"height": 0}, "size", "8x0 pixels"),
        ({"width": 0}, "size", "0x6 pixels"),
        ({"encoding": "yuv422", "width": 7}, "size", "7x6 pixels cannot be yuv422"),
        ({"encoding": "nv12", "height": 5}, "size", "8x5 pixels cannot be nv12"),
        ({"encoding": ""}, "encoding", "encoding '' is not supported"),
        ({"encoding": "bayer_rggb8"}, "encoding", "'bayer_rggb8' is not supported without a converter"),
        ({"encoding": "32FC1"}, "encoding", r"32FC1 is no picture \(is this a depth topic\?\)"),
        ({"encoding": "16SC1"}, "encoding", "16SC1 is no picture"),
        ({"header": header(0, 0)}, "stamp", "stamp 0 ns"),
        ({"header": header(-1, 5)}, "stamp", "stamp -999999995 ns"),
    ],
)
def test_malformed_images_are_refused_with_a_reason(changes, reason, message):
    with pytest.raises(FrameError, match=f"^camera 'front': .*{message}") as caught:
        frame_from_image(broken(**changes), "front")
    assert caught.value.reason == reason
    assert caught.value.camera == "front"
    assert "\n" not in str(caught.value)


def test_calibration_of_another_size_is_refused():
    with pytest.raises(FrameError, match="8x6 pixels, but its CameraInfo describes 640x480") as caught:
        frame_from_image(broken(), "cam", calibration=CameraCalibration(640, 480, np.eye(3)))
    assert caught.value.reason == "calibration"


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8", "rgb16", "bgr16"])
def test_rare_encodings_through_the_converter_for_bags(encoding):
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_JAZZY).types
    colour = np.array([200, 120, 40])
    if encoding.startswith("bayer"):
        # Plain colour as a sensor with this pattern sees it: letters are the 2x2 cell, row by row.
        cell = ["rgb".index(letter) for letter in encoding[6:10]]
        pixels = np.tile(colour[cell].reshape(2, 2), (8, 8)).astype(np.uint8)[..., None]
    else:
        order = colour if encoding == "rgb16" else colour[::-1]
        pixels = np.broadcast_to(order * 257, (16, 16, 3)).astype("<u2")
    fields = vars(image_message(pixels, encoding, kind="rosbags"))
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    fields["header"] = types["std_msgs/msg/Header"](stamp=stamp, frame_id="optical")
    frame = frame_from_image(types["sensor_msgs/msg/Image"](**fields), "cam", converter=rosbags_converter)
    assert (frame.encoding, frame.stamp_ns, frame.frame_id) == ("rgb8", 1_000_000_002, "optical")
    np.testing.assert_allclose(frame.image[4:-4, 4:-4], np.broadcast_to(colour, (8, 8, 3)), atol=1)


def test_converter_that_fails_or_lies():
    def fails(msg):
        raise RuntimeError("no such code")

    for converter, message in (
        (fails, r"cannot be converted to rgb8 \(no such code\)"),
        (lambda msg: np.zeros((6, 8), np.uint8), "instead of uint8"),
        (lambda msg: np.zeros((6, 8, 3), np.float32), "float32"),
    ):
        with pytest.raises(FrameError, match=message) as caught:
            frame_from_image(broken(encoding="nv24"), "cam", converter=converter)
        assert caught.value.reason == "encoding"


def seen_colour(frame):
    """The middle pixel's RGB after the package's own conversion."""
    plans = plan_views({"cam": (frame.size_hw, None)}, 56, {})
    colours = ImagePreparer(plans, "cpu").prepare([frame])[1]
    return colours[0, :, colours.shape[2] // 2, colours.shape[3] // 2].tolist()


RGB = np.broadcast_to(np.array([200, 120, 40], dtype=np.uint8), (48, 56, 3))


@pytest.mark.parametrize(
    ("codec", "picture_format", "swapped"),
    [
        (".jpg", "jpeg", False),
        (".jpg", "jpg", False),
        (".png", "png", False),
        (".jpg", "bgr8; jpeg compressed bgr8", False),
        (".jpg", "rgb8; jpeg compressed bgr8", False),
        (".jpg", "bayer_rggb8; jpeg compressed bgr8", False),
        (".jpg", "rgb8; jpeg compressed ", False),
        (".png", "rgb8; png compressed rgb8", True),  # the file's channels are in RGB order
    ],
)
def test_compressed_colour(codec, picture_format, swapped):
    stored = RGB if swapped else RGB[..., ::-1]
    data = cv2.imencode(codec, np.ascontiguousarray(stored))[1]
    calibration = CameraCalibration(56, 48, np.eye(3))
    frame = frame_from_compressed(compressed_message(data, picture_format), "cam", "override", calibration)
    assert (frame.stamp_ns, frame.frame_id, frame.size_hw) == (STAMP_NS, "override", (48, 56))
    assert frame.calibration is calibration
    np.testing.assert_allclose(seen_colour(frame), [200, 120, 40], atol=3)


def test_compressed_grey_deep_and_transparent():
    grey = np.full((48, 56), 90, np.uint8)
    frame = frame_from_compressed(
        compressed_message(cv2.imencode(".jpg", grey)[1], "mono8; jpeg compressed mono8"), "cam"
    )
    assert frame.encoding == "mono8"
    np.testing.assert_allclose(seen_colour(frame), [90, 90, 90], atol=1)
    frame = frame_from_compressed(compressed_message(cv2.imencode(".png", grey * np.uint16(257))[1], "png"), "cam")
    assert frame.encoding == "mono16"
    assert seen_colour(frame) == [90, 90, 90]
    transparent = np.dstack((RGB[..., ::-1], grey))
    frame = frame_from_compressed(compressed_message(cv2.imencode(".png", transparent)[1], "png"), "cam")
    assert seen_colour(frame) == [200, 120, 40]
    deep = RGB[..., ::-1].astype(np.uint16) * 257
    frame = frame_from_compressed(
        compressed_message(cv2.imencode(".png", deep)[1], "rgb16; png compressed bgr16"), "cam"
    )
    assert seen_colour(frame) == [200, 120, 40]


JPEG = cv2.imencode(".jpg", noise(64, 64, 3))[1].tobytes()
PNG = cv2.imencode(".png", noise(64, 64, 3))[1].tobytes()


@pytest.mark.parametrize(
    ("data", "picture_format", "reason", "message"),
    [
        (JPEG[: len(JPEG) // 2], "jpeg", "decode", "cut off"),
        (JPEG[:-2], "jpeg", "decode", "cut off"),
        (PNG[: len(PNG) // 2], "png", "decode", "cut off"),
        (b"", "jpeg", "decode", "the 0 bytes are neither jpeg nor png"),
        (b"hello world", "jpeg", "decode", "neither jpeg nor png"),
        (PNG[:40] + bytes(60) + PNG[100:], "png", "decode", "damaged|cannot be decoded"),
        (PNG, "16UC1; compressedDepth png", "encoding", "compressed depth, not a picture"),
        (JPEG, "h264", "encoding", "format 'h264' is neither jpeg nor png"),
        (JPEG, "", "encoding", "format '' is neither"),
    ],
)
def test_compressed_images_that_are_refused(data, picture_format, reason, message, capfd):
    with pytest.raises(FrameError, match=f"camera 'front': .*({message})") as caught:
        frame_from_compressed(compressed_message(data, picture_format), "front")
    assert caught.value.reason == reason


def test_padding_after_a_jpeg_is_harmless():
    frame = frame_from_compressed(compressed_message(JPEG + bytes(100), "jpeg"), "cam")
    assert frame.size_hw == (64, 64)


def test_compressed_image_of_another_size_than_its_calibration():
    with pytest.raises(FrameError, match="64x64 pixels, but its CameraInfo describes 640x480"):
        frame_from_compressed(
            compressed_message(JPEG, "jpeg"), "cam", calibration=CameraCalibration(640, 480, np.eye(3))
        )


# Red, green and blue flat areas tell the four patterns apart: (row parity, column parity) -> channel of R G B.
PATTERNS = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_compressed_bayer_is_a_mosaic_and_not_a_grey_picture(pattern):
    colour = {"R": 200, "G": 120, "B": 40}
    tile = np.array([[colour[c] for c in PATTERNS[pattern][:2]], [colour[c] for c in PATTERNS[pattern][2:]]])
    mosaic = np.tile(tile, (8, 8)).astype(np.uint8)
    msg = compressed_message(cv2.imencode(".png", mosaic)[1], f"bayer_{pattern}8; png compressed ")
    frame = frame_from_compressed(msg, "cam")
    assert frame.encoding == "bgr8"
    np.testing.assert_array_equal(frame.image[8, 8], [40, 120, 200])


def test_compressed_bayer_of_16_bits_is_refused():
    msg = compressed_message(cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1], "bayer_rggb16; png compressed ")
    with pytest.raises(FrameError, match="bayer_rggb16") as error:
        frame_from_compressed(msg, "cam")
    assert error.value.reason == "encoding"
