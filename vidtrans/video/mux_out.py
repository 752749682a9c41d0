"""Containers into pipes, and two videos in one container: a track for each, between them the input's sound, once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.stream import Disposition

from vidtrans.errors import OutputError, VidtransError
from vidtrans.remarks import Warn
from vidtrans.video.carried import CarriedStreams
from vidtrans.video.contract import Output
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.frame import Frame
from vidtrans.video.local_file import Source
from vidtrans.video.matroska import with_pixel_shape, write_pixel_shape
from vidtrans.video.pipe_out import Pipe
from vidtrans.video.video_stream import StreamShape, add_video_stream
from vidtrans.video.writer import Packet, Segment

# What is muxed comes in its order already; FFmpeg need not hold packets back to put it into one.
_STREAMING = {"flush_packets": "1", "max_interleave_delta": "1"}


@dataclass(frozen=True)
class TrackPlan:
    """One video of a container.

    Attributes:
        shape: what its encoder is told.
        encoder: which one, and its settings.
        metadata: of the track, such as its title.
    """

    shape: StreamShape
    encoder: EncoderOptions
    metadata: Mapping[str, str] = field(default_factory=dict)


class Multiplexer:
    """One container with a track for each video, written from a thread each; `tracks` are what frames are given to.

    It is complete when all tracks are, has its name when all are left, and is dropped when one of them is left by an
    exception.

    Args:
        out: a pipe, or the file to make, which has a temporary name until it is complete.
        container: FFmpeg's name of the format.
        plans: of the tracks; the first is the one that players show. All have one clock.
        carry_from: the input, of which all but the pictures is taken over; None: nothing is.
        carry_audio: whether its audio is.
        excerpt: the part of the input that the frames come from.
        slowdown, origin: the frames' times are those of the input moved so, see `carried.CarriedStreams`.
        metadata: of the container, beside what is taken over.

    Attributes:
        name: for messages.
        time_base: seconds per tick of the container's clock.
        tracks: one for each plan.

    Raises:
        OutputError: it cannot be made this way.
    """

    def __init__(
        self,
        out: Pipe | Path,
        container: str,
        plans: Sequence[TrackPlan],
        *,
        carry_from: Source | None = None,
        carry_audio: bool = True,
        excerpt: Excerpt = WHOLE,
        slowdown: Fraction = Fraction(1),
        origin: Fraction = Fraction(0),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._out = out
        self.name = str(out) if isinstance(out, Path) else out.name
        self._partial = None if isinstance(out, Pipe) else out.with_name(f".{out.stem}.partial{out.suffix}")
        self._lock = threading.Lock()
        self._carried: CarriedStreams | None = None
        self._carried_until = None if excerpt.until is None else excerpt.until - excerpt.shift
        self._released = False
        self._pixel_shape = plans[0].shape.sample_aspect_ratio if container == "matroska" else None
        self._container = (
            av.open(out, "w", format=container, container_options=_STREAMING)
            if isinstance(out, Pipe)
            else av.open(f"file:{Path(str(self._partial)).absolute()}", "w", format=container)
        )
        self.tracks: list[Track] = []
        notes: list[str] = []
        try:
            streams = []
            for number, plan in enumerate(plans):
                stream, more = add_video_stream(self._container, plan.shape, plan.encoder)
                notes += more
                if len(plans) > 1:
                    stream.disposition = Disposition(0) if number else Disposition.default
                stream.metadata.update(plan.metadata)
                streams.append(stream)
            if carry_from is not None:
                self._carried = CarriedStreams(
                    carry_from,
                    self._container,
                    notes,
                    excerpt,
                    audio=carry_audio,
                    slowdown=slowdown,
                    origin=origin,
                )
            self._container.metadata.update(metadata or {})
            self._container.start_encoding()
            self.time_base = Fraction(streams[0].time_base or plans[0].shape.time_base)
            if max(plan.shape.rate for plan in plans) * self.time_base > 1:
                raise OutputError(
                    f"{self.name}: {float(plans[0].shape.rate):g} frames per second would share time stamps, of which "
                    f"{container} has {1 / self.time_base} per second; use --out-format nut"
                )
        except (av.FFmpegError, ValueError, OSError) as error:
            self.drop()
            raise OutputError(f"{self.name}: {container} cannot be written ({error})") from error
        except BaseException:
            self.drop()
            raise
        self.tracks = [
            Track(self, _segment(stream, self._container, plan.shape), plan.shape)
            for stream, plan in zip(streams, plans, strict=True)
        ]
        self.tracks[0].notes += notes

    def mux(self, track: Track, packets: Sequence[Packet]) -> None:
        """Takes packets of one track and stores those of which no earlier one can come any more.

        Raises:
            OutputError: they cannot be written.
        """
        with self._lock, self.told():
            if not self._released and isinstance(self._out, Pipe):
                self._out.release(self._with_shape)
            self._released = True
            track.waiting.extend(packets)
            while all(one.waiting or one.is_closed for one in self.tracks):
                ready = [one for one in self.tracks if one.waiting]
                if not ready:
                    break
                packet = min(ready, key=lambda one: _begin(one.waiting[0])).waiting.popleft()
                if self._carried is not None:
                    self._carried.copy_until(_begin(packet))
                self._container.mux(packet)

    def complete(self) -> None:
        """Copies the rest of the audio and ends the container, once every track is closed; a file lacks its name only.

        Raises:
            OutputError: it cannot be completed.
        """
        if not all(track.is_closed for track in self.tracks):
            return
        with self._lock, self.told():
            if self._carried is not None:
                end = max(track.end for track in self.tracks)
                self._carried.copy_until(None if self._carried_until is None else max(self._carried_until, end))
                self._carried.close()
            self._container.close()
            if isinstance(self._out, Pipe):
                self._out.finish()
            elif self._partial is not None:
                shape, videos = self._pixel_shape, len(self.tracks)
                if shape is not None and not write_pixel_shape(self._partial, shape, videos):
                    self._say_undeclared()
                with self._partial.open("rb+") as file:
                    os.fsync(file.fileno())

    def _with_shape(self, head: bytes) -> bytes:
        """A stream's first bytes, in which the shape of pixels is declared."""
        if self._pixel_shape is None:
            return head
        changed = with_pixel_shape(head, self._pixel_shape, len(self.tracks))
        if changed is None:
            self._say_undeclared()
        return changed or head

    def _say_undeclared(self) -> None:
        line = f"{self.name}: the shape of pixels ({self._pixel_shape}) could not be declared"
        self.tracks[0].notes.append(Warn(line))

    def publish(self) -> None:
        """Gives a file its name, once every track is closed.

        Raises:
            OutputError: it cannot have it.
        """
        if self._partial is not None and isinstance(self._out, Path) and all(track.is_left for track in self.tracks):
            with self.told():
                self._partial.replace(self._out)

    def drop(self) -> None:
        """Drops everything; may be called twice."""
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
        if isinstance(self._out, Pipe):
            self._out.abandon()
        with contextlib.suppress(av.FFmpegError, OSError, VidtransError):
            self._container.close()
        if self._carried is not None:
            self._carried.close()

    def cancel(self) -> None:
        """Ends a write that waits for a reader."""
        if isinstance(self._out, Pipe):
            self._out.cancel()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """FFmpeg's errors as ours."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            if isinstance(self._out, Pipe) and self._out.failure is not None:
                raise self._out.failure from error
            raise OutputError(f"{self.name}: cannot be written further ({error})") from error


class Track(Output):
    """One video of a container: takes frames as VideoWriter does; a context manager.

    Attributes:
        notes: things a user should be told, one line each.
        waiting: packets that are not stored yet.
        is_closed: whether all of them have come; is_left: whether the block has been left.
        end: seconds, when the last frame so far ends.
    """

    def __init__(self, container: Multiplexer, segment: Segment, shape: StreamShape) -> None:
        self.notes: list[str] = []
        self.waiting: deque[Packet] = deque()
        self.is_closed = self.is_left = False
        self.end = Fraction(0)
        self._container = container
        self._segment = segment
        self._shape = shape
        self._begun = False

    def __enter__(self) -> Track:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._container.drop()
            return
        try:
            self.complete()
            self.is_left = True
            self._container.publish()
        except BaseException:
            self._container.drop()
            raise

    def complete(self) -> None:
        """All frames are written.

        Raises:
            OutputError: the encoder or the disk refuses.
        """
        if self.is_closed:
            return
        if not self._begun:
            raise OutputError(f"{self._container.name}: no frame was written")
        with self._container.told():
            packets = self._segment.flush()
        self.is_closed = True
        self._container.mux(self, packets)
        self._container.complete()

    def cancel(self) -> None:
        """Ends a `write` that waits for a reader."""
        self._container.cancel()

    def write(self, frame: Frame) -> None:
        """Appends a frame, which must not begin before the one before has ended.

        Raises:
            OutputError: the encoder or the disk refuses; PipeClosed where the reader has gone away.
            ValueError: a frame of another size or format, or out of order.
        """
        shape = self._shape
        if frame.pix_fmt != shape.pix_fmt or (frame.width, frame.height) != (shape.width, shape.height):
            raise ValueError(f"frame of {frame.pix_fmt.name} {frame.width}x{frame.height} does not fit")
        if frame.duration <= 0 or (self._begun and frame.time < self.end):
            raise ValueError(f"frame at {frame.time} s has no length, or begins before {self.end} s")
        self._begun, self.end = True, frame.time + frame.duration
        with self._container.told():
            packets = self._segment.encode(frame)
        self._container.mux(self, packets)


def _segment(stream: av.VideoStream, container: av.container.OutputContainer, shape: StreamShape) -> Segment:
    return Segment(stream, container, shape.pix_fmt, shape.colour, shape.time_base)


def _begin(packet: Packet) -> Fraction:
    assert packet.dts is not None  # an encoder stamps every packet
    return packet.dts * Fraction(packet.time_base)
