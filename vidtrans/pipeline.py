"""The data path: read, pair, motion, encode, between, compose, write twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrans import __version__
from vidtrans.checkpoint import Model, load_model
from vidtrans.compose import Composer
from vidtrans.engines import choose, open_engine
from vidtrans.engines.contract import Engine, Features, Gap, working_size
from vidtrans.errors import UsageError, nearest_names
from vidtrans.latents import Fields
from vidtrans.motion import estimate
from vidtrans.nets.contract import Domain, domain_named
from vidtrans.options import UpsampleOptions
from vidtrans.preflight import prepare
from vidtrans.stages import Ahead, Sink, StageClock, batched, mapped, timed
from vidtrans.timeline import Interval, in_segments, pair
from vidtrans.video.colour import to_network_rgb, to_uint8_rgb
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.contract import Output
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import SAYS_ITSELF, InputForm, descriptor, reopened, spoken
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, Source, fingerprint, source_named
from vidtrans.video.output import Cancellable, OutputPlan, open_outputs, plan_outputs
from vidtrans.video.reader import VideoInfo
from vidtrans.video.source import FrameSource, open_source

# Input frames to a segment. Fewer would cost the encoders more (each segment begins with a whole picture), more would
# lose more work when a run is stopped.
SEGMENT_FRAMES = 64


@dataclass
class Summary:
    """What a run did.

    Attributes:
        outputs: where the two videos went, the up-converted input first.
        frames_in, frames_out: keyframes read, frames written to each output.
        frames_continued: of frames_out, those that an earlier run of the same command had finished.
        seconds: wall time; streaming_seconds: of it, from the first frame read to the last one written.
        busy_seconds: per stage, time spent working; bottleneck: the stage with the most.
        cuts: gaps between different scenes, held; repeats: gaps between equal keyframes, held; lost: gaps whose motion
            could not be found, blended in place. Counted with motion only.
        notes: things a user should be told.
    """

    outputs: tuple[Path, Path]
    frames_in: int = 0
    frames_out: int = 0
    frames_continued: int = 0
    seconds: float = 0.0
    streaming_seconds: float = 0.0
    busy_seconds: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    cuts: int = 0
    repeats: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Moving:
    """An interval, its keyframes as colour.to_network_rgb gives them, and the motion between them if any."""

    interval: Interval
    left: np.ndarray
    right: np.ndarray | None
    motion: Fields | None


@dataclass(frozen=True)
class Decoded:
    """An interval and what the engine made of it: per domain (n, C, h, w), and the keyframes' own decodings."""

    interval: Interval
    outputs: dict[str, Tensor]
    left: dict[str, Tensor]
    right: dict[str, Tensor] | None
    motion: Fields | None


def upsample(input: str | Path, to: str, **options: Any) -> Summary:
    """Raise a video's frame rate and translate it: the Python name of `vidtrans upsample`.

    Args:
        input: the video to read; to: the target domain.
        options: the other fields of options.UpsampleOptions (factor, fps, slowmo, start, end, tail, from_, output,
            output_to, out_format, out_format_to, mux, labels, overwrite, model, engine, device, precision, size,
            motion, detail, in_format, size_in, pix_fmt_in, rate_in, expect_frames, color_matrix, color_range,
            color_primaries, color_trc, deinterlace, protocols, max_pixels) and of video.encoder.EncoderOptions (codec,
            crf, preset, pix_fmt, threads, encode); with _to behind them (codec_to ...) those of the translation alone.

    Raises:
        VidtransError: one of its kinds, see errors.py; no output is left under its final name.
    """
    return run(parsed_options(input, to, options))


def parsed_options(input: str | Path, to: str, options: dict[str, Any]) -> UpsampleOptions:
    """The options of a run, from their names in Python.

    Raises:
        UsageError: there is no such option, or it does not fit.
    """
    options = dict(options)
    names = [f.name for f in fields(EncoderOptions)]
    encoder = EncoderOptions(**{name: options.pop(name) for name in names if name in options})
    encoder_to = encoder.changed(**{name: options.pop(f"{name}_to", None) for name in names})
    known = [f.name for f in fields(UpsampleOptions) if f.name not in ("input", "to", "encoder", "encoder_to")]
    known += [*names, *(f"{name}_to" for name in names)]
    for name in options:
        if name not in known:
            raise UsageError(f"upsample has no option {name!r}; {nearest_names(name, known)}")
    return UpsampleOptions(input=source_named(input), to=to, encoder=encoder, encoder_to=encoder_to, **options)


def run(
    options: UpsampleOptions,
    *,
    model: Model | None = None,
    writers: Sequence[Output] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
) -> Summary:
    """One run of the main job.

    model: in place of the one options name. writers: in place of the two files options name. announce: gets lines for
    the user before the first frame. progress: gets frames written to each output, and the expected number where the
    container declares it.
    """
    started = time.monotonic()
    summary = Summary(options.output_paths)
    model = model or load_model(options.model)
    source = source_domain(model, options)
    clock = StageClock()
    with ExitStack() as stack:
        reader = stack.enter_context(opened_reader(options))
        reader.notes += reader.info.colour.remarks(reader.info.pix_fmt)
        plans = plan_outputs(reader.info, run_domains(model, source, options), options)
        if writers is None:
            for note in prepare(reader.info, plans, options).notes:
                announce(note)
        identity = identity_of(options, model, source, plans) if writers is None else None
        if writers is None and identity is None:
            announce("this run cannot be continued if it is stopped: not all of its input and outputs are plain files")
        files = writers if writers is not None else open_outputs(reader.info, plans, options, identity)
        outputs = [stack.enter_context(file) for file in files]
        stack.push(partial(_keep_shared_segments, outputs, announce))
        done = continued_segments(outputs)
        engine, reason = started_engine(model, source, reader.info, options, announce)
        composers = composers_of(model, engine, reader.info, plans, options)
        announce(f"engine {engine.name} on {engine.device}, {engine.precision} ({reason})")
        for text in _announcements(model, reader, engine, outputs):
            announce(text)
        frames, seconds = reader.info.frame_count, reader.info.duration
        expected = (
            None if frames is None else options.sampling.count(frames, seconds or frames / reader.info.average_rate)
        )

        summary.frames_out = summary.frames_continued = sum(output.frames_continued for output in outputs[:1])
        streaming = time.monotonic()
        paired = pair(counted(reader, summary), options.sampling, reader.info.stamp_error)
        intervals = timed("read", in_segments(paired, SEGMENT_FRAMES, done), clock)
        tracker = Tracker(moving=options.motion == "flow")
        with ExitStack() as stages:
            read = stages.enter_context(Ahead("read", intervals, _interval_bytes))
            moving = stages.enter_context(Ahead("motion", mapped("motion", tracker, read, clock), _moving_bytes))
            batches = mapped("network", Network(engine), batched(moving, engine.gaps_at_once, ends_segment), clock)
            decoded = stages.enter_context(Ahead("network", chain.from_iterable(batches), _decoded_bytes))
            sinks = [
                stages.enter_context(Sink(f"output {name}", Finisher(name, composer, output, clock), _decoded_bytes))
                for name, composer, output in zip(engine.domains, composers, outputs, strict=True)
            ]
            stages.push(stopping(outputs))
            stages.callback(reader.cancel)  # first of all, so that no stage waits for a writer that is slow
            for item in decoded:
                for sink in sinks:
                    sink.put(item)
                summary.frames_out += len(item.interval.instants)
                progress(summary.frames_out, expected)
        for output in outputs:
            output.complete()
        summary.cuts, summary.repeats, summary.lost = tracker.cuts, tracker.repeats, tracker.lost
    summary.seconds, summary.streaming_seconds = time.monotonic() - started, time.monotonic() - streaming
    summary.busy_seconds, summary.bottleneck = clock.busy_seconds, clock.bottleneck
    notes = [*engine.notes, *reader.notes, *(note for output in outputs for note in output.notes)]
    summary.notes = list(dict.fromkeys(notes))
    return summary


def ends_segment(item: Moving) -> bool:
    return item.interval.ends_segment


def counted(frames: Iterable[Frame], summary: Summary) -> Iterator[Frame]:
    """The same frames, counted as read."""
    for frame in frames:
        summary.frames_in += 1
        yield frame


class Tracker:
    """The stage motion: every gap's motion, and what to do where there is none.

    A gap whose keyframes are equal is held, and so is a cut, whose left keyframe stays until the right one: nothing is
    blended across it. Lost motion falls back to the blend in place.

    Attributes:
        cuts, repeats, lost: gaps of each kind so far.
    """

    def __init__(self, *, moving: bool) -> None:
        self._moving = moving
        self._next: tuple[Frame | None, np.ndarray | None] = (None, None)
        self.cuts = self.repeats = self.lost = 0

    def __call__(self, interval: Interval) -> Moving:
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
            return Moving(interval.held(), left, right, None)
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
                Decoded(item.interval, outputs, gap.left.decoded, None if right is None else right.decoded, gap.motion)
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
        left, right = item.left[name], None if item.right is None else item.right[name]
        with self._clock.working(f"compose {name}"):
            frames = self._composer.frames(item.interval, item.outputs[name], right, item.motion, left_decoded=left)
        with self._clock.working(f"write {name}"):
            for frame in frames:
                self._output.write(frame)
            if item.interval.ends_segment:
                self._output.end_segment()


def opened_reader(options: UpsampleOptions) -> FrameSource:
    """The input, read as the options say."""
    return open_source(
        options.input,
        *options.span,
        form=options.input_form,
        expect_frames=options.expect_frames,
        told=options.colour_told,
        deinterlace=options.deinterlace == "auto",
        max_pixels=options.max_pixels,
    )


def source_domain(model: Model, options: UpsampleOptions) -> str:
    """The input's domain: as told, or the other one of a model of two.

    Raises:
        UsageError: the model lacks a domain, or cannot tell.
    """
    domains = model.net.domains
    target = domain_named(domains, options.to).name
    others = [domain.name for domain in domains if domain.name != target]
    if options.from_ is None:
        if len(others) > 1:
            raise UsageError(f"the model has several domains to come from; give --from, one of {', '.join(others)}")
        return others[0]
    source = domain_named(domains, options.from_).name
    if source == target:
        raise UsageError(f"--from and --to are both {target}; translate into another domain: {', '.join(others)}")
    return source


def started_engine(
    model: Model, source: str, info: VideoInfo, options: UpsampleOptions, report: Callable[[str], None]
) -> tuple[Engine, str]:
    """The engine, and why this one; report hears lines while it takes long."""
    size = options.size or working_size((info.width, info.height), model.net.sizes.trained[1])
    choice = choose(options.engine, options.device)
    engine = open_engine(
        choice.engine,
        model.net,
        source,
        [options.to],
        size,
        device=choice.device,
        precision=options.precision,
        samples=lambda: footage_samples(options.input, options.input_form, options.colour_told, options.max_pixels),
        report=report,
    )
    return engine, choice.reason


def footage_samples(
    path: Source,
    form: InputForm = SAYS_ITSELF,
    told: Told = NOTHING_TOLD,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Tensor:
    """Frames from the video's first seconds, (B, H, W, 3) uint8: an engine may calibrate on them.

    Raises:
        UsageError: the video can be read only once.
    """
    if isinstance(path, Path) and reopened(path) is None:
        raise UsageError(
            f"--precision int8 is first calibrated on the footage, and {spoken(path)} is a pipe, read only once; "
            "give another --precision, or name a file"
        )
    with open_source(path, form=form, told=told, max_pixels=max_pixels) as reader:
        return torch.stack([torch.from_numpy(to_uint8_rgb(frame)) for frame in islice(reader, 0, 64, 4)])


def continued_segments(outputs: Sequence[Output]) -> int:
    """How many finished segments all outputs share; all continue after these, cut at the same frame."""
    done = min(output.segments_done for output in outputs)
    for output in outputs:
        output.continue_after(done)
    return done


def _keep_shared_segments(
    outputs: Sequence[Output],
    announce: Callable[[str], None],
    kind: type[BaseException] | None,
    value: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """A run that fails leaves the segments that all outputs have."""
    if kind is not None and continued_segments(outputs):
        announce("what is finished is kept; the same command continues it")


def identity_of(
    options: UpsampleOptions, model: Model, source: str, plans: Sequence[OutputPlan]
) -> dict[str, Any] | None:
    """What must be equal for one run to continue another: whatever changes a single packet of the outputs.

    None for an input that is no file of its own name, since what comes from it cannot be told to be the same again, and
    for outputs that are not all files with segments.
    """
    if not isinstance(options.input, Path) or descriptor(options.input) is not None or not options.input.is_file():
        return None
    if any(plan.kind != "file" for plan in plans):
        return None
    choice = choose(options.engine, options.device)
    told = {f.name: getattr(options, f.name) for f in fields(options)}
    for name in ("input", "output", "output_to", "overwrite", "model", "engine", "device", "from_"):
        del told[name]
    return {
        "input": fingerprint(options.input),
        "options": {name: str(value) for name, value in told.items()},
        "source": source,
        "model": model.sha256,
        "engine": [choice.engine, choice.device],
        "segment_frames": SEGMENT_FRAMES,
        "versions": {"vidtrans": __version__, "torch": torch.__version__, "av": av.__version__},
    }


def run_domains(model: Model, source: str, options: UpsampleOptions) -> list[Domain]:
    """The source domain and the target domain."""
    return [domain_named(model.net.domains, name) for name in (source, options.to)]


def composers_of(
    model: Model, engine: Engine, info: VideoInfo, plans: Sequence[OutputPlan], options: UpsampleOptions
) -> list[Composer]:
    """One for each domain of the engine, as the plans of their outputs say."""
    return [
        Composer(
            plan.domain,
            scores=model.net.has_scores(name),
            size=(info.width, info.height),
            pix_fmt=plan.pix_fmt,
            colour=plan.colour,
            is_source=name == engine.domains[0],
            carry_detail=options.detail == "keyframes",
            index=plan.index,
        )
        for name, plan in zip(engine.domains, plans, strict=True)
    ]


def stopping(outputs: Sequence[Output]) -> Callable[..., None]:
    """What a failing run does first: it frees the outputs that wait for a reader, since their threads are joined."""

    def stop(kind: type[BaseException] | None, *_: object) -> None:
        for output in outputs if kind is not None else ():
            if isinstance(output, Cancellable):
                output.cancel()

    return stop


def _announcements(model: Model, reader: FrameSource, engine: Engine, outputs: Sequence[Output]) -> list[str]:
    lines = [*engine.notes, *reader.notes, *(note for writer in outputs for note in writer.notes)]
    if model.bundled:
        lines.insert(0, f"model trained on {model.bundled}; other footage needs vidtrans train")
    return list(dict.fromkeys(lines))


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
