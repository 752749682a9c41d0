"""The rendered street is ground truth: a function of seed, season and instant, and its motion must be true."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from vidtrans.errors import UsageError
from vidtrans.palettes import STREET
from vidtrans.train.street import SEASONS, Street

WIDTH, HEIGHT = 64, 32
CAR = STREET.index("car")


def _targets(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel rows and columns that flow leads to."""
    height, width = flow.shape[:2]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return (y + flow[..., 1]).floor().long().clamp(0, height - 1), (x + flow[..., 0]).floor().long().clamp(0, width - 1)


def _inner(labels: Tensor) -> Tensor:
    """Where all 3 x 3 neighbours have the pixel's class."""
    padded = torch.nn.functional.pad(labels[None, None].float(), (1, 1, 1, 1), mode="replicate")
    high, low = torch.nn.functional.max_pool2d(padded, 3, 1), -torch.nn.functional.max_pool2d(-padded, 3, 1)
    return (high == low)[0, 0]


def test_frame_depends_on_seed_season_and_instant_only() -> None:
    first = Street(5).render(3.25, WIDTH, HEIGHT)
    other = Street(5)
    other.render(40.0, 64, 32)
    other.motion(1.0, 2.0, 64, 32)
    again = other.render(3.25, WIDTH, HEIGHT)
    assert torch.equal(first.rgb, again.rgb)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.rgb, Street(6).render(3.25, WIDTH, HEIGHT).rgb)
    assert not torch.equal(first.rgb, other.render(3.3, WIDTH, HEIGHT).rgb)


def test_another_process_makes_the_same_frame() -> None:
    program = (
        "import hashlib; from vidtrans.train.street import Street; f = Street(3, 'fall').render(2.5, 64, 32);"
        "print(hashlib.sha256(f.rgb.numpy().tobytes() + f.labels.numpy().tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = Street(8).render(1.0, 32, 16).rgb
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, Street(8).render(1.0, 32, 16).rgb)


def test_seasons_share_labels_and_motion_but_not_colours() -> None:
    frames = [Street(4, season).render(6.0, WIDTH, HEIGHT) for season in SEASONS]
    motions = [Street(4, season).motion(6.0, 6.1, WIDTH, HEIGHT) for season in SEASONS]
    for k in range(1, len(SEASONS)):
        assert torch.equal(frames[0].labels, frames[k].labels)
        assert torch.equal(motions[0][0], motions[k][0])
        assert torch.equal(motions[0][1], motions[k][1])
        for j in range(k):
            assert (frames[j].rgb.float() - frames[k].rgb.float()).abs().mean() > 1.0


def test_every_class_occurs() -> None:
    seen = torch.zeros(len(STREET))
    for seed in range(8):
        labels = Street(seed).render(2.0 * seed, 128, 64, samples=1).labels
        seen += torch.bincount(labels.flatten().long(), minlength=len(STREET))
    share = seen / seen.sum()
    assert (share > 1e-3).all(), dict(zip(STREET.classes, share.tolist(), strict=True))
    assert share.max() < 0.5


@pytest.mark.parametrize(("width", "height"), [(16, 16), (37, 23), (20, 90), (200, 33)])
def test_any_size(width: int, height: int) -> None:
    frame = Street(1).render(1.5, width, height)
    assert frame.rgb.shape == (height, width, 3)
    assert frame.rgb.dtype == torch.uint8
    assert frame.labels.shape == (height, width)
    assert frame.labels.dtype == torch.uint8
    flow, visible = Street(1).motion(1.5, 1.6, width, height)
    assert flow.shape == (height, width, 2)
    assert flow.dtype == torch.float32
    assert flow.isfinite().all()
    assert visible.shape == (height, width)
    assert visible.dtype == torch.bool


def test_labels_do_not_depend_on_samples() -> None:
    even, odd = (Street(2).render(4.0, WIDTH, HEIGHT, samples=samples).labels for samples in (2, 3))
    assert (even == odd).float().mean() > 0.995  # the same rays, up to rounding of the screen coordinates


def test_supersampling_converges() -> None:
    pictures = {samples: Street(2).render(4.0, WIDTH, HEIGHT, samples=samples).rgb.float() for samples in (1, 2, 4)}
    errors = {samples: (pictures[samples] - pictures[4]).square().mean() for samples in (1, 2)}
    assert errors[2] < 0.5 * errors[1]


@pytest.mark.parametrize("t", [-3.7, 12.345, 333.3])
def test_street_never_ends(t: float) -> None:
    for seed in range(3):
        labels = Street(seed).render(t, WIDTH, HEIGHT, samples=1).labels
        assert len(labels.unique()) >= 6
        assert labels.flatten().bincount()[STREET.index("road")] > 0.05 * labels.numel()


def test_no_motion_without_time() -> None:
    flow, visible = Street(3).motion(7.7, 7.7, WIDTH, HEIGHT)
    assert (flow == 0).all()
    assert visible.all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dt", [0.06, -0.06, 0.2])
def test_motion_leads_to_the_same_surface(seed: int, dt: float) -> None:
    street = Street(seed)
    now, then = (street.render(t, 128, 64, samples=1).labels for t in (5.0, 5.0 + dt))
    flow, visible = street.motion(5.0, 5.0 + dt, 128, 64)
    row, column = _targets(flow)
    inner = visible & _inner(now)
    assert inner.float().mean() > 0.3
    assert (then[row, column] == now)[inner].float().mean() > 0.97


def test_motion_moves_colours_better_than_standing_still() -> None:
    street = Street(2)
    now, then = (street.render(t, 128, 64).rgb.float() for t in (5.0, 5.12))
    flow, visible = street.motion(5.0, 5.12, 128, 64)
    row, column = _targets(flow)
    moved, still = (
        (then[row, column] - now).abs().mean(-1)[visible].mean(),
        (then - now).abs().mean(-1)[visible].mean(),
    )
    assert moved < 0.6 * still


def test_motion_composes() -> None:
    """t -> t + dt -> t + 2 dt ends where t -> t + 2 dt does: a check against itself that no label takes part in."""
    street = Street(1)
    first, seen = street.motion(4.0, 4.05, 128, 64)
    second, seen_later = street.motion(4.05, 4.1, 128, 64)
    whole, seen_both = street.motion(4.0, 4.1, 128, 64)
    row, column = _targets(first)
    both = seen & seen_both & seen_later[row, column]
    error = (first + second[row, column] - whole).norm(dim=-1)[both]
    assert error.median() < 0.1
    assert (error < 1.0).float().mean() > 0.95


def test_motion_of_the_ground_is_the_camera_s_own() -> None:
    """Road points, found again with nothing but the camera's poses."""
    street = Street(0)
    labels = street.render(2.0, 128, 64, samples=1).labels
    flow, _ = street.motion(2.0, 2.1, 128, 64)
    focal = 64 / math.tan(math.radians(28))
    (here, yaw, pitch), (there, yaw_then, pitch_then) = (street._world.camera(t) for t in (2.0, 2.1))
    for row, column in [(50, 60), (58, 70), (60, 50), (45, 66)]:
        if labels[row, column] != STREET.index("road"):
            continue
        x, y = (column + 0.5 - 64) / focal, (32 - row - 0.5) / focal
        down, ahead = y * math.cos(pitch) + math.sin(pitch), math.cos(pitch) - y * math.sin(pitch)
        depth = -here[1] / down
        px, pz = (
            (x * math.cos(yaw) + ahead * math.sin(yaw)) * depth,
            (ahead * math.cos(yaw) - x * math.sin(yaw)) * depth,
        )
        px, py, pz = px + here[0] - there[0], -there[1], pz + here[2] - there[2]
        side, forward = (
            px * math.cos(yaw_then) - pz * math.sin(yaw_then),
            px * math.sin(yaw_then) + pz * math.cos(yaw_then),
        )
        up, z = (
            py * math.cos(pitch_then) - forward * math.sin(pitch_then),
            forward * math.cos(pitch_then) + py * math.sin(pitch_then),
        )
        assert flow[row, column, 0] == pytest.approx(side / z * focal + 64 - column - 0.5, abs=0.02)
        assert flow[row, column, 1] == pytest.approx(32 - up / z * focal - row - 0.5, abs=0.02)


def test_cars_ahead_move_with_the_camera_and_parked_ones_do_not() -> None:
    """Cars in sight must show both: next to no motion (ahead, same speed) and the motion of things that stand."""
    still, swift = 0.0, 0.0
    for seed in range(6):
        labels = Street(seed).render(3.0, 128, 64, samples=1).labels
        flow, visible = Street(seed).motion(3.0, 3.1, 128, 64)
        speed = flow.norm(dim=-1)
        ahead = (labels == CAR) & visible
        ahead[:, :44] = ahead[:, 90:] = False
        still = max(still, float((speed[ahead] < 1.0).float().mean()) if ahead.any() else 0.0)
        beside = (labels == CAR) & visible
        beside[:, 30:100] = False
        swift = max(swift, float(speed[beside].max()) if beside.any() else 0.0)
    assert still > 0.5
    assert swift > 4.0


def test_bad_arguments_are_explained() -> None:
    with pytest.raises(UsageError, match="did you mean 'winter'"):
        Street(0, "wintr")
    with pytest.raises(UsageError, match="too small"):
        Street(0).render(0.0, 15, 64)
    with pytest.raises(UsageError, match="too small"):
        Street(0).motion(0.0, 1.0, 64, 8)
    with pytest.raises(UsageError, match="at least 1"):
        Street(0).render(0.0, 64, 32, samples=0)
