"""Clips for nets that translate several frames at once: overlapping windows, blended where they meet (method V5).

Windows of `clip` frames begin every clip - overlap frames, from the first frame of a video on; after its last frame
that one is repeated until the last window is full. A frame that several windows have translated becomes their mean,
each weighted by how far the frame is from that window's ends: linear ramps over the overlap. Class scores are blended
as they are, before a class is chosen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Translate = Callable[[Tensor], Tensor]


def ramp(clip: int, overlap: int) -> list[float]:
    """The weight of each frame of a window, before those of all windows over a frame are made to sum to one.

    Where exactly two windows meet (overlap of at most half a clip) they sum to one by themselves.
    """
    return [min(place + 1, clip - place, overlap + 1) / (overlap + 1) for place in range(clip)]


@dataclass
class _Mean:
    """A running weighted mean. Equal values have exactly themselves as their mean, which a plain sum would round."""

    value: Tensor
    weight: float

    def add(self, value: Tensor, weight: float) -> None:
        self.weight += weight
        self.value = torch.lerp(self.value, value, weight / self.weight)


class Windows:
    """A stream of frames through a net for clips, in order, with at most `clip` frames held on either side.

    What comes out depends on the frames alone, not on when they were pushed. A window is translated as soon as it is
    full; a frame comes out once no later window can reach it.
    """

    def __init__(self, translate: Translate, clip: int, overlap: int | None = None) -> None:
        """translate: (B, clip, C, H, W) -> (B, clip, K, H, W), as Translator.translate of a direction.

        Args:
            clip: frames of a window.
            overlap: frames that a window shares with the next, 0 to clip - 1; half of `clip` by default. The work is
                clip / (clip - overlap) times that of windows side by side.

        Raises:
            ValueError: an overlap that leaves windows no way forward.
        """
        overlap = clip // 2 if overlap is None else overlap
        if not 0 <= overlap < clip:
            raise ValueError(f"windows of {clip} frames can overlap by 0 to {clip - 1}, not by {overlap}")
        self._translate = translate
        self._stride = clip - overlap
        self._clip = clip
        self._weights = ramp(clip, overlap)
        self._frames: list[Tensor] = []  # of the window that is being filled
        self._made: deque[_Mean] = deque()  # not given out yet, the first of them belongs to the first of _frames

    def push(self, frame: Tensor) -> list[Tensor]:
        """The next frame, (B, C, H, W); returns the frames that are finished by it, each (B, K, H, W)."""
        self._frames.append(frame)
        if len(self._frames) < self._clip:
            return []
        self._window()
        del self._frames[: self._stride]
        return self._given(self._stride)

    def finish(self) -> list[Tensor]:
        """The end of the video: the frames that are still due. Afterwards a new video may begin."""
        due = len(self._frames)
        if due > len(self._made):  # there are frames that no window has seen
            self._frames += [self._frames[-1]] * (self._clip - due)
            self._window()
        rest = self._given(due)
        self._frames.clear()
        self._made.clear()
        return rest

    def _window(self) -> None:
        made = self._translate(torch.stack(self._frames, 1))
        for place, (value, weight) in enumerate(zip(made.unbind(1), self._weights, strict=True)):
            if place < len(self._made):
                self._made[place].add(value, weight)
            else:
                self._made.append(_Mean(value, weight))

    def _given(self, count: int) -> list[Tensor]:
        return [self._made.popleft().value for _ in range(count)]


def in_windows(
    frames: Iterable[Tensor], translate: Translate, clip: int, overlap: int | None = None
) -> Iterator[Tensor]:
    """`Windows` over a whole video as an iterator: frames (B, C, H, W) in, as many (B, K, H, W) out, in order."""
    windows = Windows(translate, clip, overlap)
    for frame in frames:
        yield from windows.push(frame)
    yield from windows.finish()
