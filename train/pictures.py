"""The pictures by which a run is watched: what the model makes of single frames, and of the instants between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

from vidtrans.nets.contract import to_unit
from vidtrans.nets.translating import translated
from vidtrans.train.data import Frames
from vidtrans.train.domains import StreetView
from vidtrans.train.held_back import INSTANT, REPORT_SEEDS
from vidtrans.train.recipe import DomainData

ROWS = 4  # of samples, for each domain
BETWEEN_COLUMNS = ("0", "1/4", "1/2", "3/4", "1")  # instants in the gap
_GAP_SECONDS = 2 / 15  # between keyframes of a rendered street: 7.5 frames a second


def next_domains(names: Sequence[str]) -> list[str]:
    """What each domain is translated into in pictures: the next one, the last into the first."""
    return [*names[1:], names[0]]


def sample_columns(shares_latent: bool) -> tuple[str, ...]:
    """What `samples` shows across: without a shared latent space there are no reconstructions."""
    return ("source", *(("reconstruction",) if shares_latent else ()), "translation", "cycle")


@torch.no_grad()
def samples(net: Any, batches: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """(3, height, width) uint8: ROWS frames of each domain, `sample_columns` across.

    Args:
        batches: of each domain clips (B, T, 3, H, W), T as the net takes at once; the one in the middle is shown.
    """
    rows = []
    for batch, here, there in zip(batches, names, next_domains(names), strict=True):
        batch = batch[:ROWS].to(_type_of(net))
        own = [translated(net, batch, here, here)] if net.shares_latent else []
        made = translated(net, batch, here, there)
        columns = [batch, *own, made, translated(net, made, there, here)]
        rows.append(torch.stack([clips[:, clips.shape[1] // 2] for clips in columns], 1).flatten(0, 1))
    return _grid(torch.cat(rows), len(sample_columns(net.shares_latent)))


@torch.no_grad()
def between(net: Any, footage: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """(3, height, width) uint8: footage, in-betweens and these translated for each domain, BETWEEN_COLUMNS across.

    The first and the last of a domain's frames are encoded, all instants are the papers' blends of these two latents.
    Without a shared latent space there are no in-betweens, and the footage itself is translated.

    Args:
        footage: of each domain its frames at these instants, (5, 3, H, W), see `moments`.
    """
    rows = []
    times = torch.linspace(0.0, 1.0, len(BETWEEN_COLUMNS)).view(-1, 1, 1, 1)
    for frames, here, there in zip(footage, names, next_domains(names), strict=True):
        frames = frames.to(_type_of(net))
        if net.shares_latent:
            left, right = net.encode(frames[[0, -1]], here).chunk(2)
            latents = torch.lerp(left, right, times.to(left))
            rows += [frames, net.decode(latents, here), net.decode(latents, there)]
        else:
            rows += [frames, translated(net, frames.unsqueeze(0), here, there)[0]]
    return _grid(torch.cat(rows), len(BETWEEN_COLUMNS))


def moments(row: DomainData, frames: Frames, size: tuple[int, int], device: torch.device) -> Tensor:
    """(5, 3, H, W) in [-1, 1], a domain's frames at BETWEEN_COLUMNS, always the same.

    Of a street two keyframes 1/7.5 s apart and what is between them; of footage the first five of its longest sequence.
    """
    if row.data.startswith("street:"):
        view = StreetView(row.data.removeprefix("street:"), REPORT_SEEDS[0])
        times = (INSTANT + _GAP_SECONDS * k / 4 for k in range(5))
        pictures = torch.from_numpy(np.stack([view.picture(t, *size) for t in times]))
    else:
        longest = int(frames.lengths.argmax())
        first, length = int(frames.lengths[:longest].sum()), int(frames.lengths[longest])
        pictures = frames.batch([first + min(k, length - 1) for k in range(5)])
    return to_unit(pictures.to(device))


def _type_of(net: Any) -> torch.dtype:
    return next(net.parameters()).dtype


def _grid(pictures: Tensor, columns: int) -> Tensor:
    grid = make_grid(pictures.float().clamp(-1, 1), columns, padding=2, normalize=True, value_range=(-1, 1))
    return (grid * 255.0 + 0.5).to(torch.uint8).cpu()
