"""The report: what it says, and that it needs no other file. (test_report_in_browser.py looks at it.)"""

import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import rosbags.image
from recording_helpers import HEIGHT, START_NS, STEPS, WIDTH, TruthfulPipeline, depth, pose, stamp

from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.main import main
from da3_ros.evaluation import ground_truth, segments
from da3_ros.evaluation.cloud_sample import CloudSample
from da3_ros.evaluation.report import RecordingPart, write_report
from da3_ros.evaluation.report_charts import Series, line_chart
from da3_ros.evaluation.report_cloud import gather_points
from da3_ros.evaluation.report_examples import DepthExample, DepthExamples
from da3_ros.evaluation.report_maps import example_maps
from da3_ros.evaluation.score import EstimatedFrame, SeenFrame
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import write_tum
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, matrix_from_quat_xyzw


class _References(HTMLParser):
    """Everything in a page that a browser would fetch, and the texts of its headings."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.headings, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self._inside = tag in ("h1", "h2", "h3")

    def handle_data(self, text):
        if self._inside:
            self.headings.append(text)
            self._inside = False


def test_the_page_says_what_the_numbers_say(page):
    text = page.read_text()
    metrics = json.loads((page.parent / "m.json").read_text())
    errors = metrics["depth"]["front"]["per_frame"]["none"]
    assert errors["abs_rel"] > 0.01
    row = [f"{errors[name]:.4g}" for name in ("abs_rel", "rmse", "delta1", "delta2", "delta3", "covered")]
    assert '<td class="text">none</td>' + "".join(f"<td>{cell}</td>" for cell in row) in text
    assert "<td>window.sets</td><td>3</td>" in text and "<td>sync." not in text
    assert "half &amp; &lt;truth&gt;" in text and "<truth>" not in text
    assert re.search(r"<td>torch</td><td>\d+\.\d+", text)
    for what, value in (
        ("largest difference of stamps that belong together (s)", "0.02"),
        ("true depth counts up to (m)", "100"),
        ("true poses from", "/ground_truth/odometry"),
        ("true depth of front from", "/front/ground_truth/depth"),
    ):
        assert f"<td>{what}</td><td>{value}</td>" in text
    for column in ("within 5 %", "within 10 %"):
        assert f"<th>{column}</th>" in text
    headings = _References(text).headings
    for wanted in (
        "Summary",
        "Trajectory",
        "Top",
        "Side",
        "Error over time",
        "Depth examples",
        "Point cloud",
        "Run",
        "Versions",
    ):
        assert wanted in headings
    assert "Does low confidence mean high error?" in headings
    worst = [heading for heading in headings if "worst frame" in heading]
    assert len(worst) == 1 and worst[0].startswith("front at 0.40 s")
    assert "random weights" not in text


def test_charts_over_time_have_names_of_their_own(page):
    section = page.read_text().partition("<h2>Error over time</h2>")[2].partition("</section>")[0]
    names = re.findall("<h3>(.*?)</h3>", section)
    assert names[:-1] == [f"front: {what}" for what in ("error of depth", "pixels within 25 %", "scale of depth")]
    assert len(names) == section.count("<svg ") and names[-1].startswith("Position, ")


def test_the_longest_times_have_a_column_where_they_are_known(page, tmp_path):
    """As of a replay; a node tells none."""
    metrics = json.loads((page.parent / "m.json").read_text())
    assert "<th>95 %</th><th>longest</th>" in page.read_text()
    metrics["run"]["latency_ms"] = {"network": {"p50": 12.5, "p95": 14.5}}
    write_report(tmp_path / "r.html", metrics, [RecordingPart("node", metrics)])
    text = (tmp_path / "r.html").read_text()
    assert "<td>network</td><td>12.5</td><td>14.5</td></tr>" in text and "longest" not in text


def test_the_page_needs_nothing_else(page):
    text = page.read_text()
    fetched = _References(text).fetched
    assert fetched and all(value.startswith("data:image/png;base64,") for value in fetched)
    assert not re.search(r"https?:|url\(|@import|import\(|fetch\(|XMLHttpRequest", text)


def test_colour_bars_say_what_the_colours_mean(page):
    """The ends of each bar are the values of the palette's ends, to as many digits as they differ in."""
    text = page.read_text()
    image = r'<figure><img(?: class="photo")? alt="([^"]*)" src="data:image/png;base64,([^"]*)">'
    bar = r'(?:<div class="bar">([^<]*)<i style="background:linear-gradient\(to right,([^"]*)\)"></i>([^<]*)</div>)?'
    figures = re.findall(image + bar, text)
    bars = {name: (low, colours, high) for name, _, low, colours, high in reversed(figures)}
    assert bars["picture"] == ("", "", "")
    assert bars["|estimated - true| / true"][::2] == ("0", "0.25")
    low, high = map(float, bars["true depth (m)"][::2])
    assert 2.0 < low < 2.2 and 3.9 < high < 4.8 and bars["estimated depth (m)"] == bars["true depth (m)"]
    # A map's smallest and largest values have the colours at the bar's ends.
    name, data, *_ = next(figure for figure in figures if figure[0] == "|estimated - true| / true")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].reshape(-1, 3)
    ends = [tuple(map(int, each)) for each in re.findall(r"rgb\((\d+),(\d+),(\d+)\)", bars[name][1])]
    assert len(ends) == 9 and ends[0] in set(map(tuple, pixels.tolist()))


def test_ends_of_a_bar_that_hardly_differ_are_told_apart():
    example = DepthExample("front", 0, np.linspace(1.0001, 1.0003, 64, dtype=np.float32).reshape(8, 8))
    html = example_maps("", example, 0)
    low, high = re.search(r'class="bar">([^<]*)<i.*?</i>([^<]*)<', html).groups()
    assert (low, high) == ("1.0001", "1.0003")


def test_random_weights_are_said_above_everything(bag, sequence, tmp_path, monkeypatch):
    class Untrained(TruthfulPipeline):
        description = {"variant": "da3-small", "weights_trained": False}

    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: Untrained(sequence.cameras[0]))
    assert main(["evaluate", str(bag), "--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text()
    banner = re.search(r'<p class="warning">([^<]*)</p>', text)
    assert banner.group(1).startswith("The network has random weights") and banner.start() < text.index("<section>")


def test_what_was_lost_is_said_above_everything(bag, sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    cut, page = tmp_path / "cut.mcap", tmp_path / "r.html"
    for size, warned in ((bag.stat().st_size // 2, True), (None, False)):
        cut.write_bytes(bag.read_bytes()[:size])
        assert main(["evaluate", str(cut), "--output", str(tmp_path / "m.json"), "--report", str(page)]) == 0
        text = page.read_text()
        banner = text.find('<p class="warning">Parts of the recording could not be read')
        assert (0 < banner < text.index("<section>")) == warned
        assert ("lost: cut.mcap: the file ends within the record" in text) == warned


def test_a_picture_that_cannot_be_converted_is_noted(sequence, tmp_path, monkeypatch):
    """Its maps are shown all the same."""
    write_sequence(sequence, tmp_path / "odd.mcap", "raw")
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))

    def refused(message, *_):
        raise rosbags.image.ImageError(f"Unsupported encoding {message.encoding}")

    monkeypatch.setattr(rosbags.image, "message_to_cvimage", refused)
    out = ["--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]
    assert main(["evaluate", str(tmp_path / "odd.mcap"), *out]) == 0
    notes = json.loads((tmp_path / "m.json").read_text())["notes"]
    wanted = f"the picture of front with stamp {START_NS} is not shown: its encoding 'rgb8' cannot be converted"
    assert any(note.startswith(wanted) for note in notes)
    text = (tmp_path / "r.html").read_text()
    assert wanted.replace("'", "&#x27;") in text and 'alt="picture"' not in text and 'alt="true depth (m)"' in text


def test_points_of_the_truth_lie_on_those_of_the_truth(sequence):
    """Estimates that are true but for their unit and world: the page shows both in one place."""
    sample = CloudSample()
    world = T_from(matrix_from_quat_xyzw(np.array([0.0, 0.0, 0.6, 0.8])), np.array([5.0, -3.0, 2.0]))
    camera = sequence.cameras[0]
    for step in range(8):
        T = pose(step) @ camera.T_base_cam
        estimated = world @ T
        estimated[:3, 3] *= 1.25
        frame = EstimatedFrame("front", step, 1.25 * depth(step), camera.calibration.K, None, estimated)
        sample.add(SeenFrame(frame, camera.calibration, depth(step), T))
    pictures = {("front", 0): np.full((10, 10, 3), (1, 2, 3), np.uint8)}
    points = gather_points(sample.frames, pictures)
    assert points.estimated == pytest.approx(points.true, abs=1e-4)
    assert "8 frames in the world of the truth" in points.how and "scale 0.8" in points.how
    assert points.at_truth == pytest.approx(points.true, abs=1e-4)
    assert points.colours[0].tolist() == [3, 2, 1] and points.colours[-1].tolist() == [150, 150, 150]


def test_a_world_with_y_down_is_seen_from_above_too(bag, sequence, tmp_path):
    """That of a camera's first frame, as SLAM programs and KITTI have it."""
    stamps = np.array([stamp(step) for step in range(STEPS)])
    T = np.linalg.inv(T_BODY_OPTICAL) @ np.stack([pose(step) for step in range(STEPS)])
    write_tum(tmp_path / "way.tum", Trajectory(stamps, T))
    out = ["--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]
    truth = ["--poses", str(tmp_path / "way.tum"), "--external", str(tmp_path / "way.tum")]
    for more in (["--pose-frame", "base_link"], []):  # without it, what moves forward along its x axis is a robot
        assert main(["evaluate", str(bag), *out, *truth, *more]) == 0
        assert json.loads((tmp_path / "m.json").read_text())["trajectory"]["up"] == "-y"
        text = (tmp_path / "r.html").read_text()
        charts = re.findall(r'<h3>(\w+)</h3><figure class="chart"><svg [^>]*aria-label="([^"]*)"', text)
        assert charts[:2] == [("Top", "z (m) over x (m)"), ("Side", "-y, up (m) over x (m)")]
        assert "where -y is taken to be up" in text
    # To the right of the start is to the right of it on the map, and ahead is above: it drives ahead and to the left.
    line = re.search(r'<h3>Top</h3>.*?<path class="line c1" d="M([\d.]+) ([\d.]+).*?L([\d.]+) ([\d.]+)"/>', text)
    (u0, v0), (u1, v1) = (map(float, line.groups()[i : i + 2]) for i in (0, 2))
    assert u1 < u0 and v1 < v0


def test_the_cloud_of_a_world_with_y_down_has_z_up(sequence):
    def seen_in(world):
        sample = CloudSample()
        for step in range(8):
            T = pose(step) @ sequence.cameras[0].T_base_cam
            K = sequence.cameras[0].calibration.K
            frame = EstimatedFrame("front", step, depth(step), K, None, T)
            sample.add(SeenFrame(frame, sequence.cameras[0].calibration, depth(step), world @ T))
        return gather_points(sample.frames, {})

    down, upright = seen_in(np.linalg.inv(T_BODY_OPTICAL)), seen_in(np.eye(4))
    for name in ("estimated", "true", "at_truth"):
        # The maps' axes are others, so only heights compare, and distances.
        assert getattr(down, name)[:, 2] == pytest.approx(getattr(upright, name)[:, 2], abs=1e-6)
        ways = [np.linalg.norm(np.diff(getattr(each, name), axis=0), axis=1) for each in (down, upright)]
        assert ways[0] == pytest.approx(ways[1], abs=1e-5)


def test_without_truth_there_is_a_page_too(bag, sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    monkeypatch.setattr(ground_truth.GroundTruth, "_find_depth_topics", lambda self: {})
    monkeypatch.setattr(ground_truth, "pose_topics", lambda bag: iter(()))
    assert main(["evaluate", str(bag), "--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "r.html")]) == 0
    headings = _References((tmp_path / "r.html").read_text()).headings
    assert "Depth examples" in headings and "Trajectory" not in headings and "Error over time" not in headings


def test_numbers_and_page_lie_in_the_folder_that_is_named(bag, sequence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segments, "Pipeline", lambda config, repeatable: TruthfulPipeline(sequence.cameras[0]))
    assert main(["evaluate", str(bag), "--output", str(tmp_path / "new" / "A")]) == 0
    assert sorted(file.name for file in (tmp_path / "new" / "A").iterdir()) == ["metrics.json", "report.html"]
    assert f"page: {tmp_path / 'new' / 'A' / 'report.html'}" in capsys.readouterr().out
    assert main(["evaluate", str(bag), "--output", str(tmp_path / "m.json"), "--report", "none"]) == 0
    assert not (tmp_path / "report.html").exists()
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(bag)]) == 0
    assert (tmp_path / "metrics.json").is_file() and (tmp_path / "report.html").is_file()


def test_a_report_that_cannot_be_written_is_said_before_the_work(bag, tmp_path, capsys):
    options = ["--output", str(tmp_path / "m.json"), "--report", str(tmp_path / "none" / "r.html")]
    assert main(["evaluate", str(bag), *options]) == 2
    assert "there is no folder" in capsys.readouterr().err and not (tmp_path / "m.json").exists()


def test_of_many_frames_few_at_even_distances_and_the_worst_are_kept(sequence):
    examples = DepthExamples()
    calibration = sequence.cameras[0].calibration
    true = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    for number in range(200):
        depth = true.copy()
        depth[:, : WIDTH // 3] *= 1.5 if number == 137 else 1.1
        frame = EstimatedFrame("front", number, depth, calibration.K)
        examples.add(SeenFrame(frame, calibration, true))
    chosen = examples.chosen()
    assert [example.stamp_ns for why, example in chosen if not why] == [0, 64, 128, 192]
    assert [example.stamp_ns for why, example in chosen if why] == [137]


def test_charts_have_round_ticks_and_break_where_there_is_nothing():
    svg = line_chart([Series("a", [0, 1, 2, 3], [1.0, 2.0, None, 3.0], 1)], "x", "y", from_zero=True)
    assert re.findall(r'text-anchor="end">([^<]*)<', svg) == ["0", "1", "2", "3"]
    assert re.search(r'd="(M[^"]*)"', svg).group(1).count("M") == 2
    small = line_chart([Series("a", [0, 1], [0.0, 3e-14], 1)], "x", "y", from_zero=True)
    assert re.findall(r'text-anchor="end">([^<]*)<', small) == ["0", "1e-14", "2e-14", "3e-14"]
    for values in ([], [None, float("nan")], [5.0, 5.0]):
        assert "nan" not in line_chart([Series("a", list(range(len(values))), values, 1)], "x", "y")


def test_maps_have_one_unit_on_both_axes():
    svg = line_chart([Series("a", [0.0, 10.0], [0.0, 1.0], 1)], "x", "y", equal=True)
    (u0, v0), (u1, v1) = (map(float, pair.split()) for pair in re.search(r'd="M([^"]*)"', svg).group(1).split("L"))
    assert (u1 - u0) / 10.0 == pytest.approx(v0 - v1, rel=0.02)


def test_the_few_values_of_a_lidar_are_drawn_large_enough_to_see():
    sparse, dense = np.full((120, 300), np.nan, np.float32), np.full((120, 300), 2.0, np.float32)
    sparse[::20, ::20] = 2.0
    sparse[60, 60] = 4.0
    dense[40:60] = np.nan

    def shown(true):
        data = re.findall(r'alt="true depth \(m\)" src="data:image/png;base64,([^"]*)"',
                          example_maps("", DepthExample("front", 0, np.ones_like(true), true=true), 0))  # fmt: skip
        return cv2.imdecode(np.frombuffer(base64.b64decode(data[0]), np.uint8), cv2.IMREAD_COLOR)

    grey = (shown(sparse) == shown(np.full_like(sparse, np.nan))[0, 0]).all(-1)
    assert not grey[58:63, 58:63].any() and grey[50, 50] and 0.03 < 1 - grey.mean() < 0.2
    far = shown(sparse)[60, 60]
    assert (shown(sparse)[58:63, 58:63] == far).all() and (shown(sparse)[60, 80] != far).any()
    # A gap in depth that is dense stays as large as it is.
    assert (shown(dense)[40:60] == shown(dense)[50, 0]).all()
