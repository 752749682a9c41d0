"""Training frames: sequences and clips, files and rendered streets, and what happens where something is broken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vidtrans.errors import InputError, UsageError
from vidtrans.train.data import FileFrames, Frames, Part, StreetFrames, StreetOnTheFly, street_frames, street_hash
from vidtrans.train.data.footage import Footage, Images, Stretch, shots_of
from vidtrans.train.data.rendered import Drives
from vidtrans.train.data.videos import OpenVideos
from vidtrans.train.recipe import load_recipe


class Numbered(Frames):
    """Frames whose pixels are their own index; those in `bad` cannot be read."""

    def __init__(self, lengths: Sequence[int], bad: Sequence[int] = (), strict: bool = False) -> None:
        self.lines: list[str] = []
        self.reads: list[int] = []
        super().__init__(lengths, strict=strict, report=self.lines.append)
        self.bad = bad

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        assert list(indices) == sorted(set(indices))
        self.reads += indices
        return [InputError(f"{i} is bad") if i in self.bad else torch.full((1, 1, 3), i).byte() for i in indices]

    def name(self, index: int) -> str:
        return f"frame {index}"


def numbers(clips: Tensor) -> list[list[int]]:
    return clips[..., 0, 0, 0].tolist()


# Sequences and clips


def test_clips_start_wherever_they_stay_inside_their_sequence() -> None:
    frames = Numbered((3, 1, 5))
    assert len(frames) == 9
    assert frames.starts((0,)).tolist() == list(range(9))
    assert frames.starts((0, 1)).tolist() == [0, 1, 4, 5, 6, 7]
    assert frames.starts((0, 2, 4)).tolist() == [4]
    assert [frames.locate(index) for index in (0, 2, 3, 4, 8)] == [(0, 0), (0, 2), (1, 0), (2, 0), (2, 4)]
    clips = frames.clips([5, 0, 5], (0, 2))
    assert clips.shape == (3, 2, 1, 1, 3)
    assert numbers(clips) == [[5, 7], [0, 2], [5, 7]]
    assert sorted(frames.reads) == [0, 2, 5, 7]  # each once
    assert frames.batch([8, 0])[:, 0, 0, 0].tolist() == [8, 0]
    with pytest.raises(ValueError, match="leaves its sequence"):
        frames.clips([2], (0, 1))
    with pytest.raises(UsageError, match="longest has 5"):
        frames.starts((0, 5))
    for offsets in ((1, 2), (0, 2, 2)):
        with pytest.raises(UsageError, match="ascend"):
            frames.starts(offsets)


def test_a_part_is_sequences_of_its_own() -> None:
    part = Part(Numbered((6, 4)), [(1, 4), (6, 9)])
    assert part.batch(range(6))[:, 0, 0, 0].tolist() == [1, 2, 3, 6, 7, 8]
    assert part.starts((0, 1)).tolist() == [0, 1, 3, 4]
    assert numbers(part.clips([3], (0, 1, 2))) == [[6, 7, 8]]
    assert part.name(5) == "frame 8"


def test_what_cannot_be_read_is_replaced_by_what_follows_whoever_asks() -> None:
    frames = Numbered((4, 3), bad=(2, 6))
    assert numbers(frames.clips([0, 1, 4, 5], (0, 1))) == [[0, 1], [4, 5], [4, 5], [0, 1]]
    assert frames.batch([2, 6, 1])[:, 0, 0, 0].tolist() == [3, 0, 1]
    assert len(frames.lines) == len(frames.broken) == 2  # named once each
    # Drawn alone, in another order, or by a run that has met nothing broken yet: the same.
    for index, want in ((6, 0), (2, 3), (1, 1)):
        assert Numbered((4, 3), bad=(2, 6)).batch([index])[0, 0, 0, 0] == want
    with pytest.raises(InputError, match="2 is bad"):
        Numbered((4, 3), bad=(2,), strict=True).batch([2])
    with pytest.raises(InputError, match="nothing can be read"):
        Numbered((2,), bad=(0, 1)).batch([0])


# Rendered streets

DRIVES = Drives("segmentation", 1_000_000, 3, 2, (20, 16))
CLIPS = replace(DRIVES, clip=2, spacing=0.5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streets")


def test_the_caches_of_earlier_runs_are_still_found() -> None:
    data = load_recipe("street").data
    width, height = data.size
    old = (
        street_hash(),
        "scene",
        data.street_seed,
        data.street_frames_per_seed,
        (data.street_frames, height, width, 3),
    )
    drives = Drives("scene", data.street_seed, data.street_frames, data.street_frames_per_seed, data.size)
    assert drives.key == hashlib.sha256(repr(old).encode()).hexdigest()[:16]
    keys = {replace(drives, clip=clip, spacing=spacing).key for clip in (1, 2) for spacing in (0.1, 0.2)}
    assert len(keys) == 3


def test_street_clips_begin_with_the_frames_of_the_single_form(cache: Path) -> None:
    single, clips = StreetFrames(DRIVES, cache), StreetFrames(CLIPS, cache)
    assert (single.lengths.tolist(), clips.lengths.tolist()) == ([1] * 3, [2] * 3)
    assert clips.starts((0, 1)).tolist() == [0, 2, 4]
    assert torch.equal(clips.batch([0, 2, 4]), single.batch(range(3)))
    assert np.array_equal(single.batch([2]).numpy(), street_frames("segmentation", 1_000_001, 1, 20, 16))
    first, second = clips.clips([0], (0, 1))[0]
    assert not torch.equal(first, second)


def test_streets_rendered_on_the_fly_are_those_of_the_cache(cache: Path) -> None:
    kept, made = StreetFrames(CLIPS, cache), StreetOnTheFly(CLIPS)
    assert torch.equal(made.clips([4, 0, 0], (0, 1)), kept.clips([4, 0, 0], (0, 1)))
    assert made.name(5) == kept.name(5) == "street 1000001"
    with pytest.raises(UsageError, match="segmentation"):
        StreetOnTheFly(replace(CLIPS, name="segmentaton"))


# Files


def picture(path: Path, shade: int, size: tuple[int, int] = (40, 36)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)
    return path


def test_numbered_images_are_a_sequence_until_a_number_is_missing() -> None:
    def shots(*names: str) -> list[list[str]]:
        return [[path.name for path in shot.paths] for shot in shots_of(map(Path, names))]

    assert shots("f9.png", "f10.png", "f8.png") == [["f8.png", "f9.png", "f10.png"]]
    assert shots("f1.png", "f2.png", "f4.png", "f5.png") == [["f1.png", "f2.png"], ["f4.png", "f5.png"]]
    assert shots("s_05.png", "s_15.png", "s_25.png", "s_45.png") == [["s_05.png", "s_15.png", "s_25.png"], ["s_45.png"]]
    assert shots("a1.png", "b2.png", "c.png") == [["a1.png"], ["b2.png"], ["c.png"]]
    assert shots("IMG_100.jpg", "IMG_250.jpg", "IMG_900.jpg") == [["IMG_100.jpg"], ["IMG_250.jpg"], ["IMG_900.jpg"]]


def test_a_few_videos_of_many_stay_open(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    paths = [make_clip(tmp_path / f"{name}.mp4", frames=3) for name in "abc"]
    videos = OpenVideos(most=2)
    for path in (*paths, paths[0]):
        assert [frame.shape for frame in videos.frames(path, [0, 2])] == [(48, 64, 3)] * 2
        assert len(videos) <= 2


@pytest.mark.parametrize("decord_is_there", [True, False])
def test_clips_of_videos(
    tmp_path: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, decord_is_there: bool
) -> None:
    if decord_is_there:
        pytest.importorskip("decord")
    else:
        monkeypatch.setitem(__import__("sys").modules, "decord", None)
    clip = make_clip(tmp_path / "a.mp4", frames=9, options={"g": "4"})
    frames = FileFrames(Footage("videos", (Stretch(clip, 0, 4), Stretch(clip, 4, 9))), (64, 48))
    singles = frames.batch(range(9))
    assert len({row.tobytes() for row in singles.numpy()}) == 9
    assert frames.starts((0, 3)).tolist() == [0, 4, 5]
    assert torch.equal(frames.clips([5, 0], (0, 3)), singles[torch.tensor([[5, 8], [0, 3]])])


def test_a_damaged_file_is_skipped_and_named(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    paths = [picture(tmp_path / f"{k}.png", 40 * k) for k in range(4)]
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 2])
    lines: list[str] = []
    footage = Footage("images", (Images(tuple(paths)),))
    frames = FileFrames(footage, (40, 36), report=lines.append)
    assert frames.batch([0, 1, 2])[:, 0, 0, 0].tolist() == [0, 80, 80]
    assert frames.clips([0], (0, 1))[0, :, 0, 0, 0].tolist() == [80, 120]
    assert list(frames.broken) == [str(paths[1])]
    assert len(lines) == 1
    assert "1.png" in lines[0]
    with pytest.raises(InputError, match=r"1\.png"):
        FileFrames(footage, (40, 36), strict=True).batch([1])
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"not a video")
    mixed = FileFrames(Footage("list", (Stretch(broken, 0, 5), Images((paths[3],)))), (40, 36), report=lines.append)
    assert (mixed.batch([0, 3, 5]) == 120).all()
    assert list(mixed.broken) == [str(broken)]  # once, not for every frame
