"""The same run on less memory, in other number formats and on several processes: equal to the plain one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from vidtrans.checkpoint import load_model
from vidtrans.errors import DeviceError, UsageError
from vidtrans.train.keep import MODEL, STATE
from vidtrans.train.loop import Run
from vidtrans.train.optimisers import KernelMuon, as_matrix
from vidtrans.train.ranks import Ranks, join_ranks
from vidtrans.train.recipe import Recipe, parse_recipe

# What each of two processes runs: `recipe, folder` pairs as JSON, its weights after every run beside the folder.
RANK = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from vidtrans.train.loop import Run
from vidtrans.train.ranks import join_ranks
from vidtrans.train.recipe import parse_recipe

ranks = join_ranks("cpu")
for recipe, folder in json.loads(sys.argv[1]):
    run = Run(parse_recipe(recipe), Path(folder), ranks=ranks)
    run.advance()
    save_file(run.net.state_dict(), f"{folder}.{ranks.number}.safetensors")
"""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three domains of five pictures each, and three numbered runs of them."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    for domain in ("a", "b", "c"):
        (folder / domain).mkdir()
        for number in range(5):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            coarse.resize((48, 36), Image.Resampling.BICUBIC).save(folder / domain / f"{number:03d}.png")
    return folder


def table(footage: Path, **train: Any) -> dict[str, Any]:
    return {
        "domains": [{"name": name, "data": str(footage / name)} for name in ("a", "b", "c")],
        "net": {"width": 4, "latent_channels": 6, "blocks": 1},
        "data": {"size": [48, 40], "crop": [44, 36], "flip": True, "jitter": 0.1, "clip": 3},
        "loss": {
            "discriminator": "patch70",
            "discriminator_width": 2,
            "latent_discriminator_width": 4,
            "image_pool": 6,
            "cycled_latents": True,
            "between_weight": 0.5,
            "latent_divergence": "wgan-gp",
        },
        "train": {"batch": 4, "constant": 6, "decay": 4, "warmup": 2, "unit": "steps", "log_every": 1} | train,
    }


def trained(recipe: Recipe, folder: Path, until: int | None = None) -> Run:
    run = Run(recipe, folder)
    run.advance(until)
    return run


def close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(
            tensor, other[key], rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_two_ranks_with_half_batches_equal_one_with_the_whole(footage: Path, tmp_path: Path) -> None:
    runs = {precision: table(footage, precision=precision) for precision in ("fp64", "fp32")}
    # Adam turns gradients that are mostly rounding into full steps (a Wasserstein critic's last bias has no other), and
    # a young network makes some ten times more of it in every step, the more the faster it learns: one process that
    # takes its batch in two parts differs as much. So float32 is held to its losses and to the mean of its pictures, at
    # a hundredth of the usual rate.
    runs["fp32"]["loss"]["latent_divergence"] = "gan"
    runs["fp32"]["train"]["lr"] = 2e-6
    (tmp_path / "rank.py").write_text(RANK)
    arguments = json.dumps([(recipe, str(tmp_path / f"two-{name}")) for name, recipe in runs.items()])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, str(tmp_path / "rank.py"), arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, tolerance in (("fp64", 1e-9), ("fp32", 1e-4)):
        two, one = tmp_path / f"two-{name}", tmp_path / f"one-{name}"
        run = trained(parse_recipe(runs[name]), one)
        first, second = (load_file(f"{two}.{number}.safetensors") for number in (0, 1))
        close(first, second, 0.0)
        assert len(log(two)) == len(log(one)) == 10  # only the first rank writes
        for here, there in zip(log(two), log(one), strict=True):
            assert here.keys() == there.keys()
            losses = [key for key in here if key not in ("steps_per_second", "frames_per_second", "data_wait")]
            assert [here[key] for key in losses] == pytest.approx([there[key] for key in losses], rel=0, abs=tolerance)
        if name == "fp64":
            close(first, dict(run.net.state_dict()), 1e-9)
            state, whole = load_file(two / STATE), load_file(one / STATE)
            close(state, whole, 1e-9)
            assert any(key.startswith("step/pools.") and tensor.abs().sum() > 0 for key, tensor in state.items())
        x = run.batches.samples(0, 0)[:, 0]
        nets = [load_model(folder / MODEL).net for folder in (one, two)]
        with torch.no_grad():
            made = [net.decode(net.encode(x, "a"), "b") for net in nets]
        assert (made[0] - made[1]).abs().mean() < 1e-4


def test_a_batch_in_parts_and_recomputed_networks_give_the_same_weights(footage: Path, tmp_path: Path) -> None:
    plain = trained(parse_recipe(table(footage, precision="fp64")), tmp_path / "plain", until=5)
    for name, change in (("parts", {"accumulate": 2}), ("recomputed", {"checkpointing": True})):
        other = trained(parse_recipe(table(footage, precision="fp64", **change)), tmp_path / name, until=5)
        close(dict(plain.step_module.state_dict()), dict(other.step_module.state_dict()), 1e-9)
        for here, there in zip(log(tmp_path / "plain"), log(tmp_path / name), strict=True):
            assert here["ra" if "ra" in here else "step"] == pytest.approx(there["ra" if "ra" in there else "step"])


def test_compiled_parts_keep_their_names_and_their_numbers(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_ = nn.Module.compile
    compiled = []

    def traced(self: nn.Module) -> None:
        compiled.append(self)
        compile_(self, backend="eager")  # traced, but not made into machine code, which takes minutes

    monkeypatch.setattr(nn.Module, "compile", traced)
    plain = trained(parse_recipe(table(footage)), tmp_path / "plain", until=1)
    other = trained(parse_recipe(table(footage, compile=True)), tmp_path / "compiled", until=1)
    assert len(compiled) == 3 * 3  # an encoder, a lift and a finish for each domain
    close(dict(plain.net.state_dict()), dict(other.net.state_dict()), 1e-6)


def test_float16_scales_its_losses_and_resumes_exactly(footage: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(table(footage, precision="fp16", warmup=0))
    trained(recipe, tmp_path / "whole", until=4)
    trained(recipe, tmp_path / "cut", until=2)
    resumed = Run(recipe, tmp_path / "cut")
    resumed.resume()
    assert resumed.generators.scale["scale"] > 1
    resumed.advance(4)
    whole, cut = (load_file(tmp_path / name / STATE) for name in ("whole", "cut"))
    assert all(torch.equal(tensor, cut[key]) for key, tensor in whole.items())


def test_a_step_that_overflows_is_left_out_and_the_scale_halved(footage: Path, tmp_path: Path) -> None:
    run = Run(parse_recipe(table(footage, precision="fp16")), tmp_path)
    weight = next(iter(run.net.parameters()))
    before, scale = weight.detach().clone(), run.generators.scale["scale"]
    run.generators.add([weight.sum() * torch.tensor(float("inf"))])
    run.generators.step()
    assert torch.equal(weight, before)
    assert run.generators.scale["scale"] == scale / 2


def test_channels_last_reaches_networks_frames_and_muon(footage: Path, tmp_path: Path) -> None:
    run = Run(parse_recipe(table(footage, channels_last=True, optimiser="muon")), tmp_path)
    weights = [parameter for parameter in run.net.parameters() if parameter.ndim == 4 and parameter.shape[-1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert run.batches.parts(0)[0].x.stride(1) == 1
    before = [weight.detach().clone() for weight in weights]
    run.advance(3)
    assert any(not torch.equal(old, new) for old, new in zip(before, weights, strict=True))
    kernel = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    assert as_matrix(kernel, kernel).data_ptr() == kernel.data_ptr()
    # The same update as for a kernel in the usual order.
    pair = [nn.Parameter(kernel.clone()), nn.Parameter(kernel.contiguous().clone())]
    gradient = torch.randn(4, 3, 3, 3)
    for each in pair:
        each.grad = gradient.clone()
        muon = KernelMuon([each], 0.1, 0.9)
        muon.take_gradients()
        muon.step()
    assert (pair[0] - kernel).abs().max() > 0.01
    torch.testing.assert_close(pair[0].detach(), pair[1].detach().contiguous(), rtol=0, atol=2e-3)


def test_the_log_tells_frames_per_second_and_the_share_of_waiting(footage: Path, tmp_path: Path) -> None:
    trained(parse_recipe(table(footage)), tmp_path, until=3)
    for row in log(tmp_path):
        # Two domains, four samples of three frames each.
        assert row["frames_per_second"] == pytest.approx(24 * row["steps_per_second"])
        assert 0 <= row["data_wait"] <= 1


def test_batches_that_cannot_be_shared_and_launches_that_cannot_be_joined_are_refused(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="divide"):
        parse_recipe(table(footage, accumulate=3))
    ranks = Ranks()
    ranks.count = 3
    ranks.in_turn = Ranks().in_turn  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="multiple of 3"):
        Run(parse_recipe(table(footage)), tmp_path, ranks=ranks)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_ranks("cpu").count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(DeviceError, match="Lightning Fabric"):
        join_ranks("cpu")
