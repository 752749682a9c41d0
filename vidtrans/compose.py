"""From what the network decoded to what the encoders get: resize, carried detail, labels, rounding.

Everything before the one rounding at the end is float and linear, in the planes of the output, so a keyframe's own
planes come back bit for bit and a still picture cannot pulse. All of it happens on the device that decoded; only whole
code values come down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from vidtrans.errors import DeviceError
from vidtrans.guided import GuidedFilter
from vidtrans.latents import Fields, blend
from vidtrans.nets.contract import Domain
from vidtrans.palettes import Palette
from vidtrans.planes import best_class, moved, resized
from vidtrans.timeline import Interval
from vidtrans.video.colour import planes_to_rgb, rgb_to_planes, round_planes, to_uint8_rgb
from vidtrans.video.frame import Colour, Frame, PixelFormat

Planes = tuple[Tensor, ...]


class Composer:
    """Makes one output's frames, interval by interval; used by one thread at a time.

    Args:
        domain: what is written.
        scores: whether the engine gives class scores for it.
        size: (width, height) of the output in pixels.
        pix_fmt, colour: of the output.
        is_source: whether this is the up-converted input, whose keyframes pass through untouched.
        carry_detail: add to all that is made what its keyframes lack: the source's decodings of the keyframes
            themselves; another photo domain's of the keyframes plus the change between the two decodings, fitted to
            them (guided.py). Labels have none, their colours are not to be mixed.
        index: write class numbers in place of colours; for label domains and a grey format.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        scores: bool,
        size: tuple[int, int],
        pix_fmt: PixelFormat,
        colour: Colour,
        is_source: bool,
        carry_detail: bool,
        index: bool = False,
    ) -> None:
        self._domain = domain
        self._scores = scores
        self._size = size
        self._pix_fmt = pix_fmt
        self._colour = colour
        self._is_source = is_source
        self._carry_detail = carry_detail and not domain.is_label
        self._index = index
        self._stream: torch.cuda.Stream | None = None

    def frames(
        self,
        interval: Interval,
        decoded: Tensor,
        left_source: Tensor | None,
        right_source: Tensor | None,
        motion: Fields | None = None,
        *,
        left_made: Tensor | None = None,
        right_made: Tensor | None = None,
    ) -> list[Frame]:
        """All output frames of an interval.

        Args:
            interval: keyframes and instants.
            decoded: (n, C, h, w), one for each instant's t, as an engine gives them.
            left_source: (C, h, w), the left keyframe decoded into its own domain, the source; None will do where no
                detail is carried.
            right_source: the same of the right one; None where the interval is held.
            motion: fields of the instants; None: detail stays where it is, as the blend in place does.
            left_made, right_made: the keyframes decoded into the domain that is written, where that is not the source.

        Raises:
            DeviceError: the device has too little memory.
        """
        device = decoded.device
        with self._beside_other_work(device):
            planes = self._planes(decoded)
            own = self._keyframe(interval.left, device) if self._is_source or self._carry_detail else ()
            if self._carry_detail:
                assert left_source is not None
                left = self._missing(interval.left, own, left_source, left_made)
                right = None
                if interval.right is not None and right_source is not None:
                    right = self._missing(
                        interval.right, self._keyframe(interval.right, device), right_source, right_made
                    )
                detail = _detail(left, right, [instant.t for instant in interval.instants], motion, device)
                planes = tuple(plane + part for plane, part in zip(planes, detail, strict=True))
            # A keyframe passes through as it was read, or converted once where it does not fit.
            converted = () if not self._is_source or self._fits(interval.left) else round_planes(own, self._pix_fmt)
            arrays = _as_arrays((*round_planes(planes, self._pix_fmt), *converted))
        made, kept = arrays[: len(planes)], tuple(plane[0] for plane in arrays[len(planes) :])
        frames = []
        for row, instant in enumerate(interval.instants):
            finished = tuple(plane[row] for plane in made)
            if self._is_source and instant.t == 0:
                finished = interval.left.planes if self._fits(interval.left) else kept
            frames.append(Frame(finished, instant.time, instant.duration, self._pix_fmt, self._colour))
        return frames

    def _missing(self, frame: Frame, own: Planes, source: Tensor, made: Tensor | None) -> Planes:
        """What a keyframe's decoding lacks of what is to be written of it: planes (1, H, W).

        Args:
            own: the keyframe in the output's planes.
            source, made: (3, h, w), decoded into its own domain, and into the one that is written.
        """
        if self._is_source:
            return _minus(own, self._planes(source.unsqueeze(0)))
        assert made is not None
        width, height = self._size
        guide = resized(self._rgb(frame, source.device), height, width) * 2.0 - 1.0
        change = GuidedFilter(guide, (source.shape[-2], source.shape[-1]))((made - source).float().unsqueeze(0))
        # The map to planes is affine: less what it makes of nothing, it is that of a change.
        nothing = rgb_to_planes(change.new_zeros(1, 3, 2, 2), self._pix_fmt, self._colour)
        changes = rgb_to_planes(change / 2.0, self._pix_fmt, self._colour)
        wanted = tuple(x + part - zero[0, 0, 0] for x, part, zero in zip(own, changes, nothing, strict=True))
        return _minus(wanted, self._planes(made.unsqueeze(0)))

    @contextmanager
    def _beside_other_work(self, device: torch.device) -> Iterator[None]:
        """On a GPU, in a stream of this composer's own, after all that has been asked of the GPU so far.

        What is asked of it later, such as the next batch, is not waited for. Nothing of the block may still be running
        at its end: memory that other streams gave is theirs again then.
        """
        if device.type != "cuda":
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        try:
            with torch.cuda.stream(self._stream):
                yield
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{device} has too little free memory to compose frames of {self._size[0]}x{self._size[1]}; "
                "end other programs that use it, or try --device cpu"
            ) from error

    def _planes(self, decoded: Tensor) -> Planes:
        """What the engine gave -> float planes of the output's size, unrounded."""
        width, height = self._size
        if self._domain.is_label:
            scores = decoded if self._scores else colour_scores(decoded, self._domain.colours)
            if self._index:
                return (best_class(scores, height, width).to(torch.float32),)
            rgb = label_colours(scores, self._domain.colours, height, width)
        else:
            rgb = (resized(decoded, height, width) + 1.0) / 2.0
        return rgb_to_planes(rgb, self._pix_fmt, self._colour)

    def _fits(self, frame: Frame) -> bool:
        # Grey may be class numbers here, and planes of another range or matrix are other colours.
        same_colours = frame.colour.full_range == self._colour.full_range and (
            frame.pix_fmt.kind != "yuv" or frame.colour.matrix == self._colour.matrix
        )
        same_shape = frame.pix_fmt == self._pix_fmt and (frame.width, frame.height) == self._size
        return same_shape and same_colours and not self._index

    def _keyframe(self, frame: Frame, device: torch.device) -> Planes:
        """A keyframe as float planes of the output: its own where they fit, else one conversion."""
        if self._index:
            numbers = torch.from_numpy(self._domain.colours.nearest(to_uint8_rgb(frame)))
            return (_on(device, numbers).to(torch.float32).unsqueeze(0),)
        if self._fits(frame):
            planes = [_on(device, torch.from_numpy(plane)).unsqueeze(0) for plane in frame.planes]
            return tuple(plane.to(torch.float32) for plane in planes)
        width, height = self._size
        return rgb_to_planes(resized(self._rgb(frame, device), height, width), self._pix_fmt, self._colour)

    @staticmethod
    def _rgb(frame: Frame, device: torch.device) -> Tensor:
        """(1, 3, H, W), nominally 0 ... 1."""
        planes = [_on(device, torch.from_numpy(plane)).unsqueeze(0) for plane in frame.planes]
        return planes_to_rgb(planes, frame.pix_fmt, frame.colour)


def label_colours(scores: Tensor, palette: Palette, height: int, width: int) -> Tensor:
    """Class scores (n, K, h, w) to pure palette colours (n, 3, height, width) in [0, 1].

    The scores are scaled and then the best class is chosen, so no colour is ever mixed.
    """
    best = best_class(scores, height, width)
    table = torch.from_numpy(palette.array.T.copy()).to(scores.device, torch.float32) / 255.0
    return table.index_select(1, best.flatten()).view(3, *best.shape).movedim(0, 1)


def colour_scores(rgb: Tensor, palette: Palette) -> Tensor:
    """Painted labels (n, 3, h, w) in [-1, 1] to scores (n, K, h, w): minus the squared distance to each colour."""
    table = torch.from_numpy(palette.array.copy()).to(rgb.device, torch.float32) / 127.5 - 1.0
    return -(rgb.float().unsqueeze(1) - table.view(1, -1, 3, 1, 1)).square().sum(2)


def _minus(first: Planes, second: Planes) -> Planes:
    return tuple(a - b for a, b in zip(first, second, strict=True))


def _detail(
    left: Planes, right: Planes | None, times: Sequence[Fraction], motion: Fields | None, device: torch.device
) -> Planes:
    """Both keyframes' detail, planes (1, H, W), at every instant, planes (n, H, W). right: None where left is held.

    plane(t) = Y(D(t)) + (1 - t) (y0 - Y(D(0))) + t (y1 - Y(D(1))), each keyframe's part moved to t where there is
    motion: at t = 0 and 1 both keyframes are met exactly.
    """
    if right is None:
        return left  # for all instants
    if motion is not None:
        motion = Fields(*(_on(device, part) for part in (motion.to_left, motion.to_right, motion.right_share)))
    made: list[Tensor] = []
    for group in (slice(0, 1), slice(1, None)):  # luma, then chroma, whose two planes move as one
        if not left[group]:
            continue
        both = torch.cat(left[group]), torch.cat(right[group])
        planes = blend(*both, times) if motion is None else moved(*both, motion)
        made.extend(planes.unbind(1))
    return tuple(made)


def _on(device: torch.device, x: Tensor) -> Tensor:
    """x on the device; to a GPU by way of pinned memory, without waiting for it."""
    if device.type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def _as_arrays(planes: Planes) -> list[np.ndarray]:
    """The planes in this machine's memory; from a GPU by way of pinned memory, with one wait for all of them."""
    if not planes[0].is_cuda:
        return [plane.cpu().numpy() for plane in planes]
    host = [torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True) for plane in planes]
    for ours, theirs in zip(host, planes, strict=True):
        ours.copy_(theirs, non_blocking=True)
    done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    done.record()
    done.synchronize()
    return [plane.numpy() for plane in host]
