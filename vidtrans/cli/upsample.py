"""vidtrans upsample"""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import Any

import click

from vidtrans.cli.parameters import FRACTION, PAIR, PROTOCOLS, SIZE, SOURCE, TIME
from vidtrans.options import (
    DEFAULT_FACTOR,
    DEINTERLACE,
    DETAILS,
    LABELS,
    MOTIONS,
    MUXES,
    PRECISIONS,
    TAILS,
    UpsampleOptions,
)
from vidtrans.text import plain
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions
from vidtrans.video.input_form import IN_FORMATS
from vidtrans.video.names import OUT_FORMATS, is_pipe

DEFAULTS = {f.name: f.default for f in (*fields(UpsampleOptions), *fields(EncoderOptions))}
ENCODER = ("codec", "crf", "preset", "pix_fmt", "encode")


@click.command("upsample")
@click.argument("input", metavar="INPUT", type=SOURCE)
@click.option("--to", required=True, metavar="DOMAIN", help="Domain to translate into, such as segmentation.")
@click.option("--from", "from_", metavar="DOMAIN", help="Domain of the input.  [default: the model's other one]")
@click.option(
    "-m",
    "--factor",
    type=FRACTION,
    help=f"Output frames per input frame, such as 8 or 5/2; 1 translates only.  [default: {DEFAULT_FACTOR}]",
)
@click.option(
    "--fps", type=FRACTION, help="Output frames per second instead, such as 60 or 60000/1001; the duration stays."
)
@click.option(
    "--slowmo", is_flag=True, help="Play the frames of --factor at the input's rate: longer, and without sound."
)
@click.option(
    "--start",
    type=TIME,
    help="Leave out what begins earlier: seconds or [HH:]MM:SS after the first frame.",
)
@click.option("--end", type=TIME, help="Leave out what begins then or later, counted as --start is.")
@click.option(
    "--in-format",
    type=click.Choice(IN_FORMATS),
    help="Format of INPUT, where it cannot be told from its first bytes: rawvideo.  [default: what it begins as]",
)
@click.option("--size-in", type=SIZE, help="Size of rawvideo.")
@click.option("--pix-fmt-in", metavar="NAME", help="Pixel format of rawvideo, FFmpeg's name.")
@click.option(
    "--rate-in",
    type=FRACTION,
    help="Frames per second of rawvideo and images, such as 30000/1001.  [default: 25 for images]",
)
@click.option(
    "--expect-frames",
    type=click.IntRange(min=1),
    metavar="N",
    help="Fail where the input has another number of frames: a pipe that ends early looks like one that is done.",
)
@click.option(
    "--tail",
    type=click.Choice(TAILS),
    default=DEFAULTS["tail"],
    show_default=True,
    help="Hold the last input frame for its own duration, or end with the last output that does not lie after it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="The up-converted input: a file, - for standard output, a FIFO or /dev/fd/N, images as frames/%06d.png or "
    "frames/.  [default: INPUT.xFACTOR.EXT or INPUT.RATEfps.EXT beside it]",
)
@click.option(
    "--out-to",
    "output_to",
    type=click.Path(),
    help="The translation.  [default: the same with .DOMAIN before .EXT]",
)
@click.option(
    "--out-format",
    metavar="NAME",
    help=f"What goes into a pipe: {', '.join(OUT_FORMATS)}.  [default: what its name ends in, else y4m]",
)
@click.option("--out-format-to", metavar="NAME", help="The same of the translation's pipe.")
@click.option(
    "--mux",
    type=click.Choice(MUXES),
    default=DEFAULTS["mux"],
    show_default=True,
    help="Two outputs, or both videos as two tracks of one .mkv or .nut file or stream, --output.",
)
@click.option(
    "--labels",
    type=click.Choice(LABELS),
    default=DEFAULTS["labels"],
    show_default=True,
    help="Label domains in their palette's colours, or each pixel's class number as lossless grey (.mkv or images).",
)
@click.option("-y", "overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option(
    "--model",
    default=DEFAULTS["model"],
    show_default=True,
    help="A name (vidtrans models list), a model file or a run folder.",
)
@click.option(
    "--size",
    type=SIZE,
    help="Size at which the network works.  [default: the height it was trained at, the input's aspect]",
)
@click.option(
    "--detail",
    type=click.Choice(DETAILS),
    default=DEFAULTS["detail"],
    show_default=True,
    help="Carry the keyframes' detail into the in-betweens, or give the raw decoding.",
)
@click.option(
    "--motion",
    type=click.Choice(MOTIONS),
    default=DEFAULTS["motion"],
    show_default=True,
    help="Move the keyframes to each in-between, or blend them in place.",
)
@click.option("--paper", is_flag=True, help="The papers' own in-betweens: --motion none --detail none.")
@click.option("-c", "--codec", help=f"Video encoder of both outputs, FFmpeg's name.  [default: {DEFAULT_CODEC}]")
@click.option("--crf", type=click.IntRange(min=0), help="Constant quality of the encoder; 0 is lossless with libx264.")
@click.option("--preset", help="Preset of the encoder.")
@click.option(
    "--pix-fmt",
    help="Pixel format of both outputs, FFmpeg's name.  [default: 4:2:0 that plays everywhere; with -c or --crf 0 the "
    "input's, where the encoder takes it]",
)
@click.option("-e", "--encode", type=PAIR, multiple=True, help="An option of the encoder, as tune=film; repeatable.")
@click.option("--codec-to", help="Encoder of the translation.  [default: as --codec, and so on]")
@click.option("--crf-to", type=click.IntRange(min=0), help="Quality of the translation.")
@click.option("--preset-to", help="Preset of the translation's encoder.")
@click.option("--pix-fmt-to", help="Pixel format of the translation.")
@click.option("--encode-to", type=PAIR, multiple=True, help="An option of the translation's encoder; repeatable.")
@click.option("--color-matrix", help="The input's matrix, FFmpeg's name such as bt709.  [default: its tag]")
@click.option("--color-range", help="The input's range, tv (limited) or pc (full).  [default: its tag]")
@click.option("--color-primaries", help="The input's primaries, FFmpeg's name such as bt2020.  [default: its tag]")
@click.option("--color-trc", help="The input's transfer, FFmpeg's name such as smpte2084.  [default: its tag]")
@click.option(
    "--deinterlace",
    type=click.Choice(DEINTERLACE),
    default=DEFAULTS["deinterlace"],
    show_default=True,
    help="Make interlaced pictures whole, one for each, or leave them woven.",
)
@click.option(
    "--engine", default=DEFAULTS["engine"], show_default=True, help="What runs the network; vidtrans doctor lists them."
)
@click.option("--device", default=DEFAULTS["device"], show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=DEFAULTS["precision"],
    show_default=True,
    help="Arithmetic of the network; auto is the engine's fastest that stays near float32.",
)
@click.option(
    "--protocols",
    type=PROTOCOLS,
    default=(),
    help="What may be opened besides local files, FFmpeg's names, such as https,tls,tcp: INPUT may then be an address.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULTS["max_pixels"],
    show_default=True,
    help="Refuse an INPUT with larger frames, before they take any memory.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it would take; write nothing.")
def command(paper: bool, dry_run: bool, **options: Any) -> None:
    """Raise a video's frame rate and translate it, in one pass.

    Writes two videos in step beside INPUT: the input at FACTOR times its frame rate (or at --fps), and its translation
    into DOMAIN. Both have the same number of frames, the same time stamps and the input's sound.

    INPUT is a video file, - for standard input, a folder of images, a quoted glob, or a pattern such as
    frames/%06d.png.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from vidtrans.pipeline import run

    encoder = EncoderOptions(**{name: options.pop(name) for name in ENCODER})
    encoder_to = encoder.changed(**{name: options.pop(f"{name}_to") for name in ENCODER})
    if paper:
        options.update(motion="none", detail="none")
    parsed = UpsampleOptions(encoder=encoder, encoder_to=encoder_to, **options)
    if dry_run:
        from vidtrans.dry_run import plan_run

        for line in plan_run(parsed).lines():
            click.echo(line, err=True)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(Text(plain(text)))  # names of files are no markup

    columns = (
        TextColumn("upsample"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} frames/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("upsample", total=None, rate=0.0)

        def progress(done: int, expected: int | None) -> None:
            elapsed = bar.tasks[task].elapsed or 0.0
            bar.update(task, completed=done, total=expected, rate=done / elapsed if elapsed else 0.0)

        said: list[str] = []

        def announce(text: str) -> None:
            said.append(text)
            say(text)

        summary = run(parsed, announce=announce, progress=progress)
    for note in summary.notes:
        if note not in said:  # some are known only once all frames have been read
            say(note)
    for path in dict.fromkeys(path for path in summary.outputs if not is_pipe(path)):
        say(f"wrote {path}")
    held = [
        (summary.cuts, "cuts held"),
        (summary.repeats, "repeats held"),
        (summary.lost, "gaps without motion blended"),
    ]
    if any(count for count, _ in held):
        console.print(", ".join(f"{count} {words}" for count, words in held if count))
    rate = Fraction(summary.frames_out) / Fraction(summary.seconds)
    console.print(
        f"{summary.frames_in} frames in, {summary.frames_out} out twice, {summary.seconds:.1f} s "
        f"({float(rate):.1f} frames/s), bottleneck: {summary.bottleneck}"
    )
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.busy_seconds.items())
    console.print(f"seconds by stage: {stages}")
