"""Sets of messages to sets of frames: pictures of several cameras at once, and a bad one among them."""

import threading

import cv2
import numpy as np
import pytest
import torch
from ingest_messages import compressed_message, image_message

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import Frame
from da3_ros.geometry.image import ImagePreparer, plan_views
from da3_ros.ingest import frame_sets
from da3_ros.ingest.frame_sets import Decoder
from da3_ros.ingest.jpeg import open_gpu_decoder

CAMERAS = ("front", "left", "right", "back")
UNREADABLE = 777  # bytes of a picture that only the CPU can read


def picture(camera):
    return np.full((32, 48, 3), 40 * (1 + CAMERAS.index(camera)), dtype=np.uint8)


def jpeg(camera):
    return cv2.imencode(".jpg", picture(camera))[1].tobytes()


@pytest.fixture(params=[1, 8], ids=["one core", "eight cores"])
def decoder(request, monkeypatch):
    """A decoder for three cameras with compressed pictures and one with raw ones, and what it drops."""
    monkeypatch.setattr(frame_sets.os, "cpu_count", lambda: request.param)
    values = {"cameras": CAMERAS}
    for camera in CAMERAS:
        values[f"camera.{camera}.camera_info_topic"] = "none"
        values[f"camera.{camera}.transport"] = "raw" if camera == "left" else "compressed"
    dropped = []
    return Decoder(from_flat(values, Config), dropped.append, None), dropped


def messages():
    return {
        camera: image_message(picture(camera), "bgr8")
        if camera == "left"
        else compressed_message(jpeg(camera), "bgr8; jpeg compressed bgr8")
        for camera in reversed(CAMERAS)
    }


def test_frames_come_in_the_order_of_the_cameras(decoder):
    frames = decoder[0].decode(messages()).frames
    assert tuple(frame.camera for frame in frames) == CAMERAS
    for frame in frames:
        assert np.abs(frame.image.astype(int) - picture(frame.camera)).max() <= 2
    assert decoder[1] == []


def test_a_bad_picture_drops_its_own_frame_alone(decoder):
    images = messages()
    images["right"] = compressed_message(jpeg("right")[:-40], "jpeg")
    images["back"] = compressed_message(b"no picture", "jpeg")
    assert decoder[0].decode(images).cameras == ("front", "left")
    assert [(error.camera, error.reason) for error in decoder[1]] == [("right", "decode"), ("back", "decode")]
    assert decoder[0].decode({"back": images["back"]}) is None


def test_pictures_are_decoded_side_by_side(monkeypatch):
    monkeypatch.setattr(frame_sets.os, "cpu_count", lambda: 8)
    flat = {"cameras": CAMERAS, **{f"camera.{camera}.transport": "compressed" for camera in CAMERAS}}
    flat |= {f"camera.{camera}.camera_info_topic": "none" for camera in CAMERAS}
    decoder = Decoder(from_flat(flat, Config), [].append, None)
    together = threading.Barrier(len(CAMERAS))
    decode = frame_sets.frame_from_compressed

    def meet(*arguments):
        together.wait(5.0)  # broken unless all of them are under way at once
        return decode(*arguments)

    monkeypatch.setattr(frame_sets, "frame_from_compressed", meet)
    images = {camera: compressed_message(jpeg(camera), "jpeg") for camera in CAMERAS}
    assert decoder.decode(images).cameras == CAMERAS


class Gpu:
    """Stands for the GPU's decoder: blue everywhere, and nothing for a set with a picture that it cannot read."""

    def __init__(self):
        self.asked = []

    def decode(self, pictures):
        self.asked.append(len(pictures))
        if any(picture.size == UNREADABLE for picture in pictures):
            return None
        return [torch.tensor([0, 0, 255], dtype=torch.uint8).expand(32, 48, 3) for _ in pictures]


def test_jpeg_pictures_of_a_set_go_to_the_gpu_together_and_all_else_to_the_cpu():
    flat = {"cameras": CAMERAS, **{f"camera.{camera}.camera_info_topic": "none" for camera in CAMERAS}}
    flat |= {f"camera.{camera}.transport": "raw" if camera == "left" else "compressed" for camera in CAMERAS}
    dropped, gpu = [], Gpu()
    decoder = Decoder(from_flat(flat, Config), dropped.append, None, gpu)
    png = cv2.imencode(".png", picture("back"))[1].tobytes()
    images = messages() | {"back": compressed_message(png, "bgr8; png compressed bgr8")}
    images["right"] = compressed_message(jpeg("right"), "rgb8; jpeg compressed rgb8")
    frames = {frame.camera: frame for frame in decoder.decode(images).frames}
    assert gpu.asked == [2]
    assert isinstance(frames["front"].image, torch.Tensor) and frames["front"].encoding == "rgb8"
    # This one was stored with red and blue exchanged, so what the decoder calls red is blue.
    assert isinstance(frames["right"].image, torch.Tensor) and frames["right"].encoding == "bgr8"
    assert isinstance(frames["left"].image, np.ndarray) and isinstance(frames["back"].image, np.ndarray)

    # Cut off: found without the GPU. Unreadable for the GPU: the CPU decides about every picture of the set.
    images["front"] = compressed_message(jpeg("front")[:-40], "jpeg")
    assert decoder.decode(images).cameras == ("left", "right", "back")
    assert gpu.asked == [2, 1]
    padding = jpeg("front")[:-2] + b"\0" * (UNREADABLE - len(jpeg("front"))) + b"\xff\xd9"
    images["front"] = compressed_message(padding, "jpeg")
    frames = decoder.decode(images).frames
    assert [type(frame.image) for frame in frames] == [np.ndarray] * 4
    assert [(error.camera, error.reason) for error in dropped] == [("front", "decode")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pictures_decoded_on_the_gpu_equal_those_of_the_cpu():
    device = torch.device("cuda")
    gpu = open_gpu_decoder(device)
    if gpu is None:
        pytest.skip("torchvision has no nvJPEG here")
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    # Colour at full size, at half the size, and none: the middle one's edges are where decoders differ.
    for image, flags, largest, mean in (
        (smooth, full, 3, 0.5),
        (smooth, [], 16, 1.0),
        (cv2.cvtColor(smooth, cv2.COLOR_BGR2GRAY), [], 1, 0.1),
    ):
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90, *flags])[1].ravel()
        expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        for found in gpu.decode([data, data]):
            assert found.is_cuda and found.dtype == torch.uint8
            difference = np.abs(found.cpu().numpy().astype(int) - expected)
            assert difference.max() <= largest
            assert difference.mean() <= mean
    assert gpu.decode([data, np.zeros(1000, np.uint8)]) is None
    # On their way to the network they stay on the device.
    plans = plan_views({"cam": ((480, 640), None)}, 252, {})
    data = cv2.imencode(".jpg", smooth, full)[1].ravel()
    on_gpu = Frame("cam", 1, gpu.decode([data])[0])
    on_cpu = Frame("cam", 1, cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    preparer = ImagePreparer(plans, device)
    for _ in range(4):
        found, expected = (preparer.prepare([frame])[1].int() for frame in (on_gpu, on_cpu))
        assert (found - expected).abs().max() <= 3
