"""vidtrans translate"""

from __future__ import annotations

from typing import Any

import click

from vidtrans.cli import job
from vidtrans.options import MUXES, TranslateOptions
from vidtrans.video.local_file import Source
from vidtrans.video.names import OUT_FORMATS

OUTPUTS = (
    click.option(
        "-o",
        "--output",
        multiple=True,
        metavar="[DOMAIN=]FILE",
        help="The translation, of several that of DOMAIN: a file, - for standard output, a FIFO or /dev/fd/N, images "
        "as frames/%06d.png or frames/.  [default: INPUT.DOMAIN.EXT beside it]",
    ),
    job.OUT_DIR,
    click.option(
        "--out-format",
        multiple=True,
        metavar="[DOMAIN=]NAME",
        help=f"What goes into a pipe: {', '.join(OUT_FORMATS)}.  [default: what its name ends in, else y4m]",
    ),
    click.option(
        "--mux",
        type=click.Choice(MUXES),
        default=job.DEFAULTS["mux"],
        show_default=True,
        help="An output for each of several domains, or all of them as tracks of one .mkv or .nut file or stream, "
        "--output.",
    ),
)


@click.command("translate")
@job.with_options(
    job.DOMAINS,
    job.INPUT,
    OUTPUTS,
    job.LABELS_AND_OVERWRITING,
    job.NETWORK,
    (job.DETAIL_TO,),
    job.ENCODER,
    job.COLOUR,
    job.COMPUTING,
    job.SAFETY,
    job.TELLING,
)
def command(inputs: tuple[Source, ...], to: tuple[str, ...], **options: Any) -> None:
    """Translate a video, frame by frame, with nothing in between.

    Writes beside INPUT a translation for each DOMAIN, with the input's frame rate, time stamps and sound. Every model
    can do it; --codec-to and its like say of one of several domains what --codec says of all.

    INPUT is what vidtrans upsample takes.
    """
    job.do(TranslateOptions, inputs, to, ("output", "out_format"), **options)
