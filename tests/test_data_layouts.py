"""The data sets' readers on small trees in their exact layouts, lists and splits of them, and training from both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vidtrans.errors import InputError, UsageError
from vidtrans.palettes import CITYSCAPES, CITYSCAPES_VOID, PALETTES, SYNTHIA, VIPER, Palette
from vidtrans.train.data import open_frames
from vidtrans.train.data.footage import Footage, Images, Stretch
from vidtrans.train.data.labels import NUMBERS, read_label
from vidtrans.train.data.layouts import READERS, find_footage, parse_source
from vidtrans.train.data.lists import read_list, write_list
from vidtrans.train.data.splits import clips_of, split_by_time
from vidtrans.train.loop import Run
from vidtrans.train.recipe import DataOptions, DomainData, parse_recipe

SIZE = (40, 36)
# Class numbers of a test picture: three vertical bands, and what the colours of each numbering are for them.
BANDS = np.repeat(np.arange(4), 10)[None].repeat(36, 0)


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        assert cv2.imwrite(str(path), pixels[..., ::-1])  # OpenCV's channels are blue, green, red
    else:
        Image.fromarray(pixels).save(path)
    return path


def photo(path: Path, shade: int = 100) -> Path:
    return saved(path, np.full((36, 40, 3), shade, dtype=np.uint8))


def numbered(path: Path, numbers: tuple[int, int, int, int]) -> Path:
    return saved(path, np.asarray(numbers, dtype=np.uint8)[BANDS])


def shots(text: str, is_label: bool = False) -> list[list[str]]:
    """Names of the files of each sequence."""
    footage = find_footage(parse_source(text), is_label)
    return [[path.name for path in shot.paths] for shot in footage.sequences if isinstance(shot, Images)]


def label_bands(text: str, palette: Palette, index: int = 0) -> list[tuple[int, ...]]:
    """The colours of the four bands of one label frame, from left to right."""
    row = DomainData("labels", text, "label", palette)
    frame = open_frames(row, 0, DataOptions(size=SIZE), Path("nowhere"), print)[0].batch([index])[0]
    return [tuple(frame[18, 5 + 10 * band].tolist()) for band in range(4)]


# Data sets


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cityscapes")
    for city, sequence, frame in (("aachen", 0, 19), ("aachen", 1, 19), ("bochum", 0, 313), ("bochum", 0, 885)):
        stem = f"{city}_{sequence:06}_{frame:06}"
        photo(root / f"leftImg8bit/train/{city}/{stem}_leftImg8bit.png")
        folder = root / f"gtFine/train/{city}"
        # road, car, licence plate (-1), rectification border
        numbered(folder / f"{stem}_gtFine_labelIds.png", (7, 26, 255, 2))
        numbered(folder / f"{stem}_gtFine_labelTrainIds.png", (0, 13, 255, 255))
        numbered(folder / f"{stem}_gtFine_instanceIds.png", (7, 26, 0, 2))
        colours = np.asarray(((128, 64, 128), (0, 0, 142), (0, 0, 142), (0, 0, 0)), dtype=np.uint8)
        saved(folder / f"{stem}_gtFine_color.png", colours[BANDS])
        (folder / f"{stem}_gtFine_polygons.json").write_text("{}")
    photo(root / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png")
    for frame in (0, 1, 2, 3, 4, 7, 8):
        photo(root / f"leftImg8bit_sequence/train/aachen/aachen_000000_{frame:06}_leftImg8bit.png")
    photo(root / "leftImg8bit_sequence/train/aachen/aachen_000001_000005_leftImg8bit.png")
    for frame in (1, 2, 3):
        photo(root / f"leftImg8bit/demoVideo/stuttgart_02/stuttgart_02_000000_{5100 + frame:06}_leftImg8bit.png")
    return root


def test_cityscapes_pictures_and_sequences(cityscapes: Path) -> None:
    assert [len(shot) for shot in shots(f"cityscapes:{cityscapes}")] == [1, 1, 1, 1]
    assert shots(str(cityscapes)) == shots(f"cityscapes:{cityscapes}?part=train")  # recognised
    assert shots(f"cityscapes:{cityscapes}?part=val") == [["lindau_000000_000019_leftImg8bit.png"]]
    assert len(shots(f"cityscapes:{cityscapes}?part=train,val")) == 5
    assert [len(shot) for shot in shots(f"cityscapes:{cityscapes}?part=demoVideo")] == [3]
    assert len(shots(f"cityscapes:{cityscapes}?part=all")) == 6
    assert len(shots(f"cityscapes:{cityscapes}?city=bochum&limit=1")) == 1
    sequences = shots(f"cityscapes:{cityscapes}?sequence=yes")
    assert [len(shot) for shot in sequences] == [5, 2, 1]
    assert sequences[1][0] == "aachen_000000_000007_leftImg8bit.png"


def test_cityscapes_labels_of_all_three_kinds(cityscapes: Path) -> None:
    road, car, black = (128, 64, 128), (0, 0, 142), (0, 0, 0)
    for kind in ("color", "ids"):  # the same classes, so the same colours
        assert label_bands(f"cityscapes:{cityscapes}?labels={kind}", CITYSCAPES, 2) == [road, car, car, black]
    assert label_bands(f"cityscapes:{cityscapes}?labels=trainids", CITYSCAPES_VOID) == [road, car, black, black]
    assert all("_color" in name for shot in shots(str(cityscapes), is_label=True) for name in shot)
    assert NUMBERS["cityscapes-ids"][33] == CITYSCAPES.colours[18] == (119, 11, 32)


def test_synthia_seasons_and_views(tmp_path: Path) -> None:
    for season, count in (("WINTER", 3), ("SUMMER", 2)):
        for view in ("Omni_F", "Omni_B"):
            for side in ("Stereo_Left", "Stereo_Right"):
                for frame in range(count):
                    photo(tmp_path / f"SYNTHIA-SEQS-02-{season}/RGB/{side}/{view}/{frame:06}.png")
                    # The class in the red channel of 16 bits, an instance in the green one.
                    labels = np.zeros((36, 40, 3), dtype=np.uint16)
                    labels[..., 0] = np.asarray((0, 8, 15, 14), dtype=np.uint16)[BANDS]
                    labels[..., 1] = 700
                    saved(tmp_path / f"SYNTHIA-SEQS-02-{season}/GT/LABELS/{side}/{view}/{frame:06}.png", labels)
                    colours = np.asarray(SYNTHIA.colours, dtype=np.uint8)[np.asarray((0, 8, 13, 0))[BANDS]]
                    saved(tmp_path / f"SYNTHIA-SEQS-02-{season}/GT/COLOR/{side}/{view}/{frame:06}.png", colours)
    photo(tmp_path / "SYNTHIA-SEQS-04-WINTER/SYNTHIA-SEQS-04-WINTER/RGB/Stereo_Left/Omni_F/000000.png")
    assert [len(shot) for shot in shots(f"synthia:{tmp_path}?season=winter")] == [3, 1]
    assert [len(shot) for shot in shots(f"{tmp_path}")] == [2, 3, 1]
    assert [len(shot) for shot in shots(f"synthia:{tmp_path / 'SYNTHIA-SEQS-02-SUMMER'}")] == [2]
    several = f"synthia:{tmp_path}?season=winter&sequence=02&views=Omni_F,Stereo_Right/Omni_B"
    assert [len(shot) for shot in shots(several)] == [3, 3]
    assert [len(shot) for shot in shots(f"{several}&limit=4")] == [3, 1]
    found = find_footage(parse_source(several), False)
    assert {path.parent.name + "/" + path.parent.parent.name for path in found.files()} == {
        "Omni_F/Stereo_Left",
        "Omni_B/Stereo_Right",
    }
    want = [SYNTHIA.colours[0], SYNTHIA.colours[8], SYNTHIA.colours[13], (0, 0, 0)]
    for kind in ("ids", "color"):
        assert label_bands(f"synthia:{tmp_path}?season=winter&sequence=02&labels={kind}", SYNTHIA) == want


def test_viper_and_gta(tmp_path: Path) -> None:
    for part, sequence, frames in (("train", "001", (1, 2, 3, 4)), ("train", "002", (1, 2)), ("val", "005", (1, 2, 3))):
        for frame in frames:
            photo(tmp_path / f"viper/{part}/img/{sequence}/{sequence}_{frame:05}.jpg")
    for frame in (10, 20, 30, 50):
        numbered(tmp_path / f"viper/train/cls/001/001_{frame:05}.png", (3, 24, 29, 0))  # road, car, train, unlabelled
    assert [len(shot) for shot in shots(str(tmp_path / "viper"))] == [4, 2]
    assert [len(shot) for shot in shots(f"viper:{tmp_path / 'viper'}?part=val")] == [3]
    assert [len(shot) for shot in shots(f"viper:{tmp_path / 'viper'}?part=all&sequence=002,005")] == [2, 3]
    assert [len(shot) for shot in shots(str(tmp_path / "viper"), is_label=True)] == [3, 1]  # every tenth frame
    road, car, train = VIPER.colours[1], VIPER.colours[VIPER.index("car")], (0, 80, 100)
    assert label_bands(str(tmp_path / "viper"), VIPER) == [road, car, train, (0, 0, 0)]

    for frame in (1, 2):
        photo(tmp_path / f"gta/images/{frame:05}.png")
        # A colour table of Cityscapes' colours in the file.
        image = Image.fromarray(np.asarray((7, 26, 0, 23), dtype=np.uint8)[BANDS])
        image.putpalette([part for k in range(34) for part in NUMBERS["cityscapes-ids"][k]])
        (tmp_path / "gta/labels").mkdir(exist_ok=True)
        image.save(tmp_path / f"gta/labels/{frame:05}.png")
    assert shots(str(tmp_path / "gta")) == [["00001.png"], ["00002.png"]]
    assert label_bands(str(tmp_path / "gta"), CITYSCAPES) == [(128, 64, 128), (0, 0, 142), (0, 0, 0), (70, 130, 180)]


def test_label_images_of_every_kind_with_any_palette(tmp_path: Path) -> None:
    own = Palette("own", ("a", "b", "c"), ((9, 8, 7), (200, 0, 0), (0, 0, 0)))
    values = np.asarray((0, 1, 2, 255), dtype=np.uint8)[BANDS]
    want = [(9, 8, 7), (200, 0, 0), (0, 0, 0), (0, 0, 0)]
    saved(tmp_path / "l1.png", values)
    saved(tmp_path / "l2.png", values.astype(np.uint16))
    saved(tmp_path / "l3.png", np.asarray(want, dtype=np.uint8)[BANDS])
    with Image.open(tmp_path / "l3.png") as coloured:
        coloured.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "l4.png")
    assert own.void not in (None, *own.colours)  # black is a class here, so a number without one gets another colour
    for index in range(4):
        assert label_bands(str(tmp_path), own, index) == [*want[:3], own.void if index < 2 else want[3]]
    two = Palette("two", ("off", "on"), ((1, 1, 1), (2, 2, 2)))
    mask = tmp_path / "mask.png"
    Image.fromarray(values == 1).save(mask)
    assert [tuple(read_label(mask, two)[0][0, x]) for x in (5, 15)] == [(1, 1, 1), (2, 2, 2)]


def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, cityscapes: Path) -> None:
    with pytest.raises(UsageError, match="labels must be one of color, ids, trainids"):
        shots(f"cityscapes:{cityscapes}?labels=colour", is_label=True)
    with pytest.raises(UsageError, match="did you mean 'part'"):
        shots(f"cityscapes:{cityscapes}?parts=val")
    with pytest.raises(UsageError, match="whole number"):
        shots(f"cityscapes:{cityscapes}?limit=many")
    with pytest.raises(InputError, match=r"leftImg8bit/test is not there; cityscapes expects it below"):
        shots(f"cityscapes:{cityscapes}?part=test")
    with pytest.raises(InputError, match="is not there"):
        shots(f"viper:{cityscapes}")
    with pytest.raises(UsageError, match=r"neither a folder nor one of images:PATH"):
        shots("citiscapes:nowhere")
    photo(tmp_path / "a" / "1.png")
    with pytest.raises(InputError, match="no pictures found"):
        shots(f"synthia:{tmp_path}")
    (tmp_path / "a" / "b.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="both images and videos"):
        shots(str(tmp_path))
    assert shots(f"images:{tmp_path}") == [["1.png"]]


# Lists and splits


def footage(*lengths: int) -> Footage:
    paths = iter(Path(f"/data/set/{k}.png") for k in range(sum(lengths)))
    return Footage("images", tuple(Images(tuple(next(paths) for _ in range(length))) for length in lengths))


def test_the_tail_is_held_back_and_no_clip_crosses_a_border() -> None:
    train, test = split_by_time(footage(2900), 300 / 2900, 9)
    assert (len(train), len(test)) == (2600, 300)
    clips = clips_of(test, 9)
    assert [len(shot) for shot in clips.sequences] == [9] * 33
    assert clips.files() == test.files()[:297]
    for lengths, share, want in (
        ((10, 10, 10), 0.5, ([10], [10, 10])),  # too short to cut
        ((30, 30), 0.25, ([30, 15], [15])),
        ((30, 30), 0.15, ([30, 21], [9])),
        ((30, 40), 0.1, ([30, 31], [9])),
        ((1,) * 10, 0.2, ([1] * 8, [1] * 2)),
    ):
        parts = split_by_time(footage(*lengths), share, 9)
        assert tuple([len(shot) for shot in part.sequences] for part in parts) == want
        assert parts[0].files() + parts[1].files() == footage(*lengths).files()
    assert [len(shot) for shot in clips_of(footage(20, 8, 9), 9).sequences] == [9, 9, 9]
    for lengths, share in (((5,), 0.5), ((20,), 0.0), ((20,), 0.99)):
        with pytest.raises(UsageError, match="test_share"):
            split_by_time(footage(*lengths), share, 9)


def test_lists_are_read_back(tmp_path: Path) -> None:
    odd = "päth #1 ,x.png"
    shots = (
        Images((tmp_path / "a" / "1.png", tmp_path / "a" / odd)),
        Stretch(tmp_path / "b" / "drive.MP4", 5, 70),
        Images((tmp_path / "c.png",)),
    )
    listed = Footage("cityscapes", shots, "cityscapes-trainids")
    write_list(tmp_path / "lists" / "scene.txt", listed)
    assert read_list(tmp_path / "lists" / "scene.txt") == listed
    assert find_footage(parse_source(f"list:{tmp_path / 'lists' / 'scene.txt'}?limit=3"), True) == listed.first(3)
    text = (tmp_path / "lists" / "scene.txt").read_text()
    assert f"\na/1.png\na/{odd}\n\nb/drive.MP4#5:70\n\nc.png\n" in text
    # Moved with its files: one word to change.
    (tmp_path / "lists" / "scene.txt").write_text(text.replace(f'"{tmp_path}"', '".."'))
    assert [path.resolve() for path in read_list(tmp_path / "lists" / "scene.txt").files()] == listed.files()
    for bad in ("", "1.png\n", '# {"format": "other"}\n', text.replace("5:70", "7:7")):
        (tmp_path / "bad.txt").write_text(bad)
        with pytest.raises(InputError, match="not a list of frames"):
            read_list(tmp_path / "bad.txt")
    with pytest.raises(InputError, match="line break"):
        write_list(tmp_path / "bad.txt", Footage("images", (Images((tmp_path / "a\nb.png",)),)))


def recipe_of(root: Path, **data: Any) -> Any:
    rows = [{"name": name, "data": str(root / name)} for name in ("winter", "summer")]
    train = {"batch": 2, "constant": 3, "decay": 1, "unit": "steps", "log_every": 1, "sample_every": 9}
    loss = {"discriminator": "coordinates", "discriminator_width": 4, "latent_discriminator_width": 8}
    net = {"width": 4, "latent_channels": 6, "blocks": 1}
    data = {"size": list(SIZE), **data}
    return parse_recipe({"domains": rows, "net": net, "loss": loss, "train": train, "data": data})


def test_a_run_with_a_broken_file_and_new_files_resumes_exactly(tmp_path: Path) -> None:
    for number in range(12):
        photo(tmp_path / f"winter/{number}.png", 20 * number)
        photo(tmp_path / f"summer/{number}.png", 250 - 20 * number)
    for number in (1, 4, 7):
        (tmp_path / f"winter/{number}.png").write_bytes(b"broken")
    recipe = recipe_of(tmp_path, test_share=0.25, test_clip=3)
    lines: list[str] = []
    Run(recipe, tmp_path / "whole", report=lines.append).advance()
    assert len(lines) == len(set(lines)) > 0
    Run(recipe, tmp_path / "cut").advance(2)
    photo(tmp_path / "winter/00.png")  # a new file, first of all, changes nothing for a run that goes on
    resumed = Run(recipe, tmp_path / "cut")
    resumed.resume()
    resumed.advance()
    whole = Run(recipe, tmp_path / "whole")
    whole.resume()
    for key, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[key]), key
    names = {
        part: [path.name for path in read_list(tmp_path / f"cut/data/winter.{part}.txt").files()]
        for part in ("train", "test", "test-clips")
    }
    assert names["train"] == [f"{k}.png" for k in range(9)]
    assert names["test"] == names["test-clips"] == ["9.png", "10.png", "11.png"]
    for run in (whole, resumed):
        held_back = [run.held_back[0].name(index) for index in range(len(run.held_back[0]))]
        assert [Path(name).name for name in held_back] == names["test"]
    with pytest.raises(InputError, match=r"winter/[147]\.png"):
        Run(recipe_of(tmp_path, strict=True), tmp_path / "strict").advance()


def test_a_broken_video_is_left_out_or_fatal(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    make_clip(tmp_path / "a.mp4", frames=3)
    (tmp_path / "b.mp4").write_bytes(b"not a video")
    row, lines = DomainData("winter", str(tmp_path)), []
    frames, held_back = open_frames(row, 0, DataOptions(size=SIZE), tmp_path, lines.append)
    assert (len(frames), len(held_back)) == (3, 0)
    assert len(lines) == 1
    assert "b.mp4" in lines[0]
    with pytest.raises(InputError, match=r"winter: .*b\.mp4"):
        open_frames(row, 0, DataOptions(size=SIZE, strict=True), tmp_path, lines.append)


def test_every_data_set_has_its_palette() -> None:
    assert {reader.palette for reader in READERS.values()} - {None} <= set(PALETTES)


def test_the_document_names_every_reader_option_palette_and_key() -> None:
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for name, reader in READERS.items():
        assert all(f"{option}=" in rows[name] for option in reader.options), name
    assert all(f"`{name}`" in page for name in PALETTES)
    assert all(f"`{key.name}`" in page or f"data.{key.name}" in page for key in fields(DataOptions))
