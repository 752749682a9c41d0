"""Pixels of label footage that have no class: found by their colour, and kept out of everything that is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtrans.palettes import Palette

NO_CLASS = -100  # in place of a class number; what torch's cross-entropy passes over


class Classes(nn.Module):
    """From the colours of a label domain's frames to classes, the nearest in a palette and its void (Palette.void).

    Attributes:
        colours: (K or K + 1, 3) in [-1, 1], of the classes and of void, where it is none of them.
    """

    colours: Tensor

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        rows = list(palette.colours)
        if palette.void is not None and palette.void not in rows:
            rows.append(palette.void)
        self._void = None if palette.void is None else rows.index(palette.void)
        self.register_buffer("colours", torch.tensor(rows, dtype=torch.float32) / 127.5 - 1.0, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., 3, H, W) in [-1, 1] -> (..., H, W) int64 class numbers, NO_CLASS where there is none."""
        found = (x.unsqueeze(-4) - self.colours.view(-1, 3, 1, 1)).abs().sum(-3).argmin(-3)
        return found if self._void is None else found.masked_fill(found == self._void, NO_CLASS)

    def covered(self, x: Tensor, classes: Tensor) -> Tensor:
        """x (..., 3, H, W) with void's colour wherever `classes`, of real frames, have none.

        A critic that is shown real and made frames with the same places covered cannot tell them apart by these.
        """
        if self._void is None:
            return x
        colour = self.colours[self._void].to(x.dtype).view(3, 1, 1)
        return torch.where(has_class(classes), x, colour)


def has_class(classes: Tensor) -> Tensor:
    """(..., H, W) class numbers -> (..., 1, H, W) bool."""
    return (classes != NO_CLASS).unsqueeze(-3)
