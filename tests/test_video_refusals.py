"""What is no whole video is refused in one clear sentence, on opening or where the damage shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vidtrans.errors import InputError
from vidtrans.video.container_size import declared_size
from vidtrans.video.frame import Frame
from vidtrans.video.reader import VideoReader


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def refused(path: str | Path) -> str:
    """The one sentence with which a file is refused, on opening or while it is read."""

    def attempt() -> Iterator[Frame]:
        with VideoReader(path) as reader:
            yield from reader

    with pytest.raises(InputError) as caught:
        list(attempt())
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_a_video(make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.mp4")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refused(tmp_path / "empty.mp4")
    for name in ("noise.mp4", "noise.mkv", "noise.bin"):
        (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(5000))
        assert "not a video" in refused(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello " * 100)
    assert "not a video" in refused(tmp_path / "notes.txt")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.wav")
    assert "holds no video" in refused(tmp_path / "sound.wav")
    cover = make_clip(tmp_path / "cover.mkv", frames=1, codec="mjpeg", pix_fmt="yuvj420p", tags={"color_range": 2})
    ffmpeg(
        "-i",
        tmp_path / "sound.wav",
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-disposition:v",
        "attached_pic",
        tmp_path / "sound.mp3",
    )
    assert "only a cover picture" in refused(tmp_path / "sound.mp3")


def test_nothing_is_fetched(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    assert "only local files" in refused("http://127.0.0.1:9/clip.mp4")
    clip = make_clip(tmp_path / "a:b%03d c.mp4", frames=2)
    assert len(read(clip)) == 2
    assert len(read(Path(clip))) == len(list(VideoReader(clip.as_uri())))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "list.m3u8")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_file_that_may_not_be_read(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    clip.chmod(0)
    assert "permissions" in refused(clip)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("index_at_end.mp4", (), "bytes are missing"),
        ("index_in_front.mp4", ("-movflags", "faststart"), "bytes are missing"),
        ("fragments.mp4", ("-movflags", "frag_keyframe+empty_moov"), "bytes are missing"),
        ("clip.mkv", (), "bytes are missing"),
        ("clip.webm", (), "bytes are missing"),
        ("clip.avi", (), "bytes are missing"),
        ("clip.flv", (), "frames"),
    ],
)
def test_cut_off_files_are_refused(
    name: str,
    options: tuple[str, ...],
    expected: str,
    make_clip: Callable[..., Path],
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=60, options={"g": "12", "preset": "ultrafast"}, size=(96, 64))
    codec = (
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8") if name.endswith("webm") else ("-c", "copy")
    )
    ffmpeg("-i", clip, *codec, *options, tmp_path / name)
    whole = tmp_path / name
    assert len(read(whole)) == 60
    declared = declared_size(whole)
    assert declared is None or declared == whole.stat().st_size
    for share in (0.35, 0.6, 0.9):
        cut = tmp_path / f"cut_{name}"
        cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        message = refused(cut)
        assert expected in message
        assert "cut off" in message


def test_rubbish_behind_a_whole_file_does_no_harm(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    for extension in ("mp4", "mkv"):
        clip = make_clip(tmp_path / f"clip.{extension}", frames=5)
        with clip.open("ab") as file:
            file.write(b"\xff" * 100)
        assert len(read(clip)) == 5
