"""The methods on the rendered street, each trained for the same time: the table of docs/results.md.

    python benchmarks/methods.py [RECIPE ...] [--seconds 3600] [--cache DIR] [--runs DIR] [--device cpu] [--json FILE]

Every recipe is trained for the same seconds, at its constant learning rate (nobody knows in advance at which step a
decay would have to begin), its own warm-up included; rendering the footage does not count. On a CPU they are the
process's own seconds, of all its threads, so that other work on the machine takes nothing from a method. A
run that is in DIR already is measured, not trained again. The averaged networks are then measured as `vidtrans
evaluate` does, on the held-out streets, at keyframes and at the instants in between. In-betweens are blended in place,
without motion: latents where domains share a latent space, else the source's pictures, which are then translated, clips
of consecutive instants by networks for clips. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from vidtrans.checkpoint import load_model
from vidtrans.latents import blend
from vidtrans.measuring import machine
from vidtrans.nets.blocks import parameter_count
from vidtrans.nets.contract import to_unit
from vidtrans.palettes import STREET
from vidtrans.train.evaluate import FACTOR, GAP, HELD_OUT_SEEDS, STARTS, classes_of, evaluate_street
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Progress, Run
from vidtrans.train.metrics import Confusion
from vidtrans.train.recipe import load_recipe
from vidtrans.train.street import Street

RECIPES = ("street-start", "street-unit", "street-cyclegan", "street-cyclegan3d")
SOURCE, TARGET = "scene", "segmentation"
# The time ends a run, not its number of steps; pictures and checkpoints on the way would only take from it.
ENDLESS = tuple(
    f"train.{change}"
    for change in (
        "unit=steps",
        "constant=1000000000",
        "decay=0",
        "save_every=1000000000",
        "sample_every=1000000000",
        "log_every=10",
    )
)


@dataclass(frozen=True)
class Row:
    """What became of one recipe. parameters: of the saved networks, discriminators apart."""

    recipe: str
    method: str
    parameters: int
    steps: int
    accuracy: float
    mean_iou: float
    between_accuracy: float
    between_mean_iou: float


class Spent(Exception):
    """The time is over."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The methods on the rendered street, each trained for the same time.")
    parser.add_argument("recipes", nargs="*", default=RECIPES, help=f"default: {' '.join(RECIPES)}")
    parser.add_argument("--seconds", type=float, default=3600.0, help="of training, for each recipe")
    parser.add_argument("--cache", type=Path, help="where rendered frames are kept; default: in DIR of --runs")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), metavar="DIR")
    parser.add_argument("--streets", type=int, default=len(HELD_OUT_SEEDS), help="held-out streets to measure on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="a change of every recipe")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    changes = (*ENDLESS, *arguments.changes)
    for name in arguments.recipes:  # mistakes before the work
        load_recipe(name, changes)
    cache = arguments.cache or arguments.runs / "cache"
    rows = []
    for name in arguments.recipes:
        folder = arguments.runs / name
        if not (folder / STATE).exists():
            train(name, changes, folder, cache, arguments.seconds, arguments.device)
        rows.append(measured(name, folder, HELD_OUT_SEEDS[: arguments.streets], arguments.device))
    print(machine())
    kind = "processor seconds" if arguments.device == "cpu" else "seconds"
    print(f"\n{arguments.seconds:g} {kind} of training each.\n")
    print(table(rows))
    if arguments.json is not None:
        facts = {"machine": machine(), "seconds": arguments.seconds, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def train(name: str, changes: tuple[str, ...], folder: Path, cache: Path, seconds: float, device: str) -> None:
    run = Run(load_recipe(name, changes), folder, device=device, cache=cache, report=say)
    clock = time.process_time if device == "cpu" else time.monotonic
    began = clock()

    def show(progress: Progress) -> None:
        spent = clock() - began
        say(f"{name}: step {progress.step}, {spent:.0f} of {seconds:g} s, {progress.steps_per_second:.2f} steps/s")
        if spent >= seconds:
            raise Spent

    try:
        run.advance(show=show)
    except Spent:
        run.save()
        run.journal.close()


def measured(name: str, folder: Path, seeds: range, device: str) -> Row:
    model = load_model(folder)
    net = model.net.to(device)
    keyframes, between = confusions(net, seeds, device)
    return Row(
        name,
        model.trained["recipe"]["method"],
        parameter_count(net),
        model.trained["step"],
        keyframes.accuracy,
        keyframes.mean_iou,
        between.accuracy,
        between.mean_iou,
    )


def confusions(net: Any, seeds: range, device: str) -> tuple[Confusion, Confusion]:
    """At keyframes and in between, by the way that the net's family goes."""
    if not net.shares_latent:
        if net.clip > 1:
            return of_clips(net, seeds, device)
        from vidtrans.nets.pixel_space import PixelSpace

        net = PixelSpace(net, SOURCE)
    scores = evaluate_street(net, source=SOURCE, target=TARGET, seeds=seeds, device=device, report=say)
    return scores.keyframes, scores.between


@torch.inference_mode()
def of_clips(net: Any, seeds: range, device: str) -> tuple[Confusion, Confusion]:
    """What evaluate_street measures, of a net that translates consecutive frames together: a gap's are one clip."""
    from vidtrans.nets.translating import translated_raw

    width, height = net.sizes.trained
    keyframes, between = Confusion(len(STREET)), Confusion(len(STREET))
    times = [Fraction(k, FACTOR) for k in range(FACTOR)]
    for seed in seeds:
        street = Street(seed)
        for start in STARTS:
            frames = [street.render(start + float(GAP * t), width, height) for t in (*times, Fraction(1))]
            left, right = to_unit(torch.stack([frames[0].rgb, frames[-1].rgb])).to(device)
            clip = torch.cat([blend(left, right, times), right.unsqueeze(0)])
            out = translated_raw(net, clip.unsqueeze(0), SOURCE, TARGET)[0]
            predicted = classes_of(net, out[:FACTOR], TARGET)
            for k, frame in enumerate(frames[:-1]):
                (between if k else keyframes).add(frame.labels.numpy(), predicted[k])
        say(f"street {seed}: accuracy so far {keyframes.accuracy:.3f}, mean IoU {keyframes.mean_iou:.3f}")
    return keyframes, between


def table(rows: list[Row]) -> str:
    head = [
        "recipe",
        "method",
        "parameters",
        "steps",
        "pixel accuracy",
        "mean IoU",
        "in-betweens' accuracy",
        "mean IoU",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        figures = (row.accuracy, row.mean_iou, row.between_accuracy, row.between_mean_iou)
        cells = [
            row.recipe,
            row.method,
            f"{row.parameters / 1e6:.2f} M",
            str(row.steps),
            *(f"{x:.3f}" for x in figures),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
