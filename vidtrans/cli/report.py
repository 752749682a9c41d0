"""vidtrans report"""

from __future__ import annotations

from pathlib import Path

import click

from vidtrans.text import plain


@click.command("report")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(run: Path) -> None:
    """Make the page of RUN, the folder of a training run, anew: report.html in it.

    vidtrans train writes it when a run ends; this is for one that goes on, was stopped or killed. The page holds
    everything that it shows, and opens offline.
    """
    from vidtrans.train.report import write_report

    click.echo(plain(str(write_report(run))), err=True)
