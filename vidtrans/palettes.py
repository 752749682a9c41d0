"""Label palettes: which colour stands for which class, and the way back from a colour to its class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vidtrans.errors import UsageError, nearest_names

MOST_CLASSES = 256  # class numbers are bytes
# For pixels without a class, the first that no class has: black, as most data sets, or Pascal VOC's.
VOIDS = ((0, 0, 0), (224, 224, 192), (255, 255, 255), (255, 0, 255))


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
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"palette {self.name!r}: from 1 to {MOST_CLASSES} classes, not {len(self.classes)}")
        if len(self.classes) != len(self.colours) or len(set(self.colours)) != len(self.colours):
            raise ValueError(f"palette {self.name!r}: one distinct colour for every class is needed")
        for name, colour in zip(self.classes, self.colours, strict=True):
            if len(colour) != 3 or any(type(part) is not int or not 0 <= part <= 255 for part in colour):
                raise ValueError(f"palette {self.name!r}: {name} needs three numbers of 0 ... 255, not {colour!r}")

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Palette:
        """From what `dataclasses.asdict` makes of a palette. Raises KeyError, TypeError or ValueError if it is none."""
        colours = tuple(tuple(colour) for colour in row["colours"])
        return cls(str(row["name"]), tuple(map(str, row["classes"])), colours)

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def array(self) -> np.ndarray:
        """Colours as (K, 3) uint8."""
        return np.asarray(self.colours, dtype=np.uint8)

    @cached_property
    def void(self) -> tuple[int, int, int] | None:
        """The colour of pixels that have no class: of the class called void where there is one, else of no class.

        None: classes have all of VOIDS.
        """
        if "void" in self.classes:
            return self.colours[self.index("void")]
        return next((colour for colour in VOIDS if colour not in self.colours), None)

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


# In the order of the training ids.
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

# Classes that the VIPER data set evaluates, in the order of its training ids (classes.csv of its toolkit).
_VIPER: dict[str, tuple[int, int, int]] = {
    "sky": (70, 130, 180),
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "terrain": (152, 251, 152),
    "tree": (87, 182, 35),
    "vegetation": (35, 142, 35),
    "building": (70, 70, 70),
    "infrastructure": (153, 153, 153),
    "fence": (190, 153, 153),
    "billboard": (150, 20, 20),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "mobile barrier": (180, 180, 100),
    "fire hydrant": (173, 153, 153),
    "chair": (168, 153, 153),
    "trash": (81, 0, 21),
    "trash can": (81, 0, 81),
    "person": (220, 20, 60),
    "motorcycle": (0, 0, 230),
    "car": (0, 0, 142),
    "van": (0, 80, 100),
    "bus": (0, 60, 100),
    "truck": (0, 0, 70),
}

# Classes of SYNTHIA's sequences, in the order of their numbers (its read-me).
_SYNTHIA: dict[str, tuple[int, int, int]] = {
    "void": (0, 0, 0),
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "road": (128, 64, 128),
    "sidewalk": (0, 0, 192),
    "fence": (64, 64, 128),
    "vegetation": (128, 128, 0),
    "pole": (192, 192, 128),
    "car": (64, 0, 128),
    "traffic sign": (192, 128, 128),
    "pedestrian": (64, 64, 0),
    "bicycle": (0, 128, 192),
    "lane marking": (0, 172, 0),
    "traffic light": (0, 128, 128),
}

_STREET = ("road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "terrain", "sky", "person", "car")
_VOID = {"void": (0, 0, 0)}  # what labels show where they have no class


def _palette(name: str, table: dict[str, tuple[int, int, int]]) -> Palette:
    return Palette(name, tuple(table), tuple(table.values()))


CITYSCAPES = _palette("cityscapes", _CITYSCAPES)
CITYSCAPES_VOID = _palette("cityscapes-void", _CITYSCAPES | _VOID)
VIPER = _palette("viper", _VIPER | _VOID)
SYNTHIA = _palette("synthia", _SYNTHIA)
STREET = _palette("street", {name: _CITYSCAPES[name] for name in _STREET})

PALETTES: dict[str, Palette] = {
    palette.name: palette for palette in (CITYSCAPES, CITYSCAPES_VOID, VIPER, SYNTHIA, STREET)
}


def palette_named(name: str) -> Palette:
    """The palette of that name.

    Raises:
        UsageError: no such palette.
    """
    if name not in PALETTES:
        raise UsageError(f"unknown palette {name!r}; {nearest_names(name, tuple(PALETTES))}")
    return PALETTES[name]
