"""A net's two halves as modules of their own, which is what converters take, and a rewrite that is faster or the only
one that builds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class EncodeLifts(nn.Module):
    """x (B, 3, H, W) of the source domain -> lifted features (B, C, h, w), one tensor for each domain.

    source: None: the first of the domains.
    """

    def __init__(self, net: Any, domains: Sequence[str], source: str | None = None) -> None:
        super().__init__()
        self.net = net
        self._domains = tuple(domains)
        self._source = source or self._domains[0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.net.encode(x, self._source)
        return tuple(self.net.lift(z, domain) for domain in self._domains)


class Finish(nn.Module):
    """Lifted features (B, C, h, w), one tensor for each domain -> what `net.finish` makes of each.

    normed: the features have been through the net's first instance norm and ReLU already.
    """

    def __init__(self, net: Any, domains: Sequence[str], *, normed: bool = False) -> None:
        super().__init__()
        self.net = net
        self._domains = tuple(domains)
        self._normed = normed

    def forward(self, *lifted: Tensor) -> tuple[Tensor, ...]:
        finish = self.net.finish_normed if self._normed else self.net.finish
        return tuple(finish(a, domain) for a, domain in zip(lifted, self._domains, strict=True))


def padded_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """The ordinary convolution that equals a transposed one of stride 1: kernel flipped and transposed, padding k - 1.

    Raises:
        ValueError: its stride, dilation, groups or output padding are not 1, 1, 1 and 0.
    """
    plain = layer.stride == (1, 1) and layer.dilation == (1, 1) and layer.groups == 1
    if not plain or layer.output_padding not in (0, (0, 0)):
        raise ValueError("only transposed convolutions of stride 1 are padded convolutions")
    kernel = layer.kernel_size
    padding = (kernel[0] - 1 - int(layer.padding[0]), kernel[1] - 1 - int(layer.padding[1]))
    conv = nn.Conv2d(
        layer.in_channels, layer.out_channels, (kernel[0], kernel[1]), padding=padding, bias=layer.bias is not None
    )
    conv.to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        conv.weight.copy_(layer.weight.flip(2, 3).transpose(0, 1))
        if layer.bias is not None and conv.bias is not None:
            conv.bias.copy_(layer.bias)
    return conv


def with_padded_lifts(net: Any) -> Any:
    """A copy of the net whose transposed convolutions of stride 1 are padded convolutions; all else is as it was."""
    net = copy.deepcopy(net)
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ConvTranspose2d) and child.stride == (1, 1):
                setattr(module, name, padded_convolution(child))
    return net
