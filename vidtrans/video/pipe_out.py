"""Bytes into pipes: standard output, FIFOs and files that are open already; and plain pictures into pipes or files.

y4m: https://wiki.multimedia.cx/index.php/YUV4MPEG2 and, for depths above 8 bits and the range, FFmpeg's
libavformat/yuv4mpegenc.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vidtrans.errors import OutputError, PipeClosed, VidtransError
from vidtrans.video.contract import Output
from vidtrans.video.frame import Colour, Frame, PixelFormat
from vidtrans.video.names import descriptor, spoken_output
from vidtrans.video.picture import picture_of, repacked
from vidtrans.video.y4m import LOCATION_OF_CHROMA

_POLL_MS = 100
# What POSIX lets a pipe take at once, at least, where it takes anything.
_PIPE_BUF = 4096
# y4m's names of chroma; 4:2:0 has its samples beside the left one of two columns, as everywhere in vidtrans.
_Y4M_CHROMA = {
    "yuv420p": "420mpeg2",  # by where chroma sits, see below
    "yuv422p": "422",
    "yuv444p": "444",
    "gray": "mono",
    "yuv420p10le": "420p10",
    "yuv422p10le": "422p10",
    "yuv444p10le": "444p10",
    "gray10le": "mono10",
    "yuv420p12le": "420p12",
    "yuv422p12le": "422p12",
    "yuv444p12le": "444p12",
    "gray12le": "mono12",
}
Y4M_PIX_FMTS = tuple(_Y4M_CHROMA)


class Pipe:
    """A pipe's end: written from one thread, cancelled from any.

    A FIFO is opened at the first byte that is let through, in the thread that writes: whoever reads two of them opens
    them one after the other, and may want data from the first before. Nothing is let through before `release`, so that
    all refusals come first. While standard output carries the video, whatever else is printed there, also by libraries,
    goes to stderr.

    Args:
        path: `-`, `/dev/fd/N`, a FIFO or a character device.

    Attributes:
        name: for messages.
        failure: what the last `write` raised, if it did.

    Raises:
        OutputError: it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.name = spoken_output(path)
        self.failure: VidtransError | None = None
        self._path = path
        self._descriptor: int | None = None
        self._waits = True  # whether writing may have to wait for a reader
        self._held: bytearray | None = bytearray()
        self._cancelled = threading.Event()
        self._stdout: int | None = None
        number = descriptor(path)
        if number is not None:
            self._take(number)
        elif not os.access(path, os.W_OK):
            raise OutputError(f"{path}: may not be written to; check its permissions")

    def release(self, change: Callable[[bytes], bytes] = lambda held: held) -> None:
        """Lets the bytes through, those of before first; change: makes of these what is written."""
        held, self._held = self._held, None
        if held:
            self.write(change(bytes(held)))

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of it.

        Raises:
            PipeClosed: the reader has gone away.
            OutputError: cancelled, or the disk behind it is full.
        """
        view = memoryview(data).cast("B")
        if self._held is not None:
            self._held += view
            return len(view)
        try:
            number = self._open()
            done = 0
            while done < len(view):
                done += self._write_some(number, view[done:])
        except BrokenPipeError as error:
            self.failure = PipeClosed(f"{self.name}: closed by its reader")
            raise self.failure from error
        except OSError as error:
            self.failure = OutputError(f"{self.name}: cannot be written further ({error.strerror})")
            raise self.failure from error
        return len(view)

    def finish(self) -> None:
        """Nothing more comes."""
        self._close()

    def abandon(self) -> None:
        """As `finish`: what has gone out cannot be taken back. May be called twice."""
        self._held = bytearray()  # what a container still writes as it closes goes nowhere
        self._close()

    def cancel(self) -> None:
        """Ends a `write` that waits for a reader, at once, and all later ones."""
        self._cancelled.set()

    def _take(self, number: int) -> None:
        """A file of ours for one that is open already."""
        try:
            mode = os.fstat(number).st_mode
            ours = os.dup(number)
        except OSError as error:
            raise OutputError(f"{self.name}: is not open; let the shell open it, such as with {number}>FILE") from error
        self._descriptor = ours
        only_read = fcntl.fcntl(ours, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if number == 2 or only_read or os.isatty(ours):
            self._close()
            why = "carries the messages" if number == 2 else "is open for reading" if only_read else "is a terminal"
            raise OutputError(f"{self.name}: {why}; give the video to another program, or name a file")
        if stat.S_ISFIFO(mode):
            # Its flags are those of every process that shares it, so ours is opened anew, where the system can do that.
            try:
                self._descriptor = os.open(f"/proc/self/fd/{ours}", os.O_WRONLY | os.O_NONBLOCK)
                os.close(ours)
            except OSError:
                self._descriptor = ours
        self._waits = not stat.S_ISREG(mode)
        if number == 1:
            sys.stdout.flush()
            self._stdout = os.dup(1)
            messages = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else 2
            os.dup2(messages, 1)

    def _open(self) -> int:
        while self._descriptor is None:
            self._check()
            try:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a FIFO that nobody reads yet
                    raise
                self._cancelled.wait(_POLL_MS / 1000)
        return self._descriptor

    def _write_some(self, number: int, view: memoryview) -> int:
        self._check()
        if not self._waits:
            return os.write(number, view)
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        if not poll.poll(_POLL_MS):
            return 0
        try:
            return os.write(number, view if not os.get_blocking(number) else view[:_PIPE_BUF])
        except BlockingIOError:
            return 0

    def _check(self) -> None:
        if self._cancelled.is_set():
            self.failure = OutputError(f"{self.name}: the run has been stopped")
            raise self.failure

    def _close(self) -> None:
        number, self._descriptor = self._descriptor, None
        if number is not None:
            os.close(number)
        saved, self._stdout = self._stdout, None
        if saved is not None:
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)


class NewFile:
    """A file that takes its name when it is complete and on the disk; until then it is `.NAME.partial.EXTENSION`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error

    def release(self) -> None:
        """Nothing is held back."""

    def write(self, data: bytes | memoryview) -> int:
        """Appends all of it.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            return self._file.write(data)
        except OSError as error:
            raise OutputError(f"{self.name}: cannot be written further ({error.strerror})") from error

    def finish(self) -> None:
        """Gives the file its name.

        Raises:
            OutputError: the disk refuses.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)
        except OSError as error:
            raise OutputError(f"{self.name}: cannot be completed ({error.strerror})") from error

    def abandon(self) -> None:
        """Drops everything; may be called twice."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def cancel(self) -> None:
        """Nothing waits."""


class Steady:
    """Whether pictures follow each other evenly, as a stream without time stamps will show them.

    Args:
        rate: pictures per second.
        tolerance: seconds by which a picture may miss its place.
    """

    def __init__(self, rate: Fraction, tolerance: Fraction) -> None:
        self.rate = rate
        self.count = 0
        self._tolerance = tolerance
        self._first: Fraction | None = None

    def off(self, time: Fraction) -> Fraction | None:
        """Seconds by which the next picture, due at `time`, misses its place; None: no more than is tolerated."""
        if self._first is None:
            self._first = time
        off = time - self._first - self.count / self.rate
        self.count += 1
        return off if abs(off) > self._tolerance else None


def uneven(name: str, rate: Fraction, number: int, off: Fraction, wanted: Fraction | None = None) -> OutputError:
    """The error for a stream that would drift: its frame of that number lies `off` seconds from its place.

    wanted: frames per second of the output, where `rate` is the input's.
    """
    return OutputError(
        f"{name} holds no time stamps, and the frame rate varies: at {float(rate):g} frames per second frame {number} "
        f"would be {float(abs(off)) * 1000:.1f} ms {'early' if off > 0 else 'late'}; give a constant rate such as "
        f"--fps {max(1, round(wanted or rate))}, or --out-format nut, which keeps every time"
    )


def y4m_header(
    width: int, height: int, rate: Fraction, pix_fmt: PixelFormat, colour: Colour, aspect: Fraction | None = None
) -> bytes:
    """The line with which a y4m stream begins.

    Args:
        width, height: pixels.
        rate: frames per second.
        pix_fmt: one of Y4M_PIX_FMTS.
        colour: of which the range is told, and where chroma of 8-bit 4:2:0 sits; y4m has no words for the rest.
        aspect: width over height of a pixel; None: not known.
    """
    chroma = _Y4M_CHROMA[pix_fmt.name]
    if chroma == _Y4M_CHROMA["yuv420p"]:
        chroma = next((word for word, place in LOCATION_OF_CHROMA.items() if place == colour.chroma_location), chroma)
    aspect = aspect or Fraction(0)
    sar = f"{aspect.numerator}:{aspect.denominator if aspect else 0}"
    # mjpegtools' own word for what C says, which older programs go by above 8 bits.
    older = f" XYSCSS={chroma.upper()}" if pix_fmt.bits > 8 and pix_fmt.kind == "yuv" else ""
    span = "FULL" if colour.full_range else "LIMITED"
    return (
        f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A{sar} "
        f"C{chroma}{older} XCOLORRANGE={span}\n"
    ).encode()


class PlanesWriter(Output):
    """Writes pictures as plain code values: y4m or nothing but them (rawvideo). A context manager, as VideoWriter is.

    Args:
        out: where to.
        width, height: pixels of every frame.
        pix_fmt: format of every frame.
        colour: how the frames are meant.
        stored: FFmpeg's name of the packing in which they are written.
        steady: frames that are not where the stream will show them are refused.
        header: with which the stream begins; before_each: what stands before every picture.

    Attributes:
        notes: things a user should be told, one line each.
    """

    def __init__(
        self,
        out: Pipe | NewFile,
        *,
        width: int,
        height: int,
        pix_fmt: PixelFormat,
        colour: Colour,
        stored: str,
        steady: Steady,
        header: bytes = b"",
        before_each: bytes = b"",
    ) -> None:
        self.notes: list[str] = []
        self._out = out
        self._pix_fmt = pix_fmt
        self._shapes = pix_fmt.plane_shapes(width, height)
        self._colour = colour
        self._header = header
        self._before_each = before_each
        self._steady = steady
        self._begun = False
        self._packer = None if stored == pix_fmt.name else _packer(width, height, stored)

    def __enter__(self) -> PlanesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._out.abandon()
            return
        try:
            if not self._begun:
                raise OutputError(f"{self._out.name}: no frame was written")
            self._out.finish()
        except BaseException:
            self._out.abandon()
            raise

    def cancel(self) -> None:
        """Ends a `write` that waits for a reader."""
        self._out.cancel()

    def write(self, frame: Frame) -> None:
        """Appends a frame.

        Raises:
            OutputError: the frame lies too far from its place, or the output cannot be written.
            PipeClosed: the reader has gone away.
            ValueError: a frame of another size or format.
        """
        if frame.pix_fmt != self._pix_fmt or tuple(plane.shape for plane in frame.planes) != self._shapes:
            raise ValueError(f"frame of {frame.pix_fmt.name} {frame.width}x{frame.height} does not fit")
        off = self._steady.off(frame.time)
        if off is not None:
            raise uneven(f"{self._out.name}: the stream", self._steady.rate, self._steady.count, off)
        if not self._begun:
            self._out.release()
            self._out.write(self._header)
            self._begun = True
        self._out.write(self._before_each)
        if self._packer is None:
            for plane in frame.planes:
                self._out.write(np.ascontiguousarray(plane).data)
            return
        picture = picture_of(frame.planes, self._pix_fmt)
        picture = repacked(picture, str(self._packer.pix_fmt), full_range=self._colour.full_range)
        for packet in self._packer.encode(picture):
            self._out.write(bytes(packet))


def _packer(width: int, height: int, stored: str) -> av.VideoCodecContext:
    """FFmpeg's own way to lay out a picture of that format without padding."""
    context = av.CodecContext.create("rawvideo", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = width, height, stored, Fraction(1, 25)
    return context
