"""The training loop: Algorithm 1 repeated, with its bookkeeping."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from kornia.augmentation import AugmentationSequential, RandomCrop, RandomHorizontalFlip
from torch import Tensor, nn

from vidtrans.checkpoint import Model, save_model
from vidtrans.errors import DeviceError, OutputError, TrainingStopped, UsageError
from vidtrans.files import write_atomically
from vidtrans.nets import make_net
from vidtrans.nets.contract import to_unit
from vidtrans.train import pictures
from vidtrans.train.data import Frames, open_frames
from vidtrans.train.draws import Draws
from vidtrans.train.health import Health
from vidtrans.train.held_back import held_back, score
from vidtrans.train.journal import Journal
from vidtrans.train.keep import Keeper
from vidtrans.train.methods import imported, method_named
from vidtrans.train.optimisers import Optimisers
from vidtrans.train.recipe import Recipe, TrainOptions, parse_recipe
from vidtrans.train.session import Sessions
from vidtrans.train.signals import stop_signals
from vidtrans.train.state import load_state, save_state
from vidtrans.train.step import Batch, Step


@dataclass(frozen=True)
class Progress:
    """What the loop reports while it runs: step of total, losses by name, steps per second."""

    step: int
    total: int
    losses: dict[str, float]
    steps_per_second: float


def total_steps(options: TrainOptions, frames: int, domains: int) -> tuple[int, int, int]:
    """(warmup, constant, decay) in steps; an epoch shows `frames` frames of each domain, two domains in a step."""
    per_unit = 1 if options.unit == "steps" else max(1, frames * domains // (2 * options.batch))
    return options.warmup * per_unit, options.constant * per_unit, options.decay * per_unit


def rate_at(step: int, constant: int, decay: int) -> float:
    """Factor of the learning rate at a step: 1, then a straight line that would reach 0 one step after the last."""
    return 1.0 if step < constant else 1.0 - (step - constant + 1) / (decay + 1)


def pair(draws: Draws, domains: int) -> tuple[int, int]:
    """The two domains of a step, every unordered pair equally likely; a step trains both of its directions."""
    first = draws.integer("pair", domains)
    second = (first + 1 + draws.integer("pair's second", domains - 1)) % domains
    return min(first, second), max(first, second)


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
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.options = recipe.train
        self.device = training_device(device)
        self.report = report
        folder.mkdir(parents=True, exist_ok=True)
        self.frames: list[Frames] = []
        self.held_back: list[Frames] = []
        for number, row in enumerate(recipe.domains):
            frames = open_frames(row, number, recipe.data, cache or folder / "cache", report)
            seen, unseen = held_back(frames, recipe.keep.held_back, row.name)
            self.frames.append(seen)
            self.held_back.append(unseen)
        torch.manual_seed(self.options.seed)
        method = method_named(recipe.method)
        net = make_net(method.family, recipe.net_config().to_json())
        step_class = imported(method.step)
        self.step_module: Step = step_class(net, recipe.loss, self.device, self.options.precision).to(self.device)
        self.is_random_start = init_from is None
        if init_from is not None:
            _start_from(net, init_from)
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(False)
        kind, lr, betas = self.options.optimiser, self.options.lr, self.options.betas
        self.generators = Optimisers(net.parameters(), kind, lr, betas)
        self.adversaries = Optimisers(self.step_module.discriminators(), "adam", lr, betas)
        self.augment = _augmentation(recipe)
        self.step = 0
        longest = max(len(frames) for frames in self.frames)
        self.warmup, self.constant, self.decay = total_steps(self.options, longest, len(self.frames))
        self.journal = Journal(folder)
        self.keeper = Keeper(folder, recipe.keep)
        self.health = Health(recipe.keep)
        self.sessions = Sessions(folder, self.device)
        write_atomically(folder / "recipe.json", json.dumps(recipe.to_json(), indent=1).encode())

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
        started, first, options = time.monotonic(), self.step, self.options
        with self._kept_safe(), stop_signals(self.report) as stop:
            while self.step < end:
                losses = self._one_step()
                self.step += 1
                if self._is_due(options.log_every, end):
                    speed = (self.step - first) / (time.monotonic() - started)
                    self._log({name: value.item() for name, value in losses.items()}, speed, show)
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

    def _log(self, numbers: dict[str, float], speed: float, show: Callable[[Progress], None]) -> None:
        self.health.check(self.step, numbers, self.keeper.good)
        show(Progress(self.step, self.total, numbers, speed))
        self.journal.scalars(self.step, {**numbers, "steps_per_second": speed})

    def _draw(self) -> None:
        names = [domain.name for domain in self.net.domains]
        self.journal.picture(self.step, pictures.samples(self.average, self._samples(self.step), names))
        self.journal.picture(self.step, pictures.between(self.average, self._moments, names), "between")

    @cached_property
    def _moments(self) -> list[Tensor]:
        size = self.recipe.data.size
        rows = zip(self.recipe.domains, self.frames, strict=True)
        return [pictures.moments(row, frames, size, self.device) for row, frames in rows]

    def _score(self) -> float | None:
        """The recipe's score of the averaged networks, written down; None where it has none."""
        kind = self.recipe.keep.best
        if kind == "none":
            return None
        value = score(kind, self.average, self.held_back, self.device)
        self.journal.scalars(self.step, {f"held_back_{kind}": value})
        return value

    @contextmanager
    def _kept_safe(self) -> Iterator[None]:
        """Around training: alone in the folder, its sessions written down, and a full disk is a sentence."""
        try:
            with self.keeper.alone(), self.sessions.one(lambda: self.step, self.total):
                self.keeper.clean()
                yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{self.folder} cannot be written ({reason}); {self.keeper.good()}") from error

    def _one_step(self) -> dict[str, Tensor]:
        """Algorithm 1, one round."""
        for optimisers in (self.adversaries, self.generators):
            optimisers.set_rate(self.options.lr * rate_at(self.step, self.constant, self.decay))
        batch = self._batch()
        torch.manual_seed(step_seed(self.options.seed, self.step))
        losses = self._reconstruct(batch) if self.step < self.warmup else self._play(batch)
        self._update_average()
        return {name: value.detach() for name, value in losses.items()}

    def _reconstruct(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.step_module.warmup_loss(batch)
        self.generators.descend(losses.values())
        return losses

    def _play(self, batch: Batch) -> dict[str, Tensor]:
        """Forward, ascend the discriminators, descend F."""
        step = self.step_module

        streams = step(batch)

        adversary = step.discriminator_loss(batch, streams)
        self.adversaries.descend(adversary.values())

        for parameter in step.discriminators():
            parameter.requires_grad_(False)
        losses = step.generator_loss(batch, streams)
        self.generators.descend(losses.values())
        for parameter in step.discriminators():
            parameter.requires_grad_(True)
        return {**losses, **adversary}

    def _batch(self) -> Batch:
        """Unpaired footage of this step's pair of domains: each domain draws its own frames."""
        draws = Draws(self.options.seed, self.step, 0, self.options.batch)
        first, second = pair(draws, len(self.frames))
        clips = self._clips(first, draws), self._clips(second, draws)
        return Batch((self.net.domains[first], self.net.domains[second]), clips, draws)

    def _clips(self, number: int, draws: Draws) -> Tensor:
        """(B, 1, 3, H, W) in [-1, 1] of one domain, augmented."""
        batch = self._drawn(number, draws)
        if self.augment is not None:
            batch = torch.cat([self._augmented(batch[k : k + 1], number, draws, k) for k in range(draws.count)])
        return batch.unsqueeze(1)

    def _drawn(self, number: int, draws: Draws) -> Tensor:
        indices = draws.integers(f"frames {number}", len(self.frames[number]))
        return to_unit(self.frames[number].batch(indices).to(self.device))

    def _augmented(self, row: Tensor, number: int, draws: Draws, sample: int) -> Tensor:
        torch.manual_seed(draws.generator(f"augment {number}", sample).initial_seed())  # kornia draws from torch's own
        assert self.augment is not None
        return self.augment(row)

    def _samples(self, step: int) -> list[Tensor]:
        """Frames (B, 3, H, W) of every domain as they are, for the grids."""
        draws = Draws(self.options.seed, step, 0, self.options.batch)
        return [self._drawn(number, draws) for number in range(len(self.frames))]

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
        self.keeper.save(self.step, self._write_state, self.write_model, score)
        self.sessions.note(self.step)

    def _facts(self) -> dict[str, Any]:
        return {"step": self.step, "recipe": self.recipe.to_json(), "random_start": self.is_random_start}

    def _write_state(self, path: Path) -> None:
        save_state(path, self._modules(), self._optimisers(), {**self._facts(), "best": self.keeper.best})

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
        self.keeper.best = facts.get("best")
        self.journal.go_back(self.step)


def saved_recipe(folder: Path) -> Recipe:
    """The recipe a run folder was started with."""
    path = folder / "recipe.json"
    if not path.is_file():
        raise UsageError(f"{folder} is not a run folder: it has no recipe.json")
    return parse_recipe(json.loads(path.read_text()))


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


def _augmentation(recipe: Recipe) -> nn.Module | None:
    parts: list[Any] = []
    if recipe.data.crop is not None:
        width, height = recipe.data.crop
        parts.append(RandomCrop((height, width)))
    if recipe.data.flip:
        parts.append(RandomHorizontalFlip(p=0.5))
    return AugmentationSequential(*parts, data_keys=["input"]) if parts else None


def _start_from(net: nn.Module, model: Model) -> None:
    try:
        net.load_state_dict(model.net.state_dict())
    except RuntimeError as error:
        raise UsageError(
            "--init-from: that model's network has another shape or other domains than the recipe's"
        ) from error
