"""A recording of a rig, replayed: what the tests of replays share."""

import numpy as np
from bag_helpers import ROS2, START_NS, STEP_NS, Messages

from da3_ros.cli.main import main
from da3_ros.egress.message_types import message_types
from da3_ros.ingest.bag import Bag

WIDTH, HEIGHT = 64, 48
QUICK = ["model.checkpoint=random", "model.variant=da3-nano", "model.process_res=56", "window.sets=2",
         "model.device=cpu"]  # fmt: skip


def rig_recording(store=ROS2, steps=7):
    """Two cameras on a robot, a microsecond apart, a laser and its transforms."""
    messages, recorded = Messages(store), []
    places = [("base_link", name, (0.0, offset, 1.0)) for name, offset in (("left", 0.1), ("right", -0.1))]
    recorded.append(("/tf_static", START_NS, messages.transforms(START_NS, *places)))
    for step in range(steps):
        stamp_ns = START_NS + step * STEP_NS
        for index, name in enumerate(("left", "right")):
            pixels = np.random.default_rng([step, index]).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            at_ns = stamp_ns + index * 1000
            info = messages.info(at_ns, WIDTH, HEIGHT, frame=name)
            recorded.append((f"/{name}/camera_info", at_ns + 5_000_000, info))
            recorded.append((f"/{name}/image_raw", at_ns + 6_000_000, messages.image(at_ns, pixels, frame=name)))
        recorded.append(("/chatter", stamp_ns + 7_000_000, messages.text(f"step {step}")))
    return recorded


def run(bag, output, *more) -> int:
    return main(["replay", str(bag), "--output", str(output), "--set", *QUICK, *more])


def contents(path) -> list[tuple[str, int, bytes]]:
    return [(raw.topic, raw.receive_ns, bytes(raw.data)) for raw in Bag([path]).raw()]


def by_topic(path) -> dict[str, list]:
    found: dict[str, list] = {}
    for raw in (written := Bag([path])).raw():
        message = message_types().deserialize_cdr(raw.data, written.topics[raw.topic].type)
        found.setdefault(raw.topic, []).append(message)
    return found


def stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
