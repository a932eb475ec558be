"""Times of messages by kind."""

import pytest

pytestmark = pytest.mark.ros


def test_each_kind_of_topic_has_its_times(capsys):
    from da3_ros.cli.bench_messages import main

    main(["--cameras", "2", "--sets", "2", "--size", "42x28", "--repeat", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 cameras, 2 sets, 42x28")
    rows = {line.split()[0]: [float(value) for value in line.split()[1:]] for line in lines[2:]}
    images = {"depth/image_rect", "depth/camera_info", "confidence", "dynamic"}
    assert rows.keys() == images | {"points", "window", "odometry", "path"}
    assert all(len(times) == 2 and min(times) > 0 for times in rows.values())
