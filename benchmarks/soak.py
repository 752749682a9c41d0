"""A long run whose memory must stay flat: 20,000 input frames with sound through the whole tool, into two files.

    python benchmarks/soak.py [--frames 20000] [--size 128x72] [--factor 2]

The clip is made by the ffmpeg program. The network is one that changes nothing, so that the time goes into everything
around it: reading, motion, composing, two encoders, segments, sound. Resident memory is read (on Linux) at every
twentieth of the output, and once more when both files are complete. Exit code 1 where it grows by more than 1 KiB for
each input frame from the fifth part of the run on (one kept frame of the default size would take 13), or where a file
lacks a frame or sound.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

RATE = 25
SAMPLES = 20
BOUND_BYTES = 1024


def make_clip(path: Path, frames: int, size: str) -> None:
    sources = (f"testsrc2=size={size}:rate={RATE}", "sine=sample_rate=48000")
    inputs = [part for source in sources for part in ("-f", "lavfi", "-i", source)]
    encoders = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    ends = ("-t", str(frames / RATE))
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *inputs, *encoders, *ends, str(path)], check=True)


def resident_bytes() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lengths(path: Path) -> tuple[int, float]:
    """Pictures, and seconds of sound, by ffprobe."""

    def asked(stream: str, entry: str, *more: str) -> str:
        command = ["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries", f"stream={entry}"]
        return subprocess.run(
            [*command, *more, "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True
        ).stdout.strip()

    return int(asked("v:0", "nb_read_packets", "-count_packets")), float(asked("a:0", "duration"))


def growth(samples: list[tuple[int, int]]) -> float:
    """Bytes that each input frame adds, by a line through the samples (frames in, bytes) after the first fifth."""
    frames, sizes = np.array(samples[len(samples) // 5 :], float).T
    return float(np.polyfit(frames, sizes, 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description="Resident memory over a long run.")
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--size", default="128x72", help="of the clip, WIDTHxHEIGHT")
    parser.add_argument("--factor", type=Fraction, default=Fraction(2))
    arguments = parser.parse_args()

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import torch
    from identity import identity_model

    from vidtrans.options import UpsampleOptions
    from vidtrans.pipeline import run
    from vidtrans.video.encoder import EncoderOptions

    torch.set_num_threads(1)
    samples: list[tuple[int, int]] = []
    began = time.monotonic()
    print("| input frames | seconds | resident memory, MiB |\n|---|---|---|")

    def sample(frames: int, what: str) -> None:
        size = resident_bytes()
        print(f"| {what} | {time.monotonic() - began:.0f} | {size / 2**20:.0f} |", flush=True)
        samples.append((frames, size))

    def progress(done: int, expected: int | None) -> None:
        frames = int(done / arguments.factor)
        if frames * SAMPLES >= (len(samples) + 1) * arguments.frames:
            sample(frames, str(frames))

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "in.mp4"
        make_clip(clip, arguments.frames, arguments.size)
        began = time.monotonic()
        summary = run(
            UpsampleOptions(
                clip,
                "there",
                factor=arguments.factor,
                engine="torch",
                encoder=EncoderOptions(preset="veryfast", threads=1),
            ),
            model=identity_model(),
            progress=progress,
        )
        by_frame = growth(samples)
        sample(summary.frames_in, "both files complete")
        written = [lengths(path) for path in summary.outputs]
    seconds = arguments.frames / RATE
    whole = all(count == summary.frames_out and abs(sound - seconds) < 0.1 for count, sound in written)
    print(
        f"{summary.frames_in} frames in, {summary.frames_out} out twice; growth {by_frame:.0f} bytes for each input "
        f"frame; in the files: {', '.join(f'{count} frames, {sound:.2f} s of sound' for count, sound in written)}"
    )
    return int(by_frame > BOUND_BYTES or not whole or summary.frames_in != arguments.frames)


if __name__ == "__main__":
    sys.exit(main())
