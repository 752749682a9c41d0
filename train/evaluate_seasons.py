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
from vidtrans.engines.contract import Engine, Gap
from vidtrans.errors import UsageError
from vidtrans.guided import GuidedFilter
from vidtrans.latents import blend
from vidtrans.motion import estimate
from vidtrans.nets.contract import to_unit
from vidtrans.planes import moved
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
    """What `evaluate_seasons` found: a row for each ordered pair of seasons, and one for each season.

    Attributes:
        directions: of what `upsample` writes by default: the input's detail carried, in-betweens along the motion.
        decoded: of the network's own decoding, in-betweens blended in place, as the papers have it (--paper).
        reconstructions: of the network's own decoding.
    """

    directions: dict[tuple[str, str], Direction]
    decoded: dict[tuple[str, str], Direction]
    reconstructions: dict[str, Reconstruction]

    def to_json(self) -> dict[str, Any]:
        return {"l1_unit": "grey levels of 255", **self._rows()}

    def table(self) -> str:
        """The figures as three Markdown tables."""
        rows = self._rows()
        lines = []
        for name, title in (("written", "as written, L1"), ("decoded", "as decoded, L1")):
            lines += _head(title, "untranslated", "translated", "closer", "in-between", "closer", "worse by")
            for direction, figures in rows[name].items():
                cells = [f"{figures[key]:.2f}" for key in ("untranslated_l1", "l1")]
                cells += [f"{figures['closer_percent']:.1f} %", f"{figures['between_l1']:.2f}"]
                cells += [f"{figures['between_closer_percent']:.1f} %", f"{figures['between_worse_percent']:+.1f} %"]
                lines.append(_row(direction, *cells))
            lines.append("")
        lines += _head("reconstruction", "L1", "PSNR", "in-between L1", "in-between PSNR")
        for season, figures in rows["reconstruction"].items():
            l1, db, between_l1, between_db = figures.values()
            lines.append(_row(season, f"{l1:.2f}", f"{db:.1f} dB", f"{between_l1:.2f}", f"{between_db:.1f} dB"))
        return "\n".join(lines)

    def _rows(self) -> dict[str, dict[str, dict[str, float]]]:
        """Every direction's figures and their means, every season's, rounded, so that all who show them agree."""
        tables = {"written": _with_means(self.directions), "decoded": _with_means(self.decoded)}
        tables["reconstruction"] = {season: row.figures() for season, row in self.reconstructions.items()}
        return {
            table: {name: {key: round(value, 3) for key, value in figures.items()} for name, figures in named.items()}
            for table, named in tables.items()
        }


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

    Keyframes are the left ones of each gap; in-betweens are its seven instants at 8x. What is compared is what would
    be written: pictures rounded to whole grey levels, all channels alike.

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
    decoded_l1: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    untranslated: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    db: dict[str, list[np.ndarray]] = defaultdict(list)

    def rendered(seed: int) -> list[dict[str, np.ndarray]]:
        return [_truth(seed, start, seasons, width, height) for start in evaluate.STARTS]

    for seed, gaps in zip(seeds, in_order(rendered, seeds), strict=True):
        for truth in gaps:
            for here, engine in engines.items():
                decoded, written = _translations(engine, truth[here][0], truth[here][-1])
                for there in seasons:
                    wanted = truth[there][:-1]
                    decoded_l1[here, there].append(_distances(decoded[there], wanted))
                    if there == here:
                        pairs = zip(decoded[here], wanted, strict=True)
                        db[here].append(np.array([psnr(*pair) for pair in pairs]))
                    else:
                        l1[here, there].append(_distances(written[there], wanted))
                        untranslated[here, there].append(_distances(truth[here][:-1], wanted))
        first, last = seasons[0], seasons[-1]
        closer = _direction(l1[first, last], untranslated[first, last]).closer_percent
        report(f"street {seed}: {first} to {last} so far {closer:.1f} % closer than untranslated")
    return SeasonScores(
        {pair: _direction(l1[pair], untranslated[pair]) for pair in permutations(seasons, 2)},
        {pair: _direction(decoded_l1[pair], untranslated[pair]) for pair in permutations(seasons, 2)},
        {season: _reconstruction(decoded_l1[season, season], db[season]) for season in seasons},
    )


def _translations(engine: Engine, x0: np.ndarray, x1: np.ndarray) -> tuple[dict[str, np.ndarray], ...]:
    """A gap's keyframes (H, W, 3) uint8 -> its eight instants in every domain, (8, H, W, 3) uint8: as the network
    decodes them in place, and with the detail carried along the motion as `upsample` does by default."""
    keyframes = torch.from_numpy(np.stack([x0, x1]))
    left, right = engine.encode(keyframes)
    motion = estimate(x0, x1)
    fields = None if motion.is_lost else motion.at(TIMES)
    plain, along = engine.between([Gap(left, right, TIMES), Gap(left, right, TIMES, fields)])
    own = engine.domains[0]
    frames = to_unit(keyframes)
    filters = GuidedFilter(frames)
    written = {}
    for name, outputs in along.items():
        made, source = (torch.stack([side.decoded[at] for side in (left, right)]).float() for at in (name, own))
        before, after = frames - made if name == own else frames + filters(made - source) - made
        detail = blend(before, after, TIMES) if fields is None else moved(before, after, fields)
        written[name] = np.stack([to_uint8(out) for out in outputs + detail])
    return {name: np.stack([to_uint8(out) for out in outputs]) for name, outputs in plain.items()}, written


def _with_means(directions: dict[tuple[str, str], Direction]) -> dict[str, dict[str, float]]:
    """The directions' figures by name, and each averaged over them all."""
    rows = {f"{here} to {there}": row.figures() for (here, there), row in directions.items()}
    keys = next(iter(rows.values()))
    return rows | {MEAN: {key: float(np.mean([row[key] for row in rows.values()])) for key in keys}}


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
