"""How close one season of the rendered street comes to another where only the colours of things are changed.

    python benchmarks/season_bounds.py [--streets 10]

For every direction: the distance of untranslated frames from the true ones (L1 in grey levels, as `vidtrans evaluate`
counts it), and what is left of it when every pixel's true class is known and each class gets the change of colours that
suits it best, over all frames together: a constant, or an affine map of the three colours. No network knows the classes
or these changes, so one that only recolours classes stays behind; one that also finds wheel tracks in snow, blossom or
the light of a street can come closer. Measured on development streets, which no training run and no held-out figure
sees.

Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from itertools import permutations

import numpy as np
import torch

from vidtrans.train.evaluate import DEVELOPMENT_SEEDS, STARTS
from vidtrans.train.street import SEASONS, Street
from vidtrans.train.workers import in_order

SIZE = (128, 64)  # as the bundled models are trained
HEAD = "| direction | untranslated | a constant per class | closer | an affine map per class | closer |"


def rendered(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One street's frames in every season (n, H, W, 3) float, and their classes (n, H, W)."""
    streets = {season: Street(seed, season) for season in SEASONS}
    shots = {season: [street.render(start, *SIZE) for start in STARTS] for season, street in streets.items()}
    frames = {season: np.stack([shot.rgb.numpy() for shot in found]).astype(float) for season, found in shots.items()}
    return frames, np.stack([shot.labels.numpy() for shot in shots[SEASONS[0]]])


def left_over(x: np.ndarray, y: np.ndarray, *, affine: bool) -> float:
    """Sum of absolute differences of pixels y (n, 3) from the x that are changed alike: least squares, then medians."""
    if affine:
        columns = np.concatenate([x, np.ones((len(x), 1))], 1)
        x = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(np.abs(y - x - np.median(y - x, 0)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description="How close recoloured classes come to another season.")
    parser.add_argument("--streets", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    streets = list(in_order(rendered, DEVELOPMENT_SEEDS[: arguments.streets]))
    frames = {season: np.concatenate([found[season] for found, _ in streets]) for season in SEASONS}
    classes = np.concatenate([found for _, found in streets])
    kinds = [classes == number for number in np.unique(classes)]
    rows = []
    for here, there in permutations(SEASONS, 2):
        x, y = frames[here], frames[there]
        sums = [np.abs(y - x).sum()]
        for affine in (False, True):
            sums.append(sum(left_over(x[kind], y[kind], affine=affine) for kind in kinds))
        rows.append((f"{here} to {there}", *(total / x.size for total in sums)))
    print(HEAD + "\n|---|---|---|---|---|---|")
    closer = np.array([[1 - constant / plain, 1 - affine / plain] for _, plain, constant, affine in rows])
    for (name, plain, constant, affine), (by_constant, by_affine) in zip(rows, closer, strict=True):
        print(f"| {name} | {plain:.2f} | {constant:.2f} | {by_constant:.1%} | {affine:.2f} | {by_affine:.1%} |")
    plain, constant, affine = np.array([row[1:] for row in rows]).mean(0)
    mean = closer.mean(0)
    print(f"| mean of all directions | {plain:.2f} | {constant:.2f} | {mean[0]:.1%} | {affine:.2f} | {mean[1]:.1%} |")


if __name__ == "__main__":
    main()
