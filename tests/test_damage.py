"""Damage in the middle of a video: every picture keeps its time, what is not whole is counted and said."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrans.errors import InputError
from vidtrans.video.damage import Lost, Promises, demuxed
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import Frame
from vidtrans.video.reader import VideoReader
from vidtrans.video.writer import VideoWriter

FRAMES, RATE = 40, 25
# What lies in the container, and whether it can be told that a picture's data is damaged.
CODECS = [
    ("clip.mp4", "libx264", "yuv420p"),
    ("clip.avi", "libx264", "yuv420p"),
    ("clip.mkv", "libx265", "yuv420p"),
    ("clip.ts", "mpeg2video", "yuv420p"),
    ("clip.avi", "mpeg4", "yuv420p"),
    ("clip.mov", "mjpeg", "yuvj420p"),
    ("clip.nut", "ffv1", "yuv420p"),
]


def read(path: Path) -> tuple[list[Frame], VideoReader]:
    with VideoReader(path) as reader:
        return list(reader), reader


def spoil(path: Path, numbers: list[int], share: float = 1.0) -> None:
    """Fills the last `share` of what these packets of the pictures hold with noise."""
    with av.open(str(path)) as container:
        known = [(packet.pos, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(5)
    for number in numbers:
        position, content = known[number]
        place = data.find(content, position)
        begin = (position if place < 0 else place) + len(content) - int(len(content) * share)
        end = (position if place < 0 else place) + len(content)
        data[begin:end] = noise.bytes(end - begin)
    path.write_bytes(data)


@pytest.fixture
def clip(make_clip: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, codec: str, pix_fmt: str = "yuv420p", **options: str) -> Path:
        known = {"libx264": {"preset": "fast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}
        return make_clip(
            tmp_path / name,
            frames=FRAMES,
            rate=RATE,
            size=(96, 64),
            codec=codec,
            pix_fmt=pix_fmt,
            options={"g": "10", **known.get(codec, {}), **options},
        )

    return make


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), CODECS)
@pytest.mark.parametrize("where", ["first", "middle", "last", "many"])
def test_no_picture_loses_its_time(name: str, codec: str, pix_fmt: str, where: str, clip: Callable[..., Path]) -> None:
    if where == "first" and name == "clip.avi":
        pytest.skip("what a decoder of AVI needs to start lies in the first packet")
    path = clip(name, codec, pix_fmt)
    whole, reader = read(path)
    assert (len(whole), reader.damaged, reader.notes) == (FRAMES, 0, [])
    numbers = {"first": [0], "middle": [17], "last": [FRAMES - 1], "many": [5, 6, 7, 13, 17, 33]}[where]
    spoil(path, numbers)
    frames, reader = read(path)
    if name == "clip.ts":  # the noise may hide where its packets begin
        assert frames[-1].time + frames[-1].duration >= whole[-2].time
    else:
        assert [(frame.time, frame.duration) for frame in frames] == [(frame.time, frame.duration) for frame in whole]
        assert reader.damaged >= len(numbers)
    assert reader.damaged < len(frames)
    assert all(left.time + left.duration == right.time for left, right in pairwise(frames))
    if reader.damaged:
        assert any(f"{reader.damaged} of {len(frames)} frames are damaged" in note for note in reader.notes)


def test_what_the_decoder_mends_is_shown_and_the_rest_held(clip: Callable[..., Path]) -> None:
    """Without references to other pictures only the damaged ones differ."""
    for name, codec, pix_fmt, share, mended in (
        ("a.mp4", "libx264", "yuv420p", 0.5, True),
        ("b.mov", "mjpeg", "yuvj420p", 1.0, False),
    ):
        path = clip(name, codec, pix_fmt, g="1")
        whole, _ = read(path)
        spoil(path, [11, 12], share)
        frames, reader = read(path)
        for index, (frame, expected) in enumerate(zip(frames, whole, strict=True)):
            is_equal = all(np.array_equal(*planes) for planes in zip(frame.planes, expected.planes, strict=True))
            assert is_equal == (index not in (11, 12))
        if not mended:
            for plane, before in zip(frames[12].planes, frames[10].planes, strict=True):
                np.testing.assert_array_equal(plane, before)
        assert reader.damaged == 2
        assert "the first at 0.44 s" in reader.notes[0]


def test_a_damaged_beginning_shows_the_first_whole_picture(clip: Callable[..., Path]) -> None:
    path = clip("clip.mov", "mjpeg", "yuvj420p")
    spoil(path, [0, 1, 2])
    frames, reader = read(path)
    assert [frame.time for frame in frames] == [Fraction(index, RATE) for index in range(FRAMES)]
    for frame in frames[:3]:
        np.testing.assert_array_equal(frame.planes[0], frames[3].planes[0])
    assert reader.damaged == 3


def test_pictures_without_time_stamps(clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg("-i", clip("clip.mov", "mjpeg", "yuvj420p"), "-c", "copy", tmp_path / "clip.mjpeg")
    path = tmp_path / "clip.mjpeg"
    data, mark = bytearray(path.read_bytes()), b"\xff\xc0"  # a kind of picture that no decoder has
    for place in (data.find(mark), data.find(mark, len(data) // 2)):
        data[place : place + 2] = b"\xff\xcf"
    path.write_bytes(data)
    frames, reader = read(path)
    assert len(frames) == FRAMES
    assert reader.damaged == 2


def test_pictures_that_are_meant_to_repeat_are_not_damaged(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    """Theora says "the same again" with an empty packet."""
    path = tmp_path / "still.ogv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25", "-c:v", "libtheora", "-q:v", "9", "-frames:v", "12", path)
    with av.open(str(path)) as container:
        empty = sum(packet.pts is not None and not packet.size for packet in container.demux(video=0))
    assert empty > 0
    frames, reader = read(path)
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(len(frames))]
    assert len(frames) > empty
    assert (reader.damaged, reader.notes) == (0, [])


@pytest.mark.parametrize("codec", ["eac3", "ac3"])
def test_damaged_sound_does_not_end_a_run(
    codec: str, make_clip: Callable[..., Path], ffprobe: Callable[..., dict], tmp_path: Path
) -> None:
    """MP4 looks into these packets while it is written, and one that it refuses is the end of the file."""
    path = make_clip(tmp_path / "in.mkv", frames=24, audio=[codec])
    with av.open(str(path)) as container:
        known = [(packet.pos, bytes(packet)) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in (5, 6, 15):
        position, content = known[number]
        place = data.find(content, position)
        data[place : place + len(content)] = bytes(len(content))
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader)
        info = reader.info
    with VideoWriter(
        tmp_path / "out.mp4",
        width=info.width,
        height=info.height,
        rate=info.average_rate,
        time_base=info.time_base,
        pix_fmt=info.pix_fmt,
        colour=info.colour,
        encoder=EncoderOptions(preset="ultrafast"),
        carry_from=path,
    ) as writer:
        for frame in frames:
            writer.write(frame)
    assert "audio stream 1: 3 packets are damaged and left out" in writer.notes
    packets = ffprobe(tmp_path / "out.mp4", "-select_streams", "a", "-count_packets")["streams"][0]
    assert int(packets["nb_read_packets"]) == len(known) - 3


def test_nothing_but_damage_is_an_error(clip: Callable[..., Path]) -> None:
    for name, codec, share in (("a.mp4", "libx264", 0.6), ("b.mp4", "libx264", 1.0), ("c.mov", "mjpeg", 1.0)):
        path = clip(name, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", g="1")
        spoil(path, list(range(FRAMES)), share)
        with pytest.raises(InputError, match="decoded") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_lost_packets_of_a_transport_stream_are_counted(
    clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    ffmpeg("-i", clip("clip.mp4", "libx264"), "-c", "copy", tmp_path / "clip.ts")
    path = tmp_path / "clip.ts"
    data = path.read_bytes()
    whole, _ = read(path)
    cells = [data[place : place + 188] for place in range(0, len(data), 188)]
    middle = len(cells) // 2
    continuing = next(k for k in range(middle, len(cells)) if not cells[k][1] & 0x40)  # begins no picture
    path.write_bytes(b"".join(cells[:continuing] + cells[continuing + 1 :]))
    frames, reader = read(path)
    assert [frame.time for frame in frames] == [frame.time for frame in whole]
    assert reader.damaged >= 1


def test_an_excerpt_counts_its_own_damage_only(clip: Callable[..., Path]) -> None:
    path = clip("clip.mov", "mjpeg", "yuvj420p")
    spoil(path, [3, 30, 31])
    for first, last, damaged in ((0, 25, 1), (13, 25, 0), (13, None, 2)):
        with VideoReader(path, Fraction(first, RATE), None if last is None else Fraction(last, RATE)) as reader:
            assert len(list(reader)) == (last or FRAMES) - first
        assert reader.damaged == damaged
        assert len(reader.notes) == bool(damaged)


def test_one_damaged_time_stamp_moves_one_picture(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    with VideoReader(make_clip(tmp_path / "clip.mp4", frames=2, rate=10)) as reader:
        tick = int(Fraction(1, 10) / reader.info.time_base)
        pictures = []
        for number in (0, 1, 900, 3, 4, -700, 6, 7, 90, 91):  # 90: a pause, since time goes on from there
            pictures.append(av.VideoFrame(64, 48, "yuv420p"))
            pictures[-1].pts = number * tick
        reader._pictures = reader._decoding._stamps.ascending(pictures)
        frames = list(reader)
    assert [frame.time * 10 for frame in frames] == [0, 1, 2, 3, 4, 5, 6, 7, 90, 91]
    assert reader.damaged == 2


def picture(pts: int) -> av.VideoFrame:
    made = av.VideoFrame(16, 16, "yuv420p")
    made.pts = pts
    return made


def test_packets_that_show_nothing_of_their_own_are_not_missed() -> None:
    """A second field or a hidden reference lies nearer to a shown picture than pictures lie to each other."""
    promises = Promises(Fraction(25), Fraction(1, 1000))
    lost = []
    for base in range(0, 400, 40):
        for pts in (base, base + 1, base + 20):
            packet = av.Packet(1)
            packet.pts = pts
            promises.sent(packet)
        if base not in (200, 240):
            lost += [item for item in promises.shown(picture(base)) if isinstance(item, Lost)]
    assert [round(item.pts or 0, -1) for item in lost] == [200, 240]
    assert list(promises.rest()) == []


def test_a_container_that_fails_for_good_is_left() -> None:
    class Failing:
        def __init__(self, failures: int) -> None:
            self.failures = failures

        def demux(self, streams: object) -> object:
            self.failures -= 1
            if self.failures >= 0:
                raise av.error.InvalidDataError(1, "damaged")
            yield "packet"

    places: list[str] = []
    assert list(demuxed(Failing(3), (), places.append)) == ["packet"]  # type: ignore[arg-type]
    assert len(places) == 1
    with pytest.raises(av.error.InvalidDataError):
        list(demuxed(Failing(10**6), ()))  # type: ignore[arg-type]


def test_the_whole_tool_goes_on_over_damage(
    clip: Callable[..., Path], ffprobe: Callable[..., dict], tmp_path: Path
) -> None:
    from test_upsample import make_model, run

    path = clip("in.mp4", "libx264")
    spoil(path, [11])
    summary = run(path, make_model(tmp_path / "model.safetensors"), factor=2)
    assert (summary.frames_in, summary.frames_out) == (FRAMES, 2 * FRAMES)
    assert any("damaged" in note for note in summary.notes)
    for output in summary.outputs:
        assert float(ffprobe(output)["streams"][0]["duration"]) == FRAMES / RATE
