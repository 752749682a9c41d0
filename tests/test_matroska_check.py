"""Damage in Matroska that neither its demuxer nor the decoder notices is said."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vidtrans.video.matroska_check import damaged_parts
from vidtrans.video.reader import VideoReader

FRAMES, RATE = 50, 25


@pytest.fixture
def clip(make_clip: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """Two seconds in clusters of half a second; .mkv with checksums, .webm without."""

    def make(suffix: str) -> Path:
        return make_clip(
            tmp_path / f"clip{suffix}",
            frames=FRAMES,
            rate=RATE,
            codec="libvpx-vp9",
            audio=["libopus"],
            options={"deadline": "realtime", "cpu-used": "8", "g": "25"},
            container_options={"cluster_time_limit": "500"},
        )

    return make


def block(path: Path, number: int) -> tuple[int, int]:
    """Where a picture's data begins in the file, and where it ends."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        content, position = bytes(packet), packet.pos
    begin = path.read_bytes().find(content, position)
    return begin, begin + len(content)


def change(path: Path, place: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    assert data[place] != value
    data[place] = value
    path.write_bytes(data)


def read(path: Path, start: Fraction = Fraction(0)) -> tuple[int, list[str]]:
    with VideoReader(path, start) as reader:
        return len(list(reader)), [note for note in reader.notes if "damaged" in note]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_whole_files_are_whole(suffix: str, clip: Callable[[str], Path]) -> None:
    path = clip(suffix)
    assert damaged_parts(path) == []
    assert read(path) == (FRAMES, [])


def test_noise_that_decodes_is_found_by_the_checksum(clip: Callable[[str], Path]) -> None:
    path = clip(".mkv")
    _, end = block(path, 30)
    change(path, end - 1, path.read_bytes()[end - 1] ^ 0xFF)
    (place,) = damaged_parts(path)
    assert 0 < place <= Fraction(30, RATE)
    count, notes = read(path)
    assert count == FRAMES
    assert any("1 of its parts are damaged" in note for note in notes)
    assert read(path, Fraction(48, RATE)) == (2, [])  # an excerpt behind it has nothing to do with it


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_picture_whose_block_is_passed_over_is_missed(suffix: str, clip: Callable[[str], Path]) -> None:
    path = clip(suffix)
    begin, _ = block(path, 30)
    change(path, begin - 4, 0x85)  # a track that there is not
    count, notes = read(path)
    assert count < FRAMES
    assert any("parts are damaged" in note for note in notes)
