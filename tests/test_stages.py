"""Threads between stages: order, bounds, errors, an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vidtrans.stages import Ahead, ByteQueue, Sink, StageClock, mapped, timed


def test_items_come_in_order_and_only_some_are_made_ahead() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with Ahead("numbers", numbers(), size_of=lambda item: 10, limit=40) as items:
        iterator = iter(items)
        assert next(iterator) == 0
        time.sleep(0.1)
        assert len(made) <= 7  # one taken, four in the queue, one waiting for room, one being taken
        assert list(iterator) == list(range(1, 50))


def test_an_item_larger_than_the_limit_still_passes() -> None:
    with Ahead("large", range(3), size_of=lambda item: 1000, limit=1) as items:
        assert list(items) == [0, 1, 2]


def test_an_error_in_a_thread_arrives_as_itself_after_the_items_before_it() -> None:
    class Special(Exception):
        pass

    def failing() -> Iterator[int]:
        yield 1
        raise Special("at item 2")

    got = []
    with pytest.raises(Special, match="item 2"), Ahead("failing", failing(), size_of=lambda item: 1) as items:
        got.extend(items)
    assert got == [1]


def test_leaving_early_stops_the_thread() -> None:
    with Ahead("endless", iter(int, 1), size_of=lambda item: 1, limit=10) as items:
        assert next(iter(items)) == 0
    assert not any(thread.name == "endless" for thread in threading.enumerate())


def test_a_sink_gets_everything_and_its_error_reaches_the_feeder() -> None:
    got: list[int] = []
    with Sink("good", got.append, size_of=lambda item: 1, limit=2) as sink:
        for number in range(20):
            sink.put(number)
    assert got == list(range(20))

    def refuse(number: int) -> None:
        if number == 3:
            raise OSError("disk full")

    def feed() -> None:
        with Sink("bad", refuse, size_of=lambda item: 1, limit=1) as sink:
            for number in range(1000):
                sink.put(number)

    with pytest.raises(OSError, match="disk full"):
        feed()

    def feed_little() -> None:
        with Sink("late", refuse, size_of=lambda item: 1) as sink:
            sink.put(3)

    with pytest.raises(OSError, match="disk full"):
        feed_little()


def test_a_cancelled_queue_gives_nothing_more() -> None:
    queue: ByteQueue[int] = ByteQueue(lambda item: 1)
    queue.put(1)
    queue.cancel()
    assert list(queue) == []


def test_only_work_counts_as_work() -> None:
    clock = StageClock()

    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    assert list(mapped("fast", lambda number: number + 1, timed("slow", slow(), clock), clock)) == [1, 2, 3]
    assert clock.bottleneck == "slow"
    assert clock.busy_seconds["slow"] >= 0.15
    assert clock.busy_seconds["fast"] < 0.05
