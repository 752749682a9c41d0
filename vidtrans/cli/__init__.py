"""The command line: one file per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from vidtrans import __version__
from vidtrans.errors import VidtransError, nearest_names
from vidtrans.text import plain

# name -> (module, one line for `vidtrans --help`); literal, so that --help imports nothing else.
COMMANDS: dict[str, tuple[str, str]] = {
    "upsample": ("vidtrans.cli.upsample", "Raise a video's frame rate and translate it, in one pass."),
    "translate": ("vidtrans.cli.translate", "Translate a video frame by frame, with nothing in between."),
    "render": ("vidtrans.cli.render", "Render a clip of the procedural street, in any domain."),
    "train": ("vidtrans.cli.train", "Train a model on unpaired footage."),
    "data": ("vidtrans.cli.data", "Look at footage before training on it."),
    "report": ("vidtrans.cli.report", "Show a training run on one page that opens offline."),
    "models": ("vidtrans.cli.models", "List, describe, add, verify and export models."),
    "bench": ("vidtrans.cli.bench", "Measure the engines of this machine."),
    "doctor": ("vidtrans.cli.doctor", "What this installation can do, and what to install for more."),
    "engine": ("vidtrans.cli.engine", "Build, list and remove the TensorRT plans that are kept."),
    "evaluate": ("vidtrans.cli.evaluate", "Measure a model on held-out rendered streets."),
}


class LazyGroup(click.Group):
    """A click group whose commands are looked up in COMMANDS when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; {nearest_names(args[0], tuple(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vidtrans")
def cli() -> None:
    """One low-frame-rate video in, two synchronised high-frame-rate videos out: the input and its translation."""


def main() -> None:
    """Run the command line; a VidtransError becomes one sentence on stderr and its exit code, Ctrl-C becomes 130."""
    # Torch's threads spin while they wait, unless told before torch is imported; beside two encoders' threads on a few
    # cores that costs more time than all the work (measured: a training step 20 times slower on a busy two-core
    # machine).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        # As click shows it, but for what a terminal would obey.
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        click.echo(f"Error: {plain(error.format_message())}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("vidtrans: interrupted", err=True)
        sys.exit(130)
    except VidtransError as error:
        click.echo(f"vidtrans: {plain(str(error))}", err=True)
        sys.exit(error.exit_code)
