"""The torch engine is the reference: it must equal the net itself."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from vidtrans.engines import ENGINES, open_engine
from vidtrans.engines.contract import Gap, working_size
from vidtrans.errors import DeviceError, UsageError
from vidtrans.nets.contract import Domain, to_unit
from vidtrans.nets.jwdm import JWDM, JWDMConfig

TIMES = tuple(Fraction(k, 8) for k in range(8))


@pytest.fixture(scope="module")
def net() -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    return JWDM(JWDMConfig(domains, width=6, latent_channels=8, blocks=1, label_head="palette")).eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (3, 40, 52, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@torch.no_grad()
def test_between_is_the_papers_algorithm_2(net: JWDM, frames: torch.Tensor) -> None:
    engine = open_engine("torch", net, "scene", ["labels"], (52, 40))
    left, right = engine.encode(frames[:2])
    got = engine.between([Gap(left, right, TIMES)])[0]
    z0, z1 = (net.encode(to_unit(frame.unsqueeze(0)), "scene") for frame in frames[:2])
    assert list(got) == ["scene", "labels"]
    for domain, out in got.items():
        for row, t in zip(out, TIMES, strict=True):
            latent = (1 - float(t)) * z0 + float(t) * z1
            want = net.finish(net.lift(latent, domain), domain)[0]
            torch.testing.assert_close(row, want, rtol=0, atol=1e-4)


def test_a_keyframes_own_decoding_is_the_output_at_t_0_and_is_made_once(net: JWDM, frames: torch.Tensor) -> None:
    engine = open_engine("torch", net, "scene", ["labels"], (52, 40))
    left, right = engine.encode(frames[:2])
    for domain in ("scene", "labels"):
        out = engine.between([Gap(left, right, TIMES)])[0][domain]
        assert torch.equal(out[0], left.decoded[domain])
        held = engine.between([Gap(left, left, (Fraction(0),))])[0][domain]
        assert torch.equal(held[0], left.decoded[domain])
        # Blending a keyframe with itself is the keyframe.
        same = engine.between([Gap(left, left, TIMES)])[0][domain]
        torch.testing.assert_close(same, out[:1].expand_as(same), rtol=0, atol=1e-4)


def test_batches_and_gaps_do_not_see_each_other(net: JWDM, frames: torch.Tensor) -> None:
    engine = open_engine("torch", net, "scene", ["labels"], (52, 40))
    together = engine.encode(frames)
    alone = [engine.encode(frame.unsqueeze(0))[0] for frame in frames]
    gaps = [Gap(together[0], together[1], TIMES), Gap(together[1], together[2], TIMES[3:5])]
    both = engine.between(gaps)
    for got, (one, two, times) in zip(both, ((0, 1, TIMES), (1, 2, TIMES[3:5])), strict=True):
        single = engine.between([Gap(alone[one], alone[two], times)])[0]
        for domain, out in single.items():
            assert got[domain].shape[0] == len(times)
            torch.testing.assert_close(got[domain], out, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(52, 40), (37, 41), (64, 30)])
def test_output_has_the_working_size_whatever_the_net_needs(
    net: JWDM, frames: torch.Tensor, size: tuple[int, int]
) -> None:
    engine = open_engine("torch", net, "scene", ["labels"], size)
    left, right = engine.encode(frames[:2])
    out = engine.between([Gap(left, right, TIMES[:2])])[0]
    assert out["scene"].shape == (2, 3, size[1], size[0])
    assert out["labels"].shape == (2, 10, size[1], size[0])


def test_sixteen_bit_frames_mean_the_same(net: JWDM, frames: torch.Tensor) -> None:
    engine = open_engine("torch", net, "scene", ["labels"], (52, 40))
    deep = (frames.to(torch.int32) * 257).to(torch.uint16)
    eight, sixteen = engine.encode(frames[:1])[0], engine.encode(deep[:1])[0]
    torch.testing.assert_close(eight.decoded["labels"], sixteen.decoded["labels"], rtol=0, atol=1e-4)


def test_labels_are_picked_not_mixed_on_the_way_in(net: JWDM) -> None:
    labels = torch.randint(0, 10, (1, 80, 104), generator=torch.Generator().manual_seed(0))
    palette = net.domains[1].colours
    frames = torch.from_numpy(palette.colour(labels.numpy()))
    engine = open_engine("torch", net, "labels", ["scene"], (52, 40))
    small = ((engine._prepare(frames)[0].movedim(0, -1) + 1) * 127.5).round().to(torch.uint8)
    assert {tuple(colour) for colour in small.reshape(-1, 3).tolist()} <= set(palette.colours)


def test_working_size_keeps_the_aspect() -> None:
    assert working_size((512, 256), 64) == (128, 64)
    assert working_size((1920, 1080), 64) == (114, 64)
    assert working_size((1, 1000), 64) == (1, 64)


def test_mistakes_are_named(net: JWDM) -> None:
    with pytest.raises(UsageError, match=", ".join(ENGINES)):
        open_engine("tensorflow", net, "scene", ["labels"], (52, 40))
    with pytest.raises(DeviceError, match="--device cpu"):
        open_engine("torch", net, "scene", ["labels"], (52, 40), "cuda:99")
    with pytest.raises(ValueError, match="ascending"):
        Gap(None, None, (Fraction(1, 2), Fraction(1, 4)))  # type: ignore[arg-type]
