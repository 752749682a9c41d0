"""How good in-betweens are: PSNR against the true frames of held-out streets, by the gap between keyframes.

    python benchmarks/in_betweens.py [--model street] [--size 256x128] [--streets 20]

prints the Markdown table of docs/results.md: the raw decoding, the default (detail carried from the keyframes), and a
plain cross-fade of the two keyframes. PSNR is the mean over the seven in-betweens of every gap, in RGB.
"""

from __future__ import annotations

import argparse
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from vidtrans.checkpoint import load_model
from vidtrans.compose import Composer
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Engine, Gap, working_size
from vidtrans.nets.contract import domain_named
from vidtrans.timeline import Instant, Interval
from vidtrans.train.evaluate import HELD_OUT_SEEDS, STARTS
from vidtrans.train.metrics import psnr
from vidtrans.train.street import Street
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

FACTOR = 8
GAPS = (Fraction(1, 30), Fraction(2, 15), Fraction(8, 17))  # seconds between keyframes
RGB = PIXEL_FORMATS["gbrp"]
COLOUR = Colour("bt601", full_range=True)
TIMES = tuple(Fraction(k, FACTOR) for k in range(FACTOR))


def as_frame(rgb: Tensor, time: Fraction, gap: Fraction) -> Frame:
    red, green, blue = (rgb[..., channel].numpy() for channel in range(3))
    return Frame((green, blue, red), time, gap, RGB, COLOUR)


def as_rgb(frame: Frame) -> np.ndarray:
    green, blue, red = frame.planes
    return np.stack([red, green, blue], -1)


def measure_gap(engine: Engine, composers: dict[str, Composer], truth: list[Tensor], gap: Fraction) -> dict[str, float]:
    """Mean PSNR in dB of the in-betweens of one gap, by method. truth: the nine frames (H, W, 3) uint8."""
    left, right = engine.encode(torch.stack([truth[0], truth[-1]]))
    domain = engine.domains[0]
    decoded = engine.between([Gap(left, right, TIMES)])[0][domain]
    instants = tuple(Instant(t, t * gap, gap / FACTOR) for t in TIMES)
    interval = Interval(as_frame(truth[0], Fraction(0), gap), as_frame(truth[-1], gap, gap), instants)
    made = {
        name: [as_rgb(frame) for frame in composer.frames(interval, decoded, right.decoded[domain])]
        for name, composer in composers.items()
    }
    first, last = truth[0].float(), truth[-1].float()
    made["cross-fade"] = [torch.lerp(first, last, float(t)).round().to(torch.uint8).numpy() for t in TIMES]
    return {
        name: float(np.mean([psnr(frames[k], truth[k].numpy()) for k in range(1, FACTOR)]))
        for name, frames in made.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR of in-betweens on held-out streets.")
    parser.add_argument("--model", default="street")
    parser.add_argument("--size", default="256x128", help="of the frames, width x height")
    parser.add_argument("--streets", type=int, default=len(HELD_OUT_SEEDS))
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    net = load_model(arguments.model).net
    engine = open_engine("torch", net, "scene", ["segmentation"], working_size((width, height), net.sizes.trained[1]))
    composers = {
        name: Composer(
            domain_named(net.domains, "scene"),
            scores=False,
            size=(width, height),
            pix_fmt=RGB,
            colour=COLOUR,
            is_source=True,
            carry_detail=carried,
        )
        for name, carried in (("raw decoding", False), ("detail carried (default)", True))
    }
    names = [*composers, "cross-fade"]
    print(f"| gap, s | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for gap in GAPS:
        rows = []
        for seed in HELD_OUT_SEEDS[: arguments.streets]:
            street = Street(seed)
            truth = [street.render(STARTS[0] + float(gap * t), width, height).rgb for t in (*TIMES, Fraction(1))]
            rows.append(measure_gap(engine, composers, truth, gap))
        print(f"| {gap} | {' | '.join(f'{np.mean([row[name] for row in rows]):.2f}' for name in names)} |", flush=True)


if __name__ == "__main__":
    main()
