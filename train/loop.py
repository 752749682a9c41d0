"""The training loop: Algorithm 1 repeated, with its bookkeeping."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidtrans.checkpoint import Model, save_model
from vidtrans.errors import DeviceError, OutputError, TrainingStopped, UsageError
from vidtrans.files import write_atomically
from vidtrans.nets import make_net
from vidtrans.nets.translating import frames_at_once
from vidtrans.train import pictures
from vidtrans.train.augment import Augment
from vidtrans.train.batches import Batches
from vidtrans.train.data import Frames, open_frames
from vidtrans.train.health import Health
from vidtrans.train.held_back import score
from vidtrans.train.journal import Journal
from vidtrans.train.keep import STATE, Keeper
from vidtrans.train.methods import imported, method_named
from vidtrans.train.optimisers import Optimisers
from vidtrans.train.ranks import Ranks
from vidtrans.train.recipe import Recipe, TrainOptions, parse_recipe
from vidtrans.train.session import Sessions
from vidtrans.train.signals import stop_signals
from vidtrans.train.starts import check_start, start_from
from vidtrans.train.state import load_state, save_state
from vidtrans.train.step import Batch, Step, hasten


@dataclass(frozen=True)
class Progress:
    """What the loop reports while it runs, rates since it started.

    Attributes:
        step, total: steps done, and to do in all.
        losses: by name, means over all ranks.
        steps_per_second, frames_per_second: the frames of both domains on all ranks.
        data_wait: the share of the time in which nothing was computed because footage was not there yet.
    """

    step: int
    total: int
    losses: dict[str, float]
    steps_per_second: float
    frames_per_second: float
    data_wait: float


def total_steps(options: TrainOptions, frames: int, domains: int) -> tuple[int, int, int]:
    """(warmup, constant, decay) in steps; an epoch shows `frames` frames of each domain, two domains in a step."""
    per_unit = 1 if options.unit == "steps" else max(1, frames * domains // (2 * options.batch))
    return options.warmup * per_unit, options.constant * per_unit, options.decay * per_unit


def rate_at(step: int, constant: int, decay: int) -> float:
    """Factor of the learning rate at a step: 1, then a straight line that would reach 0 one step after the last."""
    return 1.0 if step < constant else 1.0 - (step - constant + 1) / (decay + 1)


def step_seed(seed: int, step: int) -> int:
    """The random state of a step depends on nothing before it, which is what makes a resumed run exact."""
    return (seed * 1_000_003 + step) % 2**63


class Run:
    """One training run in one folder: networks, optimisers, data, position. `advance` takes it to its end.

    A resumed run equals an uninterrupted one bit for bit on a CPU: weights, optimisers and position come from the
    state file, the learning rate and all random draws (frames, augmentation, prior) are functions of the step.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        device: str = "cpu",
        cache: Path | None = None,
        init_from: Model | None = None,
        ranks: Ranks | None = None,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.options = recipe.train
        self.ranks = ranks or Ranks()
        self.device = self.ranks.device or training_device(device)
        self.report = report
        if init_from is not None or not (folder / STATE).is_file():
            check_start(recipe, init_from)
        folder.mkdir(parents=True, exist_ok=True)
        self.frames: list[Frames] = []
        self.held_back: list[Frames] = []
        with self.ranks.in_turn():
            # The first rank writes the lists of frames; the others, later, read what it wrote.
            is_listed = (folder / STATE).is_file() or not self.ranks.is_first
            for number, row in enumerate(recipe.domains):
                seen, unseen = open_frames(
                    row,
                    number,
                    recipe.data,
                    cache or folder / "cache",
                    report,
                    lists=folder / "data",
                    resumed=is_listed,
                    device=str(self.device),
                )
                self.frames.append(seen)
                self.held_back.append(unseen)
        torch.manual_seed(self.options.seed)
        method = method_named(recipe.method)
        net = make_net(method.family, recipe.net_config().to_json())
        self.step_module: Step = imported(method.step)(net, recipe, self.device)
        self.step_module.ranks = self.ranks
        self.step_module.to(self.device, torch.float64 if self.options.precision == "fp64" else torch.float32)
        if self.options.channels_last:
            self.step_module.to(memory_format=torch.channels_last)
        self.is_random_start = init_from is None
        if init_from is not None:
            start_from(net, recipe, init_from)
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(False)
        # Not a part of the step: it would be saved twice, and compiled and trained.
        object.__setattr__(self.step_module, "average", self.average)
        hasten(self.step_module.parts(), self.options)
        self.generators = self._optimisers_of(net.parameters(), self.options.optimiser, self.step_module.helpers())
        self.adversaries = self._optimisers_of(self.step_module.discriminators(), "adam")
        self.batches = Batches(
            self.frames,
            net.domains,
            self.options,
            self.device,
            offsets=self.step_module.offsets,
            augment=Augment(recipe.data),
            ranks=self.ranks,
        )
        self.step = 0
        longest = max(len(frames) for frames in self.frames)
        self.warmup, self.constant, self.decay = total_steps(self.options, longest, len(self.frames))
        self.journal = Journal(folder)
        self.keeper = Keeper(folder, recipe.keep)
        self.health = Health(recipe.keep)
        self.sessions = Sessions(folder, self.device)
        if self.ranks.is_first:
            write_atomically(folder / "recipe.json", json.dumps(recipe.to_json(), indent=1).encode())

    @property
    def model(self) -> Any:
        """The averaged networks in float32, as they are saved."""
        return copy.deepcopy(self.average).float() if self.options.precision == "fp64" else self.average

    def _optimisers_of(
        self, parameters: Iterable[nn.Parameter], kind: str, helpers: Iterable[nn.Parameter] = ()
    ) -> Optimisers:
        options = self.options
        scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        return Optimisers(parameters, kind, options.lr, options.betas, helpers=helpers, scaler=scaler, ranks=self.ranks)

    @property
    def total(self) -> int:
        return self.constant + self.decay

    def advance(self, until: int | None = None, show: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train up to step `until` (default: the end), then save.

        Raises:
            TrainingStopped: SIGTERM or the first Ctrl-C asked for it; everything is saved.
            TrainingDiverged: see health.py; the last good checkpoint is named and stays.
            OutputError: the folder cannot be written; the last checkpoint is named and stays.
        """
        end = self.total if until is None else min(until, self.total)
        started, first, waited, options = time.monotonic(), self.step, self.batches.waited, self.options
        with self._kept_safe(), stop_signals(self.report) as stop:
            while self.step < end:
                losses = self._one_step()
                self.step += 1
                if self._is_due(options.log_every, end):
                    seconds, waited_since = time.monotonic() - started, self.batches.waited - waited
                    self._log(losses, (self.step - first) / seconds, waited_since / seconds, show)
                if self._is_due(options.sample_every, end):
                    self._draw()
                if self._is_due(options.save_every, end):
                    self.save(self._score())
                if stop.asked(meeting=self._is_due(options.log_every, end)) and self.step < end:
                    # No score: the best of a run must not depend on when it was stopped.
                    self.save()
                    raise TrainingStopped(f"stopped by {stop.name} at step {self.step}; {self.keeper.good()}")

    def _is_due(self, every: int, end: int) -> bool:
        return self.step % every == 0 or self.step == end

    def _log(self, losses: dict[str, Tensor], speed: float, wait: float, show: Callable[[Progress], None]) -> None:
        values = torch.stack([value.double() for value in losses.values()])
        self.ranks.average([values])
        numbers = dict(zip(losses, values.tolist(), strict=True))
        self.health.check(self.step, numbers, self.keeper.good)
        if not self.ranks.is_first:
            return
        rates = {
            "steps_per_second": speed,
            "frames_per_second": speed * self.batches.frames_per_step,
            "data_wait": wait,
        }
        self.journal.scalars(self.step, {**numbers, **rates})
        show(Progress(self.step, self.total, numbers, **rates))

    def _draw(self) -> None:
        if not self.ranks.is_first:
            return
        names = [domain.name for domain in self.net.domains]
        self.journal.picture(self.step, pictures.samples(self.model, self._samples(self.step), names))
        self.journal.picture(self.step, pictures.between(self.model, self._moments, names), "between")

    @cached_property
    def _moments(self) -> list[Tensor]:
        size = self.recipe.data.size
        rows = zip(self.recipe.domains, self.frames, strict=True)
        return [pictures.moments(row, frames, size, self.device) for row, frames in rows]

    def _score(self) -> float | None:
        """The recipe's score of the averaged networks, written down; None where it has none."""
        kind = self.recipe.keep.best
        if kind == "none" or not self.ranks.is_first:
            return None
        self.batches.settle()
        value = score(kind, self.model, self.held_back, self.device)
        self.journal.scalars(self.step, {f"held_back_{kind}": value})
        return value

    @contextmanager
    def _kept_safe(self) -> Iterator[None]:
        """Around training: alone in the folder, its sessions written down, and a full disk is a sentence."""
        if not self.ranks.is_first:
            yield
            return
        try:
            with self.keeper.alone(), self.sessions.one(lambda: self.step, self.total):
                self.keeper.clean()
                yield
                self.journal.close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{self.folder} cannot be written ({reason}); {self.keeper.good()}") from error

    def _one_step(self) -> dict[str, Tensor]:
        """Algorithm 1, one round."""
        rate = self.options.lr * rate_at(self.step, self.constant, self.decay)
        self.generators.set_rate(rate)
        self.adversaries.set_rate(rate * self.options.discriminator_rate)
        parts = self.batches.parts(self.step)
        torch.manual_seed(step_seed(self.options.seed, self.step))
        losses = self._reconstruct(parts) if self.step < self.warmup else self._play(parts)
        self._update_average()
        return losses

    def _reconstruct(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Descend F on its reconstructions."""
        terms = [self._add(self.generators, self.step_module.warmup_loss(batch), parts) for batch in parts]
        self.generators.step()
        return _means(terms)

    def _play(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Forward, ascend the discriminators, descend F."""
        step = self.step_module
        # Several parts are passed forward again for the descent, so that only one of them is held at a time.
        only = step(parts[0]) if len(parts) == 1 else None

        ascent = []
        for batch in parts:
            streams = only or _forward_only(step, batch)
            ascent.append(self._add(self.adversaries, step.discriminator_loss(batch, streams), parts))
        self.adversaries.step()

        descent = []
        with _frozen(step.discriminators()):
            for batch in parts:
                streams = only or step(batch)
                descent.append(self._add(self.generators, step.generator_loss(batch, streams), parts))
        self.generators.step()
        return _means(descent) | _means(ascent)

    @staticmethod
    def _add(side: Optimisers, losses: dict[str, Tensor], parts: list[Batch]) -> dict[str, Tensor]:
        side.add(losses.values(), 1.0 / len(parts))
        return {name: value.detach() for name, value in losses.items()}

    def _samples(self, step: int) -> list[Tensor]:
        """Clips (B, T, 3, H, W) of every domain as they are, for people to look at; T: what the net takes at once."""
        offsets = tuple(self.recipe.data.clip_distance * k for k in range(frames_at_once(self.net)))
        return [self.batches.samples(step, number, offsets) for number in range(len(self.frames))]

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average must not remember a random start.
        young = (1 + self.step) / (10 + self.step) if self.is_random_start else 1.0
        decay = min(self.options.ema, young)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1.0 - decay)

    def _modules(self) -> dict[str, nn.Module]:
        return {"step": self.step_module, "average": self.average}

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            f"{side}-{name}": part
            for side, optimisers in (("adversaries", self.adversaries), ("generators", self.generators))
            for name, part in optimisers.parts.items()
        }

    def save(self, score: float | None = None) -> None:
        """Write the state to resume from and the model to use, each atomically (see keep.py).

        score: of this step's model, where the best one is kept.
        """
        self.health.check_numbers(self.step, self._modules().values(), self.keeper.good)
        if self.ranks.is_first:
            self.keeper.save(self.step, self._write_state, self.write_model, score)
            self.sessions.note(self.step)
        self.ranks.meet()

    def _facts(self) -> dict[str, Any]:
        return {"step": self.step, "recipe": self.recipe.to_json(), "random_start": self.is_random_start}

    def _write_state(self, path: Path) -> None:
        scales = self.generators.scale, self.adversaries.scale
        facts = {**self._facts(), "best": self.keeper.best, "scales": scales}
        save_state(path, self._modules(), self._optimisers(), facts)

    def write_model(self, path: Path, quality: dict[str, Any] | None = None) -> None:
        """The averaged networks as a model; quality: what was measured of it."""
        best = self.keeper.best
        chosen = {"score": best} if best is not None and best["step"] == self.step else {}
        save_model(path, self.average, trained={**self._facts(), **chosen}, quality=quality)

    def resume(self, step: int | None = None) -> None:
        """Continue from the folder's newest checkpoint, or from the older one of that step.

        Raises:
            InputError: there is none, or it does not fit the recipe's networks.
        """
        facts = load_state(self.keeper.state_of(step), self._modules(), self._optimisers())
        self.step = int(facts["step"])
        self.is_random_start = bool(facts["random_start"])
        self.generators.scale, self.adversaries.scale = facts.get("scales", ({}, {}))
        self.keeper.best = facts.get("best")
        if self.ranks.is_first:
            self.journal.go_back(self.step)


def saved_recipe(folder: Path) -> Recipe:
    """The recipe a run folder was started with."""
    try:
        return parse_recipe(json.loads((folder / "recipe.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is not a run folder: its recipe.json cannot be read ({error})") from error


def training_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        DeviceError: it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu") from error
    return device


@contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(False)
    yield
    for parameter in parameters:
        parameter.requires_grad_(True)


@torch.no_grad()
def _forward_only(step: Step, batch: Batch) -> Any:
    return step(batch)


def _means(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in terms]).mean(0) for name in terms[0]}
