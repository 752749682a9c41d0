"""The CUDA engine equals the float32 torch engine.

All of it but CUDA itself also runs on a CPU: graphs then just run, and Triton's kernels run in its interpreter, in a
process of their own (see test_latents_triton.py). VIDTRANS_REQUIRE_CUDA=1 makes a machine without a GPU fail. Nothing
here needs a video, so that it runs where PyAV is missing (--noconftest).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.bench import LiftEachFrame
from vidtrans.engines import cuda_engine, gap_graph, latents_triton, open_engine
from vidtrans.engines.base import BaseEngine
from vidtrans.engines.contract import Features, Gap
from vidtrans.engines.cuda_engine import CudaEngine
from vidtrans.engines.gap_graph import Keyframe, batches
from vidtrans.engines.latents_triton import moments
from vidtrans.engines.norms_triton import FusedNorm
from vidtrans.errors import DeviceError, UsageError
from vidtrans.latents import Fields
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available() and not INTERPRETED
DEVICES = ["cpu", *["cuda"] * CUDA]
EIGHTHS = tuple(Fraction(k, 8) for k in range(8))
SIZE = (44, 38)  # padded to 44x40
# Relative RMS error against float32 of a net that is not trained, whose norms have made half precision's errors large.
LARGEST_ERROR = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}
Outputs = list[dict[str, Tensor]]


@pytest.fixture(autouse=True)
def _usable_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    real = cuda_engine.unusable
    monkeypatch.setattr(cuda_engine, "unusable", lambda device: None if device == "cpu" else real(device))


@pytest.fixture(scope="module")
def net() -> JWDM:
    return make_net()


def make_net(width: int = 4, res_convs: int = 2) -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    config = JWDMConfig(domains, width, 5, blocks=1, res_convs=res_convs, label_head="palette")
    return JWDM(config).eval().requires_grad_(False)


def some_frames(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    shape = (count, size[1], size[0], 3)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def some_fields(count: int, seed: int = 0) -> Fields:
    """On a grid of half the working size."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randn(2, count, 2, SIZE[1] // 2, SIZE[0] // 2, generator=generator) * 2
    return Fields(moves[0], moves[1], torch.rand(count, 1, SIZE[1] // 2, SIZE[0] // 2, generator=generator))


def gaps_of(features: list[Features]) -> list[Gap]:
    """Whole, moved, held, ragged, and moved without t = 0."""
    one, two, three, four = features
    return [
        Gap(one, two, EIGHTHS),
        Gap(two, three, EIGHTHS, some_fields(8)),
        Gap(three, three, (Fraction(0),)),
        Gap(three, four, (Fraction(2, 5), Fraction(4, 5))),
        Gap(one, four, EIGHTHS[3:6], some_fields(3, seed=1)),
    ]


def outputs_of(engine: Any, frames: Tensor) -> Outputs:
    return engine.between(gaps_of(engine.encode(frames)))


def reference_of(net: Any, frames: Tensor, source: str = "scene", target: str = "labels") -> Outputs:
    return outputs_of(open_engine("torch", copy.deepcopy(net), source, [target], SIZE), frames)


def errors(got: Outputs, wanted: Outputs) -> list[float]:
    """Relative RMS of every gap and domain."""
    assert [list(one) for one in got] == [list(one) for one in wanted]
    pairs = [(one[d].cpu(), two[d]) for one, two in zip(got, wanted, strict=True) for d in two]
    assert all(one.shape == two.shape and one.dtype == torch.float32 for one, two in pairs)
    return [float((one - two).square().mean().sqrt() / two.square().mean().sqrt()) for one, two in pairs]


@pytest.mark.skipif(INTERPRETED, reason="slow when interpreted")
@pytest.mark.parametrize("device", DEVICES)
class TestEngine:
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    @pytest.mark.parametrize(("source", "target"), [("scene", "labels"), ("labels", "scene")])
    def test_equals_the_reference(self, net: JWDM, device: str, precision: str, source: str, target: str) -> None:
        engine = CudaEngine(net, source, [target], SIZE, device, precision)
        assert (engine.device, engine.precision, engine.domains) == (device, precision, (source, target))
        frames = some_frames(4)
        wanted = reference_of(net, frames, source, target)
        # At first launched call by call, then captured, then replayed.
        for graphs in (0, 3, 3):
            assert max(errors(outputs_of(engine, frames), wanted)) < LARGEST_ERROR[precision]
            assert len(engine._graphs.kept) == graphs
        assert not any("CUDA graph" in note for note in engine.notes), engine.notes

    def test_what_it_gave_stays_when_a_graph_runs_again(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        frames = some_frames(8)
        for _ in range(2):
            outputs_of(engine, frames[:4])
        features = engine.encode(frames[:4])
        given = engine.between(gaps_of(features))
        kept = [{d: out.clone() for d, out in one.items()} for one in given]
        lifted = features[0].lifted["scene"].clone()
        other = outputs_of(engine, frames[4:])
        assert torch.equal(features[0].lifted["scene"], lifted)
        assert all(torch.equal(one[d], two[d]) for one, two in zip(given, kept, strict=True) for d in one)
        assert max(errors(other, reference_of(net, frames[4:]))) < LARGEST_ERROR["fp32"]

    def test_a_keyframes_own_decoding_is_the_output_at_t_0(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device)
        left, right = engine.encode(some_frames(2))
        for times in (EIGHTHS, EIGHTHS[:1]):
            for domain, out in engine.between([Gap(left, right, times)])[0].items():
                assert torch.equal(out[0], left.decoded[domain])

    def test_other_instants_in_a_captured_shape(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        reference = open_engine("torch", copy.deepcopy(net), "scene", ["labels"], SIZE)
        frames = some_frames(2)
        pairs = engine.encode(frames), reference.encode(frames)
        for first in (1, 2, 3):
            got, wanted = (
                one.between([Gap(left, right, (Fraction(first, 7), Fraction(first + 2, 7)))])
                for one, (left, right) in zip((engine, reference), pairs, strict=True)
            )
            assert max(errors(got, wanted)) < LARGEST_ERROR["fp32"]
        assert [key[0] for key in engine._graphs.kept].count("between") == 1

    def test_frames_of_another_size_and_depth(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        frames = some_frames(4, (61, 53))
        wanted = reference_of(net, frames)
        assert max(errors(outputs_of(engine, frames), wanted)) < LARGEST_ERROR["fp32"]
        deep = (frames.to(torch.int32) * 257).to(torch.uint16)
        assert max(errors(outputs_of(engine, deep), wanted)) < LARGEST_ERROR["fp32"]

    def test_batches_are_cut_to_what_fits(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        frames = some_frames(4)
        wanted = reference_of(net, frames)
        for rows in (3, 1):
            engine._rows = rows
            assert max(errors(outputs_of(engine, frames), wanted)) < LARGEST_ERROR["fp32"]

    def test_graphs_are_bounded(self, net: JWDM, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gap_graph, "GRAPHS_KEPT", 2)
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        left, right = engine.encode(some_frames(2))
        for _ in range(2):
            for count in (2, 3, 4, 5):
                engine.between([Gap(left, right, EIGHTHS[:count])])
                assert len(engine._graphs.kept) <= 2
        got = engine.between([Gap(left, right, EIGHTHS[:2])])[0]["scene"]
        wanted = engine.between([Gap(left, right, EIGHTHS)])[0]["scene"][:2]
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)

    def test_a_net_whose_decoder_is_not_split(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(LiftEachFrame(net), "scene", ["labels"], SIZE, device, "fp32")
        assert not engine._fused
        frames = some_frames(4)
        features = engine.encode(frames)
        gap = Gap(features[0], features[1], EIGHTHS)
        wanted = reference_of(net, frames)[:1]
        for _ in range(2):
            assert max(errors(engine.between([gap]), wanted)) < LARGEST_ERROR["fp32"]

    def test_the_hooks_that_bench_times(self, net: JWDM, device: str) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        frames = some_frames(2)
        keyframe = engine.encode(frames)[0]
        for _ in range(2):
            lifted = engine._encode_lifts(engine._prepare(frames[:1]))
            outputs = engine._finish({d: a[0].expand(3, -1, -1, -1) for d, a in lifted.items()})
            for domain, out in outputs.items():
                own = keyframe.decoded[domain].expand(3, -1, -1, -1)
                torch.testing.assert_close(engine._cropped(outputs)[domain], own, rtol=0, atol=1e-4)
                assert out.shape[-2:] == engine.padded_size

    def test_the_callers_net_stays_as_it_is(self, net: JWDM, device: str) -> None:
        before, modules = copy.deepcopy(net.state_dict()), [type(module) for module in net.modules()]
        CudaEngine(net, "scene", ["labels"], SIZE, device, "bf16")
        assert [type(module) for module in net.modules()] == modules
        for name, weights in net.state_dict().items():
            assert weights.dtype == torch.float32
            assert weights.device.type == "cpu"
            assert weights.is_contiguous()
            assert torch.equal(weights, before[name])

    @pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
    def test_what_cannot_be_captured_runs_all_the_same(
        self, net: JWDM, device: str, error: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise error("operation not permitted when stream is capturing\nmore of it")

        monkeypatch.setattr(gap_graph, "Graphed", refuse)
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        notes = [note for note in engine.notes if "CUDA graph" in note]
        assert notes == ["no CUDA graphs: operation not permitted when stream is capturing"]
        assert engine.gaps_at_once > 1
        frames = some_frames(4)
        for _ in range(2):
            assert max(errors(outputs_of(engine, frames), reference_of(net, frames))) < LARGEST_ERROR["fp32"]
        assert len([note for note in engine.notes if "CUDA graph" in note]) == 1

    def test_too_little_memory_is_tried_once_with_less(
        self, net: JWDM, device: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = CudaEngine(net, "scene", ["labels"], SIZE, device, "fp32")
        assert engine.gaps_at_once > 1
        frames = some_frames(4)
        wanted = reference_of(net, frames)
        run, most = CudaEngine._run, 100

        def limited(self: CudaEngine, key: Any, inputs: list[Tensor], prepare: Any) -> tuple[Tensor, ...]:
            if len(inputs) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return run(self, key, inputs, prepare)

        monkeypatch.setattr(CudaEngine, "_run", limited)
        gaps = gaps_of(engine.encode(frames))
        most = 13  # as many as one gap in place has, with its moments; two moved gaps have one more
        assert engine.gaps_at_once > 1
        assert max(errors(engine.between(gaps), wanted)) < LARGEST_ERROR["fp32"]
        assert engine.gaps_at_once == 1
        assert len([note for note in engine.notes if "short of memory" in note]) == 1
        most = 0
        with pytest.raises(DeviceError, match=r"44x38.*--size"):
            engine.encode(frames)


def test_says_what_it_cannot_do(net: JWDM, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no --precision int8; it has bf16, fp16, fp32"):
        CudaEngine(net, "scene", ["labels"], SIZE, "cpu", "int8")
    with pytest.raises(DeviceError, match=r"cuda:99.*--device cpu"):
        CudaEngine(net, "scene", ["labels"], SIZE, "cuda:99")
    monkeypatch.undo()
    assert "NVIDIA GPU" in str(cuda_engine.unusable("cpu"))
    assert "cuda:99" in str(cuda_engine.unusable("cuda:99"))
    assert (cuda_engine.unusable("cuda") is None) == torch.cuda.is_available()


def test_batches_hold_what_fits_and_keep_the_order() -> None:
    keyframe = Keyframe({}, {}, [])
    times = tuple(Fraction(k, 20) for k in range(20))
    gaps = [Gap(keyframe, keyframe, times[:count]) for count in (3, 3, 3, 20, 1)]
    fields: list[Fields | None] = [None, some_fields(3), None, some_fields(20), None]
    got = batches(gaps, fields, 7)
    assert [[(piece.gap, len(piece.times)) for piece in batch] for batch in got] == [
        [(0, 3), (2, 3), (4, 1)],
        [(1, 3)],
        [(3, 7)],
        [(3, 7)],
        [(3, 6)],
    ]
    whole, cut = fields[3], [piece for batch in got for piece in batch if piece.gap == 3]
    assert whole is not None
    assert sum((piece.times for piece in cut), ()) == times
    assert torch.equal(torch.cat([piece.fields.to_left for piece in cut if piece.fields]), whole.to_left)


@pytest.mark.skipif(INTERPRETED, reason="this process is the interpreted one")
def test_small_frames_come_many_at_once(net: JWDM) -> None:
    asked = {size: CudaEngine(net, "scene", ["labels"], size, "cpu").gaps_at_once for size in (SIZE, (512, 256))}
    assert asked == {SIZE: 2**21 // (44 * 40) // 8, (512, 256): 2}


# Our own norms, where Triton runs


@pytest.mark.parametrize("device", DEVICES)
class TestFused:
    __test__ = INTERPRETED or (CUDA and latents_triton.why_unavailable("cuda") is None)

    @pytest.fixture(autouse=True)
    def _only_where_triton_runs(self, device: str) -> None:
        if latents_triton.why_unavailable(device) is not None:
            pytest.skip("Triton does not run there")

    @pytest.mark.parametrize("shape", [(3, 5, 7, 6), (1, 70, 3, 1), (2, 1, 50, 45), (2, 8, 1, 2)])
    @pytest.mark.parametrize("relu", [False, True])
    def test_a_norm_with_what_follows_it(self, device: str, shape: tuple[int, ...], relu: bool) -> None:
        x, added = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
        plain = F.instance_norm(x)
        wanted = F.relu(plain) if relu else plain
        norm = FusedNorm(relu=relu)
        given, more = (y.to(device).to(memory_format=torch.channels_last) for y in (x, added))
        torch.testing.assert_close(norm(given).cpu(), wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(norm(given, more).cpu(), wanted + added, rtol=0, atol=1e-5)
        torch.testing.assert_close(norm(x.to(device), added.to(device)).cpu(), wanted + added, rtol=0, atol=1e-5)
        numbers = moments(given)
        torch.testing.assert_close(numbers.mean.cpu(), x.mean((2, 3)), rtol=0, atol=1e-5)
        torch.testing.assert_close(numbers.variance.cpu(), x.var((2, 3), correction=0), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(("precision", "res_convs"), [("fp32", 2), ("bf16", 1)])
    def test_an_engine_of_them(
        self, device: str, precision: str, res_convs: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if INTERPRETED:
            monkeypatch.setattr(CudaEngine, "_try", lambda self: None)  # takes as long as all of the rest
        net, frames = make_net(2, res_convs), some_frames(2, (36, 36))
        engines: list[BaseEngine] = [
            CudaEngine(net, "scene", ["labels"], (36, 36), device, precision),
            open_engine("torch", copy.deepcopy(net), "scene", ["labels"], (36, 36)),  # type: ignore[list-item]
        ]
        assert not engines[0].notes
        assert engines[0]._encoder.net is not net  # type: ignore[attr-defined]
        kinds = {type(module).__name__ for module in engines[0]._encoder.modules()}  # type: ignore[attr-defined]
        assert {"FusedNorm", "FusedResidual"} <= kinds
        assert not {"NormReLU", "ResidualBlock", "InstanceNorm2d"} & kinds
        pairs = [engine.encode(frames) for engine in engines]
        field = some_fields(1)
        for _ in range(2):
            got, wanted = (
                engine.between(
                    [
                        Gap(left, right, (Fraction(1, 3), Fraction(2, 3))),
                        Gap(right, left, (Fraction(1, 2),), field),
                    ]
                )
                for engine, (left, right) in zip(engines, pairs, strict=True)
            )
            assert max(errors(got, wanted)) < LARGEST_ERROR[precision]
        for one, two in zip(*pairs, strict=True):
            assert max(errors([one.decoded], [two.decoded])) < LARGEST_ERROR[precision]


@pytest.mark.skipif(INTERPRETED, reason="this process is the interpreted one")
def test_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment.pop("VIDTRANS_REQUIRE_CUDA", None)
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", __file__, "-k", "TestFused"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


# On a GPU only


@pytest.fixture
def composing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """vidtrans.compose, which takes no more of PyAV than its name."""
    if importlib.util.find_spec("av") is None:
        monkeypatch.setitem(sys.modules, "av", ModuleType("av"))
    return importlib.import_module("vidtrans.compose")


@pytest.mark.skipif(not CUDA, reason="torch finds no CUDA device")
class TestOnGPU:
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_everything_is_captured(self, precision: str) -> None:
        engine = CudaEngine(make_net(8), "scene", ["labels"], (128, 64), "cuda", precision)
        assert not engine.notes
        frames = some_frames(4, (128, 64))
        for _ in range(2):
            outputs_of(engine, frames)
        assert len(engine._graphs.kept) == 3
        assert all(graph._graph is not None for graph in engine._graphs.kept.values())

    def test_auto_is_bf16_where_the_gpu_has_it(self, net: JWDM) -> None:
        capability = torch.cuda.get_device_capability()
        precision = CudaEngine(net, "scene", ["labels"], SIZE).precision
        assert precision == ("bf16" if capability >= (8, 0) else "fp16")

    def test_frames_that_change_while_they_are_copied(self, net: JWDM) -> None:
        """Each call has pinned memory of its own until its copy is over."""
        engine = CudaEngine(net, "scene", ["labels"], SIZE, "cuda", "fp32")
        frames = some_frames(12)
        wanted = [engine.encode(frame.unsqueeze(0))[0].decoded["scene"].cpu() for frame in frames]
        buffer, got = torch.empty_like(frames[:1]), []
        for frame in frames:
            buffer.copy_(frame)
            got.append(engine.encode(buffer)[0].decoded["scene"])
            buffer.zero_()
        for one, two in zip(got, wanted, strict=True):
            torch.testing.assert_close(one.cpu(), two, rtol=0, atol=1e-4)

    def test_composing_there_equals_composing_here(
        self, composing: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The plain way: OpenCV before 5 reads rounded positions.
        monkeypatch.setattr(composing, "moved", lambda a, b, fields: fields.on(*a.shape[-2:]).blend(a, b))
        from vidtrans.timeline import Instant, Interval
        from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

        draw = np.random.default_rng(0)
        colour, size = Colour("bt601", full_range=False), (46, 34)
        step = Fraction(1, 4)
        for name, read in (("yuv420p", "yuv420p"), ("yuv444p10le", "yuv444p10le"), ("yuv444p", "yuv420p")):
            keyframes = [
                Frame(
                    tuple(
                        draw.integers(0, PIXEL_FORMATS[read].max_code + 1, shape).astype(PIXEL_FORMATS[read].dtype)
                        for shape in PIXEL_FORMATS[read].plane_shapes(*size)
                    ),
                    Fraction(time),
                    Fraction(1),
                    PIXEL_FORMATS[read],
                    colour,
                )
                for time in range(2)
            ]
            interval = Interval(*keyframes, tuple(Instant(k * step, k * step, step) for k in range(4)))
            decoded = torch.rand(5, 3, 17, 23) * 2 - 1
            moves = torch.randn(2, 4, 2, 17, 23)
            fields = Fields(moves[0], moves[1], torch.rand(4, 1, 17, 23))
            for motion in (None, fields):
                here, there = (
                    composing.Composer(
                        Domain("scene"),
                        scores=False,
                        size=size,
                        pix_fmt=PIXEL_FORMATS[name],
                        colour=colour,
                        is_source=True,
                        carry_detail=True,
                    ).frames(interval, *(part.to(device) for part in (decoded[:4], decoded[0], decoded[4])), motion)
                    for device in ("cpu", "cuda")
                )
                for one, two in zip(here, there, strict=True):
                    for plane, other in zip(one.planes, two.planes, strict=True):
                        assert plane.dtype == other.dtype
                        difference = np.abs(plane.astype(int) - other)
                        assert difference.max() <= 1  # where a value lies half way between two codes
                        assert (difference > 0).mean() < 0.01
                for plane, other in zip(there[0].planes, here[0].planes, strict=True):
                    assert name != read or (plane == other).all()

    def test_composers_in_threads_of_their_own(self, composing: ModuleType) -> None:
        """While the engine goes on with the next batches."""
        from vidtrans.timeline import Instant, Interval
        from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

        net, size, colour = make_net(8), (128, 64), Colour("bt601", full_range=True)
        engine = CudaEngine(net, "scene", ["labels"], size, "cuda", "fp32")
        frames = some_frames(20, size)
        pix_fmt, step = PIXEL_FORMATS["gbrp"], Fraction(1, 8)
        read = [
            Frame(tuple(frame[..., c].numpy() for c in (1, 2, 0)), Fraction(k), Fraction(1), pix_fmt, colour)
            for k, frame in enumerate(frames)
        ]

        def composer(domain: Domain) -> Any:
            return composing.Composer(
                domain, scores=domain.is_label, size=size, pix_fmt=pix_fmt, colour=colour, is_source=False,
                carry_detail=False,
            )  # fmt: skip

        def made(name: str, items: list[tuple[Interval, dict[str, Tensor]]], into: list[Any]) -> None:
            own = composer(next(domain for domain in net.domains if domain.name == name))
            for interval, outputs in items:
                into.extend(own.frames(interval, outputs[name], outputs[name][0], None))

        items: list[tuple[Interval, dict[str, Tensor]]] = []
        features = engine.encode(frames)
        for k in range(len(frames) - 1):
            outputs = engine.between([Gap(features[k], features[k + 1], EIGHTHS)])[0]
            instants = tuple(Instant(n * step, k + n * step, step) for n in range(8))
            items.append((Interval(read[k], read[k + 1], instants), outputs))
        alone: dict[str, list[Any]] = {}
        for name in engine.domains:
            torch.cuda.synchronize()
            made(name, items, alone.setdefault(name, []))
        together: dict[str, list[Any]] = {name: [] for name in engine.domains}
        threads = [threading.Thread(target=made, args=(name, items, together[name])) for name in engine.domains]
        for thread in threads:
            thread.start()
        for k in range(len(frames) - 1):  # the engine is at work meanwhile
            engine.between([Gap(features[k + 1], features[k], EIGHTHS)])
        for thread in threads:
            thread.join()
        for name in engine.domains:
            assert len(together[name]) == len(alone[name]) == 8 * len(items)
            for one, two in zip(together[name], alone[name], strict=True):
                assert all((a == b).all() for a, b in zip(one.planes, two.planes, strict=True))


def test_a_run_meant_for_a_gpu_has_one() -> None:
    if os.environ.get("VIDTRANS_REQUIRE_CUDA") == "1":
        assert CUDA, "VIDTRANS_REQUIRE_CUDA=1, and torch finds no CUDA device"
        assert latents_triton.why_unavailable("cuda") is None
