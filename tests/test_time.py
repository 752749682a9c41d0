"""Rates, tails and excerpts through the whole tool on real files; another program says what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vidtrans
from vidtrans.checkpoint import save_model
from vidtrans.cli.parameters import TIME
from vidtrans.cli.upsample import command
from vidtrans.engines.contract import Features, Gap
from vidtrans.errors import OutputError, UsageError
from vidtrans.gaps import Tracker
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Network, Summary
from vidtrans.timeline import Sampling, pair
from vidtrans.video.decoding import Decoding
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.reader import VideoReader

Make = Callable[..., Path]
Probe = Callable[..., dict[str, Any]]
FFmpeg = Callable[..., bytes]
FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=(32, 24))))
    return path


@pytest.fixture
def run(model: Path) -> Callable[..., Summary]:
    def upsample(clip: Path, **options: Any) -> Summary:
        fixed = {"to": "segmentation", "model": str(model), "engine": "torch", "motion": "none", "preset": "veryfast"}
        return vidtrans.upsample(clip, **{**fixed, "overwrite": True, **options})

    return upsample


def stream_times(ffprobe: Probe, path: Path, kind: str) -> tuple[list[Fraction], Fraction, Fraction]:
    """The times at which a stream's packets are shown, ascending; the end of the last one; the tick: seconds.

    Of those that an edit list hides, the one from which a sound decoder starts counts: not every container can hide it.
    """
    facts = ffprobe(path, "-show_packets")
    stream = next(stream for stream in facts["streams"] if stream["codec_type"] == kind)
    tick = Fraction(stream["time_base"])
    packets = [packet for packet in facts["packets"] if packet["stream_index"] == stream["index"]]
    packets.sort(key=lambda packet: int(packet["pts"]))
    hidden = [packet for packet in packets if "D" in packet["flags"]]
    shown = [packet for packet in packets if packet not in (hidden[:-1] if kind == "audio" else hidden)]
    times = [int(packet["pts"]) * tick for packet in shown]
    if "DURATION" in stream.get("tags", {}):  # Matroska keeps the length of the last packet only here
        hours, minutes, seconds = stream["tags"]["DURATION"].split(":")
        return times, int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds), tick
    if "duration" in shown[-1]:
        return times, times[-1] + int(shown[-1]["duration"]) * tick, tick
    return times, (int(stream["start_pts"]) + int(stream["duration_ts"])) * tick, tick


def offsets(ffprobe: Probe, path: Path) -> tuple[Fraction, Fraction, Fraction]:
    """Audio minus video at the start and at the end, and the coarsest tick, seconds."""
    (video, video_end, video_tick), (audio, audio_end, audio_tick) = (
        stream_times(ffprobe, path, kind) for kind in ("video", "audio")
    )
    return audio[0] - video[0], audio_end - video_end, max(video_tick, audio_tick)


def source(name: str, folder: Path, make_clip: Make, ffmpeg: FFmpeg) -> Path:
    """The inputs of the tests below: film with sound, and what becomes of it in other hands."""
    if name == "vfr.mkv":
        times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15, 30, 31, 40, 45)]
        return make_clip(folder / name, times=times, size=(32, 32), audio=["libopus"])
    rate = NTSC if name == "ntsc.mp4" else FILM
    clip = make_clip(folder / "film.mp4", frames=24, rate=rate, size=(32, 32), audio=["aac"], options={"g": "12"})
    changes: dict[str, tuple[str | Path, ...]] = {
        "film.mp4": (),
        "ntsc.mp4": (),
        "late.mp4": ("-itsoffset", "0.7", "-i", clip, "-i", clip, "-map", "0:v", "-map", "1:a"),
        "early.mp4": ("-i", clip, "-itsoffset", "0.3", "-i", clip, "-map", "0:v", "-map", "1:a"),
        "edited.mp4": ("-ss", "0.7", "-i", clip),  # from a keyframe before, hidden by an edit list
        "film.mkv": ("-i", clip),
    }
    if not changes[name]:
        return clip
    ffmpeg(*changes[name], "-c", "copy", folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "options", "suffix"),
    [
        ("film.mp4", {"factor": Fraction(5, 2)}, ".mp4"),
        ("film.mp4", {"fps": Fraction(60000, 1001)}, ".mkv"),
        ("ntsc.mp4", {"factor": 3}, ".mov"),
        ("late.mp4", {"fps": 60}, ".mov"),
        ("late.mp4", {"factor": 2}, ".mkv"),
        ("early.mp4", {"factor": Fraction(7, 3)}, ".mp4"),
        ("edited.mp4", {"factor": 4}, ".mp4"),
        ("edited.mp4", {"factor": 1}, ".mkv"),
        ("film.mkv", {"fps": 50}, ".mp4"),
        ("vfr.mkv", {"factor": 4}, ".mkv"),
        ("vfr.mkv", {"fps": 12}, ".mp4"),
    ],
)
def test_sound_stays_where_it_was(
    tmp_path: Path,
    run: Callable[..., Summary],
    make_clip: Make,
    ffmpeg: FFmpeg,
    ffprobe: Probe,
    name: str,
    options: dict[str, Any],
    suffix: str,
) -> None:
    clip = source(name, tmp_path, make_clip, ffmpeg)
    files = {"output": tmp_path / f"a{suffix}", "output_to": tmp_path / f"b{suffix}"}
    summary = run(clip, **options, **files)
    before_start, before_end, tick_in = offsets(ffprobe, clip)
    for path in summary.outputs:
        times, end, _ = stream_times(ffprobe, path, "video")
        start, stop, tick_out = offsets(ffprobe, path)
        half_a_frame = (end - times[0]) / len(times) / 2
        assert len(times) == summary.frames_out
        assert abs(start - before_start) <= half_a_frame + max(tick_in, tick_out)
        assert abs(stop - before_end) <= half_a_frame + max(tick_in, tick_out)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pictures_below_zero_are_not_lost(
    tmp_path: Path,
    run: Callable[..., Summary],
    make_clip: Make,
    ffprobe: Probe,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    """Players hide them, so everything is moved; a decoder that says so stands for the rare file."""
    clip = make_clip(tmp_path / "in.mp4", frames=12, rate=24, size=(32, 32), audio=["aac"])
    real = Decoding._decoded

    def earlier(self: Decoding, packets: Any, *, sought: bool = False) -> Iterator[Any]:
        for picture in real(self, packets, sought=sought):
            picture.pts -= round(Fraction(1, 4) / self.stream.time_base)
            yield picture

    monkeypatch.setattr(Decoding, "_decoded", earlier)
    with VideoReader(clip) as reader:
        frames = list(reader)
        assert [frame.time for frame in frames] == [Fraction(k, 24) for k in range(12)]
        assert (reader.info.start_time, reader.info.excerpt.shift) == (0, Fraction(-1, 4))
        assert reader.notes == ["in.mp4: begins at -0.25 s, everything is moved to begin at 0"]
    files = {"output": tmp_path / f"a{suffix}", "output_to": tmp_path / f"b{suffix}"}
    summary = run(clip, factor=2, **files)
    start, stop, tick = offsets(ffprobe, summary.outputs[0])
    before_start, before_stop, _ = offsets(ffprobe, clip)
    assert len(stream_times(ffprobe, summary.outputs[0], "video")[0]) == 24
    assert abs(start - before_start - Fraction(1, 4)) <= tick
    assert abs(stop - before_stop - Fraction(1, 4)) <= Fraction(1024, 48000) + tick  # a packet


def test_more_frames_than_stamps_are_refused(tmp_path: Path, run: Callable[..., Summary], make_clip: Make) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=2, rate=24, size=(32, 32))
    with pytest.raises(OutputError, match="1200 frames per second would share time stamps"):
        run(clip, factor=50)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".nut", ".mkv"])
def test_each_container_keeps_every_stamp_as_well_as_it_can(
    tmp_path: Path, run: Callable[..., Summary], make_clip: Make, ffprobe: Probe, suffix: str
) -> None:
    """Exactly, or rounded once to a millisecond, which is said."""
    clip = make_clip(tmp_path / "in.mp4", frames=25, rate=FILM, size=(32, 32))
    files = {"output": tmp_path / f"a{suffix}", "output_to": tmp_path / f"b{suffix}"}
    summary = run(clip, factor=Fraction(5, 2), **files)
    times, _, tick = stream_times(ffprobe, summary.outputs[1], "video")
    exact = [k / (FILM * Fraction(5, 2)) for k in range(63)]
    said = [note for note in summary.notes if "rounded once" in note]
    if suffix == ".mkv":
        assert tick == Fraction(1, 1000)
        # Below zero there is nothing: where decoding times would be, all times are moved by the same.
        assert all(abs(time - times[0] - want) <= tick / 2 for time, want in zip(times, exact, strict=True))
        assert len(said) == 1
        (video,) = ffprobe(summary.outputs[1])["streams"]
        assert float(Fraction(video["avg_frame_rate"])) == pytest.approx(60000 / 1001, rel=1e-5)  # default duration
    else:
        assert [time - times[0] for time in times] == exact
        assert said == []


def test_rates_are_sampled_directly(
    tmp_path: Path, run: Callable[..., Summary], make_clip: Make, ffprobe: Probe, framemd5: Callable[..., list[str]]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=9, rate=FILM, size=(32, 32))
    originals = framemd5(clip)
    lossless = {"crf": 0, "motion": "flow"}
    made = {}
    for name, options in {
        "factor": {"factor": Fraction(5, 2)},
        "rate": {"fps": FILM * Fraction(5, 2)},
        "fine": {"factor": 5},
        "slow": {"factor": Fraction(5, 2), "slowmo": True},
        "dropped": {"factor": Fraction(5, 2), "tail": "drop"},
        "lower": {"fps": FILM / 2},
    }.items():
        files = {"output": tmp_path / f"{name}.mp4", "output_to": tmp_path / f"{name}.to.mp4"}
        summary = run(clip, **options, **lossless, **files)
        made[name] = [framemd5(path) for path in summary.outputs]
        times, end, _ = stream_times(ffprobe, summary.outputs[0], "video")
        length = 9 / FILM * (Fraction(5, 2) if name == "slow" else 1)
        assert name == "dropped" or end == length
        assert summary.frames_in == 9
        assert (len(times), times[1]) == {
            "factor": (23, 2 / FILM / 5),
            "rate": (23, 2 / FILM / 5),
            "fine": (45, 1 / FILM / 5),
            "slow": (23, 1 / FILM),
            "dropped": (21, 2 / FILM / 5),
            "lower": (5, 2 / FILM),
        }[name]
    assert made["factor"] == made["rate"] == made["slow"]
    # In-betweens depend on where they lie and not on which others are made; gaps here begin at 0 or at 1/5.
    assert made["factor"] == [hashes[::2] for hashes in made["fine"]]
    assert made["dropped"] == [hashes[:21] for hashes in made["factor"]]
    assert made["factor"][0][::5] == originals[::2]
    assert made["lower"][0] == originals[::2]
    keyframes = {k for k, found in enumerate(made["factor"][0]) if found in originals}
    assert keyframes == {0, 5, 10, 15, 20, 21, 22}


def test_variable_rates_are_sampled_between_their_own_stamps(
    tmp_path: Path, run: Callable[..., Summary], make_clip: Make, ffprobe: Probe
) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, size=(32, 32), options={"bf": "0"})
    shown, end, _ = stream_times(ffprobe, run(clip, factor=Fraction(5, 2)).outputs[0], "video")
    positions = [divmod(Fraction(2 * k, 5), 1) for k in range(13)]
    gaps = list(pairwise(times))
    assert shown == [gaps[i][0] + t * (gaps[i][1] - gaps[i][0]) for i, t in positions]
    assert end == times[-1]
    shown, end, _ = stream_times(ffprobe, run(clip, fps=60).outputs[0], "video")
    assert shown == [Fraction(k, 60) for k in range(10)]
    assert end == times[-1]


@pytest.mark.parametrize(("name", "suffix"), [("film.mp4", ".mp4"), ("late.mp4", ".mkv"), ("vfr.mkv", ".mp4")])
def test_an_excerpt_cuts_every_stream(
    tmp_path: Path,
    run: Callable[..., Summary],
    make_clip: Make,
    ffmpeg: FFmpeg,
    ffprobe: Probe,
    framemd5: Callable[..., list[str]],
    name: str,
    suffix: str,
) -> None:
    clip = source(name, tmp_path, make_clip, ffmpeg)
    start, end = Fraction(1, 8), Fraction(3, 8)
    files = {"output": tmp_path / f"a{suffix}", "output_to": tmp_path / f"b{suffix}"}
    summary = run(clip, factor=2, start=start, end=end, crf=0, **files)
    times, last, _ = stream_times(ffprobe, clip, "video")
    kept = [k for k, time in enumerate(times) if start <= time - times[0] < end]
    begin, stop = times[kept[0]], [*times, last][kept[-1] + 1]
    for path in summary.outputs:
        shown, shown_end, tick = stream_times(ffprobe, path, "video")
        assert len(shown) == 2 * len(kept) == 2 * summary.frames_in
        assert abs(shown_end - shown[0] - (stop - begin)) <= tick
        audio, audio_end, audio_tick = stream_times(ffprobe, path, "audio")
        packet = audio[1] - audio[0] + 2 * max(tick, audio_tick)
        sound, sound_end, _ = stream_times(ffprobe, clip, "audio")
        heard = [time for time in sound if begin <= time < stop]
        assert len(audio) == len(heard)
        assert abs(audio[0] - shown[0] - (heard[0] - begin)) <= 2 * max(tick, audio_tick)
        assert -2 * audio_tick <= audio[0] - shown[0] < packet
        assert abs((audio_end - shown_end) - (min(stop, sound_end) - stop)) < packet
        copied, whole = (
            ffmpeg("-i", file, "-map", "0:a", "-c", "copy", "-copyts", "-f", "framemd5", "-").decode().splitlines()
            for file in (path, clip)
        )
        hashes = [[line.split(",")[-1] for line in lines if not line.startswith("#")] for lines in (copied, whole)]
        assert "\n".join(hashes[0]) in "\n".join(hashes[1])  # packets as they were
    assert framemd5(summary.outputs[0])[::2] == [framemd5(clip)[k] for k in kept]


def test_slow_motion_says_that_it_leaves_the_sound_out(
    tmp_path: Path, run: Callable[..., Summary], make_clip: Make, ffprobe: Probe
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4, rate=FILM, size=(32, 32), audio=["aac"], metadata={"title": "x"})
    summary = run(clip, factor=3, slowmo=True)
    assert sum(note.startswith("audio is left out") for note in summary.notes) == 1
    assert summary.outputs == (tmp_path / "in.x3.slowmo.mp4", tmp_path / "in.x3.slowmo.segmentation.mp4")
    facts = ffprobe(summary.outputs[0])
    (video,) = facts["streams"]
    assert (Fraction(video["avg_frame_rate"]), video["nb_frames"]) == (FILM, "12")
    assert facts["format"]["tags"]["title"] == "x"


def still_frames(count: int) -> list[Frame]:
    draw = np.random.default_rng(0)
    planes = [tuple(draw.integers(0, 255, (8, 8), np.uint8) for _ in range(3)) for _ in range(count)]
    return [
        Frame(plane, Fraction(k), Fraction(1), PIXEL_FORMATS["yuv444p"], Colour("bt601", False))
        for k, plane in enumerate(planes)
    ]


@pytest.mark.parametrize("at_once", [1, 3, 10])
@pytest.mark.parametrize(
    ("sampling", "encoded"),
    [
        (Sampling(Fraction(3)), 7),
        (Sampling(rate=Fraction(3, 2)), 7),
        (Sampling(rate=Fraction(1, 2)), 4),  # every other keyframe and nothing in between
        (Sampling(rate=Fraction(2, 5)), 4),  # at 0, 2.5 and 5
        (Sampling(Fraction(1)), 7),
    ],
)
def test_a_keyframe_is_encoded_once_if_an_output_leans_on_it(sampling: Sampling, encoded: int, at_once: int) -> None:
    seen: list[np.ndarray] = []

    class Recorder:
        def encode(self, frames: torch.Tensor) -> list[Features]:
            seen.extend(frame.numpy() for frame in frames)
            return [Features({}, {"scene": frame.float().mean().view(1, 1, 1)}) for frame in frames]

        def between(self, gaps: list[Gap]) -> list[dict[str, torch.Tensor]]:
            mixed = [
                torch.stack(
                    [torch.lerp(gap.left.decoded["scene"], gap.right.decoded["scene"], float(t)) for t in gap.times]
                )
                for gap in gaps
            ]
            return [{"scene": rows} for rows in mixed]

    tracker = Tracker(moving=False, cut_threshold=1.0, holds_cuts=False)
    moving = [tracker(interval) for interval in pair(still_frames(7), sampling)]
    network = Network(Recorder())  # type: ignore[arg-type]
    decoded = [out for k in range(0, len(moving), at_once) for out in network(moving[k : k + at_once])]
    assert len(seen) == encoded == len({frame.tobytes() for frame in seen})
    for item, out in zip(moving, decoded, strict=True):
        left = float(item.left.mean())
        right = left if item.right is None else float(item.right.mean())
        want = [left + float(instant.t) * (right - left) for instant in item.interval.instants]
        assert out.outputs["scene"].flatten().tolist() == pytest.approx(want, rel=1e-5)
        assert out.left["scene"].item() == pytest.approx(left, rel=1e-5)


def test_the_number_expected_is_the_number_made(tmp_path: Path, model: Path, make_clip: Make) -> None:
    from vidtrans.pipeline import run

    clip = make_clip(tmp_path / "in.mp4", frames=9, rate=FILM, size=(32, 32))
    for options in ({"factor": Fraction(7, 3)}, {"fps": 50}, {"fps": 50, "start": Fraction(1, 10), "end": 0.3}):
        told: dict[int, int | None] = {}
        parsed = UpsampleOptions(clip, "segmentation", model=str(model), engine="torch", overwrite=True, **options)
        summary = run(parsed, progress=told.__setitem__)
        assert list(told.items())[-1] == (summary.frames_out, summary.frames_out)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"factor": Fraction(1, 2)}, "at least 1"),
        ({"factor": "8x"}, "must be a number"),
        ({"fps": 0}, "above 0"),
        ({"fps": float("nan")}, "must be a number"),
        ({"fps": 60, "factor": 8}, "exclude each other"),
        ({"fps": 60, "slowmo": True}, "leave one of them out"),
        ({"tail": "cut"}, "hold, drop"),
        ({"start": -1}, "0 or more"),
        ({"start": 2, "end": 1}, "must come after"),
        ({"end": 0}, "must come after"),
        ({"start": 5}, "it ends at 0.25 s"),
        ({"start": 0.25}, "it ends at 0.25 s"),
        ({"start": 0.09, "end": 0.1}, "leave more time"),
    ],
)
def test_times_that_do_not_fit_are_one_sentence(
    tmp_path: Path, run: Callable[..., Summary], make_clip: Make, options: dict[str, Any], hint: str
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, rate=12, size=(32, 32))
    with pytest.raises(UsageError, match=hint) as caught:
        run(clip, **options)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_numbers_become_exact_and_names_follow_them() -> None:
    def names(**options: Any) -> list[str]:
        return [path.name for path in UpsampleOptions(Path("IN.mkv"), "winter", **options).output_paths]

    assert names() == ["IN.x8.mkv", "IN.x8.winter.mkv"]
    assert names(factor=2.5) == names(factor=Fraction(5, 2)) == ["IN.x5-2.mkv", "IN.x5-2.winter.mkv"]
    assert names(fps=60) == ["IN.60fps.mkv", "IN.60fps.winter.mkv"]
    assert names(fps=Fraction(60000, 1001))[0] == "IN.60000-1001fps.mkv"
    assert names(slowmo=True)[0] == "IN.x8.slowmo.mkv"
    assert UpsampleOptions(Path("IN.mkv"), "winter", start=0.1, end=12.3).span == (Fraction(1, 10), Fraction(123, 10))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", Fraction(90)),
        ("90.125", Fraction(721, 8)),
        ("1:30.5", Fraction(181, 2)),
        ("01:00:00.1", Fraction(36001, 10)),
        ("75:00", Fraction(4500)),
        ("1:75", None),
        ("1:60:00", None),
        ("-1", None),
        ("1e3", None),
        ("", None),
    ],
)
def test_times_on_the_command_line(text: str, seconds: Fraction | None) -> None:
    import click

    if seconds is not None:
        assert TIME.convert(text, None, None) == seconds
        return
    with pytest.raises(click.BadParameter, match="is not a time"):
        TIME.convert(text, None, None)


def test_the_command_line_passes_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import vidtrans.runs

    got: list[UpsampleOptions] = []

    def run(options: UpsampleOptions, **_: Any) -> Summary:
        got.append(options)
        return Summary(options.output_paths, seconds=1.0)

    monkeypatch.setattr(vidtrans.runs, "run", run)
    for arguments in (
        "--factor 5/2 --slowmo --tail drop --start 1:02.5 --end 01:00:00",
        "--fps 60000/1001",
        "",
    ):
        ran = CliRunner().invoke(command, ["in.mp4", "--to", "segmentation", *arguments.split()])
        assert ran.exit_code == 0, ran.output
    assert (got[0].sampling, got[0].span) == (
        Sampling(Fraction(5, 2), slowmo=True, tail="drop"),
        (Fraction(125, 2), Fraction(3600)),
    )
    assert got[1].sampling == Sampling(rate=Fraction(60000, 1001))
    assert (got[2].sampling, got[2].span) == (Sampling(Fraction(8)), (0, None))
