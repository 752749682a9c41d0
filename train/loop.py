"""The training loop: Algorithm 1 repeated, with its bookkeeping."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vidtrans.checkpoint import Model, save_model
from vidtrans.errors import DeviceError, UsageError, VidtransError
from vidtrans.nets.contract import to_unit
from vidtrans.nets.jwdm import JWDM
from vidtrans.train.augment import Augment, sample_seed
from vidtrans.train.data import Frames, open_frames
from vidtrans.train.journal import Journal
from vidtrans.train.jwdm_step import JWDMStep
from vidtrans.train.optimisers import Optimisers
from vidtrans.train.recipe import Recipe, TrainOptions, parse_recipe
from vidtrans.train.state import load_state, save_state

STATE = "state.safetensors"
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Progress:
    """What the loop reports while it runs: step of total, losses by name, steps per second."""

    step: int
    total: int
    losses: dict[str, float]
    steps_per_second: float


def total_steps(options: TrainOptions, frames: int) -> tuple[int, int, int]:
    """(warmup, constant, decay) in steps; an epoch shows `frames` frames of each domain."""
    per_unit = 1 if options.unit == "steps" else max(1, frames // options.batch)
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
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.options = recipe.train
        self.device = training_device(device)
        folder.mkdir(parents=True, exist_ok=True)
        self.frames: list[Frames] = [
            open_frames(
                row,
                number,
                recipe.data,
                cache or folder / "cache",
                report,
                lists=folder / "data",
                resumed=(folder / STATE).is_file(),
                device=str(self.device),
            )
            for number, row in enumerate(recipe.domains)
        ]
        torch.manual_seed(self.options.seed)
        net = JWDM(recipe.net_config())
        self.step_module = JWDMStep(net, recipe.loss, self.device, self.options.precision == "bf16").to(self.device)
        self.is_random_start = init_from is None
        if init_from is not None:
            _start_from(net, init_from)
        self.net = net
        self.average = copy.deepcopy(net).requires_grad_(False)
        kind, lr, betas = self.options.optimiser, self.options.lr, self.options.betas
        self.generators = Optimisers(net.parameters(), kind, lr, betas)
        self.adversaries = Optimisers(self.step_module.discriminators(), "adam", lr, betas)
        self.augment = Augment(recipe.data)
        self.step = 0
        longest = max(len(frames) for frames in self.frames)
        self.warmup, self.constant, self.decay = total_steps(self.options, longest)
        self.journal = Journal(folder, [row.name for row in recipe.domains])
        (folder / "recipe.json").write_text(json.dumps(recipe.to_json(), indent=1))

    @property
    def total(self) -> int:
        return self.constant + self.decay

    def advance(self, until: int | None = None, show: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train up to step `until` (default: the end), then save."""
        end = self.total if until is None else min(until, self.total)
        started, first = time.monotonic(), self.step
        while self.step < end:
            losses = self._one_step()
            self.step += 1
            if self.step % self.options.log_every == 0 or self.step == end:
                numbers = {name: value.item() for name, value in losses.items()}
                _stop_if_broken(numbers, self.step, self.folder)
                speed = (self.step - first) / (time.monotonic() - started)
                show(Progress(self.step, self.total, numbers, speed))
                self.journal.scalars(self.step, numbers, speed)
            if self.step % self.options.sample_every == 0 or self.step == end:
                self.journal.grid(self.step, self.average, *self._batches(self.step, augmented=False))
            if self.step % self.options.save_every == 0 or self.step == end:
                self.save()

    def _one_step(self) -> dict[str, Tensor]:
        """Algorithm 1, one round."""
        torch.manual_seed(step_seed(self.options.seed, self.step))
        for optimisers in (self.adversaries, self.generators):
            optimisers.set_rate(self.options.lr * rate_at(self.step, self.constant, self.decay))
        x, y = self._batches(self.step)
        losses = self._reconstruct(x, y) if self.step < self.warmup else self._play(x, y)
        self._update_average()
        return {name: value.detach() for name, value in losses.items()}

    def _reconstruct(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        losses = self.step_module.reconstruction_loss(x, y)
        self.generators.descend(losses.values())
        return losses

    def _play(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Forward, ascend Dx, Dy, Dz, descend F."""
        step = self.step_module

        streams = step(x, y)

        adversary = step.discriminator_loss(x, y, streams)
        self.adversaries.descend(adversary.values())

        for parameter in step.discriminators():
            parameter.requires_grad_(False)
        losses = step.generator_loss(x, y, streams)
        self.generators.descend(losses.values())
        for parameter in step.discriminators():
            parameter.requires_grad_(True)
        return {**losses, **adversary}

    def _batches(self, step: int, augmented: bool = True) -> tuple[Tensor, Tensor]:
        """Unpaired x and y (B, 3, H, W) in [-1, 1]: each domain draws its own indices."""
        batches = []
        for number, frames in enumerate(self.frames):
            generator = torch.Generator().manual_seed(step_seed(self.options.seed + 7919 * (number + 1), step))
            indices = torch.randint(len(frames), (self.options.batch,), generator=generator).tolist()
            batch = to_unit(frames.batch(indices).to(self.device))
            if augmented:
                seeds = [sample_seed(self.options.seed, step, number, place) for place in range(len(indices))]
                batch = self.augment(batch, seeds, is_label=self.recipe.domains[number].domain.is_label)
            batches.append(batch)
        return batches[0], batches[1]

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

    def save(self) -> None:
        """Write the state to resume from and the model to use, each atomically."""
        facts = {"step": self.step, "recipe": self.recipe.to_json(), "random_start": self.is_random_start}
        save_state(self.folder / STATE, self._modules(), self._optimisers(), facts)
        save_model(self.folder / MODEL, self.average, trained=facts)

    def resume(self) -> None:
        """Continue from the folder's state file.

        Raises:
            InputError: there is none, or it does not fit the recipe's networks.
        """
        facts = load_state(self.folder / STATE, self._modules(), self._optimisers())
        self.step = int(facts["step"])
        self.is_random_start = bool(facts["random_start"])


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


def _start_from(net: JWDM, model: Model) -> None:
    try:
        net.load_state_dict(model.net.state_dict())
    except RuntimeError as error:
        raise UsageError(
            "--init-from: that model's network has another shape or other domains than the recipe's"
        ) from error


def _stop_if_broken(losses: dict[str, float], step: int, folder: Path) -> None:
    broken = [name for name, value in losses.items() if value != value or abs(value) == float("inf")]
    if broken:
        raise VidtransError(
            f"training diverged at step {step} ({', '.join(broken)} not finite); last good state: {folder / STATE}"
        )
