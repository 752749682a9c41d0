"""How well the stages of `vidtrans upsample` overlap.

    python benchmarks/overlap.py [INPUT] [--engine auto] [--precision auto]

Every stage is run alone, on what the stage before left in memory, then the whole run as it is. It cannot be faster than
its slowest stage alone, nor than the CPU seconds of all stages spread over all cores; the last line says how near to
the larger of the two it comes. INPUT: any video, default four seconds of the rendered street at 512x256.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vidtrans.checkpoint import load_model
from vidtrans.gaps import Moving, Tracker
from vidtrans.measuring import machine
from vidtrans.opening import composers_of, started_engine
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Network, run
from vidtrans.stages import cores
from vidtrans.timeline import pair
from vidtrans.train.clip import render_clip
from vidtrans.video.output import open_outputs
from vidtrans.video.output_plan import plan_outputs
from vidtrans.video.reader import VideoReader


class Stopwatch:
    """Wall and CPU seconds by stage."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[float, float]] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        result = work()
        self.rows[stage] = (time.monotonic() - wall, time.process_time() - cpu)
        return result


def alone(options: UpsampleOptions) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of every stage by itself."""
    watch = Stopwatch()
    model = load_model(options.model)
    source = model.net.domains[0].name
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(options.input))
        plans = plan_outputs(reader.info, model.net.domains, options)
        writers = list(open_outputs(reader.info, plans, options))
        engine, _ = started_engine(model, source, reader.info, options, print)
        composers = composers_of(model, source, reader.info, plans, options)
        network = Network(engine)
        intervals = watch("read", lambda: list(pair(reader, options.factor)))
        tracker = Tracker(moving=options.motion == "flow", cut_threshold=options.cut_threshold)
        moving: list[Moving] = watch("motion", lambda: [tracker(interval) for interval in intervals])
        decoded = watch("network", lambda: [network([item])[0] for item in moving])

        def compose() -> list[list[Any]]:
            return [
                [
                    frame
                    for item in decoded
                    for frame in composer.frames(
                        item.interval,
                        item.outputs[domain],
                        item.left[source],
                        item.right[source] if item.right else None,
                        item.motion,
                    )
                ]
                for domain, composer in zip(engine.domains, composers, strict=True)
            ]

        frames = watch("compose", compose)
        for name, writer, rows in zip(("write source", "write translation"), writers, frames, strict=True):

            def write(writer: Any = writer, rows: list[Any] = rows) -> None:
                with writer:
                    for frame in rows:
                        writer.write(frame)

            watch(name, write)
    return watch.rows


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the stages overlap.")
    parser.add_argument("input", nargs="?", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=Fraction, default=Fraction(4), help="of the street, without INPUT")
    arguments = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as folder:
        clip = arguments.input or Path(folder, "street.mp4")
        if arguments.input is None:
            render_clip(clip, 1, arguments.seconds, Fraction(15, 2), (512, 256))
        options = UpsampleOptions(
            clip,
            "segmentation",
            output=Path(folder, "a.mp4"),
            output_to=Path(folder, "b.mp4"),
            overwrite=True,
            engine=arguments.engine,
            precision=arguments.precision,
        )
        stages = alone(options)
        summary = run(options)
    print("| stage | wall s alone | CPU s alone |\n|---|---|---|")
    for stage, (wall, cpu) in stages.items():
        print(f"| {stage} | {wall:.2f} | {cpu:.2f} |")
    slowest, spread = max(wall for wall, _ in stages.values()), sum(cpu for _, cpu in stages.values()) / cores()
    print(f"whole run, opening the engine apart: {summary.streaming_seconds:.2f} s")
    print(f"slowest stage alone {slowest:.2f} s, all CPU seconds over {cores()} cores {spread:.2f} s")
    print(f"ratio to the larger: {summary.streaming_seconds / max(slowest, spread):.2f}")


if __name__ == "__main__":
    main()
