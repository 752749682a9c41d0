"""The stage that translates for networks which see several frames at once: in overlapping windows of what was made."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidtrans.engines.contract import Engine
from vidtrans.engines.torch_engine import autocast
from vidtrans.errors import DeviceError
from vidtrans.nets.contract import pad
from vidtrans.nets.pixel_space import PixelSpace
from vidtrans.nets.windows import in_windows
from vidtrans.stages import StageClock

if TYPE_CHECKING:
    from vidtrans.pipeline import Decoded


class Clips:
    """Adds the translations to a stream of decoded source frames.

    Windows (nets/windows.py) begin anew with every segment of the outputs, so that a run which was stopped and
    continued makes the same frames as one that was not, and after every cut that was found. At most a window of frames
    and the interval that fills it wait.

    Args:
        net: of the source domain, around a Translator of clips.
        targets: the domains to translate into.
        keep_source: whether the source's own frames are wanted further on.
        engine: the torch engine that decodes the source domain; its device and precision serve here, too.
        clock: counts the time as the stage "translate".
    """

    def __init__(
        self, net: PixelSpace, targets: Sequence[str], engine: Engine, clock: StageClock, *, keep_source: bool
    ) -> None:
        self._net, self._targets, self._engine, self._clock = net, tuple(targets), engine, clock
        self._keep_source = keep_source
        self._channels: list[int] = []  # of each target

    def __call__(self, items: Iterable[Decoded]) -> Iterator[Decoded]:
        """The same intervals, once all of their frames are translated."""
        items = iter(items)
        for first in items:
            yield from self._together(chain([first], items))

    def _together(self, items: Iterable[Decoded]) -> Iterator[Decoded]:
        """Takes items up to the end of their scene or segment."""
        waiting: deque[Decoded] = deque()
        made: list[Tensor] = []

        def frames() -> Iterator[Tensor]:
            for item in items:
                waiting.append(item)
                yield from torch.split(item.outputs[self._net.source], 1)
                if item.ends_scene or item.interval.ends_segment:
                    return

        for frame in in_windows(frames(), self._translate, self._net.clip):
            made.append(frame)
            if len(made) == len(waiting[0].interval.instants):
                yield self._completed(waiting.popleft(), torch.cat(made))
                made = []

    def _completed(self, item: Decoded, made: Tensor) -> Decoded:
        outputs = dict(zip(self._targets, torch.split(made, self._channels, 1), strict=True))
        if self._keep_source:
            outputs[self._net.source] = item.outputs[self._net.source]
        return replace(item, outputs=outputs)

    @torch.inference_mode()
    def _translate(self, clip: Tensor) -> Tensor:
        """(1, T, 3 or K, h, w) as the source is decoded -> all targets' channels in a row, (1, T, C, h, w), float32."""
        height, width = clip.shape[-2:]
        net, engine = self._net, self._engine
        with self._clock.working("translate"):
            x = pad(net.pictures(clip[0]), net.sizes).unsqueeze(0)
            try:
                with autocast(engine.device, engine.precision):
                    made = [net.net.translate(x, net.source, target).float() for target in self._targets]
            except torch.OutOfMemoryError as error:
                raise DeviceError(
                    f"{engine.device} has too little free memory to translate {net.clip} frames of {width}x{height} at "
                    "once; give a smaller --size, or try --device cpu"
                ) from error
            self._channels = [out.shape[2] for out in made]
            return torch.cat(made, 2)[..., :height, :width]
