"""Videos read frame by frame at random without unpacking: decord, or PyAV where decord has no wheel."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np

from vidtrans.errors import InputError

# A reader keeps its file, an index and a decoder with its frames in memory.
MOST_OPEN = 16


class Video(Protocol):
    """An open video."""

    def __len__(self) -> int: ...

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Those frames, (n, H, W, 3) uint8; indices ascending, each once. Any exception: one cannot be decoded."""
        ...


class DecordVideo:
    """decord's reader: an index made at opening, frames in batches."""

    def __init__(self, path: Path) -> None:
        import decord

        self._reader = decord.VideoReader(str(path), num_threads=1)

    def __len__(self) -> int:
        return len(self._reader)

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        return self._reader.get_batch(list(indices)).asnumpy()


class SeekingVideo:
    """PyAV: seek to the random access point before a frame, decode up to it, and on while others lie ahead."""

    def __init__(self, path: Path) -> None:
        import av

        self._path = path
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(container.streams.video[0]) if packet.pts is not None]
        self._pts = sorted(packet.pts for packet in packets if packet.pts is not None)
        self._points = sorted(packet.pts for packet in packets if packet.pts is not None and packet.is_keyframe)

    def __len__(self) -> int:
        return len(self._pts)

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        import av

        found: list[np.ndarray] = []
        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            for _, group in groupby(indices, lambda index: bisect_right(self._points, self._pts[index])):
                wanted = [self._pts[index] for index in group]
                container.seek(wanted[0], stream=stream)
                for frame in container.decode(stream):
                    if frame.pts is not None and frame.pts >= wanted[0]:
                        found.append(frame.to_ndarray(format="rgb24"))
                        del wanted[0]
                    if not wanted:
                        break
                else:
                    raise InputError(f"{self._path} ends before its frame {indices[len(found)]}; it is damaged")
        return np.stack(found)


def open_video(path: Path) -> Video:
    """The video at a path.

    Raises:
        InputError: it cannot be read, or has no frames.
    """
    try:
        import decord  # noqa: F401
    except ImportError:
        reader: type[DecordVideo] | type[SeekingVideo] = SeekingVideo
    else:
        reader = DecordVideo
    try:
        opened = reader(path)
    except Exception as error:  # decord and PyAV raise kinds of their own
        raise InputError(f"{path} cannot be read as a video; remove or replace it") from error
    if not len(opened):
        raise InputError(f"{path} has no frames; remove or replace it")
    return opened


class OpenVideos:
    """Videos opened when needed; of many, only the most recently used stay open."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._open: OrderedDict[Path, Video] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __getitem__(self, path: Path) -> Video:
        if path in self._open:
            self._open.move_to_end(path)
        else:
            while len(self._open) >= self._most:
                self._open.popitem(last=False)
            self._open[path] = open_video(path)
        return self._open[path]

    def frames(self, path: Path, indices: Sequence[int]) -> list[np.ndarray | InputError]:
        """Those frames of one video, each (H, W, 3) uint8 or what is wrong with it; indices ascending, each once."""
        try:
            video = self[path]
        except InputError as error:
            return [error] * len(indices)
        try:
            return list(video.frames(indices))
        except Exception as error:  # of whatever kind: which of the frames it was shows one at a time
            if len(indices) == 1:
                return [_damaged(path, indices[0], error)]
        return [frame for index in indices for frame in self.frames(path, [index])]


def _damaged(path: Path, index: int, error: Exception) -> InputError:
    damaged = InputError(f"{path}: frame {index} cannot be decoded; the video is damaged or was cut off")
    damaged.__cause__ = error
    return damaged
