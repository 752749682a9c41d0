"""Cuts are told from motion and held; with --dedup motion goes on across repeated frames, and nothing else changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from identity import IdentityNet
from torch import Tensor

import vidtrans
import vidtrans.pipeline
from vidtrans.checkpoint import Model
from vidtrans.cli.upsample import command
from vidtrans.cuts import cut_value
from vidtrans.errors import OutputError, UsageError
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import run
from vidtrans.repeats import LONGEST_RUN, alike, runs
from vidtrans.summary import Summary
from vidtrans.timeline import Interval, Sampling, in_segments, pair, pair_runs
from vidtrans.video.contract import Output
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.segments import SegmentStore

SAMPLINGS = [
    Sampling(Fraction(2)),
    Sampling(Fraction(5, 2)),
    Sampling(Fraction(1)),
    Sampling(Fraction(7, 3), tail="drop"),
    Sampling(Fraction(3), slowmo=True),
    Sampling(rate=Fraction(60)),
    Sampling(rate=Fraction(60000, 1001), tail="drop"),
    Sampling(rate=Fraction(5)),
]


def frames_of(pictures: Sequence[int], ticks: Sequence[int], noise: random.Random | None = None) -> list[Frame]:
    """Frames of one grey each, picture p as 10 p and, with noise, one code value more or less."""
    ends = [*ticks[1:], ticks[-1] + 2]
    return [
        Frame(
            (np.full((2, 2), 10 * picture + (noise.randint(0, 1) if noise else 0), np.uint8),),
            Fraction(begin, 24),
            Fraction(end - begin, 24),
            PIXEL_FORMATS["gray"],
            Colour("bt601", True),
        )
        for picture, begin, end in zip(pictures, ticks, ends, strict=True)
    ]


def random_frames(draw: random.Random, noise: random.Random | None = None) -> list[Frame]:
    pictures = [n % 25 for n in range(draw.randint(1, 9)) for _ in range(draw.choice([1, 1, 2, 2, 3, 5, 8, 9, 20]))]
    longest = draw.choice([1, 3])
    ticks = [draw.randint(-9, 9)]
    for _ in pictures[1:]:
        ticks.append(ticks[-1] + draw.randint(1, longest))
    return frames_of(pictures, ticks, noise)


def instants_of(intervals: Sequence[Interval]) -> list[tuple[Fraction, Fraction]]:
    return [(instant.time, instant.duration) for interval in intervals for instant in interval.instants]


@pytest.mark.parametrize("seed", range(40))
def test_motion_is_timed_across_repeats_and_nothing_else_changes(seed: int) -> None:
    draw = random.Random(seed)
    frames, sampling, segment = random_frames(draw), draw.choice(SAMPLINGS), draw.choice([4, 16, 64])
    slack = draw.choice([Fraction(0), Fraction(1, 2000)])
    found = list(runs(frames, 0.0, segment))
    assert [frame for run_ in found for frame in run_] == frames
    assert all(len(run_) <= LONGEST_RUN for run_ in found)
    plain = list(pair(frames, sampling, slack))
    timed = list(pair_runs(found, sampling, slack))
    assert instants_of(timed) == instants_of(plain)

    keyframes = [run_[0] for run_ in found]
    follows = dict(zip(keyframes, [*keyframes[1:], None], strict=True))
    number = {frame: index for index, frame in enumerate(frames)}
    origin = frames[0].time
    for left, parts in groupby(timed, lambda interval: interval.left):
        gap = list(parts)
        assert [part.goes_on for part in gap] == [True] * (len(gap) - 1) + [False]
        instants = [instant for part in gap for instant in part.instants]
        for part in gap:
            assert part.right is follows[left]
            assert part.index == number[left]
            assert part.last is frames[part.index + part.repeats]
        if gap[0].right is None:
            assert all(instant.t == 0 for instant in instants)
            continue
        assert all(0 <= instant.t < 1 for instant in instants)
        assert all(before.t < after.t for before, after in pairwise(instants))
        begin, end = (sampling.moved(frame.time, origin) for frame in (left, gap[0].right))
        for instant in instants:
            exact = (instant.time - begin) / (end - begin)
            assert instant.t == exact or (instant.t == 0 and abs(instant.time - begin) < slack)


def test_without_repeats_all_is_as_it_was() -> None:
    frames = frames_of(range(25), range(25))
    for sampling in SAMPLINGS:
        assert list(pair_runs(runs(frames, 0.0, 8), sampling)) == list(pair(frames, sampling))


@pytest.mark.parametrize("seed", range(40))
def test_a_run_that_goes_on_finds_the_same_runs(seed: int) -> None:
    """From every seam on, whether the frames before it are read again or not, and with noise that is tolerated."""
    draw = random.Random(seed)
    tolerance = draw.choice([0.0, 1.0])
    frames = random_frames(draw, draw if tolerance else None)
    sampling, length = draw.choice(SAMPLINGS), draw.choice([3, 4, 10])

    def intervals(first: int, after: int) -> list[Interval]:
        found = runs(frames[first:], tolerance, length, first, after)
        return list(in_segments(pair_runs(found, sampling, Fraction(0), first, frames[0].time), length, after))

    whole = intervals(0, -1)
    for position, interval in enumerate(whole):
        if interval.ends_segment and interval.right is not None:
            seam = interval.index + interval.repeats
            assert interval.right is frames[seam + 1]
            assert intervals(seam, seam) == whole[position + 1 :]
            if position % 5 == 0:
                assert intervals(0, seam) == whole[position + 1 :]


def test_stills_stand_and_drifts_are_no_repeats() -> None:
    still = frames_of([1] * 30 + [2] * 2, range(32))
    assert [len(run_) for run_ in runs(still, 0.0, 64)] == [1] * 30 + [2]
    # At a border it is judged anew, and the rest is short enough to be a run.
    assert [len(run_) for run_ in runs(still, 0.0, 24)] == [1] * 24 + [6, 2]
    drift = frames_of([0] * 8, range(8))
    for step, frame in enumerate(drift):
        frame.planes[0][:] = step
    assert [len(run_) for run_ in runs(drift, 1.0, 64)] == [2] + [1] * 6


def test_a_small_thing_that_moves_is_no_repeat() -> None:
    draw = np.random.default_rng(0)
    planes = draw.integers(0, 200, (70, 90), np.uint8)
    noisy, moved = planes.copy(), planes.copy()
    noisy[::3, ::3] += 4  # a ninth of the pixels: 0.44 in the mean
    moved[30:36, 40:46] += 40
    one, other, third = (
        Frame((plane,), Fraction(0), Fraction(1), PIXEL_FORMATS["gray"], Colour("bt601", True))
        for plane in (planes, noisy, moved)
    )
    assert alike(one, one)
    assert not alike(one, other)
    assert alike(one, other, 1.0)
    assert not alike(one, third, 4.0)
    deep = [
        Frame((f.planes[0] * np.uint16(4),), f.time, f.duration, PIXEL_FORMATS["gray10le"], f.colour)
        for f in (one, other)
    ]
    assert alike(*deep, 1.0)
    assert not alike(*deep, 0.1)


class Kept(Output):
    """Takes frames."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def __exit__(self, *reason: object) -> None:
        """There is nothing to end."""


class CountingNet(IdentityNet):
    """Counts the pictures that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0
        self.finished = 0

    def encode(self, x: Tensor, domain: str) -> Tensor:
        self.encoded += len(x)
        return x

    def finish(self, a: Tensor, domain: str) -> Tensor:
        self.finished += len(a)
        return a


def clip_of(path: Path, pictures: Sequence[np.ndarray], rate: int = 24) -> Path:
    """Lossless grey, (H, W) uint8 each."""
    height, width = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate, width=width, height=height, options={"g": "1"})
        stream.codec_context.pix_fmt = "gray"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "gray")))
        container.mux(stream.encode(None))
    return path


def made_of(
    clip: Path, *, told: list[str] | None = None, **options: Any
) -> tuple[Summary, list[Frame], list[Frame], CountingNet]:
    """A run's summary, the frames of both outputs, and what the network had to do; told: gets the log's lines."""
    net, outputs = CountingNet(), (Kept(), Kept())
    summary = run(
        UpsampleOptions(clip, "there", engine="torch", **options),
        model=Model(net.eval()),
        writers=list(outputs),
        announce=lambda text: None if told is None else told.append(text),
    )
    return summary, outputs[0].frames, outputs[1].frames, net


def ramp(value: float) -> np.ndarray:
    """A slope that has come so far."""
    return (np.arange(64)[None, :] * 1.5 + value + np.zeros((48, 1))).round().astype(np.uint8)


@pytest.mark.parametrize("options", [{"motion": "none"}, {"motion": "flow"}], ids=str)
def test_a_ramp_on_twos_becomes_linear(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 4)
    drawings = [0, *(8 * (1 + k // 2) for k in range(10)), 48]  # runs lie across the segments' borders
    clip = clip_of(tmp_path / "in.mkv", [ramp(value) for value in drawings])
    options = {"factor": Fraction(4), **options}
    plain = made_of(clip, **options)
    summary, source, target, _ = made_of(clip, dedup=True, **options)
    assert [(f.time, f.duration) for f in source] == [(f.time, f.duration) for f in plain[1]]
    assert (summary.removed, summary.repeats, summary.cuts) == (5, 0, 0)
    assert (plain[0].removed, plain[0].repeats) == (0, 5)
    centre = [float(frame.planes[0][10:-10, 24:40].mean()) for frame in source]
    steps = np.interp(np.arange(48) / 4, [0, 1, 3, 5, 7, 9, 11], [0, 8, 16, 24, 32, 40, 48])
    assert np.abs(np.array(centre) - centre[0] - steps).max() <= 1.0
    stood = [float(frame.planes[0][10:-10, 24:40].mean()) for frame in plain[1]]
    assert max(np.abs(np.array(stood) - stood[0] - steps)) > 3.0
    for index in (0, 1, 3, 5, 7, 9, 11):  # keyframes that remain are exact
        assert np.array_equal(source[4 * index].planes[0], ramp(drawings[index]))
    followed = [float(frame.planes[0][10:-10, 24:40].mean()) for frame in target]
    assert np.abs(np.array(followed) - followed[0] - steps).max() <= 1.5


def test_equal_neighbours_skip_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = [0, 0, 0, 8, 16, 16]
    clip = clip_of(tmp_path / "in.mkv", [ramp(value) for value in drawings])
    for motion in ("flow", "none"):
        summary, source, target, net = made_of(clip, factor=4, motion=motion)
        assert summary.repeats == 3
        assert net.encoded == 3
        assert net.finished == 2 * (3 + 2 * 3)  # both domains: keyframes, and in-betweens of the two gaps that have any
        for frames in (source, target):
            assert len(frames) == 24
            for begin, end in ((0, 9), (16, 24)):
                assert len({frame.planes[0].tobytes() for frame in frames[begin:end]}) == 1
            assert len({frame.planes[0].tobytes() for frame in frames}) == 9
    assert made_of(clip, factor=1)[3].encoded == 3
    # A keyframe that two segments share is made in both, whatever it looks like.
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 2)
    assert made_of(clip, factor=4)[3].encoded == 5


def test_dedup_at_the_ends_at_cuts_and_through_stills(tmp_path: Path) -> None:
    scene = blobs(1)[:48, :64, 0]
    pictures = [ramp(0), ramp(0), ramp(8), scene, scene, scene]
    summary, source, target, _ = made_of(clip_of(tmp_path / "in.mkv", pictures), factor=2, dedup=True)
    assert [(cut.frame, cut.time) for cut in summary.cuts_at] == [(3, Fraction(125, 1000))]
    assert summary.removed == 3
    assert len(source) == len(target) == 12
    for frames in (source, target):
        kinds = [frame.planes[0].tobytes() for frame in frames]
        assert len(set(kinds[:5])) == 5
        assert kinds[4] == kinds[5]  # held until the cut
        assert len(set(kinds[6:])) == 1
    still = clip_of(tmp_path / "still.mkv", [ramp(0)] * 12 + [ramp(8)])
    summary, source, _, _ = made_of(still, factor=2, dedup=True)
    assert (summary.removed, summary.repeats) == (0, 11)
    assert len({frame.planes[0].tobytes() for frame in source[:23]}) == 1


def test_what_dedup_makes_is_continued_to_the_same_frames(
    tiny_model: Path,
    framemd5: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 3)
    clip = clip_of(tmp_path / "in.mkv", [ramp(8 * ((k + 1) // 2)) for k in range(12)])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    told = {"to": "segmentation", "model": str(tiny_model), "engine": "torch", "factor": Fraction(5, 2)}
    told |= {"codec": "ffv1", "dedup": True}
    first = vidtrans.upsample(clip, out_dir=whole, **told)
    original, left = SegmentStore.finish, [5]

    def finish(self: SegmentStore, *facts: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        original(self, *facts)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "finish", finish)
        with pytest.raises(OutputError, match="No space left"):
            vidtrans.upsample(clip, out_dir=parts, **told)
    with pytest.raises(OutputError, match="another input, model or options"):
        vidtrans.upsample(clip, out_dir=parts, **{**told, "dedup": False})
    again = vidtrans.upsample(clip, out_dir=parts, **told)
    assert 0 < again.frames_continued < again.frames_out == first.frames_out
    assert again.removed == first.removed == 5
    for one, other in zip(first.outputs, again.outputs, strict=True):
        assert framemd5(one) == framemd5(other)


def blobs(seed: int) -> np.ndarray:
    """Smooth random shapes, (96, 192, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 24, 3), np.uint8)
    return cv2.resize(noise, (192, 96), interpolation=cv2.INTER_CUBIC)


def test_cuts_have_other_values_than_motion_and_flashes() -> None:
    default = UpsampleOptions(Path("in.mp4"), "there").cut_threshold
    wide = cv2.resize(blobs(0), (384, 192), interpolation=cv2.INTER_CUBIC)
    left = wide[48:144, 40:232]
    moved = [wide[48:144, 40 + x : 232 + x] for x in (4, 20, 40, 70)]
    flash = (left * 0.6 + 100).astype(np.uint8)
    for other in (*moved, flash):
        assert cut_value(left, other) == pytest.approx(cut_value(other, left), abs=0.02)
        assert cut_value(left, other) < default
    values = [cut_value(left, other) for other in moved]
    assert values == sorted(values)
    assert cut_value(left, left) == 0.0
    for seed in (1, 2, 3):
        assert default <= cut_value(left, blobs(seed)) <= 1.0
    for shape in ((8, 8), (3, 400), (500, 2)):  # of any size, and without anything to see
        dark, light = (np.full((*shape, 3), value, np.uint8) for value in (0, 255))
        assert 0.0 <= cut_value(dark, light) <= 1.0


@pytest.mark.parametrize("paper", [False, True])
def test_a_cut_is_held_told_and_counted_in_both_outputs(paper: bool, tmp_path: Path) -> None:
    first, second = (cv2.resize(blobs(seed), (128, 64))[..., 0] for seed in (5, 6))
    clip = clip_of(tmp_path / "in.mkv", [*(np.roll(first, k, 1) for k in range(3)), second, np.roll(second, 1, 1)])
    options: dict[str, Any] = {"factor": 4, **({"motion": "none", "detail": "none"} if paper else {})}
    told: list[str] = []
    summary, source, target, _ = made_of(clip, told=told, **options)
    (cut,) = summary.cuts_at
    assert (cut.frame, cut.time) == (3, Fraction(125, 1000))
    assert summary.to_json()["cuts"] == [{"frame": 3, "seconds": 0.125, "value": cut.value}]
    assert [line for line in told if line.startswith("cut at 0.12 s, before input frame 3")]
    for frames in (source, target):
        kinds = [frame.planes[0].tobytes() for frame in frames]
        assert len(set(kinds[8:12])) == 1
        assert len(set(kinds[:9])) == 9
        assert kinds[12] != kinds[8]
    assert np.array_equal(source[11].planes[0], np.roll(first, 2, 1))

    assert made_of(clip, cut_threshold=cut.value, **options)[0].cuts == 1
    above, *_ = made_of(clip, cut_threshold=cut.value + 0.001, **options)
    assert above.cuts == 0
    blended, source, target, _ = made_of(clip, cuts="blend", **options)
    assert blended.cuts_at == summary.cuts_at
    for frames in (source, target):
        assert len({frame.planes[0].tobytes() for frame in frames[8:13]}) == 5


def test_the_command_takes_all_of_it_and_tells(tiny_model: Path, tmp_path: Path) -> None:
    first, second = (cv2.resize(blobs(seed), (128, 64))[..., 0] for seed in (5, 6))
    almost = first.copy()
    almost[:8, :8] ^= 1
    clip = clip_of(tmp_path / "in.mkv", [first, almost, np.roll(first, 1, 1), second])
    report = tmp_path / "summary.json"
    options = ["--factor", "2", "--cuts", "hold", "--cut-threshold", "0.7", "--dedup", "--dedup-tolerance", "1.5"]
    told = ["--to", "segmentation", "--model", str(tiny_model), "--engine", "torch", "--summary", str(report)]
    done = CliRunner().invoke(command, [str(clip), *told, *options])
    assert done.exit_code == 0, done.output
    assert "cut at 0.12 s, before input frame 3 (value 0." in done.stderr
    assert "1 cut, 1 repeat taken out" in done.stderr
    (made,) = json.loads(report.read_text())["inputs"]
    assert (made["frames_in"], made["frames_out"], made["repeats"], made["repeats_removed"]) == (4, 8, 0, 1)
    assert [(cut["frame"], cut["seconds"]) for cut in made["cuts"]] == [(3, 0.125)]
    refused = CliRunner().invoke(command, [str(clip), *told, "--cut-threshold", "2"])
    assert refused.exit_code == 2
    assert "--cut-threshold" in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cut_threshold": 1.5}, "--cut-threshold must be a number from 0 to 1"),
        ({"cut_threshold": float("nan")}, "--cut-threshold must be a number from 0 to 1"),
        ({"cuts": "next"}, "--cuts must be one of hold, blend"),
        ({"dedup": True, "dedup_tolerance": -1}, "--dedup-tolerance must be a number from 0 to 255"),
        ({"dedup_tolerance": 2}, "give --dedup as well"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        UpsampleOptions(Path("in.mp4"), "there", **options)
