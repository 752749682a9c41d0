"""What reaches the encoders: keyframes bit for bit, the detail formula, labels without invented colours."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from vidtrans.compose import Composer, colour_scores, label_colours
from vidtrans.guided import GuidedFilter
from vidtrans.nets.contract import Domain
from vidtrans.palettes import STREET
from vidtrans.timeline import Instant, Interval
from vidtrans.video.colour import planes_to_rgb, rgb_to_planes
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

FACTOR = 4
BT601 = Colour("bt601", full_range=False)
PHOTO, LABELS = Domain("scene"), Domain("labels", "label", "street")


def random_frame(seed: int, time: int, name: str = "yuv420p", size: tuple[int, int] = (22, 14)) -> Frame:
    draw = np.random.default_rng(seed)
    pix_fmt = PIXEL_FORMATS[name]
    planes = tuple(
        draw.integers(0, pix_fmt.max_code + 1, shape).astype(pix_fmt.dtype) for shape in pix_fmt.plane_shapes(*size)
    )
    return Frame(planes, Fraction(time), Fraction(1), pix_fmt, BT601)


def interval(left: Frame, right: Frame | None) -> Interval:
    step = Fraction(1, FACTOR)
    return Interval(
        left,
        right,
        tuple(Instant(k * step if right else Fraction(0), left.time + k * step, step) for k in range(FACTOR)),
    )


def composer(domain: Domain = PHOTO, name: str = "yuv420p", *, source: bool = True, detail: bool = True) -> Composer:
    return Composer(
        domain,
        scores=domain.is_label,
        size=(22, 14),
        pix_fmt=PIXEL_FORMATS[name],
        colour=BT601,
        is_source=source,
        carry_detail=detail,
    )


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gray"])
def test_detail_is_carried_as_the_contract_says(name: str) -> None:
    pix_fmt = PIXEL_FORMATS[name]
    left, right = (random_frame(seed, seed, name) for seed in (0, 1))
    decoded = torch.rand(FACTOR + 1, 3, 14, 22) * 2 - 1
    frames = composer(name=name).frames(interval(left, right), decoded[:-1], decoded[0], decoded[-1])

    planes = rgb_to_planes((decoded + 1) / 2, pix_fmt, BT601)
    for k, frame in enumerate(frames):
        t = k / FACTOR
        for got, y, y0, y1 in zip(frame.planes, planes, left.planes, right.planes, strict=True):
            want = y[k] + (1 - t) * (torch.tensor(y0.astype(float)) - y[0])
            want = want + t * (torch.tensor(y1.astype(float)) - y[-1])
            assert np.abs(got.astype(float) - want.clamp(0, pix_fmt.max_code).numpy()).max() <= 0.501
    assert all((a == b).all() for a, b in zip(frames[0].planes, left.planes, strict=True))
    assert [frame.time for frame in frames] == [left.time + Fraction(k, FACTOR) for k in range(FACTOR)]


def test_a_still_picture_does_not_pulse() -> None:
    frame = random_frame(3, 0)
    again = Frame(frame.planes, Fraction(1), Fraction(1), frame.pix_fmt, frame.colour)
    decoded = (torch.rand(1, 3, 7, 11) * 2 - 1).expand(FACTOR, -1, -1, -1)  # half size: what a soft decoder gives
    for made in composer().frames(interval(frame, again), decoded, decoded[0], decoded[0]):
        assert all((a == b).all() for a, b in zip(made.planes, frame.planes, strict=True))


def test_without_detail_keyframes_stay_exact_and_the_rest_is_the_raw_decoding() -> None:
    left, right = random_frame(0, 0), random_frame(1, 1)
    decoded = torch.rand(FACTOR + 1, 3, 14, 22) * 2 - 1
    frames = composer(detail=False).frames(interval(left, right), decoded[:-1], decoded[0], decoded[-1])
    assert all((a == b).all() for a, b in zip(frames[0].planes, left.planes, strict=True))
    raw = rgb_to_planes((decoded[2:3] + 1) / 2, PIXEL_FORMATS["yuv420p"], BT601)
    for got, want in zip(frames[2].planes, raw, strict=True):
        assert np.abs(got - want[0].numpy()).max() <= 0.501


def test_a_gap_whose_outputs_do_not_begin_with_its_keyframe_carries_the_same_detail() -> None:
    whole = interval(random_frame(0, 0), random_frame(1, 1))
    decoded = torch.rand(FACTOR + 1, 3, 14, 22) * 2 - 1
    wanted = composer().frames(whole, decoded[:-1], decoded[0], decoded[-1])
    part = Interval(whole.left, whole.right, whole.instants[2:])
    frames = composer().frames(part, decoded[2:-1], decoded[0], decoded[-1])
    assert [frame.time for frame in frames] == [Fraction(2, 4), Fraction(3, 4)]
    for frame, same in zip(frames, wanted[2:], strict=True):
        assert all((a == b).all() for a, b in zip(frame.planes, same.planes, strict=True))


@pytest.mark.parametrize("domain", [PHOTO, LABELS])
def test_a_translation_without_detail_takes_nothing_from_the_input(domain: Domain) -> None:
    """Labels take none whatever is asked: a class and a half is no class."""
    left, right = random_frame(0, 0), random_frame(1, 1)
    decoded = torch.rand(FACTOR, 10 if domain.is_label else 3, 14, 22) * 2 - 1
    source = torch.rand(2, 3, 14, 22) * 2 - 1
    plain = composer(domain, source=False, detail=domain.is_label)
    frames = plain.frames(interval(left, right), decoded, source[0], source[1])
    other = plain.frames(interval(right, left), decoded, source[1], source[0])
    for a, b in zip(frames, other, strict=True):
        assert all((p == q).all() for p, q in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le"])
def test_a_translated_photo_is_the_input_and_a_change_fitted_to_it(name: str) -> None:
    """Y(D'(t)) + (1 - t) (w0 - Y(D'(0))) + t (w1 - Y(D'(1))), w = y + f(D' - D) what is written of a keyframe."""
    pix_fmt = PIXEL_FORMATS[name]
    left, right = (random_frame(seed, seed, name) for seed in (0, 1))
    translated, source = torch.rand(FACTOR + 1, 3, 7, 11) * 2 - 1, torch.rand(2, 3, 7, 11) * 2 - 1
    ends = {"left_made": translated[0], "right_made": translated[-1]}
    told = interval(left, right)
    frames = composer(name=name, source=False).frames(told, translated[:-1], source[0], source[1], **ends)
    large = torch.nn.functional.interpolate(translated, (14, 22), mode="bilinear", align_corners=False)
    planes = rgb_to_planes((large + 1) / 2, pix_fmt, BT601)
    wanted = []
    for frame, change in zip((left, right), translated[[0, -1]] - source, strict=True):
        tensors = [torch.from_numpy(plane.astype(np.float32)) for plane in frame.planes]
        rgb = planes_to_rgb(tensors, pix_fmt, BT601)
        changed = rgb + GuidedFilter(rgb * 2 - 1, (7, 11))(change.unsqueeze(0)) / 2
        # Less what two conversions make of the frame itself, which is not to be seen.
        pairs = zip(*(rgb_to_planes(x, pix_fmt, BT601) for x in (changed, rgb)), tensors, strict=True)
        wanted.append([y + after[0] - before[0] for after, before, y in pairs])
    for k, frame in enumerate(frames):
        t = k / FACTOR
        for got, y, w0, w1 in zip(frame.planes, planes, *wanted, strict=True):
            want = y[k] + (1 - t) * (w0 - y[0]) + t * (w1 - y[-1])
            assert np.abs(got.astype(float) - want.clamp(0, pix_fmt.max_code).numpy()).max() <= 0.51


def test_a_translation_equal_to_the_source_is_the_input_itself() -> None:
    left, right = random_frame(0, 0), random_frame(1, 1)
    decoded = torch.rand(FACTOR + 1, 3, 14, 22) * 2 - 1
    ends = {"left_made": decoded[0], "right_made": decoded[-1]}
    ours, theirs = (
        composer(source=source).frames(interval(left, right), decoded[:-1], decoded[0], decoded[-1], **ends)
        for source in (True, False)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert all((p == q).all() for p, q in zip(a.planes, b.planes, strict=True))


def test_a_held_translation_keeps_the_detail_of_its_keyframe() -> None:
    frame = random_frame(0, 5)
    decoded = (torch.rand(1, 3, 14, 22) * 2 - 1).expand(FACTOR, -1, -1, -1)
    told = interval(frame, None)
    for made in composer(source=False).frames(told, decoded, decoded[0], None, left_made=decoded[0]):
        assert all((a == b).all() for a, b in zip(made.planes, frame.planes, strict=True))


def test_the_last_keyframe_is_held_exactly() -> None:
    frame = random_frame(0, 5)
    decoded = (torch.rand(1, 3, 14, 22) * 2 - 1).expand(FACTOR, -1, -1, -1)
    for made in composer().frames(interval(frame, None), decoded, decoded[0], None):
        assert all((a == b).all() for a, b in zip(made.planes, frame.planes, strict=True))


def test_another_output_format_gets_one_conversion_for_keyframes_and_in_betweens_alike() -> None:
    frame = random_frame(0, 0)
    again = Frame(frame.planes, Fraction(1), Fraction(1), frame.pix_fmt, frame.colour)
    decoded = (torch.rand(1, 3, 14, 22) * 2 - 1).expand(FACTOR, -1, -1, -1)
    frames = composer(name="yuv444p").frames(interval(frame, again), decoded, decoded[0], decoded[0])
    rgb = planes_to_rgb([torch.from_numpy(plane) for plane in frame.planes], frame.pix_fmt, BT601)
    for got, want in zip(frames[0].planes, rgb_to_planes(rgb, PIXEL_FORMATS["yuv444p"], BT601), strict=True):
        assert np.abs(got - want[0].clamp(0, 255).numpy()).max() <= 0.501
    for made in frames[1:]:
        for a, b in zip(made.planes, frames[0].planes, strict=True):
            # The same numbers but for float32's last bits, which decide where a value lies half way between two codes.
            assert (a != b).mean() < 0.01
            assert np.abs(a.astype(int) - b).max() <= 1


def test_labels_reach_the_encoder_in_pure_colours() -> None:
    scores = torch.randn(FACTOR, len(STREET), 5, 7)
    left = random_frame(0, 0, "gbrp")
    frames = composer(LABELS, "gbrp", source=False).frames(interval(left, left), scores, scores[0], None)
    for frame in frames:
        green, blue, red = frame.planes
        colours = np.stack([red, green, blue], -1).reshape(-1, 3)
        assert {tuple(colour) for colour in colours.tolist()} <= set(STREET.colours)


def test_label_video_as_input_carries_no_detail() -> None:
    left, right = random_frame(0, 0, "gbrp"), random_frame(1, 1, "gbrp")
    scores = torch.randn(FACTOR, len(STREET), 14, 22)
    frames = composer(LABELS, "gbrp").frames(interval(left, right), scores, scores[0], scores[0])
    assert all((a == b).all() for a, b in zip(frames[0].planes, left.planes, strict=True))
    green, blue, red = frames[1].planes
    best = STREET.colour(scores[1].argmax(0).numpy())
    assert (np.stack([red, green, blue], -1) == best).all()


def test_scaling_labels_chooses_by_score_and_keeps_regions() -> None:
    labels = torch.zeros(4, 6, dtype=torch.long)
    labels[:, 3:] = 2
    scores = torch.nn.functional.one_hot(labels, len(STREET)).movedim(-1, 0).unsqueeze(0).float()
    big = label_colours(scores, STREET, 16, 24)
    classes = STREET.nearest((big[0].movedim(0, -1) * 255).numpy())
    assert (classes[:, :12] == 0).all()
    assert (classes[:, 12:] == 2).all()


def test_painted_labels_are_snapped_to_the_nearest_colour() -> None:
    rgb = torch.rand(2, 3, 9, 8) * 2 - 1
    snapped = colour_scores(rgb, STREET).argmax(1).numpy()
    assert (snapped == STREET.nearest(((rgb + 1) * 127.5).movedim(1, -1).numpy())).all()
