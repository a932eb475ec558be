"""What a run says while it goes: a progress bar, a line of figures now and then, TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from da3_ros.training.parts import write_whole

_FIGURES, _TENSORBOARD = "figures.jsonl", "tensorboard"


class Journal:
    """Writes ``figures.jsonl`` and TensorBoard files into a folder, and draws a progress bar on a terminal.

    Figures come back from the device one report later than they were sent for, so that nothing waits for it.
    """

    def __init__(self, folder: Path, done: int, steps: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / _FIGURES
        _forget_after(self._file, done)
        self._board = _open_board(folder / _TENSORBOARD, done)
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=None, dynamic_ncols=True)
        self._sent: tuple[int, dict[str, float], list[str], Tensor, Any] | None = None
        self._start = time.monotonic()
        self.latest: dict[str, float] = {}

    def report(self, step: int, figures: Mapping[str, Tensor], known: Mapping[str, float]) -> None:
        """Figures after ``step`` steps: scalars on the device, and what the host knows."""
        self.flush()
        values = torch.stack([value.detach().float() for value in figures.values()])
        event = None
        if values.device.type == "cuda":
            values = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._sent = (step, {**known, "seconds": time.monotonic() - self._start}, list(figures), values, event)

    def flush(self) -> None:
        """Writes what was sent for."""
        if self._sent is None:
            return
        step, known, names, values, event = self._sent
        self._sent = None
        if event is not None:
            event.synchronize()
        figures = {"step": step, **known, **dict(zip(names, values.tolist(), strict=True))}
        self.latest = figures
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        if self._board:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        self._bar.set_postfix_str(f"loss {figures['loss']:.3f}, {figures['samples/s']:.0f} samples/s")
        self._bar.update(step - self._bar.n)
        if self._bar.disable:
            shown = " ".join(f"{name} {value:.4g}" for name, value in figures.items())
            print(shown, file=sys.stderr, flush=True)

    def keep(self) -> None:
        """Puts on the disk what was sent for, before a state is: a run that goes on does not say it again."""
        self.flush()
        if self._board:
            self._board.flush()

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """A picture (3, H, W), 0..1."""
        if self._board:
            self._board.add_image(name, image.cpu(), step)

    @property
    def shows_pictures(self) -> bool:
        """Whether there is a TensorBoard to show them."""
        return self._board is not None

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        self._bar.close()
        if self._board:
            self._board.close()


def _open_board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed (pip install tensorboard): figures go to figures.jsonl only",
              file=sys.stderr)  # fmt: skip
        return None
    return SummaryWriter(str(folder), purge_step=done + 1)


def _forget_after(file: Path, step: int) -> None:
    """Drops the lines of steps that will be done again, and one that a killed run left unfinished."""
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    write_whole(file, "".join(line for line in lines if json.loads(line)["step"] <= step))
