"""What becomes of everything beside the pictures in an output: decided by trying, before the first frame."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from vidtrans.remarks import Warn
from vidtrans.video.local_file import Source, open_container
from vidtrans.video.subtitles import TEXT_CODECS, TEXT_TARGETS, TextConverter

Kind = Literal["audio", "subtitle", "data", "cover", "attachment"]
Output: TypeAlias = "av.container.OutputContainer"
Packet: TypeAlias = "av.Packet[Stream]"

# Facts of a container or a stream that the new file states for itself, or that are no longer true of it. Matroska
# writes some with the language behind them.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "timecode"}
_OWN_STREAM_TAGS = {
    "bps",
    "duration",
    "number_of_frames",
    "number_of_bytes",
    "filename",
    "mimetype",
    "timecode",
    "vendor_id",
    "name",
    "rotate",
}
# Named, in this order, where a container cannot hold something.
_CONTAINERS = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
# FFmpeg's names that mean little to a user.
_NICKNAMES = {"ipod": "m4v", "matroska": "mkv"}
_COVERS_IN = {"mp4": ("mjpeg", "png", "bmp"), "matroska": ("mjpeg", "png", "gif", "tiff")}
_COVER_MIME_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "tiff": "image/tiff"}
_ATTACHMENTS_IN = ("matroska",)
# Formats that keep AAC with a header of its own before every packet, as transport streams do.
_KEEPS_ADTS = ("mpegts", "adts")
# MP4 has one name for both, and decoders tell them apart.
_READ_BACK_AS = {"mp2": "mp3"}
# Of the first packets of a file, as many as it takes to find one of every audio stream, and at most so many.
_MOST_SAMPLED_PACKETS = 2000
_MOST_SAMPLED_BYTES = 32 << 20
_SHORTAGES = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class Carriage:
    """What becomes of one stream.

    Attributes:
        index: its number in the input.
        kind: what it is; a cover is a picture attached to the file.
        codec: FFmpeg's name of its format, "unknown" where it has none.
        language: as the input states it.
        becomes: the codec in the output, the same where it is copied; None: left out.
        remark: why it is left out, or what a conversion loses.
        bits_per_second: of audio, where it is known.
        extradata: what the output's stream says before its first packet, where that differs from the input's.
    """

    index: int
    kind: Kind
    codec: str
    language: str | None = None
    becomes: str | None = None
    remark: str = ""
    bits_per_second: int = 0
    extradata: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.kind}{' stream' if self.kind in ('audio', 'subtitle', 'data') else ''} {self.index}"

    @property
    def fate(self) -> str:
        """A few words: "copied", "converted to mov_text" or "left out", and the remark."""
        what = (
            "left out"
            if self.becomes is None
            else "copied"
            if self.becomes == self.codec
            else f"converted to {self.becomes}"
        )
        return f"{what}{': ' if self.remark else ''}{self.remark}"

    @property
    def sounds(self) -> bool:
        """Whether it is audio that is copied."""
        return self.kind == "audio" and self.becomes is not None


@dataclass(frozen=True)
class CarriagePlan:
    """What becomes of all that is carried along into one output.

    Attributes:
        streams: one for every stream beside the pictures, in the input's order.
        notes: a line for everything that is not carried unchanged.
    """

    streams: tuple[Carriage, ...]
    notes: tuple[str, ...]


def plan_carriage(source: Source, format_name: str, *, audio: bool = True) -> CarriagePlan:
    """Finds out what a container can hold of a file's streams, tags, chapters and marks.

    Every stream is written alone into a file in memory, with its first packet, and read back: what does not come back
    as it went in cannot be held. Then everything that can be is written together, without the rest of its packets, to
    see which tags and marks come back.

    Args:
        source: the input file.
        format_name: FFmpeg's name of the output's container format.
        audio: whether audio is wanted; where it is not, nothing is said about it.

    Raises:
        InputError: the file cannot be opened.
    """
    with open_container(source) as container:
        samples = _first_packets(container)
        streams = []
        notes: list[str] = []
        for stream in container.streams:
            kind = kind_of(stream)
            if kind is None:
                continue
            carriage = _choose(stream, kind, samples.get(stream.index), format_name)
            if kind == "audio" and not audio:
                carriage = replace(carriage, becomes=None, remark="not asked for")
            elif carriage.becomes != carriage.codec:
                line = f"{carriage.name} ({carriage.codec}) is {carriage.fate}"
                # What is converted without a remark says the same in another format.
                notes.append(line if carriage.becomes is not None and not carriage.remark else Warn(line))
            streams.append(carriage)
        notes += _lost_facts(container, samples, streams, format_name)
        return CarriagePlan(tuple(streams), tuple(notes))


def kind_of(stream: Stream) -> Kind | None:
    """None: a picture track, or one that states the chapters, which are carried by themselves."""
    if stream.type == "video":
        marks = stream.disposition
        return "cover" if marks & Disposition.attached_pic and not marks & Disposition.timed_thumbnails else None
    if stream.type in ("audio", "subtitle", "attachment"):
        return stream.type
    if stream.type == "data" and stream.discard != Discard.all:
        return "data"
    return None


def picture_of(container: av.container.InputContainer) -> Stream | None:
    """The stream whose pictures are read."""
    return next(
        (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic), None
    )


def codec_of(stream: Stream) -> str:
    """FFmpeg's name of the format, not of the decoder; "unknown" where there is neither."""
    if stream.codec_context is not None:
        return stream.codec_context.codec.canonical_name
    if isinstance(stream, AttachmentStream):
        return plain(stream.mimetype or "unknown")
    return getattr(stream, "name", None) or "unknown"


def add_stream(
    output: Output, stream: Stream, carriage: Carriage
) -> tuple[Stream, Callable[[Packet], list[Packet]] | TextConverter]:
    """A stream of the output for one of the input, and what its packets go through on the way.

    Raises:
        ValueError, av.FFmpegError: the container cannot hold it.
    """
    through: Callable[[Packet], list[Packet]] | TextConverter = _unchanged
    if carriage.kind == "subtitle" and carriage.becomes not in (None, carriage.codec):
        assert isinstance(stream, SubtitleStream)
        target: Stream = output.add_stream(carriage.becomes)
        assert isinstance(target, SubtitleStream)
        through = TextConverter(stream, target)
    else:
        target = output.add_stream_from_template(stream, opaque=True)
        if carriage.extradata is not None:
            target.codec_context.extradata = carriage.extradata
            through = _without_headers(stream)
    target.metadata.clear()
    target.metadata.update(stream_tags(stream))
    target.disposition = stream.disposition
    return target, through


def add_attachment(output: Output, stream: Stream, carriage: Carriage, data: bytes) -> None:
    """A file inside the output: a font, or a cover picture where the container keeps those as files."""
    if isinstance(stream, AttachmentStream):
        name, mime_type = stream.name or f"attachment{stream.index}", stream.mimetype or "application/octet-stream"
    else:
        mime_type = _COVER_MIME_TYPES[carriage.codec]
        extension = mime_type.removeprefix("image/").replace("jpeg", "jpg")
        name = stream.metadata.get("filename", f"cover.{extension}")
    output.add_attachment(name, mime_type, data)


def covers_are_files(format_name: str) -> bool:
    """Whether a cover is an attachment there, not a stream."""
    return format_name == "matroska"


def container_tags(container: av.container.InputContainer) -> dict[str, str]:
    """What the input says of itself and another file may say, too."""
    return {key: value for key, value in container.metadata.items() if key.lower() not in _OWN_TAGS}


def stream_tags(stream: Stream) -> dict[str, str]:
    """The same of a stream; a title is called so, whatever the container calls it."""
    tags = {
        key: value
        for key, value in stream.metadata.items()
        if key.lower().split("-")[0] not in _OWN_STREAM_TAGS and not key.lower().startswith("_statistics")
    }
    if "title" not in tags and stream.metadata.get("name"):
        tags["title"] = stream.metadata["name"]
    return tags


def plain(text: str, longest: int = 40) -> str:
    """Text out of a file as a terminal may show it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _unchanged(packet: Packet) -> list[Packet]:
    return [packet]


def _without_headers(stream: Stream) -> Callable[[Packet], list[Packet]]:
    """Takes the header off every packet of AAC."""
    strip = av.BitStreamFilterContext("aac_adtstoasc", stream).filter

    def through(packet: Packet) -> list[Packet]:
        bare = []
        for stripped in strip(packet):
            # Anew: the first one also carries what the stream's header has said by now, and Matroska would write that
            # over the file's head.
            packet = av.Packet(bytes(stripped))
            packet.pts, packet.dts, packet.duration = stripped.pts, stripped.dts, stripped.duration
            packet.is_keyframe = stripped.is_keyframe
            bare.append(packet)
        return bare

    return through


def _choose(stream: Stream, kind: Kind, sample: bytes | None, format_name: str) -> Carriage:
    language = stream.metadata.get("language")
    rate = stream.codec_context.bit_rate if isinstance(stream, AudioStream) and stream.codec_context else None
    base = Carriage(
        stream.index,
        kind,
        codec_of(stream),
        None if language in (None, "und") else plain(language),
        bits_per_second=rate or 0,
    )
    if kind == "data" and "timecode" in stream.metadata:
        return replace(base, remark="a timecode counts frames at the input's rate")
    same = replace(base, becomes=base.codec)
    lost = "positions, fonts and effects are left out" if base.codec == "ass" else ""
    texts = TEXT_TARGETS if kind == "subtitle" and base.codec in TEXT_CODECS else ()
    for wish in (same, *(replace(base, becomes=target, remark=lost) for target in texts)):
        if (found := _held(stream, wish, sample, format_name)) is not None:
            return found
    able = (
        extension
        for extension, name in _CONTAINERS.items()
        if name != format_name and _held(stream, same, sample, name) is not None
    )
    return replace(base, remark=_cannot(format_name, next(able, None)))


def _cannot(format_name: str, able: str | None) -> str:
    return (
        f"{_NICKNAMES.get(format_name, format_name)} cannot hold it; {able} can"
        if able
        else "no container here can hold it"
    )


def _nickname(format_name: str) -> str:
    return _NICKNAMES.get(format_name, format_name)


def _first_packets(container: av.container.InputContainer) -> dict[int, bytes]:
    """The first packet of every stream that has one early on."""
    wanted = {stream.index for stream in container.streams if kind_of(stream) in ("audio", "cover", "data")}
    needed = {stream.index for stream in container.streams if kind_of(stream) in ("audio", "cover")}
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = Discard.all
    samples: dict[int, bytes] = {}
    size = 0
    # Damage is met again, and told, where all packets are read.
    with contextlib.suppress(av.FFmpegError):
        for count, packet in enumerate(container.demux([container.streams[index] for index in sorted(wanted)])):
            if packet.size:
                samples.setdefault(packet.stream_index, bytes(packet))
                size += packet.size
            if needed <= samples.keys() or count >= _MOST_SAMPLED_PACKETS or size >= _MOST_SAMPLED_BYTES:
                break
    return samples


def _held(stream: Stream, carriage: Carriage, sample: bytes | None, format_name: str) -> Carriage | None:
    """The same, if the container can hold it: what is written comes back as what it was."""
    if carriage.kind == "cover":
        return carriage if carriage.codec in _COVERS_IN.get(format_name, ()) else None
    if carriage.kind == "attachment":
        return carriage if format_name in _ATTACHMENTS_IN else None
    if stream.codec_context is None and carriage.kind != "data":
        return None  # neither PyAV nor the decoders here know what it is
    if isinstance(stream, AudioStream) and sample is not None and format_name not in _KEEPS_ADTS:
        try:
            carriage = _without_adts(stream, carriage, sample)
        except (av.FFmpegError, ValueError):
            return None

    def build(output: Output) -> Iterable[list[Packet]]:
        return [_rehearse(output, stream, carriage, sample)]

    read = _rehearsed(format_name, build)
    if read is None and carriage.kind == "audio":
        # Once, on a busy machine, this failed for a moment and for no reason found since. Sound is worth a second look.
        read = _rehearsed(format_name, build)
    if read is None:
        return None
    with read:
        names = (carriage.becomes, _READ_BACK_AS.get(carriage.codec))
        matching = [back for back in read.streams if back.type == stream.type and codec_of(back) in names]
        if not matching:
            return None
        if carriage.kind == "subtitle" and format_name not in _CONTAINERS.values():
            # Without its length a subtitle is of no use; some containers keep none.
            packet = next(iter(read.demux(matching)), None)
            if packet is None or not packet.duration:
                return None
    return carriage


def _without_adts(stream: AudioStream, carriage: Carriage, sample: bytes) -> Carriage:
    """AAC with a header before every packet keeps one before all instead: only transport streams have the former."""
    if carriage.codec != "aac" or stream.codec_context.extradata or sample[0] != 0xFF or sample[1] & 0xF0 != 0xF0:
        return carriage
    (stripped,) = av.BitStreamFilterContext("aac_adtstoasc", stream).filter(av.Packet(sample))
    config = bytes(stripped.get_sidedata("new_extradata"))
    return replace(carriage, extradata=config)


def _rehearse(output: Output, stream: Stream, carriage: Carriage, sample: bytes | None) -> list[Packet]:
    """Adds a stream to an output; a packet for it."""
    target, through = add_stream(output, stream, carriage)
    if isinstance(through, TextConverter):
        packets: Sequence[Packet] = [av.Packet(b"\x00\x00")]
    else:
        packets = through(av.Packet(b"\x00\x00" if sample is None else sample))
    for packet in packets:
        packet.stream, packet.time_base = target, Fraction(1, 1000)
        packet.pts = packet.dts = 0
        packet.duration = 1000
    return list(packets)


def _rehearsed(
    format_name: str, build: Callable[[Output], Iterable[list[Packet]]]
) -> av.container.InputContainer | None:
    """A small file made in memory and opened again; None where it cannot be made.

    Raises:
        OSError: not for what the file is: for want of memory and the like.
    """
    memory = io.BytesIO()
    try:
        with av.open(memory, "w", format=format_name) as output:
            waiting = list(build(output))
            output.start_encoding()
            for packets in waiting:
                output.mux(packets)
        memory.seek(0)
        return av.open(memory, "r", metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        if getattr(error, "errno", None) in _SHORTAGES:
            raise
        return None


def _lost_facts(
    container: av.container.InputContainer, samples: dict[int, bytes], streams: Sequence[Carriage], format_name: str
) -> list[str]:
    """A line for tags, chapters, languages and marks that the container does not give back."""
    carried = [c for c in streams if c.becomes is not None and c.kind in ("audio", "subtitle", "data")]
    picture = picture_of(container)

    def build(output: Output) -> Iterable[list[Packet]]:
        output.metadata.update(container_tags(container))
        output.set_chapters(container.chapters())
        video = output.add_stream("libvpx" if format_name == "webm" else "mpeg4", rate=1, width=16, height=16)
        assert isinstance(video, av.VideoStream)
        video.codec_context.pix_fmt = "yuv420p"
        copy_facts(picture, video)
        yield from [_rehearse(output, container.streams[c.index], c, samples.get(c.index)) for c in carried]
        blank = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), "yuv420p")
        blank.pts = 0
        yield [*video.encode(blank), *video.encode(None)]

    read = _rehearsed(format_name, build)
    if read is None:  # not a container for everything at once; what is wrong shows when the output is opened
        return []
    lines: list[str] = []
    name = _nickname(format_name)
    with read:
        kept = {key.lower() for key in read.metadata}
        lost = [plain(key) for key in container_tags(container) if key.lower() not in kept]
        if lost:
            lines.append(Warn(f"tags {', '.join(sorted(lost))} are left out: {name} has no place for them; .mkv has"))
        if len(read.chapters()) < len(container.chapters()):
            lines.append(Warn(f"chapters are left out: {name} cannot hold them; .mkv can"))
        # Each kind's streams come back in the order in which they went in.
        for kind in ("audio", "subtitle", "data"):
            back = [stream for stream in read.streams if kind_of(stream) == kind]
            lines += [
                line
                for c, stream in zip([c for c in carried if c.kind == kind], back, strict=False)
                for line in _lost_marks(c, container.streams[c.index], stream, format_name)
            ]
    return lines


def _lost_marks(carriage: Carriage, stream: Stream, back: Stream, format_name: str) -> list[str]:
    before, after = stream_tags(stream), stream_tags(back)
    lost = [
        f"{key} {plain(before[key])!r}"
        for key in ("language", "title")
        if before.get(key) not in (None, "und", after.get(key))
    ]
    # Which track plays unasked is kept by its order where it is not marked.
    marks = stream.disposition & ~back.disposition & ~Disposition.default
    lost += [f"mark {str(mark.name).replace('_', ' ')}" for mark in Disposition if mark and marks & mark]
    if not lost:
        return []
    return [Warn(f"{carriage.name}: {', '.join(lost)} left out, {_nickname(format_name)} has no place for it")]


def copy_facts(source: Stream | None, target: Stream) -> None:
    """Gives the output's pictures the tags and marks of the input's."""
    if source is not None:
        tags: dict[str, Any] = stream_tags(source)
        target.metadata.update({key: value for key, value in tags.items() if key.lower() != "encoder"})
        target.disposition = source.disposition
