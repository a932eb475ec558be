"""Times of images to the network's input and of predictions to arrays, without a network.

Run with ``python -m da3_ros.cli.bench_pixels``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from da3_ros.assembly import assemble
from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.config import PointsConfig, PublishConfig
from da3_ros.datatypes import CameraCalibration, Frame, OutputRequest, WindowPrediction, WindowView
from da3_ros.geometry.image import ImagePreparer, ViewPlan, plan_views
from da3_ros.placement import Placement
from da3_ros.streaming.device import choose_device, describe_device
from da3_ros.streaming.transfer import Downloader

_WIDE = CameraCalibration(1280, 720, np.array([[640.0, 0, 640], [0, 640, 360], [0, 0, 1]]))
_LENS = CameraCalibration(
    1280, 720, np.array([[640.0, 0, 640], [0, 640, 360], [0, 0, 1]]), (-0.28, 0.07, 1e-4, -2e-4, 0.0), "plumb_bob"
)
# Image height and width, bytes per pixel, encoding and calibration.
_IMAGES = {
    "1280x720 rgb8": ((720, 1280, 3), "rgb8", _WIDE),
    "960x720 rgb8": ((720, 960, 3), "rgb8", None),
    "1280x720 nv12": ((1080, 1280, 1), "nv12", _WIDE),
    "1280x720 rgb8 rectified": ((720, 1280, 3), "rgb8", _LENS),
}
_BURST = 5  # runs that are queued behind each other to find what the device alone needs; it can queue 1,000 kernels
_SUBMITS = 20
_WINDOW = 8  # views


def main() -> None:
    """Print one table of images in and one of outputs, in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:<index>")
    parser.add_argument("--process-res", type=int, default=504, help="longest side of the network's images")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each figure")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    repeats = Repeats(arguments.seconds, warm_up=5)
    print(f"{describe_device(device)}, torch {torch.__version__}\n")
    print("images | cameras | network image | submit | until on the device | device alone")
    for name in _IMAGES:
        for count in (1, 4):
            print(name, "|", count, "|", _images_in(name, count, arguments.process_res, device, repeats), flush=True)
    print("\noutputs | new views of 8 | MB | submit | until in host memory | device alone")
    names = [f"camera{index}" for index in range(4)]
    for count in (1, 4):
        cameras = frozenset(names[:count])
        requests = {
            "depth, confidence": (OutputRequest(depth=cameras, confidence=cameras), PointsConfig()),
            "the same, clouds": (OutputRequest.everything(tuple(cameras)), PointsConfig()),
            "the same, clouds, 5 cm voxels": (OutputRequest.everything(tuple(cameras)), PointsConfig(voxel_m=0.05)),
        }
        for name, (request, points) in requests.items():
            figures = _outputs(names[:count], request, points, arguments.process_res, device, repeats)
            print(name, "|", count, "|", figures, flush=True)


def _images_in(name: str, count: int, process_res: int, device: torch.device, repeats: Repeats) -> str:
    shape, encoding, calibration = _IMAGES[name]
    random = np.random.default_rng(0)
    cameras = [f"camera{index}" for index in range(count)]
    frames = [
        Frame(camera, 1, random.integers(0, 256, shape, dtype=np.uint8), encoding, calibration=calibration)
        for camera in cameras
    ]
    plans = plan_views({frame.camera: (frame.size_hw, calibration) for frame in frames}, process_res, {})
    preparer = ImagePreparer(plans, device)

    def run() -> None:
        preparer.prepare(frames)

    total = median_ms(run, device, repeats)
    height, width = plans[cameras[0]].view.canvas_hw
    # The device alone: the same kernels on images that are there already.
    images = torch.empty((count, 3, height, width), device=device)
    colours = torch.empty((count, 3, height, width), dtype=torch.uint8, device=device)
    raw = torch.from_numpy(np.concatenate([frame.image.ravel() for frame in frames])).to(device)
    groups = preparer._groups(frames)
    if len(groups) > 1:
        alone = float("nan")
    else:
        alone = _device_ms(lambda: preparer._batch(groups[0]).run(raw, images, colours), device)
    return f"{width}x{height} | {_submit_ms(run, device):.3f} | {total:.3f} | {alone:.3f}"


def _outputs(
    cameras: list[str],
    request: OutputRequest,
    points: PointsConfig,
    process_res: int,
    device: torch.device,
    repeats: Repeats,
) -> str:
    plans = plan_views(dict.fromkeys(cameras, ((720, 960), None)), process_res, {})
    prediction = _prediction(plans, device)
    placement, downloader = Placement(device), Downloader(device)

    def assembled() -> dict[str, torch.Tensor]:
        return assemble(placement.place(prediction), prediction, plans, request, points, PublishConfig())

    @torch.inference_mode()
    def submit() -> object:
        return downloader.start(assembled())

    @torch.inference_mode()
    def run() -> None:
        downloader.start(assembled()).wait()

    megabytes = sum(tensor.numel() * tensor.element_size() for tensor in assembled().values()) / 1e6
    total = median_ms(run, device, repeats)
    alone = _device_ms(torch.inference_mode()(assembled), device)
    return f"{megabytes:.1f} | {_submit_ms(submit, device):.3f} | {total:.3f} | {alone:.3f}"


def _prediction(plans: dict[str, ViewPlan], device: torch.device) -> WindowPrediction:
    """Random maps of the newest set, and random cameras of the whole window."""
    cameras = list(plans)
    count, old = len(cameras), _WINDOW - len(cameras)
    height, width = plans[cameras[0]].view.canvas_hw
    random = torch.Generator().manual_seed(0)
    T = torch.eye(4).repeat(_WINDOW, 1, 1)
    T[:, :3, 3] = torch.rand(_WINDOW, 3, generator=random)
    K = torch.tensor([[width * 0.8, 0, width / 2], [0, width * 0.8, height / 2], [0, 0, 1]])
    return WindowPrediction(
        views=tuple(
            WindowView(cameras[index % count], index, "", index >= old, plans[cameras[index % count]].view)
            for index in range(_WINDOW)
        ),
        decoded=tuple(range(old, _WINDOW)),
        depth=(1 + 9 * torch.rand(count, height, width, generator=random)).to(device),
        depth_conf=(1 + torch.rand(count, height, width, generator=random)).to(device),
        T_cam_world=T.to(device),
        K=K.expand(_WINDOW, 3, 3).contiguous().to(device),
        reference_index=torch.tensor(0, device=device),
        colours=torch.randint(0, 256, (count, 3, height, width), generator=random, dtype=torch.uint8).to(device),
    )


def _submit_ms(run: Callable[[], object], device: torch.device) -> float:
    """Median time until ``run`` returns, with nothing queued before it; NaN on the CPU."""
    times = []
    if device.type != "cuda":
        return float("nan")
    for _ in range(_SUBMITS):
        torch.cuda.synchronize(device)
        begin = time.perf_counter()
        run()
        times.append((time.perf_counter() - begin) * 1e3)
    return float(np.median(times))


def _device_ms(run: Callable[[], object], device: torch.device) -> float:
    """Time of one of a burst of runs on a device that is kept busy until all are queued; NaN on the CPU."""
    if device.type != "cuda":
        return float("nan")
    run()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(100_000_000)  # about 50 ms
    begin.record()
    for _ in range(_BURST):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / _BURST


if __name__ == "__main__":
    main()
