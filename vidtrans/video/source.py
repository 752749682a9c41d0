"""Opens whatever an input's name stands for: a file, a pipe or images, all read alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from vidtrans.errors import InputError, UsageError
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.frame import Frame
from vidtrans.video.images import KINDS, ImageReader
from vidtrans.video.input_form import SAYS_ITSELF, InputForm, is_glob, is_pattern, reopened, spoken
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, Source, check_whole, source_named
from vidtrans.video.raw import open_raw
from vidtrans.video.reader import VideoReader
from vidtrans.video.seam import FRONT_ONLY, Seam
from vidtrans.video.video_info import VideoInfo
from vidtrans.video.y4m import MAGIC, open_y4m


class FrameSource(AbstractContextManager[Any], Protocol):
    """Frames in the order in which they are shown, read once: a VideoReader, or another reader of this package.

    Attributes:
        info: facts known without reading it through.
        notes: things a user should be told, one line each; complete once all frames have been read.
    """

    info: VideoInfo
    notes: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def cancel(self) -> None:
        """From another thread: ends a wait for whoever writes a pipe, as if its end had come."""


def open_source(
    path: str | Source,
    start: Fraction = Fraction(0),
    end: Fraction | None = None,
    *,
    form: InputForm = SAYS_ITSELF,
    expect_frames: int | None = None,
    told: Told = NOTHING_TOLD,
    deinterlace: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> FrameSource:
    """A source of the frames that begin in [start, end).

    Args:
        path: a video file, `-` or another name of an open file or a FIFO, a folder of images, a glob or a pattern such
            as `frames/%06d.png`, or a local_file.Address. A file of that name, if there is one, is meant first.
        start, end: seconds after the first frame; 0 and None cut nothing.
        form: what the user says of the input.
        expect_frames: a source of another number of frames in [start, end) ends with an error; None: any.
        told: what the user says of the colours, over what the tags say.
        deinterlace: False leaves interlaced pictures as they are.
        max_pixels: larger frames are refused before they are allocated.

    Raises:
        InputError: it cannot be read, on opening or at the frame where that shows.
        UsageError: what the user says does not fit the input, or no frame begins in [start, end).
    """
    name = source_named(path)
    opening = _Opening(name, start, end, form, told, deinterlace, max_pixels)
    source = opening.open()
    if expect_frames is None:
        return source
    return _Expected(source, expect_frames, spoken(name) if isinstance(name, Path) else str(name))


@runtime_checkable
class Sought(Protocol):
    """A source that may be able to go on where another one of the same input was."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found wrong with the input so far."""

    def continue_at(self, seam: Seam) -> str | None:
        """Goes to frame number `seam.index`; or says in words why not, and then may stand anywhere."""


@dataclass(frozen=True)
class _Opening:
    """What `open_source` is told."""

    name: Source
    start: Fraction
    end: Fraction | None
    form: InputForm
    told: Told
    deinterlace: bool
    max_pixels: int

    def open(self) -> FrameSource:
        form = self.form
        if not isinstance(self.name, Path):
            if form.format is not None:
                raise UsageError(
                    f"{self.name}: --in-format {form.format} is for files and pipes; download it first, or leave it out"
                )
            return self._video(self.name)
        path = reopened(self.name)
        if path is None:
            return self._from_stream(self.name)
        if path.is_dir() or is_pattern(path) or is_glob(path) or (path.is_file() and path.suffix.lower() in KINDS):
            if form.format is not None:
                raise UsageError(
                    f"{path}: is read as images, of which --in-format {form.format} says nothing; leave it out"
                )
            return ImageReader(path, self.start, self.end, form.rate, told=self.told, max_pixels=self.max_pixels)
        if form.format is None:
            check_whole(path)
        if form.format is not None or _begins_as_y4m(path):
            return self._from_stream(path)
        return self._video(path)

    def _video(self, path: Source, stream: ByteStream | None = None) -> VideoReader:
        return VideoReader(
            path,
            self.start,
            self.end,
            told=self.told,
            deinterlace=self.deinterlace,
            max_pixels=self.max_pixels,
            stream=stream,
            rate=self.form.rate,
        )

    def _from_stream(self, path: Path) -> FrameSource:
        """A source of what can be read only once, or is taken apart here."""
        stream = ByteStream(path)
        span, told, limit = (self.start, self.end), self.told, self.max_pixels
        try:
            if not stream.peek(1):
                raise InputError(f"{stream.name}: is empty (0 bytes); look for an error of the program that writes it")
            if self.form.format == "rawvideo":
                return open_raw(stream, self.form, *span, told=told, max_pixels=limit)
            if self.form.format == "y4m" or stream.peek(len(MAGIC)) == MAGIC:
                return open_y4m(stream, *span, self.form.rate, told=told, max_pixels=limit)
            return self._video(path, stream)
        except BaseException:
            stream.close()
            raise


def _begins_as_y4m(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class _Expected:
    """A source that must give so many frames, neither fewer nor more."""

    def __init__(self, source: FrameSource, count: int, name: str) -> None:
        self.info = replace(source.info, frame_count=count)
        self.notes = source.notes
        self._source = source
        self._count = count
        self._name = name
        self._begin = 0

    @property
    def is_clean(self) -> bool:
        return not isinstance(self._source, Sought) or self._source.is_clean

    def continue_at(self, seam: Seam) -> str | None:
        self._begin = seam.index
        return self._source.continue_at(seam) if isinstance(self._source, Sought) else FRONT_ONLY

    def __enter__(self) -> _Expected:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, value, trace)

    def cancel(self) -> None:
        self._source.cancel()

    def __iter__(self) -> Iterator[Frame]:
        count = self._begin
        for frame in self._source:
            if count == self._count:
                raise InputError(f"{self._name}: has more than the {count} frames that --expect-frames says")
            count += 1
            yield frame
        if count < self._count:
            raise InputError(
                f"{self._name}: ends after {count} frames, {self._count - count} fewer than --expect-frames says; look "
                "for an error of the program that wrote it"
            )
