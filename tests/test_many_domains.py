"""Many domains in one model: two are the paper's step exactly, more share it pair by pair."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidtrans.checkpoint import load_model
from vidtrans.errors import UsageError
from vidtrans.nets.jwdm import JWDM
from vidtrans.train.batches import pair
from vidtrans.train.draws import Draws
from vidtrans.train.jwdm_step import JWDMStep
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Run, total_steps
from vidtrans.train.recipe import Recipe, TrainOptions, parse_recipe
from vidtrans.train.step import Batch

SEASONS = ("spring", "summer", "fall", "winter")


def recipe_of(*names: str, **sections: dict[str, Any]) -> Recipe:
    return parse_recipe(
        {
            "domains": [{"name": name, "data": f"street:{name}"} for name in names],
            "net": {"width": 4, "latent_channels": 6, "blocks": 1} | sections.get("net", {}),
            "data": {"size": [48, 36], "street_frames": 4, "street_frames_per_seed": 2},
            "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 4}
            | sections.get("loss", {}),
            "train": {"batch": 2, "constant": 4, "decay": 2, "unit": "steps"} | sections.get("train", {}),
        }
    )


def step_of(recipe: Recipe) -> JWDMStep:
    torch.manual_seed(0)
    return JWDMStep(JWDM(recipe.net_config()), recipe, torch.device("cpu")).double()


def batch_of(step: JWDMStep, first: int, second: int) -> Batch:
    torch.manual_seed(1)
    x, y = torch.rand(2, 2, 1, 3, 36, 48, dtype=torch.float64) * 2 - 1
    return Batch((step.net.domains[first], step.net.domains[second]), (x, y), Draws(0, 0, 0, 2))


def papers_losses(step: JWDMStep, batch: Batch, x_weight: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Eqs. (6), (7), (8), (19), (20) for domains X and Y, written down once more, one network pass at a time."""
    names = [domain.name for domain in batch.domains]
    e1, e2 = (step.net.encoders[name] for name in names)
    g1, g2 = (lambda z, name=name: step.net.decode(z, name) for name in names)
    dx, dy = (step.data[name].critic for name in names)
    dz, x, y, lam = step.latent.critic, batch.x, batch.y, 0.5
    zx, zy = e1(x), e2(y)
    xy, yx = g2(zx), g1(zy)
    xyx, yxy = g1(e2(xy)), g2(e1(yx))
    prior = torch.relu(batch.draws.normal("prior", zx))

    def log_d(logits: Tensor) -> Tensor:
        return torch.log(torch.sigmoid(logits)).mean()

    def log_not(logits: Tensor) -> Tensor:
        return torch.log(1 - torch.sigmoid(logits)).mean()

    descent = {
        "r1": (x - g1(zx)).abs().mean(),
        "r2": (y - g2(zy)).abs().mean(),
        "c1": (x - xyx).abs().mean(),
        "c2": (y - yxy).abs().mean(),
        "g1": -x_weight * (lam * log_d(dx(xyx)) + (1 - lam) * log_d(dx(yx))),
        "g2": -0.1 * (lam * log_d(dy(yxy)) + (1 - lam) * log_d(dy(xy))),
        "gz": -0.3 * (log_d(dz(zx)) + log_d(dz(zy))),
    }
    ascent = {
        "d1": -x_weight * (log_d(dx(x)) + lam * log_not(dx(xyx)) + (1 - lam) * log_not(dx(yx))),
        "d2": -0.1 * (log_d(dy(y)) + lam * log_not(dy(yxy)) + (1 - lam) * log_not(dy(xy))),
        "dz": -0.3 * (log_d(dz(prior)) + log_not(dz(zx)) + log_d(dz(prior)) + log_not(dz(zy))),
    }
    return descent, ascent


@pytest.mark.parametrize(
    ("names", "numbers", "letters", "x_weight"),
    [
        (("spring", "fall"), (0, 1), ("x", "y"), 0.2),
        (SEASONS, (1, 3), ("_summer", "_winter"), 0.1),  # lambda_x is the first domain's
    ],
)
def test_a_step_is_the_papers_for_its_pair_of_domains(
    names: tuple[str, ...], numbers: tuple[int, int], letters: tuple[str, str], x_weight: float
) -> None:
    step = step_of(recipe_of(*names, loss={"lambda_x": 0.2, "lambda_z": 0.3}))
    batch = batch_of(step, *numbers)
    streams = step(batch)
    got = (step.generator_loss(batch, streams), step.discriminator_loss(batch, streams))
    parameters = (list(step.net.parameters()), step.discriminators())
    for mine, theirs, moved in zip(got, papers_losses(step, batch, x_weight), parameters, strict=True):
        named = {key.replace("1", letters[0]).replace("2", letters[1]): value for key, value in theirs.items()}
        assert mine.keys() == named.keys()
        for key, value in named.items():
            torch.testing.assert_close(mine[key], value, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(sum(terms.values()), moved, retain_graph=True, allow_unused=True)
            for terms in (mine, named)
        ]
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_every_unordered_pair_comes_up_equally_often_and_two_domains_have_one() -> None:
    assert {pair(Draws(0, step, 0, 1), 2) for step in range(50)} == {(0, 1)}
    counted = Counter(pair(Draws(0, step, 0, 1), 4) for step in range(1200))
    assert sorted(counted) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert all(150 < times < 250 for times in counted.values())


def test_an_epoch_of_many_domains_shows_as_many_frames_of_each() -> None:
    options = TrainOptions(batch=5, constant=2, decay=0, unit="epochs")
    assert total_steps(options, 100, domains=2)[1] == 40
    assert total_steps(options, 100, domains=4)[1] == 80


def test_four_seasons_train_resume_and_translate_each_into_each(tmp_path: Path) -> None:
    recipe, cache = recipe_of(*SEASONS), tmp_path / "cache"
    Run(recipe, tmp_path / "whole", cache=cache).advance()
    Run(recipe, tmp_path / "cut", cache=cache).advance(3)
    resumed = Run(recipe, tmp_path / "cut", cache=cache)
    resumed.resume()
    resumed.advance()
    whole, cut = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(tensor, cut[key]) for key, tensor in whole.items())
    net = load_model(tmp_path / "whole").net
    z = net.encode(torch.zeros(1, 3, 36, 48), "summer")
    pictures = [net.decode(z, name) for name in SEASONS]
    assert len({float(picture.sum()) for picture in pictures}) == 4
    rows = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert {"gz", "dz"} < rows[-1].keys()


def test_a_domain_outside_the_steps_pair_is_left_alone(tmp_path: Path) -> None:
    run = Run(recipe_of(*SEASONS), tmp_path, cache=tmp_path / "cache")
    first, second = pair(Draws(run.options.seed, 0, 0, 2), 4)
    before = {name: tensor.clone() for name, tensor in run.step_module.state_dict().items()}
    run.advance(1)
    for number, name in enumerate(SEASONS):
        for part in (f"net.encoders.{name}.", f"net.decoders.{name}.", f"data.{name}."):
            same = all(
                torch.equal(tensor, run.step_module.state_dict()[key])
                for key, tensor in before.items()
                if key.startswith(part)
            )
            assert same == (number not in (first, second)), part


def test_draws_belong_to_a_sample_whoever_draws_them() -> None:
    like = torch.empty(6, 3, 2, dtype=torch.float64)  # two rows for each of three samples
    whole = Draws(seed=5, step=7, first=0, count=3)
    parts = [Draws(5, 7, 0, 1), Draws(5, 7, 1, 2)]
    for kind in ("normal", "uniform"):
        drawn = torch.cat([getattr(part, kind)("prior", like[: 2 * part.count]) for part in parts])
        assert torch.equal(getattr(whole, kind)("prior", like), drawn)
        assert len(set(drawn.flatten().tolist())) == drawn.numel()
    assert whole.integers("frames 0", 10**9) == [n for part in parts for n in part.integers("frames 0", 10**9)]
    assert whole.integers("frames 0", 10**9) != whole.integers("frames 1", 10**9)
    assert whole.integers("frames 0", 10**9) != Draws(5, 8, 0, 3).integers("frames 0", 10**9)


def test_likeness_holds_a_translation_to_the_reconstruction() -> None:
    step = step_of(recipe_of("spring", "winter", loss={"likeness_weight": 0.5}))
    batch = batch_of(step, 0, 1)
    streams = step(batch)
    terms = step.generator_loss(batch, streams)
    with torch.no_grad():
        z = step.net.encode(batch.x, "spring")
        apart = (step.net.decode(z, "winter") - step.net.decode(z, "spring")).abs().mean()
    assert terms["lx"].item() == pytest.approx(0.5 * apart.item(), abs=1e-12)
    terms["lx"].backward()
    ends = {name: next(iter(step.net.decoders[name].parameters())).grad for name in ("spring", "winter")}
    assert ends["spring"] is None
    assert ends["winter"] is not None


def test_discriminators_see_a_translation_with_the_detail_of_its_source() -> None:
    step = step_of(recipe_of("spring", "winter", loss={"carried_detail": True, "cycle_share": 0.0}))
    batch = batch_of(step, 0, 1)
    seen = []
    step.data["winter"].critic.register_forward_pre_hook(lambda critic, args: seen.append(args[0]))
    streams = step(batch)
    step.generator_loss(batch, streams)["gy"].backward()
    with torch.no_grad():
        z = step.net.encode(batch.x, "spring")
        carried = batch.x + step.net.decode(z, "winter") - step.net.decode(z, "spring")
    torch.testing.assert_close(seen[0], carried, rtol=0, atol=1e-12)
    # Only the translation is asked for more; the own decoding, which is taken off, learns nothing from it.
    ends = {name: next(iter(step.net.decoders[name].parameters())).grad for name in ("spring", "winter")}
    assert ends["spring"] is None
    assert ends["winter"] is not None
    step.discriminator_loss(batch, streams)
    torch.testing.assert_close(seen[1], torch.cat([batch.y, carried]), rtol=0, atol=1e-12)


def test_labels_carry_no_detail() -> None:
    def gy(**loss: Any) -> Tensor:
        table = {
            "domains": [
                {"name": "wet", "data": "street:winter"},
                {"name": "dry", "data": "street:summer"},
                {"name": "labels", "kind": "label", "palette": "street", "data": "street:segmentation"},
            ]
        }
        step = step_of(parse_recipe({**recipe_of("spring", "winter", loss=loss).to_json(), **table}))
        batch = batch_of(step, 0, 2)
        return step.generator_loss(batch, step(batch))["g_labels"]

    assert torch.equal(gy(), gy(carried_detail=True))


@pytest.mark.parametrize("key", ["likeness_weight", "carried_detail"])
def test_what_compares_photos_needs_two_photo_domains(key: str) -> None:
    with pytest.raises(UsageError, match=key):
        parse_recipe(
            {
                "domains": [
                    {"name": "scene", "data": "street:scene"},
                    {"name": "labels", "kind": "label", "palette": "street", "data": "street:segmentation"},
                ],
                "loss": {key: 0.5 if key == "likeness_weight" else True},
            }
        )


def test_domains_with_one_trunk_make_the_streams_of_whole_networks() -> None:
    step = step_of(recipe_of(*SEASONS, net={"shared_trunk": True}))
    batch = batch_of(step, 1, 3)
    net, made = step.net, step(batch)

    def through(x: Tensor, here: str, there: str) -> Tensor:
        return net.decode(net.encode(x, here), there)

    def close(got: Tensor, wanted: Tensor) -> None:
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)

    xy, yx = through(batch.x, "summer", "winter"), through(batch.y, "winter", "summer")
    close(made.xy.colours, xy)
    close(made.yx.colours, yx)
    close(made.xx.colours, through(batch.x, "summer", "summer"))
    close(made.yy.colours, through(batch.y, "winter", "winter"))
    close(made.cycles.xyx.colours, through(xy, "winter", "summer"))
    close(made.cycles.yxy.colours, through(yx, "summer", "winter"))
    for got, x in ((made.zx, batch.x), (made.zy, batch.y), (made.cycles.zxy, xy), (made.cycles.zyx, yx)):
        close(got, net.encode(x, "summer"))


@pytest.mark.parametrize("cycle", [0.0, 1.0])
def test_a_frozen_trunk_learns_in_the_warm_up_only(tmp_path: Path, cycle: float) -> None:
    loss = {"frozen_trunk": True, "carried_detail": True, "photo_cycle_weight": cycle, "cycle_share": 0.0}
    recipe = recipe_of("spring", "winter", net={"shared_trunk": True}, loss=loss, train={"warmup": 2})
    run = Run(recipe, tmp_path, cache=tmp_path / "cache")

    def changed_by(until: int) -> set[str]:
        before = {name: p.clone() for name, p in run.net.named_parameters()}
        run.advance(until)
        return {name for name, p in run.net.named_parameters() if not torch.equal(p, before[name])}

    every = {name for name, _ in run.net.named_parameters()}
    assert changed_by(2) == every
    assert changed_by(4) == {name for name in every if name.startswith("decoders.")}
    again = Run(recipe, tmp_path, cache=tmp_path / "cache")
    again.resume()
    again.advance()
    run.advance()
    for name, p in run.net.named_parameters():
        assert torch.equal(p, dict(again.net.named_parameters())[name]), name


def test_cycles_that_nothing_looks_at_are_not_made() -> None:
    loss = {"photo_cycle_weight": 0.0, "cycle_share": 0.0}
    step = step_of(recipe_of("spring", "winter", loss=loss))
    batch = batch_of(step, 0, 1)
    streams = step(batch)
    assert streams.cycles is None
    without = step.generator_loss(batch, streams)
    asked = step_of(recipe_of("spring", "winter", loss={**loss, "photo_cycle_weight": 1.0}))
    with_cycles = asked.generator_loss(batch, asked(batch))
    assert set(with_cycles) - set(without) == {"cx", "cy"}
    for name, value in without.items():
        assert torch.equal(value, with_cycles[name]), name


def test_only_a_shared_trunk_can_be_frozen() -> None:
    with pytest.raises(UsageError, match="shared_trunk"):
        recipe_of("spring", "winter", loss={"frozen_trunk": True})


def test_discriminators_may_learn_at_a_rate_of_their_own(tmp_path: Path) -> None:
    runs = {}
    for rate in (1.0, 3.0):
        recipe = recipe_of("spring", "winter", train={"discriminator_rate": rate, "decay": 0, "constant": 2})
        runs[rate] = Run(recipe, tmp_path / str(rate), cache=tmp_path / "cache")
    before = {name: tensor.clone() for name, tensor in runs[1.0].step_module.named_parameters()}
    moved = {}
    for rate, run in runs.items():
        run.advance(1)
        after = dict(run.step_module.named_parameters())
        moved[rate] = {name: (after[name] - before[name]).abs().max().item() for name in before}
    for name in before:
        if name.startswith(("data.", "latent.")):
            assert moved[3.0][name] == pytest.approx(3.0 * moved[1.0][name], rel=1e-3), name
