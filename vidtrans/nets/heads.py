"""How a net ends in a domain: in a picture, or in one score per class of a label domain's palette."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidtrans.nets.contract import Domain, domain_named

LABEL_HEADS = ("tanh", "palette")


class Head(NamedTuple):
    """The last layer of a domain's decoder or generator: its channels, and whether tanh follows it."""

    channels: int
    tanh: bool


class Heads(nn.Module):
    """The base of nets whose config has a `label_head`: "tanh" paints labels as a picture, "palette" scores classes.

    Fields: config, domains (see nets/contract.py).
    """

    config: Any
    domains: tuple[Domain, ...]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.domains = config.domains
        for domain in config.domains:
            if self.has_scores(domain.name):
                colours = torch.from_numpy(domain.colours.array.copy()).float() / 127.5 - 1.0
                self.register_buffer(f"palette_{domain.name}", colours, persistent=False)

    def has_scores(self, domain: str) -> bool:
        """Whether what is made in this domain are class scores."""
        return domain_named(self.domains, domain).is_label and self.config.label_head == "palette"

    def head(self, domain: Domain) -> Head:
        return Head(len(domain.colours), tanh=False) if self.has_scores(domain.name) else Head(3, tanh=True)

    def colour(self, out: Tensor, domain: str) -> Tensor:
        """What the domain's last layer gave -> (B, 3, H, W) in [-1, 1]; (B, T, K, H, W) -> (B, T, 3, H, W).

        Class scores become the palette's expected colour.
        """
        if not self.has_scores(domain):
            return out
        if out.ndim == 5:
            frames = self.colour(out.flatten(0, 1), domain)
            return frames.reshape(*out.shape[:2], *frames.shape[1:])
        palette: Tensor = getattr(self, f"palette_{domain}")
        return torch.einsum("bkhw,kc->bchw", out.float().softmax(1), palette)
