"""Palettes: colours are met exactly, everything else goes to the nearest class, whatever shape and type it comes in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from vidtrans.errors import InputError, UsageError
from vidtrans.nets.contract import Domain, domains_from_json, domains_to_json
from vidtrans.palette_files import load_palette, palette_from
from vidtrans.palettes import CITYSCAPES, PALETTES, STREET, Palette, palette_named
from vidtrans.train.recipe import parse_recipe

every_palette = pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)


@every_palette
def test_palette_colours_come_back_as_their_class(palette: Palette) -> None:
    classes = np.arange(len(palette), dtype=np.uint8)
    np.testing.assert_array_equal(palette.nearest(palette.array), classes)
    np.testing.assert_array_equal(palette.nearest(palette.colour(classes)), classes)
    np.testing.assert_array_equal(palette.colour(palette.nearest(palette.array)), palette.array)


@every_palette
def test_nearest_is_the_smallest_squared_distance_and_a_tie_goes_to_the_lower_class(palette: Palette) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (5000, 3), dtype=np.uint8)
    steps = rgb.astype(np.int64)[:, None] - palette.array.astype(np.int64)[None]
    np.testing.assert_array_equal(palette.nearest(rgb), (steps**2).sum(-1).argmin(1))


def test_a_tie_goes_to_the_lower_class() -> None:
    two = Palette("two", ("low", "high"), ((0, 0, 0), (2, 0, 0)))
    assert two.nearest(np.array([1, 0, 0], dtype=np.uint8)) == 0
    assert two.nearest(np.array([1, 255, 255], dtype=np.uint8)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float32, np.float64])
def test_any_real_type(dtype: type[np.generic]) -> None:
    np.testing.assert_array_equal(STREET.nearest(STREET.array.astype(dtype)), np.arange(len(STREET)))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (0, 3), (5, 0, 3), (2, 3, 5, 3)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    labels = STREET.nearest(np.zeros(shape, dtype=np.uint8))
    assert labels.shape == shape[:-1]
    assert labels.dtype == np.uint8


def test_views_and_channel_first_pictures_are_read_in_place() -> None:
    rgb = np.random.default_rng(4).integers(0, 256, (3, 6, 8), dtype=np.uint8)
    picture = rgb.transpose(1, 2, 0)[::-1, ::2]
    np.testing.assert_array_equal(STREET.nearest(picture), STREET.nearest(np.ascontiguousarray(picture)))


def test_small_noise_does_not_change_a_class() -> None:
    noise = np.random.default_rng(5).integers(-8, 9, (100, len(STREET), 3))
    noisy = np.clip(STREET.array.astype(np.int64) + noise, 0, 255)
    np.testing.assert_array_equal(STREET.nearest(noisy), np.tile(np.arange(len(STREET)), (100, 1)))


def test_street_is_a_part_of_cityscapes() -> None:
    for name, colour in zip(STREET.classes, STREET.colours, strict=True):
        assert CITYSCAPES.colours[CITYSCAPES.index(name)] == colour


def test_a_colour_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="distinct"):
        Palette("bad", ("a", "b"), ((1, 2, 3), (1, 2, 3)))
    with pytest.raises(ValueError, match="distinct"):
        Palette("bad", ("a", "b"), ((1, 2, 3),))


def test_an_unknown_palette_names_the_known_ones() -> None:
    assert palette_named("street") is STREET
    with pytest.raises(UsageError, match=r"did you mean 'street'.*cityscapes"):
        palette_named("streets")


# Palettes of the user's own

OWN = Palette("own", ("road", "wet road", "sky"), ((1, 2, 3), (4, 5, 6), (70, 80, 90)))
FILES = {
    "own.json": '{"road": [1, 2, 3], "wet road": [4, 5, 6], "sky": [70, 80, 90]}',
    "nested/own.json": '{"classes": {"road": [1, 2, 3], "wet road": [4, 5, 6], "sky": [70, 80, 90]}}',
    "list/own.json": '[{"name": "road", "color": [1, 2, 3]}, {"name": "wet road", "color": [4, 5, 6]}, '
    '{"name": "sky", "color": [70, 80, 90]}]',
    "own.csv": "id,classname,red,green,blue,eval\n0,road,1,2,3,1\n1,wet road,4,5,6,1\n2,sky,70,80,90,0\n",
    "own.tsv": "name\tr\tg\tb\nroad\t1\t2\t3\nwet road\t4\t5\t6\nsky\t70\t80\t90\n",
    "own.gpl": "GIMP Palette\nName: own\n# by hand\n  1   2   3\troad\n  4 5 6 wet road\n 70  80  90\tsky\n",
}


@pytest.mark.parametrize("name", FILES)
def test_palette_files_of_every_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(FILES[name])
    assert load_palette(path) == OWN
    assert palette_from(str(path)) == OWN


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "name,red,green,blue\nroad,1,2,3\npath,1,2,3\n", "road and path have the same colour"),
        ("a.csv", "name,red,green\nroad,1,2\n", "no column 'blue'"),
        ("a.csv", "id,name,red,green,blue\n7,road,1,2,3\n", "count 0, 1, 2"),
        ("a.csv", "name,red,green,blue\nroad,1,2\n", "not a palette"),
        ("a.json", '{"road": [1, 2, 300]}', "0 ... 255"),
        ("a.json", '{"road": [1, 2]}', "not a palette"),
        ("a.json", "{}", "from 1 to 256"),
        ("a.json", "[3]", "not a palette"),
        ("a.json", "{", "not a palette"),
        ("a.gpl", "\udcff", "not a palette"),
    ],
)
def test_what_is_no_palette_is_said_in_a_sentence(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=reason) as caught:
        load_palette(path)
    assert name in str(caught.value)


def test_a_palette_is_a_name_a_file_or_a_table() -> None:
    assert palette_from("street") == "street"
    assert palette_from(None) is None
    assert palette_from(asdict(OWN)) == palette_from(json.loads(json.dumps(asdict(OWN)))) == OWN
    with pytest.raises(UsageError, match="cityscapes"):
        palette_from("cityscape")
    with pytest.raises(UsageError, match="colours"):
        palette_from({"name": "x", "classes": ["a"]})


def test_a_palette_of_ones_own_is_part_of_the_model_and_the_recipe() -> None:
    domains = (Domain("scene"), Domain("labels", "label", OWN), Domain("street", "label", "street"))
    back = domains_from_json(json.loads(json.dumps(domains_to_json(domains))))
    assert back == domains
    assert back[1].colours == OWN
    assert back[2].colours is STREET
    rows = [{"name": "scene", "data": "a"}, {"name": "labels", "kind": "label", "palette": asdict(OWN), "data": "b"}]
    recipe = parse_recipe({"domains": rows})
    assert recipe.net_config().domains[1].colours == OWN
    assert parse_recipe(json.loads(json.dumps(recipe.to_json()))) == recipe
