"""What the comparison of JPEG decoders reads, computes and refuses."""

import cv2
import numpy as np
import pytest
import torch

from da3_ros.cli.bench_jpeg import decode_by_cpu, differences, main, read_jpeg
from da3_ros.errors import InputError, UnavailableError


@pytest.fixture
def picture(tmp_path):
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120))
    path = tmp_path / "picture.jpg"
    cv2.imwrite(str(path), image)
    return path


def test_differences_in_grey_levels():
    expected = np.full((10, 10, 3), 100, np.uint8)
    found = expected.copy()
    found[0, 0] = (120, 100, 90)
    mean, percentile, most, luminance, luminance_most = differences(found, expected)
    assert (mean, percentile, most) == (pytest.approx(0.1), 0, 20), "both ways count"
    assert luminance_most == pytest.approx(0.299 * 20 - 0.114 * 10) and luminance == pytest.approx(luminance_most / 100)


def test_red_comes_first(picture):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(picture), red)
    assert decode_by_cpu(read_jpeg(picture))[8, 8, 0] > 200


def test_what_cannot_be_measured_is_said(picture, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="decoded by the CPU here"):
        main([str(picture)])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match="no JPEG picture"):
        main([str(tmp_path / "text.jpg")])
    with pytest.raises(InputError, match="cannot be read"):
        main([str(tmp_path / "nothing.jpg")])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_picture_on_a_gpu(picture, capsys):
    main([str(picture), "--seconds", "0.01"])
    name, size, *figures = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert (name, size, len(figures)) == ("picture.jpg", "160x120", 8)
