"""vidtrans doctor"""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """What this installation can do, and what to install for more.

    Lists versions, devices, engines (with why one cannot be used), video encoders, models and the cache. Paste it into
    a bug report.
    """
    from vidtrans.doctor import report

    for heading, lines in report():
        click.echo(heading)
        for line in lines:
            click.echo(f"  {line}")
