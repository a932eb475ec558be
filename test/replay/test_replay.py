"""A recording in, a recording out: what is in it, and the same bytes each time (test_replay_resume.py: interrupted)."""

import json
import re
import sys

import numpy as np
import pytest
from bag_helpers import ROS1, ROS2, START_NS, STEP_NS, Messages, storage_file, write_ros1, write_ros2
from replay_helpers import HEIGHT, WIDTH, by_topic, contents, rig_recording, run, stamp_ns

from da3_ros.cli import replay as command
from da3_ros.pipeline import Pipeline


def test_every_set_gives_the_topics_of_the_node(replayed):
    output, figures = replayed
    assert (figures["sets"], figures["estimates"], figures["dropped"], figures["lost"]) == (7, 7, {}, [])
    assert figures["cameras"] == ["left", "right"] and figures["recorded_s"] == pytest.approx(0.607, abs=0.002)
    found = by_topic(output)
    per_camera = {
        f"/{camera}/{name}"
        for camera in ("left", "right")
        for name in ("depth/image_rect", "depth/camera_info", "confidence", "points", "dynamic")
    }
    of_all = {"/points", "/window", "/odometry", "/path", "/tf", "/tf_static", "/da3_node/map_points"}
    assert set(found) == per_camera | of_all
    for name, index in (("left", 0), ("right", 1)):
        depth = found[f"/{name}/depth/image_rect"]
        assert [stamp_ns(message) for message in depth] == [START_NS + s * STEP_NS + index * 1000 for s in range(7)]
        assert {(message.encoding, message.header.frame_id) for message in depth} == {("32FC1", name)}
        values = np.frombuffer(depth[0].data, np.float32)
        assert np.isfinite(values).all() and (values > 0).all()
    assert [message.step for message in found["/window"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [len(message.poses) for message in found["/path"]] == [1, 2, 3, 4, 5, 6, 7]
    assert found["/odometry"][0].child_frame_id == "base_link"  # the rig was in the recording
    children = [transform.child_frame_id for transform in found["/tf"][0].transforms]
    assert children == ["base_link", "left_estimated", "right_estimated"]
    assert found["/tf_static"][0].transforms[0].header.frame_id == "map"


def test_no_image_is_lost_while_another_camera_is_silent(tmp_path):
    """For as long as sync.timeout_s all that comes waits for it: at 30 Hz that is more than sync.queue."""
    messages, recorded = Messages(ROS2), []
    for step in range(20):
        at_ns = START_NS + step * 33_333_333
        for name in ("left", "right") if step < 3 else ("left",):
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * step, np.uint8)
            recorded.append((f"/{name}/camera_info", at_ns, messages.info(at_ns, WIDTH, HEIGHT, frame=name)))
            recorded.append((f"/{name}/image_raw", at_ns + 1000, messages.image(at_ns, pixels, frame=name)))
    bag = write_ros2(tmp_path / "silent", recorded)
    assert run(bag, tmp_path / "out.mcap", "--json", str(tmp_path / "out.json")) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert (figures["sets"], figures["dropped"]) == (20, {})


def test_two_runs_give_the_same_bytes(bag, replayed, tmp_path):
    assert run(bag, tmp_path / "again.mcap") == 0
    assert (tmp_path / "again.mcap").read_bytes() == replayed[0].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mcap"]


def test_originals_are_passed_through(bag, replayed, tmp_path):
    assert run(bag, tmp_path / "all", "--pass-through") == 0
    found, original, alone = contents(tmp_path / "all"), contents(bag), contents(replayed[0])
    assert sorted(found) == sorted(original + alone)
    assert (tmp_path / "all" / "metadata.yaml").is_file()
    assert run(bag, tmp_path / "some.mcap", "--pass-through", "/chatter") == 0
    texts = [entry for entry in contents(tmp_path / "some.mcap") if entry[0] == "/chatter"]
    assert texts == [entry for entry in original if entry[0] == "/chatter"]


def test_a_recording_of_the_node_s_own_topics_is_passed_through_without_them(bag, replayed, tmp_path, capsys):
    """Pictures that were recorded together with what the node made of them, which the replay makes anew."""
    both = tmp_path / "both.mcap"
    assert run(bag, both, "--pass-through") == 0
    capsys.readouterr()
    only = ("--topics", "/left/image_raw", "/right/image_raw", "--json", str(tmp_path / "figures.json"))
    assert run(both, tmp_path / "again.mcap", "--pass-through", *only) == 0
    (note,) = json.loads((tmp_path / "figures.json").read_text())["notes"]
    assert note.startswith("not passed through, since the output has its own: /da3_node/map_points, /left/confidence, ")
    assert note.endswith("/window") and note in capsys.readouterr().err
    found, own = by_topic(tmp_path / "again.mcap"), by_topic(replayed[0])
    assert {topic: len(found[topic]) for topic in own if not topic.startswith("/tf")} == {
        topic: len(messages) for topic, messages in own.items() if not topic.startswith("/tf")
    }
    assert len(found["/chatter"]) == 7
    assert run(both, tmp_path / "named.mcap", *only, "--pass-through", "/window") == 2
    assert "the recording has a topic /window, and so has the output" in capsys.readouterr().err


def test_a_ros1_bag_gives_the_same_estimates(replayed, tmp_path):
    old = write_ros1(tmp_path / "old.bag", rig_recording(ROS1))
    assert run(old, tmp_path / "out.mcap", "--pass-through", "/chatter") == 0
    found = [entry for entry in contents(tmp_path / "out.mcap") if entry[0] != "/chatter"]
    assert found == contents(replayed[0])


def test_what_still_waits_for_a_camera_at_the_end_comes_too(tmp_path):
    recorded = [entry for entry in rig_recording() if entry[0] != "/chatter"]
    assert recorded[-1][0] == "/right/image_raw"
    assert run(write_ros2(tmp_path / "bag", recorded[:-2]), tmp_path / "out.mcap") == 0
    found = by_topic(tmp_path / "out.mcap")
    assert [len(found[f"/{name}/depth/image_rect"]) for name in ("left", "right")] == [7, 6]


def test_an_image_that_cannot_be_used_costs_only_itself(tmp_path, capsys):
    recorded = rig_recording()
    place = [index for index, entry in enumerate(recorded) if entry[0] == "/right/image_raw"][3]
    topic, at_ns, _ = recorded[place]
    smaller = Messages(ROS2).image(START_NS + 3 * STEP_NS + 1000, np.zeros((8, 8, 3), np.uint8), frame="right")
    recorded[place] = topic, at_ns, smaller
    figures = tmp_path / "figures.json"
    assert run(write_ros2(tmp_path / "bag", recorded), tmp_path / "out.mcap", "--json", str(figures)) == 0
    assert json.loads(figures.read_text())["dropped"] == {"right: calibration": 1}
    assert "the image has 8x8 pixels" in capsys.readouterr().err
    found = by_topic(tmp_path / "out.mcap")
    assert [len(found[f"/{name}/depth/image_rect"]) for name in ("left", "right")] == [7, 6]


def test_a_recording_that_was_cut_off_is_replayed_as_far_as_it_goes(bag, replayed, tmp_path, capsys):
    cut = tmp_path / "cut.mcap"
    whole = storage_file(bag).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    assert run(cut, tmp_path / "out.mcap") == 0
    assert "lost: cut.mcap: the file ends within the record" in capsys.readouterr().err
    found, wanted = (by_topic(path)["/left/depth/image_rect"] for path in (tmp_path / "out.mcap", replayed[0]))
    assert 2 <= len(found) < 7
    sure = len(found) - 1  # the last set may lack its other camera
    assert [bytes(message.data) for message in found[:sure]] == [bytes(message.data) for message in wanted[:sure]]


def test_the_robot_s_odometry_reaches_the_network(tmp_path, monkeypatch):
    recorded = rig_recording()
    for number in range(5):  # as it arrives: after the images of its stamp
        at_ns = START_NS + number * 150_000_000
        moved = Messages(ROS2).transforms(at_ns, ("odom", "base_link", (0.15 * number, 0.0, 0.0)))
        recorded.append(("/tf", at_ns + 30_000_000, moved))
    bag = write_ros2(tmp_path / "bag", sorted(recorded, key=lambda entry: entry[1]))
    places, submit = {}, Pipeline.submit

    def noted(self, frame_set, request):
        places.update({(f.camera, f.stamp_ns): f.T_odom_base[0, 3] for f in frame_set.frames})
        return submit(self, frame_set, request)

    monkeypatch.setattr(Pipeline, "submit", noted)
    figures = tmp_path / "figures.json"
    more = ("model.pose_conditioning=odometry", "frames.publish_tf=false", "--json", str(figures))
    assert run(bag, tmp_path / "out.mcap", *more) == 0
    assert len(places) == 13
    for (_, stamp), x in places.items():
        assert x == pytest.approx((stamp - START_NS) / 1e9, abs=1e-9)  # 1 m/s, between the transforms too
    # The last image of the right camera is a microsecond newer than the last transform: nothing is extrapolated.
    assert json.loads(figures.read_text())["dropped"] == {"right: no odometry": 1}


def test_odometry_about_another_frame_ends_the_replay(tmp_path, capsys):
    recorded = rig_recording()
    message = Messages(ROS2).odometry(START_NS, "odom", "wheels")
    bag = write_ros2(tmp_path / "bag", sorted([*recorded, ("/odo", START_NS, message)], key=lambda entry: entry[1]))
    assert run(bag, tmp_path / "out.mcap", "scale.source=odometry", "scale.odometry_topic=/odo") != 0
    assert "child_frame_id 'wheels', but frames.base is 'base_link'" in capsys.readouterr().err


def test_a_part_of_the_recording_and_one_camera_of_it(bag, tmp_path):
    more = ("--topics", "/right/image_raw", "--start", "0.2", "--duration", "0.3", "--namespace", "/robot")
    assert run(bag, tmp_path / "out.mcap", *more) == 0
    found = by_topic(tmp_path / "out.mcap")
    stamps = [stamp_ns(message) for message in found["/robot/right/depth/image_rect"]]
    assert stamps == [START_NS + step * STEP_NS + 1000 for step in (2, 3, 4)]
    assert "/robot/left/depth/image_rect" not in found and "/robot/odometry" in found


def test_the_node_s_parameter_file_is_taken(bag, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(
        "/**:\n  da3_node:\n    ros__parameters:\n      use_sim_time: true\n      cameras: [right]\n"
        "      publish: {points: false, path: false}\n      publish.depth_encoding: 16UC1\n"
    )
    assert run(bag, tmp_path / "out.mcap", "--config", str(file)) == 0
    found = by_topic(tmp_path / "out.mcap")
    assert found["/right/depth/image_rect"][0].encoding == "16UC1"
    assert "/right/points" not in found and "/path" not in found


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["cameras=[front]"], r"no topic /front/image_raw of camera 'front' .*there are: /left/image_raw"),
        (["--config", "nothing.yaml"], "nothing.yaml.* cannot be read"),
        (["window.sets=0"], r"window\.sets must be within"),
        (["--topics", "/chatter"], "no image topic /chatter"),
        (["--pass-through", "/nothing"], "no topic /nothing"),
        (["--start", "nan"], "--start and --duration are seconds"),
        (["--start=-5"], "--start and --duration are seconds, 0 or more"),
        (["--json", "nowhere/f.json"], "--json nowhere/f.json: there is no folder nowhere"),
        (["--start", "99"], "nothing to replay from 99 s on: the recording is 0.6 s long"),
        (["camera.left.transport=compressed"], "transport asks for sensor_msgs/msg/CompressedImage"),
        (["sync.slop_s=0.0", "sync.min_cameras=2"], "no images belong together"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(bag, tmp_path, capsys, more, wanted):

    assert run(bag, tmp_path / "out.mcap", *more) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(wanted, error), error
    assert error.count("\n") == 0 and not (tmp_path / "out.mcap").exists()


def test_the_network_is_not_asked_for_what_nobody_gets(bag, tmp_path, monkeypatch):
    requests, submit = [], Pipeline.submit

    def noted(self, frame_set, request):
        requests.append(request)
        return submit(self, frame_set, request)

    monkeypatch.setattr(Pipeline, "submit", noted)
    more = [f"publish.{name}=false" for name in ("depth", "camera_info", "confidence", "points", "merged_points")]
    assert run(bag, tmp_path / "out.mcap", *more) == 0
    assert not any(request.dense for request in requests)


def test_time_that_goes_back_starts_anew(tmp_path):
    once = rig_recording(steps=7)  # more than sync.timeout_s
    length_ns = 20 * STEP_NS
    twice = once + [(topic, at + length_ns, message) for topic, at, message in once]
    bag = write_ros2(tmp_path / "twice", twice)
    assert run(bag, tmp_path / "out.mcap", "--json", str(tmp_path / "figures.json")) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["sets"] == 14 and "time went back" in figures["notes"][0]
    assert [message.step for message in by_topic(tmp_path / "out.mcap")["/window"]] == [*range(1, 8), *range(1, 8)]
    depth = [bytes(message.data) for message in by_topic(tmp_path / "out.mcap")["/left/depth/image_rect"]]
    assert depth[:7] == depth[7:]


def test_threads_take_short_turns_during_a_replay_and_as_before_after_it(bag, tmp_path, monkeypatch):
    """Else the network's thread waits 5 ms for the interpreter at each of torch's calls."""
    before, seen = sys.getswitchinterval(), []
    write = command.Output.write
    monkeypatch.setattr(command.Output, "write", lambda *given: seen.append(sys.getswitchinterval()) or write(*given))
    assert run(bag, tmp_path / "out.mcap") == 0
    assert seen[0] < 1e-3 and sys.getswitchinterval() == before
