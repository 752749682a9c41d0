"""Recipes on top of recipes, their text, and sweeps."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vidtrans.checkpoint import load_model
from vidtrans.cli.train import command
from vidtrans.errors import UsageError
from vidtrans.train.recipe import RECIPES, load_recipe, load_sweep, parse_recipe
from vidtrans.train.toml_text import recipe_text

TINY = """
base = "jwae"

[net]
width = 4
latent_channels = 4
blocks = 1

[data]
size = [48, 36]

[loss]
discriminator = "patch70"
discriminator_width = 2
latent_discriminator_width = 4

[train]
batch = 2
constant = 2
decay = 0
unit = "steps"
log_every = 1

[sweep]
"loss.lambda_z" = [0.0, 1.0]
"train.optimiser" = ["adam"]
"""


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_what_is_printed_is_read_as_the_same_recipe(name: str) -> None:
    recipe = load_recipe(name)
    again = parse_recipe(tomllib.loads(recipe_text(recipe)))
    assert again.net_config() == recipe.net_config()
    assert {**again.to_json(), "net": {}} == {**recipe.to_json(), "net": {}}


def test_a_recipe_changes_what_its_base_says_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "theirs.toml"\n[train]\nbatch = 2\n')
    (tmp_path / "theirs.toml").write_text('base = "jwdm"\n[train]\nlr = 0.001\nbatch = 5\n')
    recipe, below = load_recipe(str(tmp_path / "mine.toml")), load_recipe("jwdm")
    assert (recipe.train.batch, recipe.train.lr) == (2, 0.001)
    assert (recipe.domains, recipe.data, recipe.loss) == (below.domains, below.data, below.loss)
    changed = load_recipe(
        str(tmp_path / "mine.toml"), ("domains.scene.data=x", "base=jwae", "domains.winter.data=y")[:1]
    )
    assert changed.domains[0].data == "x"
    other = load_recipe("winter-summer", ("base=jwae",))
    assert (other.data, other.train) == (load_recipe("jwae").data, load_recipe("jwae").train)
    assert other.domains == load_recipe("winter-summer").domains
    (tmp_path / "theirs.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(UsageError, match="own base"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_the_papers_experiments_are_at_its_settings() -> None:
    jwdm, jwae = load_recipe("jwdm"), load_recipe("jwae")
    for name in ("scene-segmentation", "winter-spring", "winter-summer", "winter-fall"):
        for base, changes in ((jwdm, ()), (jwae, ("base=jwae",))):
            recipe = load_recipe(name, changes)
            assert (recipe.net, recipe.data, recipe.loss, recipe.train) == (base.net, base.data, base.loss, base.train)
    assert [recipe.loss.lambda_z for recipe in load_sweep("lambda-z-sweep").values()] == [0.01, 0.1, 1.0, 10.0]
    assert len(load_recipe("seasons").domains) == 4


def test_an_unknown_domain_base_or_method_names_the_nearest() -> None:
    for change, hint in (
        ("domains.wintre.data=x", "winter"),
        ("base=jwda", "jwdm"),
        ("method=jwdn", "jwdm"),
    ):
        with pytest.raises(UsageError, match=f"did you mean '{hint}'"):
            load_recipe("winter-summer", (change,))
    with pytest.raises(UsageError, match="no \\[sweep\\]"):
        load_sweep("smoke")


def test_a_sweep_trains_each_combination_and_ends_in_one_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for domain in ("winter", "summer"):
        (tmp_path / domain).mkdir()
        for number in range(3):
            picture = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / domain / f"{number}.png")
    (tmp_path / "tiny.toml").write_text(TINY)
    sets = [word for name in ("winter", "summer") for word in ("--set", f"domains.{name}.data={tmp_path / name}")]
    done = CliRunner().invoke(command, [str(tmp_path / "tiny.toml"), *sets, "--sweep", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    labels = ["lambda_z=0.0,optimiser=adam", "lambda_z=1.0,optimiser=adam"]
    figures = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert list(figures) == labels
    for label, weight in zip(labels, (0.0, 1.0), strict=True):
        trained = load_model(tmp_path / "out" / label).trained
        assert trained["recipe"]["loss"]["lambda_z"] == weight
        rows = [json.loads(line) for line in (tmp_path / "out" / label / "train.jsonl").read_text().splitlines()]
        assert figures[label]["rx"] == rows[-1]["rx"]
        assert (figures[label]["gz"] > 0) == (weight > 0)
    table = (tmp_path / "out" / "sweep.md").read_text().splitlines()
    assert len(table) == 4
    assert table[2].startswith(f"| {labels[0]} |")


def test_the_command_line_prints_recipes_and_needs_one(tmp_path: Path) -> None:
    printed = CliRunner().invoke(command, ["--print-recipe", "smoke", "--set", "train.batch=7"])
    assert printed.exit_code == 0
    assert tomllib.loads(printed.stdout)["train"]["batch"] == 7
    assert isinstance(CliRunner().invoke(command, []).exception, UsageError)
