"""A model measured on rendered streets that no training run uses, where the truth of every instant is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidtrans.engines import open_engine
from vidtrans.engines.contract import Gap
from vidtrans.nets.contract import domain_named, to_unit
from vidtrans.nets.translating import frames_at_once, translated_raw
from vidtrans.palettes import STREET
from vidtrans.train.data import street_frames
from vidtrans.train.metrics import Confusion, psnr
from vidtrans.train.street import Street

HELD_OUT_SEEDS = range(9_000_000, 9_000_020)  # recipes take seeds below 3,000,000
BLIND_SEEDS = range(8_000_000, 8_000_200)  # streets the picture-blind guess is counted on
STARTS = (2.0, 9.0, 16.0)  # seconds into each street where a gap begins
GAP = Fraction(2, 15)  # between keyframes: 7.5 frames a second
FACTOR = 8


@dataclass(frozen=True)
class StreetScores:
    """What `evaluate_street` found: one confusion matrix per kind of instant, and the reconstruction's PSNR in dB.

    A net without a shared latent space makes neither in-betweens nor reconstructions: between and reconstruction_db are
    None.
    """

    keyframes: Confusion
    between: Confusion | None
    blind: Confusion
    reconstruction_db: float | None

    @property
    def rows(self) -> dict[str, Confusion]:
        """The confusion matrices that there are, by name."""
        between = {} if self.between is None else {"in-betweens": self.between}
        return {"keyframes": self.keyframes, **between, "picture-blind guess": self.blind}

    def to_json(self) -> dict[str, Any]:
        rows = {key.removesuffix(" guess").replace("-", "_"): row for key, row in self.rows.items()}
        db = self.reconstruction_db
        return {
            "classes": list(STREET.classes),
            **({} if db is None else {"reconstruction_db": round(db, 2)}),
            **{
                name: {
                    "accuracy": round(row.accuracy, 4),
                    "mean_iou": round(row.mean_iou, 4),
                    "iou": [None if np.isnan(value) else round(float(value), 4) for value in row.iou],
                }
                for name, row in rows.items()
            },
        }


def evaluate_street(
    net: Any,
    *,
    source: str = "scene",
    target: str = "segmentation",
    seeds: range = HELD_OUT_SEEDS,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda text: None,
) -> StreetScores:
    """Translate scene to segmentation on held-out streets, at keyframes and at the in-between instants of 8x.

    A net for clips gets the frames around a keyframe too, GAP / FACTOR apart.

    size: (width, height) of the frames and of the network's work; default: what the model was trained at. Truth is
    rendered at the same size.
    """
    width, height = size or net.sizes.trained
    blind = picture_blind(width, height, BLIND_SEEDS)
    if not net.shares_latent:
        keyframes, guess = _translations(net.to(device), source, target, seeds, (width, height), blind, report)
        return StreetScores(keyframes, None, guess, None)
    engine = open_engine("torch", net, source, [target], (width, height), device)
    keyframes, between, guess = (Confusion(len(STREET)) for _ in range(3))
    errors = []
    times = tuple(Fraction(k, FACTOR) for k in range(FACTOR))
    for seed in seeds:
        street = Street(seed)
        for start in STARTS:
            frames = [street.render(start + float(GAP * t), width, height) for t in (*times, Fraction(1))]
            left, right = engine.encode(torch.stack([frames[0].rgb, frames[-1].rgb]))
            outputs = engine.between([Gap(left, right, times)])[0]
            predicted = classes_of(net, outputs[target], target)
            truth = [frame.labels.numpy() for frame in frames[:-1]]
            keyframes.add(truth[0], predicted[0])
            for true, prediction in zip(truth[1:], predicted[1:], strict=True):
                between.add(true, prediction)
            guess.add(truth[0], blind)
            errors.append(psnr(to_uint8(outputs[source][0]), frames[0].rgb.numpy()))
        report(_so_far(seed, keyframes))
    return StreetScores(keyframes, between, guess, float(np.mean(errors)))


@torch.no_grad()
def _translations(
    net: Any,
    source: str,
    target: str,
    seeds: range,
    size: tuple[int, int],
    blind: np.ndarray,
    report: Callable[[str], None],
) -> tuple[Confusion, Confusion]:
    """What a net without a shared latent space makes of the keyframes, and what the blind guess does: confusions."""
    keyframes, guess = Confusion(len(STREET)), Confusion(len(STREET))
    count = frames_at_once(net)
    middle = count // 2
    device = next(net.parameters()).device
    for seed in seeds:
        street = Street(seed)
        for start in STARTS:
            times = [start + float(GAP / FACTOR) * (k - middle) for k in range(count)]
            frames = [street.render(time, *size) for time in times]
            clip = to_unit(torch.stack([frame.rgb for frame in frames]).to(device)).unsqueeze(0)
            out = translated_raw(net, clip, source, target)[:, middle]
            truth = frames[middle].labels.numpy()
            keyframes.add(truth, classes_of(net, out, target)[0])
            guess.add(truth, blind)
        report(_so_far(seed, keyframes))
    return keyframes, guess


def _so_far(seed: int, keyframes: Confusion) -> str:
    return f"street {seed}: accuracy so far {keyframes.accuracy:.3f}, mean IoU {keyframes.mean_iou:.3f}"


def classes_of(net: Any, out: Tensor, domain: str) -> np.ndarray:
    """What an engine gave for a label domain (n, C, H, W) -> class numbers (n, H, W)."""
    if net.has_scores(domain):
        return out.argmax(1).to(torch.uint8).cpu().numpy()
    rgb = ((out.float().cpu() + 1.0) * 127.5).movedim(1, -1).numpy()
    return domain_named(net.domains, domain).colours.nearest(rgb)


def to_uint8(out: Tensor) -> np.ndarray:
    """(3, H, W) in [-1, 1] -> (H, W, 3) uint8."""
    return ((out.float().cpu() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(0, -1).numpy()


def picture_blind(width: int, height: int, seeds: range) -> np.ndarray:
    """The guess that never looks: each pixel's most frequent class over other streets, (height, width) uint8."""
    counts = np.zeros((len(STREET), height, width), dtype=np.int32)
    for seed in seeds:
        labels = STREET.nearest(street_frames("segmentation", seed, 1, width, height)[0])
        for number in range(len(STREET)):
            counts[number] += labels == number
    return counts.argmax(0).astype(np.uint8)


def table(scores: StreetScores) -> str:
    """The figures as a Markdown table, IoU per class."""
    head = ["", "pixel accuracy", "mean IoU", *STREET.classes]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in scores.rows.items():
        cells = [name, f"{row.accuracy:.3f}", f"{row.mean_iou:.3f}", *(f"{value:.2f}" for value in row.iou)]
        lines.append("| " + " | ".join(cells) + " |")
    if scores.reconstruction_db is not None:
        lines += ["", f"Reconstruction of the scene at keyframes: {scores.reconstruction_db:.1f} dB PSNR."]
    return "\n".join(lines)
