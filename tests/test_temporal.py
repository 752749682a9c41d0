"""Losses over time: batches of consecutive frames, the variation term, in-betweens held to the real frame."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidtrans.engines import open_engine
from vidtrans.engines.contract import Gap
from vidtrans.errors import UsageError
from vidtrans.motion import estimate
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses
from vidtrans.train.data import StreetFrames
from vidtrans.train.domains import StreetView
from vidtrans.train.draws import Draws
from vidtrans.train.jwdm_step import JWDMStep
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Run
from vidtrans.train.recipe import Recipe, parse_recipe
from vidtrans.train.step import Batch
from vidtrans.train.temporal import between, between_place

DRAWS = Draws(seed=0, step=0, first=0, count=2)


def recipe_with(clip: int = 4, distance: int = 1, **loss: Any) -> Recipe:
    return parse_recipe(
        {
            "domains": [{"name": "summer", "data": "street:summer"}, {"name": "winter", "data": "street:winter"}],
            "net": {"width": 4, "latent_channels": 6, "blocks": 1},
            "data": {
                "size": [48, 36],
                "clip": clip,
                "clip_distance": distance,
                "flip": True,
                "street_frames": 3,
                "street_frames_per_seed": 2,
                "street_clip": 7,
                "street_spacing": 0.05,
            },
            "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 4} | loss,
            "train": {"batch": 2, "constant": 2, "decay": 2, "unit": "steps", "log_every": 1},
        }
    )


def step_with(clip: int = 4, **loss: Any) -> tuple[JWDMStep, Batch]:
    recipe = recipe_with(clip, **loss)
    torch.manual_seed(0)
    step = JWDMStep(JWDM(recipe.net_config()), recipe, torch.device("cpu"))
    frames = len(step.offsets(DRAWS))
    x, y = torch.rand(2, 2, frames, 3, 36, 48) * 2 - 1
    return step, Batch((step.net.domains[0], step.net.domains[1]), (x, y), DRAWS)


def test_variation_by_hand() -> None:
    clip = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1, 1)
    assert losses.variation(clip).item() == (1 + 4) / 2
    assert losses.variation(torch.rand(2, 1, 3, 4, 4).expand(2, 5, 3, 4, 4)) == 0


def test_sequential_batches_are_the_papers_step_on_all_frames_and_keep_them_alike() -> None:
    step, batch = step_with(sequential=True, variation_weight=2.0)
    streams = step(batch)
    got = step.generator_loss(batch, streams)
    plain, _ = step_with(clip=1)
    flat = tuple(clips.flatten(0, 1).unsqueeze(1) for clips in batch.clips)
    single = Batch(batch.domains, (flat[0], flat[1]), Draws(0, 0, 0, 8))
    want = plain.generator_loss(single, plain(single))
    assert got.keys() - want.keys() == {"tx", "ty"}
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=1e-5)
    translated = torch.stack([step.net.decode(step.net.encode(x, "summer"), "winter") for x in batch.clips[0]])
    torch.testing.assert_close(got["ty"], 2 * losses.variation(translated), rtol=0, atol=1e-5)


def moving(frames: int) -> Tensor:
    """(frames, 36, 48, 3) uint8 of a street, a twentieth of a second apart."""
    view = StreetView("summer", 3)
    return torch.stack([torch.from_numpy(view.picture(4 + k / 20, 48, 36)) for k in range(frames)])


@pytest.mark.parametrize("motion", ["none", "flow"])
@torch.no_grad()
def test_what_is_held_to_the_real_frame_is_what_upsample_makes(motion: str) -> None:
    step, _ = step_with(between_weight=1.0, between_motion=motion)
    frames = moving(3)
    clips = (frames.movedim(-1, 1).float() / 127.5 - 1).unsqueeze(0)
    draws = Draws(0, 0, 0, 1)
    t = Fraction(between_place(draws, 4), 3)
    z = step.net.encode(clips[:, 0], "summer")
    cost = step._between_cost(z, clips, step.net.domains[0], draws)
    engine = open_engine("torch", step.net, "summer", ["winter"], (48, 36), "cpu")
    left, right = engine.encode(frames[[0, 2]])
    estimated = estimate(frames[0].numpy(), frames[2].numpy()) if motion == "flow" else None
    assert estimated is None or not estimated.is_lost
    fields = None if estimated is None else estimated.at([t])
    made = engine.between([Gap(left, right, (t,), fields)])[0]["summer"]
    torch.testing.assert_close(cost, losses.reconstruction(made, clips[:, 1]), rtol=0, atol=1e-6)
    if motion == "flow":
        lifted = step.net.lift(torch.cat([z, step.net.encode(clips[:, 2], "summer")]), "summer").unsqueeze(0)
        assert (between(lifted, t) - between(lifted, t, clips[:, [0, 2]])).abs().max() > 1e-3


def test_the_place_between_changes_by_step_and_all_places_come_up() -> None:
    assert {between_place(Draws(0, step, 0, 2), 9) for step in range(100)} == set(range(1, 8))
    assert between_place(Draws(0, 3, 0, 2), 9) == between_place(Draws(0, 3, 6, 1), 9)  # for all samples of a step


def test_sequential_clips_give_the_same_in_between_without_a_second_encoding() -> None:
    step, batch = step_with(between_weight=1.0)
    both, _ = step_with(between_weight=1.0, sequential=True)
    place = between_place(DRAWS, 4)
    whole = torch.rand(2, 2, 4, 3, 36, 48) * 2 - 1
    some = whole[:, :, [0, place, 3]]
    thin, full = (Batch(batch.domains, (clips[0], clips[1]), DRAWS) for clips in (some, whole))
    costs = [made.generator_loss(given, made(given)) for made, given in ((step, thin), (both, full))]
    for name in ("bx", "by"):
        torch.testing.assert_close(costs[0][name], costs[1][name], rtol=0, atol=1e-5)


def test_in_betweens_can_be_trained_for() -> None:
    step, _ = step_with(between_weight=1.0)
    clips = (moving(3).movedim(-1, 1).float() / 127.5 - 1).unsqueeze(0)
    draws, domain = Draws(0, 0, 0, 1), step.net.domains[0]
    optimiser = torch.optim.Adam(step.net.parameters(), 5e-3, betas=(0.5, 0.999))
    history = []
    for _ in range(25):
        cost = step._between_cost(step.net.encode(clips[:, 0], "summer"), clips, domain, draws)
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        history.append(cost.item())
    assert history[-1] < 0.6 * history[0]


def test_a_run_over_time_takes_clips_of_one_drive_and_resumes_exactly(tmp_path: Path) -> None:
    recipe = recipe_with(clip=3, distance=2, sequential=True, variation_weight=1.0, between_weight=0.5)
    cache = tmp_path / "cache"
    run = Run(recipe, tmp_path / "whole", cache=cache)
    frames = run.frames[0]
    assert isinstance(frames, StreetFrames)
    drawn = run.batches._drawn(0, DRAWS, run.step_module.offsets(DRAWS))
    everything = torch.from_numpy(frames._frames.copy())
    for clip in drawn:
        places = [int((everything - frame).abs().flatten(1).sum(1).argmin()) for frame in clip]
        assert [place - places[0] for place in places] == [0, 2, 4]
        assert len({place // 7 for place in places}) == 1
    run.advance()
    Run(recipe, tmp_path / "cut", cache=cache).advance(1)
    resumed = Run(recipe, tmp_path / "cut", cache=cache)
    resumed.resume()
    resumed.advance()
    whole, cut = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert all(torch.equal(tensor, cut[key]) for key, tensor in whole.items())
    rows = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert rows[0].keys() >= {"tx", "ty", "bx", "by", "rx", "gz"}


def test_a_clips_frames_are_flipped_alike(tmp_path: Path) -> None:
    run = Run(recipe_with(clip=2, sequential=True), tmp_path, cache=tmp_path / "cache")
    flips = []
    for step in range(6):
        draws = Draws(0, step, 0, 2)
        clips = run.batches._drawn(0, draws, (0, 1))
        prepared = run.batches._prepared(clips, 0, draws)
        plain = clips.movedim(-1, 2).float() / 127.5 - 1
        for sample, before in zip(prepared, plain, strict=True):
            flipped = [not torch.equal(after, frame) for after, frame in zip(sample, before, strict=True)]
            assert flipped[0] == flipped[1]
            flips.append(flipped[0])
    assert 0 < sum(flips) < len(flips)


def test_options_over_time_that_do_not_fit_are_refused() -> None:
    for change, hint in (
        ({"sequential": True, "clip": 1}, "data.clip of 2"),
        ({"between_weight": 1.0, "clip": 2}, "data.clip of 3"),
        ({"variation_weight": 1.0, "between_weight": 1.0}, "needs loss.sequential"),
        ({"clip": 4}, "nothing looks at it"),
    ):
        with pytest.raises(UsageError, match=hint):
            recipe_with(**change)
