"""Reads one video as a stream of exact frames, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from math import ceil
from pathlib import Path
from types import TracebackType

import av

from vidtrans.errors import InputError, UsageError
from vidtrans.remarks import Warn
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.decoding import Decoding
from vidtrans.video.deinterlace import progressive
from vidtrans.video.excerpt import Excerpt
from vidtrans.video.facts import colour_tags, read_facts
from vidtrans.video.frame import Frame
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, WHOLE_PART, Source, source_named
from vidtrans.video.picture import planes_of
from vidtrans.video.random_access import can_reset, resets
from vidtrans.video.seam import FRONT_ONLY, Mark, Seam
from vidtrans.video.stamps import Timed
from vidtrans.video.video_info import VideoInfo

# Interlaced pictures are read on from so many before a seam, so that those around it have their neighbours.
_CONTEXT_PICTURES = 4


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
        self.notes: list[str] = []
        self.damaged = 0
        self._handed_out = 0
        self._counted = 0
        self._frames: Iterator[Frame] | None = None
        self._deinterlace = deinterlace
        self._whole_from: Fraction | None = None  # the time of the first picture that had to be made whole
        self._before: av.VideoFrame | None = None
        self._bytes = stream
        self._decoding = Decoding(self.path, self.notes, max_pixels=max_pixels, pipe=stream, rate=rate)
        try:
            self._pictures = self._decoding.pictures()
            first = next(self._pictures, None)
            if first is None:
                raise InputError(
                    f"{self.path}: holds no frame that can be decoded, or none of up to {max_pixels} pixels "
                    "(--max-pixels); check that it plays elsewhere"
                )
            self._begin = first.time
            self._begins_interlaced = first.picture.interlaced_frame
            if self._begins_interlaced:
                self._say_interlaced()
            facts = read_facts(self.path, self._decoding, first.picture, told, rate)
            self._stored, self._turn, self._tags = facts.stored, facts.turn, colour_tags(first.picture)
            self.notes += facts.notes
            self._pictures = chain((first,), self._pictures)
            self.info = self._excerpt(facts.info, first, start, end)
            if deinterlace:
                self._pictures = progressive(self._pictures, self._before, self._begin_whole)
            self._said_at_first = len(self.notes)
        except BaseException:
            self._decoding.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets the file go; may be called twice."""
        self._decoding.close()
        if self._bytes is not None:
            self._bytes.close()

    def cancel(self) -> None:
        """From another thread: ends a wait for whoever writes a pipe, as if its end had come."""
        if self._bytes is not None:
            self._bytes.cancel()

    @property
    def frames_read(self) -> int:
        """Frames decoded so far."""
        return self._decoding.frames_read

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found wrong with the file since it was opened."""
        return not self.damaged and not self._decoding.flaws and len(self.notes) == self._said_at_first

    def continue_at(self, seam: Seam) -> str | None:
        """Goes to the frame before a seam, from which on the file decodes as from its front, without what lies before.

        Proved by the codec's own rules for the keyframe that decoding begins with, and by the frames around the seam,
        which must be those that another reader of the same excerpt had there. Of interlaced pictures it begins some
        earlier, since what is made of one depends on its neighbours.

        Returns:
            None, and the next frame handed out is number `seam.index`; or in words why that cannot be done, and then
            this reader may stand anywhere.
        """
        decoding = self._decoding
        if not seam.is_clean:
            return "something was wrong with it before there"
        if decoding.is_pipe or decoding.are_stills or decoding.lacks_order:
            return FRONT_ONLY
        if not can_reset(decoding.stream):
            return f"keyframes of {self.info.codec} may be followed by pictures that lean on what lies before them"
        since = seam.before.time + self.info.excerpt.shift
        leans = self._deinterlace and self._begins_interlaced
        context = _CONTEXT_PICTURES / decoding.average_rate if leans else Fraction(0)
        pictures = decoding.from_keyframe(since - context, self._begin, lambda packet: resets(decoding.stream, packet))
        if pictures is None:
            return "no keyframe to begin with is found before there"
        self._whole_from = None
        self._pictures = progressive(pictures, None, self._begin_whole) if self._deinterlace else pictures
        frames = self._all_frames()
        try:
            around = [frame for frame in (next(frames, None), next(frames, None)) if frame is not None]
            while around and around[0].time < seam.before.time:
                around = [*around[1:], *islice(frames, 1)]
        except (av.FFmpegError, InputError) as error:
            return f"it cannot be read there ({error})"
        if [Mark.of(frame) for frame in around] != [seam.before, seam.after] or not self.is_clean:
            return "what is found there is not what was there before"
        # The filter must have left its first picture behind it, there as here: see `progressive`.
        if leans and not self._was_whole_before(since):
            return "only some of its pictures are interlaced"
        # As if all frames before had been read here, too.
        decoding.frames_read += seam.index + 2 - self._handed_out
        self._handed_out = self._counted = seam.index + 2
        self._frames = chain(around, frames)
        return None

    def __iter__(self) -> Iterator[Frame]:
        return self._all_frames() if self._frames is None else self._frames

    def _all_frames(self) -> Iterator[Frame]:
        """The frames, one ahead of which is decoded: a frame's end is known only when its successor's time is."""
        held: Timed | None = None
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
        self.notes += self._decoding.remarks_at_end()

    def _excerpt(self, whole: VideoInfo, first: Timed, start: Fraction, end: Fraction | None) -> VideoInfo:
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

    def _skip_until(self, since: Fraction, first: Timed) -> Timed:
        """Makes the first picture that begins at `since` or later the next one; returns it."""
        # Without time stamps only counting from the front tells where a picture lies.
        # An interlaced picture leans on the one before it.
        context = 1 / self._decoding.average_rate if first.picture.interlaced_frame else Fraction(0)
        # A pipe cannot be sought.
        counted = first.picture.pts is None or self._decoding.lacks_order or self._decoding.is_pipe
        pictures = self._pictures
        if not counted:
            pictures = self._decoding.from_keyframe(since - context, first.time) or self._decoding.from_front()
        last = first
        for picture in pictures:
            if picture.time >= since:
                self._pictures = chain((picture,), pictures)
                return picture
            last = picture
            self._before = picture.picture
        end = last.time + (last.length or 1 / self._decoding.average_rate)
        raise UsageError(
            f"{self.path}: no frame begins at --start {float(since - first.time):g} s or later, it ends at "
            f"{float(end - first.time):g} s; choose an earlier start"
        )

    def _was_whole_before(self, time: Fraction) -> bool:
        """Whether pictures were made whole before then, and not only before the excerpt."""
        since = self.info.excerpt.since
        return self._whole_from is not None and (since is None or since <= self._whole_from) and self._whole_from < time

    def _begin_whole(self, first: Timed) -> None:
        self._whole_from = first.time
        self._say_interlaced()

    def _say_interlaced(self) -> None:
        line = f"{self.path.name}: is interlaced, "
        line += (
            "each picture is made whole by bwdif, one for each (--deinterlace off leaves them woven)"
            if self._deinterlace
            else "its pictures stay woven of two instants each"
        )
        if line not in self.notes:
            self.notes.append(line)

    def _frame(self, timed: Timed, duration: Fraction) -> Frame:
        info, picture, time = self.info, timed.picture, timed.time - self.info.excerpt.shift
        stored = self._turn.size(info.width, info.height)
        if (picture.width, picture.height) != stored:
            raise InputError(
                f"{self.path}: the picture size changes from {stored[0]}x{stored[1]} to "
                f"{picture.width}x{picture.height} after {self._handed_out} frames ({float(time):.2f} s); use the part "
                f"before with --end, or bring all to one size first, with: ffmpeg -i INPUT -s {stored[0]}x{stored[1]} "
                "OUTPUT"
            )
        if colour_tags(picture) != self._tags:
            self._tags = colour_tags(picture)
            self.notes.append(
                Warn(
                    f"{self.path.name}: its colour tags change after {self._handed_out} frames ({float(time):.2f} s); "
                    "those of the first are used throughout"
                )
            )
        self._handed_out += 1
        planes = planes_of(picture, self._stored, full_range=info.colour.full_range)
        if self._turn:
            planes = self._turn.apply(planes, self._stored, info.colour)
        return Frame(planes, time, duration, info.pix_fmt, info.colour)
