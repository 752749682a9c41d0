"""The finished part of an unfinished output: segments of encoded packets in a folder beside it, and a manifest.

A packet is stored with its own three times, as the encoder gave them. Containers keep less: NUT has no durations and no
decoding times, and MP4 is readable only once it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av

from vidtrans.errors import OutputError
from vidtrans.files import write_atomically
from vidtrans.video.seam import SegmentReport

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = "vidtrans-segments-3"
MANIFEST = "manifest.json"
_RECORD = struct.Struct("<qqqBI")  # pts, dts, duration in ticks; whether a decoder can start here; bytes that follow


@dataclass(frozen=True)
class SegmentFacts:
    """A finished segment.

    Attributes:
        frames: how many it holds; end: seconds, where its last one ends.
        byte_count, crc32: of its file.
        report: what the run knows of it.
    """

    frames: int
    end: Fraction
    byte_count: int
    crc32: int
    report: SegmentReport


class SegmentStore:
    """The segments of one output, kept on the disk until the whole is there, so that a run can be continued.

    The folder is `.NAME.unfinished` beside the output. A segment counts once its file is on the disk and the manifest,
    which is replaced in one step, names it; so what a power cut leaves is a shorter list, never a wrong one.

    Args:
        output: the file that the segments will make.
        identity: what must be equal for another run to continue this one; JSON values.
        threads: of the encoder; a run that is continued keeps those it began with.
        overwrite: whether segments of another identity may be thrown away.

    Attributes:
        segments: the finished ones, in order.
        threads: of the encoder.

    Raises:
        OutputError: another run is at work on this output, or left segments of another identity.
    """

    def __init__(self, output: Path, identity: dict[str, Any], *, threads: int, overwrite: bool) -> None:
        self.output = output
        self.folder = store_folder(output)
        self.threads = threads
        self.segments: list[SegmentFacts] = []
        self._identity = identity
        self._file: BinaryIO | None = None
        self._bytes = self._crc32 = 0
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            self._take_lock()
            self._read_manifest(overwrite)
            self._write_manifest()
        except BaseException:
            self._lock.close()
            raise

    def keep(self, count: int) -> None:
        """Continues after `count` segments; later ones are dropped."""
        self.segments = self.segments[:count]
        self._write_manifest()

    def append(self, packet: av.Packet[Any]) -> None:
        """Adds a packet, its times in one time base throughout, to the segment under way."""
        if self._file is None:
            self._file = self._path(len(self.segments)).open("wb")
            self._bytes = self._crc32 = 0
        data = bytes(packet)
        head = _RECORD.pack(packet.pts, packet.dts, packet.duration, packet.is_keyframe, len(data))
        for part in (head, data):
            self._file.write(part)
            self._crc32 = zlib.crc32(part, self._crc32)
            self._bytes += len(part)

    def finish(self, frames: int, end: Fraction, report: SegmentReport) -> None:
        """The segment under way is complete: frames in it, seconds at which it ends, what is known of it."""
        assert self._file is not None, "a segment holds at least one packet"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self.segments.append(SegmentFacts(frames, end, self._bytes, self._crc32, report))
        self._write_manifest()

    def packets(self) -> Iterator[av.Packet[Any]]:
        """All packets of all finished segments, in the order in which they were appended."""
        for number in range(len(self.segments)):
            with self._path(number).open("rb") as file:
                while head := file.read(_RECORD.size):
                    pts, dts, duration, is_keyframe, size = _RECORD.unpack(head)
                    packet: av.Packet[Any] = av.Packet(file.read(size))
                    packet.pts, packet.dts, packet.duration = pts, dts, duration
                    packet.is_keyframe = bool(is_keyframe)
                    yield packet

    def close(self) -> None:
        """Lets go; what is finished stays for another run, and without that nothing stays. May be called twice."""
        if self._lock.closed:
            return
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._path(len(self.segments)).unlink(missing_ok=True)
        if self.segments:
            self._lock.close()
        else:
            self.remove()

    def remove(self) -> None:
        """The output is complete: removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.packets"

    def _take_lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{self.output}: another run is writing it now; wait for it or stop it") from error

    def _read_manifest(self, overwrite: bool) -> None:
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text())
            same = manifest["format"] == FORMAT and manifest["identity"] == self._identity
            rows = [_facts(row) for row in manifest["segments"]]
            threads = int(manifest["threads"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            same, rows, threads = False, [], 0
        if same:
            self.threads = threads
            for number, facts in enumerate(rows):
                if not _is_whole(self._path(number), facts):
                    break
                self.segments.append(facts)
        elif rows and not overwrite:
            raise OutputError(
                f"{self.output}: a run with another input, model or options was stopped after {len(rows)} segments; "
                f"repeat that command to finish it, allow overwriting (-y) to drop it, or choose another name"
            )

    def _write_manifest(self) -> None:
        rows = [
            {
                "frames": facts.frames,
                "end": str(facts.end),
                "byte_count": facts.byte_count,
                "crc32": facts.crc32,
                "report": facts.report.to_json(),
            }
            for facts in self.segments
        ]
        manifest = {"format": FORMAT, "identity": self._identity, "threads": self.threads, "segments": rows}
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _facts(row: dict[str, Any]) -> SegmentFacts:
    report = SegmentReport.from_json(row["report"])
    return SegmentFacts(row["frames"], Fraction(row["end"]), row["byte_count"], row["crc32"], report)


def store_folder(output: Path) -> Path:
    """Where the finished segments of an output lie while it is not complete."""
    return output.with_name(f".{output.name}.unfinished")


def _is_whole(path: Path, facts: SegmentFacts) -> bool:
    crc32 = size = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                crc32, size = zlib.crc32(block, crc32), size + len(block)
    except OSError:
        return False
    return (size, crc32) == (facts.byte_count, facts.crc32)
