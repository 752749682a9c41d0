"""vidtrans evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("evaluate")
@click.argument("model", default="street")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option("--streets", type=click.IntRange(1, 20), default=20, show_default=True, help="Only the first N, to try.")
@click.option(
    "--development", is_flag=True, help="Streets to design a recipe on, so that the held-out ones stay unseen."
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
def command(model: str, device: str, streets: int, development: bool, json_path: Path | None) -> None:
    """Measure a model on 20 held-out rendered streets.

    MODEL is a name (vidtrans models list), a model file or a run folder. Keyframes and the in-between instants of 8x
    from 7.5 frames a second are compared with the true frames of the same street and instant.

    A model of scene and segmentation: pixel accuracy and IoU per class, the picture-blind guess, and the
    reconstruction's PSNR. A model of seasons (two or more of spring, summer, fall, winter): the distance of
    translations in every direction, that of untranslated frames, and each season's reconstruction.
    """
    import json
    from collections.abc import Callable

    from vidtrans.checkpoint import load_model
    from vidtrans.errors import UsageError
    from vidtrans.train.evaluate import DEVELOPMENT_SEEDS, HELD_OUT_SEEDS, StreetScores, evaluate_street, names_scenes
    from vidtrans.train.evaluate_seasons import SeasonScores, evaluate_seasons, seasons_of

    net = load_model(model).net
    seeds = (DEVELOPMENT_SEEDS if development else HELD_OUT_SEEDS)[:streets]
    chosen: list[Callable[..., SeasonScores | StreetScores]] = []
    if names_scenes(net):
        chosen.append(evaluate_street)
    if net.shares_latent and len(seasons_of(net)) > 1:
        chosen.append(evaluate_seasons)
    if not chosen:
        names = ", ".join(domain.name for domain in net.domains)
        raise UsageError(
            f"the street has no truth for a model of {names}; it has for scene with segmentation and, with a shared "
            "latent space, for two or more of spring, summer, fall and winter"
        )
    figures: dict[str, Any] = {}
    for measure in chosen:
        scores = measure(net, seeds=seeds, device=device, report=lambda text: click.echo(text, err=True))
        click.echo(scores.table())
        figures |= scores.to_json()
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")
