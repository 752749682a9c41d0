"""Measure a finished run on the held-out streets and make it a bundled model.

    python benchmarks/publish.py street runs/street
    python benchmarks/publish.py seasons runs/seasons

writes vidtrans/models/NAME.safetensors (half precision, the figures in its metadata), its hash beside it and the
model's part of docs/model-card.md. Without a run it writes the part of a model that is still to be trained: what is
frozen before the counted run.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidtrans.checkpoint import Model, load_model, save_model
from vidtrans.model_library import BUNDLED, BUNDLED_FOLDER, SUFFIX, record_hash
from vidtrans.train.data import street_hash
from vidtrans.train.evaluate import BLIND_SEEDS, HELD_OUT_SEEDS, STARTS, evaluate_street
from vidtrans.train.evaluate_seasons import evaluate_seasons
from vidtrans.train.recipe import load_recipe

CARD = Path(__file__).parent.parent / "docs" / "model-card.md"
TITLE = "# Model card: `{}`\n"
PENDING = "_The counted run has not finished yet._"

DESIGNED = """\
A test holds the generator to this hash. The design of the recipe (network, losses, discriminators, the length of its
runs) was chosen by looking at sample grids and at figures of streets of other seeds (8,500,000 and up), true labels
among them, with one exception: the comparison of losses over time, from which `street` has its variation term, was made
on the held-out streets ([results.md](results.md)). No run sees a true label of a scene, and none was stopped or chosen
by its held-out figures.
"""

STREET_ABOUT = """\
Domains `scene` (photo) and `segmentation` (labels, palette `street`: ten classes in the colours of Cityscapes). It is
the default of `vidtrans upsample` and knows one thing: the rendered summer street of `vidtrans render`. It has never
seen a camera. On other footage it runs and is wrong; train on that footage with `vidtrans train`.

## How it was trained

On unpaired frames, in three runs that follow each other: JWDM's Algorithm 1 from nothing (`street-start`),
reconstruction with self-training beside it (`street-named`), and a short end of Algorithm 1 again, on pairs of
consecutive frames (`street`). Anyone can run them again:

```sh
vidtrans train street-start
vidtrans train street-named --init-from runs/street-start
vidtrans train street --init-from runs/street-named
python benchmarks/publish.py street runs/street
```

In self-training a small helper network names the photos, from what the averaged model makes of them, the photos' own
edges and the unpaired labels' shares of classes by place (`train/self_training.py`, docs/method.md).

The first of the three runs is the one whose result the repository bundled at commit 912e818, when the recipe was
called `street`: every value of `street-start` is the same, but the program drew its random numbers in another order
then, so the same line gives another model of the same kind today.
"""

STREET_UNPAIRED = """\
Unpaired means that the frames of the two domains come from different streets: no frame of one has a partner in the
other. The labels that a scene frame truly has are rendered only for the evaluation below; no loss, no selection and no
early stop sees them. The model is the moving average of the weights after the last step.
"""

STREET_MEASURED = """\
The picture-blind guess is each pixel's most frequent class over other streets. In-betweens are the seven instants
between two keyframes 1/7.5 s apart, blended in place as the papers do (`--paper`) and compared with the street
rendered at those instants. Everything is measured at the size of training, {size}.

## Limits

- Things thinner than a few pixels at {size} (poles, signs, people far away) are often lost or too thick.
- Seasons, night, rain, other cities: never seen.
"""

SEASONS_ABOUT = """\
Domains `spring`, `summer`, `fall` and `winter`, all photos, in one model with one latent space: each is translated into
each (`vidtrans upsample in.mp4 --model seasons --from summer --to winter`). It knows the rendered street of
`vidtrans render` and nothing else. It has never seen a camera. On other footage it runs and is wrong; train on that
footage with `vidtrans train`.

## How it was trained

On unpaired frames, in two runs. All four seasons share one trunk (the encoder, and the decoder up to its upsampling),
which begins as that of the bundled `street`'s scene. The first run (`seasons-start`) only reconstructs. In the second
(`seasons`) the trunk is frozen and the seasons' own ends learn from JWDM's data divergences, every step both directions
of one pair; discriminators see translations with the detail of their source
([method.md](method.md#what-our-own-recipes-add)):

```sh
vidtrans train seasons-start --init-from street
vidtrans train seasons --init-from runs/seasons-start
python benchmarks/publish.py seasons runs/seasons
```
"""

SEASONS_UNPAIRED = """\
Unpaired means that the frames of the four seasons come from different streets: no frame has a partner in another
season. The same street in two seasons is rendered only to measure: held-out streets for the figures below, others for
the choice of the recipe, between two runs of it, and of the filter's constants. No loss and no early stop sees it. The
model is the moving average of the weights after the last step.
"""

SEASONS_MEASURED = """\
L1 is the mean absolute difference from the true frame of the target season, the same street at the same instant, over
all pixels and channels, in grey levels of 255. "Untranslated" is that of the true source frame, "closer" how much
smaller the translation's is; the last row holds the means of the columns. In-betweens are the seven instants between
two keyframes 1/7.5 s apart; "worse by" is how much farther from the true frame they are than keyframes. "As written" is
what `vidtrans upsample` writes by default: the input and a change fitted to it, in-betweens along the motion. "As
decoded" is the network alone, in-betweens blended in place as the papers do (`--paper`). Everything is measured at the
size of training, {size}.

## Limits

- Changes go the right way, but not all the way: leaves and grass keep a part of their own season's colour, least into
  fall, most from spring to summer and out of winter. What an adversary asks for there is faint beside its noise, and
  what makes it louder changes more where nothing should change, too.
- Into and out of winter the largest error is the road's: which of it is white between wheel tracks is the street's own,
  and no colour of the other season tells. What recolouring true classes would reach is in
  [results.md](results.md#seasons-how-close-recolouring-comes).
- In-betweens are worse than keyframes by more than a translation could make up: a keyframe is the input and a change,
  an in-between of a street in motion is several grey levels off in any season.
- A season of the rendered street is a matter of materials and light: nothing grows, falls or is taken away, and the
  model cannot do so.
- What a season has taken from the picture (snow over a marking, bare branches) is made up, as it usually looks.
- Night, rain, other cities: never seen.
"""


@dataclass(frozen=True)
class Shipped:
    """What a bundled model's card says beside facts and figures, and how it is measured.

    Attributes:
        words: of its row in model_library.BUNDLED.
        about, unpaired, measured: Markdown; `measured` with {size} for the size of training.
        seeds: rows of the frozen table beside the training's and the held-out seeds.
    """

    words: str
    measure: Callable[..., Any]
    about: str
    unpaired: str
    measured: str
    seeds: tuple[str, ...] = ()


SHIPPED = {
    "street": Shipped(
        BUNDLED["street"][1],
        evaluate_street,
        STREET_ABOUT,
        STREET_UNPAIRED,
        STREET_MEASURED,
        (f"| seeds of the picture-blind guess | {BLIND_SEEDS[0]:,} to {BLIND_SEEDS[-1]:,} |",),
    ),
    "seasons": Shipped(
        "a rendered street in spring, summer, fall and winter (vidtrans render)",
        evaluate_seasons,
        SEASONS_ABOUT,
        SEASONS_UNPAIRED,
        SEASONS_MEASURED,
    ),
}


def model_file(name: str) -> Path:
    return BUNDLED_FOLDER / f"{name}{SUFFIX}"


def part(name: str, model: Model | None, figures: str) -> str:
    """The model's part of the card; model None: nothing trained yet."""
    shipped, recipe = SHIPPED[name], load_recipe(name)
    data, size = recipe.data, "{}x{}".format(*recipe.data.trained_size)
    streets = -(-data.street_frames // data.street_frames_per_seed)
    training = PENDING
    if model is not None:
        of_each = "per domain" if len(recipe.domains) == 2 else "of two domains each"
        samples = "frames" if data.clip == 1 else f"clips of {data.clip} frames"
        training = (
            f"The last run: {model.trained['step']:,} steps of {recipe.train.batch} {samples} {of_each} at {size}; "
            f"{data.street_frames:,} {samples} from {streets} streets per domain. "
            f"File: {model_file(name).stat().st_size / 1e6:.1f} MB, SHA-256 `{model.sha256}`."
        )
    firsts = [data.street_seed + number * 1_000_000 for number in range(len(recipe.domains))]
    seeds = [
        f"{row.name} {first:,} to {first + streets - 1:,}" for row, first in zip(recipe.domains, firsts, strict=True)
    ]
    starts = ", ".join(f"{start:g}" for start in STARTS)
    frozen = [
        "| what | |",
        "|---|---|",
        f"| street generator | SHA-256 of `train/street*.py`, in the order of their names: `{street_hash()}` |",
        f"| training seeds | {', '.join(seeds)} |",
        f"| held-out seeds | {HELD_OUT_SEEDS[0]:,} to {HELD_OUT_SEEDS[-1]:,}, at {starts} s into each street |",
        *shipped.seeds,
    ]
    return "\n".join(
        (
            TITLE.format(name),
            shipped.about,
            training + "\n",
            shipped.unpaired,
            "## What was frozen before the counted run\n",
            *frozen,
            "",
            DESIGNED,
            "## Held-out figures\n",
            figures + "\n",
            shipped.measured.format(size=size),
        )
    )


def with_part(card: str, name: str, text: str) -> str:
    """The whole card with the part of one model replaced, or added; parts are in the order of SHIPPED."""
    found = {name: text}
    for old in re.split(r"^(?=# Model card: )", card, flags=re.MULTILINE):
        for other in SHIPPED:
            if other != name and old.startswith(TITLE.format(other)):
                found[other] = old
    return "\n".join(found[each].rstrip() + "\n" for each in SHIPPED if each in found)


def write_part(name: str, model: Model | None, figures: str) -> None:
    CARD.write_text(with_part(CARD.read_text(), name, part(name, model, figures)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a finished run a bundled model.")
    parser.add_argument("name", choices=SHIPPED)
    parser.add_argument("run", nargs="?", help="run folder; without it, the card of an untrained model")
    arguments = parser.parse_args()
    name, path = arguments.name, model_file(arguments.name)
    if arguments.run is None:
        write_part(name, None, PENDING)
        return
    model = load_model(arguments.run)
    # What is shipped is what is measured: half precision first.
    save_model(path, model.net, trained=model.trained, half=True)
    scores = SHIPPED[name].measure(load_model(path).net, report=print)
    save_model(path, model.net, trained=model.trained, quality=scores.to_json(), half=True)
    record_hash(path)  # what vidtrans models verify compares with
    write_part(name, load_model(path), scores.table())
    print(scores.table())
    if name not in BUNDLED:
        row = f'"{name}": ("{path.name}", "{SHIPPED[name].words}"),'
        print(f"\nNow add to BUNDLED in vidtrans/model_library.py:\n    {row}")


if __name__ == "__main__":
    main()
