"""Interlaced pictures made whole by FFmpeg's bwdif: one for each, at its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from vidtrans.video.stamps import Timed


class Deinterlacer:
    """Takes pictures of one size and format and gives as many back, each when it knows the one after.

    What is not flagged as interlaced comes back as it is, but serves its neighbours.

    Args:
        like: a picture of that size and format.
    """

    def __init__(self, like: av.VideoFrame) -> None:
        self._graph = av.filter.Graph()
        self._facts = _facts(like)
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=like.time_base or Fraction(1, 1000)
        )
        weave = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, weave, self._graph.add("buffersink")).configure()
        self._inside: deque[Any] = deque()

    def takes(self, picture: av.VideoFrame) -> bool:
        """Whether it has the size and format of the others."""
        return _facts(picture) == self._facts

    def push(self, picture: av.VideoFrame, key: Any) -> list[tuple[av.VideoFrame, Any]]:
        """Takes a picture; returns those that are ready, each with the key it came with."""
        self._inside.append(key)
        self._graph.vpush(picture)
        return self._ready()

    def flush(self) -> list[tuple[av.VideoFrame, Any]]:
        """The pictures still inside; takes no more."""
        self._graph.vpush(None)
        return self._ready()

    def _ready(self) -> list[tuple[av.VideoFrame, Any]]:
        ready = []
        while self._inside:
            try:
                ready.append((self._graph.vpull(), self._inside.popleft()))
            except (av.BlockingIOError, av.EOFError):
                break
        return ready


def progressive(
    pictures: Iterable[Timed], before: av.VideoFrame | None, begins: Callable[[Timed], None]
) -> Iterator[Timed]:
    """The same pictures without interlaced ones, from the first of these on one behind.

    before: the picture before the first, which it may lean on; None: the file begins with it.
    begins: gets the picture with which making them whole begins. That one may come out unlike what it would be further
    behind; every later one depends on itself and its two neighbours only.
    """
    filter_ = None
    for timed in pictures:
        if filter_ is not None and not filter_.takes(timed.picture):
            yield from _with_pictures(filter_.flush())
            before = filter_ = None
        if filter_ is None and timed.picture.interlaced_frame:
            begins(timed)
            filter_ = Deinterlacer(timed.picture)
            if before is not None and filter_.takes(before):
                filter_.push(before, None)
        if filter_ is None:
            before = timed.picture
            yield timed
        else:
            yield from _with_pictures(filter_.push(timed.picture, timed))
    if filter_ is not None:
        yield from _with_pictures(filter_.flush())


def _with_pictures(made: Iterable[tuple[av.VideoFrame, Timed | None]]) -> Iterator[Timed]:
    """Times with the pictures that were made for them; a picture that only serves others has none."""
    return (replace(timed, picture=picture) for picture, timed in made if timed is not None)


def _facts(picture: av.VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
