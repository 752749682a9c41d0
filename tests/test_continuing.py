"""A continued run goes straight to where it stopped, tells of the whole, and has lost nothing on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import moving_picture
from test_damage import spoil

import vidtrans
import vidtrans.pipeline
from vidtrans.cli import main
from vidtrans.errors import OutputError
from vidtrans.remarks import Warn
from vidtrans.video.frame import Frame
from vidtrans.video.reader import VideoReader
from vidtrans.video.seam import Mark, Seam, SegmentReport
from vidtrans.video.segments import MANIFEST, SegmentStore, store_folder
from vidtrans.video.source import Sought, open_source
from vidtrans.video.writer import VideoWriter

FRAMES = 30


def seam_at(frames: list[Frame], index: int) -> Seam:
    return Seam(index, Mark.of(frames[index]), Mark.of(frames[index + 1]), True)


def same(one: list[Frame], other: list[Frame]) -> bool:
    return [(Mark.of(frame), frame.duration) for frame in one] == [(Mark.of(frame), frame.duration) for frame in other]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("in.mp4", "libx264", {"g": "6", "bf": "2"}),
        ("in.ts", "libx264", {"g": "6", "bf": "2"}),
        # Most keyframes of this container are no whole pictures that forget: only every third is.
        ("in.mkv", "libx264", {"x264-params": "open-gop=1:keyint=6:min-keyint=1:bframes=2:scenecut=0"}),
        ("in.mp4", "libx265", {"x265-params": "log-level=error:keyint=6:open-gop=1:bframes=2"}),
        ("in.webm", "libvpx-vp9", {"g": "6"}),
        ("in.mkv", "ffv1", {"g": "6"}),
        ("in.mov", "mpeg4", {"g": "6", "bf": "2"}),
        ("in.mkv", "mpeg2video", {"g": "6", "bf": "2"}),
        ("in.avi", "huffyuv", {}),
        # Each picture is made whole with the help of its neighbours.
        ("in.mp4", "libx264", {"g": "6", "bf": "2", "flags": "+ildct+ilme"}),
        ("in.mkv", "mpeg2video", {"g": "6", "bf": "2", "flags": "+ildct+ilme"}),
    ],
    ids=str,
)
def test_reading_on_from_anywhere_gives_the_same_frames(
    name: str, codec: str, options: dict[str, str], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    pix_fmt = "yuv422p" if codec == "huffyuv" else "yuv420p"
    clip = make_clip(tmp_path / name, frames=FRAMES, codec=codec, options=options, pix_fmt=pix_fmt)
    with VideoReader(clip) as reader:
        whole = list(reader)
    assert len(whole) == FRAMES
    assert any("is interlaced" in note for note in reader.notes) == ("flags" in options)
    for index in (0, 5, 11, 17, 28):
        with VideoReader(clip) as reader:
            why = reader.continue_at(seam_at(whole, index))
            if why is not None:
                assert index < 8 or "open-gop" in str(options), why
                continue
            assert same(list(reader), whole[index:])
            assert reader.frames_read == FRAMES


def test_going_there_decodes_little_and_keeps_an_excerpt(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=FRAMES, options={"g": "5", "bf": "0"})
    span = (Fraction(4, 24), Fraction(28, 24))
    with VideoReader(clip, *span) as reader:
        whole = list(reader)
    assert len(whole) == 24
    with VideoReader(clip, *span) as reader:
        decoded: list[object] = []
        original = reader._decoding._decode_packet
        reader._decoding._decode_packet = lambda packet, **more: decoded.append(packet) or original(packet, **more)  # type: ignore[method-assign,func-returns-value]
        assert reader.continue_at(seam_at(whole, 20)) is None
        assert same(list(reader), whole[20:])
    assert len(decoded) <= 12
    source = open_source(clip, *span, expect_frames=24)
    assert isinstance(source, Sought)
    with source:
        assert source.continue_at(seam_at(whole, 20)) is None
        assert same(list(source), whole[20:])


def test_footage_that_is_interlaced_in_parts_is_read_on_only_where_that_shows(
    ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """The filter makes the first picture it works on without its past, so it must have worked before the seam."""
    parts = []
    for count, flags in ((8, "+ildct+ilme"), (13, "-ildct"), (8, "+ildct+ilme")):
        source = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25,setfield=" + ("tff" if "+" in flags else "prog"))
        coded = ("-frames:v", str(count), "-flags", flags, "-g", "1", "-pix_fmt", "yuv420p")
        ffmpeg(*source, *coded, tmp_path / "part.h264")
        parts.append((tmp_path / "part.h264").read_bytes())
    (tmp_path / "all.h264").write_bytes(b"".join(parts))
    clip = tmp_path / "in.mkv"
    ffmpeg("-fflags", "+genpts", "-i", tmp_path / "all.h264", "-c", "copy", clip)
    with VideoReader(clip) as reader:
        whole = list(reader)
    with VideoReader(clip, deinterlace=False) as reader:
        woven = list(reader)
    changed = [number for number in range(29) if (whole[number].planes[0] != woven[number].planes[0]).any()]
    assert not set(changed) & set(range(8, 21))
    assert {0, 7, 28} <= set(changed)
    for index, goes in ((5, True), (14, False), (21, False), (24, True)):
        with VideoReader(clip) as reader:
            assert (reader.continue_at(seam_at(whole, index)) is None) == goes
            assert not goes or same(list(reader), whole[index:])
    with VideoReader(clip, deinterlace=False) as reader:
        assert reader.continue_at(seam_at(woven, 14)) is None
        assert same(list(reader), woven[14:])


def test_what_cannot_be_proved_is_said(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=FRAMES, options={"g": "5"})
    with VideoReader(clip) as reader:
        whole = list(reader)
    good = seam_at(whole, 20)
    other = replace(good, after=Mark(whole[21].time, good.before.crc32))
    late = replace(good, before=Mark(Fraction(100), 0), after=Mark(Fraction(101), 0))
    slow = make_clip(tmp_path / "slow.asf", frames=FRAMES, codec="wmv2", options={"g": "5"})
    for path, seam, why in (
        (clip, replace(good, is_clean=False), "something was wrong"),
        (clip, other, "not what was there before"),
        (clip, late, "not what was there before"),
        (slow, good, "lean on"),
    ):
        with VideoReader(path) as reader:
            assert why in (reader.continue_at(seam) or "")


def test_a_report_is_read_back_as_it_was_written() -> None:
    seam = Seam(63, Mark(Fraction(1001, 24000), 7), None, False)
    report = SegmentReport(seam, ((12, Fraction(1, 3), 0.875),), 2, 1, 3, ("a", "b"))
    assert SegmentReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.fixture
def cut_clip(tmp_path: Path) -> Path:
    """Two scenes of four frames each, a frame that is shown twice in the first, and a damaged end."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=96, height=64, options={"g": "1", "slicecrc": "1"})
        stream.codec_context.pix_fmt = "yuv420p"
        for index in range(12):
            picture = moving_picture(1 if index == 2 else index, 96, 64)
            picture = picture if index < 4 else 255 - picture[::-1, :, ::-1]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.copy(), "rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def upsample(clip: Path, folder: Path, model: Path, **options: Any) -> vidtrans.Summary:
    folder.mkdir(exist_ok=True)
    told = {"model": str(model), "engine": "torch", "factor": 2, "codec": "ffv1", "out_dir": folder, **options}
    return vidtrans.upsample(clip, "segmentation", **told)


def stopped(monkeypatch: pytest.MonkeyPatch, nth: int, clip: Path, folder: Path, model: Path, **options: Any) -> None:
    """The same, stopped when the n-th segment of either output would be finished."""
    original, left = SegmentStore.finish, [nth]

    def finish(self: SegmentStore, *facts: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        original(self, *facts)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "finish", finish)
        with pytest.raises(OutputError, match="No space left"):
            upsample(clip, folder, model, **options)


def facts(summary: vidtrans.Summary, folder: Path) -> dict[str, Any]:
    """What a summary says, but for times and how it was continued."""
    found = summary.to_json()
    for name in ("seconds", "streaming_seconds", "frames_per_second", "stages", "bottleneck", "frames_continued"):
        del found[name]
    found["notes"] = [line for line in found["notes"] if not line.startswith("continued at")]
    return json.loads(json.dumps(found).replace(str(folder), ""))


def test_the_summary_of_a_continued_run_tells_of_the_whole(
    cut_clip: Path,
    tiny_model: Path,
    framemd5: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 3)
    whole = upsample(cut_clip, tmp_path / "whole", tiny_model, preset="fast")
    assert [(cut.frame, cut.time) for cut in whole.cuts_at] == [(4, Fraction(167, 1000))]
    assert (whole.repeats, whole.frames_in, len(whole.warnings)) == (1, 12, 1)  # FFV1 has no presets
    stopped(monkeypatch, 7, cut_clip, tmp_path / "cut", tiny_model, preset="fast")
    manifest = json.loads((store_folder(tmp_path / "cut" / "in.x2.mkv") / MANIFEST).read_text())
    assert [len(row["report"]["cuts"]) for row in manifest["segments"]][:2] == [0, 1]
    read: list[int] = []
    original = VideoReader._frame
    monkeypatch.setattr(VideoReader, "_frame", lambda self, *more: read.append(1) or original(self, *more))
    again = upsample(cut_clip, tmp_path / "cut", tiny_model, preset="fast")
    assert again.frames_continued >= 12
    assert len(read) <= 12 - again.frames_continued // 2 + 4
    assert any(line.startswith(f"continued at input frame {again.frames_continued // 2}") for line in again.notes)
    assert facts(again, tmp_path / "cut") == facts(whole, tmp_path / "whole")
    for one, other in zip(whole.outputs, again.outputs, strict=True):
        assert framemd5(one) == framemd5(other)


def test_damage_before_the_stop_is_found_again_in_a_continued_run(
    cut_clip: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(cut_clip, [1])
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 3)
    whole = upsample(cut_clip, tmp_path / "whole", tiny_model)
    assert any("1 of 12 frames are damaged" in line for line in whole.warnings)
    stopped(monkeypatch, 7, cut_clip, tmp_path / "cut", tiny_model)
    again = upsample(cut_clip, tmp_path / "cut", tiny_model)
    assert again.frames_continued
    assert any("decoded from its front once more: something was wrong" in line for line in again.notes)
    assert facts(again, tmp_path / "cut")["warnings"] == facts(whole, tmp_path / "whole")["warnings"]


def test_a_run_that_only_lacked_its_last_step_reads_nothing_again(
    cut_clip: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = upsample(cut_clip, tmp_path / "whole", tiny_model)
    (tmp_path / "cut").mkdir()

    def packets(self: SegmentStore) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "packets", packets)
        with pytest.raises(OutputError, match="No space left"):
            upsample(cut_clip, tmp_path / "cut", tiny_model)
    again = upsample(cut_clip, tmp_path / "cut", tiny_model)
    assert again.frames_continued == again.frames_out == whole.frames_out
    assert (again.frames_in, again.cuts_at) == (whole.frames_in, whole.cuts_at)


def test_strict_keeps_what_is_finished_for_a_run_without_it(
    cut_clip: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    clean = cut_clip.read_bytes()
    spoil(cut_clip, [9])
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 3)
    summary = tmp_path / "facts.json"
    told = ["--to", "segmentation", "--model", str(tiny_model), "--engine", "torch", "-m", "2"]
    told += ["--summary", str(summary)]

    def run(*more: str) -> int:
        monkeypatch.setattr(
            sys, "argv", ["vidtrans", "upsample", str(cut_clip), *told, "--summary", str(summary), *more]
        )
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert run("--strict") == 1
    assert "--strict: in.mkv: 1 of 12 frames are damaged" in capsys.readouterr().err
    assert json.loads(summary.read_text())["inputs"][0]["status"] == "failed"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("in.x2")]
    # A warning that comes when all is written.
    original = VideoWriter.complete

    def complete(self: VideoWriter) -> None:
        original(self)
        self.notes.append(Warn("late"))

    cut_clip.write_bytes(clean)
    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "complete", complete)
        assert run("--strict") == 1
    said = capsys.readouterr().err
    assert "--strict: late" in said
    assert "the same command without --strict continues it" in said
    assert run() == 0
    (told_of,) = json.loads(summary.read_text())["inputs"]
    assert told_of["frames_continued"] == told_of["frames_out"] == 24
    assert told_of["warnings"] == []
