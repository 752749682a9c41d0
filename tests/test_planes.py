"""The fast ways for large planes equal the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vidtrans.latents import Fields
from vidtrans.planes import best_class, moved, resized


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(40, 64), (37, 91), (20, 32), (13, 40), (7, 5)])
def test_resizing_is_torchs_bilinear_interpolation(size: tuple[int, int]) -> None:
    x = random(3, 4, 20, 32)
    shrinks = size[0] < 20 or size[1] < 32
    want = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=shrinks)
    torch.testing.assert_close(resized(x, *size), want, rtol=0, atol=1e-4)
    # A part of a larger tensor lies in memory with gaps.
    torch.testing.assert_close(resized(x[:, 1:3, :, 2:], *size), resized(x[:, 1:3, :, 2:].clone(), *size))


@pytest.mark.parametrize("size", [(20, 32), (80, 128), (45, 70), (11, 16)])
def test_the_best_class_is_that_of_the_scaled_scores(size: tuple[int, int]) -> None:
    scores = random(3, 10, 20, 32)
    scaled = F.interpolate(scores, size, mode="bilinear", align_corners=False, antialias=size[0] < 20)
    best, second = scaled.topk(2, 1).values.unbind(1)
    clear = best - second > 1e-4  # elsewhere rounding may decide
    assert clear.float().mean() > 0.99
    found = best_class(scores, *size)
    assert found.dtype == torch.int32
    assert torch.equal(found[clear], scaled.argmax(1).to(torch.int32)[clear])
    equal = torch.zeros(1, 3, 4, 4)
    assert best_class(equal, 8, 8).unique().tolist() == [0]


def fields(count: int, height: int, width: int, reach: float) -> Fields:
    return Fields(
        reach * random(count, 2, height, width, seed=1),
        reach * random(count, 2, height, width, seed=2),
        torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(3)),
    )


@pytest.mark.parametrize(("size", "reach"), [((20, 32), 3.0), ((41, 67), 3.0), ((41, 67), 100.0)])
def test_moving_planes_is_gathering_and_blending(size: tuple[int, int], reach: float) -> None:
    left, right = random(2, *size, seed=4), random(2, *size, seed=5)
    motion = fields(3, 20, 32, reach)
    want = motion.on(*size).blend(left, right)
    torch.testing.assert_close(moved(left, right, motion), want, rtol=0, atol=5e-3 if reach > 50 else 2e-4)


def test_without_motion_planes_are_blended_where_they_are() -> None:
    left, right = random(2, 41, 67, seed=4), random(2, 41, 67, seed=5)
    still = fields(3, 20, 32, 0.0)
    share = resized(still.right_share, 41, 67)
    torch.testing.assert_close(moved(left, right, still), torch.lerp(left, right, share), rtol=0, atol=1e-6)
