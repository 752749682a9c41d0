"""Palettes: colours are met exactly, everything else goes to the nearest class, whatever shape and type it comes in."""

from __future__ import annotations

import numpy as np
import pytest

from vidtrans.errors import UsageError
from vidtrans.palettes import CITYSCAPES, PALETTES, STREET, Palette, palette_named

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
