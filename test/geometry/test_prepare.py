"""Images to network input: the reference's resize, every encoding, rectification, batches."""

import cv2
import numpy as np
import pytest
import torch
from geometry_cameras import FISHEYE, PLUMB_BOB, RATIONAL, calibration

from da3_ros.datatypes import Frame
from da3_ros.errors import FrameError
from da3_ros.geometry.image import ImagePreparer, plan_views

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def preparer_for(size_hw, calib=None, process_res=504, method="upper_bound_resize"):
    plans = plan_views({"cam": (size_hw, calib)}, process_res, {}, method)
    return plans, ImagePreparer(plans, "cpu")


def colours_of(image, encoding="rgb8", size_hw=None, **settings):
    """Colours (H, W, 3) of one image, int."""
    _, preparer = preparer_for(size_hw or image.shape[:2], **settings)
    colours = preparer.prepare([Frame("cam", 1, image, encoding)])[1]
    return colours[0].permute(1, 2, 0).numpy().astype(int)


def reference_resize(image, process_res):
    """The published preprocessing (upper_bound_resize) with OpenCV."""

    def resize(image, width, height, grows):
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)

    height, width = image.shape[:2]
    scale = process_res / max(height, width)
    if scale != 1:
        image = resize(image, max(1, round(width * scale)), max(1, round(height * scale)), scale > 1)
    height, width = image.shape[:2]
    new_height, new_width = ((side + 7) // 14 * 14 for side in (height, width))
    if (new_height, new_width) != (height, width):
        image = resize(image, new_width, new_height, new_width > width or new_height > height)
    return image


def smooth_noise(height, width, seed=0):
    """An image with structure at all scales, uint8 RGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), dtype=np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.random((cells, cells, 3), dtype=np.float32) - 0.5
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (127.5 + 90 * image).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size_wh", "resizes"),
    [
        ((640, 480), 1),
        ((480, 640), 1),
        ((752, 480), 1),
        ((320, 240), 1),  # grows
        ((400, 230), 2),  # grows, then grows again
        ((1280, 720), 2),
        ((1920, 1080), 2),
        ((1242, 375), 2),  # one side grows in the second
    ],
)
def test_resize_equals_the_references(size_wh, resizes):
    image = smooth_noise(size_wh[1], size_wh[0])
    difference = np.abs(colours_of(image) - reference_resize(image, 504).astype(int))
    assert difference.max() <= 1
    # Ours is one resampling; the reference rounds to whole grey levels between its two.
    assert (difference > 0).mean() < {1: 0.001, 2: 0.25}[resizes]


def test_network_image_is_normalised_colours():
    image = smooth_noise(480, 640)
    _, preparer = preparer_for((480, 640), process_res=140)
    images, colours = preparer.prepare([Frame("cam", 1, image)])
    assert images.dtype == torch.float32
    assert colours.dtype == torch.uint8
    expected = (colours[0].permute(1, 2, 0).numpy() / 255 - MEAN) / STD
    np.testing.assert_allclose(images[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def encoded(rgb, encoding):
    """``rgb`` as ``Frame`` stores it in ``encoding``, and what OpenCV makes of it again."""
    height, width = rgb.shape[:2]
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if encoding == "rgb8":
        return rgb, rgb
    if encoding == "bgr8":
        return np.ascontiguousarray(rgb[..., ::-1]), rgb
    if encoding in ("rgba8", "bgra8"):
        alpha = np.full((height, width, 1), 77, dtype=np.uint8)
        return np.concatenate((rgb if encoding == "rgba8" else rgb[..., ::-1], alpha), axis=2), rgb
    if encoding == "mono8":
        return grey[..., None], np.repeat(grey[..., None], 3, axis=2)
    if encoding == "mono16":
        deep = grey.astype("<u2") * 256 + np.arange(width, dtype="<u2") % 256
        return deep[..., None].view(np.uint8), np.repeat(grey[..., None], 3, axis=2)
    # Any bytes are valid YUV; noise covers what clips, too.
    rng = np.random.default_rng(5)
    if encoding in ("nv12", "nv21"):
        raw = rng.integers(0, 256, (height * 3 // 2, width, 1), dtype=np.uint8)
        code = cv2.COLOR_YUV2RGB_NV12 if encoding == "nv12" else cv2.COLOR_YUV2RGB_NV21
    else:
        raw = rng.integers(0, 256, (height, width, 2), dtype=np.uint8)
        code = cv2.COLOR_YUV2RGB_UYVY if encoding == "yuv422" else cv2.COLOR_YUV2RGB_YUY2
    return raw, cv2.cvtColor(raw, code)


ENCODINGS = ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "yuv422_yuy2", "nv12", "nv21"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_equal_opencv(encoding):
    rgb = smooth_noise(140, 280, seed=3)
    raw, expected = encoded(rgb, encoding)
    # 280 pixels at process_res 280: no resampling comes between.
    found = colours_of(raw, encoding, size_hw=(140, 280), process_res=280)
    assert np.abs(found - expected).max() <= (0 if encoding in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8") else 2)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_padding_changes_nothing(encoding):
    raw, _ = encoded(smooth_noise(48, 64), encoding)
    rows, width, size = raw.shape
    padded = np.full((rows, width * size + 12), 99, dtype=np.uint8)
    padded[:, : width * size] = raw.reshape(rows, -1)
    strided = padded[:, : width * size].reshape(rows, width, size)
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(
        colours_of(strided, encoding, size_hw=(48, 64), process_res=56),
        colours_of(raw, encoding, size_hw=(48, 64), process_res=56),
    )


def test_read_only_pixels_are_accepted(recwarn):
    image = np.frombuffer(bytes(48 * 64 * 3), dtype=np.uint8).reshape(48, 64, 3)
    colours_of(image, process_res=56)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_any_subset_and_order_of_cameras():
    sizes = {"a": (480, 640), "b": (480, 640), "c": (240, 320), "d": (640, 480)}
    calibrations = {
        "a": calibration(640, 480, 500.0, cx=330.0, cy=230.0),
        "b": calibration(640, 480, 500.0, cx=300.0, cy=250.0),
        "c": None,
        "d": calibration(480, 640, 400.0, D=PLUMB_BOB[0], model=PLUMB_BOB[1]),
    }
    plans = plan_views({name: (sizes[name], calibrations[name]) for name in sizes}, 112, {})
    preparer = ImagePreparer(plans, "cpu")
    frames = {name: Frame(name, 1, smooth_noise(*sizes[name], seed=i)) for i, name in enumerate(sizes)}
    alone = {name: ImagePreparer(plans, "cpu").prepare([frames[name]]) for name in sizes}
    for names in ("abcd", "dcba", "b", "ca", "abcd"):
        images, colours = preparer.prepare([frames[name] for name in names])
        for row, name in enumerate(names):
            torch.testing.assert_close(images[row], alone[name][0][0])
            assert torch.equal(colours[row], alone[name][1][0])


def test_results_stay_when_the_next_images_come():
    _, preparer = preparer_for((48, 64), process_res=56)
    first = preparer.prepare([Frame("cam", 1, smooth_noise(48, 64, seed=1))])
    kept = [tensor.clone() for tensor in first]
    preparer.prepare([Frame("cam", 2, smooth_noise(48, 64, seed=2))])
    for before, after in zip(kept, first, strict=True):
        assert torch.equal(before, after)


def test_padding_is_zero_after_normalisation():
    plans = plan_views({"wide": ((100, 400), None), "tall": ((400, 100), None)}, 112, {})
    white = {name: np.full((*plan.input_hw, 3), 255, np.uint8) for name, plan in plans.items()}
    images, colours = ImagePreparer(plans, "cpu").prepare([Frame(name, 1, white[name]) for name in plans])
    for row, plan in enumerate(plans.values()):
        top, left, height, width = plan.view.content
        outside = torch.ones(plan.view.canvas_hw, dtype=torch.bool)
        outside[top : top + height, left : left + width] = False
        assert outside.any()
        assert (images[row][:, outside] == 0).all()
        assert (colours[row][:, outside] == 0).all()
        assert (colours[row][:, ~outside] == 255).all()


def rays_of(plan):
    """x / z and y / z of every content pixel, (h, w) each."""
    height, width = plan.view.content[2:]
    K = plan.view.K_content
    v, u = np.mgrid[0:height, 0:width]
    return (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]


def painted(x, y):
    """A smooth picture as a function of ray direction, so that any image of it can be checked through its K."""
    return np.stack((127 + 100 * np.sin(5 * x), 127 + 100 * np.sin(5 * y), 127 + 60 * np.cos(4 * (x + y))), axis=-1)


def picture_taken_by(calib):
    """What a camera sees of ``painted``: uint8 RGB."""
    pixels = np.stack(np.meshgrid(np.arange(calib.width), np.arange(calib.height)), axis=-1).reshape(-1, 1, 2)
    pixels = pixels.astype(np.float64)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-12)
    if calib.distortion_model == "equidistant":
        rays = cv2.fisheye.undistortPoints(pixels, calib.K, np.array(calib.D), criteria=criteria)
    else:
        D = np.array(calib.D) if calib.D else None
        rays = cv2.undistortPoints(pixels, calib.K, D, criteria=criteria)
    x, y = rays.reshape(calib.height, calib.width, 2).transpose(2, 0, 1)
    return painted(x, y).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("distortion", "focal", "process_res", "method"),
    [
        (((), "none"), 700.0, 504, "upper_bound_resize"),
        (((), "none"), 700.0, 1022, "upper_bound_resize"),  # the image grows
        (((), "none"), 700.0, 510, "upper_bound_crop"),
        (((), "none"), 700.0, 510, "lower_bound_resize"),
        (((), "none"), 700.0, 510, "lower_bound_crop"),
        (PLUMB_BOB, 700.0, 504, "upper_bound_resize"),
        (PLUMB_BOB, 700.0, 510, "upper_bound_crop"),
        (RATIONAL, 700.0, 504, "upper_bound_resize"),
        (FISHEYE, 420.0, 504, "upper_bound_resize"),
        (FISHEYE, 420.0, 252, "upper_bound_resize"),
        (FISHEYE, 420.0, 300, "lower_bound_crop"),
    ],
)
def test_every_pixel_shows_the_ray_that_K_says(distortion, focal, process_res, method):
    calib = calibration(960, 600, focal, cx=495.3, cy=288.6, D=distortion[0], model=distortion[1])
    plans, preparer = preparer_for((600, 960), calib, process_res, method)
    _, colours = preparer.prepare([Frame("cam", 1, picture_taken_by(calib), calibration=calib)])
    found = colours[0].permute(1, 2, 0).numpy().astype(float)
    expected = painted(*rays_of(plans["cam"]))
    # Half a pixel of shift would be 2 grey levels in the mean here.
    inner = np.abs(found - expected)[4:-4, 4:-4]
    assert inner.mean() < 0.4
    assert np.percentile(inner, 99.9) < 2.5


@pytest.mark.parametrize(
    ("distortion", "focal", "period", "largest_std"),
    [
        (((), "none"), 900.0, 2, 9),
        (PLUMB_BOB, 900.0, 2, 9),
        (FISHEYE, 700.0, 2, 9),
        # The middle of this view is three times coarser than its sides.
        (FISHEYE, 450.0, 4, 22),
    ],
)
def test_fine_stripes_become_grey_and_do_not_alias(distortion, focal, period, largest_std):
    calib = calibration(1600, 1000, focal, cx=820.0, cy=490.0, D=distortion[0], model=distortion[1])
    stripes = np.zeros((1000, 1600, 3), dtype=np.uint8)
    stripes[:, np.arange(1600) % period < period // 2] = 255
    _, preparer = preparer_for((1000, 1600), calib, process_res=252)
    colours = preparer.prepare([Frame("cam", 1, stripes, calibration=calib)])[1][0].float()
    # Sampling single pixels would leave a moire between 0 and 255, with a standard deviation above 60.
    assert colours.std() < largest_std
    assert colours.mean() == pytest.approx(127.5, abs=1.0)


def test_image_of_another_size_is_refused():
    _, preparer = preparer_for((480, 640), process_res=56)
    with pytest.raises(FrameError, match="320x240 pixels, but its view is planned for 640x480") as caught:
        preparer.prepare([Frame("cam", 1, np.zeros((240, 320, 3), np.uint8))])
    assert caught.value.reason == "size"
    with pytest.raises(FrameError, match="camera 'other': no view is planned"):
        preparer.prepare([Frame("other", 1, np.zeros((480, 640, 3), np.uint8))])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fused", [True, False], ids=["kernels", "torch"])
def test_cuda_equals_cpu_without_waiting_for_the_device(fused):
    sizes = dict.fromkeys("abcd", (480, 640))
    calibrations = {
        "a": calibration(640, 480, 500.0, cx=330.0, cy=230.0),
        "b": calibration(640, 480, 500.0, cx=300.0, cy=250.0),
        "c": None,
        "d": calibration(640, 480, 400.0, D=PLUMB_BOB[0], model=PLUMB_BOB[1]),
    }
    plans = plan_views({name: (sizes[name], calibrations[name]) for name in sizes}, 504, {})
    cpu, cuda = ImagePreparer(plans, "cpu"), ImagePreparer(plans, "cuda")
    cuda._fused &= fused
    for seed in range(6):
        frames = [Frame(name, 1, smooth_noise(480, 640, seed=seed + ord(name))) for name in sizes]
        if seed > 2:  # each of the buffers has been used once
            torch.cuda.set_sync_debug_mode("error")
        try:
            found = cuda.prepare(frames)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        expected = cpu.prepare(frames)
        difference = (found[1].cpu().int() - expected[1].int()).abs()
        assert difference.max() <= 1  # a value at .5 may round either way
        assert (difference > 0).float().mean() < 1e-3
        torch.testing.assert_close(found[0].cpu(), expected[0], atol=0.02, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("process_res", [84, 252, 1022])
@pytest.mark.parametrize("distortion", [None, PLUMB_BOB, FISHEYE], ids=["none", "plumb_bob", "equidistant"])
def test_every_encoding_and_way_of_sampling_is_the_same_on_cuda(process_res, distortion):
    calib = distortion and calibration(400, 240, 300.0, cx=205.0, D=distortion[0], model=distortion[1])
    plans = plan_views({"cam": ((240, 400), calib), "tall": ((400, 240), None)}, process_res, {})
    cpu, cuda = ImagePreparer(plans, "cpu"), ImagePreparer(plans, "cuda")
    for seed, encoding in enumerate(ENCODINGS):
        frames = [
            Frame(camera, 1, encoded(smooth_noise(*plan.input_hw, seed), encoding)[0], encoding)
            for camera, plan in plans.items()
        ]
        found, expected = cuda.prepare(frames), cpu.prepare(frames)
        difference = (found[1].cpu().int() - expected[1].int()).abs()
        assert difference.max() <= 1, encoding
        assert (difference > 0).float().mean() < 2e-3, encoding
        torch.testing.assert_close(found[0].cpu(), expected[0], atol=0.02, rtol=0)
