"""Writes one video: frames with exact times in, a finished file under its final name out, or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import av
from av.video.frame import PictureType

from vidtrans.errors import OutputError
from vidtrans.remarks import Warn
from vidtrans.stages import cores
from vidtrans.video.carried import CarriedStreams
from vidtrans.video.contract import Output
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.frame import Colour, Frame, PixelFormat
from vidtrans.video.local_file import Source
from vidtrans.video.matroska import write_pixel_shape
from vidtrans.video.picture import picture_of, repacked
from vidtrans.video.seam import SegmentReport
from vidtrans.video.segments import SegmentStore
from vidtrans.video.shape import grown
from vidtrans.video.video_stream import StreamShape, add_video_stream, encoder_like

Packet: TypeAlias = "av.Packet[av.VideoStream]"
OutputContainer: TypeAlias = "av.container.OutputContainer"


class Segment:
    """A run of frames through an encoder of its own, from its first frame to its flush: a closed group of pictures.

    Packets leave in another order than frames come, and MP4 stores steps between packets: it would lose the length of
    the last frame where frames differ in length. So every packet carries the duration of its own frame, and in a run of
    varying lengths the last frame is made a keyframe, which leaves the encoder last, and keeps the same distance
    between decoding and showing as the first.
    """

    def __init__(
        self,
        encoder: av.VideoStream | av.VideoCodecContext,
        owner: OutputContainer | None,
        pix_fmt: PixelFormat,
        colour: Colour,
        time_base: Fraction,
    ) -> None:
        self.frames = 0
        self._encoder = encoder
        self._context = encoder.codec_context if isinstance(encoder, av.VideoStream) else encoder
        self._owner = owner  # a stream lives as long as its container
        self._pix_fmt = pix_fmt
        self._colour = colour
        self._time_base = time_base
        self._durations: dict[int, int] = {}  # of the frames inside the encoder, by their time, in ticks
        self._held: Frame | None = None
        self._varies = False
        self._delay: int | None = None  # between decoding and showing the first frame, in ticks

    def encode(self, frame: Frame) -> list[Packet]:
        """Takes a frame and passes on the one before; returns the packets that are ready."""
        held, self._held = self._held, frame
        self.frames += 1
        if held is None:
            return []
        self._varies |= held.duration != frame.duration
        return self._timed(self._encoder.encode(self._picture(held)))

    def flush(self) -> list[Packet]:
        """The packets still inside the encoder."""
        if self._held is None:
            return []
        picture = self._picture(self._held)
        if self._varies:
            picture.pict_type = PictureType.I
        packets = [*self._encoder.encode(picture), *self._encoder.encode(None)]
        if self._delay is None:
            _stamp_decoding_times(packets)
        packets = self._timed(packets)
        if self._varies and self._delay is not None and packets[-1].pts == picture.pts:
            packets[-1].dts = max(_ticks(packets[-1].dts), _ticks(picture.pts) - self._delay)
        return packets

    def _picture(self, frame: Frame) -> av.VideoFrame:
        """The frame as the encoder takes it, its time in ticks."""
        width, height = self._context.width, self._context.height
        picture = picture_of(grown(frame.planes, self._pix_fmt, width, height), self._pix_fmt)
        picture.colorspace = self._colour.matrix_tag
        picture.color_range = self._colour.range_tag
        picture.color_primaries = self._colour.primaries
        picture.color_trc = self._colour.transfer
        stored = self._context.pix_fmt
        if stored != self._pix_fmt.name:
            picture = repacked(picture, str(stored), full_range=self._colour.full_range)
        start = round(frame.time / self._time_base)
        picture.time_base = self._time_base
        picture.pts = start
        # Both ends are rounded, not the length: on a coarse clock the pieces still add up.
        self._durations[start] = round((frame.time + frame.duration) / self._time_base) - start
        return picture

    def _timed(self, packets: list[Packet]) -> list[Packet]:
        for packet in packets:
            if self._delay is None:
                self._delay = _ticks(packet.pts) - _ticks(packet.dts)
            packet.duration = self._durations.pop(_ticks(packet.pts))
        return packets


class VideoWriter(Output):
    """Encodes frames into a new file beside all else that the input holds; a context manager.

    Everything that can be refused is refused by the constructor. Until `close` the file is called
    `.NAME.partial.EXTENSION`; it takes its final name when it is complete and on the disk. An exception inside the
    `with` block, or `abort`, leaves nothing behind but, where the output has an identity, its finished segments.

    Every segment has an encoder of its own, and begins and ends where the caller says (`end_segment`), so that a run
    that was stopped and continued makes the same packets as one that was not.

    Args:
        path: the file to make; its extension chooses the container.
        width, height: pixels of every frame.
        rate: frames per second, nominal; encoders plan with it, times come from the frames.
        time_base: seconds per tick of the output's clock, see `clock.exact_time_base`. MP4 and MOV keep it, Matroska
            counts milliseconds.
        pix_fmt: format of every frame, see `encoder.choose_pix_fmt`.
        colour: how the frames are meant; its tags are written.
        encoder: codec and settings.
        carry_from: the input, of which all but the pictures is taken over; None: nothing is.
        carry_audio: whether its audio is.
        excerpt: the part of the input that the frames come from; audio is cut with them, at its end where the frames
            end or, where they end sooner, at the excerpt's.
        slowdown, origin: the frames' times are those of the input moved so, see `carried.CarriedStreams`.
        overwrite: whether a file of that name may be replaced.
        sample_aspect_ratio: width over height of a pixel; None: not declared.
        display_matrix: nine fixed-point numbers that turn the picture for display; None: shown as stored.
        identity: what must be equal for a later run to continue this one, JSON values; None: cannot be continued.
        metadata: of the container, beside what is taken over.

    Attributes:
        path: the file to make.
        notes: things a user should be told, one line each.
        time_base: seconds per tick of the file's clock, to which every frame's time is rounded once; the one asked for
            or a part of it where the container can.

    Raises:
        OutputError: the file cannot be made this way; says what would work.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        rate: Fraction,
        time_base: Fraction,
        pix_fmt: PixelFormat,
        colour: Colour,
        encoder: EncoderOptions,
        carry_from: Source | None = None,
        carry_audio: bool = True,
        excerpt: Excerpt = WHOLE,
        slowdown: Fraction = Fraction(1),
        origin: Fraction = Fraction(0),
        overwrite: bool = False,
        sample_aspect_ratio: Fraction | None = None,
        display_matrix: tuple[int, ...] | None = None,
        identity: dict[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        check_output_path(self.path, overwrite=overwrite)
        if isinstance(carry_from, Path) and self.path.exists() and self.path.samefile(carry_from):
            raise OutputError(f"{self.path}: is the input itself; choose another name")
        self._partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        self._shapes = pix_fmt.plane_shapes(width, height)
        self._pix_fmt = pix_fmt
        is_matroska = self.path.suffix.lower() in (".mkv", ".mka", ".mk3d")
        self._pixel_shape = sample_aspect_ratio if is_matroska else None
        self._end: Fraction | None = None
        self._carried: CarriedStreams | None = None
        self._carried_until = None if excerpt.until is None else excerpt.until - excerpt.shift
        self._colour, self._ticks = colour, time_base
        self._segment: Segment | None = None
        self._last_dts: int | None = None
        self._is_complete = False
        self._stored: SegmentStore | None = None
        threads = encoder.threads or cores()
        if identity is not None:
            self._stored = SegmentStore(self.path, identity, threads=threads, overwrite=overwrite)
            threads = self._stored.threads
        self._encoder = replace(encoder, threads=threads)
        self._shape = StreamShape(width, height, rate, time_base, pix_fmt, colour, sample_aspect_ratio, display_matrix)
        try:
            self._container = _open(self._partial, time_base)
        except BaseException:
            self._let_go()
            raise
        try:
            self._stream, notes = add_video_stream(self._container, self._shape, self._encoder)
            self.notes += notes
            if carry_from is not None:
                self._carried = CarriedStreams(
                    carry_from,
                    self._container,
                    self.notes,
                    excerpt,
                    audio=carry_audio,
                    slowdown=slowdown,
                    origin=origin,
                )
            self._container.metadata.update(metadata or {})
            self._container.start_encoding()
            self.time_base = Fraction(self._stream.time_base or time_base)
            if rate * self.time_base > 1:
                raise OutputError(
                    f"{self.path}: {float(rate):g} frames per second would share time stamps, of which "
                    f"{self.path.suffix} has {1 / self.time_base} per second; use .mp4"
                )
        except (av.FFmpegError, ValueError, OSError) as error:
            self.abort()
            raise OutputError(
                f"{self.path}: {encoder.codec or DEFAULT_CODEC} {width}x{height} {pix_fmt.name} cannot be written "
                f"({error})"
            ) from error
        except BaseException:
            self.abort()
            raise

    @property
    def reports(self) -> Sequence[SegmentReport]:
        return [facts.report for facts in self._stored.segments] if self._stored else ()

    @property
    def frames_continued(self) -> int:
        return sum(facts.frames for facts in self._stored.segments) if self._stored else 0

    def continue_after(self, count: int) -> None:
        if self._stored is not None:
            self._stored.keep(count)
            self._end = self._stored.segments[-1].end if count else None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frame: Frame) -> None:
        """Appends a frame, which must not begin before the one before has ended.

        Raises:
            OutputError: the encoder or the disk refuses.
            ValueError: a frame of another size or format, or out of order.
        """
        if frame.pix_fmt != self._pix_fmt or tuple(plane.shape for plane in frame.planes) != self._shapes:
            raise ValueError(
                f"frame of {frame.pix_fmt.name} {frame.width}x{frame.height} does not fit {self.path.name}"
            )
        if frame.duration <= 0 or (self._end is not None and frame.time < self._end):
            raise ValueError(
                f"frame at {frame.time} s has no length, or begins before {self._end} s, the end of the one before"
            )
        self._end = frame.time + frame.duration
        try:
            if self._segment is None:
                encoder = encoder_like(self._stream, self._shape, self._encoder)
                self._segment = Segment(encoder, None, self._pix_fmt, self._colour, self._ticks)
            self._take(self._segment.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.path}: cannot be written further ({error})") from error

    def end_segment(self, report: SegmentReport | None = None) -> None:
        """A segment ends after the frames so far; without new frames nothing ends.

        report: what is known of it; where there is an identity there must be one.

        Raises:
            OutputError: the encoder or the disk refuses.
        """
        if self._segment is None:
            return
        assert self._end is not None
        try:
            self._take(self._segment.flush())
            if self._stored is not None:
                assert report is not None, "a segment that is kept has a report"
                self._stored.finish(self._segment.frames, self._end, report)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.path}: cannot be written further ({error})") from error
        self._segment = None

    def complete(self) -> None:
        if self._is_complete:
            return
        try:
            if self._end is None:
                raise OutputError(f"{self.path}: no frame was written")
            self.end_segment()
            if self._stored is not None:
                for packet in self._stored.packets():
                    packet.time_base = self._ticks
                    self._mux(packet)
            if self._carried is not None:
                self._carried.copy_until(None if self._carried_until is None else max(self._carried_until, self._end))
                self._carried.close()
            self._container.close()
            if self._pixel_shape is not None and not write_pixel_shape(self._partial, self._pixel_shape):
                self.notes.append(
                    Warn(f"{self.path.name}: the shape of pixels ({self._pixel_shape}) could not be declared")
                )
            with self._partial.open("rb+") as file:
                os.fsync(file.fileno())
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self.path}: cannot be completed ({error})") from error
        self._is_complete = True

    def close(self) -> None:
        """Completes the file and gives it its name.

        Raises:
            OutputError: the file cannot be completed, or no frame was written.
        """
        try:
            self.complete()
            self._partial.replace(self.path)
            if self._stored is not None:
                self._stored.remove()
        except OSError as error:
            self.abort()
            raise OutputError(f"{self.path}: cannot be completed ({error})") from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drops everything but finished segments; may be called twice."""
        # Removed first: closing then finds no file to finish.
        self._partial.unlink(missing_ok=True)
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()
        if self._carried is not None:
            self._carried.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._stored is not None:
            self._stored.close()

    def _take(self, packets: list[Packet]) -> None:
        """Packets as they leave a segment's encoder: to the disk until all are there, or straight to the container."""
        for packet in packets:
            if self._stored is not None:
                self._stored.append(packet)
            else:
                self._mux(packet)

    def _mux(self, packet: Packet) -> None:
        """The packet to the container, after what is carried and due before it."""
        dts = _ticks(packet.dts)
        if self._last_dts is not None and dts <= self._last_dts:
            # Every encoder puts its first decoding times before its first picture, as far as its pictures are long:
            # where those of this segment are longer than the last ones of the segment before, too far.
            dts = packet.dts = self._last_dts + 1
        self._last_dts = dts
        if self._carried is not None:
            self._carried.copy_until(dts * self._ticks)
        packet.stream = self._stream
        self._container.mux(packet)


def check_output_path(path: Path, *, overwrite: bool) -> None:
    """Refuses a file name that cannot become a video, before anything is opened.

    Raises:
        OutputError: as `check_replaceable`, or an extension that names no container.
    """
    check_replaceable(path, overwrite=overwrite)
    _open(path, Fraction(1, 1000))


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuses a file name that nothing may be written under.

    Raises:
        OutputError: no such folder, not writable, or exists and may not be replaced.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {folder}; make it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it, such as {path / 'out.mp4'}")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or allow overwriting")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: folder {folder} may not be written to; choose another one")


def _open(path: Path, time_base: Fraction) -> av.container.OutputContainer:
    """An output container; no file is made until its header is written."""
    options = {}
    if path.suffix.lower() in (".mp4", ".mov", ".m4v"):
        ticks = str(time_base.denominator)
        # The index goes to the front, so that players can start while they load; both of its clocks count in our ticks.
        options = {"movflags": "+faststart", "video_track_timescale": ticks, "movie_timescale": ticks}
    try:
        return av.open(f"file:{path.absolute()}", "w", container_options=options)
    except ValueError as error:
        raise OutputError(
            f"{path}: extension {path.suffix!r} names no video container; use .mp4, .mkv, .mov, .webm or .avi"
        ) from error


def _stamp_decoding_times(packets: list[Packet]) -> None:
    """Decoding times for a run so short that it is still inside the encoder as a whole: x265 leaves them undefined."""
    shown = [_ticks(packet.pts) for packet in packets]
    steps = sorted(shown)
    delay = max(step - time for step, time in zip(steps, shown, strict=True))
    for packet, step in zip(packets, steps, strict=True):
        packet.dts = step - delay


def _ticks(value: int | None) -> int:
    assert value is not None  # an encoder stamps every packet
    return value
