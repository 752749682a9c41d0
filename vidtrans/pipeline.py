"""The data path: read, pair, motion, encode, between, compose, write twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidtrans.checkpoint import Model, load_model
from vidtrans.compose import Composer
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Engine, Features, Gap, working_size
from vidtrans.errors import UsageError, nearest_names
from vidtrans.latents import Fields
from vidtrans.motion import estimate
from vidtrans.nets.contract import domain_named
from vidtrans.options import UpsampleOptions
from vidtrans.stages import Ahead, Sink, StageClock, mapped, timed
from vidtrans.timeline import Interval, pair
from vidtrans.video.clock import exact_time_base
from vidtrans.video.colour import to_uint8_rgb
from vidtrans.video.encoder import EncoderOptions, choose_pix_fmt
from vidtrans.video.frame import Colour, Frame, PixelFormat
from vidtrans.video.reader import VideoInfo, VideoReader
from vidtrans.video.writer import VideoWriter


@dataclass
class Summary:
    """What a run did.

    Attributes:
        outputs: the two files written, the up-converted input first.
        frames_in, frames_out: keyframes read, frames written to each output.
        seconds: wall time.
        busy_seconds: per stage, time spent working; bottleneck: the stage with the most.
        cuts: gaps between different scenes, held; repeats: gaps between equal keyframes, held; lost: gaps whose motion
            could not be found, blended in place. Counted with motion only.
        notes: things a user should be told.
    """

    outputs: tuple[Path, Path]
    frames_in: int = 0
    frames_out: int = 0
    seconds: float = 0.0
    busy_seconds: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    cuts: int = 0
    repeats: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Moving:
    """An interval, its keyframes as the network takes them, (H, W, 3) uint8, and the motion between them if any."""

    interval: Interval
    left: np.ndarray
    right: np.ndarray | None
    motion: Fields | None


@dataclass(frozen=True)
class Decoded:
    """An interval and what the engine made of it: per domain (n, C, h, w), and the right keyframe's own decoding."""

    interval: Interval
    outputs: dict[str, Tensor]
    right: dict[str, Tensor] | None
    motion: Fields | None


def upsample(input: str | Path, to: str, **options: Any) -> Summary:
    """Raise a video's frame rate and translate it: the Python name of `vidtrans upsample`.

    Args:
        input: the video to read; to: the target domain.
        options: the other fields of options.UpsampleOptions (factor, from_, output, output_to, overwrite, model,
            engine, device, size, motion, detail) and of video.encoder.EncoderOptions (codec, crf, preset, pix_fmt,
            threads).

    Raises:
        VidtransError: one of its kinds, see errors.py; no output is left under its final name.
    """
    encoder = {f.name: options.pop(f.name) for f in fields(EncoderOptions) if f.name in options}
    known = [f.name for f in fields(UpsampleOptions) if f.name not in ("input", "to", "encoder")]
    for name in options:
        if name not in known:
            raise UsageError(f"upsample has no option {name!r}; {nearest_names(name, known)}")
    for name in ("output", "output_to"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    return run(UpsampleOptions(input=Path(input), to=to, encoder=EncoderOptions(**encoder), **options))


def run(
    options: UpsampleOptions,
    *,
    announce: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
) -> Summary:
    """One run of the main job.

    announce: gets lines for the user before the first frame. progress: gets frames written to each output, and the
    expected number where the container declares it.
    """
    started = time.monotonic()
    summary = Summary(options.output_paths)
    model = load_model(options.model)
    source = source_domain(model, options)
    clock = StageClock()
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(options.input))
        engine = _open_engine(model, source, reader.info, options)
        pix_fmt = choose_pix_fmt(options.encoder, reader.info.pix_fmt)
        outputs = [stack.enter_context(writer) for writer in _open_writers(reader.info, pix_fmt, options)]
        composers = _composers(model, engine, reader.info, pix_fmt, options)
        for text in _announcements(model, reader, outputs):
            announce(text)
        expected = reader.info.frame_count and reader.info.frame_count * options.factor

        intervals = timed("read", pair(reader, options.factor), clock)
        read = stack.enter_context(Ahead("read", intervals, _interval_bytes))
        tracker = Tracker(moving=options.motion == "flow")
        moving = stack.enter_context(Ahead("motion", mapped("motion", tracker, read, clock), _moving_bytes))
        between = mapped("network", Network(engine), moving, clock)
        decoded = stack.enter_context(Ahead("network", between, _decoded_bytes))
        sinks = [
            stack.enter_context(Sink(f"write {name}", writer.write, clock, _frame_bytes))
            for name, writer in zip(("source", "translation"), outputs, strict=True)
        ]
        for item in decoded:
            for domain, composer, sink in zip(engine.domains, composers, sinks, strict=True):
                with clock.working("compose"):
                    frames = composer.frames(
                        item.interval, item.outputs[domain], item.right[domain] if item.right else None, item.motion
                    )
                for frame in frames:
                    sink.put(frame)
            summary.frames_in += 1
            summary.frames_out += len(item.interval.instants)
            progress(summary.frames_out, expected)
        summary.cuts, summary.repeats, summary.lost = tracker.cuts, tracker.repeats, tracker.lost
    summary.seconds = time.monotonic() - started
    summary.busy_seconds, summary.bottleneck = clock.busy_seconds, clock.bottleneck
    summary.notes = [*reader.notes, *(note for writer in outputs for note in writer.notes)]
    return summary


class Tracker:
    """The stage motion: every gap's motion, and what to do where there is none.

    A gap whose keyframes are equal is held, and so is a cut, whose left keyframe stays until the right one: nothing is
    blended across it. Lost motion falls back to the blend in place.

    Attributes:
        cuts, repeats, lost: gaps of each kind so far.
    """

    def __init__(self, *, moving: bool) -> None:
        self._moving = moving
        self._next: np.ndarray | None = None
        self.cuts = self.repeats = self.lost = 0

    def __call__(self, interval: Interval) -> Moving:
        left = to_uint8_rgb(interval.left) if self._next is None else self._next
        self._next = right = None if interval.right is None else to_uint8_rgb(interval.right)
        if right is None or interval.is_held or not self._moving:
            return Moving(interval, left, right, None)
        if np.array_equal(left, right):
            self.repeats += 1
            return Moving(interval.held(), left, right, None)
        motion = estimate(left, right)
        if motion.is_cut:
            self.cuts += 1
            return Moving(interval.held(), left, right, None)
        if motion.is_lost:
            self.lost += 1
            return Moving(interval, left, right, None)
        return Moving(interval, left, right, motion.at([instant.t for instant in interval.instants]))


class Network:
    """The stages encode and between: every keyframe goes through the encoder once and serves both of its gaps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next: Features | None = None

    def __call__(self, item: Moving) -> Decoded:
        left = self._next or self._encode(item.left)
        right = self._next = None if item.right is None else self._encode(item.right)
        times = tuple(instant.t for instant in item.interval.instants)
        if right is None or item.interval.is_held:
            held = self._engine.between([Gap(left, left, (Fraction(0),))])[0]
            rows = {name: out.expand(len(times), -1, -1, -1) for name, out in held.items()}
            return Decoded(item.interval, rows, None, None)
        outputs = self._engine.between([Gap(left, right, times, item.motion)])[0]
        return Decoded(item.interval, outputs, right.decoded, item.motion)

    def _encode(self, rgb: np.ndarray) -> Features:
        return self._engine.encode(torch.from_numpy(rgb).unsqueeze(0))[0]


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


def _open_engine(model: Model, source: str, info: VideoInfo, options: UpsampleOptions) -> Engine:
    size = options.size or working_size((info.width, info.height), model.net.sizes.trained[1])
    return open_engine(options.engine, model.net, source, [options.to], size, options.device)


def _open_writers(info: VideoInfo, pix_fmt: PixelFormat, options: UpsampleOptions) -> Iterator[VideoWriter]:
    for path in options.output_paths:
        yield VideoWriter(
            path,
            width=info.width,
            height=info.height,
            rate=info.average_rate * options.factor,
            time_base=exact_time_base(info.time_base / options.factor),
            pix_fmt=pix_fmt,
            colour=_output_colour(info, pix_fmt),
            encoder=options.encoder,
            carry_from=options.input,
            overwrite=options.overwrite,
            sample_aspect_ratio=info.sample_aspect_ratio,
            display_matrix=info.display_matrix,
        )


def _output_colour(info: VideoInfo, pix_fmt: PixelFormat) -> Colour:
    return info.colour.stored_as(info.pix_fmt, pix_fmt, info.width, info.height)


def _composers(
    model: Model, engine: Engine, info: VideoInfo, pix_fmt: PixelFormat, options: UpsampleOptions
) -> list[Composer]:
    return [
        Composer(
            domain_named(model.net.domains, name),
            scores=model.net.has_scores(name),
            size=(info.width, info.height),
            pix_fmt=pix_fmt,
            colour=_output_colour(info, pix_fmt),
            is_source=name == engine.domains[0],
            carry_detail=options.detail == "keyframes",
        )
        for name in engine.domains
    ]


def _announcements(model: Model, reader: VideoReader, outputs: list[VideoWriter]) -> list[str]:
    lines = [*reader.notes, *(note for writer in outputs for note in writer.notes)]
    if model.bundled:
        lines.insert(0, f"model trained on {model.bundled}; other footage needs vidtrans train")
    return lines


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
