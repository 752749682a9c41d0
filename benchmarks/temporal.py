"""What training for in-betweens does to them: models side by side on rendered streets, or fine-tuned here and compared.

    python benchmarks/temporal.py RUN... [--streets 20] [--development]
    python benchmarks/temporal.py --train START --steps 600 --cache cache -o runs/temporal

Gaps of 2/15 s between keyframes, eight instants of 1/60 s each, on the held-out streets or (--development) on those
that recipes are designed on. Pictures are the network's own decoding, without carried detail; in each cell first the
papers' blend in place, then features moved along the gap's motion, as `upsample` does by default:

- PSNR of the seven in-between scene frames against the true frames;
- mean IoU and pixel accuracy of their labels;
- label flicker: share of pixels whose class changes from one instant to the next while the true class does not;
- photo flicker: mean |change of the output - change of the truth| from one instant to the next, in grey levels.

--train fine-tunes one finished scene-to-segmentation model in the ways of VARIANTS by the recipe `street-named`, its
learning rate falling to zero over all steps, on the same clips, and prints START's row and theirs. An interrupted
comparison goes on when it is started again. Batches are chosen so that a step costs about the same: a plain batch is 4
frames, a sequential one 2 clips of 2 frames; a step on in-betweens passes one frame more of each clip through encoder
and decoder, once, so it has 3 clips.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidtrans.checkpoint import Model, load_model
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Features, Gap
from vidtrans.motion import estimate
from vidtrans.palettes import STREET
from vidtrans.train.evaluate import (
    DEVELOPMENT_SEEDS,
    FACTOR,
    GAP,
    HELD_OUT_SEEDS,
    STARTS,
    classes_of,
    names_scenes,
    to_uint8,
)
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Run
from vidtrans.train.metrics import Confusion, label_flicker, photo_flicker, psnr
from vidtrans.train.recipe import load_recipe
from vidtrans.train.street import Street
from vidtrans.train.workers import in_order

TIMES = tuple(Fraction(k, FACTOR) for k in range(FACTOR))
BLENDS = ("in place", "moved")
# of every variant, so that all see the same footage, rendered once
FOOTAGE = ("data.street_clip=9", "data.street_spacing=0.016666666666666666", "data.street_frames_per_seed=2")
# name -> changes to the recipe `street-named`
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    "sequential, variation": (
        "train.batch=2",
        "data.clip=2",
        "loss.sequential=true",
        "loss.variation_weight=10.0",
    ),
    "between, in place": ("train.batch=3", "data.clip=9", "loss.between_weight=1.0", 'loss.between_motion="none"'),
    "between, moved": ("train.batch=3", "data.clip=9", "loss.between_weight=1.0", 'loss.between_motion="flow"'),
}


@dataclass(frozen=True)
class Truth:
    """The nine frames of a gap (9, H, W, 3) uint8 and their classes (9, H, W)."""

    rgb: np.ndarray
    labels: np.ndarray


@dataclass
class Scores:
    """Of one model and one way to blend, summed up gap by gap."""

    labels: Confusion
    psnrs: list[float] = field(default_factory=list)
    label_flickers: list[float] = field(default_factory=list)
    photo_flickers: list[float] = field(default_factory=list)

    def add(self, truth: Truth, rgb: np.ndarray, labels: np.ndarray) -> None:
        """rgb (9, H, W, 3) and labels (9, H, W): what was made of the gap, both keyframes among it."""
        inner = slice(1, FACTOR)
        self.psnrs += [psnr(*pair) for pair in zip(rgb[inner], truth.rgb[inner], strict=True)]
        self.labels.add(truth.labels[inner], labels[inner])
        self.label_flickers.append(label_flicker(labels, truth.labels))
        self.photo_flickers.append(photo_flicker(rgb, truth.rgb))

    def cells(self) -> list[str]:
        return [
            f"{np.mean(self.psnrs):.2f}",
            f"{self.labels.mean_iou:.3f}",
            f"{self.labels.accuracy:.3f}",
            f"{100 * np.mean(self.label_flickers):.2f} %",
            f"{np.mean(self.photo_flickers):.2f}",
        ]


HEAD = ["model", "PSNR, dB", "mean IoU", "accuracy", "label flicker", "photo flicker"]


def truths(seeds: range, size: tuple[int, int]) -> list[Truth]:
    """All gaps of the streets, rendered once for all models."""
    instants = [[start + float(GAP * t) for t in (*TIMES, Fraction(1))] for start in STARTS]

    def rendered(seed: int) -> list[Truth]:
        street, gaps = Street(seed), []
        for gap in instants:
            frames = [street.render(instant, *size) for instant in gap]
            rgb, labels = (torch.stack(rows).numpy() for rows in zip(*((f.rgb, f.labels) for f in frames), strict=True))
            gaps.append(Truth(rgb, labels))
        return gaps

    return [gap for gaps in in_order(rendered, seeds) for gap in gaps]


def measured(net: Any, gaps: list[Truth], device: str) -> dict[str, Scores]:
    """By way to blend."""
    height, width = gaps[0].labels.shape[1:]
    engine = open_engine("torch", net, "scene", ["segmentation"], (width, height), device)
    scores = {blend: Scores(Confusion(len(STREET))) for blend in BLENDS}
    for truth in gaps:
        left, right = engine.encode(torch.from_numpy(truth.rgb[[0, -1]]))
        motion = estimate(truth.rgb[0], truth.rgb[-1])
        fields = None if motion.is_lost else motion.at(TIMES)
        made = engine.between([Gap(left, right, TIMES), Gap(left, right, TIMES, fields)])
        for blend, outputs in zip(BLENDS, made, strict=True):
            scene, segmentation = (torch.cat([outputs[name], _own(right, name)]) for name in engine.domains)
            rgb = np.stack([to_uint8(out) for out in scene])
            scores[blend].add(truth, rgb, classes_of(net, segmentation, "segmentation"))
    return scores


def _own(keyframe: Features, domain: str) -> torch.Tensor:
    return keyframe.decoded[domain].unsqueeze(0)


def say(text: str) -> None:
    """On stderr: stdout is for the table."""
    print(text, file=sys.stderr, flush=True)


def row(name: str, scores: dict[str, Scores]) -> list[str]:
    """Each cell holds the figures of both blends."""
    return [name, *(" / ".join(pair) for pair in zip(*(scores[blend].cells() for blend in BLENDS), strict=True))]


def trained(start: Model, name: str, steps: int, draws: int, cache: Path, folder: Path, device: str) -> Run:
    """One variant at its end, begun or gone on with in its own folder."""
    length = (f"train.decay={steps}", "train.constant=0", "train.warmup=0", f"data.street_frames={draws}")
    recipe = load_recipe("street-named", (*FOOTAGE, *length, *VARIANTS[name]))
    place = folder / name.replace(", ", "-").replace(" ", "-")
    run = Run(recipe, place, device=device, cache=cache, init_from=start, report=say)
    if (place / STATE).is_file():
        run.resume()
    started, first = time.process_time(), run.step
    run.advance(show=lambda progress: say(f"{name}: {progress.step}/{progress.total}"))
    if run.step > first:
        seconds = (time.process_time() - started) / (run.step - first)
        say(f"{name}: {run.batches.frames_per_step} frames and {seconds:.2f} s of CPU a step")
    return run


def table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="In-betweens of models, or of what fine-tuning makes of one.")
    parser.add_argument("models", nargs="*", metavar="RUN", help="names, files or run folders")
    parser.add_argument("--train", metavar="START", help="fine-tune this model in every way and compare")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="only these ways")
    parser.add_argument("--steps", type=int, default=600, help="of each fine-tuning")
    parser.add_argument("--draws", type=int, default=600, help="clips of nine frames for each domain")
    parser.add_argument("--cache", type=Path, help="where rendered frames are kept; by default in the -o folder")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/temporal"), help="of the fine-tuned runs")
    parser.add_argument("--streets", type=int, default=len(HELD_OUT_SEEDS))
    parser.add_argument("--development", action="store_true", help="other streets than the held-out ones")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    models = [*arguments.models, *([arguments.train] if arguments.train else [])]
    if not models:
        parser.error("name at least one RUN, or --train START")
    nets = {name: load_model(name).net for name in models}
    for name, net in nets.items():
        if not names_scenes(net):
            parser.error(f"{name} has no domains scene and segmentation")
    if arguments.train:
        start = load_model(arguments.train)
        for name in arguments.variants:
            cache = arguments.cache or arguments.out / "cache"
            run = trained(start, name, arguments.steps, arguments.draws, cache, arguments.out, arguments.device)
            nets[name] = run.model.eval()
    seeds = (DEVELOPMENT_SEEDS if arguments.development else HELD_OUT_SEEDS)[: arguments.streets]
    gaps = truths(seeds, next(iter(nets.values())).sizes.trained)
    rows = []
    for name, net in nets.items():
        rows.append(row(name, measured(net, gaps, arguments.device)))
        say("  ".join(rows[-1]))
    command = shlex.join(["python", "benchmarks/temporal.py", *sys.argv[1:]])
    streets = f"{len(seeds)} {'development' if arguments.development else 'held-out'} streets"
    print(f"`{command}`: {streets}, {len(gaps)} gaps of 1/7.5 s; {' / '.join(BLENDS)}.\n\n{table(rows)}")


if __name__ == "__main__":
    main()
