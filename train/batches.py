"""Which footage each step sees: drawn by sample, read ahead of the loop in a thread, put on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor

from vidtrans.errors import UsageError
from vidtrans.nets.contract import Domain, to_unit
from vidtrans.train.augment import Augment
from vidtrans.train.data import Frames
from vidtrans.train.draws import Draws
from vidtrans.train.ranks import Ranks
from vidtrans.train.recipe import TrainOptions
from vidtrans.train.step import Batch


def pair(draws: Draws, domains: int) -> tuple[int, int]:
    """The two domains of a step, every unordered pair equally likely; a step trains both of its directions."""
    first = draws.integer("pair", domains)
    second = (first + 1 + draws.integer("pair's second", domains - 1)) % domains
    return min(first, second), max(first, second)


class Batches:
    """The batches of a run, each a function of its step and of the recipe's seed alone.

    Attributes:
        waited: seconds that the loop has waited for footage so far.
    """

    def __init__(
        self,
        frames: Sequence[Frames],
        domains: Sequence[Domain],
        options: TrainOptions,
        device: torch.device,
        *,
        offsets: Callable[[Draws], tuple[int, ...]],
        augment: Augment,
        ranks: Ranks | None = None,
    ) -> None:
        """offsets: which frames of a sample a step wants, see `Step.offsets`.

        Raises:
            UsageError: the batch cannot be shared evenly by the ranks.
        """
        self.waited = 0.0
        self._frames = frames
        self._domains = domains
        self._options = options
        self._device = device
        self._offsets = offsets
        self._augment = augment
        self._ranks = ranks or Ranks()
        shares = options.accumulate * self._ranks.count
        if options.batch % shares:
            raise UsageError(
                f"train.batch ({options.batch}) cannot be shared by {self._ranks.count} processes in "
                f"{options.accumulate} parts each; make it a multiple of {shares}"
            )
        # One thread: readers of videos are not made for several.
        self._reader = ThreadPoolExecutor(1, "footage")
        self._ahead: tuple[int, Future[list[tuple[Tensor, Tensor]]]] | None = None

    def draws(self, step: int) -> list[Draws]:
        """Of the parts in which this rank takes its share of a step.

        Part k of all ranks together comes before part k + 1 of any, so that a sample's index is the same however the
        batch is cut.
        """
        count = self._options.batch // (self._options.accumulate * self._ranks.count)
        parts = range(self._options.accumulate)
        seed, ranks = self._options.seed, self._ranks
        return [Draws(seed, step, (part * ranks.count + ranks.number) * count, count) for part in parts]

    def parts(self, step: int) -> list[Batch]:
        """This rank's share of a step's unpaired footage of one pair of domains."""
        started = time.monotonic()
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._reader.submit(self._read, step)
        clips = self._ahead[1].result()
        self.waited += time.monotonic() - started
        self._ahead = step + 1, self._reader.submit(self._read, step + 1)
        draws = self.draws(step)
        numbers = pair(draws[0], len(self._frames))
        domains = self._domains[numbers[0]], self._domains[numbers[1]]
        batches = []
        for part, (x, y) in zip(draws, clips, strict=True):
            pictures = self._prepared(x, numbers[0], part), self._prepared(y, numbers[1], part)
            batches.append(Batch(domains, pictures, part))
        return batches

    @property
    def frames_per_step(self) -> int:
        """Frames of both domains in a step, on all ranks."""
        return 2 * self._options.batch * len(self._offsets(self.draws(0)[0]))

    def settle(self) -> None:
        """Wait until nothing is read ahead, so that the frames may be read by others."""
        if self._ahead is not None:
            wait([self._ahead[1]])

    def samples(self, step: int, number: int, offsets: tuple[int, ...] = (0,)) -> Tensor:
        """Clips (B, T, 3, H, W) of one domain as they are, for people to look at; offsets: which T frames of each."""
        draws = Draws(self._options.seed, step, 0, self._options.batch)
        clips = self._reader.submit(self._drawn, number, draws, offsets).result()
        frames = to_unit(clips.to(self._device).flatten(0, 1))
        return frames.view(*clips.shape[:2], *frames.shape[1:])

    def _read(self, step: int) -> list[tuple[Tensor, Tensor]]:
        draws = self.draws(step)
        first, second = pair(draws[0], len(self._frames))
        offsets = self._offsets(draws[0])
        return [(self._drawn(first, part, offsets), self._drawn(second, part, offsets)) for part in draws]

    def _drawn(self, number: int, draws: Draws, offsets: tuple[int, ...]) -> Tensor:
        """(B, T, H, W, 3) uint8: each sample begins anywhere from where its frames stay within one sequence."""
        frames = self._frames[number]
        starts = frames.starts(offsets)
        chosen = [int(starts[index]) for index in draws.integers(f"frames {number}", len(starts))]
        clips = frames.clips(chosen, offsets)
        return clips.pin_memory() if self._device.type == "cuda" else clips

    def _prepared(self, clips: Tensor, number: int, draws: Draws) -> Tensor:
        """(B, T, 3, H, W) in [-1, 1] on the device, augmented."""
        x = to_unit(clips.to(self._device, non_blocking=True).flatten(0, 1)).view(
            *clips.shape[:2], 3, *clips.shape[2:4]
        )
        seeds = [draws.generator(f"augment {number}", k).initial_seed() for k in range(draws.count)]
        x = self._augment(x, seeds, is_label=self._domains[number].is_label).flatten(0, 1)
        x = x.to(torch.float64 if self._options.precision == "fp64" else torch.float32)
        layout = torch.channels_last if self._options.channels_last else torch.contiguous_format
        x = x.contiguous(memory_format=layout)
        return x.view(draws.count, -1, *x.shape[1:])
