"""Sets that barely differ from the last used one do not reach the network; all others do."""

import numpy as np
import pytest
import torch
from streaming_helpers import make_model, make_stream

from da3_ros.datatypes import Frame, FrameSet

_STEP_NS = 50_000_000
_PICTURE = np.random.default_rng(0).integers(60, 200, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return make_model("da3-small")


def _step(stream, number, left=None, right=None):
    stamp_ns = number * _STEP_NS
    pictures = {"left": left, "right": right}
    frames = [Frame(name, stamp_ns, picture) for name, picture in pictures.items() if picture is not None]
    return stream.step(FrameSet(stamp_ns, tuple(frames)))


def _noisy(seed):
    noise = np.random.default_rng(seed).normal(0, 4, _PICTURE.shape)
    return np.clip(_PICTURE + noise, 0, 255).astype(np.uint8)


def test_noise_alone_is_left_out_and_counted_and_does_not_enter_the_window(model):
    stream = make_stream(model, cameras=1, skip_below=4.0)
    assert _step(stream, 0, _PICTURE) is not None
    assert [_step(stream, number, _noisy(number)) for number in range(1, 5)] == [None] * 4
    assert stream.skipped == 4
    assert len(stream.slots) == 1
    moved = _step(stream, 5, np.roll(_PICTURE, 9, axis=1))
    assert [view.stamp_ns // _STEP_NS for view in moved.views] == [0, 5]


def test_the_result_is_that_of_a_window_that_never_saw_the_left_out_sets(model):
    moved = np.roll(_PICTURE, 9, axis=1)
    skipping, plain = make_stream(model, cameras=1, skip_below=4.0), make_stream(model, cameras=1)
    for number, picture in enumerate([_PICTURE, _noisy(1), _noisy(2), moved]):
        got = _step(skipping, number, picture)
    _step(plain, 0, _PICTURE)
    torch.testing.assert_close(got.depth, _step(plain, 3, moved).depth, rtol=0, atol=0)


def test_a_small_object_that_moves_is_seen(model):
    stream = make_stream(model, cameras=1, skip_below=4.0)
    changed = _PICTURE.copy()
    changed[20:30, 30:40] = 255
    _step(stream, 0, _PICTURE)
    assert _step(stream, 1, changed) is not None


def test_slow_changes_add_up(model):
    stream = make_stream(model, cameras=1, skip_below=4.0)
    used = [_step(stream, number, _PICTURE + np.uint8(number)) is not None for number in range(10)]
    assert used == [True, False, False, False, True, False, False, False, True, False]


def test_one_of_two_cameras_that_moves_is_enough(model):
    stream = make_stream(model, skip_below=4.0)
    _step(stream, 0, _PICTURE, _PICTURE)
    assert _step(stream, 1, _PICTURE, _PICTURE) is None
    assert _step(stream, 2, _PICTURE, np.roll(_PICTURE, 9, axis=1)) is not None


def test_a_camera_that_comes_or_goes_is_a_change(model):
    stream = make_stream(model, skip_below=4.0)
    _step(stream, 0, _PICTURE, _PICTURE)
    assert _step(stream, 1, _PICTURE) is not None
    assert _step(stream, 2, _PICTURE) is None
    assert _step(stream, 3, None, _PICTURE) is not None
    assert _step(stream, 4, _PICTURE, _PICTURE) is not None


def test_a_second_is_the_longest_silence(model):
    stream = make_stream(model, cameras=1, skip_below=4.0)
    used = [number for number in range(45) if _step(stream, number, _PICTURE) is not None]
    assert used == [0, 20, 40]


def test_after_a_reset_the_next_set_is_used(model):
    stream = make_stream(model, cameras=1, skip_below=4.0)
    _step(stream, 0, _PICTURE)
    stream.reset()
    assert _step(stream, 1, _PICTURE) is not None


def test_by_default_nothing_is_left_out(model):
    stream = make_stream(model, cameras=1)
    assert all(_step(stream, number, _PICTURE) is not None for number in range(3))
    assert stream.skipped == 0
