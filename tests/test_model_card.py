"""The bundled models' card: frozen things stay frozen, and its figures are the files'."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from vidtrans.checkpoint import load_model, save_model
from vidtrans.model_library import BUNDLED, BUNDLED_FOLDER, file_hash, recorded_hash
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.train.data import street_hash
from vidtrans.train.evaluate import BLIND_SEEDS, DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from vidtrans.train.held_back import REPORT_SEEDS
from vidtrans.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
CARD = (ROOT / "docs" / "model-card.md").read_text()
LARGEST = 48_000_000  # bytes of all bundled models together


@pytest.fixture(scope="module")
def publish() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", ROOT / "benchmarks" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["publish"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def part_of(name: str) -> str:
    """What the card says of one model."""
    title = f"# Model card: `{name}`"
    assert CARD.count(title) == 1
    return title + CARD.partition(title)[2].partition("# Model card: ")[0]


def seeds_of(name: str) -> list[range]:
    """Seeds of each domain's training streets, by the recipe."""
    recipe = load_recipe(name)
    data = recipe.data
    streets = -(-data.street_frames // data.street_frames_per_seed)
    firsts = [data.street_seed + number * 1_000_000 for number in range(len(recipe.domains))]
    return [range(first, first + streets) for first in firsts]


def in_words(seeds: range) -> str:
    return f"{seeds[0]:,} to {seeds[-1]:,}"


def test_what_is_bundled_is_in_the_table_and_small_enough() -> None:
    files = {path.name for path in BUNDLED_FOLDER.glob("*.safetensors")}
    assert files == {file for file, _ in BUNDLED.values()}
    assert sum((BUNDLED_FOLDER / file).stat().st_size for file in files) <= LARGEST
    titles = [line for line in CARD.splitlines() if line.startswith("# Model card: ")]
    assert titles == [f"# Model card: `{name}`" for name in BUNDLED]


@pytest.mark.parametrize("name", BUNDLED)
def test_the_street_is_the_one_the_model_was_measured_on(name: str) -> None:
    assert street_hash() in part_of(name)


@pytest.mark.parametrize("name", ["street", "seasons"])
def test_no_training_seed_is_held_out(name: str) -> None:
    training = seeds_of(name)
    assert len({seed for seeds in training for seed in seeds}) == sum(map(len, training))
    measured = (HELD_OUT_SEEDS, BLIND_SEEDS, DEVELOPMENT_SEEDS, REPORT_SEEDS)
    for number, seeds in enumerate(measured):
        for other in (*training, *measured[number + 1 :]):
            assert not set(seeds) & set(other)
    if name in BUNDLED:
        for seeds in (*training, HELD_OUT_SEEDS):
            assert in_words(seeds) in part_of(name)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_card_is_of_the_bundled_file_and_its_recipe(name: str) -> None:
    path = BUNDLED_FOLDER / BUNDLED[name][0]
    model = load_model(name)
    assert file_hash(path) == model.sha256 == recorded_hash(path)
    assert model.sha256 in part_of(name)
    assert f"{model.trained['step']:,} steps" in part_of(name)
    saved, today = model.trained["recipe"], json.loads(json.dumps(load_recipe(name).to_json()))
    assert saved["domains"] == today["domains"]
    for section in ("net", "data", "loss", "train", "keep"):
        for key, value in today[section].items():
            # Of a key that came later the model knows nothing.
            assert saved[section].get(key, value) == value
    assert figures(model.quality)
    for figure in figures(model.quality):
        assert figure in part_of(name)


def figures(quality: dict[str, Any]) -> list[str]:
    """What of a model's figures its card must show."""
    if "keyframes" in quality:
        rows = [quality[row] for row in ("keyframes", "in_betweens", "picture_blind")]
        return [f"{row[key]:.3f}" for row in rows for key in ("accuracy", "mean_iou")]
    return [
        f"| {name} | {row['untranslated_l1']:.2f} | {row['l1']:.2f} | {row['closer_percent']:.1f} % |"
        for name, row in directions(quality)
    ]


def directions(quality: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """The rows of translations from season to season, in whatever tables they stand."""
    for name, row in quality.items():
        if isinstance(row, dict):
            yield from [(name, row)] if "closer_percent" in row else directions(row)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_card_is_what_publishing_writes(publish: ModuleType, name: str) -> None:
    after = publish.SHIPPED[name].measured[:40]
    tables = part_of(name).partition("## Held-out figures\n\n")[2].partition(f"\n\n{after}")
    assert publish.with_part(CARD, name, publish.part(name, load_model(name), tables[0])) == CARD


def test_a_run_becomes_a_bundled_model_with_its_part_of_the_card(
    publish: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = JWDM(JWDMConfig((Domain("summer"), Domain("winter")), 2, 2, 1, trained_size=(40, 36)))
    run, card = tmp_path / "run.safetensors", tmp_path / "card.md"
    save_model(run, net, trained={"step": 1234})
    card.write_text(CARD)
    measured: list[Any] = []

    class Scores:
        def __init__(self, net: Any, report: Any) -> None:
            measured.append(net)

        def to_json(self) -> dict[str, Any]:
            return {"summer to winter": {"l1": 20.5}}

        def table(self) -> str:
            return "| summer to winter | 20.5 |"

    monkeypatch.setitem(publish.SHIPPED, "seasons", replace(publish.SHIPPED["seasons"], measure=Scores))
    monkeypatch.setattr(publish, "BUNDLED_FOLDER", tmp_path)
    monkeypatch.setattr(publish, "BUNDLED", {"street": BUNDLED["street"]})
    monkeypatch.setattr(publish, "CARD", card)
    monkeypatch.setattr(sys, "argv", ["publish.py", "seasons", str(run)])
    publish.main()
    shipped = load_model(tmp_path / "seasons.safetensors")
    assert recorded_hash(tmp_path / "seasons.safetensors") == shipped.sha256
    assert shipped.quality == {"summer to winter": {"l1": 20.5}}
    for key, tensor in net.state_dict().items():
        assert torch.equal(measured[0].state_dict()[key], tensor.half().float())  # what is shipped is what is measured
    text = card.read_text()
    for words in (part_of("street").rstrip(), shipped.sha256, "1,234 steps of 4 frames of two", "| 20.5 |"):
        assert words in text
    assert '"seasons": ("seasons.safetensors", "' in capsys.readouterr().out


def test_publishing_one_model_leaves_the_others_part(publish: ModuleType) -> None:
    seasons = publish.part("seasons", None, publish.PENDING)
    both = publish.with_part(CARD, "seasons", seasons)
    assert part_of("street").rstrip() in both
    assert both.index("card: `street`") < both.index("card: `seasons`")
    assert publish.with_part(both, "seasons", seasons) == both
    assert all(in_words(seeds) in seasons for seeds in (*seeds_of("seasons"), HELD_OUT_SEEDS))
