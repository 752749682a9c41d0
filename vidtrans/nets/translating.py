"""Pictures of one domain as pictures of another, by a net of either contract of nets/contract.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidtrans.nets.windows import in_windows


def frames_at_once(net: Any) -> int:
    """How many consecutive frames the net looks at to translate one; 1 for nets of single pictures."""
    return 1 if net.shares_latent else net.clip


def translated(net: Any, x: Tensor, source: str, target: str) -> Tensor:
    """Frames of `source` in colours of `target`; source is target only where the net shares a latent space.

    Args:
        x: (B, 3, H, W) single pictures, or (B, T, 3, H, W), of each sample T frames that follow each other, any T. A
            net of single pictures takes each by itself. To a net for clips a single picture is a clip in which nothing
            moves, and more frames than fit into one are translated in windows.

    Returns:
        the same shape, in [-1, 1].
    """
    return net.colour(translated_raw(net, x, source, target), target)


def translated_raw(net: Any, x: Tensor, source: str, target: str) -> Tensor:
    """`translated` as the net's last layer gives it: (B, 3, H, W), or (B, K, H, W) class scores; of clips with T."""
    clip = frames_at_once(net)
    if clip > 1:
        if x.ndim == 4:
            still = x.unsqueeze(1).expand(-1, clip, -1, -1, -1)
            return translated_raw(net, still, source, target)[:, clip // 2]
        windows = in_windows(x.unbind(1), lambda window: net.translate(window, source, target), clip)
        return torch.stack(list(windows), 1)
    if x.ndim == 5:
        made = translated_raw(net, x.flatten(0, 1), source, target)
        return made.reshape(*x.shape[:2], *made.shape[1:])
    if net.shares_latent:
        return net.finish(net.lift(net.encode(x, source), target), target)
    return net.translate(x, source, target)
