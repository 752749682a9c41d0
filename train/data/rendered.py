"""Frames of the rendered street: kept in one file on disk, or rendered when asked for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidtrans.errors import InputError, UsageError
from vidtrans.train.data.contract import Frames, Part, Report
from vidtrans.train.domains import StreetView, street_domain
from vidtrans.train.workers import in_order

SECONDS = 20.0  # of each street, over which instants are spread


@dataclass(frozen=True)
class Drives:
    """Which instants of which streets are one domain's frames.

    Attributes:
        name: of the domain, one of STREET_DOMAINS.
        seed: of the first street; the next streets have the next numbers.
        draws: instants drawn in all.
        draws_per_seed: how many of them in each street.
        clip: frames rendered from each drawn instant on; 1 renders just the instant.
        spacing: seconds between the frames of a clip.
        size: (width, height).
    """

    name: str
    seed: int
    draws: int
    draws_per_seed: int
    size: tuple[int, int]
    clip: int = 1
    spacing: float = 1 / 60

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + -(-self.draws // self.draws_per_seed))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all frames: (N, H, W, 3)."""
        return (self.draws * self.clip, self.size[1], self.size[0], 3)

    def street_of(self, index: int) -> tuple[int, int]:
        """(seed, frame of that street) of a global index."""
        street, frame = divmod(index, self.draws_per_seed * self.clip)
        return self.seed + street, frame

    def render(self, seed: int, frames: Sequence[int], device: str = "cpu") -> np.ndarray:
        """Those frames of one street: (n, H, W, 3) uint8."""
        draws = torch.rand(self.draws_per_seed, generator=torch.Generator().manual_seed(seed))
        starts = draws.mul(SECONDS).tolist()
        view = StreetView(self.name, seed, device)
        instants = [starts[frame // self.clip] + frame % self.clip * self.spacing for frame in frames]
        return np.stack([view.picture(instant, *self.size) for instant in instants])

    @property
    def key(self) -> str:
        """What the content of all frames depends on, as a short hash."""
        content: tuple[object, ...] = (street_hash(), self.name, self.seed, self.draws_per_seed, self.shape)
        if self.clip > 1:
            content = (*content, self.clip, self.spacing)
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


class StreetFrames(Frames):
    """Rendered frames, kept in one memory-mapped file: every run after the first starts at once."""

    def __init__(self, drives: Drives, cache: Path, report: Report = lambda text: None) -> None:
        street_domain(drives.name)  # a wrong name must not leave a file behind
        super().__init__([drives.clip] * drives.draws)
        self.drives = drives
        path = cache / f"street-{drives.name}-{drives.key}.npy"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _render_all(drives, path, report)
        self._frames = np.load(path, mmap_mode="r")

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        return list(torch.from_numpy(self._frames[list(indices)]))

    def name(self, index: int) -> str:
        return f"street {self.drives.street_of(index)[0]}"


class StreetOnTheFly(Frames):
    """The same frames, rendered when they are asked for: nothing on disk, as many streets as one likes.

    Args:
        device: where pictures are made; on "cpu" the streets of a batch are rendered beside each other in threads.
    """

    def __init__(self, drives: Drives, device: str = "cpu") -> None:
        street_domain(drives.name)
        super().__init__([drives.clip] * drives.draws)
        self.drives = drives
        self._device = device

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        streets: dict[int, list[int]] = defaultdict(list)
        for index in indices:
            seed, frame = self.drives.street_of(index)
            streets[seed].append(frame)

        def rendered(seed: int) -> np.ndarray:
            return self.drives.render(seed, streets[seed], self._device)

        # A GPU gains nothing from several threads that wait for it.
        workers = None if self._device == "cpu" else 1
        # Ascending indices: streets come out in the order of their first frame, so of all frames.
        return [frame for made in in_order(rendered, streets, workers) for frame in torch.from_numpy(made)]

    def name(self, index: int) -> str:
        return f"street {self.drives.street_of(index)[0]}"


def split_streets(frames: Frames, drives: Drives, share: float) -> tuple[Frames, Frames]:
    """(training's, held back): the last streets, about that share of them and at least one, are held back whole.

    Raises:
        UsageError: no street would be left to train on.
    """
    streets = len(drives.seeds)
    held = max(1, round(streets * share)) if share else 0
    if held >= streets:
        raise UsageError(
            f"the {streets} streets of street:{drives.name} cannot be divided so that {share:g} of them are held back; "
            "change data.test_share or data.street_frames"
        )
    border = (streets - held) * drives.draws_per_seed if held else drives.draws
    clips = [(draw * drives.clip, (draw + 1) * drives.clip) for draw in range(drives.draws)]
    return (Part(frames, clips[:border]) if held else frames), Part(frames, clips[border:])


def _render_all(drives: Drives, path: Path, report: Report) -> None:
    temporary = path.with_suffix(".partial")
    frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=drives.shape)
    per_street = drives.draws_per_seed * drives.clip

    def rendered(seed: int) -> np.ndarray:
        return drives.render(seed, range(min(per_street, len(frames) - (seed - drives.seed) * per_street)))

    for row, made in enumerate(in_order(rendered, drives.seeds)):
        first = row * per_street
        frames[first : first + len(made)] = made
        if row % 25 == 0:
            report(f"rendering street:{drives.name} {first}/{len(frames)}")
    frames.flush()
    temporary.rename(path)


def street_frames(name: str, seed: int, count: int, width: int, height: int) -> np.ndarray:
    """`count` frames (count, height, width, 3) uint8 of one street, at instants spread over 20 s."""
    return Drives(name, seed, count, count, (width, height)).render(seed, range(count))


def street_hash() -> str:
    """SHA-256 of the street generator's source files: a street is the same as long as this is."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.glob("street*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
