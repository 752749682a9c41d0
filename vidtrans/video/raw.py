"""Reads pictures that are code values and nothing else, one after the other: rawvideo, and what y4m wraps.

They are taken apart here and not by FFmpeg, which takes a part of a picture at the end for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType

import numpy as np

from vidtrans.errors import InputError, UsageError
from vidtrans.remarks import Warn
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import InputForm
from vidtrans.video.layout import Layout, layout_named
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, check_frame_size
from vidtrans.video.steady import Span, steady_info, untagged_colour
from vidtrans.video.video_info import VideoInfo


class PlanesReader:
    """A stream of pictures, read once from front to back: `for frame in reader`.

    Opening reads the first picture that is used, so that what is wrong shows early. One picture is held at a time.

    Args:
        stream: stands before the first picture; is closed with the reader.
        info: as `steady_info` makes it.
        layout: of a picture.
        span: the pictures that are used.
        begin: reads what stands before picture `number`, counted from 1; False: the stream ended before it. None:
            nothing stands there.

    Attributes:
        info: facts known without reading it through.
        notes: things a user should be told, one line each.

    Raises:
        InputError: on opening or at the picture inside which the stream ends or where it is damaged.
        UsageError: the stream ends before the span.
    """

    def __init__(
        self,
        stream: ByteStream,
        info: VideoInfo,
        layout: Layout,
        span: Span,
        begin: Callable[[int], bool] | None = None,
    ) -> None:
        self.info = info
        self.notes: list[str] = []
        self._stream = stream
        self._layout = layout
        self._span = span
        self._begin = begin
        self._done = 0
        self._size = layout.byte_count(info.width, info.height)
        data = self._next()
        while data is not None and self._done <= span.first:
            data = self._next()
        if data is None:
            raise self._too_short()
        self._data: np.ndarray | None = data
        if layout.alpha:
            self.notes.append(
                Warn(f"{stream.name}: {layout.name} is read as {layout.pix_fmt.name}, its alpha is left out")
            )

    def __enter__(self) -> PlanesReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the stream go; may be called twice."""
        self._stream.close()

    def cancel(self) -> None:
        """From another thread: ends a wait for the next picture."""
        self._stream.cancel()

    def __iter__(self) -> Iterator[Frame]:
        length = 1 / self.info.average_rate
        while self._data is not None:
            number = self._done - 1
            yield self._frame(self._data, (number - self._span.first) * length, length)
            self._data = self._next() if self._span.holds(number + 1) else None

    def _next(self) -> np.ndarray | None:
        """The bytes of the next picture; None at the end."""
        number = self._done + 1
        if self._begin is not None and not self._begin(number):
            return None
        try:
            data = np.empty(self._size, np.uint8)
        except MemoryError as error:
            size = f"{self.info.width}x{self.info.height}"
            raise InputError(
                f"{self._stream.name}: frames of {size} do not fit into memory; is that size right?"
            ) from error
        got = self._stream.fill(data.data)
        if got < self._size and (got or self._begin is not None):
            raise cut_off(self._stream.name, number, f"{self._size - got} of its {self._size} bytes are missing")
        if not got:
            return None
        self._done = number
        return data

    def _frame(self, data: np.ndarray, time: Fraction, length: Fraction) -> Frame:
        info = self.info
        planes = self._layout.planes(data, info.width, info.height)
        # 10 and 12 bits lie in 16; an encoder given more than it can hold would write nonsense.
        largest = max(int(plane.max()) for plane in planes) if info.pix_fmt.bits > 8 else 0
        if largest > info.pix_fmt.max_code:
            raise InputError(
                f"{self._stream.name}: frame {self._done} holds a code value of {largest}, {self._layout.name} ends at "
                f"{info.pix_fmt.max_code}; is it of that size and pixel format?"
            )
        return Frame(planes, time, length, info.pix_fmt, info.colour)

    def _too_short(self) -> InputError | UsageError:
        if not self._done:
            return InputError(f"{self._stream.name}: holds no frame; look for an error of the program that wrote it")
        return self._span.too_late(self._done, self.info.average_rate, self._stream.name)


def cut_off(name: str, number: int, what: str) -> InputError:
    """The error for a stream that ends inside picture `number`, counted from 1."""
    return InputError(
        f"{name}: is cut off inside frame {number}, {what}; look for an error of the program that wrote it"
    )


def open_raw(
    stream: ByteStream,
    form: InputForm,
    start: Fraction,
    end: Fraction | None,
    *,
    told: Told = NOTHING_TOLD,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> PlanesReader:
    """A reader of rawvideo.

    Args:
        stream: at its beginning.
        form: what its pictures are; all of it told.
        start, end: seconds; the frames that begin in [start, end) are used.
        told: what the user says of the colours.
        max_pixels: larger frames are refused.

    Raises:
        InputError: the stream holds no whole number of pictures; at once where it is a file.
        UsageError: pictures of this kind are not read here, or none begins in [start, end).
    """
    assert form.size is not None  # rawvideo is told all, see InputForm
    assert form.pix_fmt is not None
    assert form.rate is not None
    layout, (width, height) = layout_named(form.pix_fmt), form.size
    check_frame_size(stream.name, width, height, max_pixels)
    span = Span.between(start, end, form.rate, stream.name)
    size = layout.byte_count(width, height)
    if stream.byte_count is not None and stream.byte_count % size:
        raise InputError(
            f"{stream.name}: {stream.byte_count} bytes are no whole number of {layout.name} {width}x{height} frames of "
            f"{size} bytes; it is cut off, or of another size or pixel format"
        )
    info = steady_info(
        width=width,
        height=height,
        rate=form.rate,
        span=span,
        frames=None if stream.byte_count is None else stream.byte_count // size,
        pix_fmt=layout.pix_fmt,
        source_pix_fmt=layout.name,
        colour=untagged_colour(layout.pix_fmt, width, height, full_range=layout.full_range, told=told),
        container="rawvideo",
        codec="rawvideo",
    )
    return PlanesReader(stream, info, layout, span)
