"""Threads between the stages: queues bounded in bytes, and errors that reach the caller as themselves."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
QUEUE_BYTES = 64 * 2**20
_END = object()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class StageClock:
    """Seconds each stage spent working (not waiting); the largest is the bottleneck."""

    busy_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Counts the time inside the block. Every stage has a thread of its own, so no two write the same key."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.busy_seconds[stage] = self.busy_seconds.get(stage, 0.0) + time.monotonic() - started

    @property
    def bottleneck(self) -> str:
        return max(self.busy_seconds, key=lambda stage: self.busy_seconds[stage], default="")


class Closed(Exception):
    """The other end of a queue has gone away."""


class ByteQueue(Generic[Item]):
    """A queue that holds at most `limit` bytes, but always room for one item."""

    def __init__(self, size_of: Callable[[Item], int], limit: int = QUEUE_BYTES) -> None:
        self._size_of = size_of
        self._limit = limit
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._ended = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Waits for room. Raises Closed once the reader has cancelled."""
        size = self._size_of(item)
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or not self._items or self._bytes + size <= self._limit)
            if self._cancelled:
                raise Closed
            self._items.append(item)
            self._bytes += size
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more items; with an error, the reader gets it after the items before it."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """The reader wants nothing more."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._cancelled)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._bytes -= self._size_of(item)
                self._changed.notify_all()
            yield item


def timed(stage: str, items: Iterable[Item], clock: StageClock) -> Iterator[Item]:
    """The same items; the time it takes to get each counts as the stage's work."""
    iterator = iter(items)
    while True:
        with clock.working(stage):
            item = next(iterator, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]


def mapped(stage: str, work: Callable[[Item], Result], items: Iterable[Item], clock: StageClock) -> Iterator[Result]:
    """`work` over items; only its own time counts, not the waiting for the stage before."""
    for item in items:
        with clock.working(stage):
            result = work(item)
        yield result


def batched(items: Iterable[Item], count: int, ends: Callable[[Item], bool]) -> Iterator[list[Item]]:
    """Items in lists of `count`; shorter where an item `ends` its list, and at the end."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == count or ends(item):
            yield batch
            batch = []
    if batch:
        yield batch


class Ahead(AbstractContextManager["Ahead[Item]"], Generic[Item]):
    """Runs an iterator in a thread of its own, some items ahead. Leaving the block stops the thread."""

    def __init__(
        self, name: str, items: Iterable[Item], size_of: Callable[[Item], int], limit: int = QUEUE_BYTES
    ) -> None:
        self._queue: ByteQueue[Item] = ByteQueue(size_of, limit)
        self._thread = threading.Thread(target=self._run, args=(items,), name=name, daemon=True)
        self._thread.start()

    def _run(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                self._queue.put(item)
        except Closed:
            self._queue.end()
        except BaseException as error:
            self._queue.end(error)
        else:
            self._queue.end()

    def __iter__(self) -> Iterator[Item]:
        return iter(self._queue)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.cancel()
        self._thread.join()


class Sink(AbstractContextManager["Sink[Item]"], Generic[Item]):
    """Feeds a function in a thread of its own, whose error comes out of the next `put` or of leaving the block."""

    def __init__(
        self,
        name: str,
        consume: Callable[[Item], None],
        size_of: Callable[[Item], int],
        limit: int = QUEUE_BYTES,
    ) -> None:
        self._queue: ByteQueue[Item] = ByteQueue(size_of, limit)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(consume,), name=name, daemon=True)
        self._thread.start()

    def _run(self, consume: Callable[[Item], None]) -> None:
        try:
            for item in self._queue:
                consume(item)
        except BaseException as error:
            self._error = error
            self._queue.cancel()

    def put(self, item: Item) -> None:
        """Hand over one item; waits for room."""
        try:
            self._queue.put(item)
        except Closed:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._queue.end()
        else:
            self._queue.cancel()
        self._thread.join()
        if kind is None:
            self._raise()
