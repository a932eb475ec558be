"""A headless Chromium with a hand on its mouse: real input over the DevTools protocol, and pictures of what it shows.

The protocol goes through two pipes, so that no driver and no port is needed. `Page.click` and its kin go the way of a
person's input: the browser finds out what lies under the pointer, so that something that is covered, hidden or
outside the window is not clicked.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

BROWSERS = (
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "google-chrome",
    "chrome",
    "chrome-headless-shell",
)
_PATIENCE_S = 60.0  # for one answer, on a machine that is busy
_BUTTONS = {"left": 1, "right": 2}  # bits of those that are held down
_SHIFT = 8


def find_browser() -> str | None:
    """The program, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """One process of ``program``; ``profile``: a new folder for what it stores. Ends with its ``with`` block."""

    def __init__(self, program: str, profile: Path):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
                 "--disable-background-networking", f"--user-data-dir={profile}"]  # fmt: skip
        # The browser reads its descriptor 3 and writes to 4.
        moved = f'exec "$@" 3</dev/fd/{to_browser} 4>/dev/fd/{from_browser}'
        self._process = subprocess.Popen(
            ["sh", "-c", moved, "sh", program, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number = b"", 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        self._process.wait(_PATIENCE_S)

    def open(self, url: str, size: tuple[int, int] = (1200, 900)) -> Page:
        """A new window of ``size`` (width, height) that shows ``url``, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.resize(*size)
        page.go(url)
        return page

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The answer to one call of the protocol; RuntimeError where it is an error."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def next_message(self) -> dict[str, Any]:
        """The next answer or event, which its page has then noted."""
        until = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("the browser has ended")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if message.get("sessionId") in self._pages and "method" in message:
            self._pages[message["sessionId"]].note(message["method"], message["params"])
        return message


class Page:
    """One window. ``problems``: errors of its scripts and what it could not load; ``fetched``: addresses it asked for,
    but for its own and for data that is in it."""

    def __init__(self, browser: Browser, session: str, target: str):
        self._browser, self._session, self._target = browser, session, target
        self.problems: list[str] = []
        self.fetched: list[str] = []
        self._loaded = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol about this page."""
        return self._browser.call(method, self._session, **parameters)

    def close(self) -> None:
        """Close the window."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def note(self, event: str, what: Mapping[str, Any]) -> None:
        """What the browser says of the page by itself."""
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.problems.append(what["entry"]["text"])
        elif event == "Network.requestWillBeSent" and what["type"] != "Document":
            self.fetched += [url for url in [what["request"]["url"]] if not url.startswith("data:")]

    def go(self, url: str) -> None:
        """Show ``url`` and wait until it is loaded and drawn."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._browser.next_message()
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """Give the window this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']['exception']['description']}")
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until what was changed is drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height in the window of the first element that fits ``selector``."""
        return self._box(selector, "getBoundingClientRect()")

    def _box(self, selector: str, which: str) -> tuple[float, float, float, float]:
        found = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})?.{which};"
            " return b && [b.left, b.top, b.width, b.height]; })()"
        )
        assert found and found[2] and found[3], f"{selector} is not shown"
        return tuple(found)

    def reach(self, selector: str) -> tuple[float, float]:
        """Scroll until the middle of the element is in the middle of the window; where it is, and nothing over it."""
        quoted = json.dumps(selector)
        self.evaluate(f"document.querySelector({quoted}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.settle()
        left, top, width, height = self._box(selector, "getClientRects()[0]")  # of text in several lines the first
        x, y = left + width / 2, top + height / 2
        assert self.evaluate(f"document.querySelector({quoted}).contains(document.elementFromPoint({x}, {y}))"), (
            f"something else lies over {selector}"
        )
        return x, y

    def click(self, selector: str) -> None:
        """Move the pointer to the middle of the element, press and release."""
        self.drag(selector, (0, 0))

    def drag(self, selector: str, by: tuple[float, float], button: str = "left", shift: bool = False) -> None:
        """Press in the middle of the element, move by ``by`` pixels in five steps, release."""
        x, y = self.reach(selector)
        held, steps = {"modifiers": _SHIFT * shift}, 5 if any(by) else 0
        self._mouse("mouseMoved", x, y, **held)
        down = {"button": button, "clickCount": 1, **held}
        self._mouse("mousePressed", x, y, buttons=_BUTTONS[button], **down)
        for step in range(1, steps + 1):
            at = x + by[0] * step / steps, y + by[1] * step / steps
            self._mouse("mouseMoved", *at, button=button, buttons=_BUTTONS[button], **held)
        self._mouse("mouseReleased", x + by[0], y + by[1], **down)
        self.settle()

    def move(self, x: float, y: float) -> None:
        """Move the pointer to this place of the window, no button pressed."""
        self._mouse("mouseMoved", x, y)
        self.settle()

    def wheel(self, selector: str, by: float) -> None:
        """Turn the wheel over the middle of the element; ``by`` > 0: towards the hand."""
        x, y = self.reach(selector)
        self._mouse("mouseMoved", x, y)
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=by)
        self.settle()

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, selector: str = "") -> np.ndarray:
        """What the window shows, (h, w, 3) uint8 BGR; with ``selector``: the first such element, scrolled to."""
        if selector:
            self.reach(selector)
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if selector:
            left, top, width, height = (round(value) for value in self.box(selector))
            image = image[max(top, 0) : top + height, max(left, 0) : left + width]
        return image
