"""A change fitted to a picture: against the formula written down once more, and what must hold of any guide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vidtrans.guided import COARSE, FAINT, FLATNESS, RADIUS, GuidedFilter


def fitted_by_hand(guide: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """He, Sun and Tang 2013, Eqs. (19) to (21), window by window: (3, h, w) twice -> (9, h, w) and (3, h, w).

    The slopes and offsets of every window, then for each pixel their mean over the windows that hold it.
    """
    _, height, width = guide.shape
    slopes, offsets = np.zeros((height, width, 3, 3)), np.zeros((height, width, 3))

    def window(row: int, column: int) -> tuple[slice, slice]:
        return slice(max(0, row - RADIUS), row + RADIUS + 1), slice(max(0, column - RADIUS), column + RADIUS + 1)

    for row in range(height):
        for column in range(width):
            i = guide[:, *window(row, column)].reshape(3, -1)
            p = change[:, *window(row, column)].reshape(3, -1)
            covariance = np.cov(i, bias=True) + FLATNESS * np.eye(3)
            together = (i - i.mean(1, keepdims=True)) @ (p - p.mean(1, keepdims=True)).T / i.shape[1]
            slopes[row, column] = np.linalg.solve(covariance, together)
            offsets[row, column] = p.mean(1) - i.mean(1) @ slopes[row, column]
    where = [[window(row, column) for column in range(width)] for row in range(height)]
    mean_slopes = np.array([[slopes[at].mean((0, 1)).flatten() for at in row] for row in where])
    mean_offsets = np.array([[offsets[at].mean((0, 1)) for at in row] for row in where])
    return mean_slopes.transpose(2, 0, 1), mean_offsets.transpose(2, 0, 1)


def test_it_is_the_guided_filter_of_coarse_pixels() -> None:
    torch.manual_seed(0)
    guide, change = (
        torch.rand(2, 1, 3, 30, 38, dtype=torch.float64) * 2 - 1
    )  # the last coarse row and column are halves
    coarse = [F.avg_pool2d(x, COARSE, ceil_mode=True)[0].numpy() for x in (guide, change)]
    assert coarse[0].shape == (3, 8, 10)
    slopes, offsets = fitted_by_hand(*coarse)
    rest = coarse[1] - (slopes.reshape(3, 3, 8, 10) * coarse[0][:, None]).sum(0) - offsets
    power = (rest**2).mean(0)
    rest *= power / (power + FAINT**2)
    fine_slopes, fine_offsets, fine_rest = (
        F.interpolate(torch.from_numpy(x).unsqueeze(0), scale_factor=COARSE, mode="bilinear")[0, :, :30, :38]
        for x in (slopes, offsets, rest)
    )
    wanted = (fine_slopes.view(3, 3, 30, 38) * guide[0].unsqueeze(1)).sum(0) + fine_offsets + fine_rest
    torch.testing.assert_close(GuidedFilter(guide)(change)[0], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(7, 11), (16, 24), (37, 50)])
def test_a_constant_stays_and_is_fitted_at_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    guide = torch.rand(2, 3, 14, 22) * 2 - 1
    change = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1).expand(2, 3, *size)
    made = GuidedFilter(guide, size)(change)
    assert made.shape == guide.shape
    torch.testing.assert_close(made, change[..., :1, :1].expand_as(guide), rtol=0, atol=1e-5)


def test_one_filter_serves_all_changes() -> None:
    torch.manual_seed(0)
    guide, first, second = torch.rand(3, 1, 3, 20, 28, dtype=torch.float64) * 2 - 1
    fit = GuidedFilter(guide)
    fit(first)
    assert torch.equal(fit(second), GuidedFilter(guide)(second))


def test_what_goes_with_the_guide_passes_however_faint() -> None:
    torch.manual_seed(0)
    guide = F.avg_pool2d(torch.rand(1, 3, 100, 100), 9, 1, 4) * 4 - 2
    for strength in (0.5, 0.01):
        change = strength * (guide[:, [1, 2, 0]] + 0.2)
        torch.testing.assert_close(GuidedFilter(guide)(change), change, rtol=0, atol=0.05 * strength)


def test_a_blurred_change_gets_the_edge_of_the_guide_and_fine_noise_goes() -> None:
    """A dark thing on light ground turns brighter by half; the change comes blurred, as from a decoder."""
    torch.manual_seed(0)
    thing = torch.zeros(1, 1, 64, 64)
    thing[..., 16:48, 21:43] = 1.0
    guide = (0.6 - thing * torch.tensor([0.9, 0.5, 0.7]).view(1, 3, 1, 1)).expand(1, 3, 64, 64)
    true, fit = (0.5 * thing).expand(1, 3, 64, 64), GuidedFilter(guide)
    blurred = F.avg_pool2d(F.pad(true, (3, 3, 3, 3), mode="replicate"), 7, 1)
    steps = [(x[0, 0, 32, 21] - x[0, 0, 32, 20]).item() for x in (true, blurred, fit(blurred))]
    assert steps[1] < 0.2 * steps[0]
    assert 0.6 * steps[0] < steps[2] < 1.1 * steps[0]
    noise = 0.05 * torch.randn(1, 3, 64, 64)
    assert fit(noise).std() < 0.3 * noise.std()


def test_a_broad_change_passes_where_the_guide_has_nothing() -> None:
    tracks = torch.zeros(1, 3, 64, 64)
    tracks[..., 20:32] = tracks[..., 44:56] = 0.5
    made = GuidedFilter(torch.full((1, 3, 64, 64), 0.2))(tracks)
    torch.testing.assert_close(made[..., 24:28], tracks[..., 24:28], rtol=0, atol=0.06)
    torch.testing.assert_close(made[..., 36:40], tracks[..., 36:40], rtol=0, atol=0.06)
