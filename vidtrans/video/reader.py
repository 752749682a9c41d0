"""Reads one video as a stream of exact frames, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.sidedata.sidedata import SideData

from vidtrans.errors import InputError, UsageError
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.frame import (
    FULL_RANGE_NAMES,
    MATRIX_OF_TAG,
    TAG_RANGE_FULL,
    TAG_RANGE_LIMITED,
    TAG_UNSPECIFIED,
    Colour,
    Frame,
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.local_file import (
    WHOLE_PART,
    check_whole,
    is_untimed,
    local_path,
    open_container,
    open_piped_container,
    times_of_its_own,
)

_MICROSECONDS = 1_000_000
# Formats of FFmpeg that take any file of a certain name for a screen full of characters.
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}
# Codecs of images, of which each stands for itself and can be checked.
_STILLS = {"png", "mjpeg", "bmp", "webp"}
# A time stamp that steps back further than this starts a new clock (files glued together); less is a stray or doubled
# frame.
_LARGEST_STRAY_SECONDS = 1
# A video that ends earlier than its container says by more than this, and by more than two frames, has lost its end.
_LARGEST_SHORTFALL_SECONDS = Fraction(1, 4)


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read through.

    Attributes:
        width, height: pixels, as stored (before `display_matrix` and `sample_aspect_ratio`).
        average_rate: frames per second, nominal where the frame rate varies.
        time_base: seconds per tick of the container's clock; every frame time is a whole number of ticks.
        stamp_error: seconds by which the clock may have rounded the time of a frame: half a tick where a frame of the
            average rate is no whole number of ticks, else 0.
        start_time: seconds, time of the first frame.
        frame_count: as the container declares it (some count one too many); None where it does not.
        duration: seconds, as the container declares it; None where it does not. Both are estimates of an excerpt.
        excerpt: the part of the file that is read.
        pix_fmt: the format of the frames handed out.
        source_pix_fmt: FFmpeg's name of the format in the file.
        colour: matrix, range and tags.
        container: FFmpeg's name of the container format, e.g. 'mov,mp4,m4a,3gp,3g2,mj2'.
        codec: FFmpeg's name of the video codec.
        audio_codecs: one name for every audio stream.
        sample_aspect_ratio: width over height of a pixel; None where it is not declared.
        display_matrix: nine fixed-point numbers that turn the picture for display; None: shown as stored.
        carry_from: the file of which sound and all else that is no picture can be read a second time; None: none.
    """

    width: int
    height: int
    average_rate: Fraction
    time_base: Fraction
    stamp_error: Fraction
    start_time: Fraction
    frame_count: int | None
    duration: Fraction | None
    excerpt: Excerpt
    pix_fmt: PixelFormat
    source_pix_fmt: str
    colour: Colour
    container: str
    codec: str
    audio_codecs: tuple[str, ...]
    sample_aspect_ratio: Fraction | None
    display_matrix: tuple[int, ...] | None
    carry_from: Path | None = None


@dataclass(frozen=True)
class _Timed:
    """A decoded picture; its time on the file's own clock and how long it says it lasts (0: it does not), seconds."""

    picture: av.VideoFrame
    time: Fraction
    length: Fraction


class VideoReader:
    """A local video file or a pipe, read once from front to back: `for frame in reader`.

    Opening decodes the first frame, so that every error that can be known early comes early. Memory does not grow with
    the length. Frames follow each other without gaps or overlaps: each lasts until the next one's time, the last as
    long as the container says, else as long as the one before (a single frame: 1 / average rate). A frame without a
    time stamp follows its predecessor. A frame whose time is not after its predecessor's is left out and counted in
    `notes`.

    An excerpt holds every frame that begins in [start, end) seconds after the file's first frame, each for as long as
    in the file. Its times are moved so that it begins when the file does, and those of a file that begins below zero so
    that it begins at zero.

    Args:
        path: the file.
        start, end: seconds after the first frame; 0 and None cut nothing.
        stream: what the file is read from where that can be done only once; closed with the reader.
        rate: frames per second of a stream of pictures without times; None: 25, and said so.

    Attributes:
        path: the file.
        info: facts known without reading it through.
        notes: things a user should be told, one line each; complete once all frames have been read.
        frames_read: frames decoded so far.

    Raises:
        InputError: on opening or at the frame where the file turns out to be cut off or damaged.
        UsageError: no frame begins in [start, end), or a rate for what has times of its own.
    """

    def __init__(
        self,
        path: str | Path,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        *,
        stream: ByteStream | None = None,
        rate: Fraction | None = None,
    ) -> None:
        self.path = local_path(path) if stream is None else Path(stream.name)
        self.notes: list[str] = []
        self.frames_read = 0
        self._left_out = 0
        self._bytes = stream
        if stream is None and rate is not None:
            raise times_of_its_own(str(path))
        self._declares_size = stream is None and check_whole(self.path)
        self._container = open_container(self.path) if stream is None else open_piped_container(stream, rate)
        try:
            self._stream = self._choose_stream()
            self._pictures = self._timed(self._decode(self._packets()))
            first = next(self._pictures, None)
            if first is None:
                raise InputError(f"{self.path}: holds no frame that can be decoded; check that it plays elsewhere")
            whole = self._read_info(first.picture)
            if stream is not None:
                whole = self._read_info_of_pipe(whole, rate)
            self._pictures = chain((first,), self._pictures)
            self.info = self._excerpt(whole, first, start, end)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the file go; may be called twice."""
        self._container.close()
        if self._bytes is not None:
            self._bytes.close()

    def cancel(self) -> None:
        """From another thread: ends a wait for whoever writes a pipe, as if its end had come."""
        if self._bytes is not None:
            self._bytes.cancel()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, one ahead of which is decoded: a frame's end is known only when its successor's time is."""
        held: _Timed | None = None
        gap = 1 / self.info.average_rate
        until = self.info.excerpt.until
        for following in self._pictures:
            if held is not None:
                gap = following.time - held.time
                yield self._frame(held, gap)
            held = following
            if until is not None and held.time >= until:
                held = None
                break
        if held is not None:
            yield self._frame(held, held.length or gap)
        if self._left_out:
            self.notes.append(
                f"{self.path.name}: {self._left_out} frames left out, their time is not after that of the frame before"
            )

    def _excerpt(self, whole: VideoInfo, first: _Timed, start: Fraction, end: Fraction | None) -> VideoInfo:
        """Goes to where the excerpt begins; the facts of it."""
        begin = self._skip_until(first.time + start, first) if start else first
        until = None if end is None else first.time + end
        if until is not None and begin.time >= until:
            raise UsageError(
                f"{self.path}: no frame begins from --start {float(start):g} s up to --end {float(end or 0):g} s; "
                "leave more time between them"
            )
        if first.time < 0:  # players do not show what lies there, and containers differ in what becomes of it
            self.notes.append(f"{self.path.name}: begins at {float(first.time):g} s, everything is moved to begin at 0")
        info = replace(whole, start_time=max(first.time, Fraction(0)))
        excerpt = Excerpt(begin.time if start else None, until, begin.time - info.start_time)
        if excerpt.since is None and until is None:
            return replace(info, excerpt=excerpt)
        length = whole.duration if end is None else end if whole.duration is None else min(end, whole.duration)
        if length is None:
            return replace(info, frame_count=None, excerpt=excerpt)
        count = ceil((length - (begin.time - first.time)) * whole.average_rate)
        return replace(info, duration=count / whole.average_rate, frame_count=count, excerpt=excerpt)

    def _skip_until(self, since: Fraction, first: _Timed) -> _Timed:
        """Makes the first picture that begins at `since` or later the next one; returns it."""
        # Without time stamps only counting from the front tells where a picture lies.
        # A pipe cannot be sought.
        in_order = first.picture.pts is None or self._bytes is not None
        pictures = self._pictures if in_order else self._sought(since, first.time)
        last = first
        for picture in pictures:
            if picture.time >= since:
                self._pictures = chain((picture,), pictures)
                return picture
            last = picture
        end = last.time + (last.length or 1 / self._average_rate())
        raise UsageError(
            f"{self.path}: no frame begins at --start {float(since - first.time):g} s or later, it ends at "
            f"{float(end - first.time):g} s; choose an earlier start"
        )

    def _sought(self, since: Fraction, begin: Fraction) -> Iterator[_Timed]:
        """The pictures from one that begins at `since` or earlier on: not many before it where the file can be sought.

        Indexes may count decoding times, or point anywhere, so what they lead to is checked: a keyframe of the codec
        that is itself shown by then. What leans on pictures before it is shown before it, too.
        """
        back = 0
        while since - back > begin:
            self.frames_read = 0
            try:
                self._container.seek(floor((since - back) / self._time_base), stream=self._stream)
                packets = self._packets()
                found = next((p for p in packets if p.stream is self._stream and p.is_keyframe), None)
                if found is not None and found.pts is not None and found.pts * self._time_base <= since:
                    pictures = self._timed(self._decode(chain((found,), packets)))
                    head = next(pictures, None)
                    if head is not None and head.time <= since:
                        return chain((head,), pictures)
            except (av.FFmpegError, InputError):
                break  # where there is real damage, it is met again from the front
            back = 2 * back + 1
        index = self._stream.index
        self._container.close()
        self._container = open_container(self.path)
        self._stream = next(stream for stream in self._container.streams.video if stream.index == index)
        self._stream.thread_type = "AUTO"
        self.frames_read = 0
        return self._timed(self._decode(self._packets()))

    def _choose_stream(self) -> av.VideoStream:
        if self._container.format.name in _TEXT_ART:
            raise InputError(f"{self.path}: is not a video")
        covers = [
            stream
            for stream in self._container.streams.video
            if stream.disposition & av.stream.Disposition.attached_pic
        ]
        streams = [stream for stream in self._container.streams.video if stream not in covers]
        if not streams:
            only = ", only a cover picture" if covers else ""
            raise InputError(f"{self.path}: holds no video{only}; choose a file with a picture track")
        stream = streams[0]
        if len(streams) > 1:
            self.notes.append(f"{self.path.name}: holds {len(streams)} video streams, only the first is used")
        if stream.codec_context is None:
            raise InputError(
                f"{self.path}: its video codec is unknown here; convert it to a common one such as H.264 first"
            )
        stream.thread_type = "AUTO"
        if is_untimed(self._container) and stream.codec_context.name in _STILLS:
            # Else an image that lacks its end is filled up in silence, or left out, if it is the last of many threads.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
            stream.thread_type = "SLICE"
        return stream

    def _packets(self) -> Iterator[av.Packet[av.stream.Stream]]:
        """The video's packets from here on, with those of the sound where it takes them to know the end."""
        return self._container.demux(
            (self._stream,) if self._declares_size else (self._stream, *self._container.streams.audio)
        )

    def _timed(self, pictures: Iterable[av.VideoFrame]) -> Iterator[_Timed]:
        """Those of the pictures whose times ascend."""
        before: _Timed | None = None
        gap = 1 / self._average_rate()
        for picture in pictures:
            expected = before.time + (before.length or gap) if before is not None else Fraction(0)
            time = expected if picture.pts is None else picture.pts * self._time_base
            if before is not None:
                if time <= before.time:
                    self._leave_out(time, before.time)
                    continue
                gap = time - before.time
            before = _Timed(picture, time, (picture.duration or 0) * self._time_base)
            yield before

    def _decode(self, packets: Iterable[av.Packet[av.stream.Stream]]) -> Iterator[av.VideoFrame]:
        """Every clean frame in presentation order.

        A recording may begin between two keyframes of its codec: what cannot be decoded before the first of them is
        skipped.
        """
        end = Fraction(0)
        started, skipped = False, 0
        try:
            for packet in packets:
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is not self._stream:
                    continue
                if packet.is_keyframe and not started:
                    started = True
                    if not self.frames_read:
                        self._stream.codec_context.flush_buffers()
                for picture in self._decode_packet(packet):
                    if picture is not None:
                        self.frames_read += 1
                        yield picture
                    elif started or self.frames_read:
                        raise self._damaged("is cut off or damaged")
                    else:
                        skipped += 1
        except av.FFmpegError as error:
            raise self._damaged(f"cannot be read further ({error.strerror})") from error
        if skipped and self.frames_read:
            self.notes.append(
                f"{self.path.name}: begins between two keyframes of its codec, {skipped} pictures are skipped"
            )
        self._check_end(end)

    def _decode_packet(self, packet: av.Packet[av.stream.Stream]) -> list[av.VideoFrame | None]:
        """The pictures that are ready; None for each that is not whole."""
        if packet.is_corrupt:
            return [None]
        try:
            return [None if picture.is_corrupt else picture for picture in self._stream.decode(packet)]
        except av.FFmpegError:
            return [None]

    def _check_end(self, end: Fraction) -> None:
        """Where the container states a duration but no size, a missing end shows only here."""
        declared = self._container.duration if self._states_length else None
        if self._declares_size or declared is None or not self.frames_read:
            return
        expected = Fraction((self._container.start_time or 0) + declared, _MICROSECONDS)
        if expected - end > max(_LARGEST_SHORTFALL_SECONDS, 2 / self._average_rate()):
            raise self._damaged(f"is cut off: it ends at {float(end):.2f} s of {float(expected):.2f} s")

    def _damaged(self, what: str) -> InputError:
        hint = WHOLE_PART if self._bytes is None else "look for an error of the program that wrote it"
        return InputError(f"{self.path}: {what}, after {self.frames_read} frames; {hint}")

    def _leave_out(self, time: Fraction, previous: Fraction) -> None:
        if previous - time > _LARGEST_STRAY_SECONDS:
            raise InputError(
                f"{self.path}: its clock jumps back by {float(previous - time):.2f} s after {self.frames_read - 1} "
                f"frames (files glued together?); give it one clock first, with: ffmpeg -i INPUT REPAIRED.mp4"
            )
        self._left_out += 1

    def _average_rate(self) -> Fraction:
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(25)

    @property
    def _time_base(self) -> Fraction:
        assert self._stream.time_base is not None  # every demuxer gives its streams a clock
        return self._stream.time_base

    def _read_info(self, first: av.VideoFrame) -> VideoInfo:
        stream, container, time_base = self._stream, self._container, self._time_base
        source_name = first.format.name
        try:
            pix_fmt, exact = nearest_planar(source_name)
        except ValueError as error:
            raise InputError(
                f"{self.path}: pixel format {source_name} is not handled; convert it to yuv420p first"
            ) from error
        if not exact:
            self.notes.append(
                f"{self.path.name}: pixel format {source_name} is read as {pix_fmt.name}, not all of it is kept"
            )
        colour = Colour.read(first, source_name, first.width, first.height)
        if pix_fmt.kind == "yuv" and colour.matrix_tag not in (*MATRIX_OF_TAG, TAG_UNSPECIFIED):
            self.notes.append(
                f"{self.path.name}: colour matrix number {colour.matrix_tag} is not known, {colour.matrix} is used"
            )
        duration = stream.duration * time_base if stream.duration else None
        if duration is None and container.duration:
            duration = Fraction(container.duration, _MICROSECONDS)
        ticks_per_frame = 1 / (self._average_rate() * time_base)
        return VideoInfo(
            width=first.width,
            height=first.height,
            average_rate=self._average_rate(),
            time_base=time_base,
            stamp_error=Fraction(0) if ticks_per_frame.denominator == 1 else time_base / 2,
            start_time=Fraction(first.pts or 0) * time_base,
            frame_count=stream.frames or None,
            duration=duration,
            excerpt=WHOLE,
            pix_fmt=pix_fmt,
            source_pix_fmt=source_name,
            colour=colour,
            container=container.format.name,
            codec=stream.codec_context.name,
            audio_codecs=tuple(
                audio.codec_context.name if audio.codec_context else "unknown" for audio in container.streams.audio
            ),
            sample_aspect_ratio=stream.sample_aspect_ratio or None,
            display_matrix=_display_matrix(first),
            carry_from=self.path,
        )

    def _read_info_of_pipe(self, info: VideoInfo, rate: Fraction | None) -> VideoInfo:
        """The facts that differ where the file is read from a pipe, and what a user should know of that."""
        left_out = sorted({stream.type for stream in self._container.streams if stream.type in ("audio", "subtitle")})
        if left_out:
            self.notes.append(
                f"{self.path}: {' and '.join(left_out)} left out, a pipe cannot be read a second time for them; name "
                "the file instead, or add them to the outputs afterwards"
            )
        if is_untimed(self._container) and rate is None:
            self.notes.append(f"{self.path}: pictures at {info.average_rate} per second; --rate-in tells another rate")
        if not self._states_length:
            info = replace(info, frame_count=None, duration=None)
        return replace(info, carry_from=None)

    @property
    def _states_length(self) -> bool:
        """Whether a length in the header is one: into a pipe AVI is written before its length is known."""
        return self._bytes is None or self._container.format.name != "avi"

    def _frame(self, timed: _Timed, duration: Fraction) -> Frame:
        info, picture, time = self.info, timed.picture, timed.time - self.info.excerpt.shift
        if (picture.width, picture.height) != (info.width, info.height):
            raise InputError(
                f"{self.path}: the picture size changes from {info.width}x{info.height} to "
                f"{picture.width}x{picture.height} at {float(time):.2f} s; split the file there"
            )
        planes = planes_of(picture, info.pix_fmt, full_range=info.colour.full_range)
        return Frame(planes, time, duration, info.pix_fmt, info.colour)


def planes_of(picture: av.VideoFrame, pix_fmt: PixelFormat, *, full_range: bool) -> tuple[np.ndarray, ...]:
    """The code values of a picture, in shapes as `pix_fmt.plane_shapes`; repacked where it has another format."""
    if FULL_RANGE_NAMES.get(picture.format.name, picture.format.name) != pix_fmt.name:
        # Repacking only: the range is named on both sides so that the scaler leaves the code values alone.
        span = TAG_RANGE_FULL if full_range else TAG_RANGE_LIMITED
        picture = picture.reformat(format=pix_fmt.name, src_color_range=span, dst_color_range=span)
    shapes = pix_fmt.plane_shapes(picture.width, picture.height)
    return tuple(_plane(plane, shape, pix_fmt) for plane, shape in zip(picture.planes, shapes, strict=True))


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    try:
        matrix = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:
        return None  # PyAV gives no side data at all where a kind is among them that it does not know, such as EXIF
    if not isinstance(matrix, SideData):
        return None
    return tuple(int(number) for number in np.frombuffer(memoryview(matrix), dtype=np.int32))


def _plane(plane: av.video.plane.VideoPlane, shape: tuple[int, int], pix_fmt: PixelFormat) -> np.ndarray:
    """A copy of one plane without the padding of its rows."""
    rows, columns = shape
    padded = np.frombuffer(memoryview(plane), dtype=pix_fmt.dtype).reshape(
        -1, plane.line_size // np.dtype(pix_fmt.dtype).itemsize
    )
    return padded[:rows, :columns].copy()
