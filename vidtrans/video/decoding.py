"""One container's pictures, decoded in the order in which they are shown, from its front or from a keyframe on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from math import floor
from pathlib import Path
from typing import cast

import av

from vidtrans.errors import InputError
from vidtrans.remarks import Warn
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.damage import Lost, Promises, Slots, demuxed
from vidtrans.video.local_file import (
    WHOLE_PART,
    Source,
    check_source,
    is_untimed,
    open_container,
    open_piped_container,
    times_of_its_own,
)
from vidtrans.video.matroska_check import damaged_parts
from vidtrans.video.stamps import Stamps, Timed

MICROSECONDS = 1_000_000
# Codecs of images, of which each stands for itself and can be checked.
_STILLS = {"png", "mjpeg", "bmp", "webp"}
# A video that ends earlier than its container says by more than this, and by more than two frames, has lost its end.
_LARGEST_SHORTFALL_SECONDS = Fraction(1, 4)
# Codecs whose order of showing FFmpeg does not know before decoding them; AVI does not know it either.
_REORDERED_IN_AVI = {"h264", "hevc"}
# How much further back the next keyframe is looked for, each time, where the one before does not serve.
_STEP_BACK_SECONDS = Fraction(1, 4)


class Decoding:
    """The first picture stream of a container; damage in it, and an end that is missing, are found here.

    Args:
        path: what is read, or its name where `pipe` is given.
        notes: gets what a user should be told, as soon as it is known.
        max_pixels: larger frames are refused before they are allocated.
        pipe: what can be read only once, in place of the file.
        rate: pictures per second of a pipe of pictures without times.

    Attributes:
        container, stream: as FFmpeg has them.
        is_pipe: whether nothing can be sought.
        frames_read: pictures decoded, since the front or the keyframe that decoding began with.

    Raises:
        InputError: there is no video in it, or it is not as long as it says.
        UsageError: a rate for what has times of its own.
    """

    def __init__(
        self, path: Source, notes: list[str], *, max_pixels: int, pipe: ByteStream | None, rate: Fraction | None
    ) -> None:
        if pipe is None and rate is not None:
            raise times_of_its_own(str(path))
        self.is_pipe = pipe is not None
        self.frames_read = 0
        self._path, self._notes, self._max_pixels = path, notes, max_pixels
        self._skipped = 0
        self._unreadable: list[str] = []
        self._sought_from = Fraction(0)
        self._damaged_parts: list[Fraction] = []
        self._declares_size = pipe is None and check_source(path)
        self.container = (
            open_container(path, max_pixels) if pipe is None else open_piped_container(pipe, rate, max_pixels)
        )
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.close()
            raise
        self._promises = self._new_promises()
        self._stamps = Stamps(str(path), self.average_rate, self.time_base, self._is_damaged)

    def close(self) -> None:
        """Lets the container go; may be called twice."""
        self.container.close()

    @property
    def average_rate(self) -> Fraction:
        """Pictures per second, nominal."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(25)

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        assert self.stream.time_base is not None  # every demuxer gives its streams a clock
        return self.stream.time_base

    @property
    def lacks_order(self) -> bool:
        """Whether the container counts pictures as they are decoded, and nothing says when they are shown."""
        return self.container.format.name == "avi" and self.stream.codec_context.name in _REORDERED_IN_AVI

    @property
    def are_stills(self) -> bool:
        """Whether it is images one after the other, without times."""
        return is_untimed(self.container) and self.stream.codec_context.name in _STILLS

    @property
    def states_length(self) -> bool:
        """Whether a length in the header is one: into a pipe AVI is written before its length is known."""
        return not self.is_pipe or self.container.format.name != "avi"

    @property
    def flaws(self) -> int:
        """How many pictures were skipped or left out so far, and places found that cannot be read."""
        return self._skipped + self._stamps.left_out + len(self._unreadable)

    def remarks_at_end(self) -> list[Warn]:
        """What was wrong beside the pictures that were handed out as damaged, one line each."""
        name, lines = self._path.name, []
        if self._unreadable:
            lines.append(Warn(f"{name}: damaged at {len(self._unreadable)} places, where nothing can be read"))
        if self._damaged_parts:
            lines.append(
                Warn(
                    f"{name}: {len(self._damaged_parts)} of its parts are damaged, the first at "
                    f"{float(self._damaged_parts[0]):.2f} s or later: pictures and sound there may be wrong or missing"
                )
            )
        if left_out := self._stamps.left_out:
            lines.append(Warn(f"{name}: {left_out} frames left out, their time is not after that of the frame before"))
        return lines

    def pictures(self) -> Iterator[Timed]:
        """All pictures, of the container as it was opened; once.

        Raises:
            InputError: there is no way on, or the end is missing.
        """
        return self._stamps.ascending(self._decoded(self._packets()))

    def from_front(self) -> Iterator[Timed]:
        """All pictures, of the file opened anew. Raises as `pictures` does."""
        index = self.stream.index
        self.close()
        self.container = open_container(self._path, self._max_pixels)
        self.stream = next(stream for stream in self.container.streams.video if stream.index == index)
        self.stream.thread_type = "AUTO"
        self.frames_read = 0
        return self.pictures()

    def from_keyframe(
        self, since: Fraction, begin: Fraction, fits: Callable[[av.Packet[av.VideoStream]], bool] = lambda packet: True
    ) -> Iterator[Timed] | None:
        """The pictures from one that begins at `since` or earlier on, not many before it, and a keyframe that fits.

        None where none is found after `begin`, the file's first time; then only `from_front` helps. Indexes may count
        decoding times, or point anywhere, so what they lead to is checked: a keyframe of the codec that is itself shown
        by then. What leans on pictures before it is shown before it, too.
        """
        back = Fraction(0)
        while since - back > begin:
            self.frames_read = 0
            try:
                self.container.seek(floor((since - back) / self.time_base), stream=self.stream)
                packets = self._packets()
                found = next((p for p in packets if p.stream is self.stream and p.is_keyframe), None)
                if (
                    found is not None
                    and found.pts is not None
                    and found.pts * self.time_base <= since
                    and fits(cast("av.Packet[av.VideoStream]", found))
                ):
                    pictures = self._stamps.ascending(self._decoded(chain((found,), packets), sought=True))
                    head = next(pictures, None)
                    if head is not None and (head.is_damaged or head.is_stand_in):
                        break
                    if head is not None and head.time <= since:
                        self._sought_from = since
                        return chain((head,), pictures)
            except (av.FFmpegError, InputError):
                break  # where there is real damage, it is met again from the front
            back = 2 * back + _STEP_BACK_SECONDS
        return None

    def _choose_stream(self) -> av.VideoStream:
        covers = [
            stream for stream in self.container.streams.video if stream.disposition & av.stream.Disposition.attached_pic
        ]
        streams = [stream for stream in self.container.streams.video if stream not in covers]
        if not streams:
            only = ", only a cover picture" if covers else ""
            raise InputError(f"{self._path}: holds no video{only}; choose a file with a picture track")
        stream = self.stream = streams[0]
        if len(streams) > 1:
            self._notes.append(Warn(f"{self._path.name}: holds {len(streams)} video streams, only the first is used"))
        if stream.codec_context is None:
            raise InputError(
                f"{self._path}: its video codec is unknown here; convert it to a common one such as H.264 first"
            )
        stream.thread_type = "AUTO"
        if self.are_stills:
            # Else an image that lacks its end is filled up in silence, or left out, if it is the last of many threads.
            stream.codec_context.options = {**stream.codec_context.options, "err_detect": "crccheck+explode"}
            stream.thread_type = "SLICE"
        return stream

    def _packets(self) -> Iterator[av.Packet[av.stream.Stream]]:
        """The video's packets from here on, with those of the sound where it takes them to know the end."""
        streams = (self.stream,) if self._declares_size else (self.stream, *self.container.streams.audio)
        return demuxed(self.container, streams, self._unreadable.append)

    def _new_promises(self) -> Slots | Promises:
        return Slots() if self.lacks_order else Promises(self.average_rate, self.time_base)

    def _is_damaged(self, picture: av.VideoFrame) -> bool:
        return picture.is_corrupt or self._promises.is_flagged(picture.pts)

    def _decoded(
        self, packets: Iterable[av.Packet[av.stream.Stream]], *, sought: bool = False
    ) -> Iterator[av.VideoFrame | Lost]:
        """Every picture in presentation order, and where one is lost.

        A recording may begin between two keyframes of its codec: what cannot be decoded before the first of them, or
        leans on what lies before it, is skipped. sought: this is not where the file begins.
        """
        end = Fraction(0)
        started, begin = False, None
        promises = self._promises = self._new_promises()
        try:
            for packet in packets:
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is not self.stream:
                    continue
                if not started and (packet.is_keyframe or self._is_indexed(packet)):
                    started = True
                    if not self.frames_read:
                        self.stream.codec_context.flush_buffers()
                        begin = packet.pts
                if started and (begin is None or packet.pts is None or packet.pts >= begin):
                    promises.sent(packet)
                if not packet.size and packet.pts is not None:
                    continue  # means the picture before; to a decoder it would mean the end
                for picture in self._decode_packet(packet, started=started):
                    if isinstance(picture, Lost):
                        if started or self.frames_read:
                            yield from promises.failed(packet)
                        else:
                            self._skipped += not sought
                    elif picture.is_corrupt and begin is not None and picture.pts is not None and picture.pts < begin:
                        self._skipped += not sought
                    else:
                        self.frames_read += 1
                        yield from promises.shown(picture)
            if self.frames_read:
                yield from promises.rest()
        except av.FFmpegError as error:
            raise self._failed(f"cannot be read further ({error.strerror})") from error
        if self._skipped and self.frames_read and not sought:
            self._notes.append(
                Warn(
                    f"{self._path.name}: begins between two keyframes of its codec, {self._skipped} pictures are "
                    "skipped"
                )
            )
        self._check_end(end)

    def _is_indexed(self, packet: av.Packet[av.stream.Stream]) -> bool:
        """Whether the container's index has a keyframe there, which a damaged one does not say of itself."""
        stamps = {packet.dts, packet.pts}
        return any(entry.is_keyframe and entry.timestamp in stamps for entry in self.stream.index_entries[:1])

    def _decode_packet(self, packet: av.Packet[av.stream.Stream], *, started: bool) -> list[av.VideoFrame] | list[Lost]:
        """The pictures that are ready, or that one is lost."""
        if packet.is_corrupt and not started:
            return [Lost(packet.pts)]
        try:
            return self.stream.decode(packet)
        except av.FFmpegError as error:
            if self.are_stills and self.is_pipe:  # what a program writes into a pipe is whole
                raise self._failed(f"is cut off or damaged ({error.strerror})") from error
            return [Lost(packet.pts)]

    def _check_end(self, end: Fraction) -> None:
        """Where the container states a duration but no size, a missing end shows only here; so does a damaged one."""
        if not self.frames_read:
            return
        self._look_for_damaged_parts()
        if self._declares_size:
            stated = _stated_end(self.stream)
            if stated is not None and stated - end > 2 / self.average_rate:
                self._notes.append(
                    Warn(
                        f"{self._path.name}: its pictures end at {float(end):.2f} s of {float(stated):.2f} s, what "
                        "follows is damaged or missing"
                    )
                )
            return
        declared = self.container.duration if self.states_length else None
        if declared is None:
            return
        expected = Fraction((self.container.start_time or 0) + declared, MICROSECONDS)
        if expected - end > max(_LARGEST_SHORTFALL_SECONDS, 2 / self.average_rate):
            raise self._failed(f"is cut off: it ends at {float(end):.2f} s of {float(expected):.2f} s")

    def _look_for_damaged_parts(self) -> None:
        """Where Matroska is not as it was written, which neither its demuxer nor, often, the decoder notices."""
        if not self.is_pipe and isinstance(self._path, Path) and "matroska" in self.container.format.name:
            self._damaged_parts = damaged_parts(self._path, self._sought_from)

    def _failed(self, what: str) -> InputError:
        hint = "look for an error of the program that wrote it" if self.is_pipe else WHOLE_PART
        return InputError(f"{self._path}: {what}, after {self.frames_read} frames; {hint}")


def _stated_end(stream: av.VideoStream) -> Fraction | None:
    """When the pictures end by the container's word, seconds; Matroska's muxers leave it in a tag."""
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    tag = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,12})?)", stream.metadata.get("DURATION", ""))
    return None if tag is None else int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])
