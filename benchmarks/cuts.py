"""How well cuts are told from motion: clips whose cuts are known, and what `--cut-threshold` would make of them.

    python benchmarks/cuts.py [--shots 12] [--size 256x128] [--seed 0]

prints the Markdown tables of docs/results.md: for each kind of clip the values (vidtrans.cuts) of its gaps and cuts,
and over thresholds the share of cuts found and of gaps taken for cuts. Streets are none of those held out; the moving
test pictures come from the ffmpeg program.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from vidtrans.cuts import cut_value
from vidtrans.options import UpsampleOptions
from vidtrans.palettes import STREET
from vidtrans.repeats import block_difference
from vidtrans.train.street import SEASONS, Street
from vidtrans.video.reader import VideoReader

GAPS = {"1/30 s": 1 / 30, "2/15 s": 2 / 15, "8/17 s": 8 / 17}  # between frames
STARTS = (2.0, 9.0, 16.0)  # seconds into a street where a shot begins
THRESHOLDS = tuple(k / 50 for k in range(30, 46))
SOURCES = ("testsrc2", "mandelbrot", "life=mold=10:life_color=lime:death_color=navy", "gradients=seed=7", "smptehdbars")
Shot = list[np.ndarray]  # frames (H, W, 3) uint8 without a cut


@dataclass(frozen=True)
class Clips:
    """Shots of one kind; the cuts are those from each one's last frame to the next one's first."""

    name: str
    shots: list[Shot]

    def values(self) -> tuple[list[float], list[float]]:
        """The measure over all gaps, and over all cuts."""
        gaps = [cut_value(left, right) for shot in self.shots for left, right in pairwise(shot)]
        cuts = [cut_value(before[-1], after[0]) for before, after in pairwise(self.shots)]
        return gaps, cuts


class Rendered:
    """Shots of rendered streets, three frames each."""

    def __init__(self, count: int, width: int, height: int, seed: int) -> None:
        self._size = (width, height)
        self._streets = [Street(4_000_000 + seed + n, SEASONS[n % len(SEASONS)]) for n in range(count)]

    def shots(self, gap: float) -> tuple[list[Shot], list[Shot]]:
        """Pictures, and their labels in the palette's colours."""
        scenes, labels = [], []
        for number, street in enumerate(self._streets):
            start = STARTS[number % len(STARTS)]
            frames = [street.render(start + k * gap, *self._size) for k in range(3)]
            scenes.append([frame.rgb.numpy() for frame in frames])
            labels.append([STREET.colour(frame.labels.numpy()) for frame in frames])
        return scenes, labels

    def jumps(self) -> list[Shot]:
        """One street, seven seconds later in every shot."""
        street = self._streets[0]
        return [[street.render(start + k / 15, *self._size).rgb.numpy() for k in range(2)] for start in range(2, 60, 7)]

    def wide(self) -> list[np.ndarray]:
        """One picture of each street, of twice the size."""
        width, height = self._size
        return [street.render(STARTS[1], 2 * width, 2 * height).rgb.numpy() for street in self._streets]


def pans(wide: Iterable[np.ndarray], share: float) -> list[Shot]:
    """A window over a picture twice as wide that moves by a share of its own width from frame to frame."""
    shots = []
    for picture in wide:
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        steps = [round(k * share * width) for k in range(1 + int(1 / share))][:4]
        shots.append([np.ascontiguousarray(picture[height // 2 :][:height, x : x + width]) for x in steps])
    return shots


def shakes(wide: Iterable[np.ndarray], draw: np.random.Generator) -> list[Shot]:
    """A hand-held window: up to a tenth of its width and height to every side, turned by up to 4 degrees."""
    shots = []
    for picture in wide:
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        shot = []
        for _ in range(4):
            turn = cv2.getRotationMatrix2D((width, height), draw.uniform(-4, 4), 1.0)
            turn[:, 2] += draw.uniform(-0.1, 0.1, 2) * (width, height) - (width / 2, height / 2)
            shot.append(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT))
        shots.append(shot)
    return shots


def changed(shots: Iterable[Shot], change: Callable[[np.ndarray, int], np.ndarray]) -> list[Shot]:
    """Every frame (float32) of every shot changed by its number within the shot."""
    return [
        [change(frame.astype(np.float32), k).round().clip(0, 255).astype(np.uint8) for k, frame in enumerate(shot)]
        for shot in shots
    ]


def dissolves(shots: list[Shot], frames: int) -> list[Shot]:
    """Every shot fades over into the next one: one long shot without a cut."""
    faded: Shot = []
    for before, after in pairwise(shots):
        parts = [k / frames for k in range(frames)]
        faded += [cv2.addWeighted(before[-1], 1 - part, after[0], part, 0) for part in parts]
    return [faded]


def moving_pictures(width: int, height: int) -> Iterator[Shot]:
    """Four frames of each of FFmpeg's moving test pictures, at five frames a second."""
    for source in SOURCES:
        rate = f"{source}{':' if '=' in source else '='}size={width}x{height}:rate=5"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", rate, "-ss", "1", "-frames:v", "4"]
        raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
        yield list(np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 3))


def all_clips(count: int, width: int, height: int, seed: int) -> Iterator[Clips]:
    draw = np.random.default_rng(seed)
    rendered = Rendered(count, width, height, seed)
    for name, gap in GAPS.items():
        scenes, labels = rendered.shots(gap)
        yield Clips(f"streets, {name}", scenes)
        yield Clips(f"their labels, {name}", labels)
        if name == "2/15 s":
            calm = scenes
    yield Clips("one street, 1/15 s, jumps of 7 s", rendered.jumps())
    yield Clips("streets at night, noise", changed(calm, lambda x, k: 0.2 * x + draw.normal(0, 4, x.shape)))
    yield Clips("flashes", changed(calm, lambda x, k: 1.4 * x + 60 if k == 1 else x))
    yield Clips("fades to black, a quarter a frame", changed(calm, lambda x, k: x * (1 - 0.25 * k)))
    yield Clips("dissolves over 8 frames", dissolves(calm, 8))
    wide = rendered.wide()
    for share in (0.1, 0.2, 0.3):
        yield Clips(f"pans, {share:.0%} of the width", pans(wide, share))
    yield Clips("shakes, 10 %, 4 degrees", shakes(wide, draw))
    yield Clips("test pictures, 1/5 s", list(moving_pictures(width, height)))


def repeats_in_h264(shots: list[Shot], crf: int) -> tuple[float, float]:
    """Frames shown twice each, encoded: the largest repeats.block_difference of a repeat, the least of what follows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.mp4"
        height, width = shots[0][0].shape[:2]
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24", "-i", "-"]
        encoder = ["-c:v", "libx264", "-crf", str(crf), "-pix_fmt", "yuv420p", str(path)]
        twice = b"".join(frame.tobytes() * 2 for shot in shots for frame in shot)
        subprocess.run(["ffmpeg", "-v", "error", *raw, *encoder], input=twice, check=True)
        with VideoReader(path) as reader:
            differences = [block_difference(one, other) for one, other in pairwise(reader)]
    return max(differences[::2]), min(differences[1::2])


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def ends(values: list[float]) -> list[str]:
    return [str(len(values)), *(f"{limit(values):.2f}" if values else "" for limit in (min, max))]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cuts found and gaps taken for cuts.")
    parser.add_argument("--shots", type=int, default=12, help="streets to each kind of clip")
    parser.add_argument("--size", default="256x128", help="of the frames, width x height")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    default = next(f.default for f in fields(UpsampleOptions) if f.name == "cut_threshold")
    every_gap: list[float] = []
    every_cut: list[float] = []
    rows = []
    for clips in all_clips(arguments.shots, width, height, arguments.seed):
        gaps, cuts = clips.values()
        every_gap += gaps
        every_cut += cuts
        rows.append([clips.name, *ends(gaps), *ends(cuts)])
    print(table(["clips", "gaps", "least", "most", "cuts", "least", "most"], rows))
    print(f"\n{len(every_cut)} cuts, {len(every_gap)} gaps; the default threshold is {default:g}.\n")
    found = [
        [f"{t:.2f}", *(f"{np.mean(np.array(values) >= t):.1%}" for values in (every_cut, every_gap))]
        for t in THRESHOLDS
    ]
    print(table(["threshold", "cuts found", "gaps taken for cuts"], found))
    shots, _ = Rendered(arguments.shots, width, height, arguments.seed).shots(GAPS["1/30 s"])
    lossy = [[str(crf), *(f"{value:.1f}" for value in repeats_in_h264(shots, crf))] for crf in (17, 23, 28)]
    print("\nRepeats in H.264: largest mean difference of a block, code values.\n")
    print(table(["crf", "of a repeat, at most", "of the next picture, at least"], lossy))


if __name__ == "__main__":
    main()
