"""CycleGAN on frames: its networks, its losses as equations, and runs as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidtrans.checkpoint import load_model, save_model
from vidtrans.errors import UsageError
from vidtrans.model_care import export_half, export_onnx, verify_model
from vidtrans.nets import make_net, net_class
from vidtrans.nets.blocks import parameter_count
from vidtrans.nets.contract import Domain
from vidtrans.nets.cyclegan import CycleGAN, CycleGANConfig
from vidtrans.nets.translating import translated
from vidtrans.palettes import STREET
from vidtrans.train import evaluate, held_back
from vidtrans.train.cyclegan_step import CycleGANStep
from vidtrans.train.discriminators import Patch70
from vidtrans.train.draws import Draws
from vidtrans.train.keep import MODEL, STATE
from vidtrans.train.loop import Run, saved_recipe
from vidtrans.train.recipe import Recipe, load_recipe, parse_recipe
from vidtrans.train.report import finish
from vidtrans.train.step import Batch

PHOTOS = (Domain("summer"), Domain("winter"))
LABELS = (Domain("scene"), Domain("segmentation", "label", "street"))

SMALL: dict[str, Any] = {
    "method": "cyclegan",
    "domains": [
        {"name": "scene", "data": "street:scene"},
        {"name": "segmentation", "kind": "label", "palette": "street", "data": "street:segmentation"},
    ],
    "net": {"width": 4, "blocks": 1, "upsampling": "resize", "label_head": "palette"},
    "data": {"size": [48, 36], "street_frames": 6, "street_frames_per_seed": 2, "flip": True},
    "loss": {"discriminator_width": 4, "image_pool": 3, "label_cost": "cross_entropy", "hard_cycle": True},
    "train": {"batch": 2, "constant": 3, "decay": 1, "unit": "steps", "sample_every": 4, "log_every": 1},
}
SEASONS = [{"name": name, "data": f"street:{name}"} for name in ("summer", "winter")]


def small(**changes: Any) -> Recipe:
    return parse_recipe(
        {
            **SMALL,
            **{key: {**SMALL.get(key, {}), **row} if isinstance(row, dict) else row for key, row in changes.items()},
        }
    )


def photos(loss: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    plain = {"label_cost": "l1", "hard_cycle": False}
    return small(domains=SEASONS, loss={**plain, **(loss or {})}, **changes)


def step_for(recipe: Recipe, clip: int = 1) -> tuple[CycleGANStep, Batch]:
    torch.manual_seed(0)
    step = CycleGANStep(CycleGAN(recipe.net_config()), recipe, torch.device("cpu"))
    clips = [torch.rand(2, clip, 3, 36, 48) * 2 - 1 for _ in range(2)]
    if recipe.domains[1].kind == "label":
        labels = torch.randint(len(STREET), (2, clip, 3, 4)).repeat_interleave(12, 2).repeat_interleave(12, 3)
        clips[1] = torch.from_numpy(STREET.colour(labels.numpy())).movedim(-1, 2).float() / 127.5 - 1
    return step, Batch(step.net.domains, (clips[0], clips[1]), Draws(seed=0, step=0, first=0, count=2))


# Networks


@torch.no_grad()
def test_pictures_go_both_ways_and_labels_get_scores() -> None:
    torch.manual_seed(0)
    net = make_net("cyclegan", CycleGANConfig(LABELS, 4, 1, label_head="palette", trained_size=(48, 36)).to_json())
    x = torch.rand(2, 3, 36, 48) * 2 - 1
    scores, photo = net.translate(x, "scene", "segmentation"), net.translate(x, "segmentation", "scene")
    assert (scores.shape, photo.shape) == ((2, len(STREET), 36, 48), x.shape)
    assert (net.has_scores("segmentation"), net.has_scores("scene")) == (True, False)
    assert photo.abs().max() <= 1
    mean = torch.einsum("bkhw,kc->bchw", scores.softmax(1), torch.from_numpy(STREET.array / 127.5 - 1).float())
    torch.testing.assert_close(translated(net, x, "scene", "segmentation"), mean)
    clips = x.view(1, 2, 3, 36, 48)
    torch.testing.assert_close(translated(net, clips, "scene", "segmentation")[0], mean)
    painted = CycleGAN(CycleGANConfig(LABELS, 4, 1))
    assert painted.translate(x, "scene", "segmentation").shape == x.shape
    smallest = net.sizes.minimum
    assert translated(net, x[..., :smallest, :smallest], "scene", "segmentation").shape[-2:] == (smallest, smallest)


@torch.no_grad()
def test_every_ordered_pair_of_domains_has_its_generator() -> None:
    seasons = tuple(Domain(name) for name in ("spring", "summer", "fall"))
    net = CycleGAN(CycleGANConfig(seasons, 2, 1))
    assert len(net.generators) == 6
    x = torch.rand(1, 3, 8, 8)
    made = [net.translate(x, here.name, there.name) for here in seasons for there in seasons if here != there]
    assert len({round(float(picture.sum()), 4) for picture in made}) == 6
    with pytest.raises(UsageError, match="both fall"):
        net.translate(x, "fall", "fall")
    with pytest.raises(UsageError, match="did you mean 'summer'"):
        net.translate(x, "sumer", "fall")
    with pytest.raises(UsageError, match="72 generators"):
        CycleGANConfig(tuple(Domain(f"d{number}") for number in range(9)))


# Losses


def test_streams_are_the_papers_compositions() -> None:
    step, batch = step_for(photos())
    net, streams = step.net, step(batch)
    xy, yx = net.translate(batch.x, "summer", "winter"), net.translate(batch.y, "winter", "summer")
    for made, wanted in (
        (streams.xy, xy),
        (streams.yx, yx),
        (streams.xyx, net.translate(xy, "winter", "summer")),
        (streams.yxy, net.translate(yx, "summer", "winter")),
    ):
        torch.testing.assert_close(made.colours, wanted)


@pytest.mark.parametrize("kind", ["lsgan", "gan"])
def test_losses_are_the_papers_equations(kind: str) -> None:
    step, batch = step_for(photos({"divergence": kind, "image_pool": 0}))
    s = step(batch)
    dx = step.data["summer"].critic

    def real(r: Tensor) -> Tensor:
        return (r - 1).square().mean() if kind == "lsgan" else -torch.sigmoid(r).log().mean()

    def fake(f: Tensor) -> Tensor:
        return f.square().mean() if kind == "lsgan" else -(1 - torch.sigmoid(f)).log().mean()

    down, up = step.generator_loss(batch, s), step.discriminator_loss(batch, s)
    assert set(down) == {"gx", "gy", "cx", "cy", "rx", "ry"}
    assert set(up) == {"dx", "dy"}
    torch.testing.assert_close(down["gx"], real(dx(s.yx.colours)))
    torch.testing.assert_close(down["cy"], 10 * (s.yxy.colours - batch.y).abs().mean())
    identity = step.net.translate(batch.x, "winter", "summer")
    torch.testing.assert_close(down["rx"], 5 * (identity - batch.x).abs().mean())
    torch.testing.assert_close(up["dx"], (real(dx(batch.x)) + fake(dx(s.yx.colours))) / 2)
    for name, value in step.warmup_loss(batch).items():
        torch.testing.assert_close(value, down[name])


def test_the_ascent_moves_discriminators_only_and_the_descent_generators_only() -> None:
    step, batch = step_for(small())
    streams = step(batch)
    sum(step.discriminator_loss(batch, streams).values()).backward()
    assert all(parameter.grad is None for parameter in step.net.parameters())
    assert all(parameter.grad is not None for parameter in step.discriminators())
    for parameter in step.discriminators():
        parameter.grad = None
        parameter.requires_grad_(False)
    down = step.generator_loss(batch, streams)
    assert set(down) == {"gx", "gy", "cx", "cy"}, "no identity between photos and labels"
    sum(down.values()).backward()
    assert all(parameter.grad is not None for parameter in step.net.parameters())
    assert all(parameter.grad is None for parameter in step.discriminators())


def test_const_batches_hold_translations_of_consecutive_frames_alike() -> None:
    step, batch = step_for(photos({"batches": "const"}, data={"clip": 3, "clip_distance": 2}), clip=3)
    assert step.offsets(batch.draws) == (0, 2, 4)
    streams = step(batch)
    assert streams.xy.colours.shape == (6, 3, 36, 48)
    made = streams.xy.colours.view(2, 3, 3, 36, 48)
    wanted = torch.stack([(made[:, t] - made[:, t - 1]).square() for t in (1, 2)]).mean()
    torch.testing.assert_close(step.generator_loss(batch, streams)["ty"], wanted)
    still = Batch(batch.domains, tuple(c[:, :1].expand(-1, 3, -1, -1, -1) for c in batch.clips), batch.draws)  # type: ignore[arg-type]
    terms = step.generator_loss(still, step(still))
    assert max(terms["tx"].item(), terms["ty"].item()) < 1e-10 < wanted.item()
    step, batch = step_for(photos({"batches": "sequential"}, data={"clip": 3}), clip=3)
    assert not {"tx", "ty"} & step.generator_loss(batch, step(batch)).keys()


def test_one_batch_can_be_learned_by_heart(learn_by_heart: Callable[..., Any]) -> None:
    step, batch = step_for(small(net={"width": 8}, loss={"hard_cycle": False, "label_weight": 0.2}))
    smooth = torch.nn.functional.avg_pool2d(batch.x, 9, 1, 4).unsqueeze(1)
    batch = Batch(batch.domains, (smooth, batch.clips[1]), batch.draws)
    first, last = learn_by_heart(step, batch, 30, 2e-3, plays=True)
    assert last["cx"] < 0.5 * first["cx"]
    assert last["cy"] < 0.7 * first["cy"]


# Runs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_resumed_run_equals_an_uninterrupted_one_and_its_model_is_whole(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(train={"warmup": 1})
    whole = Run(recipe, tmp_path / "whole", cache=cache)
    whole.advance()
    Run(recipe, tmp_path / "cut", cache=cache).advance(2)
    resumed = Run(saved_recipe(tmp_path / "cut"), tmp_path / "cut", cache=cache)
    resumed.resume()
    resumed.advance()
    one, two = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert any(key.startswith("step/pools.") and tensor.abs().sum() > 0 for key, tensor in one.items())
    for key, tensor in one.items():
        assert torch.equal(tensor, two[key]), key
    rows = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert [("gx" in row, "cx" in row) for row in rows] == [(False, True), *[(True, True)] * 3]

    monkeypatch.setattr(held_back, "REPORT_SEEDS", range(4_000_000, 4_000_001))
    page = finish(whole).read_text()
    assert "reconstruction" not in page.split("<h2>Recipe</h2>")[0]
    assert (tmp_path / "whole" / "samples" / "0000004.between.png").is_file()
    path = tmp_path / "whole" / MODEL
    model = load_model(path)
    assert set(model.quality) == {"scene to segmentation", "segmentation to scene", "measured_on"}
    assert isinstance(model.net, CycleGAN)
    verify_model(str(path))
    export_half(str(path), tmp_path / "half.safetensors")
    verify_model(str(tmp_path / "half.safetensors"))


def test_keyframes_are_evaluated_and_nothing_else_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    monkeypatch.setattr(evaluate, "BLIND_SEEDS", range(4_000_001, 4_000_002))
    torch.manual_seed(0)
    net = CycleGAN(CycleGANConfig(LABELS, 2, 1, label_head="palette", trained_size=(48, 36))).eval()
    scores = evaluate.evaluate_street(net, seeds=range(4_000_000, 4_000_001))
    frame = evaluate.Street(4_000_000).render(3.0, 48, 36)
    x = frame.rgb.movedim(-1, 0).unsqueeze(0) / 127.5 - 1
    classes = net.translate(x, "scene", "segmentation").argmax(1)[0]
    assert scores.keyframes.accuracy == pytest.approx((classes == frame.labels).float().mean().item(), abs=0.002)
    assert set(scores.to_json()) == {"classes", "keyframes", "picture_blind"}
    assert "in-betweens" not in scores.table()
    assert "PSNR" not in scores.table()


def test_recipes_are_the_papers() -> None:
    paper, sequential, const = (load_recipe(name) for name in ("cyclegan", "cyclegan-sequential", "cyclegan-const"))
    assert paper.net_config() == CycleGANConfig(paper.net_config().domains)
    assert (paper.loss.divergence, paper.loss.lambda_cycle, paper.loss.image_pool) == ("lsgan", 10.0, 50)
    assert (const.net_config(), const.data, const.loss.batches) == (sequential.net_config(), sequential.data, "const")
    with torch.device("meta"):
        width = sequential.net_config().width
        total = parameter_count(CycleGAN(sequential.net_config())) + 2 * parameter_count(Patch70(width))
    assert total == pytest.approx(90e6, rel=0.01)
    assert net_class("cyclegan").shares_latent is False


def test_recipes_that_cannot_be_meant_are_refused() -> None:
    for changes, words in (
        ({"loss": {"batches": "const"}}, "needs data.clip of 2"),
        ({"data": {"clip": 4}}, "nothing looks at it"),
        ({"loss": {"batches": "shuffled"}}, "random, sequential, const"),
        ({"loss": {"lambda_cycle": -1.0}}, "lambda_cycle"),
        ({"loss": {"discriminator": "table5"}}, "64x64"),
        ({"net": {"label_head": "tanh"}}, "palette"),
        ({"net": {"latent_channels": 4}}, r"unknown key net\.latent_channels"),
        ({"keep": {"best": "reconstruction"}, "data": {"test_share": 0.5}}, "no reconstruction"),
    ):
        with pytest.raises(UsageError, match=words):
            small(**changes)


def test_models_of_one_method_are_not_taken_for_anothers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, CycleGAN(CycleGANConfig(LABELS, 2, 1)))
    with pytest.raises(UsageError, match="shares no latent space"):
        export_onnx(str(path), tmp_path, None, None, "fp32")
