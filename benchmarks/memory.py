"""Peak memory of `vidtrans upsample` against the length of the input: it must not grow.

    python benchmarks/memory.py [--model street] [--seconds 10 60]

Each length runs in a process of its own on a test pattern (320x160, 10 frames a second, with sound); its peak resident
memory is what the operating system reports when it ends.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path


def run(clip: Path, model: str) -> float:
    """Peak resident memory in MiB of one run, in a fresh interpreter."""
    command = [sys.executable, "-m", "vidtrans", "upsample", str(clip), "--to", "segmentation", "-y", "--model", model]
    subprocess.run(command, check=True, capture_output=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory by length of the input.")
    parser.add_argument("--model", default="street")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 60])
    arguments = parser.parse_args()
    print("| input, s | frames in | peak memory, MiB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in arguments.seconds:
            clip = Path(folder) / f"{seconds}.mp4"
            sources = [f"testsrc2=size=320x160:rate=10:duration={seconds}", f"sine=duration={seconds}"]
            inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
            subprocess.run(["ffmpeg", "-v", "error", *inputs, "-pix_fmt", "yuv420p", str(clip)], check=True)
            # The children's peak is a running maximum, so every run is the only child of a process of its own.
            with get_context("spawn").Pool(1) as pool:
                peak = pool.apply(run, (clip, arguments.model))
            print(f"| {seconds} | {seconds * 10} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
