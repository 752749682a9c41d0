"""What a run writes down for people: TensorBoard scalars, train.jsonl, sample grids as PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from vidtrans.nets.contract import Net

ROWS = 4  # samples in a grid


class Journal:
    """Writes below a run's folder; TensorBoard only where it is installed (extra `train`)."""

    def __init__(self, folder: Path, domains: list[str]) -> None:
        self._folder = folder
        self._domains = domains
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def scalars(self, step: int, losses: dict[str, float], steps_per_second: float) -> None:
        """One line of train.jsonl and one point of every TensorBoard curve."""
        row = {"step": step, **losses, "steps_per_second": steps_per_second}
        with (self._folder / "train.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step)

    @torch.no_grad()
    def grid(self, step: int, net: Net, batches: list[Tensor]) -> None:
        """samples/STEP.png: for each sample of each domain its columns source, reconstruction, translation, cycle.

        A domain is translated into the next one, the last into the first.
        """
        rows = []
        for batch, here, there in zip(batches, self._domains, [*self._domains[1:], self._domains[0]], strict=True):
            batch = batch[:ROWS]
            latent = net.encode(batch, here)
            translated = net.decode(latent, there)
            cycled = net.decode(net.encode(translated, there), here)
            rows.append(torch.stack([batch, net.decode(latent, here), translated, cycled], 1).flatten(0, 1))
        grid = make_grid(torch.cat(rows).float().clamp(-1, 1), nrow=4, padding=2, normalize=True, value_range=(-1, 1))
        picture = (grid * 255.0 + 0.5).to(torch.uint8).cpu()
        (self._folder / "samples").mkdir(exist_ok=True)
        Image.fromarray(picture.movedim(0, -1).numpy()).save(self._folder / "samples" / f"{step:07d}.png")
        if self._board is not None:
            self._board.add_image("samples", picture, step)
