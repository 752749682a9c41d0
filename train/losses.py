"""The terms of JWDM's objective but its divergences, a function each, with the paper's equation (J: docs/method.md)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.train.draws import Draws


def full(numbers: Tensor) -> Tensor:
    """At least float32: sums of many bfloat16 or float16 numbers would lose their last terms."""
    return numbers.float() if numbers.dtype in (torch.bfloat16, torch.float16) else numbers


def reconstruction(x: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """Eq. (7), either term: E||x - target||_1, as the mean over all numbers (J23).

    counts: (B, 1, H, W) bool, pixels whose error counts; that of others is 0. The divisor stays the number of all, so
    that the mean over a batch is that of its parts' means.
    """
    if counts is None:
        return F.l1_loss(full(x), target)
    return (F.l1_loss(full(x), target, reduction="none") * counts).mean()


def class_reconstruction(scores: Tensor, labels: Tensor) -> Tensor:
    """Eq. (7) with another cost for labels: cross-entropy (nats per pixel), scores (B, K, H, W), classes (B, H, W).

    The theorem allows any cost; colours of classes may lie close together (pole and building are both grey), classes
    do not. Pixels of void.NO_CLASS cost nothing, and are counted like the others.
    """
    return F.cross_entropy(full(scores), labels, reduction="none").mean()


def variation(clips: Tensor) -> Tensor:
    """L_const of the video-to-video paper: E (G(x)_t - G(x)_(t-1))^2, as a mean over all numbers.

    clips: (B, T, 3, H, W), T >= 2 translated frames that follow each other.
    """
    return full(clips).diff(dim=1).square().mean()


def likeness(translated: Tensor, own: Tensor) -> Tensor:
    """E |G2(E1(x)) - G1(E1(x))|, beyond the papers: a translation shall change nothing that it need not.

    Both (B, 3, H, W). The reconstruction learns nothing from it: it is what x looks like to this network.
    """
    return (full(translated) - full(own).detach()).abs().mean()


def carried(translated: Tensor, own: Tensor, x: Tensor) -> Tensor:
    """x + G2(E1(x)) - G1(E1(x)): a translation with the detail that the source's own decoding lacks.

    All (B, 3, H, W). What `upsample` writes is this with the change fitted to x (guided.py). Here it is not: what the
    filter weakens, the generators would learn to overdo. The own decoding learns nothing from it, or it would learn to
    differ from x.
    """
    return x + full(translated) - full(own).detach()


# (rows, columns) from a pixel to those it is compared with: near ones, and far ones in fewer directions.
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (0, 4), (4, 0), (2, 3), (2, -3))
SAME_COLOUR = 0.15  # standard deviation, of colours in [-1, 1]


def edges(x: Tensor, probabilities: Tensor) -> Tensor:
    """How much classes change where the photo does not: beyond the papers, after Obukhov's gated CRF loss (2019).

    Mean over pixels i and neighbours j of exp(-|x_i - x_j|^2 / 2 sigma^2) (1 - p_i . p_j). x: (B, 3, H, W) in [-1, 1],
    H and W at least 5; probabilities: (B, K, H, W).
    """
    height, width = x.shape[-2:]
    costs = []
    for down, right in NEIGHBOURS:
        rows = slice(0, height - down), slice(down, height)
        columns = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width - max(0, -right))
        x0, x1 = (x[..., row, column] for row, column in zip(rows, columns, strict=True))
        p0, p1 = (probabilities[..., row, column] for row, column in zip(rows, columns, strict=True))
        alike = torch.exp(-(x0 - x1).square().sum(1) / (2.0 * SAME_COLOUR**2))
        costs.append((alike * (1.0 - (p0 * p1).sum(1))).mean())
    return torch.stack(costs).mean()


# Of one number of PZ: Var ReLU(N(0, 1)) = 1/2 - 1/(2 pi).
PRIOR_VARIANCE = {"relu": 0.5 - 0.5 / math.pi, "gaussian": 1.0, "uniform": 1 / 3}


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
