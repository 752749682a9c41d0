"""Divergences d(P, Q) between pictures or latents: Eq. (8), and what the paper says may stand in its place.

Each kind is a function or two with its equation; r are a critic's numbers for real samples, f for made ones. Numbers J
as in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.train.draws import Draws
from vidtrans.train.losses import full

Fakes = Sequence[tuple[float, Tensor]]  # (share, samples): the made distribution is a mixture, Eqs. (19), (20)


def log_real(r: Tensor) -> Tensor:
    """Eq. (8), first term, negated for descent: -E log D(x), D = sigmoid(r)."""
    return F.softplus(-full(r)).mean()


def log_fake(f: Tensor) -> Tensor:
    """Eq. (8), second term, negated for descent: -E log(1 - D(x~))."""
    return F.softplus(full(f)).mean()


def minimax(f: Tensor) -> Tensor:
    """What Eq. (6) literally has the generators descend on: E log(1 - D(x~)). Flat where the critic is sure (J10)."""
    return -log_fake(f)


def square_to_one(numbers: Tensor) -> Tensor:
    """Least squares (Mao 2017, as CycleGAN uses it): E (D(x) - 1)^2."""
    return (full(numbers) - 1.0).square().mean()


def square_to_zero(f: Tensor) -> Tensor:
    """Least squares, the critic's term of made samples: E D(x~)^2."""
    return full(f).square().mean()


def minus_mean(numbers: Tensor) -> Tensor:
    """Wasserstein (Arjovsky 2017): -E D(x)."""
    return -full(numbers).mean()


def mean(f: Tensor) -> Tensor:
    """Wasserstein, the critic's term of made samples: E D(x~)."""
    return full(f).mean()


class Game(NamedTuple):
    """What a critic descends on for real and for made samples, and the generators for made ones."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    made: Callable[[Tensor], Tensor]


GAMES: dict[str, Game] = {
    "gan": Game(log_real, log_fake, log_real),  # the generators' term is the non-saturating form of Eq. (8), J10
    "minimax": Game(log_real, log_fake, minimax),
    "lsgan": Game(square_to_one, square_to_zero, square_to_one),
    "wgan-gp": Game(minus_mean, mean, minus_mean),
}
KINDS = (*GAMES, "mmd")


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
    """E (|grad D(u)|_2 - 1)^2 at u = e x + (1 - e) x~, e ~ U(0, 1) for every sample (Gulrajani 2017, Eq. 3).

    D of a sample is the mean of its critic's map, so that it does not grow with the picture.
    """
    real, fake = full(real.detach()), full(fake.detach())
    share = draws.uniform("gradient penalty", real.flatten(1)[:, :1]).view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake, real, share).requires_grad_()
    value = full(critic(between)).flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(value, between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()


def r1_penalty(critic: nn.Module, real: Tensor) -> Tensor:
    """E |grad D(x)|^2 at real samples x (Mescheder 2018, Eq. 9, without its factor gamma / 2), in full precision.

    D of a sample is the mean of its critic's map, as in `gradient_penalty`.
    """
    with torch.autocast(real.device.type, enabled=False):
        x = full(real.detach()).requires_grad_()
        value = critic(x).flatten(1).mean(1).sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()


SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels, as in the WAE paper's code


def kernel(x: Tensor, y: Tensor, variance: float) -> Tensor:
    """Sum over SCALES of the inverse multiquadratics C / (C + |x - y|^2), C = 2 d variance scale (WAE, section 4).

    x: (n, d), y: (m, d), variance: of one coordinate. Returns (n, m).
    """
    squares = (x.square().sum(1).unsqueeze(1) + y.square().sum(1) - 2.0 * x @ y.t()).clamp_min(0.0)
    constants = (2.0 * x.shape[1] * variance * scale for scale in SCALES)
    return torch.stack([constant / (constant + squares) for constant in constants]).sum(0)


def mmd(x: Tensor, y: Tensor, variance: float) -> Tensor:
    """The unbiased estimate of the squared maximum mean discrepancy of samples x (n, d) and y (m, d), n, m >= 2.

    mean over i != j of k(x_i, x_j) + the same of y - 2 mean over i, j of k(x_i, y_j) (Gretton 2012, Eq. 3); it may be
    negative, and is 0 in the mean where both come from one distribution.
    """
    n, m = len(x), len(y)
    xx, yy, xy = kernel(x, x, variance), kernel(y, y, variance), kernel(x, y, variance)
    own = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1)) + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return own - 2.0 * xy.mean()


MOST_ROWS = 1024  # of each side in a kernel's matrix


def latent_rows(z: Tensor) -> list[Tensor]:
    """Every position's vector as a sample, as a Dz of kernel 1 sees them: (B, C, h, w) -> [(B h w, C)]."""
    return [z.movedim(1, -1).flatten(0, -2)]


def patch_rows(picture: Tensor) -> list[Tensor]:
    """4x4 patches side by side of the picture and of its halves, twice: (B, 3, H, W) -> three times (n, 48).

    A picture as a whole has too many numbers for a kernel to tell one from another; its patches say what it is made of,
    at three sizes, without any learned features.
    """
    levels = [picture, F.avg_pool2d(picture, 2), F.avg_pool2d(picture, 4)]
    return [F.unfold(level, 4, stride=4).movedim(1, -1).flatten(0, 1) for level in levels]


class Divergence(nn.Module):
    """d(P, Q) for one P: a critic's `ascent` on it, if it has a critic, and the generators' `descent`."""

    def ascent(self, real: Tensor, fakes: Fakes, draws: Draws) -> Tensor | None:
        """What the critic descends on (minus the divergence); None where there is no critic."""
        raise NotImplementedError

    def descent(self, real: Tensor, fakes: Fakes, draws: Draws) -> Tensor:
        """What the makers of the fakes descend on."""
        raise NotImplementedError


class Played(Divergence):
    """A divergence that a critic finds: Eq. (8) or another game of GAMES."""

    def __init__(self, kind: str, critic: nn.Module, penalty_weight: float, r1_weight: float = 0.0) -> None:
        """penalty_weight: of the gradient penalty, "wgan-gp" only; r1_weight: of `r1_penalty`, for all kinds."""
        super().__init__()
        self.critic = critic
        self._game = GAMES[kind]
        self._penalty_weight = penalty_weight if kind == "wgan-gp" else 0.0
        self._r1_weight = r1_weight

    def ascent(self, real: Tensor, fakes: Fakes, draws: Draws) -> Tensor:
        r, *made = self._judge(real.detach(), *(fake.detach() for _, fake in fakes))
        loss = sum(share for share, _ in fakes) * self._game.real(r)
        for (share, fake), f in zip(fakes, made, strict=True):
            loss = loss + share * self._game.fake(f)
            if self._penalty_weight:
                penalty = gradient_penalty(self.critic, real, fake, draws)
                loss = loss + share * self._penalty_weight * penalty
        if self._r1_weight:
            loss = loss + self._r1_weight * r1_penalty(self.critic, real)
        return loss

    def descent(self, real: Tensor, fakes: Fakes, draws: Draws) -> Tensor:
        made = self._judge(*(fake for _, fake in fakes))
        terms = [share * self._game.made(f) for (share, _), f in zip(fakes, made, strict=True)]
        return torch.stack(terms).sum()

    def _judge(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """The critic's numbers for several batches of one size, from one pass (no critic norms across samples)."""
        return self.critic(torch.cat(batches)).split(len(batches[0]))


class Kernels(Divergence):
    """A divergence that needs no critic: the maximum mean discrepancy of rows of features."""

    def __init__(self, rows: Callable[[Tensor], list[Tensor]], variance: float) -> None:
        """variance: of one coordinate of P, which sets the width of the kernels."""
        super().__init__()
        self._rows = rows
        self._variance = variance

    def ascent(self, real: Tensor, fakes: Fakes, draws: Draws) -> None:
        return None

    def descent(self, real: Tensor, fakes: Fakes, draws: Draws) -> Tensor:
        with torch.autocast(real.device.type, enabled=False):
            wanted = self._rows(full(real.detach()))
            terms = []
            for share, fake in fakes:
                levels = zip(wanted, self._rows(full(fake)), strict=True)
                each = [mmd(_some(x, "real", draws), _some(y, "made", draws), self._variance) for x, y in levels]
                terms.append(share * torch.stack(each).mean())
            return torch.stack(terms).sum()


def _some(rows: Tensor, purpose: str, draws: Draws) -> Tensor:
    """At most MOST_ROWS of the rows, without replacement."""
    if len(rows) <= MOST_ROWS:
        return rows
    chosen = torch.randperm(len(rows), generator=draws.generator(f"{purpose} rows", 0))[:MOST_ROWS]
    return rows[chosen.to(rows.device)]
