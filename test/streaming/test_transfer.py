"""What leaves the device arrives: packed, unpacked, and while the device goes on."""

import numpy as np
import pytest
import torch

from da3_ros.streaming.transfer import Downloader, pack, surroundings, unpack

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tensors(device="cpu"):
    """One of everything that an estimate is made of, in sizes that do not fit together."""
    torch.manual_seed(0)
    made = {
        "K": torch.rand(3, 3, 3),
        "reference": torch.tensor(5),
        "mask": torch.randint(0, 256, (5, 7), dtype=torch.uint8),
        "depth": torch.rand(2, 5, 7)[1],
        "transposed": torch.rand(4, 6).T,
        "millimetres": torch.randint(0, 65536, (3, 5), dtype=torch.int32).to(torch.uint16),
        "points": torch.randint(0, 256, (1, 9, 16), dtype=torch.uint8),
        "shifted": torch.randint(0, 256, (12,), dtype=torch.uint8)[1:9],
        "nothing": torch.empty(0, 16, dtype=torch.uint8),
        "scale": torch.tensor(0.5),
    }
    return {name: tensor.to(device) for name, tensor in made.items()}


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, tensor in expected.items():
        assert arrays[name].dtype == tensor.cpu().numpy().dtype, name
        np.testing.assert_array_equal(arrays[name], tensor.cpu().numpy(), err_msg=name)


def test_packed_tensors_come_out_as_they_went_in():
    made = tensors()
    packed, places = pack(made)
    assert packed.dtype == torch.uint8
    assert packed.numel() == sum(tensor.numel() * tensor.element_size() for tensor in made.values())
    assert_same(unpack(packed.numpy(), places), made)


def large_tensors():
    """Of whole words and of none, among small ones."""
    torch.manual_seed(1)
    return tensors() | {
        "depth/a": torch.rand(40, 50),
        "odd": torch.randint(0, 256, (71, 73), dtype=torch.uint8),
        "points/a": torch.randint(0, 256, (1, 600, 16), dtype=torch.uint8),
    }


def packed_and_unpacked(made):
    packed, places = pack(made)
    return unpack(packed.numpy(), places)


def in_bytes(array):
    return array.reshape(-1).view(np.uint8)


def test_about_large_arrays_there_is_room_for_the_rest_of_a_message():
    made = large_tensors()
    arrays = packed_and_unpacked(made)
    for name in ("depth/a", "odd", "points/a"):
        data = in_bytes(arrays[name])
        for before, behind in ((0, 0), (1, 1), (511, 16)):
            around = surroundings(data, before, behind)
            assert around.size == before + data.size + behind
            assert np.shares_memory(around[before : before + data.size], data)
            np.testing.assert_array_equal(around[before : before + data.size], data)
            around[:before] = around[before + data.size :] = 0xEE
    assert_same(arrays, made)


def test_a_part_that_begins_as_the_whole_does_has_the_room_in_front():
    """As the points that count, of a cloud with room for all."""
    points = packed_and_unpacked(large_tensors())["points/a"]
    around = surroundings(in_bytes(points[:, :500]), 100, 1)
    np.testing.assert_array_equal(around[100:-1], in_bytes(points[:, :500]))


def test_elsewhere_there_is_no_room():
    made = large_tensors()
    arrays = packed_and_unpacked(made)
    assert surroundings(in_bytes(arrays["points"]), 1, 1) is None  # small
    assert surroundings(in_bytes(arrays["depth/a"][1:]), 1, 1) is None  # its first row is before it
    assert surroundings(in_bytes(arrays["depth/a"]), 513, 0) is None
    assert surroundings(in_bytes(arrays["depth/a"]), 0, 17) is None
    assert surroundings(np.zeros(9999, np.uint8), 1, 1) is None
    assert surroundings(np.frombuffer(bytes(9999), np.uint8), 1, 1) is None


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
def test_downloads_keep_their_values(device):
    downloader = Downloader(torch.device(device))
    made = [
        {name: tensor + step for name, tensor in tensors(device).items() if name != "millimetres"} for step in range(6)
    ]
    downloads = [downloader.start(step) for step in made]
    kept = [download.wait() for download in downloads]
    for arrays, step in zip(kept, made, strict=True):
        assert_same(arrays, step)


@pytest.mark.gpu
@needs_cuda
def test_a_download_waits_neither_for_the_host_nor_for_what_is_queued_after_it():
    device = torch.device("cuda")
    downloader = Downloader(device)
    made = tensors(device)
    downloader.start(made).wait()  # memory is there from now on
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        download = downloader.start(made)
        torch.cuda._sleep(2_000_000_000)  # the next network: about a second
        end = torch.cuda.Event(enable_timing=True)
        end.record()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    arrays = download.wait()
    torch.cuda.synchronize()
    # By the device's clock, which a busy host does not delay.
    assert download.done.elapsed_time(end) > 0, "the download ended only after the next step"
    assert_same(arrays, made)


@pytest.mark.gpu
@needs_cuda
def test_an_upload_goes_on_while_the_device_computes():
    from da3_ros.geometry.staging import UploadRing

    ring = UploadRing(torch.device("cuda"))
    images = [np.random.default_rng(step).integers(0, 256, (48, 64, 3), dtype=np.uint8) for step in range(8)]
    for image in images[:3]:  # the buffers have their size from now on
        with ring.upload([image, image]):
            pass
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)
    end, uploaded = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    end.record()
    with ring.upload([images[3], images[4]]) as raw:
        result = raw + 1
    uploaded.record(ring._stream)
    torch.cuda.synchronize()
    assert uploaded.elapsed_time(end) > 0, "the upload began only after the network"
    expected = np.concatenate([images[3].ravel(), images[4].ravel()]) + np.uint8(1)
    np.testing.assert_array_equal(result.cpu().numpy(), expected)


@pytest.mark.gpu
@needs_cuda
def test_large_images_arrive_whole_whatever_their_strides():
    from da3_ros.geometry.staging import UploadRing

    wide = np.random.default_rng(0).integers(0, 256, (901, 1300, 3), dtype=np.uint8)
    images = [wide[:, 7:1290], wide[::2], wide[:1]]
    for order in (images, images[::-1]):
        with UploadRing(torch.device("cuda")).upload(order) as raw:
            np.testing.assert_array_equal(raw.cpu().numpy(), np.concatenate([image.ravel() for image in order]))


@pytest.mark.gpu
@needs_cuda
def test_uploads_far_ahead_of_the_device_do_not_overwrite_each_other():
    from da3_ros.geometry.staging import UploadRing

    ring = UploadRing(torch.device("cuda"))
    images = [np.full((480, 640, 3), step, dtype=np.uint8) for step in range(20)]
    torch.cuda._sleep(500_000_000)
    sums = []
    for image in images:
        with ring.upload([image]) as raw:
            sums.append(raw.double().mean())
    assert [float(total) for total in sums] == list(range(20))
