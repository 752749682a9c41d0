"""vidtrans evaluate"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("evaluate")
@click.argument("model", default="street")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
def command(model: str, device: str, json_path: Path | None) -> None:
    """Measure a scene-to-segmentation model on 20 held-out rendered streets.

    MODEL is a name (vidtrans models list), a model file or a run folder. Prints pixel accuracy and IoU per class at
    keyframes and at the in-between instants of 8x from 7.5 frames a second, the picture-blind guess, and the
    reconstruction's PSNR. A model without a shared latent space makes neither in-betweens nor reconstructions, and is
    measured at keyframes alone.
    """
    import json

    from vidtrans.checkpoint import load_model
    from vidtrans.train.evaluate import evaluate_street, table

    scores = evaluate_street(load_model(model).net, device=device, report=lambda text: click.echo(text, err=True))
    click.echo(table(scores))
    if json_path is not None:
        json_path.write_text(json.dumps(scores.to_json(), indent=1) + "\n")
