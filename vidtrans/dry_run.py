"""What a run will do and take, found out without writing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import av
from av.stream import Discard

from vidtrans.checkpoint import Model, load_model
from vidtrans.engines.contract import working_size
from vidtrans.errors import UsageError, one_of
from vidtrans.opening import opened_reader, ready_for, remarks_on_way, run_domains, source_domain, work_per_frame
from vidtrans.options import JOBS, UpsampleOptions
from vidtrans.pipeline import run
from vidtrans.preflight import Measured, Plan, PlannedOutput, Work, close_trial, is_encoded, prepare, trial_stream
from vidtrans.remarks import Remarks
from vidtrans.resuming import why_not
from vidtrans.runs import parsed_batch, parsed_options
from vidtrans.timeline import Sampling, pair
from vidtrans.video.carriage import picture_of
from vidtrans.video.contract import Output
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import reopened, spoken
from vidtrans.video.local_file import Source, open_container
from vidtrans.video.output_plan import OutputPlan, plan_outputs
from vidtrans.video.size import SizeEstimate
from vidtrans.video.video_info import VideoInfo
from vidtrans.video.writer import Segment

# Measuring ends with whichever comes first.
_MOST_SECONDS = 4.0
_MOST_FRAMES = 33


@overload
def plan(input: str | Path, to: str | Sequence[str], *, job: str = "upsample", **options: Any) -> Plan: ...


@overload
def plan(
    input: Sequence[str | Path], to: str | Sequence[str], *, job: str = "upsample", **options: Any
) -> list[Plan]: ...


def plan(
    input: str | Path | Sequence[str | Path], to: str | Sequence[str], *, job: str = "upsample", **options: Any
) -> Plan | list[Plan]:
    """What `upsample` with the same arguments will do and take, of each input; the Python name of `--dry-run`.

    job: "translate" tells the same of `translate`.

    Counts the input's frames and makes the first output frames for a few seconds, in memory.

    Raises:
        VidtransError: of those that the run would raise, each that is known before its first frame.
    """
    one_of("job", job, tuple(JOBS))
    if isinstance(input, str | Path):
        return plan_run(parsed_options(input, to, options, JOBS[job]))
    return [plan_run(one) for one in parsed_batch(input, to, options, JOBS[job])]


def plan_run(options: UpsampleOptions) -> Plan:
    """The same for options that are parsed."""
    model = load_model(options.model)
    source = source_domain(model, options)
    model = ready_for(model, source)
    if isinstance(options.input, Path) and reopened(options.input) is None:
        raise UsageError(
            f"--dry-run reads the input more than once, and {spoken(options.input)} is a pipe, read only once; name a "
            "file, or leave --dry-run out"
        )
    with opened_reader(options) as reader:
        info = reader.info
        notes = [*remarks_on_way(model, options), *reader.notes, *info.colour.remarks(info.pix_fmt)]
    # What carries nothing has frames as even as its info says.
    spans = None if info.carry_from is None else frame_spans(info.carry_from, info)
    work = _work(spans, info, options, model, source)
    frames = None if work is None else work.frames_out
    plans = plan_outputs(info, run_domains(model, source, options), options)
    planned = prepare(info, plans, options, frames)
    if why := why_not(options, plans):
        notes.append(f"the run cannot be continued if it is stopped: {why}")
    notes = list(dict.fromkeys([*notes, *(note for output in planned.outputs for note in output.notes)]))
    if options.strict:
        Remarks(lambda note: None, strict=True).add(*notes, *planned.notes)
    if work is None:
        return replace(planned, notes=(*notes, *planned.notes))
    outputs, measured = _measure(planned, plans, spans, options, model, work.frames_out)
    return replace(planned, outputs=outputs, notes=(*notes, *planned.notes), work=work, measured=measured)


def frame_spans(path: Source, info: VideoInfo) -> list[tuple[Fraction, Fraction]] | None:
    """(time, duration) in seconds of every frame of the excerpt, from the packets alone; None where they do not say."""
    with open_container(path) as container:
        picture = picture_of(container)
        if picture is None or picture.time_base is None:
            return None
        for stream in container.streams:
            if stream.index != picture.index:
                stream.discard = Discard.all
        lengths: dict[int, int] = {}
        try:
            for packet in container.demux(picture):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                lengths.setdefault(packet.pts, packet.duration or 0)
        except av.FFmpegError:
            return None
        time_base = picture.time_base
    ticks = sorted(lengths)
    if not ticks:
        return None
    gaps = [after - before for before, after in pairwise(ticks)]
    gaps.append(lengths[ticks[-1]] or (gaps[-1] if gaps else round(1 / (info.average_rate * time_base))))
    excerpt = info.excerpt
    return [
        (tick * time_base - excerpt.shift, gap * time_base)
        for tick, gap in zip(ticks, gaps, strict=True)
        if (excerpt.since is None or tick * time_base >= excerpt.since)
        and (excerpt.until is None or tick * time_base < excerpt.until)
    ]


def _work(
    spans: list[tuple[Fraction, Fraction]] | None, info: VideoInfo, options: UpsampleOptions, model: Model, source: str
) -> Work | None:
    """None where nothing says how many frames there are."""
    size = options.size or working_size((info.width, info.height), model.net.sizes.trained[1])
    counted = spans is not None
    if spans is None:
        if info.frame_count is None:
            return None
        length = 1 / info.average_rate
        spans = [(info.start_time + index * length, length) for index in range(info.frame_count)]
    frames_out, needed, between = _counted(spans, info, options.sampling)
    encodings, decodings = work_per_frame(model, source, options)
    return Work(len(spans), frames_out, encodings * needed, decodings * (needed + between), size, counted)


def _counted(spans: list[tuple[Fraction, Fraction]], info: VideoInfo, sampling: Sampling) -> tuple[int, int, int]:
    """Frames of each output, keyframes they lean on, and how many lie between two of them."""
    frames = (Frame((), time, duration, info.pix_fmt, info.colour) for time, duration in spans)
    out = between = 0
    needed: set[Fraction] = set()
    for interval in pair(frames, sampling, info.stamp_error):
        out += len(interval.instants)
        needed.add(interval.left.time)
        if interval.right is not None and not interval.is_held:
            needed.add(interval.right.time)
            between += sum(instant.t > 0 for instant in interval.instants)
    return out, len(needed), between


class _EnoughError(Exception):
    """The time for measuring is over."""


class _Meter(Output):
    """Takes an output's frames, encodes them and keeps only their size."""

    def __init__(self, plan: OutputPlan, info: VideoInfo, options: UpsampleOptions) -> None:
        self.notes: list[str] = []
        self.bytes = self.packets = 0
        self._container, stream = trial_stream(plan, info, options)
        time_base = Fraction(stream.codec_context.time_base or stream.time_base or 1)
        self._segment = Segment(stream, self._container, plan.pix_fmt, plan.colour, time_base)

    def write(self, frame: Frame) -> None:
        self._count(self._segment.encode(frame))

    def __exit__(self, *reason: object) -> None:
        self._count(self._segment.flush())
        close_trial(self._container)

    def _count(self, packets: list[av.Packet[av.VideoStream]]) -> None:
        self.packets += len(packets)
        self.bytes += sum(packet.size for packet in packets)


class _PlanesMeter(Output):
    """Takes an output's frames and counts their code values; images take less."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bytes = self.packets = 0

    def write(self, frame: Frame) -> None:
        self.packets += 1
        self.bytes += sum(plane.nbytes for plane in frame.planes)

    def __exit__(self, *reason: object) -> None:
        """There is nothing to end."""


def _measure(
    planned: Plan,
    plans: Sequence[OutputPlan],
    spans: list[tuple[Fraction, Fraction]] | None,
    options: UpsampleOptions,
    model: Model,
    frames: int,
) -> tuple[tuple[PlannedOutput, ...], Measured]:
    """The outputs with sizes, and the time, from as many frames as fit into a few seconds."""
    meters: list[_Meter | _PlanesMeter] = [
        _Meter(plan, planned.info, options) if is_encoded(plan) else _PlanesMeter() for plan in plans
    ]
    said: list[str] = []
    marks: list[tuple[float, int]] = []  # when so many frames of each output were made
    began = started = time.monotonic()

    def announce(text: str) -> None:
        nonlocal started
        said.append(text)
        started = started if marks else time.monotonic()

    def progress(done: int, expected: int | None) -> None:
        now = time.monotonic()
        marks.append((now, done))
        if now - started > _MOST_SECONDS:
            raise _EnoughError

    with suppress(_EnoughError):
        run(_beginning(spans, planned.info, options), model=model, writers=meters, announce=announce, progress=progress)
    rate = _frames_per_second(started, time.monotonic(), marks)
    engine = next((text.removeprefix("engine ") for text in said if text.startswith("engine ")), options.engine)
    outputs = tuple(
        replace(output, pictures=SizeEstimate(output.pictures.least, meter.bytes * frames // max(1, meter.packets)))
        for output, meter in zip(planned.outputs, meters, strict=True)
    )
    return outputs, Measured(marks[-1][1], started - began + frames / rate, engine)


def _beginning(
    spans: list[tuple[Fraction, Fraction]] | None, info: VideoInfo, options: UpsampleOptions
) -> UpsampleOptions:
    """The same run, ended after a few frames."""
    start, end = options.span
    if spans is None:
        length = _MOST_FRAMES / info.average_rate
    elif len(spans) <= _MOST_FRAMES:
        return replace(options, strict=False)
    else:
        length = spans[_MOST_FRAMES][0] - spans[0][0]
    # The excerpt's first frame may begin later than asked; one more frame does no harm.
    until = start + length
    return replace(options, end=until if end is None else min(until, end), strict=False)


def _frames_per_second(started: float, ended: float, marks: list[tuple[float, int]]) -> float:
    """Without the first batch, which also warms everything up, where there is a second one."""
    total = marks[-1][1]
    overall = total / max(ended - started, 1e-6)
    first, done = marks[0]
    batch = [made for when, made in marks if when - first < 0.01 * (ended - started)]
    done = batch[-1] if batch else done
    return max(overall, (total - done) / max(ended - first, 1e-6)) if total > done else overall
