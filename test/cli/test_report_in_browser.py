"""The report in a real browser: what it shows, and what a person's mouse does to it."""

import numpy as np
import pytest
from browser import BROWSERS, Browser, find_browser
from recording_helpers import HalfTruthfulPipeline, knows_the_truth

from da3_ros.cli.main import main

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
    opened = browser.open(page.as_uri())
    yield opened
    assert opened.problems == [] and opened.fetched == []


@pytest.fixture
def many(bag, sequence, browser, tmp_path, monkeypatch):
    """The report of two recordings and a file that is none."""
    knows_the_truth(monkeypatch, sequence, HalfTruthfulPipeline)
    names = [tmp_path / name for name in ("a & b.mcap", "c.mcap", "broken.mcap")]
    for name in names[:2]:
        name.symlink_to(bag)
    names[2].write_bytes(b"no recording")
    assert main(["evaluate", *map(str, names), "--output", str(tmp_path / "report")]) == 1
    opened = browser.open((tmp_path / "report" / "report.html").as_uri())
    yield opened
    assert opened.problems == [] and opened.fetched == []


def drawn(picture) -> int:
    """Pixels of the cloud's canvas that belong to points."""
    return int((picture[INSIDE] != BACKGROUND).any(-1).sum())


def of_the_truth(picture) -> int:
    """Those with the truth's hue, which is drawn from dark to bright."""
    blue, green, red = np.moveaxis(picture[INSIDE].astype(float), -1, 0)
    like = abs(red - 40 / 170 * green) + abs(blue - 120 / 170 * green) < 4
    return int((like & (green > 50)).sum())


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
    assert drawn(view.picture(".cloud canvas")) > 1000
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


def test_the_cloud_turns_moves_and_zooms(view):
    canvas = ".cloud canvas"
    seen = [view.picture(canvas)]
    for act in (
        lambda: view.drag(canvas, (60, 0)),
        lambda: view.drag(canvas, (0, 40)),
        lambda: view.wheel(canvas, -300),
        lambda: view.drag(canvas, (40, 20), shift=True),
        lambda: view.drag(canvas, (-70, 10), button="right"),
        lambda: view.click('.cloud .key[data-view="top"]'),
    ):
        act()
        seen.append(view.picture(canvas))
        assert drawn(seen[-1]) > 500
        assert not any(same(seen[-1], before) for before in seen[:-1])
    view.click('.cloud .key[data-view="start"]')
    assert same(view.picture(canvas), seen[0])


def test_zooming_in_makes_the_points_lie_farther_apart(view):
    canvas = ".cloud canvas"

    def spread():
        rows, columns = np.nonzero((view.picture(canvas)[INSIDE] != BACKGROUND).any(-1))
        return columns.std() + rows.std()

    start = spread()
    view.wheel(canvas, 400)
    far = spread()
    view.wheel(canvas, -400)
    assert far < 0.8 * start and spread() == pytest.approx(start, rel=0.01)


def test_a_drag_ends_where_the_button_is_released(view):
    """Also where that is outside the canvas; from then on the pointer turns nothing."""
    canvas = ".cloud canvas"
    view.drag(canvas, (30, -400))
    after = view.picture(canvas)
    left, top, *_ = view.box(canvas)
    for x in (50, 200, 300):
        view.move(left + x, top + 50)
    assert same(view.picture(canvas), after)


def test_estimate_and_truth_can_be_hidden_each(view):
    canvas = ".cloud canvas"
    both = view.picture(canvas)
    assert of_the_truth(both) > 200
    view.click('.cloud .key[data-part="1"]')
    estimate = view.picture(canvas)
    assert of_the_truth(estimate) < 0.05 * of_the_truth(both) and drawn(estimate) > 500
    view.click('.cloud .key[data-part="0"]')
    assert drawn(view.picture(canvas)) == 0
    view.click('.cloud .key[data-part="1"]')
    truth = view.picture(canvas)
    assert of_the_truth(truth) == drawn(truth) > of_the_truth(both)
    view.click('.cloud .key[data-part="1"]')
    view.click('.cloud .key[data-part="2"]')
    at_truth = view.picture(canvas)
    assert drawn(at_truth) > 500 and not same(at_truth, estimate)


def test_links_lead_to_each_of_several_recordings(many):
    """Each is folded up until its link is clicked, and then works as if it were alone."""
    folded, link = "document.querySelectorAll('details:not([open])').length", 'a[href="#recording-{}"]'
    assert many.evaluate(folded) == 2
    assert "broken.mcap" in many.evaluate("document.querySelector('ul.failed').innerText")
    for number in (1, 2):
        part = f"#recording-{number}"
        many.click(link.format(number))
        name = many.evaluate(f"document.querySelector('{link.format(number)}').innerText")
        assert name.endswith(("a & b.mcap", "c.mcap")[number - 1])
        assert many.evaluate(f"document.querySelector('{part} summary').innerText") == name
        assert 0 <= many.box(f"{part} summary")[1] < 450  # it is what one now sees
        canvas = f"{part} .cloud canvas"
        before = many.picture(canvas)
        assert drawn(before) > 1000
        many.drag(canvas, (60, 20))
        assert not same(many.picture(canvas), before)
        many.click(f'{part} a[href="#recordings"]')
        assert many.box("#recordings table")[1] >= 0
    assert many.evaluate(folded) == 0
    many.click("#recording-1 summary")
    assert many.evaluate(folded) == 1
    many.click(link.format(1))  # the address stays what it is
    assert many.evaluate(folded) == 0


def test_the_address_of_a_recording_opens_it(many):
    address = many.evaluate("location.href")
    many.go("about:blank")
    many.go(f"{address}#recording-2")
    assert many.evaluate("[...document.querySelectorAll('details')].map(each => each.open)") == [False, True]
    assert 0 <= many.box("#recording-2 summary")[1] < 450
