"""A model whose network changes nothing: what goes in at the working size comes out, in both domains."""

from __future__ import annotations

from torch import Tensor, nn

from vidtrans.checkpoint import Model
from vidtrans.nets.contract import Domain, SizeFacts


class IdentityNet(nn.Module):
    """See nets/contract.py; its latent is the picture itself."""

    family = "identity"
    shares_latent = True
    lift_norm = "none"

    def __init__(self) -> None:
        super().__init__()
        self.domains = (Domain("here"), Domain("there"))
        self.sizes = SizeFacts(multiple=1, minimum=1, trained=(64, 48))

    def has_scores(self, domain: str) -> bool:
        return False

    def encode(self, x: Tensor, domain: str) -> Tensor:
        return x

    def lift(self, z: Tensor, domain: str) -> Tensor:
        return z

    def finish(self, a: Tensor, domain: str) -> Tensor:
        return a

    def decode(self, z: Tensor, domain: str) -> Tensor:
        return z

    def colour(self, out: Tensor, domain: str) -> Tensor:
        return out


def identity_model() -> Model:
    return Model(IdentityNet().eval())
