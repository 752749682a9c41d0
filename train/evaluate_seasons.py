"""A model of seasons measured on rendered streets that no training run uses.

A street in two seasons is the same street at the same instant in other materials and another light, so the true frame
of every translation is known, at keyframes and between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import torch

from vidtrans.engines import open_engine
from vidtrans.engines.contract import Gap
from vidtrans.errors import UsageError
from vidtrans.train import evaluate
from vidtrans.train.domains import STREET_DOMAINS
from vidtrans.train.evaluate import FACTOR, GAP, HELD_OUT_SEEDS, to_uint8
from vidtrans.train.metrics import psnr
from vidtrans.train.street import Street
from vidtrans.train.workers import in_order

MEAN = "mean of all directions"
TIMES = tuple(Fraction(k, FACTOR) for k in range(FACTOR))


@dataclass(frozen=True)
class Direction:
    """One season translated into another: mean absolute differences (L1) from the true target frame, in grey levels.

    Attributes:
        l1: of translated keyframes; between_l1: of translated in-betweens.
        untranslated_l1, between_untranslated_l1: of the true source frames of the same instants.
    """

    l1: float
    untranslated_l1: float
    between_l1: float
    between_untranslated_l1: float

    @property
    def closer_percent(self) -> float:
        """How much closer to the true frame translated keyframes are than untranslated ones."""
        return 100.0 * (1.0 - self.l1 / self.untranslated_l1)

    @property
    def between_closer_percent(self) -> float:
        """The same of in-betweens."""
        return 100.0 * (1.0 - self.between_l1 / self.between_untranslated_l1)

    @property
    def between_worse_percent(self) -> float:
        """How much farther from the true frame in-betweens are than keyframes."""
        return 100.0 * (self.between_l1 / self.l1 - 1.0)

    def figures(self) -> dict[str, float]:
        names = ("l1", "untranslated_l1", "closer_percent", "between_l1", "between_untranslated_l1")
        return {name: getattr(self, name) for name in (*names, "between_closer_percent", "between_worse_percent")}


@dataclass(frozen=True)
class Reconstruction:
    """A season decoded as itself: L1 from the true frame in grey levels, and PSNR in dB; keyframes and in-betweens."""

    l1: float
    db: float
    between_l1: float
    between_db: float

    def figures(self) -> dict[str, float]:
        names = ("l1", "db", "between_l1", "between_db")
        return {f"reconstruction_{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class SeasonScores:
    """What `evaluate_seasons` found: a row for each ordered pair of seasons, and one for each season."""

    directions: dict[tuple[str, str], Direction]
    reconstructions: dict[str, Reconstruction]

    @property
    def means(self) -> dict[str, float]:
        """Each figure of the directions, averaged over them all."""
        rows = [row.figures() for row in self.directions.values()]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def to_json(self) -> dict[str, Any]:
        return {"l1_unit": "grey levels of 255", **self._rows()}

    def table(self) -> str:
        """The figures as two Markdown tables."""
        rows = self._rows()
        lines = _head("L1 in grey levels", "untranslated", "translated", "closer", "in-between", "closer", "worse by")
        for name in list(rows)[: len(self.directions) + 1]:
            figures = rows[name]
            cells = [f"{figures['untranslated_l1']:.2f}", f"{figures['l1']:.2f}", f"{figures['closer_percent']:.1f} %"]
            cells += [f"{figures['between_l1']:.2f}", f"{figures['between_closer_percent']:.1f} %"]
            lines.append(_row(name, *cells, f"{figures['between_worse_percent']:+.1f} %"))
        lines += ["", *_head("reconstruction", "L1 in grey levels", "PSNR", "in-between L1", "in-between PSNR")]
        for season in self.reconstructions:
            l1, db, between_l1, between_db = rows[season].values()
            lines.append(_row(season, f"{l1:.2f}", f"{db:.1f} dB", f"{between_l1:.2f}", f"{between_db:.1f} dB"))
        return "\n".join(lines)

    def _rows(self) -> dict[str, dict[str, float]]:
        """Every direction's figures, their means, every season's, rounded, so that all who show them agree."""
        rows = {f"{here} to {there}": row.figures() for (here, there), row in self.directions.items()}
        rows[MEAN] = self.means
        rows |= {season: row.figures() for season, row in self.reconstructions.items()}
        return {name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()}


def seasons_of(net: Any) -> tuple[str, ...]:
    """The net's photo domains that a street can be rendered in, one for each season."""
    photos = [domain.name for domain in net.domains if not domain.is_label]
    by_season: dict[str, str] = {}
    for name in photos:
        season, is_label = STREET_DOMAINS.get(name, ("", True))
        if not is_label:
            by_season.setdefault(season, name)
    return tuple(by_season.values())


def evaluate_seasons(
    net: Any,
    *,
    seeds: range = HELD_OUT_SEEDS,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda text: None,
) -> SeasonScores:
    """Translate every season of the net into every other on held-out streets, as `evaluate_street` does scenes.

    Keyframes are the left ones of each gap; in-betweens are its seven instants at 8x, blended in place (Algorithm 2).
    What is compared is what would be written: pictures rounded to whole grey levels, all channels alike.

    Args:
        size: (width, height) of the frames and of the network's work; default: what the model was trained at.

    Raises:
        UsageError: fewer than two of the net's domains are seasons of the street.
    """
    seasons = seasons_of(net)
    if len(seasons) < 2:
        raise UsageError(
            "a model without two of the domains spring, summer, fall and winter cannot be measured on seasons"
        )
    width, height = size or net.sizes.trained
    engines = {
        here: open_engine("torch", net, here, [there for there in seasons if there != here], (width, height), device)
        for here in seasons
    }
    l1: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    untranslated: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    db: dict[str, list[np.ndarray]] = defaultdict(list)

    def rendered(seed: int) -> list[dict[str, np.ndarray]]:
        return [_truth(seed, start, seasons, width, height) for start in evaluate.STARTS]

    for seed, gaps in zip(seeds, in_order(rendered, seeds), strict=True):
        for truth in gaps:
            for here, engine in engines.items():
                left, right = engine.encode(torch.from_numpy(truth[here][[0, -1]]))
                outputs = engine.between([Gap(left, right, TIMES)])[0]
                for there in seasons:
                    made, wanted = np.stack([to_uint8(out) for out in outputs[there]]), truth[there][:-1]
                    l1[here, there].append(_distances(made, wanted))
                    if there == here:
                        db[here].append(np.array([psnr(*pair) for pair in zip(made, wanted, strict=True)]))
                    else:
                        untranslated[here, there].append(_distances(truth[here][:-1], wanted))
        first, last = seasons[0], seasons[-1]
        closer = 1.0 - np.mean(l1[first, last]) / np.mean(untranslated[first, last])
        report(f"street {seed}: {first} to {last} so far {100 * closer:.1f} % closer than untranslated")
    return SeasonScores(
        {pair: _direction(l1[pair], untranslated[pair]) for pair in permutations(seasons, 2)},
        {season: _reconstruction(l1[season, season], db[season]) for season in seasons},
    )


def _truth(seed: int, start: float, seasons: tuple[str, ...], width: int, height: int) -> dict[str, np.ndarray]:
    """The nine frames of a gap in every season: (9, H, W, 3) uint8."""
    instants = [start + float(GAP * t) for t in (*TIMES, Fraction(1))]
    streets = {name: Street(seed, STREET_DOMAINS[name][0]) for name in seasons}
    return {
        name: np.stack([street.render(instant, width, height).rgb.numpy() for instant in instants])
        for name, street in streets.items()
    }


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each of n pairs of uint8 pictures: (n,)."""
    return np.abs(first.astype(np.int16) - second).mean((1, 2, 3))


def _direction(l1: list[np.ndarray], untranslated: list[np.ndarray]) -> Direction:
    (own, between), (plain, plain_between) = _means(l1), _means(untranslated)
    return Direction(own, plain, between, plain_between)


def _reconstruction(l1: list[np.ndarray], db: list[np.ndarray]) -> Reconstruction:
    (own, between), (own_db, between_db) = _means(l1), _means(db)
    return Reconstruction(own, own_db, between, between_db)


def _means(rows: list[np.ndarray]) -> tuple[float, float]:
    """(keyframes, in-betweens) of gaps' figures, each (8,), the keyframe first."""
    figures = np.stack(rows)
    return float(figures[:, 0].mean()), float(figures[:, 1:].mean())


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
