"""vidtrans data"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vidtrans.text import plain


@click.group("data")
def command() -> None:
    """Look at footage before training on it."""


@command.command("check")
@click.argument("sources", metavar="PATH...", nargs=-1, required=True)
@click.option("--palette", metavar="NAME|FILE", help="The pictures are labels in this palette, bundled or a file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a contact sheet, a PNG of small pictures from everywhere.",
)
@click.option("-y", "overwrite", is_flag=True, help="Replace the contact sheet if it exists.")
@click.option("--strict", is_flag=True, help="Exit with code 3 where anything is wrong.")
def check(sources: tuple[str, ...], palette: str | None, output: Path | None, overwrite: bool, strict: bool) -> None:
    """Read everything once and say what was found, and what is wrong with which file.

    PATH is a folder, or whatever a recipe's `data` may be, such as 'cityscapes:PATH?part=train'. A folder that is laid
    out like Cityscapes, SYNTHIA, VIPER or GTA is recognised, and its labels are looked at, too.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from vidtrans.errors import InputError, OutputError
    from vidtrans.palette_files import palette_from
    from vidtrans.palettes import palette_named
    from vidtrans.train.data.check import check_source, contact_sheet

    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"{output} exists; add -y to replace it")
    chosen = palette_from(palette)
    findings = []
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        for source in sources:
            task = bar.add_task(plain(source), total=None)

            def show(done: int, total: int, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            found = check_source(source, palette_named(chosen) if isinstance(chosen, str) else chosen, show)
            findings += found
            for line in (line for finding in found for line in finding.lines()):
                click.echo(plain(line))
    if output is not None:
        try:
            contact_sheet(findings).save(output, format="PNG")
        except OSError as error:
            raise OutputError(f"{output} cannot be written ({error.strerror or error})") from error
    wrong = len({path for finding in findings for path, _ in finding.problems})
    click.echo(f"{wrong or 'no'} file{'s' if wrong != 1 else ''} with something wrong")
    if wrong and strict:
        raise InputError("something is wrong with the files named above")
