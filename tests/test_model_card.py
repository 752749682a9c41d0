"""The bundled model's card: frozen things stay frozen, and its figures are the file's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vidtrans.checkpoint import load_model
from vidtrans.train.data import street_hash
from vidtrans.train.evaluate import BLIND_SEEDS, HELD_OUT_SEEDS
from vidtrans.train.recipe import load_recipe, parse_recipe

ROOT = Path(__file__).parent.parent
CARD = (ROOT / "docs" / "model-card.md").read_text()


def test_the_street_is_the_one_the_model_was_measured_on() -> None:
    assert street_hash() in CARD


def test_no_training_seed_is_held_out() -> None:
    data = load_recipe("street").data
    streets = -(-data.street_frames // data.street_frames_per_seed)
    training = {data.street_seed + domain * 1_000_000 + k for domain in (0, 1) for k in range(streets)}
    assert not training & set(HELD_OUT_SEEDS)
    assert not set(BLIND_SEEDS) & set(HELD_OUT_SEEDS)
    assert f"{HELD_OUT_SEEDS[0]:,} to {HELD_OUT_SEEDS[-1]:,}" in CARD


def test_the_card_is_of_the_bundled_file_and_its_recipe() -> None:
    model = load_model("street")
    file = ROOT / "vidtrans" / "models" / "street.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in CARD
    assert parse_recipe(model.trained["recipe"]) == load_recipe("street")
    for row in ("keyframes", "in_betweens", "picture_blind"):
        assert f"{model.quality[row]['accuracy']:.3f}" in CARD
        assert f"{model.quality[row]['mean_iou']:.3f}" in CARD
