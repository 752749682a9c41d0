"""Bytes from a pipe or a file, front to back: as slow as they come, never more held than asked for."""

from __future__ import annotations

import io
import os
import select
from pathlib import Path

from vidtrans.errors import InputError, UsageError
from vidtrans.video.input_form import descriptor, spoken

_CHUNK_BYTES = 64 * 1024


class ByteStream:
    """An open file of the system, read in order; it waits for whoever writes, however long that takes.

    Args:
        path: `-` or another name of an open file, a FIFO or a file. Opening a FIFO waits for its writer.

    Attributes:
        name: for messages.
        byte_count: bytes that it holds; None: a pipe, which cannot tell.

    Raises:
        InputError: it cannot be opened.
        UsageError: it is a terminal.
    """

    def __init__(self, path: Path) -> None:
        number = descriptor(path)
        self.name = spoken(path)
        try:
            # One that is open already stays open for others.
            self._file = io.FileIO(os.open(path, os.O_RDONLY) if number is None else os.dup(number))
        except OSError as error:
            what = "is closed" if number is not None else f"cannot be opened ({error.strerror})"
            raise InputError(f"{self.name}: {what}; give it a video to read") from error
        if self._file.isatty():
            self._file.close()
            raise UsageError(f"{self.name}: is a terminal; let another program write a video into it, or name a file")
        size = os.fstat(self._file.fileno()).st_size
        self.byte_count = size - self._file.tell() if self._file.seekable() else None
        self._ahead = bytearray()
        self._ended = False
        # Written to by `cancel`, so that a wait for more bytes ends.
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._file.fileno(), select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay; fewer than `count` only at the end."""
        self._look_ahead(count)
        return bytes(self._ahead[:count])

    def read(self, count: int) -> bytes:
        """The next bytes, as many as are there but at most `count`; none only at the end."""
        if not self._ahead:
            self._look_ahead(1)
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    def line(self, limit: int) -> bytes:
        """The next line with its line feed; without one where it is longer than `limit` or the end comes first."""
        while (end := self._ahead.find(b"\n", 0, limit)) < 0 and len(self._ahead) < limit and not self._ended:
            self._look_ahead(len(self._ahead) + 1)
        return self.read(end + 1 if end >= 0 else limit) if self._ahead else b""

    def fill(self, target: memoryview) -> int:
        """Fills a writable view of bytes; returns how many came, fewer than it holds only at the end."""
        held = self._ahead[: len(target)]
        target[: len(held)] = held
        del self._ahead[: len(held)]
        count = len(held)
        while count < len(target) and (got := self._some(target[count:])):
            count += got
        return count

    def cancel(self) -> None:
        """From another thread: as if the end had come, also where bytes are waited for."""
        if not self._file.closed:
            os.write(self._wake, b"\0")

    def close(self) -> None:
        """Lets the file go; may be called twice."""
        if not self._file.closed:
            self._file.close()
            os.close(self._woken)
            os.close(self._wake)

    def _look_ahead(self, count: int) -> None:
        """Makes at least `count` bytes ready, where there are so many."""
        chunk = memoryview(bytearray(max(count, _CHUNK_BYTES)))
        while len(self._ahead) < count and (got := self._some(chunk)):
            self._ahead += chunk[:got]

    def _some(self, target: memoryview) -> int:
        while not self._ended:
            try:
                if any(number == self._woken for number, _ in self._poll.poll()):
                    self._ended = True
                    break
                got = self._file.readinto(target)
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read further ({error.strerror})") from error
            if got is not None:  # None: another process that shares the pipe was faster
                self._ended = got == 0
                return got
        return 0
