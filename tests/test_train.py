"""Training: losses as equations, Algorithm 1 as equalities, recipes and data as a user meets them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vidtrans.checkpoint import load_model, save_model
from vidtrans.errors import InputError, UsageError
from vidtrans.nets.jwdm import JWDM
from vidtrans.palettes import STREET
from vidtrans.train import losses
from vidtrans.train.data import StreetFrames, open_frames
from vidtrans.train.data.videos import SeekingVideo
from vidtrans.train.draws import Draws
from vidtrans.train.jwdm_options import LossOptions
from vidtrans.train.jwdm_step import JWDMStep
from vidtrans.train.keep import MODEL, STATE
from vidtrans.train.loop import Run, rate_at, saved_recipe, total_steps
from vidtrans.train.metrics import Confusion, psnr
from vidtrans.train.recipe import (
    RECIPES,
    DataOptions,
    DomainData,
    Recipe,
    TrainOptions,
    load_recipe,
    parse_recipe,
)
from vidtrans.train.step import Batch
from vidtrans.train.workers import in_order

SMALL: dict[str, Any] = {
    "domains": [
        {"name": "scene", "data": "street:scene"},
        {"name": "segmentation", "kind": "label", "palette": "street", "data": "street:segmentation"},
    ],
    "net": {"width": 4, "latent_channels": 6, "blocks": 1, "upsampling": "resize", "label_head": "palette"},
    "data": {"size": [48, 36], "street_frames": 6, "street_frames_per_seed": 2, "flip": True},
    "loss": {
        "discriminator": "coordinates",
        "discriminator_width": 4,
        "latent_discriminator_width": 8,
        "label_cost": "cross_entropy",
        "hard_cycle": True,
    },
    "train": {"batch": 2, "constant": 3, "decay": 3, "unit": "steps", "sample_every": 3, "log_every": 1},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def small(**changes: dict[str, Any]) -> Recipe:
    return parse_recipe({**SMALL, **{key: {**SMALL[key], **value} for key, value in changes.items()}})


# Losses


def test_the_relu_prior_is_what_norm_and_relu_make_of_gaussians() -> None:
    draws = Draws(seed=0, step=0, first=0, count=4)
    draw = losses.prior_draw(torch.empty(4, 8, 64, 64), "relu", draws)
    assert draw.min() == 0
    assert draw.mean().item() == pytest.approx(0.399, abs=0.005)
    assert draw.var().item() == pytest.approx(0.341, abs=0.005)
    assert losses.prior_draw(draw, "gaussian", draws).std().item() == pytest.approx(1, abs=0.01)
    assert losses.prior_draw(draw, "uniform", draws).abs().max() <= 1


# Algorithm 1


def step_for(recipe: Recipe) -> tuple[JWDMStep, Batch]:
    torch.manual_seed(0)
    step = JWDMStep(JWDM(recipe.net_config()), recipe, torch.device("cpu"))
    labels = torch.randint(len(STREET), (2, 36, 48))
    y = torch.from_numpy(STREET.colour(labels.numpy())).movedim(-1, 1).float() / 127.5 - 1
    clips = (torch.rand(2, 1, 3, 36, 48) * 2 - 1, y.unsqueeze(1))
    return step, Batch(step.net.domains, clips, Draws(seed=0, step=0, first=0, count=2))


def test_streams_are_the_papers_compositions() -> None:
    step, batch = step_for(small(loss={"hard_cycle": False}))
    net, streams, x, y = step.net, step(batch), batch.x, batch.y

    def close(got: torch.Tensor, want: torch.Tensor) -> None:
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)

    zx, zy = net.encode(x, "scene"), net.encode(y, "segmentation")
    close(streams.xx.colours, net.decode(zx, "scene"))
    close(streams.yy.colours, net.decode(zy, "segmentation"))
    close(streams.xy.colours, net.decode(zx, "segmentation"))
    close(streams.yx.colours, net.decode(zy, "scene"))
    close(streams.cycles.xyx.colours, net.decode(net.encode(streams.xy.colours, "segmentation"), "scene"))
    close(streams.cycles.yxy.colours, net.decode(net.encode(streams.yx.colours, "scene"), "segmentation"))


def test_the_ascent_moves_discriminators_only_and_the_descent_generators_only() -> None:
    step, batch = step_for(small())
    streams = step(batch)
    sum(step.discriminator_loss(batch, streams).values()).backward()
    assert all(parameter.grad is None for parameter in step.net.parameters())
    assert all(parameter.grad is not None for parameter in step.discriminators())
    for parameter in step.discriminators():
        parameter.grad = None
        parameter.requires_grad_(False)
    sum(step.generator_loss(batch, streams).values()).backward()
    assert all(parameter.grad is not None for parameter in step.net.parameters())
    assert all(parameter.grad is None for parameter in step.discriminators())


def test_hard_cycle_sends_pure_colours_and_a_gradient() -> None:
    step, batch = step_for(small())
    net = step.net
    picture = step._decode(net.encode(batch.x, "scene"), net.domains[1])
    sent = step.costs.sent_back(picture, net.domains[1])
    colours = (sent.detach().movedim(1, -1).numpy() + 1) * 127.5
    nearest = STREET.colour(STREET.nearest(colours)).astype(np.float64)
    assert np.abs(colours - nearest).max() < 0.01
    sent.square().sum().backward()
    assert net.decoders["segmentation"].lift.weight.grad.abs().sum() > 0


def test_one_batch_can_be_learned_by_heart(learn_by_heart: Callable[..., Any]) -> None:
    recipe = small(net={"width": 12, "latent_channels": 24}, loss={"lambda_x": 0.0, "lambda_y": 0.0, "lambda_z": 0.0})
    step, batch = step_for(recipe)
    smooth = torch.nn.functional.avg_pool2d(batch.x, 9, 1, 4).unsqueeze(1)
    batch = Batch(batch.domains, (smooth, batch.clips[1]), batch.draws)
    first, last = learn_by_heart(step, batch, 60, 2e-3)
    assert last["rx"] < 0.5 * first["rx"]
    assert last["ry"] < 0.8 * first["ry"]


def test_the_rate_is_constant_then_straight_to_zero() -> None:
    rates = [rate_at(step, 3, 3) for step in range(6)]
    assert rates == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert total_steps(TrainOptions(batch=4, constant=2, decay=1, warmup=1, unit="epochs"), 10, domains=2) == (2, 4, 2)


# A run


def train(recipe: Recipe, folder: Path, cache: Path, until: int | None = None, resume: bool = False) -> Run:
    run = Run(recipe, folder, cache=cache)
    if resume:
        run.resume()
    run.advance(until)
    return run


@pytest.mark.parametrize(("precision", "optimiser"), [("fp32", "adam"), ("bf16", "muon")])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, cache: Path, precision: str, optimiser: str
) -> None:
    recipe = small(train={"precision": precision, "optimiser": optimiser, "warmup": 1})
    train(recipe, tmp_path / "whole", cache)
    train(recipe, tmp_path / "cut", cache, until=4)
    resumed = train(saved_recipe(tmp_path / "cut"), tmp_path / "cut", cache, resume=True)
    assert resumed.step == 6
    whole, cut = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert any(key.startswith("adversaries-rest/") for key in whole)
    for key, tensor in whole.items():
        assert torch.equal(tensor, cut[key]), key
    before = load_file(tmp_path / "whole" / MODEL)
    assert any(not torch.equal(before[key], tensor) for key, tensor in JWDM(recipe.net_config()).state_dict().items())


def test_a_warm_up_only_reconstructs(tmp_path: Path, cache: Path) -> None:
    run = Run(small(train={"warmup": 2}), tmp_path, cache=cache)
    fresh = [parameter.clone() for parameter in run.step_module.discriminators()]
    start = [parameter.clone() for parameter in run.net.parameters()]
    run.advance(2)
    assert all(torch.equal(old, new) for old, new in zip(fresh, run.step_module.discriminators(), strict=True))
    assert not all(torch.equal(old, new) for old, new in zip(start, run.net.parameters(), strict=True))
    run.advance(4)
    assert not all(torch.equal(old, new) for old, new in zip(fresh, run.step_module.discriminators(), strict=True))
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert all(row.keys() >= {"rx", "ry"} and "gx" not in row for row in rows[:2])
    assert all("gx" in row for row in rows[2:])
    with pytest.raises(UsageError, match="warmup"):
        small(train={"warmup": 4})


@torch.no_grad()
def test_the_warm_up_descends_on_the_reconstruction_of_the_whole_objective() -> None:
    step, batch = step_for(small())
    whole = step.generator_loss(batch, step(batch))
    for name, value in step.warmup_loss(batch).items():
        torch.testing.assert_close(value, whole[name])


def test_rendered_items_keep_their_order_and_errors_their_place() -> None:
    def work(number: int) -> int:
        if number == 20:
            raise ValueError("twenty")
        return number * number

    threads = torch.get_num_threads()
    made = in_order(work, range(100), 3)
    assert [next(made) for _ in range(20)] == [number * number for number in range(20)]
    with pytest.raises(ValueError, match="twenty"):
        next(made)
    assert torch.get_num_threads() == threads


def test_a_run_leaves_a_model_a_grid_and_a_log(tmp_path: Path, cache: Path) -> None:
    train(small(), tmp_path, cache)
    model = load_model(tmp_path)
    assert model.trained["step"] == 6
    assert parse_recipe(model.trained["recipe"]) == small()
    with Image.open(tmp_path / "samples" / "0000006.png") as grid:
        assert grid.mode == "RGB"
        assert np.asarray(grid).std() > 5
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"rx", "ry", "cx", "cy", "gx", "gy", "gz", "dx", "dy", "dz"} <= rows[0].keys()
    assert list((tmp_path / "tensorboard").iterdir())


def test_init_from_starts_the_generators_and_only_them(tmp_path: Path, cache: Path) -> None:
    trained = train(small(), tmp_path / "first", cache)
    model = load_model(tmp_path / "first")
    second = Run(small(train={"seed": 5}), tmp_path / "second", cache=cache, init_from=model)
    for key, tensor in second.net.state_dict().items():
        assert torch.equal(tensor, trained.average.state_dict()[key]), key
    fresh, old = (run.step_module.discriminators()[0] for run in (second, trained))
    assert not torch.equal(fresh, old)
    with pytest.raises(UsageError, match="another shape"):
        Run(small(net={"width": 5}), tmp_path / "third", cache=cache, init_from=model)


def test_a_domain_may_begin_as_another_of_the_finished_model(tmp_path: Path, cache: Path) -> None:
    trained = train(small(), tmp_path / "first", cache).average.state_dict()
    model = load_model(tmp_path / "first")
    rows = [{"name": name, "data": "street:scene", "start": "scene"} for name in ("dry", "wet")]
    table = {**SMALL, "loss": {**SMALL["loss"], "label_cost": "l1", "hard_cycle": False}}
    recipe = parse_recipe({**table, "domains": rows})
    run = Run(recipe, tmp_path / "second", cache=cache, init_from=model)
    for key, tensor in run.net.state_dict().items():
        part, _, rest = key.split(".", 2)
        assert torch.equal(tensor, trained[f"{part}.scene.{rest}"]), key
    with pytest.raises(UsageError, match="--init-from"):
        Run(recipe, tmp_path / "third", cache=cache)
    misspelt = parse_recipe({**table, "domains": [{**rows[0], "start": "scen"}, rows[1]]})
    with pytest.raises(UsageError, match="scene"):
        Run(misspelt, tmp_path / "fourth", cache=cache, init_from=model)


def test_domains_that_share_a_trunk_begin_as_one_of_the_finished_model(tmp_path: Path, cache: Path) -> None:
    train(small(), tmp_path / "first", cache)
    model = load_model(tmp_path / "first")
    rows = [{"name": name, "data": "street:scene", "start": "scene"} for name in ("dry", "wet")]
    loss = {**SMALL["loss"], "label_cost": "l1", "hard_cycle": False}
    table = {**SMALL, "loss": loss, "net": {**SMALL["net"], "shared_trunk": True}}
    recipe = parse_recipe({**table, "domains": rows})
    run = Run(recipe, tmp_path / "second", cache=cache, init_from=model)
    for name in ("dry", "wet"):
        x = torch.rand(1, 3, 40, 48) * 2 - 1
        assert torch.equal(run.net.encode(x, name), model.net.encode(x, "scene"))
        z = model.net.encode(x, "scene")
        assert torch.equal(run.net.decode(z, name), model.net.decode(z, "scene"))
    # What it made is a start in its turn, and a run that is continued.
    run.advance(2)
    again = Run(recipe, tmp_path / "second", cache=cache)
    again.resume()
    third = Run(
        parse_recipe({**table, "domains": [{**row, "start": ""} for row in rows]}),
        tmp_path / "third",
        cache=cache,
        init_from=load_model(tmp_path / "second"),
    )
    for key, tensor in run.average.state_dict().items():
        assert torch.equal(again.average.state_dict()[key], tensor)
        assert torch.equal(third.net.state_dict()[key], tensor)
    assert not torch.equal(run.net.encode(x, "dry"), z)
    mixed = [rows[0], {**rows[1], "start": "segmentation"}]
    with pytest.raises(UsageError, match="segmentation"):
        Run(parse_recipe({**table, "domains": mixed}), tmp_path / "fourth", cache=cache, init_from=model)


def test_training_is_unpaired(tmp_path: Path, cache: Path) -> None:
    run = Run(small(data={"flip": False}), tmp_path, cache=cache)
    scene, labels = run.frames
    assert isinstance(scene, StreetFrames)
    assert isinstance(labels, StreetFrames)
    assert not set(scene.drives.seeds) & set(labels.drives.seeds)
    # And the two domains' draws do not go in step either.
    drawn = [[run.batches.samples(step, number) for step in range(20)] for number in (0, 1)]
    rows = [
        [
            int(torch.stack([(frames_batch - row).abs().sum() for row in everything]).argmin())
            for frames_batch in batches
        ]
        for batches, everything in (
            ([batch[0] for batch in domain], torch.from_numpy(frames._frames.copy()).movedim(-1, 1) / 127.5 - 1)
            for domain, frames in zip(drawn, run.frames, strict=True)
        )
    ]
    assert rows[0] != rows[1]
    assert len(set(rows[0])) > 2


# Recipes


def test_bundled_recipes_parse() -> None:
    names = {path.stem for path in RECIPES.glob("*.toml")}
    assert {"street", "jwdm", "jwae"} <= names
    for name in names:
        assert load_recipe(name).net_config().domains
    jwdm, jwae = load_recipe("jwdm"), load_recipe("jwae")
    assert (jwdm.train.batch, jwae.train.batch) == (1, 8)
    for paper in (jwdm, jwae):
        assert paper.loss == LossOptions()
        assert (paper.train.lr, paper.train.constant, paper.train.decay, paper.train.unit) == (2e-4, 100, 100, "epochs")
        assert paper.net_config().label_head == "tanh"
    assert load_recipe("street").data.street_seed + 2_000_000 <= 8_000_000  # evaluation's seeds start there


def test_set_changes_one_value_and_mistakes_name_the_nearest_key() -> None:
    recipe = load_recipe("street", ("train.batch=2", "domains.scene.data=some/folder", "net.blocks=1"))
    assert recipe.train.batch == 2
    assert recipe.domains[0].data == "some/folder"
    for change, hint in (("train.bacth=2", "batch"), ("nett.width=2", "net"), ("loss.lambdax=1", "lambda_x")):
        with pytest.raises(UsageError, match=hint):
            load_recipe("street", (change,))
    with pytest.raises(UsageError, match=r"section\.key=value"):
        load_recipe("street", ("batch",))
    with pytest.raises(UsageError, match="street"):
        load_recipe("stret")
    with pytest.raises(UsageError, match="divisible by 4"):
        small(data={"size": [50, 36]})
    with pytest.raises(UsageError, match="64x64"):
        small(loss={"discriminator": "table5"})


# Data


def frames_of(data: Path | str, kind: str = "photo", size: tuple[int, int] = (40, 36)) -> Any:
    palette = "street" if kind == "label" else None
    row = DomainData("d", str(data), kind, palette)
    return open_frames(row, 0, DataOptions(size=size), Path("nowhere"), print)[0]


def test_image_folders_are_resized_and_labels_are_not_mixed(tmp_path: Path) -> None:
    labels = torch.randint(len(STREET), (72, 80))
    Image.fromarray(STREET.colour(labels.numpy())).save(tmp_path / "a.png")
    batch = frames_of(tmp_path, "label").batch([0])
    assert batch.shape == (1, 36, 40, 3)
    assert {tuple(colour) for colour in batch.reshape(-1, 3).tolist()} <= set(STREET.colours)
    mixed = frames_of(tmp_path).batch([0])
    assert not {tuple(colour) for colour in mixed.reshape(-1, 3).tolist()} <= set(STREET.colours)


def test_bad_data_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder"):
        frames_of(tmp_path / "nothing")
    with pytest.raises(UsageError, match="segmentation"):
        frames_of("street:segmentaton")
    assert not Path("nowhere").exists()
    with pytest.raises(InputError, match="no images"):
        frames_of(tmp_path)
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"a\.png"):
        frames_of(tmp_path).batch([0])
    (tmp_path / "b.mp4").write_bytes(b"not a video")
    with pytest.raises(InputError, match="both images and videos"):
        frames_of(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"b\.mp4"):
        frames_of(tmp_path)


# Models and metrics


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    net = JWDM(small().net_config())
    save_model(tmp_path / "m.safetensors", net, trained={"step": 3}, quality={"accuracy": 0.5}, half=True)
    model = load_model(tmp_path / "m.safetensors")
    assert model.net.config == net.config
    assert (model.trained, model.quality, model.bundled) == ({"step": 3}, {"accuracy": 0.5}, None)
    for key, tensor in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[key], tensor.half().float())
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o044
    (tmp_path / "m.safetensors").write_bytes(b"\x80\x04garbage")
    with pytest.raises(UsageError, match="cannot be read"):
        load_model(tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match="street"):
        load_model("stret")


def test_metrics_by_hand() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    assert confusion.accuracy == 0.75
    assert confusion.iou[:2].tolist() == [0.5, pytest.approx(2 / 3)]
    assert math.isnan(confusion.iou[2])
    assert confusion.mean_iou == pytest.approx(7 / 12)
    assert psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == 0.0
    assert psnr(np.zeros(3, np.uint8), np.zeros(3, np.uint8)) == math.inf


def test_video_folders_are_random_accessed_frame_by_frame(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    for name, count in (("a.mp4", 7), ("b.mkv", 5)):
        make_clip(tmp_path / name, frames=count, size=(80, 72), options={"g": "4"})
    frames = frames_of(tmp_path, size=(80, 72))
    assert len(frames) == 12
    decoded = []
    for name in ("a.mp4", "b.mkv"):
        with av.open(str(tmp_path / name)) as container:
            decoded += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    order = [11, 0, 6, 7, 3, 3]
    for index, got in zip(order, frames.batch(order), strict=True):
        # decord and PyAV carry different FFmpegs, whose colour conversions may differ by a code value or two.
        first, end = (0, 7) if index < 7 else (7, 12)
        errors = [np.abs(got.numpy().astype(int) - decoded[k]).mean() for k in range(first, end)]
        assert int(np.argmin(errors)) == index - first
        assert min(errors) < 1.5


def test_without_decord_pyav_seeks_to_the_same_frames(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=11, options={"g": "5"})
    video = SeekingVideo(clip)
    with av.open(str(clip)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(video) == 11
    order = [0, 1, 4, 5, 6, 10]
    for index, frame in zip(order, video.frames(order), strict=True):
        assert (frame == decoded[index]).all()
