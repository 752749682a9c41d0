"""The 3D CycleGAN: its networks, windows over videos of any length, its losses and its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from vidtrans.checkpoint import load_model
from vidtrans.errors import UsageError
from vidtrans.model_care import verify_model
from vidtrans.nets import make_net
from vidtrans.nets.blocks import parameter_count
from vidtrans.nets.contract import Domain
from vidtrans.nets.cyclegan3d import ClipNorm, CycleGAN3D, CycleGAN3DConfig
from vidtrans.nets.translating import translated
from vidtrans.nets.windows import Windows, in_windows, ramp
from vidtrans.palettes import STREET
from vidtrans.train import evaluate, losses
from vidtrans.train.cyclegan3d_step import CycleGAN3DStep
from vidtrans.train.discriminators import Patch3d
from vidtrans.train.draws import Draws
from vidtrans.train.keep import MODEL, STATE
from vidtrans.train.loop import Run, saved_recipe
from vidtrans.train.recipe import Recipe, load_recipe, parse_recipe
from vidtrans.train.report import finish
from vidtrans.train.step import Batch

PHOTOS = (Domain("summer"), Domain("winter"))
LABELS = (Domain("scene"), Domain("segmentation", "label", "street"))

SMALL: dict[str, Any] = {
    "method": "cyclegan3d",
    "domains": [
        {"name": "scene", "data": ""},
        {"name": "segmentation", "kind": "label", "palette": "street", "data": ""},
    ],
    "net": {"width": 2, "blocks": 1, "kernel": 3, "upsampling": "resize", "label_head": "palette"},
    "data": {"size": [40, 36], "clip": 8, "flip": True},
    "loss": {"discriminator_width": 2, "places": True, "image_pool": 2},
    "train": {"batch": 1, "constant": 3, "decay": 1, "unit": "steps", "sample_every": 4, "log_every": 1},
}


def small(**changes: Any) -> Recipe:
    return parse_recipe({**SMALL, **{key: {**SMALL[key], **row} for key, row in changes.items()}})


def frames_of(count: int, channels: int = 3, batch: int = 1) -> list[Tensor]:
    return list(torch.randn(count, batch, channels, 4, 4, generator=torch.Generator().manual_seed(0)))


# Windows


@pytest.mark.parametrize("overlap", [0, 1, 3, 4, 6, 7])
def test_windows_of_a_net_that_changes_nothing_change_nothing(overlap: int) -> None:
    for count in (0, 1, 5, 7, 8, 9, 12, 16, 29):
        frames = frames_of(count)
        made = list(in_windows(frames, lambda clip: clip, 8, overlap))
        assert len(made) == count
        assert all(torch.equal(here, there) for here, there in zip(made, frames, strict=True))


def test_frames_that_windows_share_are_their_weighted_mean() -> None:
    calls: list[Tensor] = []

    def numbered(clip: Tensor) -> Tensor:
        """Every window is a number of its own, so that the weights can be read off."""
        calls.append(clip)
        return torch.full_like(clip, 10.0 ** (len(calls) - 1))

    made = torch.stack(list(in_windows(frames_of(10), numbered, 8, 4)))[:, 0, 0, 0, 0]
    up = torch.arange(1, 5) / 5  # of the second window, where it meets the first
    wanted = torch.cat([torch.ones(4), (1 - up) * 1 + up * 10, torch.full((2,), 10.0)])
    torch.testing.assert_close(made, wanted)
    frames = frames_of(10)
    assert len(calls) == 2
    assert torch.equal(calls[1], torch.stack([*frames[4:], frames[9], frames[9]], 1)), "the last frame is repeated"
    for overlap in range(5):
        weights = torch.tensor(ramp(8, overlap))
        torch.testing.assert_close(weights[:overlap] + weights[8 - overlap :], torch.ones(overlap))
    with pytest.raises(ValueError, match="0 to 7"):
        Windows(numbered, 8, 8)


def test_frames_come_out_as_soon_as_no_window_can_reach_them_and_few_are_held() -> None:
    windows = Windows(lambda clip: clip.mean(1, keepdim=True).expand_as(clip), 8, 4)
    frames = frames_of(40)
    counts = [len(windows.push(frame)) for frame in frames]
    assert counts == [4 if k >= 7 and k % 4 == 3 else 0 for k in range(40)]
    assert max(len(windows._frames), len(windows._made)) <= 8
    assert len(windows.finish()) == 4
    again = [made for frame in frames[:20] for made in windows.push(frame)] + windows.finish()
    plain = list(in_windows(frames[:20], windows._translate, 8, 4))
    assert all(torch.equal(here, there) for here, there in zip(again, plain, strict=True))


# Networks


def test_the_papers_four_networks_have_90_54_million_numbers() -> None:
    with torch.device("meta"):
        net = CycleGAN3D(CycleGAN3DConfig(PHOTOS))
        critics = [Patch3d() for _ in range(2)]
    layers = [part for each in (net, *critics) for part in each.modules()]
    convolutions = [part for part in layers if isinstance(part, torch.nn.Conv3d | torch.nn.ConvTranspose3d)]
    total = parameter_count(net) + sum(map(parameter_count, critics))
    # The code's convolutions all have biases; before a norm they do nothing, and here there are none.
    assert sum(part.bias is None for part in convolutions) == 2 * (23 + 3)
    assert total + sum(part.out_channels for part in convolutions if part.bias is None) == 90_535_304
    assert total == 90_523_016


@torch.no_grad()
def test_clips_go_both_ways_and_labels_get_scores() -> None:
    torch.manual_seed(0)
    config = CycleGAN3DConfig(LABELS, 12, 2, 1, label_head="palette", trained_size=(40, 36))
    net = make_net("cyclegan3d", config.to_json())
    assert (net.clip, net.clip_multiple, net.shares_latent) == (12, 4, False)
    clips = torch.rand(2, 8, 3, 36, 40) * 2 - 1
    scores = net.translate(clips, "scene", "segmentation")
    assert scores.shape == (2, 8, len(STREET), 36, 40)
    mean = torch.einsum("btkhw,kc->btchw", scores.softmax(2), torch.from_numpy(STREET.array / 127.5 - 1).float())
    torch.testing.assert_close(net.colour(scores, "segmentation"), mean)
    photos = net.translate(clips, "segmentation", "scene")
    assert photos.shape == clips.shape
    assert photos.abs().max() <= 1
    alone = torch.cat([net.translate(clip.unsqueeze(0), "segmentation", "scene") for clip in clips])
    torch.testing.assert_close(photos, alone, rtol=0, atol=1e-5)
    for changes in ({"kernel": 3}, {"norm": "instance"}, {"upsampling": "resize"}):
        other = CycleGAN3D(CycleGAN3DConfig(PHOTOS, 8, 2, 1, **changes))  # type: ignore[arg-type]
        assert other.translate(clips[..., :8, :12], "summer", "winter").shape == (2, 8, 3, 8, 12)
    assert not list(ClipNorm(4, learned=False).parameters())


def test_the_norm_is_a_batch_norm_in_training_on_one_clip() -> None:
    norm = ClipNorm(4, learned=True)
    with torch.no_grad():
        norm.scale.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        norm.shift.normal_()  # type: ignore[union-attr]
    clips = torch.randn(2, 4, 3, 5, 6)
    wanted = [F.batch_norm(clip, None, None, norm.scale, norm.shift, training=True) for clip in clips.split(1)]
    torch.testing.assert_close(norm.eval()(clips), torch.cat(wanted))


@torch.no_grad()
def test_a_discriminator_keeps_something_of_eight_frames_and_of_odd_sizes() -> None:
    for places in (False, True):
        critic = Patch3d(2, places=places)
        assert critic(torch.randn(1, 8, 3, 108, 192)).shape == (1, 1, 1, 14, 24)
        assert critic(torch.randn(2, 12, 3, 36, 40)).shape == (2, 1, 2, 5, 5)
    # Where nothing is to be seen, far from the borders, only a discriminator that knows its place tells rows apart.
    nothing = torch.full((1, 8, 3, 192, 64), 0.5)
    plain, placed = (Patch3d(2, places=places)(nothing)[0, 0, 0, 8:16, 4] for places in (False, True))
    assert plain.std() < 1e-6 < 1e-4 < placed.std()


@torch.no_grad()
def test_footage_of_any_length_is_translated_in_windows() -> None:
    torch.manual_seed(0)
    net = CycleGAN3D(CycleGAN3DConfig(PHOTOS, 8, 2, 1, kernel=3)).eval()
    clip = torch.rand(1, 11, 3, 8, 8) * 2 - 1
    made = translated(net, clip, "summer", "winter")
    first = net.translate(clip[:, :8], "summer", "winter")
    assert made.shape == clip.shape
    torch.testing.assert_close(made[:, :4], first[:, :4])
    still = clip[:, 0]
    wanted = net.translate(still.unsqueeze(1).repeat(1, 8, 1, 1, 1), "summer", "winter")[:, 4]
    torch.testing.assert_close(translated(net, still, "summer", "winter"), wanted)


# Training


def step_for(recipe: Recipe) -> tuple[CycleGAN3DStep, Batch]:
    torch.manual_seed(0)
    step = CycleGAN3DStep(CycleGAN3D(recipe.net_config()), recipe, torch.device("cpu"))
    width, height = recipe.data.trained_size
    labels = torch.randint(len(STREET), (1, 1, 3, 4)).repeat_interleave(height // 3, 2).repeat_interleave(width // 4, 3)
    y = torch.from_numpy(STREET.colour(labels.numpy())).movedim(-1, 2).float() / 127.5 - 1
    rough = torch.rand(8, 3, height, width) * 2 - 1
    x = F.avg_pool2d(rough, 9, 1, 4, count_include_pad=False).unsqueeze(0)
    return step, Batch(step.net.domains, (x, y.expand(-1, 8, -1, -1, -1)), Draws(seed=0, step=0, first=0, count=1))


def test_a_step_sees_whole_clips() -> None:
    recipe = small(data={"clip_distance": 2}, loss={"image_pool": 0, "label_cost": "cross_entropy"})
    step, batch = step_for(recipe)
    assert step.offsets(batch.draws) == tuple(range(0, 16, 2))
    s = step(batch)
    assert s.xy.scores is not None
    assert s.xy.scores.shape == (1, 8, len(STREET), 36, 40)
    down, up = step.generator_loss(batch, s), step.discriminator_loss(batch, s)
    assert (set(down), set(up)) == ({"gx", "gy", "cx", "cy"}, {"dx", "dy"})
    critic = step.data["segmentation"].critic
    torch.testing.assert_close(down["gy"], (critic(s.xy.colours) - 1).square().mean())
    wanted = ((critic(batch.clips[1]) - 1).square().mean() + critic(s.xy.colours).square().mean()) / 2
    torch.testing.assert_close(up["dy"], wanted)
    torch.testing.assert_close(down["cx"], 10 * (s.xyx.colours - batch.clips[0]).abs().mean())
    classes = STREET.nearest(((batch.clips[1][0] + 1) * 127.5).movedim(1, -1).numpy())
    entropy = losses.class_reconstruction(s.yxy.scores[0], torch.from_numpy(classes.astype(np.int64)))
    torch.testing.assert_close(down["cy"], 10 * entropy)


def test_one_batch_can_be_learned_by_heart(learn_by_heart: Callable[..., Any]) -> None:
    seasons = [{"name": name, "data": ""} for name in ("summer", "winter")]
    shape = {"net": {**SMALL["net"], "width": 6}, "data": {"size": [36, 36], "clip": 8}}
    recipe = parse_recipe({**SMALL, **shape, "domains": seasons, "loss": {"discriminator_width": 2}})
    step, batch = step_for(recipe)
    torch.manual_seed(1)
    rough = [torch.randn(1, 3, 2, 4, 4) * 1.5 for _ in range(2)]
    clips = [F.interpolate(each, size=(8, 36, 36), mode="trilinear").tanh().movedim(1, 2) for each in rough]
    batch = Batch(batch.domains, (clips[0], clips[1]), batch.draws)
    first, last = learn_by_heart(step, batch, 24, 3e-3, plays=True)
    assert last["cx"] < 0.7 * first["cx"]
    assert last["cy"] < 0.7 * first["cy"]


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Folders of numbered pictures: two short drives for each domain, as `domains` of a recipe."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    for name in ("scene", "segmentation"):
        for drive in ("one", "two"):
            (folder / name / drive).mkdir(parents=True)
            for number in range(11):
                picture = rng.integers(0, 256, (36, 40, 3), dtype=np.uint8)
                if name == "segmentation":
                    picture = STREET.colour(rng.integers(0, len(STREET), (36, 40)))
                Image.fromarray(picture).save(folder / name / drive / f"{number:03}.png")
    return {name: str(folder / name) for name in ("scene", "segmentation")}


def on_footage(footage: dict[str, str], **changes: Any) -> Recipe:
    rows = [{**row, "data": footage[row["name"]]} for row in SMALL["domains"]]
    data = {**SMALL["data"], "test_share": 0.13, "test_clip": 3, **changes.get("data", {})}
    return parse_recipe({**SMALL, "domains": rows, "keep": {"best": "cycle"}, "data": data})


def test_a_run_on_folders_resumes_exactly_and_its_model_is_whole(tmp_path: Path, footage: dict[str, str]) -> None:
    recipe = on_footage(footage)
    whole = Run(recipe, tmp_path / "whole")
    whole.advance()
    Run(recipe, tmp_path / "cut").advance(2)
    resumed = Run(saved_recipe(tmp_path / "cut"), tmp_path / "cut")
    resumed.resume()
    resumed.advance()
    one, two = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, two[key]), key
    page = finish(whole).read_text().split("<h2>Recipe</h2>")[0]
    assert "reconstruction" not in page
    quality = load_model(tmp_path / "whole" / MODEL).quality
    assert {"scene to segmentation", "segmentation to scene", "held_back_frames"} == set(quality)
    with Image.open(tmp_path / "whole" / "samples" / "0000004.png") as samples:
        assert samples.size == (3 * 42 + 2, 2 * 38 + 2)
    verify_model(str(tmp_path / "whole" / MODEL))
    with pytest.raises(UsageError, match="no sequence is long enough for a clip over 12 frames"):
        Run(on_footage(footage, data={"clip": 12}), tmp_path / "long").advance(1)


def test_keyframes_are_evaluated_within_their_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    monkeypatch.setattr(evaluate, "BLIND_SEEDS", range(4_000_001, 4_000_002))
    torch.manual_seed(0)
    net = CycleGAN3D(CycleGAN3DConfig(LABELS, 8, 2, 1, 3, label_head="palette", trained_size=(40, 36))).eval()
    scores = evaluate.evaluate_street(net, seeds=range(4_000_000, 4_000_001))
    street = evaluate.Street(4_000_000)
    frames = [street.render(3.0 + (k - 4) / 60, 40, 36) for k in range(8)]
    clip = torch.stack([frame.rgb for frame in frames]).movedim(-1, 1).unsqueeze(0) / 127.5 - 1
    classes = net.translate(clip, "scene", "segmentation")[0, 4].argmax(0)
    wanted = (classes == frames[4].labels).float().mean().item()
    assert scores.keyframes.accuracy == pytest.approx(wanted, abs=0.002)


def test_recipes_are_the_papers() -> None:
    paper = load_recipe("cyclegan3d")
    assert paper.net_config() == CycleGAN3DConfig(paper.net_config().domains)
    assert (paper.loss.divergence, paper.loss.lambda_cycle, paper.loss.image_pool) == ("lsgan", 10.0, 0)
    assert (paper.train.lr, paper.train.batch, paper.train.betas[0]) == (1e-4, 1, 0.5)
    assert paper.train.constant == 800 * 851


def test_recipes_that_cannot_be_meant_are_refused() -> None:
    for changes, words in (
        ({"data": {"clip": 1}}, "set data.clip"),
        ({"data": {"clip": 10}}, "divisible by 4"),
        ({"net": {"clip": 8}}, r"unknown key net\.clip"),
        ({"net": {"kernel": 5}}, "kernel must be one of 3, 7"),
        ({"train": {"channels_last": True}}, "channels_last"),
        ({"loss": {"identity_weight": 0.5}}, "identity_weight"),
    ):
        with pytest.raises(UsageError, match=words):
            small(**changes)
