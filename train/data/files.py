"""Frames of image and video files, read when asked for and resized to the training size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from vidtrans.errors import InputError
from vidtrans.palettes import Palette
from vidtrans.stages import cores
from vidtrans.train.data.contract import Frames, Report
from vidtrans.train.data.footage import Footage, Images
from vidtrans.train.data.labels import colours_without_class, read_label
from vidtrans.train.data.videos import OpenVideos


class FileFrames(Frames):
    """A domain's files as frames.

    Args:
        footage: which files, in which order.
        size: (width, height) that every picture is resized to, whatever its aspect.
        palette: of a label domain, whose pictures are resized without mixing colours, and show the palette's void
            where they have a class of the data set that the palette lacks; None: photos.
    """

    def __init__(
        self,
        footage: Footage,
        size: tuple[int, int],
        palette: Palette | None = None,
        *,
        strict: bool = False,
        report: Report = lambda text: None,
    ) -> None:
        super().__init__([len(shot) for shot in footage.sequences], strict=strict, report=report)
        self.footage = footage
        self._palette = palette
        lacking = [] if palette is None else colours_without_class(palette, footage.numbers)
        self._lacking = torch.tensor([_packed(torch.tensor(colour)) for colour in lacking], dtype=torch.int64)
        self._videos = OpenVideos()
        self._pool = ThreadPoolExecutor(min(8, cores()), "read")
        mode = v2.InterpolationMode.BILINEAR if palette is None else v2.InterpolationMode.NEAREST_EXACT
        self._resize = v2.Resize([size[1], size[0]], interpolation=mode, antialias=palette is None)

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        found: dict[int, Tensor | InputError] = {}
        images: dict[int, Path] = {}
        videos: dict[Path, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index in indices:
            sequence, frame = self.locate(index)
            shot = self.footage.sequences[sequence]
            if isinstance(shot, Images):
                images[index] = shot.paths[frame]
            else:
                videos[shot.path][shot.first + frame].append(index)
        # Pillow and the resize leave Python's lock alone while they work.
        found.update(zip(images, self._pool.map(self._image, images.values()), strict=True))
        for path, numbers in videos.items():
            wanted = sorted(numbers)
            for number, picture in zip(wanted, self._videos.frames(path, wanted), strict=True):
                result = picture if isinstance(picture, InputError) else self._fitted(picture)
                found.update(dict.fromkeys(numbers[number], result))
        return [found[index] for index in indices]

    def name(self, index: int) -> str:
        sequence, frame = self.locate(index)
        shot = self.footage.sequences[sequence]
        return str(shot.paths[frame] if isinstance(shot, Images) else shot.path)

    def _image(self, path: Path) -> Tensor | InputError:
        try:
            return self._fitted(read_image(path, self._palette, self.footage.numbers))
        except InputError as error:
            return error

    def _fitted(self, picture: np.ndarray) -> Tensor:
        fitted = self._resize(torch.from_numpy(picture).movedim(-1, 0)).movedim(0, -1).contiguous()
        if self._palette is not None and self._palette.void is not None:
            fitted[torch.isin(_packed(fitted), self._lacking)] = torch.tensor(self._palette.void, dtype=torch.uint8)
        return fitted


def _packed(colours: Tensor) -> Tensor:
    """Colours (..., 3) as one whole number each."""
    red, green, blue = colours.long().unbind(-1)
    return (red << 16) | (green << 8) | blue


def read_image(path: Path, palette: Palette | None = None, numbers: str = "palette") -> np.ndarray:
    """An image file as colours, (H, W, 3) uint8; numbers: see labels.read_label.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if palette is not None:
            return read_label(path, palette, numbers)[0]
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # of whatever kind: damaged bytes lead parsers anywhere
        raise InputError(f"{path} cannot be read as an image; remove or replace it") from error
