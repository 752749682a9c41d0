"""The evaluation of seasons on held-out streets, against the same figures counted by hand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from vidtrans.checkpoint import save_model
from vidtrans.cli.evaluate import command
from vidtrans.compose import Composer
from vidtrans.engines import open_engine
from vidtrans.errors import UsageError
from vidtrans.gaps import Tracker
from vidtrans.nets.contract import Domain, to_unit
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.pipeline import Network
from vidtrans.timeline import Instant, Interval
from vidtrans.train import evaluate
from vidtrans.train.evaluate_seasons import Direction, Reconstruction, SeasonScores, evaluate_seasons, seasons_of
from vidtrans.train.street import Street
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

SIZE = (48, 36)
SEED = 4_000_000


def net_of(*names: str) -> JWDM:
    torch.manual_seed(0)
    domains = tuple(Domain(name, "label", "street") if name == "segmentation" else Domain(name) for name in names)
    return JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=SIZE)).eval()


@torch.no_grad()
def test_figures_of_the_decoding_are_those_of_the_papers_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    net, seeds = net_of("summer", "winter"), range(SEED, SEED + 2)
    scores = evaluate_seasons(net, seeds=seeds)

    made_l1, plain_l1, own_l1 = (torch.zeros(8) for _ in range(3))
    for seed in seeds:
        instants = [3.0 + 2.0 / 15.0 * k / 8.0 for k in range(9)]
        summer, winter = (
            torch.stack([Street(seed, season).render(instant, *SIZE).rgb for instant in instants]).movedim(-1, 1)
            for season in ("summer", "winter")
        )
        z0, z1 = (net.encode(to_unit(summer[[k]].movedim(1, -1)), "summer") for k in (0, 8))
        for k in range(8):
            z = torch.lerp(z0, z1, k / 8)
            for season, truth, sums in (("winter", winter, made_l1), ("summer", summer, own_l1)):
                grey = ((net.decode(z, season)[0] + 1.0) * 127.5).round().clamp(0, 255)
                sums[k] += (grey - truth[k]).abs().mean() / 2
            plain_l1[k] += (summer[k].float() - winter[k]).abs().mean() / 2
    row = scores.decoded["summer", "winter"]
    assert row.l1 == pytest.approx(made_l1[0].item(), abs=0.01)
    assert row.untranslated_l1 == pytest.approx(plain_l1[0].item(), abs=1e-4)
    assert row.between_l1 == pytest.approx(made_l1[1:].mean().item(), abs=0.01)
    assert row.between_untranslated_l1 == pytest.approx(plain_l1[1:].mean().item(), abs=1e-4)
    assert scores.reconstructions["summer"].l1 == pytest.approx(own_l1[0].item(), abs=0.01)
    assert scores.reconstructions["summer"].between_l1 == pytest.approx(own_l1[1:].mean().item(), abs=0.01)
    assert set(scores.decoded) == set(scores.directions) == {("summer", "winter"), ("winter", "summer")}
    assert scores.decoded["winter", "summer"].untranslated_l1 == row.untranslated_l1


@torch.no_grad()
def test_figures_of_what_is_written_are_those_of_upsample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the stages of `upsample` themselves."""
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    net, gap = net_of("summer", "winter"), Fraction(2, 15)
    row = evaluate_seasons(net, seeds=range(SEED, SEED + 1)).directions["summer", "winter"]

    summer, winter = (
        np.stack([Street(SEED, season).render(3.0 + float(gap) * k / 8, *SIZE).rgb.numpy() for k in range(9)])
        for season in ("summer", "winter")
    )
    pix_fmt, colour = PIXEL_FORMATS["gbrp"], Colour("bt601", full_range=True)
    keyframes = [
        Frame(tuple(np.ascontiguousarray(summer[k][..., c]) for c in (1, 2, 0)), k * gap / 8, gap, pix_fmt, colour)
        for k in (0, 8)
    ]
    instants = tuple(Instant(Fraction(k, 8), k * gap / 8, gap / 8) for k in range(8))
    moving = Tracker(moving=True, cut_threshold=1.0)(Interval(*keyframes, instants))
    item = Network(open_engine("torch", net, "summer", ["winter"], SIZE))([moving])[0]
    composer = Composer(
        net.domains[1],
        scores=False,
        size=SIZE,
        pix_fmt=pix_fmt,
        colour=colour,
        is_source=False,
        carry_detail=True,
    )
    assert item.right is not None
    frames = composer.frames(
        item.interval,
        item.outputs["winter"],
        item.left["summer"],
        item.right["summer"],
        item.motion,
        left_made=item.left["winter"],
        right_made=item.right["winter"],
    )
    made = np.stack([np.stack([frame.planes[c] for c in (2, 0, 1)], -1) for frame in frames])
    distances = np.abs(made.astype(int) - winter[:8]).mean((1, 2, 3))
    assert row.l1 == pytest.approx(distances[0], abs=0.01)
    assert row.between_l1 == pytest.approx(distances[1:].mean(), abs=0.01)


def test_percentages_and_tables_follow_from_the_distances() -> None:
    there, back = Direction(20.0, 40.0, 21.0, 42.0), Direction(30.0, 40.0, 33.0, 44.0)
    own = Reconstruction(5.0, 30.0, 6.0, 29.0)
    rows = {("summer", "winter"): there, ("winter", "summer"): back}
    scores = SeasonScores(rows, dict.fromkeys(rows, back), {"summer": own, "winter": own})
    assert (there.closer_percent, back.closer_percent) == pytest.approx((50.0, 25.0))
    assert there.between_worse_percent == pytest.approx(5.0)
    means = scores.to_json()["written"]["mean of all directions"]
    assert means["closer_percent"] == pytest.approx(37.5)
    assert means["between_worse_percent"] == pytest.approx(7.5)
    assert means["l1"] == 25.0
    assert scores.to_json()["decoded"]["mean of all directions"]["l1"] == 30.0
    lines = scores.table().splitlines()
    assert "| summer to winter | 40.00 | 20.00 | 50.0 % | 21.00 | 50.0 % | +5.0 % |" in lines
    assert "| mean of all directions | 40.00 | 25.00 | 37.5 % | 27.00 | 37.5 % | +7.5 % |" in lines
    assert "| winter | 5.00 | 30.0 dB | 6.00 | 29.0 dB |" in lines


def test_seasons_are_the_photo_domains_that_differ() -> None:
    assert seasons_of(net_of("winter", "scene", "segmentation", "summer")) == ("winter", "scene")  # both are summer
    with pytest.raises(UsageError, match="seasons"):
        evaluate_seasons(net_of("scene", "segmentation"))


def test_the_command_measures_what_the_model_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    monkeypatch.setattr(evaluate, "BLIND_SEEDS", range(SEED, SEED + 1))
    model, figures = tmp_path / "m.safetensors", tmp_path / "figures.json"
    save_model(model, net_of("scene", "segmentation", "fall"))
    arguments = [str(model), "--streets", "1", "--development", "--json", str(figures)]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(figures.read_text())
    assert "accuracy" in found["keyframes"]
    assert {"scene to fall", "fall to scene"} <= set(found["written"])
    assert set(found["reconstruction"]) == {"scene", "fall"}
    assert "street 8500000" in done.stderr
    assert "pixel accuracy" in done.stdout
    assert "mean of all directions" in done.stdout
    save_model(model, net_of("dusk", "dawn"))
    with pytest.raises(UsageError, match="no truth for a model of dusk, dawn"):
        CliRunner().invoke(command, [str(model)], catch_exceptions=False)
