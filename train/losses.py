"""The terms of JWDM's objective, a function each, with the paper's equation (numbers J as in docs/method.md)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.train.draws import Draws


def full(numbers: Tensor) -> Tensor:
    """At least float32: sums of many bfloat16 or float16 numbers would lose their last terms."""
    return numbers.float() if numbers.dtype in (torch.bfloat16, torch.float16) else numbers


def reconstruction(x: Tensor, target: Tensor) -> Tensor:
    """Eq. (7), either term: E||x - target||_1, as the mean over all numbers (J23)."""
    return F.l1_loss(full(x), target)


def class_reconstruction(scores: Tensor, labels: Tensor) -> Tensor:
    """Eq. (7) with another cost for labels: cross-entropy (nats per pixel), scores (B, K, H, W), classes (B, H, W).

    The theorem allows any cost; colours of classes may lie close together (pole and building are both grey), classes
    do not.
    """
    return F.cross_entropy(full(scores), labels)


def real_term(logits: Tensor) -> Tensor:
    """Eq. (8), first term, negated for descent: -E log D(x), D = sigmoid(logits)."""
    return F.softplus(-full(logits)).mean()


def fake_term(logits: Tensor) -> Tensor:
    """Eq. (8), second term, negated for descent: -E log(1 - D(x~))."""
    return F.softplus(full(logits)).mean()


def data_divergence(real: Tensor, translated: Tensor, cycled: Tensor | None = None, *, cycle_share: float) -> Tensor:
    """Eqs. (19), (20): what Dx (Dy) descends on. Logits of real pictures, of translations and of cycle reconstructions.

    The fakes are cycle_share of cycle reconstructions and (1 - cycle_share) of translations (the paper's lambda; J8,
    J9). At 0 this is CycleGAN's term and cycled may be None.
    """
    loss = real_term(real) + (1.0 - cycle_share) * fake_term(translated)
    if cycle_share > 0.0:
        assert cycled is not None, "cycle reconstructions are needed for a cycle share above 0"
        loss = loss + cycle_share * fake_term(cycled)
    return loss


def data_adversary(translated: Tensor, cycled: Tensor | None = None, *, cycle_share: float) -> Tensor:
    """What the generators descend on against Dx (Dy): the non-saturating form of Eqs. (19), (20) (J10)."""
    loss = (1.0 - cycle_share) * real_term(translated)
    if cycle_share > 0.0:
        assert cycled is not None, "cycle reconstructions are needed for a cycle share above 0"
        loss = loss + cycle_share * real_term(cycled)
    return loss


def latent_divergence(prior: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """d(PZ, QZ1) + d(PZ, QZ2) of Eq. (6): what Dz descends on. Logits of prior draws and both encoders' latents."""
    return 2.0 * real_term(prior) + fake_term(first) + fake_term(second)


def latent_adversary(first: Tensor, second: Tensor) -> Tensor:
    """What the encoders descend on against Dz, non-saturating."""
    return real_term(first) + real_term(second)


def prior_draw(like: Tensor, kind: str, draws: Draws) -> Tensor:
    """A draw of PZ in a latent's shape (J4).

    "relu": ReLU(N(0, I)), what a norm and a ReLU make of Gaussian numbers, so that a non-negative code can match it;
    "gaussian": N(0, I), for a linear embedding; "uniform": U(-1, 1).
    """
    if kind == "relu":
        return draws.normal("prior", like).relu_()
    if kind == "gaussian":
        return draws.normal("prior", like)
    if kind == "uniform":
        return draws.uniform("prior", like) * 2.0 - 1.0
    raise ValueError(f"prior must be relu, gaussian or uniform, not {kind!r}")
