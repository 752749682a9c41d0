"""UNIT: Table 3 as shapes and counts, Eqs. (3) to (8) as equalities, and the same output from every engine."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import vidtrans
from vidtrans.checkpoint import load_model
from vidtrans.engines import cuda_engine, latents_triton, open_engine
from vidtrans.engines.contract import Gap
from vidtrans.engines.cuda_engine import CudaEngine
from vidtrans.engines.norms_triton import FusedNorm, FusedResidual, fuse_norms
from vidtrans.engines.onnx_export import Graph
from vidtrans.errors import UsageError
from vidtrans.model_card import card_text, read_card
from vidtrans.model_care import verify_model
from vidtrans.model_library import find_model
from vidtrans.nets import make_net
from vidtrans.nets.blocks import ResidualBlock, parameter_count
from vidtrans.nets.contract import Domain, pad, to_unit
from vidtrans.nets.unit import UNIT, UNITConfig
from vidtrans.train.discriminators import UnitTable3
from vidtrans.train.draws import Draws
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Run, saved_recipe
from vidtrans.train.recipe import Recipe, load_recipe, parse_recipe
from vidtrans.train.step import Batch
from vidtrans.train.unit_options import UNITOptions
from vidtrans.train.unit_step import UNITStep, latent_divergence

PHOTOS = (Domain("summer"), Domain("winter"))
STREET = (Domain("scene"), Domain("segmentation", "label", "street"))
EIGHTHS = tuple(Fraction(k, 8) for k in range(8))


def tiny(domains: tuple[Domain, ...] = STREET, **changes: Any) -> UNIT:
    torch.manual_seed(0)
    config = {"width": 2, "blocks": 2, "label_head": "palette", "trained_size": (48, 36), **changes}
    return UNIT(UNITConfig(domains, **config)).eval()


# Table 3


def conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> int:
    """Numbers of a convolution."""
    return inputs * outputs * kernel**2 + bias * outputs


def test_parameter_counts_at_the_papers_width_are_table_3s() -> None:
    with torch.device("meta"):
        net = UNIT(UNITConfig(PHOTOS))
        official = UNIT(UNITConfig(PHOTOS, channels="official"))
        literal = UNIT(UNITConfig(PHOTOS, norm="none"))
        discriminator = UnitTable3()
    front = conv(3, 64, 7) + conv(64, 128, 3) + conv(128, 256, 3)
    # Two convolutions, normed, so without biases; the first block is projected from 256 to 512 (U1).
    block = 2 * conv(512, 512, 3, bias=False)
    first = conv(256, 512, 3, bias=False) + conv(512, 512, 3, bias=False) + conv(256, 512, 1, bias=False)
    back = conv(512, 256, 3) + conv(256, 128, 3) + conv(128, 3, 1)
    assert parameter_count(net.encoders["summer"]) == front + first + 2 * block
    assert parameter_count(net.decoders["winter"]) == 3 * block + back
    assert parameter_count(net.shared_encoder) == parameter_count(net.shared_decoder) == block
    assert parameter_count(net) == 2 * (front + first + 5 * block + back) + 2 * block == 67_670_790
    # Constant 256 in the authors' code, so 128 and 64 channels on the way up.
    small = 2 * conv(256, 256, 3, bias=False)
    up = conv(256, 128, 3) + conv(128, 64, 3) + conv(64, 3, 1)
    assert parameter_count(official) == 2 * (front + 6 * small + up) + 2 * small
    # Without norms every convolution has a bias (U8).
    assert parameter_count(literal) == parameter_count(net) + (2 * 6 + 2) * 2 * 512
    layers = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    assert parameter_count(discriminator) == sum(conv(*row, 3) for row in layers) + conv(1024, 1, 2)


def test_shapes_are_table_3s() -> None:
    def through(layers: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
        shapes = []
        for layer in layers.children():
            x = layer(x)
            if not isinstance(layer, nn.LeakyReLU | nn.Tanh):
                shapes.append(tuple(x.shape[1:]))
        return shapes

    with torch.device("meta"):
        net, discriminator = UNIT(UNITConfig(PHOTOS)), UnitTable3()
        encoder = [(64, 128, 192), (128, 64, 96), (256, 32, 48), *[(512, 32, 48)] * 3]
        assert through(net.encoders["summer"], torch.empty(1, 3, 128, 192)) == encoder
        latent = net.encode(torch.empty(1, 3, 128, 192), "summer")
        assert latent.shape == (1, 512, 32, 48)
        generator = [*[(512, 32, 48)] * 3, (256, 64, 96), (128, 128, 192), (3, 128, 192)]
        assert through(net.decoders["winter"], latent) == generator
        assert isinstance(net.decoders["winter"][-1], nn.Tanh)
        maps = [(64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16), (1024, 8, 8), (1, 7, 7)]
        assert through(discriminator, torch.empty(1, 3, 256, 256)) == maps
        assert discriminator(torch.empty(1, 3, 480, 640)).shape == (1, 1, 14, 19)


def used_by(net: UNIT, loss: Tensor) -> set[str]:
    """Names of the parameters that a loss has a gradient for."""
    gradients = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    named = zip(net.named_parameters(), gradients, strict=True)
    return {name for (name, _), gradient in named if gradient is not None and bool(gradient.any())}


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_all_domains_share_the_last_blocks_of_encoders_and_the_first_of_generators(shared: int) -> None:
    seasons = tuple(Domain(name) for name in ("spring", "summer", "fall"))
    net, x = tiny(seasons, shared_blocks=shared), torch.randn(1, 3, 16, 20)
    latents = {domain.name: net.encode(x, domain.name) for domain in seasons}
    encoders = [used_by(net, z.square().sum()) for z in latents.values()]
    z = latents["fall"].detach()
    generators = [used_by(net, net.decode(z, domain.name).square().sum()) for domain in seasons]
    for used, part in ((encoders, "shared_encoder."), (generators, "shared_decoder.")):
        both = {name for name, _ in net.named_parameters() if name.startswith(part)}
        assert used[0] & used[1] == used[1] & used[2] == both
        assert len([name for name in both if name.endswith("weight") and ".body." in name]) == 2 * shared
    # Nothing is held twice, neither in the file nor by the optimiser; in all, every parameter is used.
    assert set().union(*encoders, *generators) == {name for name, _ in net.named_parameters()}
    pointers = [tensor.data_ptr() for tensor in net.state_dict().values()]
    assert len(set(pointers)) == len(pointers)


def test_a_config_survives_json_and_wrong_ones_are_refused() -> None:
    net = tiny(channels="official", norm="none", shared_blocks=0)
    assert make_net("unit", net.config.to_json()).config == net.config
    assert not any(isinstance(part, nn.InstanceNorm2d) for part in net.modules())
    for changes, hint in (
        ({"channels": "512"}, "channels"),
        ({"norm": "batch"}, "norm"),
        ({"blocks": 2, "shared_blocks": 3}, "shared_blocks"),
        ({"shared_blocks": -1}, "shared_blocks"),
    ):
        with pytest.raises(UsageError, match=hint):
            UNITConfig(STREET, **changes)


# Eqs. (3) to (8)

RECIPE: dict[str, Any] = {
    "method": "unit",
    "domains": [
        {"name": "scene", "data": "street:scene"},
        {"name": "segmentation", "kind": "label", "palette": "street", "data": "street:segmentation"},
    ],
    "net": {"width": 2, "blocks": 2},
    "data": {"size": [48, 36], "street_frames": 4, "street_frames_per_seed": 2, "flip": True},
    "loss": {"discriminator_width": 2},
    "train": {"batch": 2, "constant": 2, "decay": 2, "warmup": 1, "unit": "steps", "log_every": 1},
}


def recipe_of(**changes: Any) -> Recipe:
    return parse_recipe({**RECIPE, **changes})


def step_of(recipe: Recipe, numbers: tuple[int, int] = (0, 1)) -> tuple[UNITStep, Batch]:
    torch.manual_seed(0)
    step = UNITStep(UNIT(recipe.net_config()), recipe, torch.device("cpu")).double()
    clips = tuple(torch.rand(2, 1, 3, 36, 48, dtype=torch.float64) * 2 - 1 for _ in numbers)
    domains = tuple(step.net.domains[number] for number in numbers)
    return step, Batch(domains, clips, Draws(0, 0, 0, 2))  # type: ignore[arg-type]


def papers_losses(step: UNITStep, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Eqs. (3) to (8) for domains 1 and 2, written down once more, one network pass at a time."""
    net, one, two = step.net, batch.domains[0].name, batch.domains[1].name
    noise = {key: batch.draws.normal(f"noise {key}", net.encode(batch.x, one)) for key in ("x", "y", "xy", "yx")}
    m1, m2 = net.encode(batch.x, one), net.encode(batch.y, two)
    z1, z2 = m1 + noise["x"], m2 + noise["y"]
    x12, x21 = net.decode(z1, two), net.decode(z2, one)
    m12, m21 = net.encode(x12, two), net.encode(x21, one)
    d1, d2 = (lambda x, name=name: torch.sigmoid(step.data[name].critic(x)) for name in (one, two))

    def kl(mean: Tensor) -> Tensor:
        return 0.5 * (mean**2).mean()

    def unlikely(x: Tensor, want: Tensor) -> Tensor:
        return (x - want).abs().mean()

    descent = {
        "k1": 0.1 * kl(m1),
        "k2": 0.1 * kl(m2),
        "r1": 100 * unlikely(net.decode(z1, one), batch.x),
        "r2": 100 * unlikely(net.decode(z2, two), batch.y),
        "g1": -10 * torch.log(d1(x21)).mean(),
        "g2": -10 * torch.log(d2(x12)).mean(),
        "q1": 0.1 * (kl(m1) + kl(m12)),
        "q2": 0.1 * (kl(m2) + kl(m21)),
        "c1": 100 * unlikely(net.decode(m12 + noise["xy"], one), batch.x),
        "c2": 100 * unlikely(net.decode(m21 + noise["yx"], two), batch.y),
    }
    ascent = {
        "d1": -10 * (torch.log(d1(batch.x)).mean() + torch.log(1 - d1(x21)).mean()),
        "d2": -10 * (torch.log(d2(batch.y)).mean() + torch.log(1 - d2(x12)).mean()),
    }
    return descent, ascent


@pytest.mark.parametrize(
    ("names", "numbers", "letters"),
    [
        (("scene", "map"), (0, 1), ("x", "y")),
        (("spring", "summer", "fall"), (0, 2), ("_spring", "_fall")),
    ],
)
def test_a_step_is_the_papers_for_its_pair_of_domains(
    names: tuple[str, ...], numbers: tuple[int, int], letters: tuple[str, str]
) -> None:
    step, batch = step_of(recipe_of(domains=[{"name": name, "data": "street:scene"} for name in names]), numbers)
    streams = step(batch)
    got = (step.generator_loss(batch, streams), step.discriminator_loss(batch, streams))
    parameters = (list(step.net.parameters()), step.discriminators())
    for mine, theirs, moved in zip(got, papers_losses(step, batch), parameters, strict=True):
        named = {key.replace("1", letters[0]).replace("2", letters[1]): value for key, value in theirs.items()}
        assert mine.keys() == named.keys()
        for key, value in named.items():
            torch.testing.assert_close(mine[key], value, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad(sum(terms.values()), moved, retain_graph=True, allow_unused=True)
            for terms in (mine, named)
        ]
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # The warm-up is the part of it that Eqs. (3) and (4) are.
    warm = step.warmup_loss(batch)
    assert set(warm) == {f"{kind}{letter}" for kind in "kr" for letter in letters}
    for key, value in warm.items():
        torch.testing.assert_close(value, got[0][key], rtol=1e-12, atol=1e-12)


def test_the_latents_divergence_by_hand() -> None:
    assert latent_divergence(torch.tensor([[1.0, -3.0, 0.0, 2.0]])).item() == 0.5 * (1 + 9 + 0 + 4) / 4


@torch.no_grad()
def test_training_adds_noise_of_its_own_to_every_sample_and_inference_adds_none() -> None:
    step, batch = step_of(recipe_of())
    x, net = batch.x, step.net
    assert torch.equal(net.encode(x, "scene"), net.encode(x, "scene"))
    own = step(batch)[0].own.colours
    assert torch.equal(own, step(batch)[0].own.colours)
    assert not torch.allclose(own, net.decode(net.encode(x, "scene"), "scene"))
    # Who has half of the batch draws the same for its samples.
    second = Batch(batch.domains, tuple(clips[1:] for clips in batch.clips), Draws(0, 0, 1, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(step(second)[0].cycled.colours, step(batch)[0].cycled.colours[1:])


def test_one_batch_can_be_learned_by_heart(learn_by_heart: Callable[..., Any]) -> None:
    net = {"width": 4, "blocks": 2, "label_head": "palette", "upsampling": "resize"}
    loss = {"lambda_0": 0.0, "label_cost": "cross_entropy", "hard_cycle": True, "discriminator": "coordinates"}
    step, batch = step_of(recipe_of(net=net, loss={**loss, "discriminator_width": 2}))
    step.float()
    shade = torch.linspace(-1, 1, 24).view(1, 24, 1).expand(3, 24, 32)
    labels = torch.zeros(2, 24, 32, dtype=torch.long)
    labels[0, 12:], labels[1, :, 8:] = 3, 5
    y = step.net.palette_segmentation[labels].movedim(-1, 1)
    x = torch.stack([shade, shade.flip(1)])
    batch = Batch(batch.domains, (x.unsqueeze(1), y.unsqueeze(1)), batch.draws)
    first, last = learn_by_heart(step, batch, 40, 5e-3)
    for name, share in (("rx", 0.3), ("cx", 0.3), ("ry", 0.05), ("cy", 0.05)):
        assert last[name] < share * first[name], name


# A run


def test_a_resumed_run_equals_an_uninterrupted_one_and_its_model_is_whole(
    tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    loss = {"discriminator": "coordinates", "discriminator_width": 2, "label_cost": "cross_entropy"}
    recipe, cache = recipe_of(net={**RECIPE["net"], "label_head": "palette"}, loss=loss), tmp_path / "cache"
    Run(recipe, tmp_path / "whole", cache=cache).advance()
    Run(recipe, tmp_path / "cut", cache=cache).advance(2)
    resumed = Run(saved_recipe(tmp_path / "cut"), tmp_path / "cut", cache=cache)
    resumed.resume()
    resumed.advance()
    whole, cut = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(tensor, cut[key]) for key, tensor in whole.items())

    model = load_model(tmp_path / "whole")
    assert (model.net.family, model.net.config) == ("unit", recipe.net_config())
    verify_model(str(tmp_path / "whole"))
    assert "network: unit, width 2" in card_text(read_card(find_model(str(tmp_path / "whole"))))
    clip = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1")
    options = {"to": "segmentation", "model": str(tmp_path / "whole"), "factor": 3, "codec": "ffv1", "pix_fmt": "gbrp"}
    assert vidtrans.upsample(clip, engine="torch", **options).frames_out == 9
    assert (tmp_path / "in.x3.segmentation.mkv").stat().st_size > 0


def test_the_recipes_are_the_papers_settings_and_ours() -> None:
    paper = load_recipe("unit")
    assert paper.loss == UNITOptions()
    assert (paper.train.batch, paper.train.lr, paper.train.constant, paper.train.unit) == (1, 1e-4, 100_000, "steps")
    assert paper.net_config() == UNITConfig(paper.net_config().domains, trained_size=(256, 256))
    ours, start = load_recipe("street-unit"), load_recipe("street-start")
    assert (ours.domains, ours.data, ours.train) == (start.domains, start.data, start.train)
    with torch.device("meta"):
        counts = [parameter_count(make_net(name, row.net_config().to_json())) for name, row in
                  (("unit", ours), ("jwdm", start))]  # fmt: skip
    assert 0.5 < counts[0] / counts[1] < 1.5
    with pytest.raises(UsageError, match="single frames"):
        load_recipe("street-unit", ("data.clip=3",))
    with pytest.raises(UsageError, match="palette"):
        load_recipe("street-unit", ("net.label_head=tanh",))


# Engines


@pytest.fixture(scope="module")
def net() -> UNIT:
    return tiny(width=4).requires_grad_(False)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (2, 37, 41, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def outputs_of(engine: Any, frames: Tensor) -> dict[str, Tensor]:
    left, right = engine.encode(frames)
    return engine.between([Gap(left, right, EIGHTHS)])[0]


def reference(net: UNIT, frames: Tensor) -> dict[str, Tensor]:
    return outputs_of(open_engine("torch", copy.deepcopy(net), "scene", ["segmentation"], (41, 37)), frames)


def test_the_torch_engine_blends_latents_and_decodes_them_in_both_domains(net: UNIT, frames: Tensor) -> None:
    z0, z1 = net.encode(pad(to_unit(frames), net.sizes), "scene")
    got = reference(net, frames)
    for k, t in enumerate(EIGHTHS):
        for domain, out in got.items():
            want = net.finish(torch.lerp(z0, z1, float(t)).unsqueeze(0), domain)[0, :, :37, :41]
            torch.testing.assert_close(out[k], want, rtol=0, atol=1e-5)


def test_openvino_and_onnx_compute_the_same(
    net: UNIT, frames: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path / "cache"))
    wanted = reference(net, frames)
    for _ in ("converted", "from the cache"):
        engine = open_engine("openvino", net, "scene", ["segmentation"], (41, 37), precision="fp32")
        for domain, out in outputs_of(engine, frames).items():
            torch.testing.assert_close(out, wanted[domain], rtol=0, atol=1e-4)

    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnxruntime

    # Both outputs are the same latent, and must be two outputs all the same; `finish` has nothing that JWDM's has not.
    encoder = Graph(net, ("scene", "segmentation"), "encode_lifts", "fp32").onnx
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["lifted_scene", "lifted_segmentation"]
    x = torch.rand(2, 3, 24, 40) * 2 - 1
    for a in session.run(None, {"frames": x.numpy()}):
        torch.testing.assert_close(torch.from_numpy(a), net.encode(x, "scene"), rtol=0, atol=1e-4)


def test_the_cuda_engine_takes_the_plain_blend_and_fuses_the_norms(
    net: UNIT, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU: the engine without our kernels, and the modules that call them with torch in their place."""
    monkeypatch.setattr(cuda_engine, "unusable", lambda device: None)
    monkeypatch.setattr(latents_triton, "why_unavailable", lambda device: "a CPU")
    engine = CudaEngine(net, "scene", ["segmentation"], (41, 37), "cpu", "fp32")
    for domain, out in outputs_of(engine, frames).items():
        torch.testing.assert_close(out, reference(net, frames)[domain], rtol=0, atol=1e-4)

    def plain(x: Tensor, *, relu: bool, added: Tensor | None = None) -> Tensor:
        x = nn.functional.instance_norm(x)
        x = x.relu() if relu else x
        return x if added is None else x + added

    monkeypatch.setattr("vidtrans.engines.norms_triton.instance_norm", plain)
    fused, z = copy.deepcopy(net), torch.randn(1, net.config.latent_channels, 4, 5)
    fuse_norms(fused)
    kinds = [type(part) for part in fused.modules()]
    assert kinds.count(FusedResidual) == 2 * 2 + 2  # one own block each, and the shared ones
    assert kinds.count(FusedNorm) == 2 * kinds.count(FusedResidual)
    x = torch.randn(1, 3, 16, 20)
    torch.testing.assert_close(fused.encode(x, "scene"), net.encode(x, "scene"), rtol=0, atol=1e-5)
    torch.testing.assert_close(fused.finish(z, "scene"), net.finish(z, "scene"), rtol=0, atol=1e-5)
    literal = tiny(norm="none")
    fuse_norms(literal)
    assert any(type(part) is ResidualBlock for part in literal.modules())
