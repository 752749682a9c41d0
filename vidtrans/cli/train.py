"""vidtrans train"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("recipe")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: runs/RECIPE]"
)
@click.option("--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one value of the recipe.")
@click.option("--strict", is_flag=True, help="End at the first file that cannot be read, in place of skipping it.")
@click.option("--resume", is_flag=True, help="Continue the run in the folder, exactly where it was saved.")
@click.option("--init-from", metavar="MODEL", help="Start the generators from a finished model, discriminators fresh.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where rendered frames are kept.  [default: in the run folder]",
)
def command(
    recipe: str,
    out: Path | None,
    changes: tuple[str, ...],
    strict: bool,
    resume: bool,
    init_from: str | None,
    device: str,
    cache: Path | None,
) -> None:
    """Train a model on unpaired footage.

    RECIPE is a TOML file, or one of the bundled recipes: street (the bundled model), jwdm and jwae (the papers'
    settings). The run folder gets the model (usable at once as --model RUNFOLDER), the state to resume from, sample
    grids, TensorBoard curves and train.jsonl.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    from vidtrans.checkpoint import load_model
    from vidtrans.errors import UsageError
    from vidtrans.text import plain
    from vidtrans.train.loop import MODEL, STATE, Progress, Run
    from vidtrans.train.recipe import load_recipe

    parsed = load_recipe(recipe, (*changes, "data.strict=true") if strict else changes)
    folder = out or Path("runs") / Path(recipe).stem
    if (folder / STATE).exists() and not resume:
        raise UsageError(
            f"{folder} holds a run already; add --resume to continue it or choose another folder with --out"
        )
    if resume and init_from:
        raise UsageError("--resume continues a run, --init-from starts one; give one of the two")
    console = Console(stderr=True)
    model = load_model(init_from) if init_from else None
    run = Run(
        parsed,
        folder,
        device=device,
        cache=cache,
        init_from=model,
        report=lambda text: console.print(Text(plain(text))),
    )
    if resume:
        run.resume()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.2f} it/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("train", total=run.total, completed=run.step, speed=0.0, losses="")

        def show(progress: Progress) -> None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items())
            bar.update(task, completed=progress.step, speed=progress.steps_per_second, losses=losses)
            if not console.is_terminal:
                line = f"step {progress.step}/{progress.total} {progress.steps_per_second:.2f} it/s {losses}"
                console.print(line, highlight=False, soft_wrap=True)

        run.advance(show=show)
    console.print(Text(plain(f"{folder / MODEL}: done, {run.total} steps")))
