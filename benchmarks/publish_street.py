"""Measure a finished run of the `street` recipe on the held-out streets and make it the bundled model.

    python benchmarks/publish_street.py runs/street

writes vidtrans/models/street.safetensors (half precision, the figures in its metadata), its hash beside it and
docs/model-card.md. Without a run it writes the card of a model that is still to be trained: what is frozen before the
counted run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vidtrans.checkpoint import load_model, save_model
from vidtrans.model_library import record_hash
from vidtrans.train.data import street_hash
from vidtrans.train.evaluate import BLIND_SEEDS, HELD_OUT_SEEDS, STARTS, evaluate_street
from vidtrans.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "vidtrans" / "models" / "street.safetensors"
CARD = ROOT / "docs" / "model-card.md"
PENDING = "_The counted run has not finished yet._"

CARD_TEXT = """# Model card: `street`

Domains `scene` (photo) and `segmentation` (labels, palette `street`: ten classes in the colours of Cityscapes). It is
the default of `vidtrans upsample` and knows one thing: the rendered summer street of `vidtrans render`. It has never
seen a camera. On other footage it runs and is wrong; train on that footage with `vidtrans train`.

## How it was trained

On unpaired frames, in three runs that follow each other: JWDM's Algorithm 1 from nothing (`street-start`); then
reconstruction with self-training beside it; then the same and, to the end, Algorithm 1 again with self-training
(`street`, which holds both: its `warmup` is the former). Anyone can run them again:

```sh
vidtrans train street-start
vidtrans train street --init-from runs/street-start -o runs/street-named \\
    --set train.constant=1400 --set train.warmup=1400 --set train.decay=0
vidtrans train street --init-from runs/street-named
python benchmarks/publish_street.py runs/street
```

In self-training a small helper network names the photos, from what the averaged model makes of them, the photos' own
edges and the unpaired labels' shares of classes by place (`train/self_training.py`, docs/method.md). Of the shipped
weights the first two runs were made before `street` was a recipe: 5,200 steps of `street-start` as it then was, and
1,400 by a development script of the same terms and weights, whose helper learned by Adam at 1e-3 and not by Muon,
had 150 steps to itself beforehand, and counted in full from the first step. What all three give by the recipes as they
stand has not been measured yet.

{training}

Unpaired means that the frames of the two domains come from different streets: no frame of one has a partner in the
other. The labels that a scene frame truly has are rendered only for the evaluation below; no loss, no selection and no
early stop sees them. The model is the moving average of the weights after the last step.

## What was frozen before the counted run

| what | |
|---|---|
| street generator | SHA-256 of `train/street*.py`, in the order of their names: `{street}` |
| training seeds | scene {scene_seeds}, segmentation {label_seeds} |
| held-out seeds | {held_out}, at {starts} s into each street |
| seeds of the picture-blind guess | {blind} |

A test holds the generator to this hash. The design of the recipe (network, losses, discriminators) was chosen by
looking at sample grids and at streets of other seeds (8,500,000 and up), never at the held-out ones.

## Held-out figures

{figures}

The picture-blind guess is each pixel's most frequent class over other streets. In-betweens are the seven instants
between two keyframes 1/7.5 s apart, blended in place as the papers do (`--paper`) and compared with the street
rendered at those instants. Everything is measured at the size of training, {width}x{height}.

## Limits

- Things thinner than a few pixels at {width}x{height} (poles, signs, people far away) are often lost or too thick.
- Seasons, night, rain, other cities: never seen.
"""


def seeds_in_words(seeds: range) -> str:
    return f"{seeds[0]:,} to {seeds[-1]:,}"


def card(model: Any | None, figures: str) -> str:
    """The card's text; model None: nothing trained yet."""
    recipe = load_recipe("street")
    data, batch = recipe.data, recipe.train.batch
    streets = -(-data.street_frames // data.street_frames_per_seed)
    training = PENDING
    if model is not None:
        training = (
            f"The last run: {model.trained['step']:,} steps of {batch} frames per domain at "
            f"{data.size[0]}x{data.size[1]}; {data.street_frames:,} frames of {streets} streets per domain. "
            f"File: {MODEL.stat().st_size / 1e6:.1f} MB, SHA-256 `{model.sha256}`."
        )
    first, second = (
        range(data.street_seed + k * 1_000_000, data.street_seed + k * 1_000_000 + streets) for k in (0, 1)
    )
    return CARD_TEXT.format(
        training=training,
        street=street_hash(),
        scene_seeds=seeds_in_words(first),
        label_seeds=seeds_in_words(second),
        held_out=seeds_in_words(HELD_OUT_SEEDS),
        starts=", ".join(f"{start:g}" for start in STARTS),
        blind=seeds_in_words(BLIND_SEEDS),
        figures=figures,
        width=data.size[0],
        height=data.size[1],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a finished run of the street recipe the bundled model.")
    parser.add_argument("run", nargs="?", type=Path, help="run folder; without it, the card of an untrained model")
    arguments = parser.parse_args()
    if arguments.run is None:
        CARD.write_text(card(None, PENDING))
        return
    model = load_model(arguments.run)
    # What is shipped is what is measured: half precision first.
    save_model(MODEL, model.net, trained=model.trained, half=True)
    scores = evaluate_street(load_model(MODEL).net, report=print)
    save_model(MODEL, model.net, trained=model.trained, quality=scores.to_json(), half=True)
    record_hash(MODEL)  # what vidtrans models verify compares with
    CARD.write_text(card(load_model(MODEL), scores.table()))
    print(scores.table())


if __name__ == "__main__":
    main()
