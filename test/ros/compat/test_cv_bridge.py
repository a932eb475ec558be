"""Images come out of messages in every encoding, with their padding and byte order minded, and go back in."""

import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from da3_ros.ros.compat._fallback import cv_bridge as ours

H, W = 6, 8
RNG = np.random.default_rng(7)
BGR = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
BGR16 = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)


def message(pixels, encoding, padding=0, bigendian=False):
    """An Image of an array, each row followed by ``padding`` bytes of rubbish."""
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">" if bigendian else "<"))
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    rows = np.hstack([rows, np.full((len(rows), padding), 0xAB, np.uint8)])
    height, width = pixels.shape[:2]
    image = Image(height=height, width=width, encoding=encoding, step=rows.shape[1], is_bigendian=bigendian)
    image.data = array.array("B", rows.tobytes())
    return image


ENCODINGS = {
    "mono8": BGR[..., 0],
    "mono16": BGR16[..., 0],
    "bgr8": BGR,
    "rgb8": BGR,
    "bgra8": np.dstack([BGR, BGR[..., :1]]),
    "rgba8": np.dstack([BGR, BGR[..., :1]]),
    "bgr16": BGR16,
    "rgb16": BGR16,
    "bayer_rggb8": BGR[..., 0],
    "bayer_grbg16": BGR16[..., 0],
    "yuv422": BGR[..., :2],
    "yuv422_yuy2": BGR[..., :2],
    "8UC1": BGR[..., 0],
    "8UC3": BGR,
    "16UC1": BGR16[..., 0],
    "32FC1": BGR[..., 0].astype(np.float32) / 7,
    "32FC2": BGR[..., :2].astype(np.float32) / 7,
    "64FC1": BGR[..., 0].astype(np.float64) / 7,
    "16SC1": BGR16[..., 0].view(np.int16),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_passthrough_gives_the_pixels_without_the_padding(implementation, encoding):
    pixels = ENCODINGS[encoding]
    for padding in (0, 4 * pixels.itemsize * (pixels.shape[2] if pixels.ndim == 3 else 1)):
        image = implementation.CvBridge().imgmsg_to_cv2(message(pixels, encoding, padding))
        assert image.dtype == pixels.dtype
        np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("encoding", ["mono16", "bgr16", "32FC1"])
def test_big_endian_pixels_come_out_in_native_order(implementation, encoding):
    if implementation.CvBridge is not ours.CvBridge and not hasattr(np.ndarray, "newbyteorder"):
        pytest.skip("upstream needs NumPy 1 here")
    image = implementation.CvBridge().imgmsg_to_cv2(message(ENCODINGS[encoding], encoding, bigendian=True))
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, ENCODINGS[encoding])


@pytest.mark.parametrize(
    ("encoding", "target", "code"),
    [
        ("rgb8", "bgr8", cv2.COLOR_RGB2BGR),
        ("bgr8", "rgba8", cv2.COLOR_BGR2RGBA),
        ("bgra8", "rgb8", cv2.COLOR_BGRA2RGB),
        ("rgb8", "mono8", cv2.COLOR_RGB2GRAY),
        ("mono8", "rgb8", cv2.COLOR_GRAY2RGB),
        ("rgb16", "bgr16", cv2.COLOR_RGB2BGR),
        ("yuv422", "rgb8", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422", "mono8", cv2.COLOR_YUV2GRAY_UYVY),
        ("yuv422_yuy2", "bgr8", cv2.COLOR_YUV2BGR_YUY2),
        ("bayer_grbg16", "rgb16", cv2.COLOR_BayerGB2RGB),
        ("bayer_rggb8", "mono8", cv2.COLOR_BayerBG2GRAY),
    ],
)
def test_colours_are_converted_as_opencv_does(implementation, encoding, target, code):
    source = message(ENCODINGS[encoding], encoding, padding=24)
    image = implementation.CvBridge().imgmsg_to_cv2(source, target)
    np.testing.assert_array_equal(image, cv2.cvtColor(ENCODINGS[encoding], code))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_name_the_colours_from_the_first_row(implementation, pattern, bits):
    """A red scene: only pixels under the red filter are lit, and red is what comes out."""
    mosaic = np.zeros((H, W), np.uint8 if bits == 8 else np.uint16)
    where = pattern.index("r")
    mosaic[where // 2 :: 2, where % 2 :: 2] = 200
    image = implementation.CvBridge().imgmsg_to_cv2(message(mosaic, f"bayer_{pattern}{bits}"), f"rgb{bits}")
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to([200, 0, 0], (H - 4, W - 4, 3)))


def test_depths_are_scaled_by_their_full_range(implementation):
    bridge = implementation.CvBridge()
    grey = np.array([[0, 127, 128, 65535, 32896, 257]], np.uint16)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(grey, "mono16"), "mono8"), [[0, 0, 0, 255, 128, 1]])
    narrow = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message(narrow, "mono8"), "mono16"), [[0, 257, 65535]])
    wide = bridge.imgmsg_to_cv2(message(BGR16, "rgb16"), "bgr8")
    np.testing.assert_array_equal(wide, np.rint(BGR16[..., ::-1] / 257.0))


def test_depth_images_become_floats_without_scaling(implementation):
    millimetres = np.array([[0, 1500, 65535]], np.uint16)
    found = implementation.CvBridge().imgmsg_to_cv2(message(millimetres, "16UC1"), "32FC1")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, millimetres)


@pytest.mark.parametrize(
    ("encoding", "target"),
    [
        ("rgb8", "no_such_encoding"),
        ("8UC3", "rgb8"),  # nobody knows what its channels are
        ("32FC1", "mono8"),
        ("rgb8", "8UC1"),
        ("rgb8", "bayer_rggb8"),
        ("bayer_rggb8", "rgba8"),
        ("rgb8", "yuv422"),
    ],
)
def test_conversions_without_a_meaning_are_errors(implementation, encoding, target):
    with pytest.raises(implementation.CvBridgeError):
        implementation.CvBridge().imgmsg_to_cv2(message(ENCODINGS[encoding], encoding), target)


def test_unknown_encodings_are_errors(implementation):
    with pytest.raises(implementation.CvBridgeError, match="h264"):
        implementation.CvBridge().imgmsg_to_cv2(message(BGR, "h264"))


def test_too_little_data_is_an_error(implementation):
    image = message(BGR, "bgr8")
    image.data = image.data[:-1]
    with pytest.raises(TypeError):
        implementation.CvBridge().imgmsg_to_cv2(image)


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "mono16", "rgba8", "32FC1", "16UC1", "8UC3"])
def test_images_survive_the_way_into_a_message_and_back(implementation, encoding):
    bridge = implementation.CvBridge()
    header = Header(frame_id="camera")
    image = bridge.cv2_to_imgmsg(ENCODINGS[encoding], encoding, header=header)
    assert (image.height, image.width, image.encoding, image.header.frame_id) == (H, W, encoding, "camera")
    assert image.step * H == len(image.data)
    assert not image.is_bigendian
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(image), ENCODINGS[encoding])


def test_passthrough_names_the_type_of_the_array(implementation):
    bridge = implementation.CvBridge()
    assert bridge.cv2_to_imgmsg(BGR).encoding == "8UC3"
    assert bridge.cv2_to_imgmsg(BGR16[..., 0]).encoding == "16UC1"
    assert bridge.cv2_to_imgmsg(BGR[::2, ::2]).step == W // 2 * 3  # not contiguous
    big = bridge.cv2_to_imgmsg(BGR16[..., 0].astype(">u2"))
    assert big.is_bigendian
    assert bytes(big.data) == BGR16[..., 0].astype(">u2").tobytes()


def test_arrays_that_do_not_fit_the_encoding_are_errors(implementation):
    bridge = implementation.CvBridge()
    with pytest.raises(implementation.CvBridgeError, match="8UC1"):
        bridge.cv2_to_imgmsg(BGR[..., 0], "bgr8")
    with pytest.raises(TypeError):
        bridge.cv2_to_imgmsg([[1, 2]], "mono8")


def compressed(pixels, extension):
    image = CompressedImage(format=extension)
    image.data = array.array("B", cv2.imencode(f".{extension}", pixels)[1].tobytes())
    return image


def test_compressed_colour_comes_out_in_the_order_asked_for(implementation):
    bridge = implementation.CvBridge()
    source = compressed(BGR, "png")
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(source), BGR)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(source, "bgr8"), BGR)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(source, "rgb8"), BGR[..., ::-1])
    grey = bridge.compressed_imgmsg_to_cv2(source, "mono8")
    np.testing.assert_array_equal(grey, cv2.cvtColor(BGR, cv2.COLOR_BGR2GRAY))


def test_a_jpeg_decodes_as_opencv_decodes_it(implementation):
    source = compressed(np.full((16, 16, 3), (200, 100, 50), np.uint8), "jpg")
    found = implementation.CvBridge().compressed_imgmsg_to_cv2(source)
    np.testing.assert_array_equal(found, cv2.imdecode(np.frombuffer(source.data, np.uint8), cv2.IMREAD_COLOR))


def test_compressed_grey_and_16_bit_pass_through_and_grey_becomes_colour(implementation):
    bridge = implementation.CvBridge()
    for pixels in (BGR[..., 0], BGR16[..., 0], BGR16):
        np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(compressed(pixels, "png")), pixels)
    colour = bridge.compressed_imgmsg_to_cv2(compressed(BGR[..., 0], "png"), "rgb8")
    np.testing.assert_array_equal(colour, np.dstack([BGR[..., 0]] * 3))


def test_ours_minds_what_a_compressed_file_holds():
    """Upstream takes every file for bgr8: it fails on these, or returns the wrong number of channels."""
    bridge = ours.CvBridge()
    grey, alpha = BGR[..., 0], np.dstack([BGR, BGR[..., :1]])
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(compressed(grey, "png"), "mono8"), grey)
    assert bridge.compressed_imgmsg_to_cv2(compressed(grey, "png"), "bgr8").shape == (H, W, 3)
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(compressed(alpha, "png"), "bgr8"), BGR)
    wide = bridge.compressed_imgmsg_to_cv2(compressed(BGR16, "png"), "rgb8")
    np.testing.assert_array_equal(wide, np.rint(BGR16[..., ::-1] / 257.0))


@pytest.mark.parametrize("data", [b"", b"not a picture"])
def test_ours_says_when_a_picture_does_not_decode(data):
    """Upstream hands out None here."""
    with pytest.raises(ours.CvBridgeError, match="decode"):
        ours.CvBridge().compressed_imgmsg_to_cv2(CompressedImage(format="jpeg", data=data))
