"""A step computes what has to be computed and no more: counted at full size, without data."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from da3_ros.cli.bench_floor import step_gflop
from da3_ros.datatypes import View, WindowView
from da3_ros.model import VARIANTS
from da3_ros.streaming.memory import make_blueprint
from da3_ros.streaming.networks import make_window_network
from da3_ros.streaming.rig import Rig
from da3_ros.streaming.window import SlidingWindow, WindowConfig

SIZE = (378, 504)
VIEWS = 8


def gflop(variant, new, *, decode="newest", dense=True):
    """Of one step with ``new`` views of 8, the window being full."""
    model = make_blueprint(replace(VARIANTS[variant], gaussians=False), torch.float16)
    config = WindowConfig(sets=VIEWS // new, cameras=new, decode=decode, execution="eager")
    images = torch.empty((new, 3, *SIZE), device="meta")
    view = WindowView("camera", 0, "", True, View("camera", SIZE, (0, 0, *SIZE), np.full((3, 3), np.nan), False))
    with torch.inference_mode():
        model.prepare(*SIZE)
        network, window = make_window_network(model, config, Rig()), SlidingWindow(config.sets, new)
        for _ in range(config.sets):
            slots = window.push([view] * new)
        network.write(slots, images)  # makes the buffers
        with FlopCounterMode(display=False) as count:
            network.write(window.push([view] * new), images)
            network.predict(window.slots(), config.decoded(VIEWS, new) if dense else ())
    return count.get_total_flops() / 1e9


SLOW = pytest.mark.slow


@pytest.mark.parametrize("new", [1, pytest.param(4, marks=SLOW)])
@pytest.mark.parametrize(
    "variant",
    ["da3-small", *(pytest.param(f"da3-{name}", marks=SLOW) for name in ("nano", "base", "large", "giant"))],
)
def test_a_step_is_its_new_views_and_what_all_views_need(variant, new):
    """The floor that the bench prints, but for the camera decoder and the other role that a new view may have."""
    floor = step_gflop(variant, VIEWS, new, *SIZE)
    assert gflop(variant, new) == pytest.approx(1.02 * floor, rel=0.025)


@SLOW
def test_what_nobody_wants_is_not_computed():
    step = gflop("da3-small", 1)
    bare = gflop("da3-small", 1, dense=False)
    everything = gflop("da3-small", 1, decode="all")
    head = 16.07  # GFLOP of one view
    assert bare < step - head
    assert everything > step + 7 * head
