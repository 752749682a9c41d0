"""report.html: a run on one page that opens anywhere and offline: pictures, figures, curves, recipe, machine."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from vidtrans.errors import OutputError, VidtransError
from vidtrans.files import write_atomically
from vidtrans.model_card import domain_in_words, figures_table, other_figures, read_card
from vidtrans.model_library import Found
from vidtrans.nets import net_class
from vidtrans.text import plain
from vidtrans.train.charts import Curve, chart
from vidtrans.train.held_back import measure
from vidtrans.train.journal import LOG, SAMPLES, read_log
from vidtrans.train.keep import MODEL
from vidtrans.train.loop import Run, saved_recipe
from vidtrans.train.methods import method_named
from vidtrans.train.pictures import BETWEEN_COLUMNS, next_domains, sample_columns
from vidtrans.train.recipe import Recipe
from vidtrans.train.session import read_sessions
from vidtrans.train.toml_text import recipe_text

REPORT = "report.html"
STYLE = Path(__file__).parent / "report.css"
_PAST_PICTURES = 8  # of earlier steps, evenly chosen

# chart -> first letter of the losses in it (see Step in train/step.py)
_LETTERS = {
    "Reconstruction": "r",
    "Cycle": "c",
    "Generators against discriminators": "g",
    "Discriminators": "d",
    "Variation over time": "t",
    "In-betweens": "b",
}


def finish(run: Run) -> Path:
    """Measure a run that has come to its end on what was held out, save the figures with its model, write its page.

    Returns:
        the page.

    Raises:
        OutputError: the run's folder cannot be written.
    """
    quality = measure(run.recipe, run.model, run.held_back, run.device)
    try:
        run.write_model(run.folder / MODEL, quality)
    except OSError as error:
        raise OutputError(f"{run.folder / MODEL} cannot be written ({error.strerror or error})") from error
    return write_report(run.folder)


def write_report(folder: Path) -> Path:
    """Make the page of a run, finished or not, from what stands in its folder; returns it.

    Raises:
        UsageError: it is no run folder.
        OutputError: the page cannot be written.
    """
    recipe = saved_recipe(folder)
    page = folder / REPORT
    try:
        write_atomically(page, _page(folder, recipe).encode())
    except OSError as error:
        raise OutputError(f"{page} cannot be written ({error.strerror or error})") from error
    return page


def _page(folder: Path, recipe: Recipe) -> str:
    name = escape(plain(folder.absolute().name))
    sessions, log = read_sessions(folder), read_log(folder)
    names = [row.name for row in recipe.domains]
    parts = [
        f"<h1>{name}</h1>",
        f"<p class='soft'>{_text(' · '.join(domain_in_words(asdict(row)) for row in recipe.domains))}</p>",
        _status(sessions),
        _tiles(sessions, log),
        _held_out(folder),
        _pictures(folder, names, net_class(method_named(recipe.method).family).shares_latent),
        _curves(log, names),
        _sessions(sessions),
        f"<h2>Recipe</h2><pre>{_lines(recipe_text(recipe))}</pre>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{name} · vidtrans training</title><style>{STYLE.read_text()}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _status(sessions: list[dict[str, Any]]) -> str:
    if not sessions:
        return "<p>This run has not begun.</p>"
    row = sessions[-1]
    step, total, ended = row.get("step", 0), row.get("total", 0), row.get("ended")
    where = f"{step:,} of {total:,} steps"
    if ended == "finished":
        return f"<p><span class='good'>Finished</span>, {where}.</p>"
    if ended is None:
        return f"<p><span class='bad'>Running, or killed</span>; last saved at {where}.</p>"
    return f"<p><span class='bad'>Not finished</span>, {where}: {_text(str(ended))}.</p>"


def _tiles(sessions: list[dict[str, Any]], log: list[dict[str, Any]]) -> str:
    tiles = []
    if sessions:
        seconds = sum(_seconds(row) for row in sessions)
        count = len(sessions)
        tiles.append(("trained for", _duration(seconds), f"in {count} session{'s' if count > 1 else ''}"))
        tiles.append(("step", f"{sessions[-1].get('step', 0):,}", f"of {sessions[-1].get('total', 0):,}"))
    speeds = [row["steps_per_second"] for row in log if "steps_per_second" in row]
    if speeds:
        tiles.append(("steps per second", f"{speeds[-1]:.3g}", "mean of the last session"))
    for kind in ("reconstruction", "cycle"):
        scores = [(row[f"held_back_{kind}"], row["step"]) for row in log if f"held_back_{kind}" in row]
        if scores:
            value, step = min(scores)
            tiles.append((f"best {kind}", f"{value:.4f}", f"L1 on held-back frames, step {step:,}"))
    cells = "".join(f"<div><dt>{a}</dt><dd>{_text(b)}<small>{_text(c)}</small></dd></div>" for a, b, c in tiles)
    return f"<dl class='tiles'>{cells}</dl>" if tiles else ""


def _held_out(folder: Path) -> str:
    """The figures that stand in the newest model's header."""
    try:
        quality = read_card(Found(folder.name, folder / MODEL, "run")).quality
    except VidtransError:
        return ""
    head, rows = figures_table(quality)
    others = other_figures(quality)
    if not rows and not others:
        return ""
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>{lines}"
    notes = "; ".join(f"{name}: {figure}" for name, figure in others)
    return (
        f"<h2>Held-out figures</h2><div class='wide'><table>{table}</table></div>"
        f"<p class='soft'>{_text(notes)}{'. ' if notes else ''}L1: mean distance of values in [-1, 1], lower is "
        "better; untranslated: that of the source frame itself.</p>"
    )


def _pictures(folder: Path, names: list[str], shares_latent: bool) -> str:
    """The last pictures large, a few earlier ones small."""
    ways = ", ".join(f"{here} → {there}" for here, there in zip(names, next_domains(names), strict=True))
    samples = _series(
        folder, "", sample_columns(shares_latent), f"Frames of training, a few rows for each domain ({ways})."
    )
    words = (
        "Three rows for each domain: the footage at these instants; what is blended from its first and last frame "
        f"alone; the same, translated ({ways})."
        if shares_latent
        else f"Two rows for each domain: the footage at these instants; its translation ({ways})."
    )
    between = _series(folder, "between", BETWEEN_COLUMNS, words)
    return f"<h2>What the model makes</h2>{samples}{between}" if samples or between else ""


def _series(folder: Path, kind: str, heads: tuple[str, ...], words: str) -> str:
    """The pictures of one kind, samples/STEP.png or samples/STEP.KIND.png."""
    by_step = {}
    for path in (folder / SAMPLES).glob("*.png"):
        step, _, rest = path.stem.partition(".")
        if rest == kind and step.isdecimal():
            by_step[int(step)] = path
    steps = sorted(by_step)
    if not steps:
        return ""
    columns = "".join(f"<span>{head}</span>" for head in heads)
    large = (
        f"<figure class='picture'><div class='heads'>{columns}</div>{_image(by_step[steps[-1]])}"
        f"<figcaption>Step {steps[-1]:,}. {_text(words)}</figcaption></figure>"
    )
    past = steps[:-1]
    count = min(_PAST_PICTURES, len(past))
    chosen = [past[round(k * (len(past) - 1) / max(1, count - 1))] for k in range(count)]
    small = "".join(
        f"<figure>{_image(by_step[step])}<figcaption>Step {step:,}</figcaption></figure>" for step in chosen
    )
    earlier = f"<details><summary>Earlier steps</summary><div class='past picture'>{small}</div></details>"
    return large + (earlier if small else "")


def _image(path: Path) -> str:
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}'>"


def _curves(log: list[dict[str, Any]], names: list[str]) -> str:
    """A chart for each kind of loss, the rest one by one."""
    keys = list(dict.fromkeys(key for row in log for key in row if key != "step"))
    shown = {key: Curve(_loss_name(key, names), _points(log, key)) for key in keys}
    letters = {key: key[0] for key in keys if _loss_name(key, names) != key}
    charts = [
        chart(title, [shown[key] for key in keys if letters.get(key) == letter]) for title, letter in _LETTERS.items()
    ]
    for key in keys:
        if key not in letters:
            name = key.replace("_", " ")
            curve = Curve(name, shown[key].points)
            charts.append(chart(name.capitalize(), [curve], smooth=not key.startswith("held_back")))
    drawn = "".join(charts)
    if not drawn:
        return ""
    return (
        f"<h2>Curves</h2><p class='soft'>Over steps, weighted as the loop descends on them; a moving mean over the "
        f"logged values of {LOG}. The figure in a legend is the mean's last value.</p><div class='charts'>{drawn}</div>"
    )


def _loss_name(key: str, names: list[str]) -> str:
    """The domain that a loss such as "rx", "dz" or "c_winter" is about; the key itself for any other loss."""
    about = {"x": names[0], "y": names[1]} if len(names) == 2 else {f"_{name}": name for name in names}
    return {
        letter + tail: name for letter in _LETTERS.values() for tail, name in {**about, "z": "latents"}.items()
    }.get(key, key)


def _points(log: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    rows = ((row["step"], row.get(key)) for row in log)
    return [(float(step), float(y)) for step, y in rows if isinstance(y, int | float) and math.isfinite(y)]


def _sessions(sessions: list[dict[str, Any]]) -> str:
    if not sessions:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("begun", "steps", "took", "ended", "on", "with"))
    rows = []
    for row in sessions:
        begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(row.get("started", 0)))
        steps = f"{row.get('from_step', 0):,} to {row.get('step', 0):,}"
        ended = str(row.get("ended") or "running, or killed")
        machine = f"{row.get('device', '')}; {row.get('system', '')}"
        cells = [begun, steps, _duration(_seconds(row))]
        rows.append(
            "".join(f"<td>{_text(cell)}</td>" for cell in cells)
            + "".join(f"<td class='text'>{_text(cell)}</td>" for cell in (ended, machine, str(row.get("versions", ""))))
        )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<h2>Sessions</h2><div class='wide'><table><tr>{head}</tr>{body}</table></div>"


def _seconds(row: dict[str, Any]) -> float:
    return max(0.0, float(row.get("until", 0.0)) - float(row.get("started", 0.0)))


def _duration(seconds: float) -> str:
    """ "2 d 3 h", "3 h 5 min", "5 min 10 s" or "10 s"."""
    whole = round(seconds)
    for big, small, factor, length in (("d", "h", 24, 3600), ("h", "min", 60, 60), ("min", "s", 60, 1)):
        if whole >= factor * length:
            return f"{whole // (factor * length)} {big} {whole % (factor * length) // length} {small}"
    return f"{whole} s"


def _text(text: str) -> str:
    return escape(plain(text))


def _lines(text: str) -> str:
    return "\n".join(_text(line) for line in text.splitlines())
