"""Reads one video as a stream of exact frames, in the order in which they are shown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.sidedata.sidedata import SideData

from vidtrans.errors import InputError
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
from vidtrans.video.local_file import WHOLE_PART, check_whole, local_path, open_container

_MICROSECONDS = 1_000_000
# Formats of FFmpeg that take any file of a certain name for a screen full of characters.
_TEXT_ART = {"tty", "bin", "xbin", "adf", "idf"}
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
        start_time: seconds, time of the first frame.
        frame_count: as the container declares it (some count one too many); None where it does not.
        duration: seconds, as the container declares it; None where it does not.
        pix_fmt: the format of the frames handed out.
        source_pix_fmt: FFmpeg's name of the format in the file.
        colour: matrix, range and tags.
        container: FFmpeg's name of the container format, e.g. 'mov,mp4,m4a,3gp,3g2,mj2'.
        codec: FFmpeg's name of the video codec.
        audio_codecs: one name for every audio stream.
        sample_aspect_ratio: width over height of a pixel; None where it is not declared.
        display_matrix: nine fixed-point numbers that turn the picture for display; None: shown as stored.
    """

    width: int
    height: int
    average_rate: Fraction
    time_base: Fraction
    start_time: Fraction
    frame_count: int | None
    duration: Fraction | None
    pix_fmt: PixelFormat
    source_pix_fmt: str
    colour: Colour
    container: str
    codec: str
    audio_codecs: tuple[str, ...]
    sample_aspect_ratio: Fraction | None
    display_matrix: tuple[int, ...] | None


class VideoReader:
    """A local video file, read once from front to back: `for frame in reader`.

    Opening decodes the first frame, so that every error that can be known early comes early. Memory does not grow with
    the length. Frames follow each other without gaps or overlaps: each lasts until the next one's time, the last as
    long as the container says, else as long as the one before (a single frame: 1 / average rate). A frame without a
    time stamp follows its predecessor. A frame whose time is not after its predecessor's is left out and counted in
    `notes`.

    Attributes:
        path: the file.
        info: facts known without reading it through.
        notes: things a user should be told, one line each; complete once all frames have been read.
        frames_read: frames decoded so far.

    Raises:
        InputError: on opening or at the frame where the file turns out to be cut off or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path)
        self.notes: list[str] = []
        self.frames_read = 0
        self._left_out = 0
        self._declares_size = check_whole(self.path)
        self._container = open_container(self.path)
        try:
            self._stream = self._choose_stream()
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise InputError(f"{self.path}: holds no frame that can be decoded; check that it plays elsewhere")
            self.info = self._read_info(first)
            self._decoded = itertools.chain((first,), self._decoded)
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

    def __iter__(self) -> Iterator[Frame]:
        """The frames, one ahead of which is decoded: a frame's end is known only when its successor's time is."""
        held: av.VideoFrame | None = None
        held_time, held_own = Fraction(0), Fraction(0)
        gap = 1 / self.info.average_rate
        for picture in self._decoded:
            own = (picture.duration or 0) * self.info.time_base
            expected = held_time + (held_own or gap) if held is not None else Fraction(0)
            time = expected if picture.pts is None else picture.pts * self.info.time_base
            if held is not None:
                if time <= held_time:
                    self._leave_out(time, held_time)
                    continue
                gap = time - held_time
                yield self._frame(held, held_time, gap)
            held, held_time, held_own = picture, time, own
        if held is not None:
            yield self._frame(held, held_time, held_own or gap)
        if self._left_out:
            self.notes.append(
                f"{self.path.name}: {self._left_out} frames left out, their time is not after that of the frame before"
            )

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
        return stream

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every clean frame in presentation order.

        A recording may begin between two keyframes of its codec: what cannot be decoded before the first of them is
        skipped.
        """
        watched = (self._stream,) if self._declares_size else (self._stream, *self._container.streams.audio)
        end = Fraction(0)
        started, skipped = False, 0
        try:
            for packet in self._container.demux(watched):
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
        declared = self._container.duration
        if self._declares_size or declared is None or not self.frames_read:
            return
        expected = Fraction((self._container.start_time or 0) + declared, _MICROSECONDS)
        if expected - end > max(_LARGEST_SHORTFALL_SECONDS, 2 / self._average_rate()):
            raise self._damaged(f"is cut off: it ends at {float(end):.2f} s of {float(expected):.2f} s")

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: {what}, after {self.frames_read} frames; {WHOLE_PART}")

    def _leave_out(self, time: Fraction, previous: Fraction) -> None:
        if previous - time > _LARGEST_STRAY_SECONDS:
            raise InputError(
                f"{self.path}: its clock jumps back by {float(previous - time):.2f} s after {self.frames_read - 1} "
                f"frames (files glued together?); give it one clock first, with: ffmpeg -i INPUT REPAIRED.mp4"
            )
        self._left_out += 1

    def _average_rate(self) -> Fraction:
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(25)

    def _read_info(self, first: av.VideoFrame) -> VideoInfo:
        stream, container = self._stream, self._container
        time_base = stream.time_base
        assert time_base is not None  # every demuxer gives its streams a clock
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
        return VideoInfo(
            width=first.width,
            height=first.height,
            average_rate=self._average_rate(),
            time_base=time_base,
            start_time=Fraction(first.pts or 0) * time_base,
            frame_count=stream.frames or None,
            duration=duration,
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
        )

    def _frame(self, picture: av.VideoFrame, time: Fraction, duration: Fraction) -> Frame:
        info = self.info
        if (picture.width, picture.height) != (info.width, info.height):
            raise InputError(
                f"{self.path}: the picture size changes from {info.width}x{info.height} to "
                f"{picture.width}x{picture.height} at {float(time):.2f} s; split the file there"
            )
        if FULL_RANGE_NAMES.get(picture.format.name, picture.format.name) != info.pix_fmt.name:
            # Repacking only: the range is named on both sides so that the scaler leaves the code values alone.
            span = TAG_RANGE_FULL if info.colour.full_range else TAG_RANGE_LIMITED
            picture = picture.reformat(format=info.pix_fmt.name, src_color_range=span, dst_color_range=span)
        shapes = info.pix_fmt.plane_shapes(info.width, info.height)
        planes = tuple(_plane(plane, shape, info.pix_fmt) for plane, shape in zip(picture.planes, shapes, strict=True))
        return Frame(planes, time, duration, info.pix_fmt, info.colour)


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    matrix = picture.side_data.get("DISPLAYMATRIX")
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
