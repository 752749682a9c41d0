"""vidtrans upsample"""

from __future__ import annotations

from typing import Any

import click

from vidtrans.cli import job
from vidtrans.cli.parameters import FRACTION
from vidtrans.options import CUTS, DEFAULT_FACTOR, DETAILS, MOTIONS, MUXES, TAILS, UpsampleOptions
from vidtrans.video.local_file import Source
from vidtrans.video.names import OUT_FORMATS

RATE = (
    click.option(
        "-m",
        "--factor",
        type=FRACTION,
        help=f"Output frames per input frame, such as 8 or 5/2.  [default: {DEFAULT_FACTOR}]",
    ),
    click.option(
        "--fps", type=FRACTION, help="Output frames per second instead, such as 60 or 60000/1001; the duration stays."
    ),
    click.option(
        "--slowmo", is_flag=True, help="Play the frames of --factor at the input's rate: longer, and without sound."
    ),
)
TAIL = click.option(
    "--tail",
    type=click.Choice(TAILS),
    default=job.DEFAULTS["tail"],
    show_default=True,
    help="Hold the last input frame for its own duration, or end with the last output that does not lie after it.",
)
OUTPUTS = (
    click.option(
        "-o",
        "--output",
        type=click.Path(),
        help="The up-converted input: a file, - for standard output, a FIFO or /dev/fd/N, images as frames/%06d.png or "
        "frames/.  [default: INPUT.xFACTOR.EXT or INPUT.RATEfps.EXT beside it]",
    ),
    click.option(
        "--out-to",
        "output_to",
        multiple=True,
        metavar="[DOMAIN=]FILE",
        help="The translation, of several that of DOMAIN.  [default: the same with .DOMAIN before .EXT]",
    ),
    job.OUT_DIR,
    click.option(
        "--out-format",
        metavar="NAME",
        help=f"What goes into a pipe: {', '.join(OUT_FORMATS)}.  [default: what its name ends in, else y4m]",
    ),
    click.option("--out-format-to", multiple=True, metavar="[DOMAIN=]NAME", help="The same of the translation's pipe."),
    click.option(
        "--mux",
        type=click.Choice(MUXES),
        default=job.DEFAULTS["mux"],
        show_default=True,
        help="An output for each video, or all of them as tracks of one .mkv or .nut file or stream, --output.",
    ),
)
IN_BETWEENS = (
    click.option(
        "--detail",
        type=click.Choice(DETAILS),
        default=job.DEFAULTS["detail"],
        show_default=True,
        help="Carry the keyframes' detail into the in-betweens, or give the raw decoding.",
    ),
    job.DETAIL_TO,
    click.option(
        "--motion",
        type=click.Choice(MOTIONS),
        default=job.DEFAULTS["motion"],
        show_default=True,
        help="Move the keyframes to each in-between, or blend them in place.",
    ),
    click.option("--paper", is_flag=True, help="The papers' own way: --motion none --detail none --detail-to none."),
    click.option(
        "--cuts",
        type=click.Choice(CUTS),
        default=job.DEFAULTS["cuts"],
        show_default=True,
        help="Hold the last frame before a cut until the cut, or treat cuts as any other gap.",
    ),
    click.option(
        "--cut-threshold",
        type=click.FloatRange(0, 1),
        default=job.DEFAULTS["cut_threshold"],
        show_default=True,
        metavar="X",
        help="How little two frames must have in common to be a cut: 0 is any change at all, 1 nothing in common.",
    ),
    click.option("--dedup", is_flag=True, help="Time motion across repeated frames, as of drawings shown twice."),
    click.option(
        "--dedup-tolerance",
        type=click.FloatRange(0, 255),
        default=job.DEFAULTS["dedup_tolerance"],
        show_default=True,
        metavar="CODES",
        help="What repeated frames may differ by, code values of 8 bits in the mean of any block of 8x8; 0 is bit for "
        "bit.",
    ),
)


@click.command("upsample")
@job.with_options(
    job.DOMAINS,
    RATE,
    job.INPUT,
    (TAIL,),
    OUTPUTS,
    job.LABELS_AND_OVERWRITING,
    job.NETWORK,
    IN_BETWEENS,
    job.ENCODER,
    job.COLOUR,
    job.COMPUTING,
    job.SAFETY,
    job.TELLING,
)
def command(inputs: tuple[Source, ...], to: tuple[str, ...], paper: bool, **options: Any) -> None:
    """Raise a video's frame rate and translate it, in one pass.

    Writes videos in step beside INPUT: the input at FACTOR times its frame rate (or at --fps), and a translation for
    each DOMAIN. All have the same number of frames, the same time stamps and the input's sound.

    INPUT is a video file, - for standard input, a folder of images, a quoted glob, or a pattern such as
    frames/%06d.png. Several are done one after the other, whatever becomes of each.
    """
    if paper:
        options.update(motion="none", detail="none", detail_to="none")
    job.do(UpsampleOptions, inputs, to, ("output_to", "out_format_to"), **options)
