"""The evaluation on held-out streets, against the same figures counted by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from vidtrans.nets.contract import Domain, to_unit
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.palettes import STREET
from vidtrans.train import evaluate
from vidtrans.train.street import Street

SIZE = (48, 36)
SEED = 4_000_000


@pytest.fixture(scope="module")
def net() -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    return JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=SIZE)).eval()


@torch.no_grad()
def test_figures_are_those_of_the_papers_algorithm(net: JWDM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "STARTS", (3.0,))
    monkeypatch.setattr(evaluate, "BLIND_SEEDS", range(SEED + 1, SEED + 3))
    scores = evaluate.evaluate_street(net, seeds=range(SEED, SEED + 1))

    street = Street(SEED)
    gap = Fraction(2, 15)
    truth = [street.render(3.0 + float(gap * k / 8), *SIZE) for k in range(9)]
    z0, z1 = (net.encode(to_unit(truth[k].rgb.unsqueeze(0)), "scene") for k in (0, 8))
    hits = []
    for k in range(8):
        latent = torch.lerp(z0, z1, k / 8)
        classes = net.finish(net.lift(latent, "segmentation"), "segmentation").argmax(1)[0]
        hits.append((classes == truth[k].labels).float().mean().item())
    assert scores.keyframes.accuracy == pytest.approx(hits[0], abs=0.002)
    assert scores.between.accuracy == pytest.approx(np.mean(hits[1:]), abs=0.002)
    own = ((net.decode(z0, "scene")[0] + 1) * 127.5).round().movedim(0, -1)
    error = (own - truth[0].rgb.float()).square().mean().item()
    assert scores.reconstruction_db == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)

    blind = evaluate.picture_blind(*SIZE, range(SEED + 1, SEED + 3))
    assert scores.blind.accuracy == pytest.approx((blind == truth[0].labels.numpy()).mean())
    figures = scores.to_json()
    assert figures["classes"] == list(STREET.classes)
    assert figures["keyframes"]["accuracy"] == pytest.approx(scores.keyframes.accuracy, abs=1e-4)
    assert "pixel accuracy" in scores.table()


def test_the_picture_blind_guess_is_the_most_frequent_class() -> None:
    seeds = range(SEED, SEED + 3)
    labels = np.stack([STREET.nearest(evaluate.street_frames("segmentation", seed, 1, *SIZE)[0]) for seed in seeds])
    counts = np.stack([(labels == number).sum(0) for number in range(len(STREET))])
    assert (evaluate.picture_blind(*SIZE, seeds) == counts.argmax(0)).all()


def test_held_out_seeds_are_apart_from_everything_else() -> None:
    assert not set(evaluate.HELD_OUT_SEEDS) & set(evaluate.BLIND_SEEDS)
    assert len(evaluate.HELD_OUT_SEEDS) == 20
