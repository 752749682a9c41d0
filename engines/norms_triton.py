"""Instance norms by the kernels of latents_triton, as modules that take the place of torch's in a net that only infers.

Torch's instance norm wants planes and would transpose channels-last features twice for every norm. One kernel reads x
for its moments, another one reads it again, norms, applies the ReLU or adds the residual, and writes. Arithmetic is
float32; what is stored is rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtrans.engines.latents_triton import Layout
from vidtrans.nets.blocks import NormReLU, ResidualBlock


def instance_norm(x: Tensor, *, relu: bool, added: Tensor | None = None) -> Tensor:
    """Instance norm of dense x (B, C, H, W), then ReLU if it is wanted, then the sum with what is added, laid out as x.

    CUDA graphs can hold it.
    """
    layout = Layout.of_batch(x)
    return layout.normed(x, layout.moments(layout.addresses(x)), relu=relu, added=added)


class FusedNorm(nn.Module):
    """Instance norm, ReLU if it is wanted, and a sum if there is one: (B, C, H, W) -> same, channels-last."""

    def __init__(self, *, relu: bool) -> None:
        super().__init__()
        self._relu = relu

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        if added is not None:
            added = added.contiguous(memory_format=torch.channels_last)
        return instance_norm(x.contiguous(memory_format=torch.channels_last), relu=self._relu, added=added)


class FusedResidual(nn.Module):
    """A ResidualBlock that ends in a norm, that norm and the sum being one kernel."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.body = block.body[:-1]
        self.skip = block.skip
        self.norm = FusedNorm(relu=not isinstance(block.body[-1], nn.InstanceNorm2d))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.body(x), self.skip(x))


def fuse_norms(module: nn.Module) -> None:
    """Put our norms in place of all NormReLU and in all ResidualBlock below a module."""
    for name, child in list(module.named_children()):
        if isinstance(child, NormReLU):
            fused = FusedNorm(relu=not child.slope)
            # The kernels know no slope: a leaky ReLU is a pass of its own.
            setattr(module, name, nn.Sequential(fused, nn.LeakyReLU(child.slope)) if child.slope else fused)
            continue
        fuse_norms(child)
        if isinstance(child, ResidualBlock) and isinstance(child.body[-1], FusedNorm | nn.InstanceNorm2d):
            setattr(module, name, FusedResidual(child))
