"""What comes out of a decoder for each kind of domain: a picture, or class scores that weigh a palette's colours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vidtrans.nets.contract import Domain, domain_named


class HeadedNet(nn.Module):
    """Base of nets whose decoders end in one of two heads.

    "tanh" paints a domain as a picture (B, 3, H, W) in [-1, 1], labels too (the papers); "palette" gives a label domain
    one score per class, (B, K, H, W), whose softmax weighs the palette's colours.

    Attributes:
        config: of the net, with fields domains and label_head.
        domains: the config's.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.domains: tuple[Domain, ...] = config.domains
        for domain in self.domains:
            if self.has_scores(domain.name):
                colours = torch.from_numpy(domain.colours.array.copy()).float() / 127.5 - 1.0
                self.register_buffer(f"palette_{domain.name}", colours, persistent=False)

    def has_scores(self, domain: str) -> bool:
        """Whether the decoder of this domain gives class scores."""
        return domain_named(self.domains, domain).is_label and self.config.label_head == "palette"

    def outputs(self, domain: Domain) -> int:
        """Channels of this domain's head: 3 with a Tanh after them, or one per class without."""
        return len(domain.colours) if self.has_scores(domain.name) else 3

    def colour(self, out: Tensor, domain: str) -> Tensor:
        """What a decoder gave -> (B, 3, H, W) in [-1, 1]; class scores become the palette's expected colour."""
        if not self.has_scores(domain):
            return out
        palette: Tensor = getattr(self, f"palette_{domain}")
        return torch.einsum("bkhw,kc->bchw", out.float().softmax(1), palette)
