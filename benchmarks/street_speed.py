"""Frames a second of the rendered street.

python benchmarks/street_speed.py [--threads 2] [--frames 100]

As `vidtrans render` makes them: every thread renders frames of its own.
"""

from __future__ import annotations

import argparse
import time

from vidtrans.train.street import Street
from vidtrans.train.workers import in_order

SIZES = ((128, 64), (256, 128), (512, 256))


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames a second of the rendered street.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=100, help="for each size")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print("| size | threads | frames a second | CPU seconds a frame |\n|---|---|---|---|")
    for width, height in SIZES:
        street = Street(1, device=arguments.device)

        def frame(k: int, street: Street = street, width: int = width, height: int = height) -> None:
            street.render(k / 10, width, height).rgb.cpu()

        for threads in sorted({1, arguments.threads}):
            frame(0)
            started, busy = time.monotonic(), time.process_time()
            for _ in in_order(frame, range(arguments.frames), threads):
                pass
            wall, cpu = time.monotonic() - started, time.process_time() - busy
            rate, each = arguments.frames / wall, cpu / arguments.frames
            print(f"| {width}x{height} | {threads} | {rate:.1f} | {each:.3f} |", flush=True)


if __name__ == "__main__":
    main()
