"""The data path: read, pair, motion, encode, between, compose, write twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from vidtrans.checkpoint import Model, load_model
from vidtrans.clips import Clips
from vidtrans.compose import Composer
from vidtrans.engines.contract import Engine, Features, Gap
from vidtrans.gaps import Moving, Tracker
from vidtrans.latents import Fields
from vidtrans.opening import (
    clip_length,
    composers_of,
    opened_reader,
    ready_for,
    remarks_on_way,
    run_domains,
    source_domain,
    started_engine,
)
from vidtrans.options import UpsampleOptions
from vidtrans.preflight import prepare
from vidtrans.remarks import Remarks
from vidtrans.repeats import runs
from vidtrans.resuming import (
    continued_segments,
    identity_of,
    keep_shared_segments,
    numbered,
    recall,
    started_at,
    why_not,
)
from vidtrans.stages import Ahead, Sink, StageClock, batched, mapped, timed
from vidtrans.summary import Summary
from vidtrans.timeline import Interval, in_segments, pair, pair_runs
from vidtrans.video.contract import Cancellable, Output
from vidtrans.video.frame import Frame
from vidtrans.video.output import open_outputs
from vidtrans.video.output_plan import plan_outputs
from vidtrans.video.seam import SegmentReport

# Input frames to a segment. Fewer would cost the encoders more (each segment begins with a whole picture), more would
# lose more work when a run is stopped.
SEGMENT_FRAMES = 64


@dataclass(frozen=True)
class Decoded:
    """An interval and what the engine made of it: per domain (n, C, h, w), and the keyframes' own decodings.

    report, ends_scene: as of Moving.
    """

    interval: Interval
    outputs: dict[str, Tensor]
    left: dict[str, Tensor]
    right: dict[str, Tensor] | None
    motion: Fields | None
    report: SegmentReport | None = None
    ends_scene: bool = False


def run(
    options: UpsampleOptions,
    *,
    model: Model | None = None,
    writers: Sequence[Output] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
    summary: Summary | None = None,
) -> Summary:
    """One run of the main job.

    model: in place of the one options name. writers: in place of the files options name. announce: gets lines for the
    user as soon as they are known, warnings as remarks.Warn. progress: gets frames written to each output, and the
    expected number where the container declares it. summary: is filled on the way, for callers who want to know of a
    run that failed.
    """
    started = time.monotonic()
    summary = summary or Summary(options.output_paths)
    model = model or load_model(options.model)
    source = source_domain(model, options)
    model, domains = ready_for(model, source), run_domains(model, source, options)
    summary.domains, summary.model = tuple(domain.name for domain in domains), model.sha256
    clock = StageClock()
    remarks = Remarks(announce, strict=options.strict)
    with ExitStack() as stack:
        stack.callback(_finished, summary, remarks, clock, started)
        reader = stack.enter_context(opened_reader(options))
        plans = plan_outputs(reader.info, domains, options)
        identity = None
        if writers is None:
            remarks.follow(prepare(reader.info, plans, options).notes)
            if why := why_not(options, plans):
                announce(f"this run cannot be continued if it is stopped: {why}")
            else:
                identity = identity_of(options, model, source, plans, SEGMENT_FRAMES)
        files = writers if writers is not None else open_outputs(reader.info, plans, options, identity)
        outputs = [stack.enter_context(file) for file in files]
        stack.push(partial(keep_shared_segments, outputs, announce))
        reports = continued_segments(outputs)
        engine, reason = started_engine(model, source, reader.info, options, announce)
        composers = composers_of(model, source, reader.info, plans, options)
        summary.engine, summary.device, summary.precision = engine.name, engine.device, engine.precision
        announce(f"engine {engine.name} on {engine.device}, {engine.precision} ({reason})")
        if model.bundled:
            announce(f"model trained on {model.bundled}; other footage needs vidtrans train")
        for notes in (
            remarks_on_way(model, options),
            engine.notes,
            reader.notes,
            *(output.notes for output in outputs),
        ):
            remarks.follow(notes)
        remarks.add(*reader.info.colour.remarks(reader.info.pix_fmt))
        frames, seconds = reader.info.frame_count, reader.info.duration
        expected = (
            None if frames is None else options.sampling.count(frames, seconds or frames / reader.info.average_rate)
        )
        recall(reports, summary, remarks, announce)
        reader, start = started_at(reports, reader, lambda: stack.enter_context(opened_reader(options)), remarks)

        summary.frames_out = summary.frames_continued = outputs[0].frames_continued
        streaming = time.monotonic()
        numbers = numbered(start, summary)
        origin = reader.info.start_time if start.first else None
        clocked = (options.sampling, reader.info.stamp_error, start.first, origin)
        if options.dedup:
            found = runs(numbers, options.dedup_tolerance, SEGMENT_FRAMES, start.first, start.after)
            paired = pair_runs(found, *clocked)
        else:
            paired = pair(numbers, *clocked)
        intervals = timed("read", in_segments(paired, SEGMENT_FRAMES, start.after), clock)
        tracker = Tracker(
            moving=options.motion == "flow",
            cut_threshold=options.cut_threshold,
            holds_cuts=options.cuts == "hold",
            remarks=remarks,
            reader=reader,
        )
        with ExitStack() as stages:
            read = stages.enter_context(Ahead("read", intervals, _interval_bytes))
            moving = stages.enter_context(Ahead("motion", mapped("motion", tracker, read, clock), _moving_bytes))
            batches = mapped("network", Network(engine), batched(moving, engine.gaps_at_once, ends_segment), clock)
            decoded: Iterable[Decoded] = chain.from_iterable(batches)
            if clip_length(model) > 1:
                decoded = Clips(model.net, options.targets, engine, clock, keep_source=options.writes_source)(decoded)
            finished = stages.enter_context(Ahead("network", decoded, _decoded_bytes))
            sinks = [
                stages.enter_context(
                    Sink(f"output {name}", Finisher(name, source, composer, output, clock), _decoded_bytes)
                )
                for name, composer, output in zip(summary.domains, composers, outputs, strict=True)
            ]
            stages.push(stopping(outputs))
            stages.callback(reader.cancel)  # first of all, so that no stage waits for a writer that is slow
            for item in finished:
                for sink in sinks:
                    sink.put(item)
                summary.frames_out += len(item.interval.instants)
                if item.report is not None:
                    recall([item.report], summary, remarks, announce)
                remarks.look()
                progress(summary.frames_out, expected)
        remarks.look()
        for output in outputs:
            output.complete()
        remarks.look()
        summary.streaming_seconds = time.monotonic() - streaming
    remarks.look()
    return summary


def _finished(summary: Summary, remarks: Remarks, clock: StageClock, started: float) -> None:
    """What is known of a run however it ends."""
    summary.seconds = time.monotonic() - started
    summary.busy_seconds, summary.bottleneck = clock.busy_seconds, clock.bottleneck
    summary.notes = remarks.notes


def ends_segment(item: Moving) -> bool:
    return item.interval.ends_segment


class Network:
    """The stages encode and between: a keyframe goes through the encoder once and serves both of its gaps.

    So does one picture of equal keyframes in a row, which is one array. A keyframe that no output leans on, as where
    the rate goes down, is not encoded at all. One that two segments share is encoded in both: what a batch is made of
    changes the last bits, and a segment's batches are its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[int, tuple[np.ndarray, Features]] = {}  # by the id of the picture

    def __call__(self, items: Sequence[Moving]) -> list[Decoded]:
        """Intervals of one video in its order, in one batch."""
        needed: dict[int, np.ndarray] = {}
        for item in items:
            needed[id(item.left)] = item.left
            if item.right is not None and not item.interval.is_held:
                needed[id(item.right)] = item.right
        new = [rgb for key, rgb in needed.items() if key not in self._known]
        if new:
            encoded = self._engine.encode(torch.from_numpy(np.stack(new)))
            self._known.update({id(rgb): (rgb, made) for rgb, made in zip(new, encoded, strict=True)})
        gaps, rights = [], []
        for item in items:
            interval, left = item.interval, self._known[id(item.left)][1]
            right = None if item.right is None or interval.is_held else self._known[id(item.right)][1]
            times = tuple(instant.t for instant in interval.instants)
            gaps.append(Gap(left, left, (Fraction(0),)) if right is None else Gap(left, right, times, item.motion))
            rights.append(right)
        decoded = []
        for item, gap, right, outputs in zip(items, gaps, rights, self._engine.between(gaps), strict=True):
            if right is None:
                count = len(item.interval.instants)
                outputs = {name: out.expand(count, -1, -1, -1) for name, out in outputs.items()}
            decoded.append(
                Decoded(
                    item.interval,
                    outputs,
                    gap.left.decoded,
                    None if right is None else right.decoded,
                    gap.motion,
                    item.report,
                    item.ends_scene,
                )
            )
        last = items[-1]
        wanted = () if ends_segment(last) else (last.right, last.left if last.interval.goes_on else None)
        self._known = {id(rgb): self._known[id(rgb)] for rgb in wanted if id(rgb) in self._known}
        return decoded


class Finisher:
    """The stages compose and write of one output, which has a thread of its own."""

    def __init__(self, domain: str, source: str, composer: Composer, output: Output, clock: StageClock) -> None:
        self._domain, self._source = domain, source
        self._composer, self._output, self._clock = composer, output, clock

    def __call__(self, item: Decoded) -> None:
        name, source = self._domain, self._source
        left, right = item.left, item.right or {}
        with self._clock.working(f"compose {name}"):
            frames = self._composer.frames(
                item.interval,
                item.outputs[name],
                left.get(source),
                right.get(source),
                item.motion,
                left_made=left.get(name),
                right_made=right.get(name),
            )
        with self._clock.working(f"write {name}"):
            for frame in frames:
                self._output.write(frame)
            if item.interval.ends_segment:
                self._output.end_segment(item.report)


def stopping(outputs: Sequence[Output]) -> Callable[..., None]:
    """What a failing run does first: it frees the outputs that wait for a reader, since their threads are joined."""

    def stop(kind: type[BaseException] | None, *_: object) -> None:
        for output in outputs if kind is not None else ():
            if isinstance(output, Cancellable):
                output.cancel()

    return stop


def _interval_bytes(interval: Interval) -> int:
    return _frame_bytes(interval.left) + (_frame_bytes(interval.last) if interval.repeats and interval.last else 0)


def _moving_bytes(item: Moving) -> int:
    fields = 0 if item.motion is None else item.motion.byte_count
    return fields + item.left.nbytes + _interval_bytes(item.interval)


def _decoded_bytes(item: Decoded) -> int:
    fields = 0 if item.motion is None else item.motion.byte_count
    return fields + sum(out.nbytes for out in item.outputs.values()) + _interval_bytes(item.interval)


def _frame_bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)
