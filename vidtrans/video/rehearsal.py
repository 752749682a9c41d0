"""What a container would make of a packet: some look into sound while they write it, and one bad packet ends them."""

from __future__ import annotations

import contextlib
import errno
import io
from typing import TypeAlias

import av
from av.stream import Stream

from vidtrans.video.carriage import Carriage, add_stream

Packet: TypeAlias = "av.Packet[Stream]"

# A container keeps an index of its packets; a new one after so many holds the memory down.
_MOST_PACKETS = 4096


class Rehearsal:
    """A container of the same kind that keeps nothing: what it refuses would have ended the real one.

    Args:
        format_name: FFmpeg's name of the container.
        stream: of the input; carriage: what becomes of it.
    """

    def __init__(self, format_name: str, stream: Stream, carriage: Carriage) -> None:
        self._format_name, self._stream, self._carriage = format_name, stream, carriage
        self._container: av.container.OutputContainer | None = None
        self._target: Stream | None = None
        self._count = 0
        self._last: Packet | None = None

    def takes(self, packet: Packet) -> bool:
        """Whether the packet, with its stamps, can be written after those that could be."""
        try:
            if self._container is None:
                self._begin()
            self._mux(packet)
        except (av.FFmpegError, ValueError) as error:
            self.close()
            if getattr(error, "errno", None) == errno.ENOMEM:
                raise
            return False
        self._last = _copied(packet)
        self._count += 1
        if self._count >= _MOST_PACKETS:
            self.close()
        return True

    def close(self) -> None:
        """Lets go; goes on with a new container where it is asked again."""
        container, self._container, self._target, self._count = self._container, None, None, 0
        if container is not None:
            with contextlib.suppress(av.FFmpegError, ValueError, OSError):
                container.close()

    def _begin(self) -> None:
        self._container = av.open(_Nowhere(), "w", format=self._format_name)
        self._target, _ = add_stream(self._container, self._stream, self._carriage)
        self._container.start_encoding()
        if self._last is not None:  # what comes first may be bad, it is passed over in silence
            self._mux(self._last)

    def _mux(self, packet: Packet) -> None:
        """Writes a copy: a container changes the stamps of what it is given to its own clock."""
        assert self._container is not None
        assert self._target is not None
        copy = _copied(packet)
        assert self._target is not None
        copy.stream = self._target
        self._container.mux(copy)


def _copied(packet: Packet) -> Packet:
    copy: Packet = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy


class _Nowhere(io.RawIOBase):
    """A file that forgets all but its length."""

    def __init__(self) -> None:
        self._place = self._length = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        count = len(memoryview(data))  # type: ignore[arg-type]  # whatever holds bytes
        self._place += count
        self._length = max(self._length, self._place)
        return count

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self._place = place + (0, self._place, self._length)[whence]
        return self._place

    def tell(self) -> int:
        return self._place
