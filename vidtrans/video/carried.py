"""What an output takes over from the input: sound, subtitles, data, chapters, covers, fonts, tags and marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, TypeAlias

import av
from av.stream import AttachmentStream, Discard, Stream

from vidtrans.errors import InputError
from vidtrans.remarks import Warn
from vidtrans.video.carriage import (
    Carriage,
    add_attachment,
    add_stream,
    container_tags,
    copy_facts,
    covers_are_files,
    picture_of,
    plan_carriage,
)
from vidtrans.video.clock import MAX_TICKS_PER_SECOND
from vidtrans.video.damage import demuxed
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.local_file import Source, open_container
from vidtrans.video.rehearsal import Rehearsal
from vidtrans.video.subtitles import TEXT_CODECS, TextConverter

if TYPE_CHECKING:  # there is no such class where PyAV runs, only a dict of this shape
    from av.container.core import Chapter

Packet: TypeAlias = "av.Packet[Stream]"

_COUNT_PACKETS = ("avi",)  # a tick is as long as a packet: two that are rounded to the same one would be refused
# The container's own sorting waits no longer than this for a stream that has nothing to say, such as subtitles.
_LONGEST_WAIT_MICROSECONDS = 1_000_000


class CarriedStreams:
    """Copies all but the pictures of one file into an open output, never further ahead than asked, with exact times.

    It reads the input with a demuxer of its own, so that two outputs can be written at two speeds, and drops every
    packet it has no use for: nothing is held in memory, however rarely a subtitle comes. What the container cannot hold
    is converted (text subtitles) or left out, see `carriage.plan_carriage`.

    Of an excerpt it copies the packets that begin in it, as they are: what is cut is cut at the border of a packet. A
    text subtitle is different: one that is still shown where the excerpt begins is shown from there on, and one that is
    shown beyond its end is cut there. Chapters are cut at both ends.

    Args:
        source: the input file.
        output: a container that has its pictures' stream and whose header is not yet written; gets a stream for each
            one it can hold, chapters and tags.
        notes: gets one line for each thing that is not carried unchanged, at once; and on `close` one for each stream
            of which single packets could not be.
        excerpt: the part of the input that is used.
        audio: whether audio is copied.
        slowdown, origin: an instant t after origin (seconds) is moved to origin + (t - origin) * slowdown, and lengths
            are multiplied; audio cannot be.

    Attributes:
        streams: what becomes of each stream.
    """

    def __init__(
        self,
        source: Source,
        output: av.container.OutputContainer,
        notes: list[str],
        excerpt: Excerpt = WHOLE,
        *,
        audio: bool = True,
        slowdown: Fraction = Fraction(1),
        origin: Fraction = Fraction(0),
    ) -> None:
        plan = plan_carriage(source, output.format.name, audio=audio and slowdown == 1)
        self.streams = plan.streams
        notes += plan.notes
        self._notes = notes
        self._source = source
        self._output = output
        self._excerpt = excerpt
        self._slowdown, self._origin = slowdown, origin
        self._routes: dict[int, _Route] = {}
        self._covers: list[Packet] = []
        self._pending: tuple[Fraction, Packet | None] | None = None
        self._input = open_container(source)
        try:
            self._prepare()
        except BaseException:
            self._input.close()
            raise
        self._items = self._demux()
        self._begun = False

    def copy_until(self, time: Fraction | None) -> None:
        """Copies what is due before `time` (seconds on the output's clock); all that is left if None."""
        if not self._begun:
            self._begun = True
            self._output.mux(self._covers)
            self._covers = []
            self._pending = next(self._items, None)
        while self._pending is not None:
            due, packet = self._pending
            if time is not None and due >= time:
                break
            if packet is not None:
                route = self._routes[packet.stream_index]
                self._output.mux(route.take(packet))
            self._pending = next(self._items, None)
        for route in self._routes.values():
            self._output.mux(route.flush(time))

    def close(self) -> None:
        """Lets the input go; may be called twice."""
        for route in self._routes.values():
            route.close()
            if route.left_out:
                self._notes.append(Warn(f"{route.carriage.name}: {route.left_out} packets are damaged and left out"))
        self._routes = {}
        self._input.close()

    def _prepare(self) -> None:
        source, output = self._input, self._output
        output.container_options.setdefault("max_interleave_delta", str(_LONGEST_WAIT_MICROSECONDS))
        output.metadata.update(container_tags(source))
        chapters = [cut for chapter in source.chapters() if (cut := self._chapter(chapter)) is not None]
        output.set_chapters(chapters)
        _refine_movie_clock(output.container_options, chapters)
        picture = picture_of(source)
        for pictures in output.streams.video[:1]:
            copy_facts(picture, pictures)
        covers = self._read_covers()
        for carriage in self.streams:
            stream = source.streams[carriage.index]
            if carriage.becomes is None:
                continue
            if isinstance(stream, AttachmentStream):
                add_attachment(output, stream, carriage, stream.data)
            elif carriage.kind == "cover":
                if (picture_file := covers.get(stream.index)) is None:
                    continue
                if covers_are_files(output.format.name):
                    add_attachment(output, stream, carriage, bytes(picture_file))
                else:
                    target, _ = add_stream(output, stream, carriage)
                    picture_file.stream = target
                    picture_file.pts = picture_file.dts = 0
                    self._covers.append(picture_file)
            else:
                target, through = add_stream(output, stream, carriage)
                rehearsal = Rehearsal(output.format.name, stream, carriage) if carriage.kind == "audio" else None
                self._routes[stream.index] = _Route(carriage, target, through, output.format.name, rehearsal)
        # Where packets are rare, those of the pictures tell how far the file has been read.
        sparse = any(route.carriage.kind != "audio" for route in self._routes.values())
        self._clock = picture.index if picture is not None and sparse else None
        for stream in source.streams:
            if stream.index not in self._routes and stream.index != self._clock:
                stream.discard = Discard.all

    def _read_covers(self) -> dict[int, Packet]:
        """They lie in front of all other packets, without a time."""
        wanted = {carriage.index for carriage in self.streams if carriage.kind == "cover" and carriage.becomes}
        covers: dict[int, Packet] = {}
        if wanted:
            with open_container(self._source) as container:
                for packet in container.demux([container.streams[index] for index in sorted(wanted)]):
                    if packet.size:
                        covers.setdefault(packet.stream_index, packet)
                    if wanted <= covers.keys():
                        break
        return covers

    def _chapter(self, chapter: Chapter) -> Chapter | None:
        """Its part in the excerpt, on the output's clock; None where there is none."""
        time_base = chapter["time_base"] or Fraction(1)
        begin, end = chapter["start"] * time_base, chapter["end"] * time_base
        if self._excerpt.since is not None:
            begin = max(begin, self._excerpt.since)
        if self._excerpt.until is not None:
            end = min(end, self._excerpt.until)
        if end <= begin:
            return None
        start, stop = max(0, self._moved(begin, time_base)), self._moved(end, time_base)
        return {**chapter, "start": start, "end": stop, "time_base": time_base}

    def _moved(self, time: Fraction, time_base: Fraction) -> int:
        """Ticks of a time of the input on the output's clock."""
        ticks = time / time_base - round(self._excerpt.shift / time_base)  # the same whole step for every packet
        late = ticks - self._origin / time_base
        return round(ticks + late * (self._slowdown - 1) if late > 0 else ticks)

    def _demux(self) -> Iterator[tuple[Fraction, Packet | None]]:
        """What is due when; None: a picture, which only tells the time."""
        streams = [stream for stream in self._input.streams if stream.index in (*self._routes, self._clock)]
        if not self._routes:
            return
        hidden: dict[int, Packet] = {}
        # Not sought: an index of pictures may lead past sound that belongs to the excerpt.
        try:
            for packet in demuxed(self._input, streams):
                begin = packet.dts if packet.pts is None else packet.pts
                if begin is None:  # the last one of each stream is empty, it flushes a decoder
                    continue
                time_base = packet.time_base
                if packet.stream_index == self._clock:
                    decoded = begin if packet.dts is None else packet.dts
                    yield self._moved(decoded * time_base, time_base) * time_base, None
                    continue
                carriage = self._routes[packet.stream_index].carriage
                end = begin + (packet.duration or 0)
                first = self._first_tick(carriage, time_base, begin, end)
                if first is None:
                    continue
                if carriage.kind == "subtitle" and carriage.codec in TEXT_CODECS and self._excerpt.until is not None:
                    end = min(end, max(first, round(self._excerpt.until / time_base)))
                before, decoded = begin, begin if packet.dts is None else packet.dts
                packet.pts = self._moved(first * time_base, time_base)
                packet.dts = self._moved((decoded + first - before) * time_base, time_base)
                if self._slowdown != 1 or (first, end) != (before, before + (packet.duration or 0)):
                    packet.duration = self._moved(end * time_base, time_base) - packet.pts
                if (
                    packet.is_discard and carriage.kind == "audio"
                ):  # hidden by an edit list, not every container has one
                    hidden[packet.stream_index] = packet
                    continue
                if (earlier := hidden.pop(packet.stream_index, None)) is not None:
                    yield _due(earlier), earlier  # a decoder starts with it
                yield _due(packet), packet
        except av.FFmpegError as error:
            raise InputError(f"{self._source}: its audio cannot be read further ({error.strerror})") from error

    def _first_tick(self, carriage: Carriage, time_base: Fraction, begin: int, end: int) -> int | None:
        """Where a packet of the excerpt begins; None: it does not belong to it."""
        since = self._excerpt.since
        if since is None or begin * time_base >= since:
            return begin
        if carriage.kind == "subtitle" and carriage.codec in TEXT_CODECS and end * time_base > since:
            return round(since / time_base)
        return None


class _Route:
    """The way of one stream's packets into its stream of the output."""

    def __init__(
        self,
        carriage: Carriage,
        target: Stream,
        through: Callable[[Packet], list[Packet]] | TextConverter,
        format_name: str,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.carriage = carriage
        self._rehearsal = rehearsal
        self._target = target
        self._through = through
        self._counts_packets = format_name in _COUNT_PACKETS and carriage.kind == "audio"
        self._last: int | None = None
        self._tick = -1
        self._left_out = 0

    @property
    def left_out(self) -> int:
        """Packets that could not be carried."""
        return self._left_out + (self._through.left_out if isinstance(self._through, TextConverter) else 0)

    def take(self, packet: Packet) -> list[Packet]:
        """The packets of the output that one of the input makes."""
        time_base, begin, duration = packet.time_base, _ticks(packet.dts), packet.duration or 0
        if isinstance(self._through, TextConverter):
            return self._through.convert(packet, begin, duration)
        if self._last is not None and begin <= self._last:
            if self.carriage.kind == "audio":
                self._left_out += 1
                return []
            # Two at once are two texts; one out of order is held back, since no container takes it.
            late = self._last - begin
            packet.dts, packet.pts, packet.duration = self._last, _ticks(packet.pts) + late, max(0, duration - late)
        self._last = packet.dts
        try:
            packets = self._through(packet)
        except av.FFmpegError:
            self._left_out += 1
            return []
        for ready in packets:
            ready.stream, ready.time_base = self._target, time_base
            if self._counts_packets:
                clock = self._target.time_base or time_base
                self._tick = max(round(_ticks(ready.dts) * time_base / clock), self._tick + 1)
                ready.dts = ready.pts = self._tick
                ready.duration = max(1, round((ready.duration or 0) * time_base / clock))
                ready.time_base = clock
        kept = [ready for ready in packets if self._rehearsal is None or self._rehearsal.takes(ready)]
        self._left_out += len(packets) - len(kept)
        return kept

    def close(self) -> None:
        """Lets its rehearsal go."""
        if self._rehearsal is not None:
            self._rehearsal.close()

    def flush(self, time: Fraction | None) -> list[Packet]:
        """What is held back and no later packet, due at `time` or after it, can change; all of it if None."""
        if not isinstance(self._through, TextConverter):
            return []
        return self._through.flush(time)


def _refine_movie_clock(options: dict[str, str], chapters: list[Chapter]) -> None:
    """Makes a clock that is told, as that of MP4 and MOV, count the chapters' times, too: to 1 ms at least."""
    if not chapters or "movie_timescale" not in options:
        return
    ticks = int(options["movie_timescale"])
    times = [chapter[end] * (chapter["time_base"] or 1) for chapter in chapters for end in ("start", "end")]
    exact = lcm(ticks, *(Fraction(time).denominator for time in times))
    options["movie_timescale"] = str(exact if exact <= MAX_TICKS_PER_SECOND else lcm(ticks, 1000))


def _due(packet: Packet) -> Fraction:
    return _ticks(packet.dts) * packet.time_base


def _ticks(value: int | None) -> int:
    assert value is not None  # the demuxer above makes sure
    return value
