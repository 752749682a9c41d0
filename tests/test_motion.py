"""Motion: with none everything equals the papers' blend, with some things arrive where they should."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import moving_picture

import vidtrans
from vidtrans.checkpoint import save_model
from vidtrans.compose import Composer
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Gap
from vidtrans.gaps import Tracker
from vidtrans.latents import blend, gather
from vidtrans.motion import Motion, estimate
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.timeline import Instant, Interval
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

TIMES = tuple(Fraction(k, 8) for k in range(8))
DOMAINS = (Domain("scene"), Domain("labels", "label", "street"))
Bytes = Callable[..., bytes]


def uniform(dx: float, dy: float, height: int = 40, width: int = 64) -> Motion:
    """The motion of a picture that moves as a whole."""
    forward = torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, height, width).contiguous()
    ones = torch.ones(height, width)
    return Motion(forward, -forward, ones, ones)


def texture(height: int = 96, width: int = 160, seed: int = 0) -> np.ndarray:
    """Smooth random blobs, (height, width, 3) uint8."""
    noise = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(seed))
    big = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")
    return (big[0].clamp(0, 1) * 255).to(torch.uint8).movedim(0, -1).numpy()


def test_gathering_reads_where_it_is_told() -> None:
    x = torch.arange(20.0).view(1, 4, 5)
    assert torch.equal(gather(x, torch.zeros(2, 2, 4, 5)), x.expand(2, 1, 4, 5))
    one_right = torch.zeros(1, 2, 4, 5)
    one_right[:, 0] = 1
    got = gather(x, one_right)[0, 0]
    assert torch.equal(got[:, :-1], x[0, :, 1:])
    assert torch.equal(got[:, -1], x[0, :, -1])  # clamped
    half_down = torch.zeros(1, 2, 4, 5)
    half_down[:, 1] = 0.5
    assert torch.equal(gather(x, half_down)[0, 0, :-1], (x[0, :-1] + x[0, 1:]) / 2)
    assert torch.equal(gather(torch.ones(2, 4, 5), torch.randn(3, 2, 4, 5) * 9), torch.ones(3, 2, 4, 5))


@torch.no_grad()
def test_no_motion_through_the_warping_path_is_the_blend_in_place() -> None:
    torch.manual_seed(0)
    net = JWDM(JWDMConfig(DOMAINS, width=6, latent_channels=8, blocks=1, label_head="palette")).eval()
    engine = open_engine("torch", net, "scene", ["labels"], (52, 38))
    left, right = engine.encode(torch.randint(0, 256, (2, 76, 104, 3)).to(torch.uint8))
    still = uniform(0, 0, 76, 104).at(TIMES)
    moved = engine.between([Gap(left, right, TIMES, still)])[0]
    in_place = engine.between([Gap(left, right, TIMES)])[0]
    features = still.on(38, 52).pooled(4, 10, 13)
    lifted = left.lifted["scene"], right.lifted["scene"]
    torch.testing.assert_close(features.blend(*lifted), blend(*lifted, TIMES), rtol=0, atol=1e-6)
    for domain, out in in_place.items():
        assert torch.equal(moved[domain][0], left.decoded[domain])  # t = 0
        torch.testing.assert_close(moved[domain], out, rtol=0, atol=1e-4)  # 1e-6 before the norm


def test_fields_start_at_the_left_keyframe_and_end_at_the_right_one() -> None:
    torch.manual_seed(0)
    motion = Motion(torch.randn(2, 20, 30), torch.randn(2, 20, 30), torch.rand(20, 30), torch.rand(20, 30))
    fields = motion.at([Fraction(0), Fraction(1)])
    assert fields.to_left[0].abs().max() == 0
    assert fields.right_share[0].max() == 0
    assert fields.to_right[1].abs().max() == 0
    assert fields.right_share[1].min() == 1


@pytest.mark.parametrize("size", [(40, 64), (20, 32), (97, 131)])
def test_a_uniform_motion_is_the_same_on_every_grid(size: tuple[int, int]) -> None:
    fields = uniform(8.0, -4.0).at([Fraction(1, 4)]).on(*size)
    height, width = size
    expected = torch.tensor([-2.0 * width / 64, 1.0 * height / 40]).view(2, 1, 1)
    torch.testing.assert_close(fields.to_left[0], expected.expand(2, *size), rtol=0, atol=1e-4)
    torch.testing.assert_close(fields.to_right[0], -3 * expected.expand(2, *size), rtol=0, atol=1e-4)
    padded = fields.pooled(4, -(-height // 4) + 1, -(-width // 4))
    inner = padded.to_left[0, :, : height // 4, : width // 4]
    torch.testing.assert_close(inner, (expected / 4).expand_as(inner), rtol=0, atol=1e-4)


def test_a_sliding_picture_is_found_and_placed_half_way() -> None:
    wide = texture(96, 200)
    left, right = wide[:, 12:172], wide[:, :160]  # the picture moves 12 pixels to the right
    motion = estimate(left, right)
    scale = motion.forward.shape[-1] / 160
    inner = motion.forward[:, 10:-10, 10:-20]
    assert inner[0].median().item() / scale == pytest.approx(12, abs=0.3)
    assert inner[1].abs().median().item() < 0.3
    assert motion.confidence > 0.7
    fields = motion.at([Fraction(1, 2)]).on(96, 160)
    planes = [torch.from_numpy(rgb.copy()).movedim(-1, 0).float() for rgb in (left, right)]
    half = fields.blend(*planes)[0, :, 10:-10, 20:-40]
    truth = torch.from_numpy(wide[:, 6:166].copy()).movedim(-1, 0).float()[:, 10:-10, 20:-40]
    fade = torch.lerp(*planes, 0.5)[:, 10:-10, 20:-40]
    assert (half - truth).abs().mean() < 0.25 * (fade - truth).abs().mean()


def error_half_way(left: np.ndarray, right: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """Mean absolute error of the instant half way, moved and faded."""
    fields = estimate(left, right).at([Fraction(1, 2)]).on(*left.shape[:2])
    planes = [torch.from_numpy(rgb.copy()).movedim(-1, 0).float() for rgb in (left, right)]
    truth = torch.from_numpy(half.copy()).movedim(-1, 0).float()
    moved, faded = fields.blend(*planes)[0], torch.lerp(*planes, 0.5)
    return (moved - truth).abs().mean().item(), (faded - truth).abs().mean().item()


def driven(depth: float, way: float, plane: np.ndarray) -> np.ndarray:
    """A plane of texture, upright across the way, seen by a camera that came `way` nearer."""
    height, width = 128, 256
    scale = (depth - way) / depth
    offset = (plane.shape[1] - scale * width) / 2, (plane.shape[0] - scale * height) / 2
    affine = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    picture = cv2.warpAffine(plane, affine, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(picture)


@pytest.mark.parametrize("order", [1, -1])
def test_what_a_driving_camera_sees_moves_by_the_law_of_perspective(order: int) -> None:
    """Growing by 5/4 in the gap, nothing moves evenly in time."""
    plane = texture(192, 384)
    left, half, right = [driven(5.0, way, plane) for way in (0.0, 0.5, 1.0)][::order]
    camera = estimate(left, right).camera
    assert camera is not None
    assert camera.direction == order
    moved, faded = error_half_way(left, right, half)
    assert moved < 0.3 * faded


def test_a_camera_that_stands_or_pans_is_not_swept() -> None:
    wide = texture(128, 300)
    pan = [np.ascontiguousarray(wide[:, start : start + 256]) for start in (12, 8, 4)]
    stand = [wide[:, :256].copy() for _ in range(3)]
    thing = texture(32, 40, seed=5)
    for picture, column in zip(stand, (100, 104, 108), strict=True):
        picture[48:80, column : column + 40] = thing
    for left, half, right in (pan, stand):
        assert estimate(left, right).camera is None
        moved, faded = error_half_way(left, right, half)
        assert moved < 0.4 * faded
    still = estimate(stand[0], stand[2]).at([Fraction(1, 2)])
    assert still.to_left[0, :, :16].abs().max() < 0.01


def test_a_sweep_leaves_what_moves_on_its_own_to_the_flow() -> None:
    """A thing crosses the way of a driving camera."""
    plane, thing = texture(192, 384), texture(40, 60, seed=5)
    frames = [driven(5.0, way, plane) for way in (0.0, 0.25, 0.5)]
    for picture, column in zip(frames, (100, 106, 112), strict=True):
        picture[44:84, column : column + 60] = thing
    left, half, right = frames
    assert estimate(left, right).camera is not None
    moved, faded = error_half_way(left, right, half)
    assert moved < 0.5 * faded


def test_what_leaves_the_picture_is_taken_from_the_keyframe_that_still_has_it() -> None:
    fields = uniform(16.0, 0.0).at(
        [Fraction(1, 2)]
    )  # everything moves right: the left border is new, only right has it
    assert fields.right_share[0, 0, :, 0].min() > 0.8
    assert fields.right_share[0, 0, :, -1].max() < 0.2
    torch.testing.assert_close(fields.right_share[0, 0, :, 32], torch.full((40,), 0.5), rtol=0, atol=1e-6)


def as_frame(rgb: np.ndarray, time: int) -> Frame:
    red, green, blue = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    return Frame((green, blue, red), Fraction(time), Fraction(1), PIXEL_FORMATS["gbrp"], Colour("bt601", True))


def interval(left: np.ndarray, right: np.ndarray) -> Interval:
    return Interval(as_frame(left, 0), as_frame(right, 1), tuple(Instant(t, t, Fraction(1, 8)) for t in TIMES))


def test_cuts_and_repeats_are_held_and_lost_motion_is_blended() -> None:
    tracker = Tracker(moving=True, cut_threshold=0.8)
    first, second = texture(seed=1), texture(seed=2)
    same = tracker(interval(first, first))
    assert same.interval.is_held
    assert same.motion is None
    assert same.right is same.left  # the network sees that they are one
    cut = tracker(interval(first, 255 - second // 2))
    assert cut.interval.is_held
    assert [instant.time for instant in cut.interval.instants] == list(TIMES)
    quiet = [(120 + np.random.default_rng(seed).integers(0, 9, (96, 160, 3))).astype(np.uint8) for seed in (3, 4)]
    lost = Tracker(moving=True, cut_threshold=1.0)
    noise = lost(interval(*quiet))
    assert not noise.interval.is_held
    assert noise.motion is None
    assert (tracker.repeats, tracker.cuts, tracker.lost) == (1, 1, 0)
    assert (lost.repeats, lost.cuts, lost.lost) == (0, 0, 1)
    blended = Tracker(moving=False, cut_threshold=0.8, holds_cuts=False)
    assert not blended(interval(first, 255 - second // 2)).interval.is_held
    assert blended.cuts == 1


def test_detail_moves_with_the_same_motion() -> None:
    """A decoder that gives nothing leaves all to the detail: a stripe arrives half way, once, at full strength."""
    left, right = np.zeros((40, 64, 3), np.uint8), np.zeros((40, 64, 3), np.uint8)
    left[:, 20:24], right[:, 28:32] = 200, 200
    composer = Composer(
        DOMAINS[0],
        scores=False,
        size=(64, 40),
        pix_fmt=PIXEL_FORMATS["gbrp"],
        colour=Colour("bt601", True),
        is_source=True,
        carry_detail=True,
    )
    nothing = torch.full((8, 3, 10, 16), -1.0)
    frames = composer.frames(interval(left, right), nothing, nothing[0], nothing[0], uniform(8.0, 0.0).at(TIMES))
    half = frames[4].planes[0]
    assert (half[:, 24:28] == 200).all()
    assert half[:, :24].max() == half[:, 28:].max() == 0
    assert (frames[0].planes[0] == left[..., 1]).all()
    faded = composer.frames(interval(left, right), nothing, nothing[0], nothing[0])[4].planes[0]
    assert (faded[:, 20:24] == 100).all()
    assert (faded[:, 28:32] == 100).all()


def test_a_thin_pole_does_not_dissolve_between_label_keyframes() -> None:
    scores = torch.zeros(2, 3, 40, 64)
    scores[:, 0] = 1.0
    for row, column in ((0, 20), (1, 28)):
        scores[row, :, :, column] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1)
    fields = uniform(8.0, 0.0).at(TIMES).on(40, 64)
    moved = fields.blend(scores[0], scores[1]).argmax(1)
    in_place = blend(scores[0], scores[1], TIMES).argmax(1)
    assert [int((row == 1).any(0).sum()) for row in moved] == [1] * 8
    assert moved[4, :, 24].eq(1).all()
    assert not in_place[4, :, 24].eq(1).any()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(path, JWDM(JWDMConfig(DOMAINS, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return str(path)


def test_through_the_whole_tool(
    tmp_path: Path, model: str, make_clip: Callable[..., Path], framemd5: Any, ffmpeg: Bytes
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, codec="ffv1", size=(128, 96))
    moved = vidtrans.upsample(clip, "labels", model=model, codec="ffv1", factor=4)
    assert framemd5(moved.outputs[0])[::4] == framemd5(clip)
    options = {"model": model, "codec": "ffv1", "factor": 4, "overwrite": True}
    with_motion = ffmpeg("-i", moved.outputs[0], "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    vidtrans.upsample(clip, "labels", motion="none", **options)
    without = ffmpeg("-i", moved.outputs[0], "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    truth = [moving_picture(0, 128, 96), moving_picture(1, 128, 96)]
    assert with_motion != without
    frames = [np.frombuffer(raw, np.uint8).reshape(-1, 96, 128, 3)[2].astype(float) for raw in (with_motion, without)]
    # Half way the square's edge is sharp with motion, and twice at half strength without.
    edges = [np.abs(np.diff(frame, axis=1)).max() for frame in frames]
    assert edges[0] > edges[1]
    assert np.abs(frames[0] - truth[0]).mean() < 20


def test_a_cut_in_a_file_is_held_and_counted(
    tmp_path: Path, model: str, make_clip: Callable[..., Path], ffmpeg: Bytes, framemd5: Any
) -> None:
    first = make_clip(tmp_path / "a.mkv", frames=3, codec="ffv1", size=(128, 96))
    ffmpeg("-i", first, "-vf", "negate,hflip,rotate=1", "-c:v", "ffv1", tmp_path / "b.mkv")
    ffmpeg(
        "-i", first, "-i", tmp_path / "b.mkv", "-filter_complex", "[0:v][1:v]concat", "-c:v", "ffv1", tmp_path / "c.mkv"
    )
    summary = vidtrans.upsample(tmp_path / "c.mkv", "labels", model=model, codec="ffv1", factor=4)
    assert summary.cuts == 1
    hashes = framemd5(summary.outputs[0])
    assert hashes[8:12] == [hashes[8]] * 4
    assert hashes[12] != hashes[8]
    assert len(hashes) == 24
