"""Children end with their parent, and the parent with the first of them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from da3_ros.cli.processes import background, run_until_first_ends


class Script:
    """Stands for a Process: runs a line of Python."""

    environment = {"GREETING": "hello"}

    def __init__(self, code: str):
        self.code = code

    def command(self):
        return [sys.executable, "-c", self.code]


def test_the_first_end_is_the_end_of_all_and_its_code_counts(tmp_path):
    mark = tmp_path / "ended"
    waits = f"import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    open({str(mark)!r}, 'w').close()"
    fails = "import time, sys, os\ntime.sleep(1)\nsys.exit(7 if os.environ['GREETING'] == 'hello' else 0)"
    started = time.monotonic()
    assert run_until_first_ends([Script(waits), Script(fails)]) == 7
    assert time.monotonic() - started < 30
    assert mark.exists(), "the other one was asked to end, not killed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on_and_a_clean_end_is_code_0(tmp_path, number):
    ready, child = tmp_path / "ready", tmp_path / "child"
    inner = (
        f"import time, os\nopen({str(child)!r}, 'w').write(str(os.getpid()))\n"
        f"try:\n    os.rename({str(child)!r}, {str(ready)!r}); time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    )
    outer = (
        f"import sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from da3_ros.cli.processes import run_until_first_ends\nfrom test_processes import Script\n"
        f"sys.exit(run_until_first_ends([Script({inner!r})]))"
    )
    process = subprocess.Popen([sys.executable, "-c", outer])
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death is Linux's")
def test_children_end_when_the_parent_is_killed(tmp_path):
    ready = tmp_path / "ready"
    inner = (
        f"import time, os\nopen({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'child')!r}, {str(ready)!r}); time.sleep(60)"
    )
    outer = (
        "import sys, time\nfrom da3_ros.cli.processes import start\n"
        f"start([sys.executable, '-c', {inner!r}], {{}})\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", outer])
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait(30)
    while _running(int(ready.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _running(int(ready.read_text()))


def _running(pid: int) -> bool:
    """Not so for one that has ended and that nobody has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_background_process_does_not_outlive_the_block(tmp_path):
    log = tmp_path / "log"
    code = "import time; print('here', flush=True); time.sleep(60)"
    with pytest.raises(RuntimeError), background([sys.executable, "-c", code], {}, log) as child:
        deadline = time.monotonic() + 30
        while "here" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise RuntimeError
    assert child.poll() is not None
    assert log.read_text().startswith("here")
