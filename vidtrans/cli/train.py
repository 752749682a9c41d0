"""vidtrans train"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from vidtrans.train.ranks import Ranks
    from vidtrans.train.recipe import Recipe

NEWEST, AUTO = "newest", "auto"


class _Command(click.Command):
    """--resume may stand alone or before auto or a step: click itself would take whatever follows for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        waiting = iter(args)
        for word in waiting:
            if word != "--resume":
                joined.append(word)
                continue
            following = next(waiting, None)
            if following is not None and re.fullmatch(rf"{AUTO}|[0-9]+", following):
                joined.append(f"{word}={following}")
            else:
                joined += [f"{word}={NEWEST}", *([] if following is None else [following])]
        return super().parse_args(ctx, joined)


@click.command("train", cls=_Command)
@click.argument("recipe", required=False)
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: runs/RECIPE]"
)
@click.option("--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one value of the recipe.")
@click.option("--print-recipe", metavar="NAME", help="Print a recipe with every key as TOML, --set applied, and end.")
@click.option("--sweep", is_flag=True, help="A run for each combination of the recipe's [sweep], then a table of all.")
@click.option("--strict", is_flag=True, help="End at the first file that cannot be read, in place of skipping it.")
@click.option(
    "--resume",
    metavar="[auto|STEP]",
    help="Continue the run in the folder exactly where it was saved, or from an older checkpoint at STEP; auto: start "
    "it if nothing was saved yet.",
)
@click.option("--init-from", metavar="MODEL", help="Start the generators from a finished model, discriminators fresh.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where rendered frames are kept.  [default: in the run folder]",
)
def command(
    recipe: str | None,
    out: Path | None,
    changes: tuple[str, ...],
    print_recipe: str | None,
    sweep: bool,
    strict: bool,
    resume: str | None,
    init_from: str | None,
    device: str,
    cache: Path | None,
) -> None:
    """Train a model on unpaired footage.

    RECIPE is a TOML file, or a bundled recipe: street (the bundled model), smoke (five minutes), jwdm and jwae (the
    papers' settings) and others; docs/training.md lists them. The run folder gets the model (usable at once as --model
    RUNFOLDER), checkpoints to resume from, pictures, TensorBoard curves, train.jsonl and at the end report.html.

    SIGTERM, or Ctrl-C once, ends the run after the step at hand and saves it: exit code 6, and --resume continues.

    On several GPUs: torchrun --nproc-per-node N -m vidtrans train RECIPE --device cuda
    """
    from rich.console import Console

    from vidtrans.errors import UsageError
    from vidtrans.train.ranks import join_ranks
    from vidtrans.train.recipe import load_recipe, load_sweep
    from vidtrans.train.sweep import TABLE, summarise
    from vidtrans.train.toml_text import recipe_text

    changes = (*changes, "data.strict=true") if strict else changes
    if print_recipe is not None:
        click.echo(recipe_text(load_recipe(print_recipe, changes)), nl=False)
        return
    if recipe is None:
        raise UsageError("name a recipe: a TOML file or a bundled one, such as vidtrans train smoke")
    folder = out or Path("runs") / Path(recipe).stem
    runs = load_sweep(recipe, changes) if sweep else {"": load_recipe(recipe, changes)}
    ranks = join_ranks(device)
    console = Console(stderr=True, quiet=not ranks.is_first)
    for label, parsed in runs.items():
        if label:
            console.rule(label)
        _train(parsed, folder / label, resume, init_from, device, cache or (folder / "cache"), ranks, console)
    if sweep and ranks.is_first:
        console.print(summarise(folder, list(runs)), highlight=False, markup=False, soft_wrap=True)
        console.print(f"{folder / TABLE}: {len(runs)} runs side by side", highlight=False, markup=False, soft_wrap=True)


def _train(
    recipe: Recipe,
    folder: Path,
    resume: str | None,
    init_from: str | None,
    device: str,
    cache: Path,
    ranks: Ranks,
    console: Console,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    from vidtrans.checkpoint import load_model
    from vidtrans.errors import UsageError
    from vidtrans.text import plain
    from vidtrans.train.keep import MODEL, STATE
    from vidtrans.train.loop import Progress, Run
    from vidtrans.train.report import finish

    is_there = (folder / STATE).exists()
    if is_there and resume is None:
        raise UsageError(
            f"{folder} holds a run already; add --resume to continue it or choose another folder with --out"
        )
    if resume not in (None, AUTO) and init_from:
        raise UsageError("--resume continues a run, --init-from starts one; give one of the two, or --resume auto")
    continues = resume is not None and (resume != AUTO or is_there)

    def say(text: str) -> None:
        console.print(Text(plain(text)))

    model = load_model(init_from) if init_from and not continues else None
    run = Run(recipe, folder, device=device, cache=cache, init_from=model, ranks=ranks, report=say)
    if continues:
        run.resume(int(resume) if resume and resume.isdecimal() else None)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("train", total=run.total, completed=run.step, speed="", losses="")

        def show(progress: Progress) -> None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            speed = f"{progress.steps_per_second:.2f} it/s {progress.frames_per_second:.1f} frames/s"
            speed += f" {progress.data_wait:.0%} waiting for data"
            bar.update(task, completed=progress.step, speed=speed, losses=losses)
            if not console.is_terminal:
                line = f"step {progress.step}/{progress.total} {speed} {losses}"
                console.print(line, highlight=False, soft_wrap=True)

        run.advance(show=show)
    if not ranks.is_first:
        return
    page = finish(run)
    say(f"{folder / MODEL}: done, {run.total} steps; {page} shows how it went")
