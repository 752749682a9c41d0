"""What an output takes over from the input: every audio stream's packets, the container's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio import AudioStream

from vidtrans.errors import InputError
from vidtrans.video.damage import demuxed
from vidtrans.video.excerpt import WHOLE, Excerpt
from vidtrans.video.local_file import Source, open_container

# Facts of the container's own format, which the new container states for itself.
_OWN_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder"}


class CarriedStreams:
    """Copies the audio of one file into an open output, never further ahead than asked, with its own time stamps.

    It reads the input with a demuxer of its own, so that two outputs can be written at two speeds and nothing is held
    in memory. Of an excerpt it copies the packets that begin in it, as they are: what is cut is cut at the border of a
    packet.

    Args:
        source: the input file.
        output: a container whose header is not yet written; gets one stream for each audio stream it can hold.
        notes: gets one line for each stream it cannot hold.
        excerpt: the part of the input that is used.
        audio: whether audio is copied at all.
    """

    def __init__(
        self,
        source: Source,
        output: av.container.OutputContainer,
        notes: list[str],
        excerpt: Excerpt = WHOLE,
        *,
        audio: bool = True,
    ) -> None:
        self._input = open_container(source)
        self._source = source
        self._output = output
        self._excerpt = excerpt
        self._targets: dict[int, AudioStream] = {}
        for stream in self._input.streams.audio if audio else ():
            name = stream.codec_context.name if stream.codec_context else "unknown"
            try:
                self._targets[stream.index] = output.add_stream_from_template(stream)
            except ValueError:
                notes.append(
                    f"audio stream {stream.index} ({name}) is left out: {output.format.name} cannot hold it; .mkv can"
                )
                continue
            self._targets[stream.index].metadata.update(stream.metadata)
        for other in self._input.streams:
            if other.index not in self._targets:
                other.discard = av.stream.Discard.all
        output.metadata.update(
            {key: value for key, value in self._input.metadata.items() if key.lower() not in _OWN_METADATA}
        )
        self._packets = self._demux()
        self._pending = next(self._packets, None)

    def copy_until(self, time: Fraction | None) -> None:
        """Copies the packets that are due before `time` (seconds on the output's clock); all that are left if None."""
        while (packet := self._pending) is not None:
            if time is not None and packet.dts is not None and packet.dts * packet.time_base >= time:
                return
            packet.stream = self._targets[packet.stream_index]
            self._output.mux(packet)
            self._pending = next(self._packets, None)

    def close(self) -> None:
        """Lets the input go; may be called twice."""
        self._input.close()

    def _demux(self) -> Iterator[av.Packet[av.stream.Stream]]:
        streams = [stream for stream in self._input.streams.audio if stream.index in self._targets]
        if not streams:
            return
        since, shift = self._excerpt.since, self._excerpt.shift
        hidden: dict[int, av.Packet[av.stream.Stream]] = {}
        # Not sought: an index of pictures may lead past sound that belongs to the excerpt.
        try:
            for packet in demuxed(self._input, streams):
                if packet.dts is None:  # the last one of each stream is empty, it flushes a decoder
                    continue
                time_base = packet.time_base
                begin = packet.dts if packet.pts is None else packet.pts
                if since is not None and begin * time_base < since:
                    continue
                if shift:
                    packet.dts -= round(shift / time_base)
                    packet.pts = begin - round(shift / time_base)
                if packet.is_discard:  # hidden by an edit list, which not every container has
                    hidden[packet.stream_index] = packet
                    continue
                if (before := hidden.pop(packet.stream_index, None)) is not None:
                    yield before  # a decoder starts with it
                yield packet
        except av.FFmpegError as error:
            raise InputError(f"{self._source}: its audio cannot be read further ({error.strerror})") from error
