"""The transform buffer answers as tf2 does: chains, interpolation, cache, errors, waiting, clock jumps."""

import math
import random
import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation, Slerp

from da3_ros.ros.compat._fallback import tf2_buffer

S = 1_000_000_000
DEADLINE_S = 10.0
LATEST = Time()


def transform(parent, child, stamp_ns=0, xyz=(0.0, 0.0, 0.0), quat_xyzw=(0.0, 0.0, 0.0, 1.0)):
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = map(float, xyz)
    rotation.x, rotation.y, rotation.z, rotation.w = map(float, quat_xyzw)
    return message


def matrix(message):
    """4x4 float64 matrix of a TransformStamped."""
    translation, rotation = message.transform.translation, message.transform.rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([rotation.x, rotation.y, rotation.z, rotation.w]).as_matrix()
    T[:3, 3] = translation.x, translation.y, translation.z
    return T


def random_transform(rng, parent, child, stamp_ns=0):
    quat_xyzw = Rotation.random(random_state=rng.integers(2**31)).as_quat()
    return transform(parent, child, stamp_ns, rng.uniform(-5, 5, 3), quat_xyzw)


def stamp_ns(message):
    return Time.from_msg(message.header.stamp).nanoseconds


def at(seconds):
    return Time(nanoseconds=round(seconds * S))


def test_lookup_maps_points_of_the_source_into_the_target(implementation):
    buffer = implementation.Buffer()
    # The camera sits 1 m ahead of the base and looks left: its x axis is the base's y axis.
    quarter = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))
    buffer.set_transform(transform("base", "camera", 5 * S, (1.0, 0.0, 0.0), quarter), "test")
    found = buffer.lookup_transform("base", "camera", at(5))
    assert (found.header.frame_id, found.child_frame_id, stamp_ns(found)) == ("base", "camera", 5 * S)
    np.testing.assert_allclose(matrix(found) @ [2, 0, 0, 1], [1, 2, 0, 1], atol=1e-12)
    back = buffer.lookup_transform("camera", "base", at(5))
    np.testing.assert_allclose(matrix(back) @ [1, 2, 0, 1], [2, 0, 0, 1], atol=1e-12)


def test_chains_meet_at_a_common_parent(implementation):
    rng = np.random.default_rng(1)
    buffer = implementation.Buffer()
    links = {
        (parent, child): random_transform(rng, parent, child, S)
        for parent, child in (
            ("map", "odom"),
            ("odom", "base"),
            ("base", "left"),
            ("base", "rig"),
            ("rig", "right"),
        )
    }
    for (_, child), message in links.items():
        (buffer.set_transform_static if child == "right" else buffer.set_transform)(message, "test")
    T = {frames: matrix(message) for frames, message in links.items()}
    expected = np.linalg.inv(T["base", "left"]) @ T["base", "rig"] @ T["rig", "right"]
    np.testing.assert_allclose(matrix(buffer.lookup_transform("left", "right", at(1))), expected, atol=1e-9)
    expected = T["map", "odom"] @ T["odom", "base"] @ T["base", "left"]
    np.testing.assert_allclose(matrix(buffer.lookup_transform("map", "left", LATEST)), expected, atol=1e-9)


def test_between_stamps_poses_are_interpolated(implementation):
    rng = np.random.default_rng(2)
    buffer = implementation.Buffer()
    start, end = (random_transform(rng, "odom", "base", s * S) for s in (10, 12))
    for message in (end, start):  # out of order, as networks deliver
        buffer.set_transform(message, "test")
    turn = Slerp([10, 12], Rotation.from_matrix([matrix(start)[:3, :3], matrix(end)[:3, :3]]))
    for seconds in (10.0, 10.25, 11.9, 12.0):
        found = matrix(buffer.lookup_transform("odom", "base", at(seconds)))
        ratio = (seconds - 10) / 2
        np.testing.assert_allclose(found[:3, 3], (1 - ratio) * matrix(start)[:3, 3] + ratio * matrix(end)[:3, 3])
        np.testing.assert_allclose(found[:3, :3], turn(seconds).as_matrix(), atol=1e-9)


def test_a_rotation_is_interpolated_the_short_way_whatever_the_quaternions_sign(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform(transform("odom", "base", 1 * S), "test")
    turned = Rotation.from_euler("z", 40, degrees=True).as_quat()
    buffer.set_transform(transform("odom", "base", 2 * S, quat_xyzw=-turned), "test")
    found = matrix(buffer.lookup_transform("odom", "base", at(1.5)))
    np.testing.assert_allclose(found[:3, :3], Rotation.from_euler("z", 20, degrees=True).as_matrix(), atol=1e-9)


@pytest.mark.parametrize("angle_deg", [0.0, 1e-7, 1e-3])
def test_a_tiny_rotation_is_interpolated_without_nan(implementation, angle_deg):
    buffer = implementation.Buffer()
    turned = Rotation.from_euler("x", angle_deg, degrees=True).as_quat()
    buffer.set_transform(transform("odom", "base", 1 * S), "test")
    buffer.set_transform(transform("odom", "base", 2 * S, quat_xyzw=turned), "test")
    found = matrix(buffer.lookup_transform("odom", "base", at(1.5)))
    expected = Rotation.from_euler("x", angle_deg / 2, degrees=True).as_matrix()
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-8)


def test_the_latest_common_time_is_that_of_the_slowest_link(implementation):
    buffer = implementation.Buffer()
    for seconds in (1, 2, 3):
        buffer.set_transform(transform("odom", "base", seconds * S, (seconds, 0, 0)), "test")
    buffer.set_transform(transform("map", "odom", 2 * S), "test")
    buffer.set_transform(transform("map", "odom", 1 * S), "test")
    buffer.set_transform_static(transform("base", "camera", 99 * S), "test")
    found = buffer.lookup_transform("map", "camera", LATEST)
    assert stamp_ns(found) == 2 * S
    assert found.transform.translation.x == 2.0
    assert buffer.get_latest_common_time("map", "camera").nanoseconds == 2 * S


def test_the_slowest_link_may_be_on_either_side_of_the_common_parent(implementation):
    buffer = implementation.Buffer()
    for seconds in (1, 2, 3):
        buffer.set_transform(transform("base", "fast", seconds * S), "test")
    for seconds in (1, 2):
        buffer.set_transform(transform("base", "slow", seconds * S), "test")
    assert stamp_ns(buffer.lookup_transform("fast", "slow", LATEST)) == 2 * S
    assert stamp_ns(buffer.lookup_transform("slow", "fast", LATEST)) == 2 * S


def test_static_transforms_hold_at_all_times_and_the_last_one_wins(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform_static(transform("base", "camera", 50 * S, (1, 0, 0)), "test")
    buffer.set_transform_static(transform("base", "camera", 40 * S, (2, 0, 0)), "test")
    for time_ in (LATEST, at(1), at(10**9)):
        assert buffer.lookup_transform("base", "camera", time_).transform.translation.x == 2.0
    assert stamp_ns(buffer.lookup_transform("base", "camera", LATEST)) == 0
    assert stamp_ns(buffer.lookup_transform("base", "camera", at(7))) == 7 * S


def test_a_frame_in_itself_is_identity_even_when_unknown(implementation):
    found = implementation.Buffer().lookup_transform("anything", "anything", at(3))
    np.testing.assert_array_equal(matrix(found), np.eye(4))
    assert stamp_ns(found) == 3 * S


def test_times_may_be_messages(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform(transform("odom", "base", 3 * S), "test")
    assert stamp_ns(buffer.lookup_transform("odom", "base", at(3).to_msg())) == 3 * S


@pytest.mark.parametrize(
    ("target", "source", "seconds", "error", "says"),
    [
        ("odom", "ghost", 1, "LookupException", "ghost"),
        ("ghost", "odom", 1, "LookupException", "ghost"),
        ("odom", "island", 1, "ConnectivityException", "island"),
        ("odom", "island", 0, "ConnectivityException", "island"),
        ("odom", "camera", 2.5, "ExtrapolationException", "future"),
        ("odom", "camera", 0.5, "ExtrapolationException", "past"),
        ("camera", "odom", 2.5, "ExtrapolationException", "future"),
        ("odom", "once", 1.5, "ExtrapolationException", "1.5"),
        ("/odom", "base", 1, "InvalidArgumentException", "/odom"),
        ("", "base", 1, "InvalidArgumentException", "empty"),
    ],
)
def test_what_cannot_be_looked_up_says_why(implementation, target, source, seconds, error, says):
    buffer = implementation.Buffer()
    for second in (1, 2):
        buffer.set_transform(transform("odom", "base", second * S), "test")
        buffer.set_transform(transform("sea", "island", second * S), "test")
    buffer.set_transform(transform("base", "once", 1 * S), "test")
    buffer.set_transform_static(transform("base", "camera"), "test")
    with pytest.raises(getattr(implementation, error), match=says) as caught:
        buffer.lookup_transform(target, source, at(seconds))
    assert isinstance(caught.value, implementation.TransformException)
    possible, reason = buffer.can_transform(target, source, at(seconds), return_debug_tuple=True)
    assert not possible
    assert says in reason
    assert not buffer.can_transform(target, source, at(seconds))


def test_a_gap_above_the_common_parent_does_not_matter(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform(transform("map", "base", 1 * S), "test")  # no data at 5 s
    for seconds in (4, 6):
        buffer.set_transform(transform("base", "left", seconds * S, (seconds, 0, 0)), "test")
        buffer.set_transform(transform("base", "right", seconds * S), "test")
    assert buffer.lookup_transform("right", "left", at(5)).transform.translation.x == pytest.approx(5.0)
    assert buffer.can_transform("base", "left", at(5))
    assert not buffer.can_transform("map", "left", at(5))


def test_a_loop_is_an_error_not_a_hang(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform_static(transform("a", "b"), "test")
    buffer.set_transform_static(transform("b", "c"), "test")
    buffer.set_transform_static(transform("c", "a"), "test")
    buffer.set_transform_static(transform("x", "y"), "test")
    for target, source in (("x", "b"), ("b", "x")):
        with pytest.raises(implementation.LookupException, match=r"loop|leads back"):
            buffer.lookup_transform(target, source, at(1))


@pytest.mark.parametrize(
    "bad",
    [
        transform("base", "base", S),
        transform("", "camera", S),
        transform("base", "", S),
        transform("base", "camera", S, (math.nan, 0, 0)),
        transform("base", "camera", S, quat_xyzw=(0, 0, math.nan, 1)),
        transform("base", "camera", S, quat_xyzw=(0, 0, math.inf, 1)),
        transform("base", "camera", S, quat_xyzw=(0, 0, 0, 1e-200)),
        transform("base", "camera", S, quat_xyzw=(0, 0, 0, 0)),
    ],
)
def test_transforms_that_make_no_sense_are_left_out(implementation, bad):
    buffer = implementation.Buffer()
    buffer.set_transform(bad, "test")
    buffer.set_transform_static(bad, "test")
    assert not buffer.can_transform("base", "camera", LATEST)


def test_quaternions_come_out_with_length_one(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform_static(transform("base", "camera", quat_xyzw=(0, 0, 0.602, 0.802)), "test")
    buffer.set_transform_static(transform("camera", "lens", xyz=(1, 0, 0)), "test")
    lens = buffer.lookup_transform("base", "lens", LATEST).transform.translation
    assert math.hypot(lens.x, lens.y, lens.z) == pytest.approx(1.0, abs=1e-12)
    rotation = buffer.lookup_transform("base", "camera", LATEST).transform.rotation
    assert rotation.z**2 + rotation.w**2 == pytest.approx(1.0, abs=1e-12)
    assert rotation.z / rotation.w == pytest.approx(0.602 / 0.802)


def test_leading_slashes_are_stripped_from_what_comes_in(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform_static(transform("/base", "/camera"), "test")
    assert buffer.can_transform("base", "camera", LATEST)


def test_the_cache_forgets_what_is_older_than_its_time(implementation):
    buffer = implementation.Buffer(cache_time=Duration(seconds=2))
    for seconds in (1, 2, 3, 4, 5):
        buffer.set_transform(transform("odom", "base", seconds * S), "test")
    buffer.set_transform(transform("odom", "base", 5 * S), "test")
    assert buffer.can_transform("odom", "base", at(3.5))
    assert not buffer.can_transform("odom", "base", at(2.5))
    buffer.set_transform(transform("odom", "base", 1 * S), "test")  # too late
    assert not buffer.can_transform("odom", "base", at(1))


def test_ten_seconds_are_kept_by_default(implementation):
    buffer = implementation.Buffer()
    for seconds in range(1, 21):
        buffer.set_transform(transform("odom", "base", seconds * S), "test")
    buffer.set_transform(transform("odom", "base", 20 * S), "test")
    assert buffer.can_transform("odom", "base", at(10.5))
    assert not buffer.can_transform("odom", "base", at(9.5))


def test_a_corrected_transform_of_the_same_stamp_wins_also_when_the_first_is_repeated(implementation):
    buffer = implementation.Buffer()
    for x in (1, 2, 1):
        buffer.set_transform(transform("odom", "base", S, (x, 0, 0)), "test")
    assert buffer.lookup_transform("odom", "base", at(1)).transform.translation.x == 2.0


def test_a_frame_may_change_its_parent(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform(transform("table", "cup", 1 * S, (1, 0, 0)), "test")
    buffer.set_transform(transform("hand", "cup", 2 * S, (2, 0, 0)), "test")
    assert buffer.lookup_transform("hand", "cup", LATEST).transform.translation.x == 2.0
    assert buffer.lookup_transform("table", "cup", at(1.5)).transform.translation.x == 1.0
    assert not buffer.can_transform("table", "cup", at(2))


def test_a_static_frame_that_starts_to_move_does(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform_static(transform("base", "arm"), "test")
    buffer.set_transform(transform("base", "arm", 3 * S, (1, 0, 0)), "test")
    assert buffer.can_transform("base", "arm", at(3))
    assert not buffer.can_transform("base", "arm", at(5))


def test_clear_forgets_all_but_static_transforms(implementation):
    buffer = implementation.Buffer()
    buffer.set_transform(transform("odom", "base", 9 * S), "test")
    buffer.set_transform_static(transform("base", "camera"), "test")
    buffer.clear()
    assert not buffer.can_transform("odom", "base", LATEST)
    assert not buffer.can_transform("odom", "base", at(9))
    assert buffer.can_transform("base", "camera", LATEST)
    buffer.set_transform(transform("odom", "base", 1 * S, (3, 0, 0)), "test")  # time may start again
    assert buffer.lookup_transform("odom", "camera", LATEST).transform.translation.x == 3.0


def test_a_lookup_waits_for_its_transform(implementation):
    buffer = implementation.Buffer()
    late = threading.Timer(0.2, buffer.set_transform, (transform("odom", "base", S, (4, 0, 0)), "test"))
    late.start()
    start = time.monotonic()
    found = buffer.lookup_transform("odom", "base", at(1), timeout=Duration(seconds=DEADLINE_S))
    assert found.transform.translation.x == 4.0
    assert 0.1 < time.monotonic() - start < DEADLINE_S / 2  # not only at its end
    late.join()


def test_a_lookup_gives_up_when_its_time_is_over(implementation):
    buffer = implementation.Buffer()
    start = time.monotonic()
    with pytest.raises(implementation.LookupException):
        buffer.lookup_transform("odom", "base", at(1), timeout=Duration(seconds=0.3))
    assert 0.25 < time.monotonic() - start < DEADLINE_S


@pytest.mark.ros
def test_a_clock_that_jumps_back_clears_the_buffer(implementation, graph):
    node = graph.node("listener", parameter_overrides=[Parameter("use_sim_time", value=True)])
    try:
        buffer = implementation.Buffer(node=node)
    except ImportError as error:
        pytest.skip(f"this build of tf2_msgs lacks the service: {error}")
    clock = graph.node("player").create_publisher(Clock, "/clock", 10)

    def play(seconds):
        deadline = time.monotonic() + DEADLINE_S
        while node.get_clock().now() != Time(seconds=seconds, clock_type=node.get_clock().clock_type):
            assert time.monotonic() < deadline, "no simulated time"
            clock.publish(Clock(clock=at(seconds).to_msg()))
            time.sleep(0.02)

    play(100)
    buffer.set_transform(transform("odom", "base", 100 * S), "test")
    buffer.set_transform_static(transform("base", "camera"), "test")
    play(99.5)  # less than a second: late messages, not a new start
    assert buffer.can_transform("odom", "base", LATEST)
    play(10)
    assert not buffer.can_transform("odom", "base", LATEST)
    assert buffer.can_transform("base", "camera", LATEST)


def test_a_busy_tree_is_kept_up_with(implementation):
    """Ten seconds of 20 moving frames at 50 Hz, with lookups at 20 Hz, take much less than ten seconds."""
    buffer = implementation.Buffer()
    messages = [transform(f"f{i}", f"f{i + 1}", 10**7 * t, (t, i, 0)) for t in range(1, 501) for i in range(20)]
    start = time.perf_counter()
    for message in messages:
        buffer.set_transform(message, "test")
    for t in range(200):
        buffer.lookup_transform("f0", "f20", Time(nanoseconds=10**7 + 24 * 10**6 * t))
    assert time.perf_counter() - start < 5.0


def test_ours_answers_as_upstream_does_on_random_trees():
    """Any sequence of transforms, then any lookup: the same pose and stamp, or the same kind of error."""
    theirs = pytest.importorskip("tf2_ros", reason="upstream tf2_ros is not installed")
    modules = (theirs, tf2_buffer)
    rng, answers = random.Random(3), 0
    frames = list("abcdefgh")
    for _ in range(300):
        buffers = [module.Buffer(cache_time=Duration(seconds=3)) for module in modules]
        for _ in range(rng.randrange(2, 40)):
            parent, child = sorted(rng.sample(frames, 2))
            if rng.random() < 0.05:
                parent, child = child, parent  # now and then a loop
            message = random_transform(np.random.default_rng(rng.randrange(2**31)), parent, child, rng.randrange(8) * S)
            static = rng.random() < 0.2
            for buffer in buffers:
                (buffer.set_transform_static if static else buffer.set_transform)(message, "test")
            if rng.random() < 0.02:
                for buffer in buffers:
                    buffer.clear()
        for _ in range(40):
            target, source = rng.choices([*frames, "ghost", ""], k=2)
            time_ = at(rng.choice([0, 1, 2, 2.25, 3, 4.5, 5, 7, 8]))
            expected, got = (
                answer(buffer, module, target, source, time_) for buffer, module in zip(buffers, modules, strict=True)
            )
            assert got[0] == expected[0], (target, source, time_, expected, got)
            if len(expected) == 2:
                np.testing.assert_allclose(got[1], expected[1], atol=1e-9)
                answers += 1
    assert answers > 1000


def answer(buffer, errors, target, source, time_):
    """Stamp and matrix of a lookup, or the name of what it raised."""
    try:
        found = buffer.lookup_transform(target, source, time_)
    except errors.TransformException as error:
        assert not buffer.can_transform(target, source, time_)
        return (type(error).__name__,)
    assert buffer.can_transform(target, source, time_)
    return stamp_ns(found), matrix(found)
