"""Views held out of 3D Gaussians: which, and how they are scored. Drawing itself is tested on CUDA machines."""

import math

import numpy as np
import pytest
import torch
from recording_helpers import true_sequence

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.config import from_flat
from da3_ros.evaluation import novel_views
from da3_ros.evaluation.gaussian_scene import Window
from da3_ros.evaluation.images import ssim
from da3_ros.evaluation.novel_views import score_novel_views, view_quality
from da3_ros.model import VARIANTS, Variant
from da3_ros.rendering import Rendering

TINY = Variant("da3-giant", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/TINY",), "CC-BY-NC-4.0", gaussians=True)
CONFIG = {"cameras": ["front"], "model.variant": "da3-giant", "model.checkpoint": "random", "model.device": "cpu",
          "model.process_res": 56}  # fmt: skip


def test_only_the_picture_counts_and_not_its_padding():
    colours = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    content = torch.zeros(1, 24, 40, dtype=torch.bool)
    content[0, 4:20, 6:34] = True
    drawn = colours.clone()
    drawn[:, :, ~content[0]] = 0.5  # whatever is drawn there
    drawn[:, :, 4:20, 6:34] = (drawn[:, :, 4:20, 6:34] - 0.1).clamp(0, 1)
    window = Window(("a",), colours, colours, content)
    found_psnr, found_ssim = view_quality([drawn[0]], window)
    error = (drawn - colours)[0, :, 4:20, 6:34].square().mean().item()
    assert found_psnr == [pytest.approx(-10 * math.log10(error), abs=1e-4)]
    assert found_ssim == [pytest.approx(ssim(drawn[:, :, 4:20, 6:34], colours[:, :, 4:20, 6:34]).item(), abs=1e-6)]


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "bag.mcap"
    write_sequence(true_sequence(), path, "raw")
    return path


def test_held_out_views_are_scored_apart(bag, monkeypatch):
    """With a stand-in that draws each view as its picture, held-out ones (1 in 4) darker by a tenth."""
    monkeypatch.setitem(VARIANTS, "da3-giant", TINY)
    seen = []

    def keep(pictures, *more):
        seen.append(made := make(pictures, *more))
        return made

    make = novel_views.make_window
    monkeypatch.setattr(novel_views, "make_window", keep)
    drawn = iter(range(8))

    def stand_in(cloud, extrinsics, intrinsics, size):
        view = next(drawn)
        picture = seen[0].colours[view]
        shade = 0.1 if view in (2, 5) else 0.01
        images = torch.where(picture >= 0.5, picture - shade, picture + shade)
        return Rendering(images[None], torch.zeros(1, *size), torch.zeros(1, *size))

    monkeypatch.setattr(novel_views, "render", stand_in)
    found = score_novel_views([bag], from_flat(CONFIG), "", 8)
    assert (found["views"], found["held_out"]) == (8, 2)
    assert found["psnr"] == pytest.approx(20.0, abs=1e-3) and found["kept_psnr"] == pytest.approx(40.0, abs=1e-3)
    assert found["ssim"] < found["kept_ssim"] < 1.0 and "left out" in found["protocol"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--set", "model.variant=da3-small"], "da3-giant has and da3-small has not"),
        (["--set", "model.variant=da3-giant", "model.checkpoint=random"], "gsplat|CUDA"),
        (["--segment", "1"], "need whole recordings"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_the_work(bag, tmp_path, capsys, monkeypatch, more, wanted):
    import re

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["evaluate", str(bag), "--novel-views", "8", "--output", str(tmp_path / "m.json"), *more]) == 2
    error = capsys.readouterr().err
    assert re.search(wanted, error) and error.count("\n") == 1, error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recording_s_novel_views(bag, tmp_path, monkeypatch):
    pytest.importorskip("gsplat", reason="rendering needs gsplat")
    monkeypatch.setitem(VARIANTS, "da3-giant", TINY)
    found = score_novel_views([bag], from_flat({**CONFIG, "model.device": "cuda"}), "", 8)
    assert 0 < found["psnr"] < 60 and -1 < found["ssim"] < 1 and np.isfinite(found["kept_psnr"])
