"""Label palettes: which colour stands for which class, and the way back from a colour to its class.

Colours are those of the Cityscapes data set, in the order of its training ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vidtrans.errors import UsageError, nearest_names


@dataclass(frozen=True)
class Palette:
    """Named classes and their colours; class k is row k.

    Attributes:
        name: the palette's name, as a checkpoint stores it.
        classes: K class names.
        colours: K (red, green, blue) triples of 0 ... 255, all different.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.colours) or len(set(self.colours)) != len(self.colours):
            raise ValueError(f"palette {self.name!r}: one distinct colour for every class is needed")

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def array(self) -> np.ndarray:
        """Colours as (K, 3) uint8."""
        return np.asarray(self.colours, dtype=np.uint8)

    def index(self, name: str) -> int:
        """The class number of a name."""
        return self.classes.index(name)

    def colour(self, labels: np.ndarray) -> np.ndarray:
        """Class numbers (...) to colours (..., 3) uint8."""
        return self.array[labels]

    def nearest(self, rgb: np.ndarray) -> np.ndarray:
        """Colours (..., 3) of any real type, 0 ... 255, to the class (...) uint8 of the nearest palette colour.

        Nearest by squared distance; a tie goes to the lower class.
        """
        pixels = rgb.reshape(-1, 3).astype(np.float32)
        table = self.array.astype(np.float32)
        # |p - c|^2 without |p|^2, which is the same for every class.
        distance = (table**2).sum(1)[None] - 2.0 * (pixels @ table.T)
        return distance.argmin(1).astype(np.uint8).reshape(rgb.shape[:-1])


_CITYSCAPES: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

_STREET = ("road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "terrain", "sky", "person", "car")

CITYSCAPES = Palette("cityscapes", tuple(_CITYSCAPES), tuple(_CITYSCAPES.values()))
STREET = Palette("street", _STREET, tuple(_CITYSCAPES[name] for name in _STREET))

PALETTES: dict[str, Palette] = {palette.name: palette for palette in (CITYSCAPES, STREET)}


def palette_named(name: str) -> Palette:
    """The palette of that name.

    Raises:
        UsageError: no such palette.
    """
    if name not in PALETTES:
        raise UsageError(f"unknown palette {name!r}; {nearest_names(name, tuple(PALETTES))}")
    return PALETTES[name]
