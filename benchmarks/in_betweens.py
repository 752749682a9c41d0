"""How good in-betweens are on held-out streets, where every true frame is known, by the gap between keyframes.

    python benchmarks/in_betweens.py [--model street] [--size 256x128] [--streets 20] [--strips FOLDER]

prints the Markdown tables of docs/results.md. Source in-betweens: PSNR and SSIM against the true frames, mean over the
seven in-betweens of a gap, then over streets. Translated ones: mean IoU and flicker, the share of pixels whose class
changes between neighbouring frames although the truth's does not. Every method of ours runs through the stages of the
pipeline. The last table is what vidtrans.motion's LOST_CONFIDENCE lies between: motion over gaps, and over cuts from
each street to the next. --strips writes the worst clip of each gap as a PNG: truth, default, and translation.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kornia.metrics import ssim
from PIL import Image

from vidtrans.checkpoint import load_model
from vidtrans.compose import Composer
from vidtrans.engines import open_engine
from vidtrans.engines.contract import working_size
from vidtrans.gaps import Moving, Tracker
from vidtrans.latents import Fields
from vidtrans.motion import Motion, estimate
from vidtrans.nets.contract import domain_named
from vidtrans.palettes import STREET
from vidtrans.pipeline import Network
from vidtrans.timeline import Instant, Interval
from vidtrans.train.evaluate import HELD_OUT_SEEDS, STARTS
from vidtrans.train.metrics import Confusion, label_flicker, psnr
from vidtrans.train.street import Street
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

FACTOR = 8
GAPS = (Fraction(1, 30), Fraction(2, 15), Fraction(8, 17))  # seconds between keyframes
RGB = PIXEL_FORMATS["gbrp"]
COLOUR = Colour("bt601", full_range=True)
TIMES = tuple(Fraction(k, FACTOR) for k in range(FACTOR))
# name -> (motion, detail) of `vidtrans upsample`
OURS = {
    "--paper": ("none", "none"),
    "--motion none": ("none", "keyframes"),
    "--detail none": ("flow", "none"),
    "default": ("flow", "keyframes"),
}
TRUE_MOTION = "default, true motion"
MINTERPOLATE = "minterpolate=fps=8:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"


@dataclass(frozen=True)
class Truth:
    """The nine frames of a gap (9, H, W, 3) uint8, their classes (9, H, W), and the street's own motion."""

    rgb: np.ndarray
    labels: np.ndarray
    motion: Motion


@dataclass(frozen=True)
class Made:
    """What a method made of the gap: eight frames, t = 0 first, and for ours their classes."""

    rgb: np.ndarray
    labels: np.ndarray | None = None


def render(street: Street, gap: Fraction, width: int, height: int) -> Truth:
    frames = [street.render(STARTS[0] + float(gap * t), width, height) for t in (*TIMES, Fraction(1))]
    ends = STARTS[0], STARTS[0] + float(gap)
    (forward, seen), (backward, seen_back) = (street.motion(*order, width, height) for order in (ends, ends[::-1]))
    limit = 2.0 * width  # points behind the camera have no place in the picture
    flows = (flow.movedim(-1, 0).clamp(-limit, limit) for flow in (forward, backward))
    return Truth(
        np.stack([frame.rgb.numpy() for frame in frames]),
        np.stack([frame.labels.numpy() for frame in frames]),
        Motion(*flows, seen.float(), seen_back.float()),
    )


class Methods:
    """All ways to make in-betweens from the two keyframes of a gap."""

    def __init__(self, net: Any, width: int, height: int) -> None:
        size = working_size((width, height), net.sizes.trained[1])
        self.engine = open_engine("torch", net, "scene", ["segmentation"], size)
        self.composers = {
            (domain, detail): Composer(
                domain_named(net.domains, domain),
                scores=net.has_scores(domain),
                size=(width, height),
                pix_fmt=RGB,
                colour=COLOUR,
                is_source=domain == "scene",
                carry_detail=detail == "keyframes",
            )
            for domain in self.engine.domains
            for detail in ("keyframes", "none")
        }

    def run(self, truth: Truth, gap: Fraction) -> dict[str, Made]:
        left, right = truth.rgb[0], truth.rgb[-1]
        made = {}
        for name, (motion, detail) in OURS.items():
            item = Tracker(moving=motion == "flow", cut_threshold=1.0, holds_cuts=False)(interval_of(left, right, gap))
            made[name] = self._ours(item, detail)
        known = Moving(interval_of(left, right, gap), left, right, truth.motion.at(TIMES))
        made[TRUE_MOTION] = self._ours(known, "keyframes")
        fade = [left + (right - left.astype(np.float32)) * float(t) for t in TIMES]
        made["cross-fade"] = Made(np.stack(fade).round().astype(np.uint8))
        made["minterpolate"] = Made(minterpolate(left, right))
        made["pixel warp"] = Made(pixel_warp(left, right))
        return made

    def _ours(self, moving: Moving, detail: str) -> Made:
        item = Network(self.engine)([moving])[0]
        made = {}
        for domain in self.engine.domains:
            composer = self.composers[domain, detail]
            ends = item.left["scene"], item.right["scene"] if item.right else None
            frames = composer.frames(item.interval, item.outputs[domain], *ends, item.motion)
            made[domain] = np.stack([as_rgb(frame) for frame in frames])
        return Made(made["scene"], STREET.nearest(made["segmentation"]))


def interval_of(left: np.ndarray, right: np.ndarray, gap: Fraction) -> Interval:
    instants = tuple(Instant(t, t * gap, gap / FACTOR) for t in TIMES)
    return Interval(as_frame(left, Fraction(0), gap), as_frame(right, gap, gap), instants)


def as_frame(rgb: np.ndarray, start: Fraction, gap: Fraction) -> Frame:
    red, green, blue = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    return Frame((green, blue, red), start, gap, RGB, COLOUR)


def as_rgb(frame: Frame) -> np.ndarray:
    green, blue, red = frame.planes
    return np.stack([red, green, blue], -1)


def pixel_warp(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The same motion on the pixels alone, without any network."""
    fields: Fields = estimate(left, right).at(TIMES).on(*left.shape[:2])
    planes = [torch.from_numpy(rgb.copy()).movedim(-1, 0).float() for rgb in (left, right)]
    return fields.blend(*planes).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()


def minterpolate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """FFmpeg's motion-compensated interpolation with its best settings."""
    height, width = left.shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    command = ["ffmpeg", "-v", "error", *raw, "-s", f"{width}x{height}", "-r", "1", "-i", "-", "-vf", MINTERPOLATE]
    frames = np.stack([left, right, right, right]).tobytes()  # it needs a second gap to finish the first
    out = subprocess.run([*command, *raw, "-"], input=frames, capture_output=True, check=True).stdout
    return np.frombuffer(out, np.uint8).reshape(-1, height, width, 3)[:FACTOR]


def mean_ssim(made: np.ndarray, truth: np.ndarray) -> float:
    pictures = (torch.from_numpy(rgb.copy()).movedim(-1, 1).float() / 255.0 for rgb in (made, truth))
    return float(ssim(*pictures, window_size=11).mean())


def found_range(motions: list[Motion]) -> list[str]:
    """Least and most confidence, and how many motions count as lost."""
    confidence = [motion.confidence for motion in motions]
    ranges = [f"{limit(confidence):.2f}" for limit in (min, max)]
    return [*ranges, str(sum(motion.is_lost for motion in motions))]


def write_strip(path: Path, truth: Truth, made: Made) -> None:
    """Truth, made and its classes, every other frame."""
    rows = [truth.rgb[:-1], made.rgb, STREET.colour(truth.labels[:-1]), STREET.colour(made.labels)]
    Image.fromarray(np.concatenate([np.concatenate(list(row[::2]), 1) for row in rows])).save(path)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality of in-betweens on held-out streets.")
    parser.add_argument("--model", default="street")
    parser.add_argument("--size", default="256x128", help="of the frames, width x height")
    parser.add_argument("--streets", type=int, default=len(HELD_OUT_SEEDS))
    parser.add_argument("--first-seed", type=int, default=HELD_OUT_SEEDS[0])
    parser.add_argument("--strips", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    methods = Methods(load_model(arguments.model).net, width, height)
    names = ["cross-fade", "minterpolate", *OURS, "pixel warp", TRUE_MOTION]
    source_rows, label_rows, found_rows, motion_ms = [], [], [], []
    lefts: list[np.ndarray] = []
    for gap in GAPS:
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        confusion = {name: Confusion(len(STREET)) for name in ("keyframes", *OURS)}
        flickers: dict[str, list[float]] = {name: [] for name in OURS}
        shares, worst, found = [], (np.inf, None, None), []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.streets):
            truth = render(Street(seed), gap, width, height)
            made = methods.run(truth, gap)
            for name in names:
                scores = [psnr(made[name].rgb[k], truth.rgb[k]) for k in range(1, FACTOR)]
                figures[name].append((float(np.mean(scores)), mean_ssim(made[name].rgb[1:], truth.rgb[1:-1])))
            for name in OURS:
                confusion[name].add(truth.labels[1:-1], made[name].labels[1:])
                flickers[name].append(label_flicker(made[name].labels, truth.labels[:-1]))
            confusion["keyframes"].add(truth.labels[0], made["default"].labels[0])
            difference = made["default"].rgb[1:].astype(np.float32) - made["pixel warp"].rgb[1:]
            shares.append(np.abs(difference).mean() / 255.0)
            gain = figures["default"][-1][0] - figures["cross-fade"][-1][0]
            if gain < worst[0]:
                worst = (gain, truth, made["default"])
            started = time.process_time()
            found.append(estimate(truth.rgb[0], truth.rgb[-1]))
            found[-1].at(TIMES)
            motion_ms.append((time.process_time() - started) * 1000.0)
            if gap == GAPS[0]:
                lefts.append(truth.rgb[0])
        means = {name: np.mean(rows, 0) for name, rows in figures.items()}
        source_rows.append([str(gap), *(f"{means[name][0]:.2f} / {means[name][1]:.3f}" for name in names)])
        source_rows[-1] += [f"{worst[0]:+.2f}", f"{np.mean(shares):.4f}"]
        label_rows.append([str(gap), f"{confusion['keyframes'].mean_iou:.3f}"])
        label_rows[-1] += [f"{confusion[name].mean_iou:.3f} / {100 * np.mean(flickers[name]):.2f} %" for name in OURS]
        found_rows.append([str(gap), *found_range(found)])
        if arguments.strips is not None and worst[1] is not None:
            arguments.strips.mkdir(parents=True, exist_ok=True)
            write_strip(arguments.strips / f"gap-{gap.numerator}-{gap.denominator}.png", *worst[1:])
    cuts = [estimate(left, right) for left, right in zip(lefts, lefts[1:] + lefts[:1], strict=True)]
    found_rows.append(["cuts", *found_range(cuts)])
    print("Source in-betweens, PSNR in dB / SSIM; worst: default minus cross-fade on the worst clip; decoder's share:")
    print("mean absolute difference of default and pixel warp, as a share of white.\n")
    print(table(["gap, s", *names, "worst", "decoder's share"], source_rows))
    print("\nTranslated in-betweens, mean IoU / flicker.\n")
    print(table(["gap, s", "keyframes", *OURS], label_rows))
    print("\nMotion found, over gaps and over cuts: mean trust of both flows.\n")
    print(table(["gap, s", "least confidence", "most", "lost"], found_rows))
    print(
        f"\nMotion of a gap (estimate, fields of eight instants): {np.median(motion_ms):.0f} ms of CPU in the median."
    )


if __name__ == "__main__":
    main()
