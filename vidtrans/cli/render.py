"""`vidtrans render`: write a clip of the procedural street. The work is in train/clip.py."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import click

from vidtrans.cli.parameters import FRACTION, SIZE
from vidtrans.text import plain
from vidtrans.train.domains import STREET_DOMAINS


@click.command()
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="Which street.")
@click.option("--seconds", type=FRACTION, default="4", show_default=True, help="Length.")
@click.option("--fps", type=FRACTION, default="30", show_default=True, help="Frame rate: 30, 7.5, 30000/1001.")
@click.option("--size", type=SIZE, default="512x256", show_default=True, help="Picture size in pixels.")
@click.option(
    "--domain",
    type=click.Choice(tuple(STREET_DOMAINS)),
    default="scene",
    show_default=True,
    help="scene is the street in summer; segmentation paints the classes of the same street in palette colours.",
)
@click.option("--sound", is_flag=True, help="Add a made-up street sound of the same length.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The video to write.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    seed: int,
    seconds: Fraction,
    fps: Fraction,
    size: tuple[int, int],
    domain: str,
    sound: bool,
    output: Path,
    overwrite: bool,
) -> None:
    """Render a clip of the procedural street, in any domain.

    The same seed is the same street in every domain, frame by frame.
    """
    from rich.console import Console
    from rich.progress import Progress

    from vidtrans.train.clip import render_clip

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(output.name, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        notes = render_clip(output, seed, seconds, fps, size, domain, sound, overwrite, progress=show)
    for note in notes:
        click.echo(f"vidtrans: {plain(note)}", err=True)
