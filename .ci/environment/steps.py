"""Runs the steps of a build: each only when its inputs changed, with a log, a time and a one-line failure."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path


class StepError(Exception):
    """What failed, and what to do about it; one line."""

    # Whether everything is as it was before the step, so that what is there need not be made anew.
    harmless = False

    def __init__(self, problem: str, mend: str, log: Path | None = None):
        super().__init__(f"{problem}; {mend}" + (f" (log: {os.path.relpath(log)})" if log else ""))


def fingerprint(*parts: object) -> str:
    """One hash of texts, and of the contents of files given as paths."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def say(text: str) -> None:
    """One line of progress."""
    print(f"[env] {text}", flush=True)


class Step:
    """One piece of the environment with a stamp beside it that holds the fingerprint it was made from."""

    def __init__(self, name: str, stamps: Path, key: str, makes: Iterable[Path] = ()):
        slug = re.sub(r"\W+", "-", name)
        self.name, self.key, self.makes = name, key, tuple(makes)
        self.stamp, self.begun = stamps / slug, stamps / f"{slug}.begun"

    @property
    def done(self) -> bool:
        """Whether what it makes is there and was made from the same inputs."""
        return self.stamp.is_file() and self.stamp.read_text() == self.key and all(path.exists() for path in self.makes)

    @property
    def interrupted(self) -> bool:
        """Whether an earlier run began it and never came back."""
        return self.begun.exists()

    def run(self, action: Callable[[], object]) -> None:
        """Do it, say so and how long it took, and stamp it."""
        started = time.monotonic()
        print(f"[env] {self.name} ... ", end="", flush=True)
        self.stamp.parent.mkdir(parents=True, exist_ok=True)
        self.stamp.unlink(missing_ok=True)
        self.begun.touch()
        try:
            action()
        except BaseException as error:
            print("failed", flush=True)
            if isinstance(error, StepError) and error.harmless:
                self.begun.unlink(missing_ok=True)
            raise
        self.stamp.write_text(self.key)
        self.begun.unlink(missing_ok=True)
        print(f"{time.monotonic() - started:.1f} s", flush=True)


class Command:
    """A program that runs in the background with its output in a log file."""

    def __init__(self, argv: list, log: Path, env: dict[str, str], cwd: Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("w") as output:
            output.write(" ".join(map(str, argv)) + "\n")
            output.flush()
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
            )

    def wait(self, mend: str) -> None:
        """Wait for its end; StepError with the most telling line of its output if it failed."""
        try:
            code = self.process.wait()
        except BaseException:
            self.stop()
            raise
        if code:
            raise StepError(f"{reason(self.log)} (exit status {code})", mend, self.log)

    def stop(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def reason(log: Path) -> str:
    """The line of a log that says best why a program failed: its first error, else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if re.match(r"(.*: )?(fatal )?(CMake )?error\b", line, re.IGNORECASE)]
    if not errors:
        return lines[-1][:300]
    at = errors[0]
    # CMake gives the place in one line and the reason in the next.
    if lines[at].startswith("CMake Error") and lines[at].endswith(":") and at + 1 < len(lines):
        return f"{lines[at]} {lines[at + 1]}"[:300]
    return lines[at][:300]


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
