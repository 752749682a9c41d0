"""Which files are a domain's footage and in which order: found once, before any of them is read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from vidtrans.files import by_number

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".nut")
LAST_NUMBER = re.compile(r"([0-9]+)[^0-9]*$")


@dataclass(frozen=True)
class Images:
    """A sequence of image files, one frame each."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def cut(self, first: int, end: int) -> Images:
        return Images(self.paths[first:end])


@dataclass(frozen=True)
class Stretch:
    """A sequence of frames [first, end) of one video file."""

    path: Path
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def cut(self, first: int, end: int) -> Stretch:
        return Stretch(self.path, self.first + first, self.first + end)


Shot = Images | Stretch  # what a sequence of frames is on disk


@dataclass(frozen=True)
class Footage:
    """Files of one domain.

    Attributes:
        layout: what the files were recognised as, such as "cityscapes".
        sequences: in order.
        numbers: what the class numbers in label files mean: a name in labels.NUMBERS, or "palette" for the row of the
            domain's palette.
        unreadable: file -> why it was left out already.
    """

    layout: str
    sequences: tuple[Shot, ...]
    numbers: str = "palette"
    unreadable: dict[Path, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.sequences))

    def files(self) -> list[Path]:
        """Every file, each once, in order."""
        paths = (path for one in self.sequences for path in (one.paths if isinstance(one, Images) else (one.path,)))
        return list(dict.fromkeys(paths))

    def first(self, frames: int | None) -> Footage:
        """Only the first frames of all; None: everything."""
        left, kept = len(self) if frames is None else frames, []
        for shot in self.sequences:
            if left > 0:
                kept.append(shot.cut(0, min(left, len(shot))))
            left -= len(shot)
        return replace(self, sequences=tuple(kept))

    def rest(self, frames: int) -> Footage:
        """Without the first frames."""
        left, kept = frames, []
        for shot in self.sequences:
            if left < len(shot):
                kept.append(shot.cut(max(0, left), len(shot)))
            left -= len(shot)
        return replace(self, sequences=tuple(kept))


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of those kinds below a folder, numbers by value; names that begin with a dot are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted((path for path in found if not path.name.startswith(".")), key=by_number)


def shots_of(
    paths: Iterable[Path], number: re.Pattern[str] = LAST_NUMBER, step: int | None = None
) -> tuple[Images, ...]:
    """Images as sequences: those of one folder whose names differ in a number only, which goes up in equal steps.

    A sequence ends where a number is missing; an image without a neighbour is a sequence of its own.

    Args:
        number: finds the number in a file's name, as its group 1.
        step: from one number to the next; None: the one that at least half of a folder's names have, else 1.
    """
    groups: dict[tuple[Path, str, str], list[tuple[int, Path]]] = defaultdict(list)
    for path in paths:
        match = number.search(path.name)
        before, value, after = (
            (path.name[: match.start(1)], int(match[1]), path.name[match.end(1) :]) if match else (path.name, 0, "")
        )
        groups[path.parent, before, after].append((value, path))
    shots = []
    for members in groups.values():
        members.sort()
        apart = step or _usual_step([value for value, _ in members])
        run = [members[0]]
        for value, path in members[1:]:
            if value - run[-1][0] != apart:
                shots.append(Images(tuple(path for _, path in run)))
                run = []
            run.append((value, path))
        shots.append(Images(tuple(path for _, path in run)))
    return tuple(sorted(shots, key=lambda shot: by_number(shot.paths[0])))


def _usual_step(numbers: list[int]) -> int:
    steps = Counter(later - earlier for earlier, later in pairwise(sorted(set(numbers))))
    step, times = max(steps.items(), key=lambda row: (row[1], -row[0]), default=(1, 0))
    return step if times > 1 and 2 * times >= len(numbers) - 1 else 1
