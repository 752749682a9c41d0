"""Label images to palette colours, whether they hold colours or class numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vidtrans.palettes import CITYSCAPES, SYNTHIA, VIPER, Palette

Colour = tuple[int, int, int]
VOID: Colour = (0, 0, 0)  # of pixels that have no class, in the data sets' own colours
NO_CLASS = 255  # the number that data sets give them


def _cityscapes_ids() -> dict[int, Colour]:
    """Class numbers of gtFine's labelIds files, and the colours that its color files have for them."""
    others = {
        **dict.fromkeys((0, 1, 2, 3, 4), VOID),
        5: (111, 74, 0),  # dynamic
        6: (81, 0, 81),  # ground
        9: (250, 170, 160),  # parking
        10: (230, 150, 140),  # rail track
        14: (180, 165, 180),  # guard rail
        15: (150, 100, 100),  # bridge
        16: (150, 120, 90),  # tunnel
        18: (153, 153, 153),  # pole group
        29: (0, 0, 90),  # caravan
        30: (0, 0, 110),  # trailer
        255: (0, 0, 142),  # licence plate, -1
    }
    evaluated = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    return {**others, **dict(zip(evaluated, CITYSCAPES.colours, strict=True))}


def _viper_ids() -> dict[int, Colour]:
    """Class numbers of VIPER's cls files (classes.csv of its toolkit)."""
    others = {
        0: VOID,
        1: (111, 74, 0),  # ambiguous
        5: (230, 150, 140),  # rail track
        21: (255, 0, 0),  # animal
        22: (119, 11, 32),  # bicycle
        28: (0, 0, 90),  # trailer
        29: (0, 80, 100),  # train, the van's colour
        30: (0, 100, 100),  # plane
        31: (50, 0, 90),  # boat
    }
    evaluated = (number for number in range(28) if number not in others)
    return {**others, **dict(zip(evaluated, VIPER.colours[:-1], strict=True))}


# Name of a numbering -> class number -> colour. Numbers that are not there have no class.
NUMBERS: dict[str, dict[int, Colour]] = {
    "cityscapes-ids": _cityscapes_ids(),
    "cityscapes-trainids": dict(enumerate(CITYSCAPES.colours)),
    "synthia": dict(zip((*range(13), 15), SYNTHIA.colours, strict=True)),
    "viper": _viper_ids(),
}

# Numberings whose files keep the class in the red channel of three, beside an instance.
_IN_RED = {"synthia"}
_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L")  # Pillow's words


def read_label(path: Path, palette: Palette, numbers: str = "palette") -> tuple[np.ndarray, np.ndarray | None]:
    """A label image as colours: its own if it is coloured, else those of its class numbers.

    Grey images hold class numbers, images with three channels or a colour table of their own hold colours.

    Args:
        palette: of the domain.
        numbers: what class numbers mean: a name in NUMBERS, or "palette", where number k is the palette's row k.
            A number without a class becomes the palette's void.

    Returns:
        (H, W, 3) uint8 colours, and the class numbers (H, W) if that is what the image holds.

    Raises:
        Exception: of many kinds: the image cannot be read.
    """
    if numbers in _IN_RED:
        import cv2  # Pillow has no images of three channels and 16 bits

        stored = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise ValueError("not an image")
        values = stored[..., 2] if stored.ndim == 3 else stored
    else:
        with Image.open(path) as image:
            if image.mode not in _GREY:
                return np.array(image.convert("RGB")), None
            values = np.asarray(image).astype(np.int64)  # of a mask: 0 and 1
    return colours_of(values, palette, numbers), values


def meaning_of(numbers: str, palette: Palette) -> dict[int, Colour]:
    """Class number -> colour."""
    return dict(enumerate(palette.colours)) if numbers == "palette" else NUMBERS[numbers]


def colours_of(values: np.ndarray, palette: Palette, numbers: str = "palette") -> np.ndarray:
    """Class numbers (H, W) of any whole type to colours (H, W, 3) uint8."""
    meaning = meaning_of(numbers, palette)
    table = np.full((256, 3), palette.void or VOID, dtype=np.uint8)
    table[list(meaning)] = list(meaning.values())
    return table[np.clip(values, 0, NO_CLASS)]


def colours_without_class(palette: Palette, numbers: str) -> list[Colour]:
    """Colours that label files of that numbering have for what the palette has no class for."""
    return sorted({VOID, *NUMBERS.get(numbers, {}).values()} - set(palette.colours))
