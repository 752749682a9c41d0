"""Training frames: a domain is a list of frames, drawn at random and independently of the other domain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from vidtrans.errors import InputError, UsageError
from vidtrans.train.domains import STREET_DOMAINS, StreetView, street_domain
from vidtrans.train.recipe import DataOptions, DomainData
from vidtrans.train.workers import in_order

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".nut")


class Frames(Protocol):
    """A domain's frames: a length, and batches by index."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Tensor:
        """(B, H, W, 3) uint8 at the training size."""
        ...


class ImageFolder:
    """Every image below a folder, read when asked for."""

    def __init__(self, paths: list[Path], resize: Callable[[Tensor], Tensor]) -> None:
        self.paths = paths
        self._resize = resize

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int]) -> Tensor:
        return torch.stack([self._read(self.paths[index]) for index in indices])

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as image:
                picture = torch.from_numpy(np.array(image.convert("RGB")))
        except OSError as error:
            raise InputError(f"{path} cannot be read as an image; remove or replace it") from error
        return self._resize(picture.movedim(-1, 0)).movedim(0, -1)


class VideoFolder:
    """Every frame of every video below a folder, random-accessed without unpacking (decord)."""

    def __init__(self, paths: list[Path], resize: Callable[[Tensor], Tensor]) -> None:
        self._resize = resize
        self._readers = [_open_video(path) for path in paths]
        self._ends = np.cumsum([len(reader) for reader in self._readers])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: Sequence[int]) -> Tensor:
        frames = []
        for index in indices:
            video = int(np.searchsorted(self._ends, index, side="right"))
            start = int(self._ends[video - 1]) if video else 0
            picture = torch.from_numpy(self._readers[video][index - start])
            frames.append(self._resize(picture.movedim(-1, 0)).movedim(0, -1))
        return torch.stack(frames)


class _SeekingVideo:
    """PyAV where decord has no wheel: seek to the random access point before a frame, decode up to it."""

    def __init__(self, path: Path) -> None:
        import av

        self._path = path
        with av.open(str(path)) as container:
            packets = container.demux(container.streams.video[0])
            self._pts = sorted(packet.pts for packet in packets if packet.pts is not None)

    def __len__(self) -> int:
        return len(self._pts)

    def __getitem__(self, index: int) -> np.ndarray:
        import av

        with av.open(str(self._path)) as container:
            container.seek(self._pts[index], stream=container.streams.video[0])
            for frame in container.decode(video=0):
                if frame.pts is not None and frame.pts >= self._pts[index]:
                    return frame.to_ndarray(format="rgb24")
        raise InputError(f"{self._path} ends before its frame {index}; it is damaged")


class _DecordVideo:
    def __init__(self, path: Path) -> None:
        import decord

        self._reader = decord.VideoReader(str(path), num_threads=1)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._reader[index].asnumpy()


def _open_video(path: Path) -> _DecordVideo | _SeekingVideo:
    try:
        import decord  # noqa: F401
    except ImportError:
        reader: type[_DecordVideo] | type[_SeekingVideo] = _SeekingVideo
    else:
        reader = _DecordVideo
    try:
        opened = reader(path)
    except Exception as error:  # decord and PyAV raise kinds of their own
        raise InputError(f"{path} cannot be read as a video; remove or replace it") from error
    if not len(opened):
        raise InputError(f"{path} has no frames; remove or replace it")
    return opened


class StreetFrames:
    """Frames of the rendered street, kept in one memory-mapped file: every run after the first starts at once."""

    def __init__(self, name: str, seed: int, options: DataOptions, cache: Path, report: Callable[[str], None]) -> None:
        street_domain(name)  # a wrong name must not leave a file behind
        width, height = options.size
        self.seeds = range(seed, seed + -(-options.street_frames // options.street_frames_per_seed))
        shape = (options.street_frames, height, width, 3)
        key = hashlib.sha256(repr((street_hash(), name, seed, options.street_frames_per_seed, shape)).encode())
        path = cache / f"street-{name}-{key.hexdigest()[:16]}.npy"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            self._render(path, name, shape, options.street_frames_per_seed, report)
        self._frames = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._frames)

    def batch(self, indices: Sequence[int]) -> Tensor:
        return torch.from_numpy(self._frames[list(indices)])

    def _render(
        self, path: Path, name: str, shape: tuple[int, ...], per_seed: int, report: Callable[[str], None]
    ) -> None:
        temporary = path.with_suffix(".partial")
        frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)

        def rendered(seed: int) -> np.ndarray:
            count = min(per_seed, shape[0] - (seed - self.seeds[0]) * per_seed)
            return street_frames(name, seed, count, shape[2], shape[1])

        for row, made in enumerate(in_order(rendered, self.seeds)):
            first = row * per_seed
            frames[first : first + len(made)] = made
            if row % 25 == 0:
                report(f"rendering street:{name} {first}/{shape[0]}")
        frames.flush()
        temporary.rename(path)


def street_frames(name: str, seed: int, count: int, width: int, height: int) -> np.ndarray:
    """`count` frames (count, height, width, 3) uint8 of one street, at instants spread over 20 s."""
    view = StreetView(name, seed)
    instants = torch.rand(count, generator=torch.Generator().manual_seed(seed)).mul(20.0).tolist()
    return np.stack([view.picture(instant, width, height) for instant in instants])


def street_hash() -> str:
    """SHA-256 of the street generator's source files: a street is the same as long as this is."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("street*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def open_frames(
    row: DomainData, number: int, options: DataOptions, cache: Path, report: Callable[[str], None]
) -> Frames:
    """The frames of domain `number` of a recipe.

    Raises:
        UsageError: the data is neither a folder nor street:NAME.
        InputError: a folder without images or videos, or an unreadable file.
    """
    if row.data.startswith("street:"):
        return StreetFrames(
            row.data.removeprefix("street:"), options.street_seed + number * 1_000_000, options, cache, report
        )
    folder = Path(row.data)
    if not folder.is_dir():
        raise UsageError(
            f"domain {row.name}: {row.data!r} is neither a folder nor street:{{{','.join(STREET_DOMAINS)}}}"
        )
    width, height = options.size
    mode = v2.InterpolationMode.NEAREST_EXACT if row.kind == "label" else v2.InterpolationMode.BILINEAR
    resize = v2.Resize([height, width], interpolation=mode, antialias=row.kind != "label")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if images and videos:
        raise InputError(f"domain {row.name}: {folder} holds both images and videos; keep one kind")
    if images:
        return ImageFolder(images, resize)
    if videos:
        return VideoFolder(videos, resize)
    raise InputError(f"domain {row.name}: no images ({', '.join(IMAGE_SUFFIXES)}) or videos below {folder}")
