"""JWDM's tables as shapes and counts, and the identities the engines rest on."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from vidtrans.errors import UsageError
from vidtrans.latents import blend
from vidtrans.nets import make_net
from vidtrans.nets.blocks import NormReLU, ResidualBlock, Upsample2, coordinates, parameter_count
from vidtrans.nets.contract import Domain, SizeFacts, pad, padded_size
from vidtrans.nets.cyclegan import Generator
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.train.discriminators import LatentDiscriminator, Patch70, Table5, picture_discriminator

DOMAINS = (Domain("scene"), Domain("labels", "label", "street"))


@pytest.fixture(scope="module")
def paper() -> JWDM:
    torch.manual_seed(0)
    return JWDM(JWDMConfig(DOMAINS)).eval()


@pytest.fixture(scope="module")
def small() -> JWDM:
    torch.manual_seed(0)
    config = JWDMConfig(DOMAINS, width=8, latent_channels=12, blocks=2, upsampling="resize", label_head="palette")
    return JWDM(config).eval()


def shapes_through(layers: nn.Sequential, x: torch.Tensor) -> list[tuple[int, ...]]:
    """(C, H, W) after every layer that changes the shape or convolves."""
    shapes = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | ResidualBlock | Upsample2 | nn.Linear):
            shapes.append(tuple(x.shape[1:]))
    return shapes


@torch.no_grad()
def test_encoder_follows_table_4(paper: JWDM) -> None:
    got = shapes_through(paper.encoders["scene"], torch.zeros(1, 3, 128, 128))
    assert got == [(64, 128, 128), (128, 64, 64), *[(256, 32, 32)] * 7, (256, 25, 25)]
    assert paper.encode(torch.randn(1, 3, 256, 256), "scene").shape == (1, 256, 57, 57)


@torch.no_grad()
def test_decoder_follows_table_4(paper: JWDM) -> None:
    decoder = paper.decoders["labels"]
    lifted = paper.lift(torch.zeros(1, 256, 25, 25), "labels")
    assert lifted.shape == (1, 256, 32, 32)
    got = shapes_through(decoder.finish, torch.randn(1, 256, 32, 32))
    assert got == [*[(256, 32, 32)] * 6, (128, 64, 64), (64, 128, 128), (3, 128, 128)]
    assert isinstance(decoder.finish[-1], nn.Tanh)


def test_parameter_counts_at_the_papers_width(paper: JWDM) -> None:
    assert (
        parameter_count(paper.encoders["scene"]) == 11_650_240
    )  # 11.65 M, no biases: a norm follows every convolution
    assert parameter_count(paper.decoders["scene"]) == 11_650_243  # and three biases before the Tanh
    one_conv = JWDM(JWDMConfig(DOMAINS, res_convs=1))
    assert round(parameter_count(one_conv.encoders["scene"]) / 1e6, 1) == 8.1


@torch.no_grad()
def test_discriminators_follow_table_5_and_the_alternatives() -> None:
    table5 = Table5()
    got = shapes_through(table5, torch.zeros(1, 3, 128, 128))
    assert got == [(64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2), (1, 2, 2)]
    assert table5(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 4, 4)
    assert parameter_count(table5) == 44_717_056
    assert Patch70()(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert picture_discriminator("coordinates", 8)(torch.zeros(2, 3, 64, 128)).shape == (2, 1, 4, 8)
    assert picture_discriminator("coarse", 8)(torch.zeros(2, 3, 64, 128)).shape == (2, 1, 2, 4)
    assert LatentDiscriminator(256)(torch.zeros(1, 256, 25, 25)).shape == (1, 1, 25, 25)
    with pytest.raises(UsageError, match="table5"):
        picture_discriminator("tabel5", 8)


def test_coordinates_tell_top_from_bottom_and_are_mirror_symmetric() -> None:
    rows, columns = coordinates(torch.zeros(1, 1, 5, 7))[0]
    assert rows[0].eq(-1).all()
    assert rows[-1].eq(1).all()
    assert torch.equal(columns, columns.flip(-1))
    assert columns[0, 3].abs() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("domain", ["scene", "labels"])
def test_lifting_commutes_with_blending(paper: JWDM, domain: str) -> None:
    torch.manual_seed(1)
    z0, z1 = paper.encode(torch.randn(2, 3, 64, 96), "scene")
    times = [Fraction(k, 8) for k in range(8)]
    lifted = [paper.lift(z.unsqueeze(0), domain)[0] for z in (z0, z1)]
    of_latents = paper.lift(blend(z0, z1, times), domain)
    torch.testing.assert_close(blend(*lifted, times), of_latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        paper.finish(blend(*lifted, times), domain), paper.finish(of_latents, domain), rtol=0, atol=1e-4
    )


def test_time_runs_from_the_left_keyframe_to_the_right_one() -> None:
    # J13: the paper's rho ascending would run backwards. A toy whose latent is its position must ascend.
    positions = blend(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), [Fraction(k, 8) for k in range(8)]).flatten()
    assert torch.equal(positions, torch.arange(8) / 8)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(36, 36), (37, 51), (64, 97), (20, 90)])
def test_odd_sizes_are_padded_and_cropped_back(small: JWDM, height: int, width: int) -> None:
    x = torch.randn(1, 3, height, width)
    padded = pad(x, small.sizes)
    assert padded.shape[-2:] == padded_size(height, width, small.sizes)
    assert all(length % 4 == 0 and length >= 36 for length in padded.shape[-2:])
    assert torch.equal(padded[..., :height, :width], x)
    assert torch.equal(padded[..., height:, :width], x[..., -1:, :].expand(1, 3, padded.shape[-2] - height, width))
    assert small.decode(small.encode(padded, "scene"), "labels")[..., :height, :width].shape == x.shape


def test_sizes_that_fit_are_not_padded() -> None:
    x = torch.zeros(1, 3, 40, 44)
    assert pad(x, SizeFacts(4, 36, (64, 64))) is x


@torch.no_grad()
def test_palette_head_gives_the_expected_colour(small: JWDM) -> None:
    sky = DOMAINS[1].colours.index("sky")
    scores = torch.zeros(1, 10, 2, 2)
    scores[:, sky] = 100.0
    colour = small.colour(scores, "labels")[0, :, 0, 0]
    torch.testing.assert_close((colour + 1) * 127.5, torch.tensor([70.0, 130.0, 180.0]), rtol=0, atol=1e-3)
    even = small.colour(torch.zeros(1, 10, 1, 1), "labels").flatten()
    mean = torch.from_numpy(DOMAINS[1].colours.array.astype("float32")).mean(0) / 127.5 - 1
    torch.testing.assert_close(even, mean)
    assert small.has_scores("labels")
    assert not small.has_scores("scene")


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other(small: JWDM) -> None:
    x = torch.randn(3, 3, 40, 48)
    together = small.decode(small.encode(x, "scene"), "labels")
    alone = torch.cat([small.decode(small.encode(row.unsqueeze(0), "scene"), "labels") for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_any_number_of_domains_and_a_config_that_survives_json() -> None:
    seasons = tuple(Domain(name) for name in ("spring", "summer", "fall", "winter"))
    config = JWDMConfig(seasons, width=4, latent_channels=4, blocks=1, embedding="linear", trained_size=(64, 36))
    again = make_net("jwdm", config.to_json())
    assert again.config == config
    assert set(again.encoders) == {"spring", "summer", "fall", "winter"}
    assert not any(isinstance(part, NormReLU) for part in list(again.encoders["spring"])[-1:])


def shared_and_whole() -> tuple[JWDM, JWDM]:
    """A net with a shared trunk, and one without that has the same weights in every domain."""
    torch.manual_seed(0)
    domains = (Domain("spring"), Domain("winter"), DOMAINS[1])
    shape: dict[str, Any] = {"width": 4, "latent_channels": 6, "blocks": 2, "label_head": "palette"}
    shared, whole = (JWDM(JWDMConfig(domains, shared_trunk=flag, **shape)) for flag in (True, False))
    ours = shared.state_dict()

    def source(key: str) -> str:
        return key if key in ours else ".".join(("shared_" + key.split(".")[0][:-1], *key.split(".")[2:]))

    whole.load_state_dict({key: ours[source(key)] for key in whole.state_dict()})
    return shared, whole


@torch.no_grad()
def test_a_shared_trunk_is_whole_networks_with_equal_weights() -> None:
    shared, whole = shared_and_whole()
    x = torch.rand(2, 3, 40, 48) * 2 - 1
    for here in ("spring", "winter"):
        z = shared.encode(x, here)
        assert torch.equal(z, whole.encode(x, here))
        for domain in shared.domains:
            name = domain.name
            a = shared.lift(z, name)
            assert torch.equal(a, whole.lift(z, name))
            assert torch.equal(shared.finish(a, name), whole.finish(a, name))
            normed = torch.relu(torch.nn.functional.instance_norm(a))
            assert torch.equal(shared.finish_normed(normed, name), whole.finish_normed(normed, name))
            assert torch.equal(shared.decode(z, name), whole.decode(z, name))
    assert not torch.equal(shared.decode(z, "spring"), shared.decode(z, "winter"))


def test_a_shared_trunk_is_held_and_called_once() -> None:
    shared, whole = shared_and_whole()
    pointers = [tensor.data_ptr() for tensor in shared.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
    assert make_net("jwdm", shared.config.to_json()).state_dict().keys() == shared.state_dict().keys()
    assert len(shared.parts()) == 1 + 2 + 3  # encoder, lift and blocks, and every domain's end
    assert len(whole.parts()) == 3 * 3
    for net in (shared, whole):
        parameters = [id(parameter) for part in net.parts() for parameter in part.parameters()]
        assert sorted(parameters) == sorted(id(parameter) for parameter in net.parameters())


def test_wrong_configs_are_refused() -> None:
    with pytest.raises(UsageError, match="different names"):
        JWDMConfig((Domain("a"), Domain("a")))
    with pytest.raises(UsageError, match="upsampling"):
        JWDMConfig(DOMAINS, upsampling="bicubic")
    with pytest.raises(UsageError, match="palette"):
        Domain("labels", "label")
    with pytest.raises(UsageError, match="letters"):
        Domain("../up")
    with pytest.raises(UsageError, match="jwdm"):
        make_net("jwdn", {})


# CycleGAN


@pytest.mark.parametrize(("blocks", "parameters"), [(9, 11_374_000), (6, 7_834_000)])
def test_cyclegans_generator_is_the_papers(blocks: int, parameters: int) -> None:
    generator = Generator(blocks=blocks)
    assert parameter_count(generator) == pytest.approx(parameters, abs=10_000)
    with torch.no_grad():
        out = generator(torch.rand(1, 3, 64, 48) * 2 - 1)
    assert out.shape == (1, 3, 64, 48)
    assert out.abs().max() <= 1
