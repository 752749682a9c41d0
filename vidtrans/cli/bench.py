"""vidtrans bench"""

from __future__ import annotations

from pathlib import Path

import click

from vidtrans.cli.parameters import SIZE


@click.command("bench")
@click.argument("model", default="street")
@click.option(
    "-i",
    "--input",
    "clip",
    type=click.Path(path_type=Path),
    help="The video of the end-to-end runs.  [default: four seconds of the rendered street, one with --paper]",
)
@click.option("--to", metavar="DOMAIN", help="Domain to translate into.  [default: the model's last]")
@click.option("--from", "from_", metavar="DOMAIN", help="Domain of the input.  [default: the model's other one]")
@click.option("-m", "--factor", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--size", type=SIZE, help="Size at which the network works.  [default: the size it was trained at]")
@click.option("--engine", "engines", multiple=True, help="Measure this engine only; may be repeated.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Measure on this device only.")
@click.option("--precision", "precisions", multiple=True, help="Measure this precision only; may be repeated.")
@click.option("--seconds", type=click.FloatRange(min=0.0), default=2.0, show_default=True, help="For each figure.")
@click.option(
    "--paper",
    is_flag=True,
    help="The papers' nine-frame sequence: full-width JWDM in two domains, at 128x128 unless --size says otherwise.",
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write it here.")
def command(
    model: str,
    clip: Path | None,
    to: str | None,
    from_: str | None,
    factor: int,
    size: tuple[int, int] | None,
    engines: tuple[str, ...],
    device: str | None,
    precisions: tuple[str, ...],
    seconds: float,
    paper: bool,
    json_path: Path | None,
) -> None:
    """Measure every engine and precision of this machine on MODEL, beside its error against float32.

    MODEL is a name (vidtrans models list), a model file or a run folder. A row for each: milliseconds of the encoder,
    of a lift, of finishing an in-between, of a whole pair of output frames; pairs of frames a second end to end; peak
    memory; counted operations as a share of the machine's measured peak; PSNR against the float32 torch engine.
    """
    import importlib.util
    import json
    from dataclasses import replace
    from fractions import Fraction
    from tempfile import TemporaryDirectory

    from vidtrans.bench import ROWS, Bench, paper_model, table_head, table_line
    from vidtrans.checkpoint import load_model
    from vidtrans.errors import UsageError
    from vidtrans.measuring import machine
    from vidtrans.nets.pixel_space import for_any_engine

    can_read = importlib.util.find_spec("av") is not None
    if clip is not None and not can_read:
        raise UsageError(
            "PyAV is not installed, without which no video can be read: pip install av, or leave --input out"
        )
    loaded = paper_model() if paper else load_model(model)
    names = [domain.name for domain in loaded.net.domains]
    target = to or next(name for name in reversed(names) if name != from_)
    source = from_ or next(name for name in names if name != target)
    loaded = replace(loaded, net=for_any_engine(loaded.net, source))
    wanted = [
        row
        for row in ROWS
        if (not engines or row[0] in engines)
        and (device is None or row[1] == device)
        and (not precisions or row[2] in precisions)
    ]
    if not wanted:
        raise UsageError("nothing to measure: no engine has all that --engine, --device and --precision ask for")
    with TemporaryDirectory() as folder:
        size = size or ((128, 128) if paper else loaded.net.sizes.trained)
        if not can_read:
            click.echo("left out: all figures end to end, because PyAV is not installed", err=True)
        elif clip is None:
            from vidtrans.train.clip import render_clip

            clip = Path(folder, "street.mp4")
            render_clip(clip, 1, Fraction(1 if paper else 4), Fraction(15, 2), size)
        bench = Bench(loaded, source, target, size, factor, clip, seconds, int8_unchecked=paper)
        click.echo(machine())
        click.echo(table_head())
        rows = []
        for row in bench.rows(
            wanted, ("keyframe", "frame"), report=lambda text: click.echo(f"left out: {text}", err=True)
        ):
            rows.append(row)
            click.echo(table_line(row))
            if json_path is not None:  # row by row: a run that is ended keeps what it has
                facts = {"machine": machine(), "model": "paper" if paper else model, "size": size, "factor": factor}
                facts["rows"] = [row.to_json() for row in rows]
                json_path.write_text(json.dumps(facts, indent=1) + "\n")
    for row in rows:
        for note in row.notes:
            click.echo(f"{row.engine} {row.precision}: {note}")
