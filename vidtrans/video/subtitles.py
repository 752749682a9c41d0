"""Text subtitles turned from one format into another, packet by packet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import av
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

# Formats of which every packet is one whole cue with its own length, by FFmpeg's name.
TEXT_CODECS = ("subrip", "ass", "mov_text", "webvtt", "text")
# What each is turned into where it cannot be copied: the first of these that the container holds.
TEXT_TARGETS = ("subrip", "mov_text", "webvtt")
# Of two cues of a track these show only the later one.
_ONE_AT_A_TIME = {"mov_text"}

_OVERRIDES = re.compile(rb"(\{[^}]*\})")
_DRAWING = re.compile(rb"\\p([0-9]+)")
_SPACE = re.compile(rb"\\[Nnh]|\s")
# Fields of a cue in FFmpeg's common form before its text: order, layer, style, name, three margins, effect.
_FIELDS_BEFORE_TEXT = 8


@dataclass(frozen=True)
class Cue:
    """A text on the screen.

    Attributes:
        begin, end: ticks; an end of None: until the next cue begins.
        head: the fields before the text, in ASS's words.
        text: with ASS's override codes.
    """

    begin: int
    end: int | None
    head: bytes
    text: bytes


class TextConverter:
    """Turns the packets of one text subtitle stream into another format.

    Bold, italic, underline, colours and the like are kept where the target has them (FFmpeg's own coders do it); vector
    drawings are left out. Where the target shows one cue at a time, overlapping cues are cut into pieces that show
    their texts together.

    Args:
        source: the stream; target: one of the output whose header is not yet written.

    Attributes:
        left_out: cues that are no text.
    """

    def __init__(self, source: SubtitleStream, target: SubtitleStream) -> None:
        assert source.time_base is not None  # every demuxer gives its streams a clock
        self._time_base = source.time_base
        self._source = source.codec_context
        self._target = target
        self._source.open(strict=False)
        target.codec_context.subtitle_header = self._source.subtitle_header
        target.codec_context.time_base = target.time_base = source.time_base
        self._overlaps = target.codec_context.codec.canonical_name not in _ONE_AT_A_TIME
        self._shown: list[Cue] = []  # begun together and not yet written, where they may not overlap
        self._written = 0  # time of the last packet, or where its piece ends: no later one may begin before
        self.left_out = 0

    def convert(self, packet: av.Packet[Stream], begin: int, duration: int) -> list[av.Packet[Stream]]:
        """The packets that are ready once this one, with its new time and length in its own ticks, is known."""
        try:
            decoded = self._source.decode2(packet)
        except av.FFmpegError:
            self.left_out += 1
            return []
        packets = []
        end = begin + duration if duration > 0 else None
        begin = max(begin, self._written)
        if end is not None and end <= begin:
            return []
        for line in () if decoded is None else (part.ass for part in decoded if isinstance(part, AssSubtitle)):
            *head, text = line.split(b",", _FIELDS_BEFORE_TEXT)
            cue = Cue(begin, end, b",".join(head), without_drawings(text))
            if not _SPACE.sub(b"", _OVERRIDES.sub(b"", cue.text)):
                continue
            if self._overlaps:
                self._written = begin
                packets += self._encoded([cue])
            else:
                packets += self._encoded(self._until(begin))
                self._shown.append(cue)
        return packets

    def flush(self, time: Fraction | None = None) -> list[av.Packet[Stream]]:
        """What no cue that begins at `time` (seconds) or later can change; everything if None."""
        if time is not None:
            return self._encoded(self._until(floor(time / self._time_base), whole=True))
        last = max((cue.end or cue.begin for cue in self._shown), default=0)
        packets = self._encoded(self._until(last))
        packets += self._encoded(self._shown)
        self._shown = []
        return packets

    def _until(self, ticks: int, *, whole: bool = False) -> Iterator[Cue]:
        """Pieces of the cues shown up to `ticks`; `whole`: only those that end by then by themselves."""
        while self._shown and (begin := self._shown[0].begin) < ticks:
            ends = [cue.end for cue in self._shown if cue.end is not None]
            end = min([*ends, ticks])
            if whole and (not ends or min(ends) > ticks):
                return
            first = self._shown[0]
            yield Cue(begin, end, first.head, b"\\N{\\r}".join(cue.text for cue in self._shown))
            self._written = end
            self._shown = [
                replace(cue, begin=end)
                for cue in self._shown
                if (end < ticks if cue.end is None else cue.end > end)  # what has no end stays until the next one
            ]

    def _encoded(self, cues: Iterator[Cue] | list[Cue]) -> list[av.Packet[Stream]]:
        packets = []
        for cue in cues:
            length = 0 if cue.end is None else cue.end - cue.begin
            try:
                packet = self._target.codec_context.encode_subtitle(
                    SubtitleSet.create(cue.head + b"," + cue.text, 0, length, cue.begin)
                )
            except av.FFmpegError:
                self.left_out += 1
                continue
            packet.stream, packet.time_base = self._target, self._time_base
            packet.pts = packet.dts = cue.begin
            packet.duration = length
            packets.append(packet)
        return packets


def without_drawings(text: bytes) -> bytes:
    """The text of a cue in ASS's words, without the outlines between {\\p1} and {\\p0}."""
    kept, drawing = [], False
    for part in _OVERRIDES.split(text):
        if part.startswith(b"{"):
            for scale in _DRAWING.findall(part):
                drawing = int(scale) > 0
            kept.append(part)
        elif not drawing:
            kept.append(part)
    return b"".join(kept)
