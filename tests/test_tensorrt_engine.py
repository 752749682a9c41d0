"""TensorRT plans are built for real without a GPU; what runs them is proved on a GPU, and its logic without one.

Without a GPU, ONNX Runtime stands in for TensorRT: what it runs are the engine's own graphs.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional as F

from vidtrans.checkpoint import save_model
from vidtrans.cli.engine import command
from vidtrans.engines import gap_graph, latents_triton, norms_triton, open_engine, tensorrt_engine, tensorrt_plans
from vidtrans.engines.contract import Gap
from vidtrans.engines.onnx_export import ELEMENT_TYPES, Graph
from vidtrans.engines.plan_cache import PlanCache
from vidtrans.engines.tensorrt_engine import TensorRTEngine
from vidtrans.engines.tensorrt_plans import Built, Job, Target, heartbeat, layer_types
from vidtrans.errors import DeviceError, UsageError, VidtransError
from vidtrans.latents import Fields
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig

DOMAINS = ("scene", "labels")
SIZE = (49, 38)  # (width, height), padded to 52x40
TIMES = tuple(Fraction(k, 4) for k in range(4))
ADA, BLACKWELL = Target((8, 9)), Target((12, 0))

no_gpu = tensorrt_engine.unusable("cuda")
on_a_gpu = pytest.mark.skipif(no_gpu is not None, reason=no_gpu or "")


def need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def net() -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    return JWDM(JWDMConfig(domains, width=6, latent_channels=8, blocks=1, label_head="palette")).eval()


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (3, SIZE[1], SIZE[0], 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> PlanCache:
    """Of this test alone; exports, which are slow, are shared by all, test_onnx_export.py's too."""
    export = Graph.__dict__["onnx"].func

    def onnx(self: Graph) -> bytes:
        file = tmp_path_factory.getbasetemp() / f"{self.network_hash}.onnx"
        if not file.exists():
            file.write_bytes(export(self))
        return file.read_bytes()

    monkeypatch.setattr(Graph, "onnx", property(onnx))
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path / "cache"))
    return PlanCache()


class RuntimeSession:
    """ONNX Runtime in place of a tensorrt_plans.Session; the "plan" is the ONNX."""

    factor = 1.0  # what its outputs are multiplied with: other than 1 is a miscompiled network

    def __init__(self, tensorrt: Any, plan: bytes, device: torch.device) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        self.batches: list[int] = []

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        self.batches.append(len(inputs[0]))
        assert all(x.is_contiguous() for x in inputs)
        names = [one.name for one in self._session.get_inputs()]
        feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(out) * self.factor for out in self._session.run(None, feeds)]

    def runner(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        return self.run

    def layer_types(self) -> Counter[str]:
        return Counter({"fp16": 3})


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes the engine run on "cpu", by ONNX Runtime, in batches of up to 4; gives what was built."""
    need("onnx", "onnxscript", "onnxruntime")
    built = []

    def build(tensorrt: Any, onnx: bytes, shapes: dict[str, Any], target: Target) -> Built:
        built.append(next(iter(shapes)))
        return Built(onnx, [], [], Counter())

    monkeypatch.setattr(tensorrt_engine, "unusable", lambda device: None)
    monkeypatch.setattr(tensorrt_plans, "build", build)
    monkeypatch.setattr(tensorrt_plans, "Session", RuntimeSession)
    monkeypatch.setattr(tensorrt_plans, "target_of", lambda device: Target((8, 9), "a GPU", 128, 1000, 100))
    monkeypatch.setattr(tensorrt_plans, "batch_limit", lambda height, width: 4)
    monkeypatch.setattr(
        tensorrt_plans, "found_for", lambda *capability: SimpleNamespace(__name__="tensorrt", __version__="11.0")
    )
    return built


class PlainPlan:
    """latents_triton.BlendPlan and MovedPlan in plain torch."""

    times: Tensor

    def __init__(self, lefts: Any, rights: Any, how: Any, kept: Any = None) -> None:
        self._gaps = list(zip(lefts, rights, how, strict=True))

    def __call__(self) -> Tensor:
        rows, first = [], 0
        for left, right, how in self._gaps:
            if isinstance(how, Fields):
                rows.append(how.blend(left.float(), right.float()))
            else:
                times = self.times[first : first + len(how)].view(-1, 1, 1, 1)
                rows.append(torch.lerp(left.float()[None], right.float()[None], times))
                first += len(how)
        return torch.relu(F.instance_norm(torch.cat(rows))).to(self._gaps[0][0].dtype)


@pytest.fixture
def fused(builds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Triton worked."""

    def moments(features: list[Tensor]) -> latents_triton.Moments:
        both = [(x.mean((1, 2)), x.var((1, 2), correction=0)) for x in (one.float() for one in features)]
        return latents_triton.Moments(*map(torch.stack, zip(*both, strict=True)))

    def instance_norm(x: Tensor, *, relu: bool) -> Tensor:
        assert relu
        return torch.relu(F.instance_norm(x.float())).to(x.dtype)

    monkeypatch.setattr(latents_triton, "why_unavailable", lambda device: None)
    monkeypatch.setattr(latents_triton, "BlendPlan", PlainPlan)
    monkeypatch.setattr(latents_triton, "MovedPlan", PlainPlan)
    monkeypatch.setattr(tensorrt_engine, "moments", moments)
    monkeypatch.setattr(norms_triton, "instance_norm", instance_norm)


def motion(count: int, seed: int) -> Fields:
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int) -> Tensor:
        return F.interpolate(torch.randn(count, channels, 3, 4, generator=generator), SIZE[::-1], mode="bicubic")

    return Fields(4 * smooth(2), 4 * smooth(2), smooth(1).sigmoid())


def assert_equals_the_reference(engine: Any, net: JWDM, frames: Tensor) -> None:
    """In fp16: keyframes, blended gaps, moved gaps, and both in one call."""
    reference = open_engine("torch", net, DOMAINS[0], DOMAINS[1:], SIZE)
    made = engine.encode(frames)
    wanted = reference.encode(frames)
    moving = motion(4, 2)

    def gaps(features: Any) -> list[Gap]:
        return [
            Gap(features[0], features[1], TIMES),
            Gap(features[1], features[2], TIMES, moving),
            Gap(features[2], features[2], (Fraction(0),)),
            Gap(features[0], features[1], TIMES[1:2]),
        ]

    outputs, references = engine.between(gaps(made)), reference.between(gaps(wanted))
    pairs = [*zip((f.decoded for f in made), (f.decoded for f in wanted), strict=True)]
    for got, want in (*pairs, *zip(outputs, references, strict=True)):
        assert list(got) == list(DOMAINS)
        for domain in DOMAINS:
            assert got[domain].shape == want[domain].shape
            assert got[domain].dtype == torch.float32
            difference = got[domain].cpu() - want[domain]
            assert difference.square().mean().sqrt() < 0.02 * want[domain].square().mean().sqrt()


def test_plain_blend_equals_the_reference(builds: list[str], net: JWDM, frames: Tensor) -> None:
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    assert engine.precision == "fp16"
    assert builds == ["frames", "lifted_scene"]
    blend_note, built_note = engine.notes
    assert "Triton needs a CUDA device" in blend_note
    assert "% from float32; layers by type: 6 fp16" in built_note
    assert_equals_the_reference(engine, net, frames)
    assert max(engine._decoder.batches) == 4  # type: ignore[attr-defined]


def test_fused_blend_equals_the_reference(fused: None, builds: list[str], net: JWDM, frames: Tensor) -> None:
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    assert [entry.facts.part for entry in PlanCache().entries()] == ["finish_normed", "encode_lifts"]
    assert_equals_the_reference(engine, net, frames)


def test_a_shape_is_captured_when_it_comes_again_and_replayed_on_new_features(
    fused: None, net: JWDM, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU a graph is replayed by running anew, on its own tensors."""
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    assert engine._graphs.work
    assert_equals_the_reference(engine, net, frames)
    assert len(engine._graphs.kept) == 0
    for turn in range(3):
        assert_equals_the_reference(engine, net, frames.roll(5 * turn, dims=2).flip(0))
        # The gap that is moved; the one in place with what fits into its batch.
        assert set(engine._graphs.kept) == {("between", (3, 1), False), ("between", (3,), True)}
    left, right, _ = engine.encode(frames)
    first = engine.between([Gap(left, right, TIMES)])[0]["scene"].clone()
    again = engine.between([Gap(left, right, TIMES)])[0]["scene"]
    engine.between([Gap(right, left, TIMES)])
    assert torch.equal(first, again)  # a later replay does not write into what was given out
    kept = list(engine._graphs.kept)
    sevenths = tuple(Fraction(k, 7) for k in (1, 2, 3))
    for times in (sevenths, TIMES[1:]):  # one graph for all instants
        replayed = engine.between([Gap(left, right, times)])[0]["scene"]
        for row, time_ in enumerate(times):
            torch.testing.assert_close(replayed[row], engine.between([Gap(left, right, (time_,))])[0]["scene"][0])
    assert [key for key in engine._graphs.kept if key not in kept] == [("between", (1,), False)]
    monkeypatch.setattr(gap_graph, "GRAPHS_KEPT", 4)
    for count in range(1, 5):
        for _ in range(2):
            engine.between([Gap(left, right, tuple(Fraction(k, 9) for k in range(1, 1 + count)))])
        assert len(engine._graphs.kept) == 4


def test_without_capture_it_says_so_once_and_goes_on(
    fused: None, net: JWDM, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(gap_graph, "Graphed", refuse)
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    for _ in range(3):
        assert_equals_the_reference(engine, net, frames)
    assert engine.notes[1:] == ["no CUDA graphs: operation not permitted when stream is capturing"]


@pytest.mark.parametrize("wrong", [0.0, float("nan")])
def test_a_graph_that_computes_something_else_is_not_used(
    fused: None, net: JWDM, frames: Tensor, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    run = gap_graph.Graphed.__call__
    monkeypatch.setattr(gap_graph.Graphed, "__call__", lambda *given: tuple(out * wrong for out in run(*given)))
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    for _ in range(3):
        assert_equals_the_reference(engine, net, frames)
    assert "no CUDA graphs: what they compute is" in engine.notes[-1]


def test_plans_are_built_and_compared_once(builds: list[str], net: JWDM, monkeypatch: pytest.MonkeyPatch) -> None:
    TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
    assert len(builds) == 2
    assert all(list(entry.checks) == ["a GPU, 128 multiprocessors, 1000 MiB"] for entry in PlanCache().entries())
    monkeypatch.setattr(tensorrt_engine, "relative_error", None)
    assert len(TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu").notes) == 1
    assert len(builds) == 2


def test_plans_that_compute_something_else_are_refused_and_removed(
    builds: list[str], net: JWDM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for factor in (1.2, float("nan")):
        monkeypatch.setattr(RuntimeSession, "factor", factor)
        with pytest.raises(DeviceError, match=r"computes something else than the network .*--engine cuda"):
            TensorRTEngine(net, "scene", ["labels"], SIZE, "cpu")
        assert PlanCache().entries() == []


@pytest.mark.parametrize(
    ("part", "precision"), [("encode_lifts", "fp16"), ("finish_normed", "fp16"), ("finish", "bf16")]
)
@pytest.mark.parametrize("target", [ADA, BLACKWELL], ids=["8.9", "12.0"])
def test_plans_are_built_without_a_gpu(
    net: JWDM, cache: PlanCache, monkeypatch: pytest.MonkeyPatch, part: str, precision: str, target: Target
) -> None:
    need("tensorrt_rtx", "onnx", "onnxscript")
    built: list[Built] = []
    real = tensorrt_plans.build
    monkeypatch.setattr(tensorrt_plans, "build", lambda *arguments: built.append(real(*arguments)) or built[-1])
    job = Job(Graph(net, DOMAINS, part, precision), 40, 52, target)
    plan = job.plan(cache)
    half = {"fp16": "HALF", "bf16": "BF16"}[precision]
    (told,) = built
    assert plan.data == told.plan
    assert len(plan.data) > 100_000  # kernels, beside 60 kB of weights
    lifted = [(f"lifted_{domain}", half, (-1, 24, 10, 13)) for domain in DOMAINS]
    if part == "encode_lifts":
        assert told.inputs == [("frames", "FLOAT", (-1, 3, 40, 52))]
        assert told.outputs == lifted
    else:
        assert told.inputs == lifted
        assert told.outputs == [("out_scene", "FLOAT", (-1, 3, 40, 52)), ("out_labels", "FLOAT", (-1, 10, 40, 52))]
    assert told.layers[half] > 10
    assert set(told.layers) <= {half, "FLOAT", "INT32", "INT64", "BOOL"}
    largest = tensorrt_plans.batch_limit(40, 52)
    for shapes in job.shapes.values():
        assert [shape[0] for shape in shapes] == [1, 8, largest]
    (entry,) = cache.entries()
    tensorrt_rtx = importlib.import_module("tensorrt_rtx")
    assert entry.facts == job.facts
    assert (entry.facts.flavour, entry.facts.version) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert entry.facts.compute_capability == {(8, 9): "8.9", (12, 0): "12.0"}[target.compute_capability]
    assert (entry.bytes, entry.checks, entry.about) == (len(plan.data), {}, "scene to labels")
    again = job.plan(cache)
    assert (again.built, again.data, len(built)) == (False, plan.data, 1)


def test_tensorrt_rtx_has_all_that_running_a_plan_asks_for() -> None:
    """Which takes a GPU to run, but not to know by name."""
    need("tensorrt_rtx")
    rtx = importlib.import_module("tensorrt_rtx")
    asked = {
        rtx.Runtime: "deserialize_cuda_engine",
        rtx.ICudaEngine: "create_execution_context create_runtime_config create_engine_inspector device_memory_size_v2 "
        "num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype",
        rtx.IExecutionContext: "set_device_memory set_input_shape set_tensor_address get_tensor_shape execute_async_v3",
        rtx.IRuntimeConfig: "dynamic_shapes_kernel_specialization_strategy set_runtime_cache create_runtime_cache "
        "set_execution_context_allocation_strategy",
        rtx.EngineInspector: "get_engine_information",
        rtx.DynamicShapesKernelSpecializationStrategy: "EAGER",
        rtx.ExecutionContextAllocationStrategy: "USER_MANAGED",
        rtx.TensorIOMode: "INPUT",
        rtx.LayerInformationFormat: "JSON",
    }
    assert not [f"{owner.__name__}.{name}" for owner, names in asked.items() for name in names.split()
                if not hasattr(owner, name)]  # fmt: skip


def test_a_network_tensorrt_does_not_take_is_one_sentence(net: JWDM) -> None:
    need("tensorrt_rtx")
    with pytest.raises(DeviceError, match="cannot read the network") as caught:
        tensorrt_plans.build(importlib.import_module("tensorrt_rtx"), b"no ONNX", {}, ADA)
    assert "\n" not in str(caught.value)


def test_builds_for_absent_gpus_are_refused_where_they_cannot_be(net: JWDM, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(Graph(net, DOMAINS, "finish", "fp16"), 40, 52, Target((9, 0)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"vidtrans\[rtx\]"):
        _ = job.facts
    monkeypatch.undo()
    need("tensorrt_rtx")
    with pytest.raises(UsageError, match=r"no GPUs of compute capability 9\.0, only of .*8\.9.*12\.0"):
        _ = job.facts


def test_why_tensorrt_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    def only(**modules: Any) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in modules or None)
        monkeypatch.setattr(importlib, "import_module", lambda name: modules[name])

    rtx = SimpleNamespace(__version__="1.7", ComputeCapability=SimpleNamespace(SM89=1, __members__={"SM89": 1}))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    only()
    assert "pip install 'vidtrans[tensorrt]'" in str(tensorrt_engine.unusable("cuda"))
    only(tensorrt_rtx=rtx)
    assert tensorrt_engine.unusable("cpu") == "TensorRT needs a CUDA device"
    assert tensorrt_engine.unusable("cuda") is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert "tensorrt_rtx 1.7 knows no GPUs of compute capability 9.0" in str(tensorrt_engine.unusable("cuda"))
    only(tensorrt=SimpleNamespace(__version__="11.4"), tensorrt_rtx=rtx)
    assert tensorrt_engine.unusable("cuda") is None

    def broken(name: str) -> Any:
        raise ImportError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    only_tensorrt = {"tensorrt"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in only_tensorrt or None)
    assert tensorrt_engine.unusable("cuda") == (
        "tensorrt cannot be imported (libnvinfer.so.11: cannot open shared object file)"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_mistakes_are_one_sentence(net: JWDM) -> None:
    with pytest.raises(UsageError, match="no --precision int8; it has fp32, fp16, bf16"):
        open_engine("tensorrt", net, "scene", ["labels"], SIZE, "cuda", "int8")
    for device in ("cuda", "cpu", "nonsense"):
        with pytest.raises(DeviceError, match="try another --engine") as caught:
            open_engine("tensorrt", net, "scene", ["labels"], SIZE, device)
        assert "\n" not in str(caught.value)


def test_a_long_build_says_that_it_is_still_there() -> None:
    said: list[str] = []
    with heartbeat("building", said.append, seconds=0.05):
        begin = time.monotonic()
        while len(said) < 3 and time.monotonic() - begin < 20:
            time.sleep(0.05)
    assert said[0] == "building: 0 s so far"
    count = len(said)
    time.sleep(0.2)
    assert len(said) == count


def test_layer_types_are_read_from_what_the_inspector_says() -> None:
    def layer(text: str) -> str:
        return f'{{"Name": "conv", "Outputs": [{{"Name": "x", "Format/Datatype": "{text}"}}]}}'

    texts = ("Half", "Row major linear FP16 format", "BFloat16", "BF16 NHWC", "Float", "Row major linear FP32", "Int64")
    information = f'{{"Layers": [{", ".join(map(layer, texts))}, "only a name"]}}'
    assert layer_types(information) == {"fp16": 2, "bf16": 2, "fp32": 2}
    assert layer_types("no JSON") == layer_types("[]") == Counter()


def test_the_command_builds_lists_and_clears(net: JWDM, cache: PlanCache, tmp_path: Path) -> None:
    need("tensorrt_rtx", "onnx", "onnxscript")
    model = tmp_path / "model.safetensors"
    save_model(model, net)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    capabilities = ("--compute-capability", "8.9", "--compute-capability", "12.0")
    said = run("build", str(model), "--size", "52x40", *capabilities)
    assert said.count("built in") == 6
    assert len(cache.entries()) == 6
    assert run("build", str(model), "--size", "52x40", *capabilities).count("there already") == 6
    listed = run("list")
    for part in ("encode_lifts", "finish", "finish_normed"):
        for capability in ("8.9", "12.0"):
            assert f"{part}-52x40-fp16-sm{capability}-" in listed
    assert "scene to labels" in listed
    assert "seconds ago" in listed
    assert "not compared yet" in listed
    assert "6 plans" in listed
    freed = sum(path.stat().st_size for path in cache.folder.iterdir())
    assert f"{freed} bytes removed" in run("clear", "--yes")
    assert "0 plans" in run("list")


def test_the_commands_mistakes(net: JWDM, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(model, net)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, ["build", str(model), *arguments])

    assert run("--device", "cuda", "--compute-capability", "8.9").exit_code == 2
    assert "such as 8.9" in run("--compute-capability", "ada").output
    for arguments, words in (
        (("--to", "night"), "no domain 'night'"),
        (("--to", "scene", "--from", "scene"), "both scene"),
    ):
        error = run(*arguments, "--compute-capability", "8.9").exception
        assert isinstance(error, VidtransError)
        assert words in str(error)


@on_a_gpu
@pytest.mark.parametrize("precision", list(ELEMENT_TYPES))
def test_on_a_gpu_it_equals_the_reference(net: JWDM, frames: Tensor, precision: str) -> None:
    engine = TensorRTEngine(net, "scene", ["labels"], SIZE, "cuda", precision)
    if precision == "fp16":
        for _ in range(3):  # plain, captured, replayed
            assert_equals_the_reference(engine, net, frames)
    assert not [note for note in engine.notes if note.startswith("no CUDA graph")]
    entries = PlanCache().entries()
    assert all(entry.checks for entry in entries)
    before = [entry.made for entry in entries]
    TensorRTEngine(net, "scene", ["labels"], SIZE, "cuda", precision)
    assert [entry.made for entry in PlanCache().entries()] == before
