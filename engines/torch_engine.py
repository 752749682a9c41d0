"""The torch engine: on the CPU in float32 it is the reference every other engine is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines.contract import Features, Gap
from vidtrans.errors import DeviceError
from vidtrans.latents import Fields, blend
from vidtrans.nets.contract import domain_named, pad, padded_size


class TorchEngine:
    """See contract.Engine.

    Args:
        net: a net of the contract in nets/contract.py, on any device; it is moved to this engine's.
        source: the input's domain; targets: the domains to translate into.
        working_size: (width, height) in pixels the network sees (padded up to what it takes).
        device: "cpu", "cuda", "cuda:1" ...

    Raises:
        DeviceError: the device is not there.
    """

    name = "torch"

    def __init__(
        self, net: Any, source: str, targets: Sequence[str], working_size: tuple[int, int], device: str = "cpu"
    ) -> None:
        self.domains = (source, *targets)
        self.working_size = working_size
        self.device = device
        try:
            self._net = net.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise DeviceError(f"device {device!r} cannot be used ({reason}); try --device cpu") from error
        self._labels_in = domain_named(net.domains, source).is_label

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> list[Features]:
        x = self._prepare(frames)
        z = self._net.encode(x, self.domains[0])
        lifted = {domain: self._net.lift(z, domain) for domain in self.domains}
        decoded = {domain: self._finish(a, domain) for domain, a in lifted.items()}
        return [
            Features({d: a[row] for d, a in lifted.items()}, {d: out[row] for d, out in decoded.items()})
            for row in range(len(frames))
        ]

    @torch.inference_mode()
    def between(self, gaps: Sequence[Gap]) -> list[dict[str, Tensor]]:
        return [self._gap(gap) for gap in gaps]

    def _gap(self, gap: Gap) -> dict[str, Tensor]:
        own = int(bool(gap.times) and gap.times[0] == 0)  # t = 0 is the keyframe's own decoding, made already
        inner = gap.times[own:]
        outputs = {domain: [gap.left.decoded[domain].unsqueeze(0)[:own]] for domain in self.domains}
        if inner:
            fields = None if gap.motion is None else self._feature_fields(gap.motion.since(own), gap.left)
            for domain in self.domains:
                left, right = gap.left.lifted[domain], gap.right.lifted[domain]
                between = blend(left, right, inner) if fields is None else fields.blend(left, right)
                outputs[domain].append(self._finish(between, domain))
        return {domain: torch.cat(parts) for domain, parts in outputs.items()}

    def _feature_fields(self, motion: Fields, keyframe: Features) -> Fields:
        """Fields at the resolution of the lifted features, which cover the padded working size."""
        width, height = self.working_size
        rows, columns = keyframe.lifted[self.domains[0]].shape[-2:]
        stride = padded_size(height, width, self._net.sizes)[0] // rows
        return motion.to(self.device).on(height, width).pooled(stride, rows, columns)

    def _finish(self, a: Tensor, domain: str) -> Tensor:
        width, height = self.working_size
        return self._net.finish(a, domain)[..., :height, :width]

    def _prepare(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) integers -> (B, 3, h, w) floats in [-1, 1] at the padded working size."""
        white = 255.0 if frames.dtype == torch.uint8 else 65535.0
        x = frames.to(self.device).movedim(-1, 1).to(torch.float32) / (white / 2.0) - 1.0
        width, height = self.working_size
        if x.shape[-2:] != (height, width):
            # Averaging two class colours would make a third, so labels are picked, not mixed.
            x = (
                F.interpolate(x, (height, width), mode="nearest-exact")
                if self._labels_in
                else F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)
            )
        return pad(x, self._net.sizes)
