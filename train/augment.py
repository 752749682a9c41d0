"""Augmentation on the batch's device: crop, mirror, and light colour jitter of photos, drawn for each sample alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from kornia.enhance import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation_with_gray_subtraction
from kornia.geometry.transform import hflip
from torch import Tensor

from vidtrans.train.recipe import DataOptions

_HUE_SHARE = 0.25  # of the jitter, in turns of the colour circle


class Augment:
    """The changes of a recipe's [data] table: `crop`, `flip`, `jitter`.

    What happens to a sample depends on its seed alone, not on its neighbours, so a batch may be divided in any way
    (over accumulation steps, over ranks). All frames of a clip get the same.
    """

    def __init__(self, options: DataOptions) -> None:
        self._options = options

    def __call__(self, x: Tensor, seeds: Sequence[int], *, is_label: bool) -> Tensor:
        """Frames (B, 3, H, W) or clips (B, K, 3, H, W) in [-1, 1] -> the same, cropped to `crop`.

        Args:
            seeds: one for each sample; see `Draws.key`.
            is_label: colours mean classes and stay exactly as they are.
        """
        o = self._options
        draws = torch.stack([torch.rand(7, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).double()
        if o.crop is not None:
            x = _cropped(x, o.crop, draws[:, 0], draws[:, 1])
        if o.flip:
            mirrored = (draws[:, 2] < 0.5).to(x.device).view(-1, *[1] * (x.dim() - 1))
            x = torch.where(mirrored, hflip(x), x)
        if o.jitter and not is_label:
            x = _jittered(x, (2.0 * draws[:, 3:] - 1.0) * o.jitter)
        return x


def _cropped(x: Tensor, size: tuple[int, int], across: Tensor, down: Tensor) -> Tensor:
    """Every place equally likely; across, down: (B,) in [0, 1)."""
    width, height = size
    lefts = (across * (x.shape[-1] - width + 1)).long().tolist()
    tops = (down * (x.shape[-2] - height + 1)).long().tolist()
    return torch.stack(
        [one[..., top : top + height, left : left + width] for one, left, top in zip(x, lefts, tops, strict=True)]
    )


def _jittered(x: Tensor, by: Tensor) -> Tensor:
    """by: (B, 4) shifts of brightness, contrast, saturation and hue, as shares."""
    frames = x.reshape(-1, *x.shape[-3:])
    by = by.repeat_interleave(len(frames) // len(by), 0).to(frames.device, frames.dtype)
    frames = (frames + 1.0) * 0.5
    # About mid-grey, so that contrast does not brighten, and one clip's frames do not depend on their own means.
    gain = 1.0 + by[:, 1]
    frames = adjust_contrast(frames, gain, clip_output=False)
    frames = adjust_brightness(frames, 0.5 * (1.0 - gain) + 0.5 * by[:, 0], clip_output=True)
    frames = adjust_saturation_with_gray_subtraction(frames, 1.0 + by[:, 2])
    frames = adjust_hue(frames.clamp(0.0, 1.0), 2.0 * math.pi * _HUE_SHARE * by[:, 3])
    return (frames.clamp(0.0, 1.0) * 2.0 - 1.0).view_as(x)
