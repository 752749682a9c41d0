"""Scores of frames kept out of training, which need no labels, and what a finished run measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vidtrans.nets.contract import domain_named, to_unit
from vidtrans.nets.translating import frames_at_once, translated
from vidtrans.palettes import STREET
from vidtrans.train.data import Frames
from vidtrans.train.domains import StreetView
from vidtrans.train.metrics import Confusion
from vidtrans.train.recipe import Recipe
from vidtrans.train.void import Classes, has_class

# Streets of a run's own figures: no recipe trains on them, and `vidtrans evaluate` keeps others for the last word.
REPORT_SEEDS = range(8_600_000, 8_600_012)
INSTANT = 9.0  # seconds into each of them
MOST = 64  # of a domain's held-back frames that a score looks at, spread over them all
_AT_ONCE = 4
Row = TypeVar("Row")


@torch.no_grad()
def score(kind: str, net: Any, frames: Sequence[Frames], device: torch.device) -> float:
    """The score of that name in KeepOptions on held-back frames of each domain: mean L1, values in [-1, 1]."""
    names = [domain.name for domain in net.domains]
    ways = [(name, name) for name in names] if kind == "reconstruction" else list(permutations(names, 2))
    return float(np.mean([_distance(net, frames[names.index(here)], here, there, device) for here, there in ways]))


def measure(recipe: Recipe, net: Any, frames: Sequence[Frames], device: torch.device) -> dict[str, Any]:
    """Held-out figures of a finished run, as a model's `quality`; empty where nothing was held out.

    Domains that are rendered are measured on streets of their own, where the truth of every domain is known; of others,
    reconstruction and cycles are measured on held-back frames. All distances are L1 of values in [-1, 1]. A net without
    a shared latent space has no reconstructions.

    Args:
        frames: the held-back ones of every domain.
    """
    rows = {row.name: row.data.removeprefix("street:") for row in recipe.domains if row.data.startswith("street:")}
    figures: dict[str, Any] = {}
    if len(rows) > 1:
        figures |= _on_streets(net, rows, device, recipe.data.clip_distance * recipe.data.street_spacing)
        figures["measured_on"] = (
            f"{len(REPORT_SEEDS)} streets that were not trained on, seeds from {REPORT_SEEDS[0]:,}; the streets of "
            "vidtrans evaluate are others"
        )
    others = [name for name in (row.name for row in recipe.domains) if name not in rows]
    numbers = {row.name: number for number, row in enumerate(recipe.domains)}
    if others and all(len(frames[numbers[name]]) for name in others):
        for name in others if net.shares_latent else ():
            figures[name] = {"reconstruction_l1": _distance(net, frames[numbers[name]], name, name, device)}
        for here, there in permutations(others, 2):
            cycle = _distance(net, frames[numbers[here]], here, there, device)
            figures[f"{here} to {there}"] = {"cycle_l1": cycle}
        figures["held_back_frames"] = sum(map(len, _looked_at(net, frames[numbers[others[0]]])))
    return figures


def as_input(net: Any, pictures: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 as what the net takes, in the type of its numbers."""
    return to_unit(pictures.to(device)).to(next(net.parameters()).dtype)


def _distance(net: Any, frames: Frames, here: str, there: str, device: torch.device) -> float:
    """Mean L1 of frames from their reconstruction (there is here), or from their way there and back.

    Pixels of labels without a class do not count.
    """
    total, count = 0.0, 0
    domain = domain_named(net.domains, here)
    classes = Classes(domain.colours).to(device) if domain.is_label else None
    for indices in _looked_at(net, frames):
        x = as_input(net, frames.batch(indices), device).unsqueeze(0)
        back = translated(net, x, here, there)
        if there != here:
            back = translated(net, back, there, here)
        counts = torch.ones_like(x, dtype=torch.bool) if classes is None else has_class(classes(x)).expand_as(x)
        total += (back - x).abs()[counts].sum().item()
        count += int(counts.sum())
    return total / max(1, count)


def _looked_at(net: Any, frames: Frames) -> list[list[int]]:
    """MOST frames at most, spread over all: some at once or, for a net for clips, as many as follow each other."""
    clip = frames_at_once(net)
    if clip == 1:
        chosen = _spread(list(range(len(frames))), MOST)
        return [chosen[first : first + _AT_ONCE] for first in range(0, len(chosen), _AT_ONCE)]
    ends = np.cumsum(frames.lengths).tolist()
    sequences = zip([0, *ends[:-1]], ends, strict=True)
    runs = [list(range(at, min(at + clip, end))) for first, end in sequences for at in range(first, end, clip)]
    return _spread(runs, max(1, MOST // clip))


def _spread(rows: list[Row], most: int) -> list[Row]:
    """`most` of the rows at most, the same distance apart."""
    count = min(most, len(rows))
    return [rows[len(rows) * k // count] for k in range(count)]


@torch.no_grad()
def _on_streets(net: Any, rows: dict[str, str], device: torch.device, spacing: float) -> dict[str, Any]:
    """Each domain's reconstruction, each direction's translation against the true frame, on REPORT_SEEDS.

    Args:
        rows: the model's domain -> that of the street.
        spacing: seconds between the frames of a clip, for nets for clips; the frame in the middle counts.
    """
    middle = frames_at_once(net) // 2
    kinds = {domain.name: domain for domain in net.domains}
    sums: dict[str, dict[str, float]] = {}
    confusions = {name: Confusion(len(STREET)) for name in permutations(rows, 2) if kinds[name[1]].is_label}
    for clips in _streets(net, rows, device, spacing):
        truth = {name: clip[:, middle] for name, clip in clips.items()}
        for here, x in truth.items():
            for there, wanted in truth.items():
                if there == here and not net.shares_latent:
                    continue
                made = translated(net, clips[here], here, there)[:, middle]
                row = sums.setdefault(here if there == here else f"{here} to {there}", {})
                if there == here:
                    _add(row, "reconstruction_l1", made, wanted)
                elif kinds[there].is_label:
                    confusions[here, there].add(*(_classes(net, there, picture) for picture in (wanted, made)))
                else:
                    _add(row, "l1", made, wanted)
                    if not kinds[here].is_label:
                        _add(row, "untranslated_l1", x, wanted)
    for (here, there), confusion in confusions.items():
        sums[f"{here} to {there}"] |= {"accuracy": confusion.accuracy, "mean_iou": confusion.mean_iou}
    return {name: {key: round(value, 4) for key, value in row.items()} for name, row in sums.items()}


def _streets(net: Any, rows: dict[str, str], device: torch.device, spacing: float) -> Iterator[dict[str, Tensor]]:
    """What the net takes at once of each street in every domain, INSTANT in the middle: (1, T, 3, H, W)."""
    width, height = net.sizes.trained
    frames = frames_at_once(net)
    times = [INSTANT + (k - frames // 2) * spacing for k in range(frames)]
    for seed in REPORT_SEEDS:
        views = {name: StreetView(view, seed) for name, view in rows.items()}
        clips = {name: [view.picture(t, width, height) for t in times] for name, view in views.items()}
        yield {
            name: as_input(net, torch.from_numpy(np.stack(clip)), device).unsqueeze(0) for name, clip in clips.items()
        }


def _add(row: dict[str, float], key: str, made: Tensor, wanted: Tensor) -> None:
    row[key] = row.get(key, 0.0) + (made - wanted).abs().mean().item() / len(REPORT_SEEDS)


def _classes(net: Any, domain: str, picture: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] -> the nearest class of every pixel."""
    colours = next(row for row in net.domains if row.name == domain).colours
    return colours.nearest(((picture[0].float() + 1.0) * 127.5).movedim(0, -1).cpu().numpy())
