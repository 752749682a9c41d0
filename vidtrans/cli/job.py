"""What `vidtrans upsample` and `vidtrans translate` have in common: most of their options, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

import click

from vidtrans.cli.parameters import FRACTION, LEVELS, PAIR, PROGRESS, PROTOCOLS, SIZE, SOURCE, TIME
from vidtrans.options import DEINTERLACE, DETAILS, LABELS, PRECISIONS, UpsampleOptions
from vidtrans.targets import divided, gathered, target_names
from vidtrans.text import plain
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions
from vidtrans.video.input_form import IN_FORMATS
from vidtrans.video.local_file import Source

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]

DEFAULTS = {f.name: f.default for f in (*fields(UpsampleOptions), *fields(EncoderOptions))}
# Options that may speak of one target: [DOMAIN=]VALUE.
PER_TARGET = ("codec_to", "crf_to", "preset_to", "pix_fmt_to")


def with_options(*groups: Iterable[Option]) -> Callable[[Command], Command]:
    """A decorator that adds options, in the order in which `--help` lists them."""

    def add(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


DOMAINS: tuple[Option, ...] = (
    click.argument("inputs", metavar="INPUT...", type=SOURCE, nargs=-1, required=True),
    click.option(
        "--to",
        required=True,
        multiple=True,
        metavar="DOMAIN[,DOMAIN]",
        help="Domain to translate into, such as segmentation; or several, each a video of its own.",
    ),
    click.option(
        "--from", "from_", metavar="DOMAIN", help="Domain of the input.  [default: the model's only other one]"
    ),
)
INPUT: tuple[Option, ...] = (
    click.option(
        "--start",
        type=TIME,
        help="Leave out what begins earlier: seconds or [HH:]MM:SS after the first frame.",
    ),
    click.option("--end", type=TIME, help="Leave out what begins then or later, counted as --start is."),
    click.option(
        "--in-format",
        type=click.Choice(IN_FORMATS),
        help="Format of INPUT, where it cannot be told from its first bytes: rawvideo.  [default: what it begins as]",
    ),
    click.option("--size-in", type=SIZE, help="Size of rawvideo."),
    click.option("--pix-fmt-in", metavar="NAME", help="Pixel format of rawvideo, FFmpeg's name."),
    click.option(
        "--rate-in",
        type=FRACTION,
        help="Frames per second of rawvideo and images, such as 30000/1001.  [default: 25 for images]",
    ),
    click.option(
        "--expect-frames",
        type=click.IntRange(min=1),
        metavar="N",
        help="Fail where the input has another number of frames: a pipe that ends early looks like one that is done.",
    ),
)
OUT_DIR = click.option(
    "--out-dir", type=click.Path(), metavar="FOLDER", help="Where outputs without a name of their own go."
)
LABELS_AND_OVERWRITING: tuple[Option, ...] = (
    click.option(
        "--labels",
        type=click.Choice(LABELS),
        default=DEFAULTS["labels"],
        show_default=True,
        help="Label domains in their palette's colours, or each pixel's class number as lossless grey (.mkv or "
        "images).",
    ),
    click.option("-y", "overwrite", is_flag=True, help="Replace outputs that exist."),
)
NETWORK: tuple[Option, ...] = (
    click.option(
        "--model",
        default=DEFAULTS["model"],
        show_default=True,
        help="A name (vidtrans models list), a model file or a run folder.",
    ),
    click.option(
        "--size",
        type=SIZE,
        help="Size at which the network works.  [default: the height it was trained at, the input's aspect]",
    ),
)
DETAIL_TO = click.option(
    "--detail-to",
    type=click.Choice(DETAILS),
    default=DEFAULTS["detail_to"],
    show_default=True,
    help="Carry the input's detail into a photo translated from a photo; labels are always decoded raw.",
)
ENCODER: tuple[Option, ...] = (
    click.option("-c", "--codec", help=f"Video encoder of all outputs, FFmpeg's name.  [default: {DEFAULT_CODEC}]"),
    click.option(
        "--crf", type=click.IntRange(min=0), help="Constant quality of the encoder; 0 is lossless with libx264."
    ),
    click.option("--preset", help="Preset of the encoder."),
    click.option(
        "--pix-fmt",
        help="Pixel format of all outputs, FFmpeg's name.  [default: 4:2:0 that plays everywhere; with -c or --crf 0 "
        "the input's, where the encoder takes it]",
    ),
    click.option(
        "-e", "--encode", type=PAIR, multiple=True, help="An option of the encoder, as tune=film; repeatable."
    ),
    click.option(
        "--codec-to",
        multiple=True,
        metavar="[DOMAIN=]NAME",
        help="Encoder of the translation, of several that of DOMAIN; repeatable.  [default: as --codec, and so on]",
    ),
    click.option("--crf-to", multiple=True, metavar="[DOMAIN=]N", help="Quality of the translation."),
    click.option("--preset-to", multiple=True, metavar="[DOMAIN=]NAME", help="Preset of the translation's encoder."),
    click.option("--pix-fmt-to", multiple=True, metavar="[DOMAIN=]NAME", help="Pixel format of the translation."),
    click.option(
        "--encode-to",
        multiple=True,
        metavar="[DOMAIN=]KEY=VALUE",
        help="An option of the translation's encoder; repeatable.",
    ),
)
COLOUR: tuple[Option, ...] = (
    click.option("--color-matrix", help="The input's matrix, FFmpeg's name such as bt709.  [default: its tag]"),
    click.option("--color-range", help="The input's range, tv (limited) or pc (full).  [default: its tag]"),
    click.option("--color-primaries", help="The input's primaries, FFmpeg's name such as bt2020.  [default: its tag]"),
    click.option("--color-trc", help="The input's transfer, FFmpeg's name such as smpte2084.  [default: its tag]"),
    click.option(
        "--deinterlace",
        type=click.Choice(DEINTERLACE),
        default=DEFAULTS["deinterlace"],
        show_default=True,
        help="Make interlaced pictures whole, one for each, or leave them woven.",
    ),
)
COMPUTING: tuple[Option, ...] = (
    click.option(
        "--engine",
        default=DEFAULTS["engine"],
        show_default=True,
        help="What runs the network; vidtrans doctor lists them.",
    ),
    click.option("--device", default=DEFAULTS["device"], show_default=True, help="cpu, cuda, cuda:1 ..."),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=DEFAULTS["precision"],
        show_default=True,
        help="Arithmetic of the network; auto is the engine's fastest that stays near float32.",
    ),
)
SAFETY: tuple[Option, ...] = (
    click.option(
        "--protocols",
        type=PROTOCOLS,
        default=(),
        help="What may be opened besides local files, FFmpeg's names, such as https,tls,tcp: INPUT may then be an "
        "address.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=DEFAULTS["max_pixels"],
        show_default=True,
        help="Refuse an INPUT with larger frames, before they take any memory.",
    ),
    click.option("--strict", is_flag=True, help="Any warning ends the run as an error; what is finished is kept."),
)
TELLING: tuple[Option, ...] = (
    click.option(
        "--progress",
        type=click.Choice(PROGRESS),
        default="auto",
        show_default=True,
        help="On stderr: a bar on a terminal, else a line now and then; JSON, an object a line; or none.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help="What else is told on stderr: all, warnings and errors, or errors only.",
    ),
    click.option(
        "--summary",
        "summary_file",
        type=click.Path(),
        metavar="FILE",
        help="Write what was done as JSON, also of a run that fails or is interrupted.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done and how long it would take; write nothing."),
)


def do(
    job: type[UpsampleOptions],
    inputs: tuple[Source, ...],
    to: tuple[str, ...],
    per_target: Sequence[str],
    *,
    dry_run: bool,
    progress: str,
    log_level: str,
    summary_file: str | None,
    **options: Any,
) -> None:
    """What the command was asked for, once its options are read.

    Args:
        job: its class of options.
        per_target: options beside PER_TARGET that may speak of one target.
        options: the others by their names in Python.
    """
    from vidtrans.cli.reporting import Reporter
    from vidtrans.cli.result import check_summary_file, result_lines, write_summary
    from vidtrans.runs import Batch, Outcome, SomeFailedError, parsed_batch, run_all

    targets = target_names(to)
    for name in (*per_target, *PER_TARGET):
        options[name] = gathered(options[name], targets)
    options["crf_to"] = {target: whole_number(text, "--crf-to") for target, text in options["crf_to"].items()}
    options["encode_to"] = pairs_for_each(options["encode_to"], targets)
    runs = parsed_batch(inputs, targets, options, job)
    if dry_run:
        say_plans(runs)
        return
    if summary_file is not None:
        check_summary_file(summary_file, runs)
    batch = Batch()
    try:
        with Reporter(progress, log_level, job.command) as reporter:

            def started(outcome: Outcome) -> None:
                if len(runs) > 1:
                    reporter.tell(f"{outcome.options.input}:")
                reporter.begin(str(outcome.options.input))

            def ended(outcome: Outcome) -> None:
                if outcome.error is None:
                    reporter.result(result_lines(outcome.summary), outcome.to_json)
                elif len(runs) > 1:
                    reporter.fail(str(outcome.error) or type(outcome.error).__name__)

            run_all(runs, announce=reporter.tell, progress=reporter.progress, started=started, ended=ended, batch=batch)
            if len(runs) > 1:
                frames = sum(outcome.summary.frames_out for outcome in batch.outcomes)
                seconds = sum(outcome.summary.seconds for outcome in batch.outcomes)
                done = len(runs) - len(batch.failed)
                reporter.tell(f"{done} of {len(runs)} inputs done, {frames} frames out of each, {seconds:.1f} s")
    finally:
        if summary_file is not None and batch.outcomes:
            write_summary(summary_file, batch)
    if batch.failed:
        error = batch.failed[0].error
        assert error is not None
        raise error if len(runs) == 1 else SomeFailedError(batch) from error


def pairs_for_each(given: tuple[str, ...], targets: Sequence[str]) -> dict[str, dict[str, str]]:
    """{target: encoder options} of a repeated [DOMAIN=]KEY=VALUE."""
    found: dict[str, dict[str, str]] = {}
    for words in given:
        target, rest = divided(words, targets)
        key, value = PAIR.convert(rest, None, None)
        for name in targets if target is None else (target,):
            found.setdefault(name, {})[key] = value
    return found


def whole_number(text: str, option: str) -> int:
    """0 or more.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        # It takes text, whatever its stub says.
        return int(click.IntRange(min=0).convert(cast("int", text), None, None))
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint=option) from error


def say_plans(runs: Sequence[UpsampleOptions]) -> None:
    """The plan of every run, and of several what they take together.

    Raises:
        VidtransError: where one cannot be, once all others are told; or where they do not fit together.
    """
    from vidtrans.dry_run import plan_run
    from vidtrans.errors import VidtransError
    from vidtrans.preflight import Plan
    from vidtrans.remarks import Remarks
    from vidtrans.totals import Total

    def tell(line: str) -> None:
        click.echo(plain(line), err=True)

    plans: list[Plan] = []
    first: VidtransError | None = None
    for options in runs:
        try:
            plans.append(plan_run(options))
        except VidtransError as error:
            if len(runs) == 1:
                raise
            first = first or error
            tell(f"{options.input}: cannot be done: {error}")
        else:
            for line in plans[-1].lines():
                tell(line)
    if len(runs) > 1 and plans:
        try:
            Remarks(tell, strict=runs[0].strict).add(*Total(plans, len(runs) - len(plans)).lines())
        except VidtransError as error:
            if first is not None:
                tell(str(error))
            first = first or error
    if first is not None:
        raise first
