"""Divergences by hand, and their place in the objective."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidtrans.errors import UsageError
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses
from vidtrans.train.discriminators import LatentDiscriminator, picture_discriminator
from vidtrans.train.divergences import (
    GAMES,
    KINDS,
    SCALES,
    Kernels,
    Played,
    gradient_penalty,
    latent_rows,
    mmd,
    patch_rows,
)
from vidtrans.train.draws import Draws
from vidtrans.train.image_pool import ImagePool
from vidtrans.train.jwdm_step import JWDMStep
from vidtrans.train.ranks import Ranks
from vidtrans.train.recipe import Recipe, parse_recipe
from vidtrans.train.step import Batch

DRAWS = Draws(seed=0, step=0, first=0, count=2)


class Linear(nn.Module):
    """A critic D(x) = sum of w x, as a map of one number."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x).sum((1, 2, 3), keepdim=True)


def number(value: float) -> Tensor:
    return torch.full((2, 1, 1, 1), value, dtype=torch.float64)


def d(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


BY_HAND = {  # (real r, translated f, cycled c) with a share of 1/4 for the cycle -> the critic's, the generators' loss
    "gan": (
        lambda r, f, c: -math.log(d(r)) - 0.75 * math.log(1 - d(f)) - 0.25 * math.log(1 - d(c)),
        lambda f, c: -0.75 * math.log(d(f)) - 0.25 * math.log(d(c)),
    ),
    "minimax": (
        lambda r, f, c: -math.log(d(r)) - 0.75 * math.log(1 - d(f)) - 0.25 * math.log(1 - d(c)),
        lambda f, c: 0.75 * math.log(1 - d(f)) + 0.25 * math.log(1 - d(c)),
    ),
    "lsgan": (
        lambda r, f, c: (r - 1) ** 2 + 0.75 * f**2 + 0.25 * c**2,
        lambda f, c: 0.75 * (f - 1) ** 2 + 0.25 * (c - 1) ** 2,
    ),
    "wgan-gp": (
        lambda r, f, c: -r + 0.75 * f + 0.25 * c + 10 * (2 - 1) ** 2,  # D(x) = 2x everywhere: its gradient is 2
        lambda f, c: -0.75 * f - 0.25 * c,
    ),
}


@pytest.mark.parametrize("kind", GAMES)
def test_games_by_hand(kind: str) -> None:
    played = Played(kind, Linear(2.0), penalty_weight=10.0)
    fakes = [(0.75, number(-0.6)), (0.25, number(0.35))]
    ascent, descent = BY_HAND[kind]
    assert played.ascent(number(0.15), fakes, DRAWS).item() == pytest.approx(ascent(0.3, -1.2, 0.7), abs=1e-12)
    assert played.descent(number(0.15), fakes, DRAWS).item() == pytest.approx(descent(-1.2, 0.7), abs=1e-12)


@pytest.mark.parametrize("kind", GAMES)
def test_r1_is_the_squared_gradient_at_real_samples(kind: str) -> None:
    real, fakes = torch.zeros(2, 3, 4, 5, dtype=torch.float64), [(1.0, torch.ones(2, 3, 4, 5, dtype=torch.float64))]
    critic = Linear(2.0)
    without = Played(kind, critic, penalty_weight=10.0).ascent(real, fakes, DRAWS)
    with_r1 = Played(kind, critic, penalty_weight=10.0, r1_weight=0.5).ascent(real, fakes, DRAWS)
    # D(x) = sum of 2 x: its gradient is 2 in each of 60 numbers.
    assert (with_r1 - without).item() == pytest.approx(0.5 * 60 * 2.0**2, abs=1e-9)
    (slope,) = torch.autograd.grad(with_r1 - without, critic.weight)
    assert slope.item() == pytest.approx(0.5 * 60 * 2 * 2.0, abs=1e-9)
    # Where the critic is curved, it is asked at the real samples and nowhere else.
    curved = Played(kind, nn.Sequential(critic, Square()), penalty_weight=0.0, r1_weight=0.5)
    plain = Played(kind, curved.critic, penalty_weight=0.0)
    for at in (0.0, 0.1):
        apart = curved.ascent(real + at, fakes, DRAWS) - plain.ascent(real + at, fakes, DRAWS)
        assert apart.item() == pytest.approx(0.5 * 60 * (2 * (60 * 2 * at) * 2.0) ** 2, abs=1e-6)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def test_a_share_near_zero_is_cyclegans_term() -> None:
    # J9: lambda -> 0 in Eqs. (19), (20).
    real, fake, cycled = (number(value) for value in (0.3, -1.2, 0.7))
    played = Played("gan", Linear(1.0), 0.0)
    plain = played.ascent(real, [(1.0, fake)], DRAWS)
    almost = played.ascent(real, [(1 - 1e-9, fake), (1e-9, cycled)], DRAWS)
    torch.testing.assert_close(almost, plain, rtol=0, atol=1e-6)


def test_the_penalty_sees_a_slope_wherever_it_looks_and_can_be_descended() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x.square().sum((1, 2, 3), keepdim=True)  # the gradient at u is u, of norm |u|

    real, fake = torch.full((2, 3, 2, 2), 1.0), torch.full((2, 3, 2, 2), 3.0)
    norm = math.sqrt(12)
    value = gradient_penalty(Square(), real, fake, DRAWS).item()
    assert (norm - 1) ** 2 < value < (3 * norm - 1) ** 2
    critic = Linear(3.0)
    gradient_penalty(critic, number(0.0), number(1.0), DRAWS).backward()
    assert critic.weight.grad is not None
    assert critic.weight.grad.item() == pytest.approx(2 * (3 - 1))


def test_mmd_is_the_papers_double_sum() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1

    def k(a: Tensor, b: Tensor) -> float:
        constants = [2 * 3 * 0.7 * scale for scale in SCALES]
        return sum(c / (c + float((a - b).square().sum())) for c in constants)

    by_hand = sum(k(x[i], x[j]) for i in range(4) for j in range(4) if i != j) / 12
    by_hand += sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    by_hand -= 2 * sum(k(a, b) for a in x for b in y) / 20
    assert mmd(x, y, 0.7).item() == pytest.approx(by_hand, abs=1e-12)


def test_mmd_is_unbiased_and_its_descent_draws_samples_to_the_prior() -> None:
    torch.manual_seed(0)
    same = torch.stack([mmd(torch.randn(6, 2), torch.randn(6, 2), 1.0) for _ in range(300)])
    assert same.min() < 0
    assert abs(same.mean().item()) < 3 * same.std().item() / math.sqrt(300)
    z, prior, latent = torch.randn(4, 4, 3, 3) * 0.3 + 1, torch.randn(4, 4, 3, 3), Kernels(latent_rows, 1.0)
    z.requires_grad_()
    optimiser = torch.optim.Adam([z], 0.1)
    history = []
    for _ in range(30):
        distance = latent.descent(prior, [(1.0, z)], DRAWS)
        optimiser.zero_grad()
        distance.backward()
        optimiser.step()
        history.append(distance.item())
    assert history[-1] < 0.1 * history[0]
    assert latent.ascent(prior, [(1.0, z)], DRAWS) is None


def test_patches_at_three_sizes_tell_textures_apart_that_have_one_mean() -> None:
    flat, checks = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = -1
    assert [rows.shape for rows in patch_rows(flat)] == [(128, 48), (32, 48), (8, 48)]
    data = Kernels(patch_rows, 1 / 3)
    different = data.descent(flat, [(1.0, checks)], DRAWS)
    assert different > 1
    assert data.descent(checks, [(1.0, checks)], DRAWS).abs() < 0.2 * different


def recipe_with(**loss: Any) -> Recipe:
    return parse_recipe(
        {
            "domains": [{"name": "a", "data": "street:summer"}, {"name": "b", "data": "street:winter"}],
            "net": {"width": 4, "latent_channels": 6, "blocks": 1},
            "data": {"size": [48, 36]},
            "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 4} | loss,
        }
    )


def step_with(**loss: Any) -> tuple[JWDMStep, Batch]:
    recipe = recipe_with(**loss)
    torch.manual_seed(0)
    step = JWDMStep(JWDM(recipe.net_config()), recipe, torch.device("cpu"))
    x, y = torch.rand(2, 2, 1, 3, 36, 48) * 2 - 1
    return step, Batch((step.net.domains[0], step.net.domains[1]), (x, y), DRAWS)


@pytest.mark.parametrize("data", KINDS)
def test_every_divergence_moves_both_sides_of_the_game(data: str) -> None:
    latent = KINDS[-1 - KINDS.index(data)]
    step, batch = step_with(data_divergence=data, latent_divergence=latent)
    streams = step(batch)
    ascent = step.discriminator_loss(batch, streams)
    assert ascent.keys() == ({"dx", "dy"} if data != "mmd" else set()) | ({"dz"} if latent != "mmd" else set())
    torch.stack(list(ascent.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in step.discriminators())
    assert all(parameter.grad is None for parameter in step.net.parameters())
    descent = step.generator_loss(batch, streams)
    for name in ("gx", "gy", "gz"):
        moved = torch.autograd.grad(descent[name], list(step.net.parameters()), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in moved), name


def test_cycled_latents_are_half_of_each_latent_distribution() -> None:
    # J18: QZ1 is E1(x) or E2(G2(E1(x))).
    step, batch = step_with(cycled_latents=True)
    s, net = step(batch), step.net
    zxy = net.encode(net.decode(net.encode(batch.x, "a"), "b"), "b")
    zyx = net.encode(net.decode(net.encode(batch.y, "b"), "a"), "a")
    torch.testing.assert_close(s.cycles.zxy, zxy, rtol=0, atol=1e-5)
    torch.testing.assert_close(s.cycles.zyx, zyx, rtol=0, atol=1e-5)
    logits = [step.latent.critic(z) for z in (s.prior, s.zx, s.zy, zxy, zyx)]
    real, *fake = (
        torch.nn.functional.softplus(sign * f).mean() for sign, f in zip((-1, 1, 1, 1, 1), logits, strict=True)
    )
    want = 0.1 * (2 * real + 0.5 * sum(fake))
    torch.testing.assert_close(step.discriminator_loss(batch, s)["dz"], want, rtol=0, atol=1e-5)


def test_choices_of_critics_reach_the_networks() -> None:
    slopes = {m.negative_slope for m in picture_discriminator("table5", 2, 0.3) if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.3}
    own = {m.negative_slope for m in picture_discriminator("table5", 2) if isinstance(m, nn.LeakyReLU)}
    assert own == {0.01}  # J7
    step, _ = step_with(latent_discriminator_kernel=3, latent_discriminator_slope=0.05, discriminator_slope=0.4)
    dz = step.latent.critic
    assert isinstance(dz, LatentDiscriminator)
    assert dz[0].kernel_size == (3, 3)
    assert dz[1].negative_slope == 0.05
    assert {m.negative_slope for m in step.data["a"].critic if isinstance(m, nn.LeakyReLU)} == {0.4}
    for change in ({"data_divergence": "wgan"}, {"latent_discriminator_kernel": 2}, {"image_pool": -1}):
        with pytest.raises(UsageError):
            recipe_with(**change)


def test_an_image_pool_shows_old_fakes_half_of_the_time_and_keeps_its_size() -> None:
    pool, alone = ImagePool(3, (3, 1, 1)), Ranks()
    fresh = torch.arange(80.0).view(40, 2, 1, 1, 1).expand(40, 2, 3, 1, 1)
    shown = torch.cat([pool.exchange(two, Draws(0, step, 0, 2), alone) for step, two in enumerate(fresh)])
    numbers, given = shown[:, 0, 0, 0].tolist(), fresh[:, :, 0, 0, 0].flatten().tolist()
    assert numbers[:3] == given[:3]
    assert numbers[3:] != given[3:]
    assert all(number <= place for number, place in zip(numbers, given, strict=True))
    passed = sum(number == place for number, place in zip(numbers[3:], given[3:], strict=True))
    assert 20 < passed < 57
    # What is swapped out leaves the pool, what is swapped in waits there: but for the first three, which are shown on
    # their way in, every fake is shown once or still waits.
    assert sorted([*numbers, *pool.kept[:, 0, 0, 0].tolist()]) == sorted([*given, *given[:3]])
    again = ImagePool(3, (3, 1, 1))
    again.load_state_dict(pool.state_dict())
    last = torch.full((2, 3, 1, 1), 99.0)
    assert torch.equal(pool.exchange(last, Draws(0, 50, 0, 2), alone), again.exchange(last, Draws(0, 50, 0, 2), alone))


def test_the_pool_feeds_the_discriminators_only(tmp_path: Path) -> None:
    step, batch = step_with(image_pool=2)
    first = step.discriminator_loss(batch, step(batch))
    plain, _ = step_with()
    same = plain.discriminator_loss(batch, plain(batch))
    torch.testing.assert_close(first["dx"], same["dx"])  # the pool was empty: everything passed
    assert int(step.pools["a-translated"].filled) == 2
    losses_before = step.generator_loss(batch, step(batch))
    assert losses_before["gx"].requires_grad
    assert int(step.pools["a-translated"].filled) == 2


def test_the_priors_variance_is_what_the_kernels_assume() -> None:
    like = torch.empty(2, 8, 64, 64)
    for kind, variance in losses.PRIOR_VARIANCE.items():
        assert losses.prior_draw(like, kind, DRAWS).var().item() == pytest.approx(variance, rel=0.02)
