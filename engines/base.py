"""What all engines share: sizes, colours in, the output at t = 0, fields on the features' grid, batches.

An engine of its own adds three hooks: `_encode_lifts`, `_finish`, and `_mixed` where it blends in its own way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines.contract import Features, Gap
from vidtrans.latents import Fields, blend
from vidtrans.nets.contract import domain_named, pad, padded_size

# Pixels (rows x height x width) finished in one go. Bounds memory: activations take about 1 kB a pixel at width 64 in
# float32.
BATCH_PIXELS = 2**21


class BaseEngine(ABC):
    """See contract.Engine, whose fields but `name` are set here.

    Args:
        net: a net of the contract in nets/contract.py.
        source: the input's domain; targets: the domains to translate into.
        decode_source: whether the source domain is decoded, too.
        working_size: (width, height) in pixels the network sees (padded up to what it takes).
        device: a torch device, which holds Features and what `between` gives.
        precision: what really runs.
    """

    name: str

    def __init__(
        self,
        net: Any,
        source: str,
        targets: Sequence[str],
        working_size: tuple[int, int],
        device: str,
        precision: str,
        decode_source: bool = True,
    ) -> None:
        self.source = source
        self.domains = (source, *targets) if decode_source else tuple(targets)
        self.working_size = working_size
        self.device = device
        self.precision = precision
        self.notes: list[str] = []
        self.gaps_at_once = 1
        self._sizes = net.sizes
        self._labels_in = domain_named(net.domains, source).is_label

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the network really sees."""
        return padded_size(self.working_size[1], self.working_size[0], self._sizes)

    @abstractmethod
    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 3, H, W) in [-1, 1] at the padded size -> per domain the lifted features (B, C, h, w)."""

    @abstractmethod
    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per domain lifted features (B, C, h, w) -> per domain (B, 3 or K, H, W) at the padded size."""

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> list[Features]:
        lifted = self._encode_lifts(self._prepare(frames))
        decoded = self._cropped(self._finish(lifted))
        return [
            Features({d: a[row] for d, a in lifted.items()}, {d: out[row] for d, out in decoded.items()})
            for row in range(len(frames))
        ]

    @torch.inference_mode()
    def between(self, gaps: Sequence[Gap]) -> list[dict[str, Tensor]]:
        # The output at t = 0 is the keyframe's own decoding, which its Features hold already.
        own = [int(bool(gap.times) and gap.times[0] == 0) for gap in gaps]
        inner = [
            Gap(gap.left, gap.right, gap.times[skip:], gap.motion and gap.motion.since(skip))
            for gap, skip in zip(gaps, own, strict=True)
        ]
        made = self._in_betweens([gap for gap in inner if gap.times])
        outputs = []
        for gap, skip in zip(gaps, own, strict=True):
            parts = {domain: [gap.left.decoded[domain].unsqueeze(0)] if skip else [] for domain in self.domains}
            if len(gap.times) > skip:
                rows = next(made)
                for domain in self.domains:
                    parts[domain].append(rows[domain])
            outputs.append({domain: torch.cat(part) for domain, part in parts.items()})
        return outputs

    def _in_betweens(self, gaps: list[Gap]) -> Any:
        """Per gap {domain: (n, C, H, W)}; all gaps' rows go through the network together, in bounded batches."""
        if not gaps:
            return iter(())
        height, width = self.padded_size
        limit = max(1, BATCH_PIXELS // (height * width))
        mixed = self._mixed(gaps)
        count = len(mixed[self.domains[0]])
        parts = [
            self._cropped(self._finish({d: a[first : first + limit] for d, a in mixed.items()}))
            for first in range(0, count, limit)
        ]
        whole = {d: parts[0][d] if len(parts) == 1 else torch.cat([part[d] for part in parts]) for d in self.domains}
        lengths = [len(gap.times) for gap in gaps]
        split = {domain: torch.split(out, lengths) for domain, out in whole.items()}
        return iter([{domain: split[domain][row] for domain in self.domains} for row in range(len(gaps))])

    def _mixed(self, gaps: list[Gap]) -> dict[str, Tensor]:
        """Per domain the blended features of all gaps' instants, in order, as `_finish` takes them."""
        mixed: dict[str, list[Tensor]] = {domain: [] for domain in self.domains}
        for gap in gaps:
            fields = None if gap.motion is None else self._feature_fields(gap.motion, gap.left)
            for domain, rows in mixed.items():
                left, right = gap.left.lifted[domain], gap.right.lifted[domain]
                rows.append(blend(left, right, gap.times) if fields is None else fields.blend(left, right))
        return {domain: rows[0] if len(rows) == 1 else torch.cat(rows) for domain, rows in mixed.items()}

    def _feature_fields(self, motion: Fields, keyframe: Features) -> Fields:
        """Fields at the resolution of the lifted features, which cover the padded working size."""
        width, height = self.working_size
        rows, columns = keyframe.lifted[self.domains[0]].shape[-2:]
        return motion.to(self.device).on(height, width).pooled(self.padded_size[0] // rows, rows, columns)

    def _cropped(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        width, height = self.working_size
        return {domain: out[..., :height, :width] for domain, out in outputs.items()}

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
        return pad(x, self._sizes)
