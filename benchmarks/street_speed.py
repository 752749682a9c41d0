"""Frames a second of the rendered street.

python benchmarks/street_speed.py [--threads 2] [--seconds 10]
"""

from __future__ import annotations

import argparse
import time

import torch

from vidtrans.train.street import Street

SIZES = ((128, 64), (256, 128), (512, 256))


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames a second of the rendered street.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, for each size")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| size | frames a second | CPU seconds a frame |\n|---|---|---|")
    for width, height in SIZES:
        street = Street(1, device=arguments.device)
        street.render(0.0, width, height)
        started, busy, frames = time.monotonic(), time.process_time(), 0
        while time.monotonic() - started < arguments.seconds:
            street.render(frames / 10, width, height).rgb.cpu()
            frames += 1
        wall, cpu = time.monotonic() - started, time.process_time() - busy
        print(f"| {width}x{height} | {frames / wall:.1f} | {cpu / frames:.3f} |", flush=True)


if __name__ == "__main__":
    main()
