"""The data path: read, pair, motion, encode, between, compose, write twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrans.checkpoint import Model, load_model
from vidtrans.clips import Clips
from vidtrans.compose import Composer
from vidtrans.engines.contract import Engine, Features, Gap
from vidtrans.latents import Fields
from vidtrans.motion import estimate
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
from vidtrans.timeline import Interval, in_segments, pair
from vidtrans.video.colour import to_network_rgb
from vidtrans.video.contract import Output
from vidtrans.video.frame import Frame
from vidtrans.video.output import Cancellable, open_outputs, plan_outputs
from vidtrans.video.seam import Mark, Seam, SegmentReport
from vidtrans.video.source import FrameSource, Sought

# Input frames to a segment. Fewer would cost the encoders more (each segment begins with a whole picture), more would
# lose more work when a run is stopped.
SEGMENT_FRAMES = 64


@dataclass(frozen=True)
class Moving:
    """An interval, its keyframes as colour.to_network_rgb gives them, and the motion between them if any.

    report: of the segment that ends with it. ends_scene: whether a cut follows.
    """

    interval: Interval
    left: np.ndarray
    right: np.ndarray | None
    motion: Fields | None
    report: SegmentReport | None = None
    ends_scene: bool = False


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
        recall(reports, summary, remarks)
        reader, start = started_at(reports, reader, lambda: stack.enter_context(opened_reader(options)), remarks)

        summary.frames_out = summary.frames_continued = outputs[0].frames_continued
        streaming = time.monotonic()
        numbers = numbered(start, summary)
        origin = reader.info.start_time if start.first else None
        paired = pair(numbers, options.sampling, reader.info.stamp_error, start.first, origin)
        intervals = timed("read", in_segments(paired, SEGMENT_FRAMES, start.after), clock)
        tracker = Tracker(moving=options.motion == "flow", remarks=remarks, reader=reader)
        with ExitStack() as stages:
            read = stages.enter_context(Ahead("read", intervals, _interval_bytes))
            moving = stages.enter_context(Ahead("motion", mapped("motion", tracker, read, clock), _moving_bytes))
            batches = mapped("network", Network(engine), batched(moving, engine.gaps_at_once, ends_segment), clock)
            decoded: Iterable[Decoded] = chain.from_iterable(batches)
            if clip_length(model) > 1:
                decoded = Clips(model.net, options.targets, engine, clock, keep_source=options.writes_source)(decoded)
            finished = stages.enter_context(Ahead("network", decoded, _decoded_bytes))
            sinks = [
                stages.enter_context(Sink(f"output {name}", Finisher(name, composer, output, clock), _decoded_bytes))
                for name, composer, output in zip(summary.domains, composers, outputs, strict=True)
            ]
            stages.push(stopping(outputs))
            stages.callback(reader.cancel)  # first of all, so that no stage waits for a writer that is slow
            for item in finished:
                for sink in sinks:
                    sink.put(item)
                summary.frames_out += len(item.interval.instants)
                if item.report is not None:
                    recall([item.report], summary, remarks)
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


class Tracker:
    """The stage motion: every gap's motion, and what to do where there is none.

    A gap whose keyframes are equal is held, and so is a cut, whose left keyframe stays until the right one: nothing is
    blended across it. Lost motion falls back to the blend in place.

    Args:
        moving: whether motion is looked for.
        remarks: of the run; reader: of the input: what the reports of segments say of warnings.

    Attributes:
        cuts, repeats, lost: gaps of each kind so far.
    """

    def __init__(self, *, moving: bool, remarks: Remarks | None = None, reader: FrameSource | None = None) -> None:
        self._moving = moving
        self._remarks, self._reader = remarks, reader
        self._next: tuple[Frame | None, np.ndarray | None] = (None, None)
        self._cuts: list[tuple[int, Fraction]] = []  # of the segment under way
        self._reported = (0, 0)
        self.cuts = self.repeats = self.lost = 0

    def __call__(self, interval: Interval) -> Moving:
        moving = self._moving_of(interval)
        return replace(moving, report=self._report(interval)) if interval.ends_segment else moving

    def _report(self, interval: Interval) -> SegmentReport:
        """Of the segment that ends with this interval."""
        after = None if interval.right is None else Mark.of(interval.right)
        is_clean = isinstance(self._reader, Sought) and self._reader.is_clean
        seam = Seam(interval.index, Mark.of(interval.left), after, is_clean)
        (repeats, lost), self._reported = self._reported, (self.repeats, self.lost)
        cuts, self._cuts = tuple(self._cuts), []
        warnings = () if self._remarks is None else tuple(self._remarks.warnings)
        return SegmentReport(seam, cuts, self.repeats - repeats, self.lost - lost, warnings)

    def _moving_of(self, interval: Interval) -> Moving:
        keyframe, known = self._next
        left = known if known is not None and keyframe is interval.left else to_network_rgb(interval.left)
        right = None if interval.right is None else to_network_rgb(interval.right)
        self._next = interval.right, right
        if right is None or interval.is_held or not self._moving:
            return Moving(interval, left, right, None)
        if np.array_equal(left, right):
            self.repeats += 1
            return Moving(interval.held(), left, right, None)
        motion = estimate(in_eight_bits(left), in_eight_bits(right))
        if motion.is_cut:
            self.cuts += 1
            assert interval.right is not None
            self._cuts.append((interval.index + 1, interval.right.time))
            return Moving(interval.held(), left, right, None, ends_scene=True)
        if motion.is_lost:
            self.lost += 1
            return Moving(interval, left, right, None)
        return Moving(interval, left, right, motion.at([instant.t for instant in interval.instants]))


def in_eight_bits(rgb: np.ndarray) -> np.ndarray:
    """A keyframe (H, W, 3) as uint8: to find motion takes no more."""
    return rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=1 / 257)


class Network:
    """The stages encode and between: a keyframe goes through the encoder once and serves both of its gaps.

    One that no output leans on, as where the rate goes down, is not encoded at all. One that two segments share is
    encoded in both: what a batch is made of changes the last bits, and a segment's batches are its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[Frame, Features] = {}

    def __call__(self, items: Sequence[Moving]) -> list[Decoded]:
        """Intervals of one video in its order, in one batch."""
        needed: dict[Frame, np.ndarray] = {}
        for item in items:
            needed[item.interval.left] = item.left
            if item.interval.right is not None and item.right is not None and not item.interval.is_held:
                needed[item.interval.right] = item.right
        new = {frame: rgb for frame, rgb in needed.items() if frame not in self._known}
        if new:
            encoded = self._engine.encode(torch.from_numpy(np.stack(list(new.values()))))
            self._known.update(zip(new, encoded, strict=True))
        gaps, rights = [], []
        for item in items:
            interval, left = item.interval, self._known[item.interval.left]
            right = None if interval.right is None or interval.is_held else self._known[interval.right]
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
        last = None if ends_segment(items[-1]) else items[-1].interval.right
        self._known = {last: self._known[last]} if last is not None and last in self._known else {}
        return decoded


class Finisher:
    """The stages compose and write of one output, which has a thread of its own."""

    def __init__(self, domain: str, composer: Composer, output: Output, clock: StageClock) -> None:
        self._domain, self._composer, self._output, self._clock = domain, composer, output, clock

    def __call__(self, item: Decoded) -> None:
        name = self._domain
        left, right = item.left.get(name), None if item.right is None else item.right.get(name)
        with self._clock.working(f"compose {name}"):
            frames = self._composer.frames(item.interval, item.outputs[name], right, item.motion, left_decoded=left)
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
    return _frame_bytes(interval.left)


def _moving_bytes(item: Moving) -> int:
    fields = 0 if item.motion is None else item.motion.byte_count
    return fields + item.left.nbytes + _interval_bytes(item.interval)


def _decoded_bytes(item: Decoded) -> int:
    fields = 0 if item.motion is None else item.motion.byte_count
    return fields + sum(out.nbytes for out in item.outputs.values()) + _interval_bytes(item.interval)


def _frame_bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)
