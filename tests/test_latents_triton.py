"""The Triton kernels equal the plain blend and norm: in Triton's interpreter everywhere, on a GPU where there is one.

Triton decides when it is first imported whether to interpret, for the whole process. So the tests of the kernels run
here on a GPU, and without one in a process of their own, which `test_in_the_interpreter` starts.
VIDTRANS_REQUIRE_CUDA=1 makes a machine without a GPU fail.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines import latents_triton
from vidtrans.engines.latents_triton import BlendPlan, MovedPlan, blend_norm_relu, covariance, moments, moved_norm_relu
from vidtrans.latents import Fields, blend

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available() and not INTERPRETED
DEVICES = ["cpu"] * INTERPRETED + ["cuda"] * CUDA
SEVENTHS = [Fraction(k, 8) for k in range(1, 8)]
UNIT = 2.0**-24
# The interpreter cuts off what does not fit into bfloat16, where a GPU rounds to the nearest number.
ROUNDING = {torch.bfloat16: 2.0**-7 if INTERPRETED else 2.0**-8, torch.float16: 2.0**-11}


def pair(
    correlation: float, shape: tuple[int, ...] = (3, 12, 10), mean: float = 0.0, deviation: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two keyframes' features with this correlation, mean and deviation in every channel."""

    def standardised(x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        return x / x.square().mean(1, keepdim=True).sqrt()

    noise = torch.randn(2, shape[0], math.prod(shape[1:]), dtype=torch.float64, generator=generator(seed))
    first = standardised(noise[0])
    other = standardised(noise[1])
    other = standardised(other - (other * first).mean(1, keepdim=True) * first)
    second = correlation * first + math.sqrt(1 - correlation**2) * other
    left, right = ((x * deviation + mean).view(shape).float() for x in (first, second))
    return left, right


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def last(x: Tensor) -> Tensor:
    """The same features in channels-last memory."""
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def norm_relu(x: Tensor) -> Tensor:
    return F.relu(F.instance_norm(x))


def exact(left: Tensor, right: Tensor, times: list[Fraction]) -> Tensor:
    """In float64, whose rounding is none here."""
    weights = torch.tensor([float(t) for t in times], dtype=torch.float64).view(-1, 1, 1, 1)
    return norm_relu((1 - weights) * left.double() + weights * right.double())


def random_fields(count: int, height: int, width: int, seed: int = 0, pixels: float = 3.0) -> Fields:
    moves = torch.randn(2, count, 2, height, width, generator=generator(seed)) * pixels
    return Fields(moves[0], moves[1], torch.rand(count, 1, height, width, generator=generator(seed + 1)))


def largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


@pytest.mark.parametrize("device", DEVICES)
class TestKernels:
    __test__ = bool(DEVICES)

    def test_is_available(self, device: str) -> None:
        assert latents_triton.why_unavailable(device) is None

    @pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.9, 1.0])
    @pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-5.0, 0.5), (30.0, 100.0)])
    def test_equals_the_plain_blend_and_norm(
        self, device: str, correlation: float, mean: float, deviation: float
    ) -> None:
        left, right = pair(correlation, mean=mean, deviation=deviation)
        out = blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS])
        assert out.dtype == torch.float32
        assert largest(out.cpu() - norm_relu(blend(left, right, SEVENTHS))) < 1e-5
        assert largest(out.cpu() - exact(left, right, SEVENTHS)) < 1e-5

    @pytest.mark.parametrize("shape", [(5, 5, 7), (1, 1, 2), (70, 4, 1), (300, 2, 3), (1, 50, 62)])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_any_shape_and_memory_format(self, device: str, shape: tuple[int, ...], channels_last: bool) -> None:
        left, right = pair(0.3, shape) if math.prod(shape[1:]) > 2 else torch.randn(2, *shape, generator=generator(0))
        given = [x.to(device) for x in (left, right)]
        if channels_last:
            given = [last(x) for x in given]
        out = blend_norm_relu(given[:1], given[1:], [SEVENTHS[2:4]])
        form = torch.channels_last if channels_last else torch.contiguous_format
        assert out.is_contiguous(memory_format=form)
        assert largest(out.cpu() - norm_relu(blend(left, right, SEVENTHS[2:4]))) < 1e-5

    def test_ragged_gaps_and_shared_keyframes(self, device: str) -> None:
        keyframes = [x.to(device) for seed in range(2) for x in pair(0.2, (4, 6, 5), seed=seed)]
        times = [SEVENTHS, [Fraction(1, 2)], [], [Fraction(1, 3), Fraction(2, 3)]]
        lefts, rights = [*keyframes[:3], keyframes[0]], [*keyframes[1:], keyframes[3]]
        out = blend_norm_relu(lefts, rights, times)
        assert len(out) == 10
        rows = out.split([len(instants) for instants in times])
        for left, right, instants, row in zip(lefts, rights, times, rows, strict=True):
            assert largest(row.cpu() - exact(left.cpu(), right.cpu(), instants)) < 1e-5
            alone = blend_norm_relu([left], [right], [instants])
            assert torch.equal(alone, row), "a gap depends on what else is in the batch"
        assert torch.equal(out, blend_norm_relu(lefts, rights, times))
        assert blend_norm_relu(lefts[:1], rights[:1], [[]]).shape == (0, 4, 6, 5)

    def test_moments_and_covariance(self, device: str) -> None:
        shape = (2, 60, 70)  # two blocks and more, in as many shares
        left, right = pair(-0.4, shape, mean=2.0, deviation=3.0)
        for put in (lambda x: x, last):
            of_both = moments([put(left.to(device)), put(right.to(device))])
            assert of_both.mean.shape == of_both.variance.shape == (2, 2)
            for x, row in zip((left, right), of_both.rows(), strict=True):
                assert torch.allclose(row.mean.cpu().double(), x.double().mean((1, 2)), rtol=4 * UNIT, atol=0)
                variance = x.double().var((1, 2), correction=0)
                assert torch.allclose(row.variance.cpu().double(), variance, rtol=8 * UNIT, atol=0)
                alone = moments(put(x.to(device)))
                assert torch.equal(alone.mean, row.mean)
                assert torch.equal(alone.variance, row.variance)
            got = covariance([put(left.to(device))], [put(right.to(device))])
            assert got.shape == (1, 2)
            assert torch.allclose(got.cpu(), torch.full((1, 2), -0.4 * 9.0), rtol=1e-6, atol=0)

    def test_batch_of_keyframes(self, device: str) -> None:
        batch = torch.randn(3, 4, 6, 5, generator=generator(3)).to(device)
        for given in (batch, batch.to(memory_format=torch.channels_last)):
            got = moments(given)
            assert torch.allclose(got.mean, batch.mean((2, 3)), atol=1e-6)
            assert torch.allclose(got.variance, batch.var((2, 3), correction=0), atol=1e-6)

    def test_kept_moments(self, device: str) -> None:
        left, right = (x.to(device) for x in pair(0.2))
        kept = moments([left, right]).rows()
        with_them = blend_norm_relu([left], [right], [SEVENTHS], kept=[(kept[0], kept[1])])
        assert torch.equal(with_them, blend_norm_relu([left], [right], [SEVENTHS]))

    @pytest.mark.parametrize("correlation", [-0.9, -0.99, -0.9999, -1.0])
    @pytest.mark.parametrize(("mean", "deviation"), [(5.0, 1.0), (5.0, 100.0), (0.0, 0.01)])
    def test_opposed_keyframes_keep_the_stated_bound(
        self, device: str, correlation: float, mean: float, deviation: float
    ) -> None:
        left, right = pair(correlation, mean=mean, deviation=deviation)
        out = blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS]).cpu().double().flatten(2)
        true = exact(left, right, SEVENTHS).flatten(2)
        x, y = (z.double().flatten(1) for z in (left, right))
        v0, v1 = x.var(1, correction=0), y.var(1, correction=0)
        c = ((x - x.mean(1, keepdim=True)) * (y - y.mean(1, keepdim=True))).mean(1)
        t = torch.tensor([float(t) for t in SEVENTHS], dtype=torch.float64).view(-1, 1)
        own = (1 - t) ** 2 * v0 + t**2 * v1
        shared = 2 * t * (1 - t) * c
        k = (own + shared.abs()) / ((own + shared).clamp(min=0) + latents_triton.EPS)
        relative = torch.maximum(x.abs().amax(1) / v0.sqrt(), y.abs().amax(1) / v1.sqrt())
        bound = 4 * UNIT * (k * true.amax(2) + k.sqrt() * relative)
        assert ((out - true).abs().amax(2) <= bound).all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_only_rounds(self, device: str, dtype: torch.dtype) -> None:
        left, right = (x.to(dtype) for x in pair(0.1, (6, 8, 9), mean=1.0))
        reference = norm_relu(blend(left.float(), right.float(), SEVENTHS))
        for put in (lambda x: x, last):
            given = put(left.to(device)), put(right.to(device))
            out = blend_norm_relu([given[0]], [given[1]], [SEVENTHS])
            assert out.dtype == dtype
            assert ((out.cpu().float() - reference).abs() <= ROUNDING[dtype] * reference + 1e-5).all()
            wide = blend_norm_relu([given[0]], [given[1]], [SEVENTHS], dtype=torch.float32)
            assert largest(wide.cpu() - reference) < 1e-5
        narrow = blend_norm_relu([left.float().to(device)], [right.float().to(device)], [SEVENTHS], dtype=dtype)
        assert torch.equal(narrow, blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS]))

    def test_large_mean_and_small_deviation(self, device: str) -> None:
        left, right = pair(0.3, mean=1000.0, deviation=0.1)
        row = moments(left.to(device))
        true = left.double()
        assert largest(row.mean.cpu() - true.mean((1, 2))) <= 2 * 1000.0 * UNIT
        assert torch.allclose(row.variance.cpu().double(), true.var((1, 2), correction=0), rtol=1e-5, atol=0)
        # A mean near 1000 is known to 3e-5 in float32, which is 3e-4 deviations.
        out = blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS])
        assert largest(out.cpu() - exact(left, right, SEVENTHS)) < 6e-4
        fields = standing(SEVENTHS, left)
        moved = moved_norm_relu([left.to(device)], [right.to(device)], [fields.to(device)])
        # Here the blend itself is rounded to a float32 near 1000.
        assert largest(moved.cpu() - exact(left, right, SEVENTHS)) < 2e-3

    @pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
    def test_constant_channels_become_zero(self, device: str, value: float) -> None:
        left = torch.full((3, 5, 7), value, device=device)
        for right in (left, torch.full_like(left, -3.3)):
            assert largest(blend_norm_relu([left], [right], [SEVENTHS])) == 0.0
        assert largest(moved_norm_relu([left], [left], [random_fields(2, 5, 7).to(device)])) == 0.0

    def test_not_a_number_stays_one(self, device: str) -> None:
        left, right = (x.to(device) for x in pair(0.0))
        left[1, 2, 3] = torch.nan
        for out in (
            blend_norm_relu([left], [right], [SEVENTHS[:1]]),
            moved_norm_relu([left], [right], [standing(SEVENTHS[:1], left)]),
        ):
            assert out.isnan().flatten(2).all(2).tolist() == [[False, True, False]]

    def test_strided_features_are_copied(self, device: str) -> None:
        left, right = pair(0.2, (4, 8, 10))
        for cut in (lambda x: x[1:, ::2, 3:], lambda x: x.transpose(1, 2), lambda x: last(x)[:, 1:, :7]):
            given = cut(left.to(device)), cut(right.to(device))
            reference = exact(cut(left), cut(right), SEVENTHS)
            assert largest(blend_norm_relu([given[0]], [given[1]], [SEVENTHS]).cpu() - reference) < 1e-5
            with pytest.raises(ValueError, match="dense"):
                BlendPlan([given[0]], [given[1]], [SEVENTHS])
        mixed = blend_norm_relu([left.to(device)], [last(right.to(device))], [SEVENTHS])
        assert torch.equal(mixed, blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS]))

    def test_memory_that_is_not_aligned(self, device: str) -> None:
        left, right = pair(0.2, (4, 8, 10))
        given = [torch.cat([x.flatten(), x.new_zeros(1)]).roll(1).to(device)[1:].view(4, 8, 10) for x in (left, right)]
        assert given[0].data_ptr() % 16
        out = blend_norm_relu(given[:1], given[1:], [SEVENTHS])
        assert largest(out.cpu() - exact(left, right, SEVENTHS)) < 1e-5

    def test_a_plan_reads_its_tensors_anew(self, device: str) -> None:
        left, right = (x.to(device) for x in pair(0.2))
        field = random_fields(2, 12, 10).to(device)
        in_place, moved = BlendPlan([left], [right], [SEVENTHS]), MovedPlan([left], [right], [field])
        in_place(), moved()
        left.copy_(pair(0.4, seed=9)[0])
        assert torch.equal(in_place(), blend_norm_relu([left], [right], [SEVENTHS]))
        assert torch.equal(moved(), moved_norm_relu([left], [right], [field]))

    @pytest.mark.parametrize("shape", [(3, 12, 10), (1, 1, 5), (4, 6, 1), (20, 5, 7), (1, 40, 36)])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_moved_equals_gather_blend_and_norm(self, device: str, shape: tuple[int, ...], channels_last: bool) -> None:
        left, right = torch.randn(2, *shape, generator=generator(1)) + 1.0
        fields = [random_fields(2, *shape[1:], seed=5), random_fields(1, *shape[1:], seed=7, pixels=100.0)]
        reference = torch.cat([norm_relu(fields[0].blend(left, right)), norm_relu(fields[1].blend(right, left))])
        given = [x.to(device) for x in (left, right)]
        if channels_last:
            given = [last(x) for x in given]
        out = moved_norm_relu(given, given[::-1], [field.to(device) for field in fields])
        form = torch.channels_last if channels_last else torch.contiguous_format
        assert out.is_contiguous(memory_format=form)
        assert largest(out.cpu() - reference) < 1e-5
        assert torch.equal(out, moved_norm_relu(given, given[::-1], [field.to(device) for field in fields]))

    def test_no_motion_is_the_blend_in_place(self, device: str) -> None:
        left, right = pair(0.2)
        fields = standing(SEVENTHS, left)
        moved = moved_norm_relu([left.to(device)], [right.to(device)], [fields.to(device)]).cpu()
        assert largest(moved - norm_relu(blend(left, right, SEVENTHS))) < 1e-6
        assert largest(moved - blend_norm_relu([left.to(device)], [right.to(device)], [SEVENTHS]).cpu()) < 2e-6

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_moved_in_half_precision_only_rounds(self, device: str, dtype: torch.dtype) -> None:
        left, right = (x.to(dtype) for x in pair(0.1, (6, 8, 9), mean=1.0))
        fields = random_fields(2, 8, 9)
        blended = fields.blend(left.float(), right.float())
        reference = norm_relu(blended)
        # The blend is stored in half precision, and so is the result.
        step = blended.abs().amax((2, 3), keepdim=True) / blended.std((2, 3), keepdim=True, correction=0)
        bound = ROUNDING[dtype] * (step + reference) * (1 + ROUNDING[dtype]) + 1e-5
        out = moved_norm_relu([left.to(device)], [right.to(device)], [fields.to(device)])
        assert out.dtype == dtype
        assert ((out.cpu().float() - reference).abs() <= bound).all()
        narrow = moved_norm_relu(
            [left.float().to(device)], [right.float().to(device)], [fields.to(device)], dtype=dtype
        )
        assert ((narrow.cpu().float() - reference).abs() <= ROUNDING[dtype] * reference + 1e-5).all()

    def test_refuses_what_it_cannot_do(self, device: str) -> None:
        x = torch.zeros(3, 4, 5, device=device)
        for lefts, rights, times, problem in (
            ([], [], [], "no features"),
            ([x], [x, x], [[0.5]], "every gap"),
            ([x], [x], [], "every gap"),
            ([x], [x[:2]], [[0.5]], "one shape"),
            ([x], [x.half()], [[0.5]], "one shape"),
            ([x.double()], [x.double()], [[0.5]], "float64"),
            ([x[:, :1, :1]], [x[:, :1, :1]], [[0.5]], "two positions"),
            ([x[0]], [x[0]], [[0.5]], r"\(C, h, w\)"),
        ):
            with pytest.raises(ValueError, match=problem):
                blend_norm_relu(lefts, rights, times)
        with pytest.raises(ValueError, match="moments"):
            blend_norm_relu([x], [x], [[0.5]], kept=[(moments(x[:2]), moments(x))])
        with pytest.raises(ValueError, match="float64"):
            blend_norm_relu([x], [x], [[0.5]], dtype=torch.float64)
        with pytest.raises(ValueError, match="fields"):
            moved_norm_relu([x], [x], [random_fields(1, 5, 5).to(device)])


def standing(times: list[Fraction], like: Tensor) -> Fields:
    """Fields without motion at these times."""
    still = like.new_zeros(len(times), 2, *like.shape[1:])
    share = torch.tensor([float(t) for t in times], device=like.device).view(-1, 1, 1, 1)
    return Fields(still, still, share.expand(-1, -1, *like.shape[1:]))


class TestOnGPU:
    __test__ = CUDA

    def test_in_a_cuda_graph(self) -> None:
        left, right = (x.cuda() for x in pair(0.2))
        field = random_fields(3, 12, 10).to("cuda")
        plans = BlendPlan([left], [right], [SEVENTHS]), MovedPlan([left], [right], [field])
        for plan in plans:  # compiles, which a capture must not
            plan()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = [plan() for plan in plans]
        left.copy_(pair(0.4, seed=9)[0])
        graph.replay()
        for out, plan in zip(captured, plans, strict=True):
            assert torch.equal(out, plan())


@pytest.mark.skipif(INTERPRETED, reason="this process is the interpreted one")
def test_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("VIDTRANS_REQUIRE_CUDA", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "TestKernels"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_run_meant_for_a_gpu_has_one() -> None:
    if os.environ.get("VIDTRANS_REQUIRE_CUDA") == "1":
        assert CUDA, "VIDTRANS_REQUIRE_CUDA=1, and torch finds no CUDA device"


@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")
@pytest.mark.parametrize("channels_last", [False, True])
def test_kernels_compile_for_hopper_with_wide_loads(
    channels_last: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter takes more than the compiler does; compiling needs no GPU."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    layout = latents_triton.Layout(256, 64, 128, torch.bfloat16, torch.device("cuda"), channels_last, aligned=True)
    tables = dict.fromkeys(("addresses", "gaps", "instants"), "*i64")
    features = dict.fromkeys(("x", "added", "out"), "*bf16")
    numbers = dict.fromkeys(("partial", "means", "variances", "sums", "numbers", "times"), "*fp32")
    sizes = dict.fromkeys(("channels", "positions", "height", "width", "splits", "per_split"), "i32")
    kinds = {**tables, **features, **numbers, **sizes, "eps": "fp32"}
    blocks = dict(zip(("BLOCK_C", "BLOCK_P"), layout.block(latents_triton.TILE), strict=True))
    merging = dict(zip(("BLOCK_C", "BLOCK_S"), layout.merge_block(64), strict=True))
    constants = {**layout.constants, **blocks}
    moving = layout.block(latents_triton.MOVED_TILE, latents_triton.MOVED_CHANNELS_TOGETHER)
    norms = [{"RELU": True, "ADD": added, "LAST": channels_last, **blocks} for added in (False, True)]
    for kernel, fixed, wide in (
        (latents_triton._moments_kernel, constants, "ld"),
        (latents_triton._merge_kernel, merging, ""),
        (latents_triton._covariance_kernel, constants, "ld"),
        (latents_triton._numbers_kernel, merging, ""),
        (latents_triton._blend_kernel, constants, "ld st"),
        (latents_triton._moved_kernel, {**constants, "BLOCK_C": moving[0], "BLOCK_P": moving[1]}, "st"),
        *((latents_triton._norm_kernel, norm, "ld st") for norm in norms),
    ):
        names = list(kernel.arg_names)
        source = triton.compiler.ASTSource(
            fn=kernel,
            signature={name: "constexpr" if name in fixed else kinds[name] for name in names},
            constexprs={(names.index(name),): value for name, value in fixed.items()},
            attrs={(row,): [["tt.divisibility", 16]] for row, name in enumerate(names) if name not in (*fixed, "eps")},
        )
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        for access in wide.split():
            assert re.search(rf"{access}\.global\S*\.v4\.b32", compiled.asm["ptx"]), f"{kernel} has no wide {access}"


def fresh_copy() -> ModuleType:
    """The module, imported once more beside itself."""
    spec = importlib.util.spec_from_file_location("fresh_latents_triton", latents_triton.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "not installed" in fresh_copy().why_unavailable("cuda")


@pytest.mark.skipif(INTERPRETED, reason="the interpreter is available")
def test_says_why_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert latents_triton.why_unavailable("cpu") == "Triton needs a CUDA device"
    assert "cuda:99" in str(latents_triton.why_unavailable("cuda:99"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert "8.0" in str(latents_triton.why_unavailable("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(latents_triton, "_why_trial_fails", lambda _: None)
    monkeypatch.setattr(latents_triton.shutil, "which", {"clang": "/usr/bin/clang"}.get)
    monkeypatch.delenv("CC", raising=False)
    assert latents_triton.why_unavailable("cuda") is None
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "CC=no-such-compiler" in str(latents_triton.why_unavailable("cuda"))
    monkeypatch.delenv("CC")
    monkeypatch.setattr(latents_triton.shutil, "which", lambda _: None)
    assert "C compiler" in str(latents_triton.why_unavailable("cuda"))
