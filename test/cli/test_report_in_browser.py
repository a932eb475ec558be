"""The report in a real browser: what it shows, and what a person's mouse does to it."""

from contextlib import contextmanager

import numpy as np
import pytest
from browser import BROWSERS, Browser, find_browser
from recording_helpers import HalfTruthfulPipeline, knows_the_truth

from da3_ros.cli.main import main

CANVAS = ".cloud canvas"
BACKGROUND = (26, 20, 16)  # of the cloud, BGR
INSIDE = np.s_[8:-8, 8:-8]  # without the frame and its round corners


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip(f"no browser here to look at the report with (any of {', '.join(BROWSERS)})")
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as running:
        yield running


@pytest.fixture
def view(browser, page):
    """The report as it opens."""
    with opened(browser, page) as shown:
        yield shown


@pytest.fixture(scope="module")
def page_of_two(bag, sequence, tmp_path_factory):
    """The report of two recordings and a file that is none."""
    folder = tmp_path_factory.mktemp("two")
    names = [folder / name for name in ("a & b.mcap", "c.mcap", "broken.mcap")]
    for name in names[:2]:
        name.symlink_to(bag)
    names[2].write_bytes(b"no recording")
    with pytest.MonkeyPatch.context() as patch:
        knows_the_truth(patch, sequence, HalfTruthfulPipeline)
        assert main(["evaluate", *map(str, names), "--output", str(folder / "report")]) == 1
    return folder / "report" / "report.html"


@pytest.fixture
def two(browser, page_of_two):
    """That report as it opens."""
    with opened(browser, page_of_two) as shown:
        yield shown


@contextmanager
def opened(browser, file):
    """A report in a window of its own, which must have no problems and fetch nothing."""
    shown = browser.open(file.as_uri())
    yield shown
    assert shown.problems == [] and shown.fetched == []
    shown.close()


def drawn(picture) -> int:
    """Pixels of the cloud's canvas that belong to points."""
    return int((picture[INSIDE] != BACKGROUND).any(-1).sum())


def of_the_truth(picture) -> int:
    """Those with the truth's hue, which is drawn from dark to bright."""
    blue, green, red = np.moveaxis(picture[INSIDE].astype(float), -1, 0)
    like = abs(red - 40 / 170 * green) + abs(blue - 120 / 170 * green) < 4
    return int((like & (green > 50)).sum())


def middle_and_spread(view):
    """Mean (x, y) of the pixels that belong to points, and how far they lie apart."""
    rows, columns = np.nonzero((view.picture(CANVAS)[INSIDE] != BACKGROUND).any(-1))
    return np.array([columns.mean(), rows.mean()]), columns.std() + rows.std()


def same(a, b) -> bool:
    return a.shape == b.shape and bool((a == b).all())


@pytest.mark.parametrize("width", [1200, 420])
def test_everything_is_shown(view, width):
    view.resize(width, 900)
    view.settle()
    assert view.evaluate("[...document.images].filter(each => !each.complete || !each.naturalWidth).length") == 0
    assert view.evaluate("document.images.length") >= 4 * 5
    drawings = view.evaluate(
        "[...document.querySelectorAll('figure.chart svg')].map(svg => svg.getBoundingClientRect().height > 100 &&"
        " [...svg.querySelectorAll('path')].every(path => path.getTotalLength() > 0))"
    )
    assert len(drawings) == 8 and all(drawings)
    assert drawn(view.picture(CANVAS)) > 1000
    # Drawn anew for the window, not stretched.
    assert view.evaluate(f"(each => each.width - each.clientWidth)(document.querySelector('{CANVAS}'))") == 0
    # Nothing reaches over the edge, but in what scrolls by itself.
    assert view.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_light_and_dark(view):
    button, first = "button.theme", view.picture()
    view.click(button)
    second = view.picture()
    assert abs(int(first[5, 5].mean()) - int(second[5, 5].mean())) > 150
    view.click(button)
    view.move(5, 5)
    assert same(view.picture()[:, :600], first[:, :600])


def test_a_click_on_the_legend_hides_its_line(view):
    chart, key = "figure.chart", 'figure.chart .key[data-line="1"]'
    lines = [f'{chart} g[data-line="{number}"]' for number in (0, 1)]
    before = view.picture(f"{chart} svg")
    view.click(key)
    hidden = view.picture(f"{chart} svg")
    assert not same(hidden, before)
    assert view.box(lines[0])
    with pytest.raises(AssertionError, match="is not shown"):
        view.box(lines[1])
    view.click(key)
    assert same(view.picture(f"{chart} svg"), before)


def test_a_click_on_a_picture_makes_it_large(view):
    image = ".maps img"
    small = view.box(image)[2]
    view.click(image)
    assert view.box(image)[2] > 1.5 * small
    view.click(image)
    assert view.box(image)[2] == small


def test_the_cloud_turns_and_turns_back(view):
    seen = [view.picture(CANVAS)]
    for act in (
        lambda: view.drag(CANVAS, (60, 0)),
        lambda: view.drag(CANVAS, (0, 40)),
        lambda: view.click('.cloud .key[data-view="top"]'),
    ):
        act()
        seen.append(view.picture(CANVAS))
        assert drawn(seen[-1]) > 500
        assert not any(same(seen[-1], before) for before in seen[:-1])
    view.click('.cloud .key[data-view="start"]')
    assert same(view.picture(CANVAS), seen[0])


def test_zooming_in_makes_the_points_lie_farther_apart(view):
    start = middle_and_spread(view)[1]
    view.wheel(CANVAS, 400)
    far = middle_and_spread(view)[1]
    view.wheel(CANVAS, -400)
    assert far < 0.8 * start and middle_and_spread(view)[1] == pytest.approx(start, rel=0.01)


def test_shift_and_the_right_button_move_the_points_along(view):
    """Where the left button alone turns them."""
    start, seen = middle_and_spread(view)[0], []
    for how in ({"shift": True}, {"button": "right"}, {}):
        view.drag(CANVAS, (90, 40), **how)
        seen.append((view.picture(CANVAS), middle_and_spread(view)[0] - start))
        view.click('.cloud .key[data-view="start"]')
    (shifted, way), (right, _), (turned, _) = seen
    assert same(shifted, right) and not same(shifted, turned)
    assert (0.6 * 90 < way[0] < 1.2 * 90) and (0.6 * 40 < way[1] < 1.2 * 40)


def test_a_drag_ends_where_the_button_is_released(view):
    """Also where that is outside the canvas; from then on the pointer turns nothing."""
    view.drag(CANVAS, (30, -400))
    after = view.picture(CANVAS)
    left, top, *_ = view.box(CANVAS)
    for x in (50, 200, 300):
        view.move(left + x, top + 50)
    assert same(view.picture(CANVAS), after)


def test_estimate_and_truth_can_be_hidden_each(view):
    both = view.picture(CANVAS)
    assert of_the_truth(both) > 200
    view.click('.cloud .key[data-part="1"]')
    estimate = view.picture(CANVAS)
    assert of_the_truth(estimate) < 0.05 * of_the_truth(both) and drawn(estimate) > 500
    view.click('.cloud .key[data-part="0"]')
    assert drawn(view.picture(CANVAS)) == 0
    view.click('.cloud .key[data-part="1"]')
    truth = view.picture(CANVAS)
    assert of_the_truth(truth) == drawn(truth) > of_the_truth(both)
    view.click('.cloud .key[data-part="1"]')
    view.click('.cloud .key[data-part="2"]')
    at_truth = view.picture(CANVAS)
    assert drawn(at_truth) > 500 and not same(at_truth, estimate)


def test_links_lead_to_each_of_several_recordings(two):
    """Each is folded up until its link is clicked, and then works as if it were alone."""
    folded, link = "document.querySelectorAll('details:not([open])').length", 'a[href="#recording-{}"]'
    assert two.evaluate(folded) == 2
    assert "broken.mcap" in two.evaluate("document.querySelector('ul.failed').innerText")
    # All columns are in the window, however long the names are.
    assert two.evaluate("document.querySelector('#recordings .scroll').scrollWidth") <= two.box("#recordings")[2]
    for number in (1, 2):
        part = f"#recording-{number}"
        two.click(link.format(number))
        name = two.evaluate(f"document.querySelector('{link.format(number)}').innerText")
        assert name.endswith(("a & b.mcap", "c.mcap")[number - 1])
        assert two.evaluate(f"document.querySelector('{part} summary').innerText") == name
        assert 0 <= two.box(f"{part} summary")[1] < 450  # it is what one now sees
        canvas = f"{part} {CANVAS}"
        before = two.picture(canvas)
        assert drawn(before) > 1000
        two.drag(canvas, (60, 20))
        assert not same(two.picture(canvas), before)
        two.click(f'{part} a[href="#recordings"]')
        assert two.box("#recordings table")[1] >= 0
    assert two.evaluate(folded) == 0
    for _ in range(2):  # the second time the address stays what it is
        two.click(link.format(1))
        assert two.evaluate(folded) == 0
        two.click("#recording-1 summary")
        assert two.evaluate(folded) == 1


def test_the_address_of_a_recording_opens_it(two):
    address = two.evaluate("location.href")
    two.go("about:blank")
    two.go(f"{address}#recording-2")
    assert two.evaluate("[...document.querySelectorAll('details')].map(each => each.open)") == [False, True]
    assert 0 <= two.box("#recording-2 summary")[1] < 450
