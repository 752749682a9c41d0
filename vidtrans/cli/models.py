"""vidtrans models"""

from __future__ import annotations

from pathlib import Path

import click

from vidtrans.cli.parameters import SIZE
from vidtrans.text import plain


@click.group("models")
def command() -> None:
    """List, describe, add, verify and export models.

    A MODEL is a name of the list, a model file or the folder of a training run, here as after --model. Your own models
    are kept in $VIDTRANS_MODELS, else where this platform keeps a user's data. Only safetensors files are loaded: no
    model can run code.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="All that is known of each, as JSON.")
def list_(as_json: bool) -> None:
    """List the bundled models and your own."""
    import json

    from vidtrans.errors import VidtransError
    from vidtrans.model_card import domain_in_words, read_card
    from vidtrans.model_library import models_folder, named_models

    rows = []
    for found in named_models():
        try:
            card = read_card(found)
        except VidtransError as error:
            rows.append({"name": found.name, "path": str(found.path), "error": str(error)})
            if not as_json:
                click.echo(plain(f"{found.name}: {error}"))
            continue
        if as_json:
            rows.append(card.to_json())
        else:
            domains = ", ".join(domain_in_words(row) for row in card.domains)
            click.echo(plain(f"{found.name} ({found.kind}, {card.bytes / 1e6:.1f} MB): {domains}"))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        click.echo(plain(f"your own are kept in {models_folder()}"), err=True)


@command.command("info")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="All metadata, as JSON.")
def info(model: str, as_json: bool) -> None:
    """Print the card of MODEL in Markdown: file, hash, network, domains, training, held-out figures."""
    import json

    from vidtrans.model_card import card_text, read_card
    from vidtrans.model_library import find_model

    card = read_card(find_model(model))
    if as_json:
        click.echo(json.dumps(card.to_json(), indent=1))
        return
    for line in card_text(card).split("\n"):
        click.echo(plain(line))


@command.command("add")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="What to call it.  [default: the name of the file, or of the run folder]")
@click.option("--sha256", metavar="HEX", help="The hash that it should have, from whoever gave you the file.")
@click.option("-y", "overwrite", is_flag=True, help="Replace a model of this name.")
def add(source: Path, name: str | None, sha256: str | None, overwrite: bool) -> None:
    """Copy FILE, a model or the folder of a training run, to your own models, under a name.

    It is verified first (see verify), and its hash is recorded.
    """
    from vidtrans.model_care import verify_model
    from vidtrans.model_library import copy_in, find_model, place_for

    found = find_model(str(source.absolute()))
    name = name or (source.absolute().name if found.kind == "run" else found.path.stem)
    place_for(name, replace=overwrite)  # refusals before the work
    digest, _ = verify_model(str(found.path.absolute()), sha256)
    path = copy_in(found.path, name, digest, replace=overwrite)
    click.echo(plain(f"{name}: {path}, SHA-256 {digest}"), err=True)


@command.command("verify")
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--sha256", metavar="HEX", help="The hash that the one MODEL should have.  [default: the recorded one]")
def verify(models: tuple[str, ...], sha256: str | None) -> None:
    """Check each MODEL; without one, all that the list shows.

    Header and sizes, the hash against the recorded one, all numbers finite, and one small frame through every pair of
    domains. Exit code 3 if one is damaged, after all have been checked.
    """
    from vidtrans.errors import InputError, UsageError, VidtransError
    from vidtrans.model_care import verify_model
    from vidtrans.model_library import named_models

    names = models or tuple(found.name for found in named_models())
    if sha256 is not None and len(names) != 1:
        raise UsageError("--sha256 is the hash of one model; name one")
    broken: list[VidtransError] = []
    for name in names:
        try:
            verify_model(name, sha256, report=lambda text, name=name: click.echo(plain(f"{name}: {text}")))  # type: ignore[misc]
        except VidtransError as error:
            if len(names) == 1:
                raise
            broken.append(error)
            click.echo(plain(f"{name}: {error}"), err=True)
    if broken:
        raise InputError(f"{len(broken)} of {len(names)} models cannot be used; see above")


@command.command("export")
@click.argument("model")
@click.option(
    "--as",
    "form",
    type=click.Choice(("safetensors", "onnx", "openvino")),
    default="safetensors",
    show_default=True,
    help="safetensors: the model in half precision, for vidtrans, half as large. onnx: two graphs of one direction, "
    "any size, for ONNX Runtime and others. openvino: the same two for OpenVINO, of one size.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write, for safetensors; else a folder.",
)
@click.option("--to", metavar="DOMAIN", help="Target domain of the graphs.  [default: the model's second one]")
@click.option("--from", "from_", metavar="DOMAIN", help="Their source domain.  [default: the model's other one]")
@click.option(
    "--precision",
    type=click.Choice(("fp32", "fp16", "bf16")),
    help="Of the graphs; OpenVINO's have no bf16.  [default: fp32]",
)
@click.option("--size", type=SIZE, help="Frames of OpenVINO's graphs.  [default: the size it was trained at]")
@click.option("-y", "overwrite", is_flag=True, help="Replace files that exist.")
def export(
    model: str,
    form: str,
    out: Path,
    to: str | None,
    from_: str | None,
    precision: str | None,
    size: tuple[int, int] | None,
    overwrite: bool,
) -> None:
    """Write MODEL in another form.

    vidtrans itself needs none of these: its engines compile what they run when they need it (see vidtrans engine for
    TensorRT's plans, which are built ahead).
    """
    from vidtrans.errors import OutputError, UsageError

    graph_options = {"--to": to, "--from": from_, "--precision": precision}
    unused = [*(graph_options if form == "safetensors" else ()), *(() if form == "openvino" else ("--size",))]
    for option, value in {**graph_options, "--size": size}.items():
        if option in unused and value is not None:
            raise UsageError(f"{option} does nothing for --as {form}")
    names = {"safetensors": (out,), "onnx": (out / "encode_lifts.onnx", out / "finish.onnx")}.get(
        form, tuple(out / f"{part}{suffix}" for part in ("encode_lifts", "finish") for suffix in (".xml", ".bin"))
    )
    for path in names:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; add -y to replace it")
    from vidtrans.model_care import export_half, export_onnx, export_openvino

    if form == "safetensors":
        written = export_half(model, out)
    elif form == "onnx":
        written = export_onnx(model, out, to, from_, precision or "fp32")
    else:
        written = export_openvino(model, out, to, from_, precision or "fp32", size)
    for path in written:
        click.echo(plain(f"{path}: {path.stat().st_size / 1e6:.1f} MB"), err=True)
