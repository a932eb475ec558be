"""``da3-ros gaussians`` as a user runs it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from da3_ros.cli.main import main
from da3_ros.errors import InputError
from da3_ros.evaluation.gaussian_scene import find_pictures, held_out_views
from da3_ros.geometry.gaussian_ply import read_gaussian_ply
from da3_ros.model import VARIANTS, Variant

TINY = Variant("da3-giant", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/TINY",), "CC-BY-NC-4.0", gaussians=True)
HEIGHT, WIDTH = 60, 80  # becomes 42 x 56


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(VARIANTS, "da3-giant", replace(TINY, hub=VARIANTS["da3-giant"].hub))


def write_pictures(folder, sizes):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number, size in enumerate(sizes):
        coarse = generator.integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size[1], size[0])).save(folder / f"picture_{number}.png")
    return folder


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures", 5 * [(HEIGHT, WIDTH)])


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["gaussians", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def run_json(capsys, *arguments) -> dict:
    options = ("--checkpoint", "random", "--process-res", 56, "--device", "cpu", "--json", "-")
    code, out, err = run(capsys, *arguments, *options)
    assert code == 0, err
    return json.loads(out)


def test_folder_to_file(capsys, pictures, tmp_path):
    out = tmp_path / "scene.ply"
    figures = run_json(capsys, pictures, "--out", out)
    assert (figures["views"], figures["height"], figures["width"]) == (5, 42, 56)
    assert figures["gaussians_predicted"] == 5 * 42 * 56
    cloud = read_gaussian_ply(out)
    assert len(cloud.means) == figures["gaussians_written"] > 0.5 * figures["gaussians_predicted"]
    assert cloud.degree == 2 and cloud.valid().all()
    assert figures["held_out_psnr"] is None


def test_pruning_and_degree(capsys, pictures, tmp_path):
    out = tmp_path / "scene.ply"
    every = run_json(capsys, pictures, "--out", out)["gaussians_written"]
    size = out.stat().st_size
    pruned = run_json(capsys, pictures, "--out", out, "--border", 0.1, "--depth-quantile", 0.9, "--degree", 0)
    assert 0.4 * every < pruned["gaussians_written"] < 0.7 * every and out.stat().st_size < 0.45 * size
    assert read_gaussian_ply(out).degree == 0
    figures = run_json(capsys, pictures, "--out", out, "--min-opacity", 0.5)
    assert 0 < figures["gaussians_written"] < every and read_gaussian_ply(out).opacities.min() > 0.4999


def test_rotations_as_published(capsys, pictures, tmp_path):
    clouds = []
    for options in ((), ("--published-rotations",)):
        run_json(capsys, pictures, "--out", tmp_path / "scene.ply", *options)
        clouds.append(read_gaussian_ply(tmp_path / "scene.ply"))
    assert torch.equal(clouds[0].means, clouds[1].means)
    assert (clouds[0].rotations - clouds[1].rotations).abs().max() > 0.1


def test_pictures_of_two_sizes(capsys, tmp_path):
    """The smaller content lies in the middle of the canvas; no Gaussian comes from the padding."""
    folder = write_pictures(tmp_path / "mixed", [(HEIGHT, WIDTH), (30, 80)])
    figures = run_json(capsys, folder, "--out", tmp_path / "scene.ply")
    assert figures["gaussians_predicted"] == 2 * 42 * 56
    assert figures["gaussians_written"] <= (42 + 28) * 56


def test_table(capsys, pictures, tmp_path):
    code, out, err = run(capsys, pictures, "--views", 2, "--checkpoint", "random", "--process-res", 56, "--device",
                         "cpu", "--out", tmp_path / "scene.ply")  # fmt: skip
    assert code == 0 and "2 views of 56x42" in out and "of 4,704 Gaussians in" in out
    assert "untrained" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/absent",), "there is no picture or folder /absent"),
        (("{empty}",), "no pictures in"),
        (("{text}",), "is no picture that can be read"),
        (("{pictures}", "--border", "0.7"), "border is 0.7"),
        (("{pictures}", "--views", "0"), "--views is 0"),
        (("{pictures}", "--min-opacity", "2"), "no Gaussian is left"),
        (("{pictures}", "--checkpoint", "nobody/TINY"), "add --accept-noncommercial if yours is"),
    ],
)
def test_one_clear_line(capsys, pictures, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.png").write_text("no picture")
    places = {"empty": tmp_path / "empty", "pictures": pictures, "text": tmp_path / "note.png"}
    filled = [argument.format(**places) for argument in arguments]
    if "--checkpoint" not in filled:
        filled += ["--checkpoint", "random"]
    code, _, err = run(capsys, *filled, "--process-res", 56, "--device", "cpu", "--out", tmp_path / "scene.ply")
    assert code == 2 and message in err and err.count("\n") == 1


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Two calibrated cameras, six moments; with topics of true depth."""
    pytest.importorskip("rosbags", reason="recordings need rosbags")
    from demo_helpers import START_NS, make_camera, make_depth, make_pixels, make_pose

    from da3_ros.cli.demo_bag import write_sequence
    from da3_ros.cli.demo_sequence import Sequence, SequenceImage, SequenceStep

    names = ("left", "right")

    def read():
        for step in range(6):
            stamp_ns = START_NS + step * 100_000_000
            pixels = [make_pixels(10 * step + number) for number in range(len(names))]
            images = tuple(
                SequenceImage(name, stamp_ns, each, make_depth(step)) for name, each in zip(names, pixels, strict=True)
            )
            yield SequenceStep(stamp_ns, images, make_pose(step))

    path = tmp_path_factory.mktemp("bag") / "sequence"
    cameras = tuple(make_camera(name) for name in names)
    write_sequence(Sequence("test", cameras, 6, "base_link", read), path, "compressed")
    return path


def test_recording(capsys, bag, tmp_path):
    """Pictures at even distances from all cameras, none of the depth images."""
    pytest.importorskip("rosbags")
    from da3_ros.evaluation.gaussian_bag import read_bag

    found = read_bag([bag], [], 0.0, None, 4)
    stamps = [frame.stamp_ns for _, frame in found]
    assert len(found) == 4 and stamps == sorted(stamps)
    assert all(frame.calibration is not None and frame.image.shape[2] == 3 for _, frame in found)
    every = read_bag([bag], [], 0.0, None, 100)
    topics = sorted({frame.camera for _, frame in every})
    assert len(every) == 12 and len(topics) == 2 and all(topic.endswith("/compressed") for topic in topics)
    assert {frame.camera for _, frame in read_bag([bag], topics[:1], 0.0, None, 100)} == set(topics[:1])
    assert 0 < len(read_bag([bag], [], 0.2, 0.15, 100)) < 12
    assert len(read_bag([bag, bag], [], 0.0, None, 100)) == 24  # several together
    for arguments, message in (
        ((["/absent"], 0.0, None, 4), "no image topic /absent; there are"), (([], 1e3, None, 4), "has no images from")
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_bag([bag], *arguments)

    figures = run_json(capsys, bag, "--out", tmp_path / "scene.ply", "--views", 4)
    assert figures["views"] == 4 and figures["gaussians_written"] > 0


def test_options_of_a_recording_are_not_for_pictures(capsys, pictures, tmp_path):
    code, _, err = run(capsys, pictures, "--start", 1, "--checkpoint", "random", "--out", tmp_path / "scene.ply")
    assert code == 2 and "are for a recording" in err
    (tmp_path / "damaged.mcap").write_bytes(b"no recording")
    code, _, err = run(capsys, tmp_path / "damaged.mcap", "--checkpoint", "random")
    assert code == 2 and "damaged.mcap is no MCAP file" in err and err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines that cannot render")
def test_rendering_is_refused_before_the_network_is_loaded(capsys, pictures, monkeypatch):
    monkeypatch.setattr("da3_ros.cli.gaussians.load_model", lambda *_, **__: pytest.fail("loaded"))
    code, _, err = run(capsys, pictures, "--holdout", 1, "--checkpoint", "random")
    assert code == 2 and "rendering needs" in err and err.count("\n") == 1


def test_choice_of_views(tmp_path):
    folder = write_pictures(tmp_path / "many", 11 * [(20, 20)])
    (folder / "note.txt").write_text("not a picture")
    names = [file.name for file in find_pictures([folder], 3)]
    assert names == ["picture_0.png", "picture_4.png", "picture_9.png"]  # by name: 0, 1, 10, 2, ...
    assert len(find_pictures([folder, folder / "picture_1.png"], None)) == 12
    assert held_out_views(9, 0) == [] and held_out_views(9, 1) == [4] and held_out_views(9, 3) == [2, 4, 6]
    assert held_out_views(3, 2) == [1, 2]
    for count in (-1, 3):
        with pytest.raises(InputError, match="0 to 2 can be held out"):
            held_out_views(3, count)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_held_out_views(capsys, pictures, tmp_path):
    pytest.importorskip("gsplat", reason="rendering needs gsplat")
    code, out, err = run(
        capsys, pictures, "--checkpoint", "random", "--process-res", 56, "--holdout", 2, "--render", tmp_path / "new",
        "--between", 1, "--out", tmp_path / "scene.ply", "--json", "-",
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads(out)
    assert figures["gaussians_predicted"] == 3 * 42 * 56 and "held-out views were in the window" in figures["protocol"]
    assert list(figures["held_out_psnr"]) == ["picture_1.png", "picture_3.png"] and len(figures["kept_psnr"]) == 3
    assert all(0 < value < 60 for value in figures["held_out_psnr"].values())
    assert len(figures["pictures"]) == 2 + 4
    both = np.asarray(Image.open(figures["pictures"][0]))
    assert both.shape == (42, 2 * 56, 3) and both[:, :56].std() > 5
