"""Pixels of labels that have no class: recognised, and without a say in losses, discriminators, scores and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vidtrans.errors import InputError
from vidtrans.nets.contract import to_unit
from vidtrans.nets.jwdm import JWDM
from vidtrans.palettes import CITYSCAPES, CITYSCAPES_VOID, STREET, SYNTHIA, VOIDS, Palette
from vidtrans.train import held_back
from vidtrans.train.data import Frames, open_frames
from vidtrans.train.draws import Draws
from vidtrans.train.jwdm_step import JWDMStep, Picture
from vidtrans.train.recipe import DataOptions, DomainData, parse_recipe
from vidtrans.train.self_training import shares_of
from vidtrans.train.step import Batch
from vidtrans.train.void import NO_CLASS, Classes, has_class

WIDTH, HEIGHT = 48, 36
VOID = (slice(None), slice(None), slice(20, HEIGHT), slice(0, 30))  # of a batch (B, C, H, W)
DRAWS = Draws(seed=0, step=0, first=0, count=2)


def step_with(head: str = "palette", **loss: Any) -> JWDMStep:
    recipe = parse_recipe(
        {
            "domains": [
                {"name": "scene", "data": "street:scene"},
                {"name": "labels", "kind": "label", "palette": "street", "data": "street:segmentation"},
            ],
            "net": {"width": 4, "latent_channels": 6, "blocks": 1, "label_head": head},
            "data": {"size": [WIDTH, HEIGHT]},
            "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 4} | loss,
        }
    )
    torch.manual_seed(0)
    return JWDMStep(JWDM(recipe.net_config()), recipe, torch.device("cpu"))


def labels_with_void() -> Tensor:
    """(2, 3, H, W): random classes of the street in blocks, and a black rectangle."""
    numbers = np.random.default_rng(0).integers(0, len(STREET), (2, HEIGHT // 4, WIDTH // 4))
    y = to_unit(torch.from_numpy(STREET.colour(numbers.repeat(4, 1).repeat(4, 2))))
    y[VOID] = -1.0
    return y


def test_void_is_the_class_of_that_name_or_a_colour_of_no_class() -> None:
    assert CITYSCAPES_VOID.void == SYNTHIA.void == CITYSCAPES.void == (0, 0, 0)
    assert Palette("p", ("background",), ((0, 0, 0),)).void == VOIDS[1]
    assert Palette("p", ("a", "void"), ((0, 0, 0), (9, 9, 9))).void == (9, 9, 9)
    everything = Palette("p", tuple(map(str, VOIDS)), VOIDS)
    assert everything.void is None
    x = to_unit(torch.tensor(VOIDS, dtype=torch.uint8).view(1, 2, 2, 3))
    assert Classes(everything)(x).flatten().tolist() == [0, 1, 2, 3]
    assert torch.equal(Classes(everything).covered(x, torch.full((1, 2, 2), NO_CLASS)), x)


@pytest.mark.parametrize("palette", [CITYSCAPES, CITYSCAPES_VOID], ids=lambda palette: palette.name)
def test_the_nearest_colour_decides_and_void_is_one_of_them(palette: Palette) -> None:
    colours = torch.tensor([(0, 0, 142), (2, 1, 144), (0, 0, 0), (3, 2, 1), (70, 70, 70)], dtype=torch.uint8)
    car, building = palette.index("car"), palette.index("building")
    found = Classes(palette)(to_unit(colours.view(1, 1, 5, 3)))
    assert found.flatten().tolist() == [car, car, NO_CLASS, NO_CLASS, building]


@pytest.mark.parametrize(("head", "cost"), [("tanh", "l1"), ("palette", "l1"), ("palette", "cross_entropy")])
def test_pixels_without_a_class_cost_nothing(head: str, cost: str) -> None:
    step, y = step_with(head, label_cost=cost), labels_with_void()
    domain = step.net.domains[1]
    made = torch.randn(2, len(STREET) if head == "palette" else 3, HEIGHT, WIDTH, requires_grad=True)
    picture = Picture(step.net.colour(made, "labels"), made if head == "palette" else None)
    classes = step.costs.classes(y, domain)
    assert torch.equal(classes == NO_CLASS, (y == -1.0).all(1))
    value = step.costs.reconstruction(picture, y, domain)
    (gradient,) = torch.autograd.grad(value, made, retain_graph=True)
    assert (gradient[VOID] == 0).all()
    if cost == "l1":
        each = (picture.colours - y).abs().mean(1)
    else:
        each = -made.log_softmax(1).gather(1, classes.clamp_min(0).unsqueeze(1))[:, 0]
    kept = has_class(classes)[:, 0]
    assert value.item() == pytest.approx((each * kept).sum().item() / kept.numel(), rel=1e-5)
    assert (gradient.abs().sum(1)[kept] > 0).float().mean() > 0.9
    halves = [
        step.costs.reconstruction(
            Picture(picture.colours[k : k + 1], None if picture.scores is None else picture.scores[k : k + 1]),
            y[k : k + 1],
            domain,
        )
        for k in range(2)
    ]
    assert value.item() == pytest.approx(torch.stack(halves).mean().item(), rel=1e-5)  # parts of a batch average


def test_discriminators_see_real_and_made_labels_covered_in_the_same_places() -> None:
    step, y = step_with(), labels_with_void()
    x = torch.rand(2, 3, HEIGHT, WIDTH) * 2 - 1
    batch = Batch((step.net.domains[0], step.net.domains[1]), (x.unsqueeze(1), y.unsqueeze(1)), DRAWS)
    streams = step(batch)

    def with_translation(area: tuple[slice, ...]) -> Any:
        colours = streams.xy.colours.detach().clone()
        colours[area] = 0.7
        return replace(streams, xy=Picture(colours, streams.xy.scores))

    plain = step.discriminator_loss(batch, streams)["dy"], step.generator_loss(batch, streams)["gy"]
    under, beside = with_translation(VOID), with_translation((slice(None), slice(None), slice(0, 20), slice(None)))
    changed = step.discriminator_loss(batch, under)["dy"], step.generator_loss(batch, under)["gy"]
    assert torch.equal(torch.stack(changed), torch.stack(plain))
    changed = step.discriminator_loss(batch, beside)["dy"], step.generator_loss(batch, beside)["gy"]
    assert (torch.stack(changed) != torch.stack(plain)).all()
    real, [(_, fake), *_] = step.costs.shown(y, step._fakes(streams.xy.colours, streams.cycles.yxy), batch.domains[1])
    assert torch.equal(real, y)
    assert (fake[VOID] == -1.0).all()
    assert step.costs.shown(x, [], batch.domains[0])[0] is x


class Given(Frames):
    """Frames that are there already: (N, H, W, 3) uint8."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__([len(pictures)])
        self.pictures = pictures

    def read(self, indices: Sequence[int]) -> list[Tensor | InputError]:
        return [self.pictures[index] for index in indices]

    def name(self, index: int) -> str:
        return str(index)


@torch.no_grad()
def test_scores_pass_over_pixels_without_a_class() -> None:
    net, y = step_with().net, labels_with_void()
    frames = Given(((y + 1.0) * 127.5).round().to(torch.uint8).movedim(1, -1).contiguous())
    x = to_unit(torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8))
    scenes = Given(torch.zeros(2, HEIGHT, WIDTH, 3, dtype=torch.uint8))
    errors = (net.decode(net.encode(y, "labels"), "labels") - y).abs()
    labels = errors.movedim(1, -1)[(y != -1.0).any(1)].mean()
    photos = (net.decode(net.encode(x, "scene"), "scene") - x).abs().mean()
    found = held_back.score("reconstruction", net, [scenes, frames], torch.device("cpu"))
    assert found == pytest.approx(((labels + photos) / 2).item(), rel=1e-5)


def test_labels_without_a_class_leave_the_shares_of_classes_alone() -> None:
    named = torch.rand(1, 3, 2, 2)
    shares = shares_of(torch.tensor([[[2, NO_CLASS], [0, 1]]]), named)
    assert shares[0, :, 0, 0].tolist() == [0, 0, 1]
    assert torch.equal(shares[0, :, 0, 1], named[0, :, 0, 1])


@pytest.mark.parametrize("labels", ["color", "ids", "trainids"])
@pytest.mark.parametrize("palette", ["cityscapes", "cityscapes-void"])
def test_what_cityscapes_does_not_evaluate_is_void(tmp_path: Path, labels: str, palette: str) -> None:
    root = tmp_path / "gtFine" / "train" / "ulm"
    root.mkdir(parents=True)
    # A car, dynamic, ground, unlabelled.
    pixels: dict[str, list[Any]] = {
        "color": [(0, 0, 142), (111, 74, 0), (81, 0, 81), (0, 0, 0)],
        "ids": [26, 5, 6, 0],
        "trainids": [13, 255, 255, 255],
    }
    names = {"color": "color", "ids": "labelIds", "trainids": "labelTrainIds"}
    strip = np.asarray(pixels[labels], np.uint8).repeat(WIDTH // 4, 0)
    path = root / f"ulm_000000_000019_gtFine_{names[labels]}.png"
    Image.fromarray(np.broadcast_to(strip, (HEIGHT, *strip.shape)).copy()).save(path)
    row = DomainData("labels", f"cityscapes:{tmp_path}?labels={labels}", "label", palette)
    frames, _ = open_frames(row, 0, DataOptions(size=(WIDTH, HEIGHT)), tmp_path, print)
    classes = Classes(row.domain.colours)(to_unit(frames.batch([0])))
    assert classes[0, 0, :: WIDTH // 4].tolist() == [13, NO_CLASS, NO_CLASS, NO_CLASS]
    assert (classes[..., : WIDTH // 4] == 13).all()
