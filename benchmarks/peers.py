"""Our way against the ways others go, on one clip of the rendered street, in one run, on one machine.

    python benchmarks/peers.py [--engine openvino] [--precision bf16] [--seconds 4] [--json FILE]

Speed: the nets of the papers (width 64) at 128x128, weights as before training, for which speed is the same. The
two-step way of the papers is to interpolate, then to translate every frame with a CycleGAN generator; the generator
runs in the same engine, precision, width, size and batch as our net. Quality: PSNR of the source in-betweens of the
bundled model against the true frames of the street. minterpolate is ffmpeg's, motion compensated. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidtrans.bench import LiftEachFrame, count_gflop, paper_model
from vidtrans.checkpoint import Model, load_model
from vidtrans.engines import choose, open_engine
from vidtrans.engines.contract import Gap
from vidtrans.measuring import machine, peak_memory_mib, reset_peak_memory
from vidtrans.nets.contract import Domain, SizeFacts
from vidtrans.nets.cyclegan import Generator
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import run
from vidtrans.train.clip import render_clip
from vidtrans.train.metrics import psnr
from vidtrans.video.frame import Frame
from vidtrans.video.nowhere import Nowhere

SIZE, FACTOR, RATE = (128, 128), 8, Fraction(15, 2)
SEED = 8_700_000
MINTERPOLATE = f"minterpolate=fps={RATE * FACTOR}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"


class Translator(nn.Module):
    """A frame-by-frame generator as an engine takes a net: what it makes of a frame is that frame's own decoding."""

    family, shares_latent, lift_norm = "cyclegan", False, "none"
    config = SimpleNamespace(to_json=lambda: {"width": 64, "blocks": 6})
    domains = (Domain("scene"),)
    sizes = SizeFacts(multiple=4, minimum=36, trained=SIZE)

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def has_scores(self, domain: str) -> bool:
        return False

    def encode(self, x: Tensor, domain: str) -> Tensor:
        return x

    def lift(self, z: Tensor, domain: str) -> Tensor:
        return z

    def finish(self, a: Tensor, domain: str) -> Tensor:
        out: Tensor = self.generator(a)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Our way against the ways others go.")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=Fraction, default=Fraction(4), help="length of the clip")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    choice = choose(arguments.engine, arguments.device)
    how = {"device": choice.device, "precision": arguments.precision}
    print(machine())
    with TemporaryDirectory() as folder:
        clip, truth = Path(folder, "clip.mkv"), Path(folder, "truth.mkv")
        for path, rate in ((clip, RATE), (truth, RATE * FACTOR)):
            render_clip(path, SEED, arguments.seconds, rate, SIZE)
        speed = measure_speed(clip, choice.engine, how)
        quality = measure_quality(clip, truth, choice.engine, how)
    print(speed_table(speed))
    print()
    print(quality_table(quality))
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"machine": machine(), "speed": speed, "quality_db": quality}, indent=1) + "\n"
        )


def measure_speed(clip: Path, engine: str, how: dict[str, str]) -> list[dict[str, Any]]:
    """Per way: seconds for the whole clip, pairs of output frames, GFLOP of networks a pair, peak MiB, engine."""
    net = paper_model().net
    frames = decode(clip)
    rows: list[dict[str, Any]] = []

    def add(name: str, seconds: float, pairs: int, gflop: float, memory: float | None, words: str) -> None:
        rows.append(
            {"way": name, "seconds": seconds, "pairs": pairs, "gflop": gflop, "peak_mib": memory, "engine": words}
        )

    for name, seen, motion in (
        ("vidtrans", net, "flow"),
        ("vidtrans --motion none", net, "none"),
        ("vidtrans --motion none, every frame lifted", LiftEachFrame(net), "none"),
    ):
        encode, finish = count_gflop(seen, ("scene", "segmentation"), SIZE)
        reset_peak_memory(how["device"])
        seconds, pairs, words = whole_run(clip, seen, engine, how, motion)
        add(name, seconds, pairs, (encode + FACTOR * finish) / FACTOR, peak_memory_mib(how["device"]), words)

    pairs = len(frames) * FACTOR
    alone, memory = minterpolate_seconds(clip)
    generator = Translator(Generator(64, 6)).eval().requires_grad_(False)
    translate = open_engine(engine, generator, "scene", [], SIZE, samples=lambda: frames, **how)
    words = f"{translate.name} {translate.precision}"
    _, one = count_gflop(generator, ("scene",), SIZE)
    batch = frames[torch.arange(FACTOR) % len(frames)]
    each = clock(lambda: translate.encode(batch), len(frames))
    add("minterpolate alone, no translation", alone, pairs, 0.0, memory, "ffmpeg")
    add("minterpolate, then CycleGAN", alone + each, pairs, one, None, words)

    ours = open_engine(engine, paper_model().net, "scene", [], SIZE, samples=lambda: frames, **how)
    encode, finish = count_gflop(net, ("scene",), SIZE)
    times = tuple(Fraction(k, FACTOR) for k in range(FACTOR))

    def interpolate() -> None:
        left, right = ours.encode(frames[:1])[0], ours.encode(frames[1:2])[0]
        ours.between([Gap(left, right, times)])

    # A keyframe is encoded for every gap, the clip's first one apart: one encode and one gap each.
    once = clock(lambda: ours.encode(frames[:1]), 1)
    latent = (clock(interpolate, 1) - once) * len(frames)
    add("our latent path, then CycleGAN", latent + each, pairs, (encode + FACTOR * finish) / FACTOR + one, None, words)
    return rows


def whole_run(clip: Path, net: Any, engine: str, how: dict[str, str], motion: str) -> tuple[float, int, str]:
    """From the first gap that came out to the last, scaled to all: opening an engine does not count."""
    marks: list[tuple[float, int]] = []
    said: list[str] = []
    run(
        UpsampleOptions(clip, "segmentation", "scene", engine=engine, motion=motion, size=SIZE, **how),
        model=Model(net),
        writers=(Nowhere(), Nowhere()),
        announce=said.append,
        progress=lambda done, expected: marks.append((time.monotonic(), done)),
    )
    (first, before), (last, pairs) = marks[0], marks[-1]
    return (last - first) * pairs / (pairs - before), pairs, said[0].split(" (")[0]


def clock(work: Callable[[], object], times: int) -> float:
    """Seconds for so many calls, after two that are not counted."""
    work(), work()
    started = time.monotonic()
    for _ in range(times):
        work()
    return time.monotonic() - started


def decode(path: Path) -> Tensor:
    """All frames of a clip of SIZE, (N, H, W, 3) uint8."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3).copy())


def minterpolate_seconds(clip: Path) -> tuple[float, float]:
    """Seconds and peak MiB of ffmpeg interpolating the clip to nowhere."""
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-vf", MINTERPOLATE, "-f", "null", "-"]
    started = time.monotonic()
    process, peak = subprocess.Popen(command), 0.0
    # Not the usage of the ended child: that begins with what this process held when it forked.
    while process.poll() is None:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max(peak, int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024)
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"ffmpeg ended with {process.returncode}")
    return time.monotonic() - started, peak


class Kept(Nowhere):
    """A writer that keeps its frames' luma."""

    def __init__(self) -> None:
        super().__init__()
        self.luma: list[np.ndarray] = []

    def write(self, frame: Frame) -> None:
        self.luma.append(np.array(frame.planes[0]))


def measure_quality(clip: Path, truth: Path, engine: str, how: dict[str, str]) -> dict[str, float]:
    """Mean PSNR of the luma of all in-betweens, dB."""
    model = load_model("street")
    wanted = luma(truth)
    found: dict[str, list[np.ndarray]] = {}
    for name, motion, detail in (("vidtrans", "flow", "keyframes"), ("vidtrans --paper", "none", "none")):
        kept = Kept()
        run(
            UpsampleOptions(clip, "segmentation", engine=engine, motion=motion, detail=detail, **how),
            model=model,
            writers=(kept, Nowhere()),
        )
        found[name] = kept.luma
    found["minterpolate"] = luma(clip, ["-vf", MINTERPOLATE])
    keyframes = luma(clip)
    gaps = len(keyframes) - 1
    found["cross-fade"] = [
        (a + (b - a.astype(np.float32)) * (k / FACTOR)).round().astype(np.uint8)
        for a, b in pairwise(keyframes)
        for k in range(FACTOR)
    ]
    inner = [k for k in range(gaps * FACTOR) if k % FACTOR]
    return {
        name: float(np.mean([psnr(rows[k], wanted[k]) for k in inner if k < len(rows)])) for name, rows in found.items()
    }


def luma(path: Path, filters: list[str] | None = None) -> list[np.ndarray]:
    command = ["ffmpeg", "-v", "error", "-i", str(path), *(filters or []), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return list(np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0]))


def speed_table(rows: list[dict[str, Any]]) -> str:
    ours = rows[0]["seconds"] / rows[0]["pairs"]
    lines = ["| way | runs on | ms a pair | times ours | GFLOP a pair | peak MiB |", "|---|---|---|---|---|---|"]
    for row in rows:
        each = row["seconds"] / row["pairs"]
        memory = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        cells = (row["way"], row["engine"], f"{1000 * each:.1f}", f"{each / ours:.2f}", f"{row['gflop']:.1f}", memory)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def quality_table(rows: dict[str, float]) -> str:
    return "\n".join(
        [
            "| way | PSNR of in-betweens, dB |",
            "|---|---|",
            *(f"| {name} | {value:.2f} |" for name, value in rows.items()),
        ]
    )


if __name__ == "__main__":
    main()
