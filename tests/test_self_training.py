"""Self-training: names of photos come from the averaged model, the photo's edges and the label domain's shares."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vidtrans.checkpoint import Model, load_model, save_model
from vidtrans.errors import UsageError
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses, self_training
from vidtrans.train.draws import Draws
from vidtrans.train.loop import Run
from vidtrans.train.ranks import Ranks
from vidtrans.train.recipe import Recipe, load_recipe, parse_recipe
from vidtrans.train.self_training import LESSONS, SelfTraining, both_ways, soft_cross_entropy

DRAWS = Draws(seed=0, step=0, first=0, count=2)


def recipe_with(warmup: int = 2, **loss: Any) -> Recipe:
    return parse_recipe(
        {
            "domains": [
                {"name": "scene", "data": "street:scene"},
                {"name": "segmentation", "kind": "label", "palette": "street", "data": "street:segmentation"},
            ],
            "net": {"width": 4, "latent_channels": 6, "blocks": 1, "label_head": "palette"},
            "data": {"size": [48, 40], "street_frames": 2, "street_frames_per_seed": 2},
            "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 4} | loss,
            "train": {
                "batch": 2,
                "constant": 3,
                "decay": 1,
                "warmup": warmup,
                "unit": "steps",
                "optimiser": "muon",
                "log_every": 1,
            },
        }
    )


def start_of(recipe: Recipe, folder: Path) -> Model:
    """What a finished run would leave: a model of the recipe's networks."""
    path = folder / "start.safetensors"
    torch.manual_seed(1)
    save_model(path, JWDM(recipe.net_config()), trained={})
    return load_model(path)


def test_edges_by_hand() -> None:
    half = torch.zeros(1, 3, 8, 8)
    half[..., 4:] = 2.0  # a difference of 2 in three channels: e^(-12 / 0.045) is nothing
    one_hot = torch.zeros(1, 2, 8, 8)
    one_hot[:, 0, :, :4] = one_hot[:, 1, :, 4:] = 1.0
    assert losses.edges(half, one_hot).item() == pytest.approx(0.0, abs=1e-6)  # classes change where the photo does
    flat = torch.zeros(1, 3, 8, 8)
    # On a flat photo every pair of different classes costs 1; those that cross the middle column are counted.
    crossing = [8 * abs(right) / (8 * (8 - abs(right))) if right else 0.0 for _, right in losses.NEIGHBOURS]
    assert losses.edges(flat, one_hot).item() == pytest.approx(sum(crossing) / len(crossing), rel=1e-5)


def test_the_teacher_is_asked_about_both_mirror_images() -> None:
    def teacher(x: Tensor) -> Tensor:  # knows left from right, so that one way alone would be lopsided
        return torch.stack([x[:, 0], torch.linspace(-3, 3, x.shape[-1]).expand_as(x[:, 0])], 1)

    x = torch.randn(1, 3, 4, 6)
    named = both_ways(teacher, x)
    assert torch.allclose(named.flip(-1), both_ways(teacher, x.flip(-1)), atol=1e-6)
    assert torch.allclose(named.sum(1), torch.ones(1, 4, 6))


def test_soft_cross_entropy_by_hand() -> None:
    target = torch.tensor([0.25, 0.75]).view(1, 2, 1, 1)
    assert soft_cross_entropy(target.log(), target).item() == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )


def test_classes_that_photos_lack_are_favoured_where_labels_have_them() -> None:
    torch.manual_seed(0)
    training = SelfTraining(3, (48, 40), edge_weight=0.0)
    labels = torch.zeros(2, 40, 48, dtype=torch.long)
    labels[:, 20:] = 2  # below the middle only
    x = torch.rand(2, 3, 40, 48) * 2 - 1

    def teacher(frames: Tensor) -> Tensor:
        return torch.zeros(len(frames), 3, 40, 48)

    for _ in range(3):
        names = training(x, labels, teacher, DRAWS, Ranks())
    with torch.no_grad():
        plain = training.labeller(x).softmax(1)
    assert torch.allclose(names.classes.sum(1), torch.ones(2, 40, 48), atol=1e-5)
    assert (names.classes[:, 2, 30:] > plain[:, 2, 30:]).all()
    assert (names.classes[:, 2, :10] < plain[:, 2, :10]).all()
    assert not training.is_ready
    training.steps.fill_(LESSONS)
    assert training.is_ready
    assert not names.classes.requires_grad


def test_the_labeller_learns_beside_the_model_and_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_training, "LESSONS", 1)
    recipe = recipe_with(self_weight=0.3, edge_weight=0.2)
    run = Run(recipe, tmp_path / "run", cache=tmp_path, init_from=start_of(recipe, tmp_path))
    assert not any("labeller" in name for name, _ in run.net.named_parameters())
    before = [parameter.clone() for parameter in run.step_module.helpers()]
    seen: list[dict[str, float]] = []
    net = {name: tensor.clone() for name, tensor in run.net.state_dict().items()}
    run.advance(1, show=lambda progress: seen.append(progress.losses))
    assert set(seen[0]) == {"labeller"}  # its lessons, in which nothing else learns
    assert all(torch.equal(tensor, net[name]) for name, tensor in run.net.state_dict().items())
    run.advance(show=lambda progress: seen.append(progress.losses))
    assert len(before) > 0
    assert all(not torch.equal(old, new) for old, new in zip(before, run.step_module.helpers(), strict=True))
    assert all({"self", "edges", "labeller"} <= set(row) for row in seen[1:])  # in the warm-up and after it
    assert "dx" not in seen[1]
    assert "dx" in seen[-1]


def test_a_resumed_run_with_a_labeller_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_training, "LESSONS", 1)
    recipe = recipe_with(self_weight=0.3, edge_weight=0.2)
    start = start_of(recipe, tmp_path)
    whole = Run(recipe, tmp_path / "whole", cache=tmp_path, init_from=start)
    whole.advance()
    first = Run(recipe, tmp_path / "parts", cache=tmp_path, init_from=start)
    first.advance(2)
    second = Run(recipe, tmp_path / "parts", cache=tmp_path)
    second.resume()
    second.advance()
    expected = whole.step_module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.step_module.state_dict().items())


@pytest.mark.parametrize("name", ["street-named", "street", "seasons-start", "seasons"])
def test_recipes_that_go_on_from_others_do_not_begin_from_random_networks(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--init-from"):
        Run(load_recipe(name), tmp_path / "run", cache=tmp_path)
    assert not list(tmp_path.iterdir())  # nothing was rendered first


def test_without_weights_there_is_no_labeller(tmp_path: Path) -> None:
    run = Run(recipe_with(), tmp_path / "run", cache=tmp_path)
    assert run.step_module.helpers() == []
    assert not any("self_training" in name for name in run.step_module.state_dict())


@pytest.mark.parametrize("key", ["self_weight", "edge_weight"])
def test_labels_are_needed(key: str) -> None:
    table = recipe_with().to_json()
    table["loss"][key] = 0.1
    table["net"].pop("label_head")
    with pytest.raises(UsageError, match=key):
        parse_recipe(table)
