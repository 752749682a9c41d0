"""benchmarks/temporal.py: what it counts, on gaps whose figures are known, and that its variants are recipes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.train.metrics import label_flicker, photo_flicker
from vidtrans.train.recipe import load_recipe

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "temporal.py"
SIZE = (48, 36)


@pytest.fixture(scope="module")
def temporal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("temporal", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["temporal"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_flicker_by_hand() -> None:
    truth = np.array([[[0, 0, 1, 1]], [[0, 0, 1, 2]]])
    made = np.array([[[0, 1, 1, 1]], [[0, 2, 1, 2]]])
    assert label_flicker(made, truth) == 1 / 4  # the second pixel; the last follows the truth
    assert label_flicker(truth, truth) == 0.0
    pictures = np.zeros((2, 1, 2, 3), np.uint8)
    pictures[1, 0, 0] = 30
    assert photo_flicker(pictures, np.zeros_like(pictures)) == 15.0
    assert photo_flicker(pictures, pictures + np.uint8(7)) == 0.0


def test_a_gap_without_motion_is_its_keyframe_however_it_is_blended(temporal: ModuleType) -> None:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    net = JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=SIZE)).eval()
    keyframe = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    labels = np.zeros((9, SIZE[1], SIZE[0]), np.uint8)
    scores = temporal.measured(net, [temporal.Truth(np.stack([keyframe] * 9), labels)], "cpu")
    for name in temporal.BLENDS:
        assert scores[name].label_flickers == [0.0]
        assert scores[name].photo_flickers == [0.0]
        assert len(scores[name].psnrs) == 7
        assert np.ptp(scores[name].psnrs) < 1e-3
    assert scores["in place"].labels.accuracy == scores["moved"].labels.accuracy
    assert all(cell.count(" / ") == 1 for cell in temporal.row("m", scores)[1:])


def test_variants_differ_from_the_recipe_in_nothing_but_their_own_keys(temporal: ModuleType) -> None:
    plain = load_recipe("street-named", temporal.FOOTAGE).to_json()
    for changes in temporal.VARIANTS.values():
        recipe = load_recipe("street-named", (*temporal.FOOTAGE, *changes)).to_json()
        changed = {
            f"{section}.{key}"
            for section in ("data", "loss", "train")
            for key in recipe[section]
            if recipe[section][key] != plain[section][key]
        }
        named = {change.partition("=")[0] for change in changes}
        assert changed <= named
        assert named - changed <= {"loss.between_motion"}  # "none" is the default, and said
