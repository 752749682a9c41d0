"""What a domain's frames are to the training loop: sequences of frames, read at random by global index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vidtrans.errors import InputError, UsageError

Report = Callable[[str], None]


class Frames(ABC):
    """A domain's footage: sequences (a video, a run of numbered images, a street), one after another.

    Frame i of sequence s has the global index sum(lengths[:s]) + i. All frames have one size, that of training.

    Attributes:
        lengths: (S,) int64, frames of each sequence, each at least 1.
        broken: name of each file found damaged so far -> what is wrong with it.
    """

    def __init__(self, lengths: Sequence[int], *, strict: bool = False, report: Report = lambda text: None) -> None:
        """strict: an unreadable frame is an error; else another takes its place and `report` gets a line, once."""
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.broken: dict[str, str] = {}
        self._ends = np.cumsum(self.lengths)
        self._starts: dict[tuple[int, ...], np.ndarray] = {}
        self._unreadable: set[int] = set()
        self._strict = strict
        self._report = report

    def __len__(self) -> int:
        return int(self.lengths.sum())

    @abstractmethod
    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        """Each frame as (H, W, 3) uint8, or what is wrong with it. indices: ascending, each once."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Where a frame comes from, for people: its file or street."""

    def locate(self, index: int) -> tuple[int, int]:
        """(sequence, frame in it) of a global index."""
        sequence = int(np.searchsorted(self._ends, index, side="right"))
        return sequence, index - int(self._ends[sequence] - self.lengths[sequence])

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Single frames: (B, H, W, 3) uint8."""
        return self.clips(indices, (0,))[:, 0]

    def starts(self, offsets: Sequence[int]) -> np.ndarray:
        """The global indices from which a clip of these offsets stays inside its sequence, ascending.

        Raises:
            UsageError: there are none, or the offsets are not 0 and ascending numbers after it.
        """
        key = tuple(offsets)
        if key not in self._starts:
            if key[0] != 0 or any(later <= earlier for earlier, later in pairwise(key)):
                raise UsageError(f"a clip's offsets must begin at 0 and ascend, not {list(key)}")
            left = np.repeat(self._ends, self.lengths) - np.arange(len(self))  # frames from here to the sequence's end
            found = np.flatnonzero(left > key[-1])
            if not len(found):
                raise UsageError(
                    f"no sequence is long enough for a clip over {key[-1] + 1} frames; the longest has "
                    f"{self.lengths.max()} ({self.name(int(self._ends[self.lengths.argmax()]) - 1)})"
                )
            self._starts[key] = found
        return self._starts[key]

    def clips(self, starts: Sequence[int], offsets: Sequence[int]) -> Tensor:
        """Frames start + offset of each start: (B, K, H, W, 3) uint8.

        A clip with an unreadable frame is replaced by the next one that can be read, in the order of `starts(offsets)`
        and round its end: a function of the index and the files alone, so that a resumed run draws the same.

        Args:
            starts: global indices, taken from `starts(offsets)`.
            offsets: 0 and ascending numbers after it.

        Raises:
            ValueError: a clip would cross its sequence's border.
            InputError: a frame cannot be read and that is fatal (`strict`), or no clip at all can be read.
        """
        order = self.starts(offsets)
        places = np.searchsorted(order, starts)
        if any(place >= len(order) or order[place] != start for place, start in zip(places, starts, strict=True)):
            raise ValueError(f"a clip of offsets {list(offsets)} from one of {list(starts)} leaves its sequence")
        frames: dict[int, Tensor] = {}
        steps = np.zeros(len(places), dtype=np.int64)
        while True:
            clips = [[int(order[place]) + offset for offset in offsets] for place in (places + steps) % len(order)]
            wanted = {index for clip in clips for index in clip}
            self._fetch(sorted(wanted - frames.keys() - self._unreadable), frames)
            bad = [any(index in self._unreadable for index in clip) for clip in clips]
            if not any(bad):
                return torch.stack([torch.stack([frames[index] for index in clip]) for clip in clips])
            steps += np.asarray(bad)
            if steps.max() >= len(order):
                raise InputError(f"nothing can be read: {next(iter(self.broken.values()))}")

    def _fetch(self, indices: list[int], into: dict[int, Tensor]) -> None:
        if not indices:
            return
        for index, frame in zip(indices, self.read(indices), strict=True):
            if isinstance(frame, Tensor):
                into[index] = frame
                continue
            if self._strict:
                raise frame
            self._unreadable.add(index)
            name = self.name(index)
            if name not in self.broken:
                self.broken[name] = str(frame)
                self._report(f"{frame}; skipped, the next one takes its place ({len(self.broken)} so far)")


class Part(Frames):
    """Some ranges of another domain's frames, each inside one sequence of it, as sequences of their own."""

    def __init__(self, whole: Frames, ranges: Sequence[tuple[int, int]]) -> None:
        """ranges: half-open, ascending, in global indices of `whole`."""
        super().__init__([end - first for first, end in ranges], strict=whole._strict, report=whole._report)
        self.ranges = list(ranges)
        self._whole = whole

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        return self._whole.read([self._outer(index) for index in indices])

    def name(self, index: int) -> str:
        return self._whole.name(self._outer(index))

    def _outer(self, index: int) -> int:
        sequence, frame = self.locate(index)
        return self.ranges[sequence][0] + frame
