"""Frames kept out of training, the scores that they give without labels, and what a finished run measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidtrans.errors import UsageError
from vidtrans.nets.contract import to_unit
from vidtrans.nets.translating import frames_at_once, translated
from vidtrans.palettes import STREET
from vidtrans.train.data import Frames, Part
from vidtrans.train.domains import StreetView
from vidtrans.train.metrics import Confusion
from vidtrans.train.recipe import Recipe

# Streets of a run's own figures: no recipe trains on them, and `vidtrans evaluate` keeps others for the last word.
REPORT_SEEDS = range(8_600_000, 8_600_012)
INSTANT = 9.0  # seconds into each of them
_AT_ONCE = 4


def held_back(frames: Frames, count: int, name: str) -> tuple[Frames, Frames]:
    """(what training sees, the last `count` frames), both in the sequences that the frames are in.

    Raises:
        UsageError: nothing would be left to train on; `name` is the domain's.
    """
    left = len(frames) - count
    if left < 1:
        raise UsageError(f"domain {name} has {len(frames)} frames; keep.held_back = {count} leaves none to train on")
    ends = np.cumsum(frames.lengths).tolist()
    sequences = list(zip([0, *ends[:-1]], ends, strict=True))
    seen = [(first, min(end, left)) for first, end in sequences if first < left]
    unseen = [(max(first, left), end) for first, end in sequences if end > left]
    return (Part(frames, seen) if count else frames), Part(frames, unseen)


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
        figures["measured_on"] = f"{len(REPORT_SEEDS)} streets that were not trained on"
    others = [name for name in (row.name for row in recipe.domains) if name not in rows]
    numbers = {row.name: number for number, row in enumerate(recipe.domains)}
    if others and all(len(frames[numbers[name]]) for name in others):
        for name in others if net.shares_latent else ():
            figures[name] = {"reconstruction_l1": _distance(net, frames[numbers[name]], name, name, device)}
        for here, there in permutations(others, 2):
            cycle = _distance(net, frames[numbers[here]], here, there, device)
            figures[f"{here} to {there}"] = {"cycle_l1": cycle}
        figures["held_back_frames"] = len(frames[numbers[others[0]]])
    return figures


def as_input(net: Any, pictures: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 as what the net takes, in the type of its numbers."""
    return to_unit(pictures.to(device)).to(next(net.parameters()).dtype)


def _distance(net: Any, frames: Frames, here: str, there: str, device: torch.device) -> float:
    """Mean L1 of frames from their reconstruction (there is here), or from their way there and back."""
    total = 0.0
    for indices in _runs(net, frames):
        x = as_input(net, frames.batch(indices), device).unsqueeze(0)
        back = translated(net, x, here, there)
        if there != here:
            back = translated(net, back, there, here)
        total += (back - x).abs().mean().item() * len(indices)
    return total / len(frames)


def _runs(net: Any, frames: Frames) -> Iterator[list[int]]:
    """All frames, some at once: _AT_ONCE of them or, for a net for clips, as many as follow each other in a clip."""
    clip = frames_at_once(net)
    length, lengths = (clip, frames.lengths.tolist()) if clip > 1 else (_AT_ONCE, [len(frames)])
    begin = 0
    for of_sequence in lengths:
        end = begin + of_sequence
        yield from (list(range(first, min(first + length, end))) for first in range(begin, end, length))
        begin = end


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
