"""Curves as inline SVG: no scripts, no files beside the page, colours from the page's style (see report.css)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
_POINTS = 240  # drawn of a curve; more than there are pixels is not seen
_SMOOTHED = 0.9  # share that the drawn line keeps of its past; the points themselves stand behind it, faint
COLOURS = 6  # that the style has


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name and its points (x ascending, y finite)."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, curves: Sequence[Curve], *, smooth: bool = True) -> str:
    """A figure of these curves over one x axis, with a legend that tells each one's last value.

    smooth: a line through a moving mean, for losses that jump about.
    """
    drawn = [(curve.name, _thinned(curve.points)) for curve in curves if curve.points]
    if not drawn:
        return ""
    lines = [(name, _moving_mean(points) if smooth else list(points)) for name, points in drawn]
    low, high = _bounds([y for _, points in lines for _, y in points])
    first = min(points[0][0] for _, points in drawn)
    last = max(points[-1][0] for _, points in drawn)
    ticks = _ticks(low, high, 4)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (min(max(y, low), high) - low) / (high - low)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        _, y = place(first, tick)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in _ticks(first, last, 6):
        if first <= tick <= last:
            x, _ = place(tick, low)
            anchor = "end" if x > WIDTH - _RIGHT - 20 else "middle"
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{_short(tick)}</text>'
            )
    for number, ((_, raw), (_, line)) in enumerate(zip(drawn, lines, strict=True)):
        colour = f"c{number % COLOURS}"
        if smooth:
            parts.append(f'<polyline class="raw {colour}" points="{_path(raw, place)}"/>')
        parts.append(f'<polyline class="line {colour}" points="{_path(line, place)}"/>')
        if len(line) == 1:
            x, y = place(*line[0])
            parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    parts.append("</svg>")
    legend = "".join(
        f'<span><i class="c{number % COLOURS}"></i>{escape(name)} <b>{_short(points[-1][1])}</b></span>'
        for number, (name, points) in enumerate(lines)
    )
    return f'<figure class="chart"><h3>{escape(title)}</h3>{"".join(parts)}<figcaption>{legend}</figcaption></figure>'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _POINTS points, each the mean of its neighbours; the last x stays the last."""
    step = math.ceil(len(points) / _POINTS)
    groups = [points[k : k + step] for k in range(0, len(points), step)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """An exponential mean that does not remember a zero before the first point."""
    smooth, weight, out = 0.0, 0.0, []
    for x, y in points:
        smooth = _SMOOTHED * smooth + (1.0 - _SMOOTHED) * y
        weight = _SMOOTHED * weight + (1.0 - _SMOOTHED)
        out.append((x, smooth / weight))
    return out


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    # Zero belongs to the picture where it is near.
    return (0.0 if 0.0 <= low < 0.5 * high else low - room), high + room


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from about `low` to about `high`: multiples of 1, 2 or 5 times a power of ten, at least two."""
    span = high - low
    if span <= 0.0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [k * step for k in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _path(points: Sequence[tuple[float, float]], place: Callable[[float, float], tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))


def _short(value: float) -> str:
    """Three significant digits, thousands as k."""
    if value == 0.0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.1e}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
