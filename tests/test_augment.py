"""Augmentation: what each change does, that a sample's draw is its own, and that labels stay labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidtrans.errors import UsageError
from vidtrans.nets.contract import to_unit
from vidtrans.palettes import STREET
from vidtrans.train.augment import Augment
from vidtrans.train.draws import Draws
from vidtrans.train.recipe import DataOptions

ALL = Augment(DataOptions(size=(52, 44), crop=(40, 36), flip=True, jitter=0.2))
SEEDS = [Draws(0, 7, 0, 12).key("augment", place) for place in range(12)]


def photos(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_sample_is_changed_alike_however_the_batch_is_divided() -> None:
    x = photos(12, 3, 44, 52)
    whole = ALL(x, SEEDS, is_label=False)
    assert whole.shape == (12, 3, 36, 40)
    for share in (1, 3, 4):
        parts = [ALL(x[k : k + share], SEEDS[k : k + share], is_label=False) for k in range(0, 12, share)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    torch.manual_seed(3)  # the global state neither matters nor moves
    before = torch.get_rng_state()
    assert torch.equal(ALL(x, SEEDS, is_label=False), whole)
    assert torch.equal(torch.get_rng_state(), before)
    same = ALL(x[:1].expand(12, -1, -1, -1), SEEDS, is_label=False)
    assert len({sample.numpy().tobytes() for sample in same}) == 12


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    frame = photos(12, 1, 3, 44, 52)
    changed = ALL(frame.expand(-1, 4, -1, -1, -1), SEEDS, is_label=False)
    assert changed.shape == (12, 4, 3, 36, 40)
    for k in range(4):
        torch.testing.assert_close(changed[:, k], ALL(frame[:, 0], SEEDS, is_label=False), rtol=0, atol=1e-6)
    # Contrast does not look at the frame: the same pixel beside others comes out the same.
    dark = frame.clone()
    dark[..., 22:, :] = -1.0
    jitter = Augment(DataOptions(size=(52, 44), jitter=0.2))
    left, right = (jitter(x, SEEDS, is_label=False)[..., :22, :] for x in (frame, dark))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_labels_keep_their_colours_and_photos_do_not() -> None:
    classes = torch.randint(len(STREET), (12, 44, 52), generator=torch.Generator().manual_seed(2))
    labels = to_unit(torch.from_numpy(STREET.colour(classes.numpy())))

    def colours(x: Tensor) -> set[tuple[float, ...]]:
        return {tuple(colour) for colour in x.movedim(1, -1).reshape(-1, 3).tolist()}

    pure = colours(to_unit(torch.from_numpy(STREET.array)[None, None]))
    assert colours(ALL(labels, SEEDS, is_label=True)) == pure
    assert not colours(ALL(labels, SEEDS, is_label=False)) & pure
    # The geometry is drawn alike for both kinds.
    plain = Augment(DataOptions(size=(52, 44), crop=(40, 36), flip=True))
    assert torch.equal(ALL(labels, SEEDS, is_label=True), plain(labels, SEEDS, is_label=False))


def test_crops_reach_every_place_and_flips_mirror_half() -> None:
    x = torch.arange(4.0 * 6).view(1, 1, 4, 6).expand(400, 3, 4, 6)
    seeds = [Draws(0, 0, 0, 400).key("augment", place) for place in range(400)]
    crop = Augment(DataOptions(size=(38, 37), crop=(36, 36)))
    places = torch.arange(37.0 * 38).view(1, 1, 37, 38).expand(400, 3, 37, 38)
    corners = crop(places, seeds, is_label=False)[:, 0, 0, 0].tolist()
    assert set(corners) == {0.0, 1.0, 2.0, 38.0, 39.0, 40.0}
    assert min(corners.count(corner) for corner in set(corners)) > 40
    flipped = Augment(DataOptions(flip=True))(x, seeds, is_label=False)
    mirrored = [torch.equal(sample, x[0].flip(-1)) for sample in flipped]
    assert all(turned or torch.equal(sample, x[0]) for turned, sample in zip(mirrored, flipped, strict=True))
    assert 150 < sum(mirrored) < 250
    nothing = Augment(DataOptions())(x, seeds, is_label=False)
    assert torch.equal(nothing, x)


def test_jitter_is_light_and_centred() -> None:
    grey = torch.zeros(400, 3, 2, 2)
    seeds = [Draws(0, 0, 0, 400).key("augment", place) for place in range(400)]
    out = Augment(DataOptions(jitter=0.1))(grey, seeds, is_label=False)[:, :, 0, 0]
    assert out.abs().max() <= 0.1 + 1e-5
    assert out.std() > 0.03
    assert abs(out.mean()) < 0.02
    torch.testing.assert_close(out[:, 0], out[:, 1])  # grey stays grey
    with pytest.raises(UsageError, match="jitter"):
        DataOptions(jitter=0.8)
