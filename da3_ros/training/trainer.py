"""The training loop. On CUDA it only launches work: nothing in a step waits for the device."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from da3_ros.model.variants import VARIANTS
from da3_ros.training.ahead import Ahead
from da3_ros.training.batch import SceneBatch
from da3_ros.training.captured_step import CapturedStep
from da3_ros.training.checkpoints import STATES, WEIGHTS, load_state, load_weights, published, save_state
from da3_ros.training.config import RunConfig, Shape
from da3_ros.training.data import Source, draw_decoded, draw_reference, sample_seeds, shape_of
from da3_ros.training.initial import initial_network
from da3_ros.training.journal import Journal
from da3_ros.training.optim import RunningMean, Schedule, Stepper, make_optimizers
from da3_ros.training.parts import write_parts
from da3_ros.training.pictures import contact_sheet
from da3_ros.training.processes import Processes
from da3_ros.training.step import TrainingStep

_LAST_SECONDS = 8.0             # of a time budget, kept for the last checkpoint


class Trainer:
    """One run: the network, its optimiser, and where they have got to."""

    def __init__(self, config: RunConfig, source: Source, folder: Path, processes: Processes):
        """Begins the run, or goes on with the one in ``folder``."""
        self.config, self.source, self.folder, self.processes = config, source, folder, processes
        device = processes.device
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True       # few shapes, many steps
            # torch's choice on Hopper since 2.11; its backward pass has known errors (pytorch issues 169849, 196678)
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.network = initial_network(VARIANTS[config.variant], config.seed, device)
        if config.init:
            load_weights(self.network, Path(config.init).expanduser(), keep=config.fresh)
        if device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not _is_unused(name))
        self.step_module = TrainingStep(self.network, config.losses, bf16=config.bf16)
        self.stepper = Stepper(make_optimizers(self.network, config.weight_decay), config.clip)
        self.mean = RunningMean(self.network, config.ema)
        decay_start = max(config.warmup, round(config.steps * (1 - config.decay)))
        self.schedule = Schedule(config.learning_rate, config.warmup, decay_start, config.steps)
        self._ahead = Ahead(self._batches, config.together, device)
        self.done = 0
        found = load_state(folder / STATES, config, self.network, self.mean, self.stepper.optimizers)
        if found is not None:
            self.done, self.schedule = found
        for shape in config.shapes:
            self.network.prepare(*shape.size)
        if config.compile:
            self.step_module.compile_parts()
        self._captured: dict[Shape, CapturedStep] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def run(self, minutes: float | None = None) -> bool:
        """Trains to the end; whether it was reached. Before it, a signal to end or the time budget ``minutes`` stop it.

        Either way a checkpoint is written, with the running mean of the weights beside it. A time budget also brings
        the descent of the learning rate forward, so that it fits.
        """
        start = time.monotonic()
        journal = Journal(self.folder, self.done, self.schedule.steps) if self.processes.leads else None
        budget = None if minutes is None else 60 * minutes - _LAST_SECONDS
        last, samples = (self.done, time.monotonic()), 0
        paces: deque[float] = deque(maxlen=7)
        with _asked_to_end() as asked:
            while self.done < self.schedule.steps:
                samples += self._shape(self.done).batch * self.processes.size
                figures = self.train_step()
                if self.done % self.config.log_every == 0 or self.done == self.schedule.steps:
                    now = time.monotonic()
                    paces.append((now - last[1]) / (self.done - last[0]))       # seconds a step
                    if journal:
                        known = {"rate": self.schedule(self.done - 1), "samples/s": samples / (now - last[1])}
                        journal.report(self.done, figures, known)
                    last, samples = (self.done, now), 0
                    left = None if budget is None else budget - (now - start)
                    if left is not None:
                        self._keep_time(left, median(paces))
                    if self.processes.from_leader(float(bool(asked) or (left is not None and left <= 0))):
                        break
                if journal and journal.shows_pictures and self.done % self.config.pictures_every == 0:
                    self._show(journal)
                if self.done % self.config.checkpoint_every == 0:
                    if journal:
                        journal.keep()
                    self.save()
        if journal:
            journal.close()
        self.save()
        return self.done >= self.schedule.steps

    def train_step(self) -> dict[str, Tensor]:
        """The next update of the weights; the terms of the loss and the norm of the gradients, on the device."""
        shape = self._shape(self.done)
        rank, device = self.processes.rank, self.processes.device
        batch = self._ahead.take(self.done // self.config.uses)
        draw = (self.config.seed, self.done, rank, shape)
        reference = draw_reference(*draw, self._posed(shape), device)
        share = self.config.decoded
        decoded = () if share == 1 else (draw_decoded(*draw, share, device),)
        figures = self._gradients(shape, batch, reference, *decoded)
        self.processes.average(self.stepper.gradient)
        norm = self.stepper.step(self.schedule(self.done))
        self.mean.update(self.done)
        self.done += 1
        return {**figures, "gradient norm": norm}

    def _posed(self, shape: Shape) -> int:
        return round(self.config.posed * shape.batch)

    def _gradients(self, shape: Shape, batch: SceneBatch, reference: Tensor, *decoded: Tensor) -> dict[str, Tensor]:
        """Adds a batch's gradients to those that the stepper holds; the terms of the loss."""

        def passes(batch: SceneBatch, reference: Tensor, *decoded: Tensor) -> dict[str, Tensor]:
            figures = self.step_module(batch, reference, self._posed(shape), *decoded)
            figures["loss"].backward()
            return {name: value.detach() for name, value in figures.items()}

        if self._pool is None:
            return passes(batch, reference, *decoded)
        if shape not in self._captured:
            reset = self.stepper.gradient.zero_
            self._captured[shape] = CapturedStep(passes, batch, (reference, *decoded), reset, self._pool)
        return self._captured[shape](batch, reference, *decoded)

    def save(self) -> None:
        """Writes the state of the run, and its weights by themselves: fp16, in parts."""
        if self.processes.leads:
            optimizers = self.stepper.optimizers
            save_state(
                self.folder / STATES, self.done, self.config, self.schedule, self.network, self.mean, optimizers
            )
            write_parts(published(self.mean.weights, torch.float16), self.folder / WEIGHTS)

    def _shape(self, step: int) -> Shape:
        return shape_of(self.config, step // self.config.uses // self.config.together)

    def _batches(self, group: int) -> SceneBatch:
        """Those of a group, which are of one kind, as one."""
        shape, together = shape_of(self.config, group), self.config.together
        place = (self.processes.rank, shape.batch, self.processes.device)
        numbers = range(group * together, (group + 1) * together)
        seeds = torch.cat([sample_seeds(self.config.seed, number, *place) for number in numbers])
        return self.source(seeds, shape.views, shape.size)

    def _keep_time(self, left: float, pace: float) -> None:
        """Begins the descent, and ends it, when the time budget wants it: ``left`` seconds at ``pace`` seconds a step.

        The leading process decides.
        """
        schedule, share = self.schedule, self.config.decay
        total = self.done + max(0.0, left) / pace
        if self.done < schedule.warmup or not share:
            return
        decay_start, steps = schedule.decay_start, schedule.steps
        if self.done < decay_start and self.done >= total * (1 - share):
            decay_start = self.done
        if decay_start <= self.done:
            steps = max(self.done + 1, min(round(total), self.config.steps))
        decay_start, steps = (int(self.processes.from_leader(value)) for value in (decay_start, steps))
        self.schedule = replace(schedule, decay_start=decay_start, steps=steps)

    @torch.no_grad()
    def _show(self, journal: Journal) -> None:
        """The first sample of the next step, as the network sees it now."""
        shape = self._shape(self.done)
        seeds = sample_seeds(self.config.seed, self.done, self.processes.rank, 1, self.processes.device)
        batch = self.source(seeds, shape.views, shape.size)
        with torch.compiler.set_stance("force_eager"):      # not worth compiling for one sample
            answer = self.step_module.answer(batch, torch.zeros(1, dtype=torch.int64, device=seeds.device))
        journal.picture(self.done, "image, depth, prediction, confidence", contact_sheet(batch, answer))


def _is_unused(name: str) -> bool:
    """Parameters that published files hold but nothing computes with: three of the four auxiliary output stacks."""
    return any(f"_aux.{level}." in name for level in range(3)) and not name.startswith(
        ("head.scratch.output_conv2_aux.0.2.", "head.scratch.refinenet")
    )


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """Collects signals to end instead of dying of them: a step is finished and the state written first."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
