"""Reads one video as a stream of exact frames, in the order in which they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from math import ceil, floor
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData

from vidtrans.errors import InputError, UsageError
from vidtrans.remarks import Warn
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.damage import Lost, Promises, Slots, demuxed
from vidtrans.video.deinterlace import Deinterlacer
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.frame import (
    FULL_RANGE_NAMES,
    TAG_LOCATION_LEFT,
    TAG_LOCATION_UNSPECIFIED,
    TAG_RANGE_FULL,
    TAG_RANGE_LIMITED,
    Colour,
    Frame,
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.hdr import read_hdr
from vidtrans.video.local_file import (
    DEFAULT_MAX_PIXELS,
    WHOLE_PART,
    Source,
    check_source,
    is_untimed,
    open_container,
    open_piped_container,
    source_named,
    times_of_its_own,
)
from vidtrans.video.matroska import chroma_location
from vidtrans.video.matroska_check import damaged_parts
from vidtrans.video.random_access import can_reset, resets
from vidtrans.video.seam import FRONT_ONLY, Mark, Seam
from vidtrans.video.shape import Turn

_MICROSECONDS = 1_000_000
# Codecs of images, of which each stands for itself and can be checked.
_STILLS = {"png", "mjpeg", "bmp", "webp"}
# A time stamp that steps back further than this starts a new clock (files glued together); less is a stray or doubled
# frame.
_LARGEST_STRAY_SECONDS = 1
# A video that ends earlier than its container says by more than this, and by more than two frames, has lost its end.
_LARGEST_SHORTFALL_SECONDS = Fraction(1, 4)
# Codecs whose order of showing FFmpeg does not know before decoding them; AVI does not know it either.
_REORDERED_IN_AVI = {"h264", "hevc"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is read through.

    Attributes:
        width, height: pixels of the upright picture (before `sample_aspect_ratio`).
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
        display_matrix: nine fixed-point numbers that turn the picture by what is no quarter turn; None: upright.
        carry_from: what sound and all else that is no picture can be read from a second time; None: nothing.
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
    carry_from: Source | None = None


@dataclass(frozen=True)
class _Timed:
    """A decoded picture; its time on the file's own clock and how long it says it lasts (0: it does not), seconds.

    is_damaged: the decoder mended it; is_stand_in: it is a neighbour's, its own could not be decoded.
    """

    picture: av.VideoFrame
    time: Fraction
    length: Fraction
    is_damaged: bool = False
    is_stand_in: bool = False


class VideoReader:
    """A video file or a pipe, read once from front to back: `for frame in reader`.

    Opening decodes the first frame, so that every error that can be known early comes early. Memory does not grow with
    the length. Frames follow each other without gaps or overlaps: each lasts until the next one's time, the last as
    long as the container says, else as long as the one before (a single frame: 1 / average rate). A frame without a
    time stamp follows its predecessor. A frame whose time is not after its predecessor's is left out and counted in
    `notes`.

    Frames come upright: what a display matrix turns by quarters is turned here. Interlaced pictures are made whole, one
    for each.
    Damage does not end the reading: a picture that the decoder could mend is taken as it is; in place of one that
    could not be decoded the picture before it is shown again (at the front, the first whole one); both are counted. A
    file that lacks its end is an error.

    An excerpt holds every frame that begins in [start, end) seconds after the file's first frame, each for as long as
    in the file. Its times are moved so that it begins when the file does, and those of a file that begins below zero so
    that it begins at zero.

    Args:
        path: the file, or a local_file.Address with the protocols that are allowed.
        start, end: seconds after the first frame; 0 and None cut nothing.
        told: what the user says of the colours, over what the tags say.
        deinterlace: False leaves interlaced pictures as they are.
        max_pixels: larger frames are refused before they are allocated.
        stream: what the file is read from where that can be done only once; closed with the reader.
        rate: frames per second of a stream of pictures without times; None: 25, and said so.

    Attributes:
        path: the file.
        info: facts known without reading it through.
        notes: things a user should be told, one line each; complete once all frames have been read.
        frames_read: frames decoded so far.
        damaged: frames handed out so far that were mended or stand in for others.
        is_clean: whether nothing was found wrong with the file since it was opened.

    Raises:
        InputError: on opening or at the frame where the file turns out to be cut off; at the end, where no frame of it
            was whole.
        UsageError: no frame begins in [start, end), or a rate for what has times of its own.
    """

    def __init__(
        self,
        path: str | Source,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        *,
        told: Told = NOTHING_TOLD,
        deinterlace: bool = True,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        stream: ByteStream | None = None,
        rate: Fraction | None = None,
    ) -> None:
        self.path = source_named(path) if stream is None else Path(stream.name)
        self._max_pixels = max_pixels
        self.notes: list[str] = []
        self.frames_read = 0
        self.damaged = 0
        self._left_out = 0
        self._skipped = 0
        self._handed_out = 0
        self._counted = 0
        self._frames: Iterator[Frame] | None = None
        self._told = told
        self._deinterlace = deinterlace
        self._turn = Turn(False, False, False)
        self._said_interlaced = False
        self._before: av.VideoFrame | None = None
        self._unreadable: list[str] = []
        self._sought_from = Fraction(0)
        self._bytes = stream
        if stream is None and rate is not None:
            raise times_of_its_own(str(path))
        self._declares_size = stream is None and check_source(self.path)
        self._container = (
            open_container(self.path, max_pixels) if stream is None else open_piped_container(stream, rate, max_pixels)
        )
        try:
            self._stream = self._choose_stream()
            self._pictures = self._timed(self._decode(self._packets()))
            first = next(self._pictures, None)
            if first is None:
                raise InputError(
                    f"{self.path}: holds no frame that can be decoded, or none of up to {max_pixels} pixels "
                    "(--max-pixels); check that it plays elsewhere"
                )
            self._begin = first.time
            whole = self._read_info(first.picture)
            if stream is not None:
                whole = self._read_info_of_pipe(whole, rate)
            self._pictures = chain((first,), self._pictures)
            self.info = self._excerpt(whole, first, start, end)
            if deinterlace:
                self._pictures = self._progressive(self._pictures)
            self._said_at_first = len(self.notes)
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

    @property
    def is_clean(self) -> bool:
        flaws = self.damaged + self._left_out + self._skipped + len(self._unreadable)
        return not flaws and len(self.notes) == self._said_at_first

    def continue_at(self, seam: Seam) -> str | None:
        """Goes to the frame before a seam, from which on the file decodes as from its front, without what lies before.

        Proved by the codec's own rules for the keyframe that decoding begins with, and by the frames around the seam,
        which must be those that another reader of the same excerpt had there.

        Returns:
            None, and the next frame handed out is number `seam.index`; or in words why that cannot be done, and then
            this reader may stand anywhere.
        """
        if not seam.is_clean:
            return "something was wrong with it before there"
        if self._said_interlaced:
            return "it is interlaced"
        if self._bytes is not None or self._are_stills or self._lacks_order:
            return FRONT_ONLY
        if not can_reset(self._stream):
            return f"keyframes of {self.info.codec} may be followed by pictures that lean on what lies before them"
        since = seam.before.time + self.info.excerpt.shift
        pictures = self._from_keyframe(since, self._begin, lambda packet: resets(self._stream, packet))
        if pictures is None:
            return "no keyframe to begin with is found before there"
        self._pictures = self._progressive(pictures) if self._deinterlace else pictures
        frames = self._all_frames()
        try:
            around = [frame for frame in (next(frames, None), next(frames, None)) if frame is not None]
            while around and around[0].time < seam.before.time:
                around = [*around[1:], *islice(frames, 1)]
        except (av.FFmpegError, InputError) as error:
            return f"it cannot be read there ({error})"
        if [Mark.of(frame) for frame in around] != [seam.before, seam.after] or not self.is_clean:
            return "what is found there is not what was there before"
        # As if all frames before had been read here, too.
        self.frames_read += seam.index + 2 - self._handed_out
        self._handed_out = self._counted = seam.index + 2
        self._frames = chain(around, frames)
        return None

    def __iter__(self) -> Iterator[Frame]:
        return self._all_frames() if self._frames is None else self._frames

    def _all_frames(self) -> Iterator[Frame]:
        """The frames, one ahead of which is decoded: a frame's end is known only when its successor's time is."""
        held: _Timed | None = None
        gap = 1 / self.info.average_rate
        until = self.info.excerpt.until
        stand_ins, first_damage = 0, Fraction(0)
        for following in self._pictures:
            if held is not None:
                gap = following.time - held.time
                yield self._frame(held, gap)
            held = following
            if until is not None and held.time >= until:
                held = None
                break
            self._counted += 1
            if held.is_damaged or held.is_stand_in:
                first_damage = held.time if not self.damaged else first_damage
                self.damaged += 1
                stand_ins += held.is_stand_in
        if held is not None:
            yield self._frame(held, held.length or gap)
        if self.damaged:
            if self.damaged == self._counted:
                raise InputError(
                    f"{self.path}: not one of its {self.damaged} frames can be decoded whole; {WHOLE_PART}"
                )
            self.notes.append(
                Warn(
                    f"{self.path.name}: {self.damaged} of {self._counted} frames are damaged, the first at "
                    f"{float(first_damage):.2f} s: {self.damaged - stand_ins} are shown as far as they could be "
                    f"decoded, in place of {stand_ins} the frame before is held"
                )
            )
        if self._unreadable:
            self.notes.append(
                Warn(f"{self.path.name}: damaged at {len(self._unreadable)} places, where nothing can be read")
            )
        if self._left_out:
            self.notes.append(
                Warn(
                    f"{self.path.name}: {self._left_out} frames left out, their time is not after that of the frame "
                    "before"
                )
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
        # An interlaced picture leans on the one before it.
        context = 1 / self._average_rate() if first.picture.interlaced_frame else Fraction(0)
        # A pipe cannot be sought.
        counted = first.picture.pts is None or self._lacks_order or self._bytes is not None
        pictures = self._pictures
        if not counted:
            pictures = self._from_keyframe(since - context, first.time) or self._from_front()
        last = first
        for picture in pictures:
            if picture.time >= since:
                self._pictures = chain((picture,), pictures)
                return picture
            last = picture
            self._before = picture.picture
        end = last.time + (last.length or 1 / self._average_rate())
        raise UsageError(
            f"{self.path}: no frame begins at --start {float(since - first.time):g} s or later, it ends at "
            f"{float(end - first.time):g} s; choose an earlier start"
        )

    def _from_keyframe(
        self, since: Fraction, begin: Fraction, fits: Callable[[av.Packet[av.VideoStream]], bool] = lambda packet: True
    ) -> Iterator[_Timed] | None:
        """The pictures from one that begins at `since` or earlier on, not many before it, and a keyframe that fits.

        None where none is found. Indexes may count decoding times, or point anywhere, so what they lead to is checked:
        a keyframe of the codec that is itself shown by then. What leans on pictures before it is shown before it, too.
        """
        back = Fraction(0)
        while since - back > begin:
            self.frames_read = 0
            try:
                self._container.seek(floor((since - back) / self._time_base), stream=self._stream)
                packets = self._packets()
                found = next((p for p in packets if p.stream is self._stream and p.is_keyframe), None)
                if (
                    found is not None
                    and found.pts is not None
                    and found.pts * self._time_base <= since
                    and fits(cast("av.Packet[av.VideoStream]", found))
                ):
                    pictures = self._timed(self._decode(chain((found,), packets), sought=True))
                    head = next(pictures, None)
                    if head is not None and (head.is_damaged or head.is_stand_in):
                        break
                    if head is not None and head.time <= since:
                        self._sought_from = since
                        return chain((head,), pictures)
            except (av.FFmpegError, InputError):
                break  # where there is real damage, it is met again from the front
            back = 2 * back + Fraction(1, 4)
        return None

    def _from_front(self) -> Iterator[_Timed]:
        """All pictures, of the file opened anew."""
        index = self._stream.index
        self._container.close()
        self._container = open_container(self.path, self._max_pixels)
        self._stream = next(stream for stream in self._container.streams.video if stream.index == index)
        self._stream.thread_type = "AUTO"
        self.frames_read = 0
        return self._timed(self._decode(self._packets()))

    def _choose_stream(self) -> av.VideoStream:
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
            self.notes.append(Warn(f"{self.path.name}: holds {len(streams)} video streams, only the first is used"))
        if stream.codec_context is None:
            raise InputError(
                f"{self.path}: its video codec is unknown here; convert it to a common one such as H.264 first"
            )
        stream.thread_type = "AUTO"
        self._are_stills = is_untimed(self._container) and stream.codec_context.name in _STILLS
        if self._are_stills:
            # Else an image that lacks its end is filled up in silence, or left out, if it is the last of many threads.
            stream.codec_context.options = {**stream.codec_context.options, "err_detect": "crccheck+explode"}
            stream.thread_type = "SLICE"
        return stream

    def _packets(self) -> Iterator[av.Packet[av.stream.Stream]]:
        """The video's packets from here on, with those of the sound where it takes them to know the end."""
        streams = (self._stream,) if self._declares_size else (self._stream, *self._container.streams.audio)
        return demuxed(self._container, streams, self._unreadable.append)

    def _timed(self, pictures: Iterable[av.VideoFrame | Lost]) -> Iterator[_Timed]:
        """Those of the pictures whose times ascend."""
        before: _Timed | None = None
        gap = 1 / self._average_rate()
        early: list[Fraction] = []  # times of what is lost before the first picture, which stands in for it
        pictures = iter(pictures)
        while (picture := next(pictures, None)) is not None:
            expected = before.time + (before.length or gap) if before is not None else len(early) * gap
            time = expected if picture.pts is None else picture.pts * self._time_base
            if isinstance(picture, Lost):
                if before is None:
                    early.append(time)
                elif time > before.time:
                    before = replace(before, time=time, length=Fraction(0), is_stand_in=not picture.is_meant)
                    yield before
                continue
            for lost in early:
                if lost < time:
                    yield _Timed(picture, lost, Fraction(0), is_stand_in=True)
            early.clear()
            is_stray = False
            if before is not None:
                if abs(time - expected) > _LARGEST_STRAY_SECONDS:
                    after = next(pictures, None)
                    pictures = pictures if after is None else chain((after,), pictures)
                    is_stray = self._is_stray(time, before.time, after)
                    time = expected if is_stray else time
                if time <= before.time:
                    self._leave_out(time, before.time)
                    continue
                gap = time - before.time
            is_damaged = picture.is_corrupt or self._promises.is_flagged(picture.pts) or is_stray
            before = _Timed(picture, time, (picture.duration or 0) * self._time_base, is_damaged)
            yield before

    def _progressive(self, pictures: Iterable[_Timed]) -> Iterator[_Timed]:
        """The same pictures without interlaced ones, from the first of these on one behind."""
        before, filter_ = self._before, None
        for timed in pictures:
            if filter_ is not None and not filter_.takes(timed.picture):
                yield from _with_pictures(filter_.flush())
                before = filter_ = None
            if filter_ is None and timed.picture.interlaced_frame:
                self._say_interlaced()
                filter_ = Deinterlacer(timed.picture)
                if before is not None and filter_.takes(before):
                    filter_.push(before, None)
            if filter_ is None:
                before = timed.picture
                yield timed
            else:
                yield from _with_pictures(filter_.push(timed.picture, timed))
        if filter_ is not None:
            yield from _with_pictures(filter_.flush())

    def _say_interlaced(self) -> None:
        self._said_interlaced = True
        line = f"{self.path.name}: is interlaced, "
        line += (
            "each picture is made whole by bwdif, one for each (--deinterlace off leaves them woven)"
            if self._deinterlace
            else "its pictures stay woven of two instants each"
        )
        if line not in self.notes:
            self.notes.append(line)

    def _is_stray(self, time: Fraction, before: Fraction, after: av.VideoFrame | Lost | None) -> bool:
        """Whether a time stamp is damaged: the picture after it goes on where the one before it was."""
        if after is None or after.pts is None:
            return False
        following = after.pts * self._time_base
        return before < following <= before + _LARGEST_STRAY_SECONDS and not before < time < following

    def _decode(
        self, packets: Iterable[av.Packet[av.stream.Stream]], *, sought: bool = False
    ) -> Iterator[av.VideoFrame | Lost]:
        """Every frame in presentation order, and where one is lost.

        A recording may begin between two keyframes of its codec: what cannot be decoded before the first of them, or
        leans on what lies before it, is skipped. sought: this is not where the file begins.
        """
        end = Fraction(0)
        started, begin = False, None
        promises = self._promises = Slots() if self._lacks_order else Promises(self._average_rate(), self._time_base)
        try:
            for packet in packets:
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is not self._stream:
                    continue
                if not started and (packet.is_keyframe or self._is_indexed(packet)):
                    started = True
                    if not self.frames_read:
                        self._stream.codec_context.flush_buffers()
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
            raise self._damaged(f"cannot be read further ({error.strerror})") from error
        if self._skipped and self.frames_read and not sought:
            self.notes.append(
                Warn(
                    f"{self.path.name}: begins between two keyframes of its codec, {self._skipped} pictures are skipped"
                )
            )
        self._check_end(end)

    def _is_indexed(self, packet: av.Packet[av.stream.Stream]) -> bool:
        """Whether the container's index has a keyframe there, which a damaged one does not say of itself."""
        stamps = {packet.dts, packet.pts}
        return any(entry.is_keyframe and entry.timestamp in stamps for entry in self._stream.index_entries[:1])

    def _decode_packet(self, packet: av.Packet[av.stream.Stream], *, started: bool) -> list[av.VideoFrame] | list[Lost]:
        """The pictures that are ready, or that one is lost."""
        if packet.is_corrupt and not started:
            return [Lost(packet.pts)]
        try:
            return self._stream.decode(packet)
        except av.FFmpegError as error:
            if self._are_stills and self._bytes is not None:  # what a program writes into a pipe is whole
                raise self._damaged(f"is cut off or damaged ({error.strerror})") from error
            return [Lost(packet.pts)]

    def _check_end(self, end: Fraction) -> None:
        """Where the container states a duration but no size, a missing end shows only here; so does a damaged one."""
        if not self.frames_read:
            return
        self._check_parts()
        if self._declares_size:
            stated = _stated_end(self._stream)
            if stated is not None and stated - end > 2 / self._average_rate():
                self.notes.append(
                    Warn(
                        f"{self.path.name}: its pictures end at {float(end):.2f} s of {float(stated):.2f} s, what "
                        "follows is damaged or missing"
                    )
                )
            return
        declared = self._container.duration if self._states_length else None
        if declared is None:
            return
        expected = Fraction((self._container.start_time or 0) + declared, _MICROSECONDS)
        if expected - end > max(_LARGEST_SHORTFALL_SECONDS, 2 / self._average_rate()):
            raise self._damaged(f"is cut off: it ends at {float(end):.2f} s of {float(expected):.2f} s")

    def _check_parts(self) -> None:
        """Says where Matroska is not as it was written, which neither its demuxer nor, often, the decoder notices."""
        if self._bytes is not None or not isinstance(self.path, Path) or "matroska" not in self._container.format.name:
            return
        if places := damaged_parts(self.path, self._sought_from):
            self.notes.append(
                Warn(
                    f"{self.path.name}: {len(places)} of its parts are damaged, the first at {float(places[0]):.2f} s "
                    "or later: pictures and sound there may be wrong or missing"
                )
            )

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
    def _lacks_order(self) -> bool:
        """Whether the container counts pictures as they are decoded, and nothing says when they are shown."""
        return self._container.format.name == "avi" and self._stream.codec_context.name in _REORDERED_IN_AVI

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
            alpha = any(component.is_alpha for component in first.format.components)
            lost = "its alpha (transparency) is left out" if alpha else "not all of it is kept"
            self.notes.append(Warn(f"{self.path.name}: pixel format {source_name} is read as {pix_fmt.name}, {lost}"))
        if stream.metadata.get("alpha_mode") == "1":
            self.notes.append(Warn(f"{self.path.name}: its alpha (transparency) is left out"))
        if first.interlaced_frame:
            self._say_interlaced()
        self._unturned = pix_fmt
        matrix = _display_matrix(first)
        turn = None if matrix is None else Turn.by_matrix(matrix)
        if turn is not None:
            self._turn, matrix = turn, None
        elif matrix is not None:
            self.notes.append(
                f"{self.path.name}: its display matrix is no quarter turn; the pictures stay as they are stored, and "
                "the outputs carry it where they can"
            )
        width, height = self._turn.size(first.width, first.height)
        pix_fmt = self._turn.pix_fmt(pix_fmt)
        if self._turn:
            self.notes.append(
                f"{self.path.name}: is stored turned or mirrored; its pictures are set upright ({width}x{height}), and "
                "the outputs need no display matrix"
            )
        ratio = stream.sample_aspect_ratio or None
        if ratio is not None and self._turn.transposed:
            ratio = 1 / ratio
        colour = self._colour(first, pix_fmt)
        duration = stream.duration * time_base if stream.duration else None
        if duration is None and container.duration:
            duration = Fraction(container.duration, _MICROSECONDS)
        ticks_per_frame = 1 / (self._average_rate() * time_base)
        return VideoInfo(
            width=width,
            height=height,
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
            sample_aspect_ratio=ratio,
            display_matrix=matrix,
            carry_from=self.path,
        )

    def _colour(self, first: av.VideoFrame, pix_fmt: PixelFormat) -> Colour:
        """What all frames' code values mean, by the tags and by what the user says."""
        name = self.path.name
        tagged = Colour.read(first, first.format.name, first.width, first.height)
        self._tags = _tags(first)
        try:
            mastering, light, left_out = read_hdr(first.side_data)
        except ValueError:  # as in _display_matrix
            mastering, light, left_out = None, None, []
        if left_out:
            self.notes.append(Warn(f"{name}: {' and '.join(left_out)} cannot be carried, left out"))
        location = chroma_location(self._stream) if pix_fmt.chroma_shift_x else TAG_LOCATION_UNSPECIFIED
        # Left is what untagged means.
        location = TAG_LOCATION_UNSPECIFIED if location == TAG_LOCATION_LEFT else location
        colour = replace(tagged, chroma_location=location, mastering=mastering, light=light).told(self._told, pix_fmt)
        colour.check(str(self.path), pix_fmt)
        return colour

    def _read_info_of_pipe(self, info: VideoInfo, rate: Fraction | None) -> VideoInfo:
        """The facts that differ where the file is read from a pipe, and what a user should know of that."""
        left_out = sorted({stream.type for stream in self._container.streams if stream.type in ("audio", "subtitle")})
        if left_out:
            self.notes.append(
                Warn(
                    f"{self.path}: {' and '.join(left_out)} left out, a pipe cannot be read a second time for them; "
                    "name the file instead, or add them to the outputs afterwards"
                )
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
        stored = self._turn.size(info.width, info.height)
        if (picture.width, picture.height) != stored:
            raise InputError(
                f"{self.path}: the picture size changes from {stored[0]}x{stored[1]} to "
                f"{picture.width}x{picture.height} after {self._handed_out} frames ({float(time):.2f} s); use the part "
                f"before with --end, or bring all to one size first, with: ffmpeg -i INPUT -s {stored[0]}x{stored[1]} "
                "OUTPUT"
            )
        if _tags(picture) != self._tags:
            self._tags = _tags(picture)
            self.notes.append(
                Warn(
                    f"{self.path.name}: its colour tags change after {self._handed_out} frames ({float(time):.2f} s); "
                    "those of the first are used throughout"
                )
            )
        self._handed_out += 1
        planes = planes_of(picture, self._unturned, full_range=info.colour.full_range)
        if self._turn:
            planes = self._turn.apply(planes, self._unturned, info.colour)
        return Frame(planes, time, duration, info.pix_fmt, info.colour)


def planes_of(picture: av.VideoFrame, pix_fmt: PixelFormat, *, full_range: bool) -> tuple[np.ndarray, ...]:
    """The code values of a picture, in shapes as `pix_fmt.plane_shapes`; repacked where it has another format."""
    if FULL_RANGE_NAMES.get(picture.format.name, picture.format.name) != pix_fmt.name:
        # Repacking only: the range is named on both sides so that the scaler leaves the code values alone.
        span = TAG_RANGE_FULL if full_range else TAG_RANGE_LIMITED
        picture = picture.reformat(format=pix_fmt.name, src_color_range=span, dst_color_range=span)
    shapes = pix_fmt.plane_shapes(picture.width, picture.height)
    return tuple(_plane(plane, shape, pix_fmt) for plane, shape in zip(picture.planes, shapes, strict=True))


def _with_pictures(made: Iterable[tuple[av.VideoFrame, _Timed | None]]) -> Iterator[_Timed]:
    """Times with the pictures that were made for them; a picture that only serves others has none."""
    return (replace(timed, picture=picture) for picture, timed in made if timed is not None)


def _tags(picture: av.VideoFrame) -> tuple[int, int, int, int]:
    return picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc


def _stated_end(stream: av.VideoStream) -> Fraction | None:
    """When the pictures end by the container's word, seconds; Matroska's muxers leave it in a tag."""
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    tag = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,12})?)", stream.metadata.get("DURATION", ""))
    return None if tag is None else int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])


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
