"""The TensorRT engine: one code path for `tensorrt` 10 and 11 and for `tensorrt_rtx`.

Two plans, the encoder with the lifts and the decoders' rest, with our own kernels between them (latents_triton) where
Triton works; all of a batch of gaps is then one CUDA graph. Networks are strongly typed: precision stands in the ONNX,
and no version's flags matter. Plans come from a cache and are compared with the float32 reference before their first
use on a device, because TensorRT has been seen to miscompile residual blocks in silence.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines import latents_triton
from vidtrans.engines.base import BATCH_PIXELS, BaseEngine
from vidtrans.engines.contract import Features, Gap, Samples
from vidtrans.engines.onnx_export import ELEMENT_TYPES, Graph
from vidtrans.engines.plan_cache import Facts, PlanCache
from vidtrans.errors import DeviceError, UsageError
from vidtrans.latents import Fields

FLAVOURS = ("tensorrt", "tensorrt_rtx")
INSTALL = "pip install 'vidtrans[tensorrt]', or 'vidtrans[rtx]' for GeForce and RTX GPUs"
HEARTBEAT_SECONDS = 5.0
# Relative RMS error against float32 above which a plan is refused. Rounding alone gives 0.7 % in fp16 and 5 % in bf16
# at worst (untrained weights; a tenth of that with trained ones), a miscompiled network gives about 100 %.
LARGEST_ERROR = {"fp32": 0.005, "fp16": 0.05, "bf16": 0.2}
GRAPHS_KEPT = 4  # each holds its inputs, outputs and activations
CONTEXTS_KEPT = 8  # of batch sizes; small, their activations share one allocation
TRIAL_TIMES = tuple(Fraction(k, 8) for k in range(8))

Report = Callable[[str], None]


def unusable(device: str) -> str | None:
    """Why TensorRT cannot be used on a device, in words for the user; None if it can."""
    if not any(importlib.util.find_spec(name) for name in FLAVOURS):
        return f"TensorRT is not installed: {INSTALL}"
    try:
        if torch.device(device).type != "cuda":
            return "TensorRT needs a CUDA device"
        capability = torch.cuda.get_device_capability(device)
    except (RuntimeError, AssertionError) as error:
        return f"device {device!r} cannot be used ({str(error).splitlines()[0]})"
    found = _found(*capability)
    return found if isinstance(found, str) else None


class TensorRTEngine(BaseEngine):
    """See contract.Engine.

    Args:
        device: "cuda", "cuda:1" ...
        precision: "auto" is fp16; "bf16", "fp32".
        report: gets a line every few seconds while a plan is being built, which can take minutes.

    Raises:
        DeviceError: TensorRT cannot be used there, or its plan is wrong. UsageError: a precision this engine does not
            have, or the packages that export the network are missing.
    """

    name = "tensorrt"

    def __init__(
        self,
        net: Any,
        source: str,
        targets: Sequence[str],
        working_size: tuple[int, int],
        device: str = "cuda",
        precision: str = "auto",
        samples: Samples | None = None,
        report: Report | None = None,
    ) -> None:
        precision = checked_precision(precision)
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; or try another --engine")
        super().__init__(net, source, targets, working_size, device, precision)
        self._type = ELEMENT_TYPES[precision]
        height, width = self.padded_size
        self._limit = batch_limit(height, width)
        self.gaps_at_once = max(1, min(8, self._limit // 8))
        self._fused = None if net.lift_norm == "instance_relu" else "this network has no norm to fuse"
        self._fused = self._fused or latents_triton.why_unavailable(device)
        if self._fused is not None:
            self.notes.append(f"plain blend and no CUDA graph: {self._fused}")
        parts = ("encode_lifts", "finish" if self._fused else "finish_normed")
        jobs = [Job(Graph(net, self.domains, part, precision), height, width, target_of(device)) for part in parts]
        cache = PlanCache()
        self._graphs: OrderedDict[Any, GapGraph] = OrderedDict()
        self._seen: set[Any] = set()
        # Capturing waits until the plans are known to be right.
        self._graphs_work = False
        with on_device(device):
            plans = [job.plan(cache, report) for job in jobs]
            # Loading a plan of tensorrt_rtx compiles its kernels for the device.
            with heartbeat("loading the TensorRT plans and comparing them with the reference", report):
                self._encoder, self._decoder = (
                    Session(job.tensorrt, plan.data, torch.device(device))
                    for job, plan in zip(jobs, plans, strict=True)
                )
                self._check(net, jobs, cache, [plan for plan in plans if plan.built])
                if self._fused is None and torch.device(device).type == "cuda":
                    self._try_graph()

    def _check(self, net: Any, jobs: Sequence[Job], cache: PlanCache, built: Sequence[Plan]) -> None:
        """Compare plans with the reference, once for every device they are used on.

        Raises:
            DeviceError: they are far off; they are removed from the cache.
        """
        where = _device_in_words(self.device)
        entries = [cache.entry(job.facts) for job in jobs]
        if not built and all(entry is not None and where in entry.checks for entry in entries):
            return
        worst = relative_error(self, net)
        words = f"{100 * worst:.2g} % from float32"
        # Not a number is no small error.
        if not worst <= LARGEST_ERROR[self.precision]:
            for job in jobs:
                cache.drop(job.facts)
            raise DeviceError(
                f"what TensorRT {jobs[0].facts.version} built computes something else than the network ({words}); "
                "use --engine cuda, or another --precision"
            )
        for job in jobs:
            cache.add_check(job.facts, where, words)
        types = sum((session.layer_types() for session in (self._encoder, self._decoder)), Counter[str]())
        layers = ", ".join(f"{count} {name}" for name, count in types.most_common())
        took = f"plans built in {sum(plan.seconds for plan in built):.0f} s" if built else "plans new to this device"
        self.notes.append(f"{took}: {words}" + (f"; layers by type: {layers}" if layers else ""))

    def _try_graph(self) -> None:
        """Capture a gap, and use CUDA graphs if that works and computes the same."""
        self._graphs_work = True
        left, right = self.encode(_test_frames(self.working_size))
        # A shape is captured when it comes a second time.
        plain, replayed = (self.between([Gap(left, right, TRIAL_TIMES)])[0] for _ in range(2))
        worst = _worst([(replayed[d], plain[d]) for d in self.domains])
        if self._graphs_work and not worst <= LARGEST_ERROR[self.precision]:
            self._graphs_work = False
            self._graphs.clear()
            self.notes.append(f"no CUDA graph: what it computes is {100 * worst:.2g} % off")

    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        parts = [self._encoder.run([rows]) for rows in torch.split(x.float().contiguous(), self._limit)]
        return {d: _joined([part[i] for part in parts]) for i, d in enumerate(self.domains)}

    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._fused is None:
            first = (Fraction(0),)
            lifted = {d: latents_triton.blend_norm_relu(list(a), list(a), [first] * len(a)) for d, a in lifted.items()}
        return self._decoded(lifted)

    def _decoded(self, decoder_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the second plan makes of its inputs, in batches it takes."""
        inputs = [decoder_inputs[d].to(self._type).contiguous() for d in self.domains]
        parts = [self._decoder.run(rows) for rows in zip(*(torch.split(a, self._limit) for a in inputs), strict=True)]
        return {d: _joined([part[i] for part in parts]) for i, d in enumerate(self.domains)}

    def _mixed(self, gaps: list[Gap]) -> dict[str, Tensor]:
        # Moving and blending are float32 arithmetic whatever the features are stored in.
        wide = [Gap(_in_float32(gap.left), _in_float32(gap.right), gap.times, gap.motion) for gap in gaps]
        return super()._mixed(wide)

    def _in_betweens(self, gaps: list[Gap]) -> Any:
        if self._fused is not None or not gaps:
            return super()._in_betweens(gaps)
        fields = [None if gap.motion is None else self._feature_fields(gap.motion, gap.left) for gap in gaps]
        rows: list[dict[str, Tensor] | None] = [None] * len(gaps)
        for moved in (False, True):
            chosen = [i for i, field in enumerate(fields) if (field is not None) == moved]
            if chosen:
                batch = Batch.of([gaps[i] for i in chosen], [fields[i] for i in chosen], self.domains)
                outputs = self._cropped(self._made(batch))
                for i, part in zip(chosen, _split(outputs, batch.counts), strict=True):
                    rows[i] = part
        return iter(rows)

    def _made(self, batch: Batch) -> dict[str, Tensor]:
        """The in-betweens of a batch, at the padded size; from the second time its shape comes, by a CUDA graph."""
        graph = self._graphs.get(batch.key)
        if graph is None and self._graphs_work and batch.key in self._seen:
            try:
                graph = GapGraph(batch, self._decoded_anew)
            except RuntimeError as error:
                self._graphs_work = False
                self.notes.append(f"no CUDA graph: {next(iter(str(error).splitlines()), type(error).__name__)}")
            else:
                self._graphs[batch.key] = graph
                if len(self._graphs) > GRAPHS_KEPT:
                    if torch.device(self.device).type == "cuda":
                        torch.cuda.synchronize(self.device)  # it may still be running
                    self._graphs.popitem(last=False)
        if graph is None:
            self._seen.add(batch.key)
            return self._decoded(batch.mixed())
        self._graphs.move_to_end(batch.key)
        return graph(batch)

    def _decoded_anew(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """`_decoded` with contexts of its own, which nothing but a graph will bind again."""
        runner = self._decoder.runner()

        def decoded(decoder_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            inputs = [decoder_inputs[d] for d in self.domains]
            parts = [runner(rows) for rows in zip(*(torch.split(a, self._limit) for a in inputs), strict=True)]
            return {d: _joined([part[i] for part in parts]) for i, d in enumerate(self.domains)}

        return decoded


@dataclass(frozen=True)
class Target:
    """What a plan is to run on; without a name, any GPU of that compute capability.

    Attributes: as of plan_cache.Facts; compute_capability is (major, minor).
    """

    compute_capability: tuple[int, int]
    gpu: str = ""
    processors: int = 0
    memory_mib: int = 0
    cache_kib: int = 0


def target_of(device: str) -> Target:
    """The GPU that a torch device is."""
    facts = torch.cuda.get_device_properties(torch.device(device))
    return Target(
        (facts.major, facts.minor),
        facts.name,
        facts.multi_processor_count,
        facts.total_memory >> 20,
        facts.L2_cache_size >> 10,
    )


def _device_in_words(device: str) -> str:
    target = target_of(device)
    return f"{target.gpu}, {target.processors} multiprocessors, {target.memory_mib} MiB"


@dataclass(frozen=True)
class Plan:
    """A plan, whether it was built now, and the seconds it took to get it."""

    data: bytes
    built: bool
    seconds: float


@dataclass(frozen=True)
class Job:
    """One plan that is wanted: of a graph, for frames of the padded size (height, width) in pixels, on a target.

    Raises:
        UsageError: no TensorRT here builds for that target.
    """

    graph: Graph
    height: int
    width: int
    target: Target

    @cached_property
    def tensorrt(self) -> Any:
        """The module that builds it."""
        capability = self.target.compute_capability
        found = _found(*capability) if self.target.gpu else _rtx_found(*capability)
        if isinstance(found, str):
            raise UsageError(found)
        return found

    @cached_property
    def shapes(self) -> dict[str, list[list[int]]]:
        """Per input its smallest, usual and largest shape: full batches are where the time goes."""
        largest = batch_limit(self.height, self.width)
        if self.graph.part == "encode_lifts":
            shape: tuple[int, ...] = (3, self.height, self.width)
        else:
            shape = self.graph.lifted_shape(self.height, self.width)
        batches = (1, min(8, largest), largest)
        return {name: [[batch, *shape] for batch in batches] for name in self.graph.input_names}

    @cached_property
    def facts(self) -> Facts:
        target, tensorrt = self.target, self.tensorrt
        major, minor = target.compute_capability
        common: dict[str, Any] = {
            "network": self.graph.network_hash,
            "part": self.graph.part,
            "precision": self.graph.precision,
            "frames": f"{self.width}x{self.height}",
            "shapes": self.shapes,
            "flavour": tensorrt.__name__,
            "version": tensorrt.__version__,
            "compute_capability": f"{major}.{minor}",
        }
        if tensorrt.__name__ == "tensorrt_rtx":
            # Its plans hold no code for one device; that is made when they are loaded.
            return Facts(**common)
        return Facts(
            **common,
            gpu=target.gpu,
            processors=target.processors,
            memory_mib=target.memory_mib,
            cache_kib=target.cache_kib,
        )

    def plan(self, cache: PlanCache, report: Report | None = None) -> Plan:
        """The plan, from the cache or built now."""
        facts, begin = self.facts, time.monotonic()
        about = f"{self.graph.domains[0]} to {', '.join(self.graph.domains[1:])}"
        with heartbeat(f"building the TensorRT plan {facts.name}", report):
            data, built = cache.get(facts, self._build, about)
        return Plan(data, built, time.monotonic() - begin)

    def _build(self) -> bytes:
        return build(self.tensorrt, self.graph.onnx, self.shapes, self.target).plan


@dataclass(frozen=True)
class Built:
    """A serialised plan, and what its network told.

    Attributes:
        inputs, outputs: (name, element type, shape) of each; -1 is the batch.
        layers: how many layers give each element type.
    """

    plan: bytes
    inputs: list[tuple[str, str, tuple[int, ...]]]
    outputs: list[tuple[str, str, tuple[int, ...]]]
    layers: Counter[str]


def build(tensorrt: Any, onnx: bytes, shapes: dict[str, list[list[int]]], target: Target) -> Built:
    """A plan of an ONNX model.

    Args:
        tensorrt: the module `tensorrt` or `tensorrt_rtx`; the latter needs no GPU.
        shapes: per input its smallest, usual and largest shape, which differ in the batch only.

    Raises:
        DeviceError: TensorRT cannot build it.
    """
    log = _log(tensorrt)
    log.errors.clear()
    builder = tensorrt.Builder(log)
    # From version 11 on all networks are strongly typed.
    flag = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = tensorrt.OnnxParser(network, log)
    if not parser.parse(onnx):
        raise DeviceError(f"TensorRT {tensorrt.__version__} cannot read the network ({log.first_error()})")
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        # Height and width are known, and kernels for known sizes are faster.
        tensor.shape = (-1, *shapes[tensor.name][0][1:])
        profile.set_shape(tensor.name, *(tuple(shape) for shape in shapes[tensor.name]))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # so that the plan can tell its precisions
    config.max_aux_streams = 0  # one stream, as one CUDA graph takes it, and less memory
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # fp32 is float32
    if tensorrt.__name__ == "tensorrt_rtx":  # the other one builds for the GPU that is here
        major, minor = target.compute_capability
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(tensorrt.ComputeCapability, f"SM{major}{minor}"), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(f"TensorRT {tensorrt.__version__} cannot build the network ({log.first_error()})")
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return Built(
        bytes(plan),
        [_described(network.get_input(index)) for index in range(network.num_inputs)],
        [_described(network.get_output(index)) for index in range(network.num_outputs)],
        Counter(layer.get_output(0).dtype.name for layer in layers),
    )


def _described(tensor: Any) -> tuple[str, str, tuple[int, ...]]:
    return tensor.name, tensor.dtype.name, tuple(tensor.shape)


class Session:
    """A plan on a GPU.

    Raises:
        DeviceError: TensorRT does not take the plan.
    """

    def __init__(self, tensorrt: Any, plan: bytes, device: torch.device) -> None:
        self.tensorrt, self.device = tensorrt, device
        log = _log(tensorrt)
        log.errors.clear()
        with torch.cuda.device(device):
            self._runtime = tensorrt.Runtime(log)
            self.engine = self._runtime.deserialize_cuda_engine(plan)
            if self.engine is None:
                raise DeviceError(f"TensorRT {tensorrt.__version__} does not take its own plan ({log.first_error()})")
            # Contexts run one after another, so they can share their activations.
            self.scratch = torch.empty(max(1, self.engine.device_memory_size_v2), dtype=torch.uint8, device=device)
            self._settings = self._make_settings()
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        into = tensorrt.TensorIOMode.INPUT
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == into]
        self.outputs = [name for name in names if name not in self.inputs]
        types = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}
        self.types = {name: types[self.engine.get_tensor_dtype(name).name] for name in names}
        self._runner = self.runner()

    def _make_settings(self) -> Any:
        """Of contexts of tensorrt_rtx, which compiles kernels when it meets a shape; None for the other."""
        if self.tensorrt.__name__ != "tensorrt_rtx":
            return None
        settings = self.engine.create_runtime_config()
        # Before the first batch, not beside it: a CUDA graph keeps the kernels that it saw.
        strategies = self.tensorrt.DynamicShapesKernelSpecializationStrategy
        settings.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        settings.set_execution_context_allocation_strategy(
            self.tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # Shared by all contexts, so that one compiles for all.
        settings.set_runtime_cache(settings.create_runtime_cache())
        return settings

    def new_context(self, batch: int, shapes: Sequence[Sequence[int]]) -> Any:
        """An execution context whose shapes are set for good."""
        strategy = self.tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy if self._settings is None else self._settings)
        if context is None:
            raise DeviceError(f"TensorRT cannot run its plan ({_log(self.tensorrt).first_error()})")
        context.set_device_memory(self.scratch.data_ptr(), self.scratch.numel())
        for name, shape in zip(self.inputs, shapes, strict=True):
            if not context.set_input_shape(name, (batch, *shape[1:])):
                raise RuntimeError(f"TensorRT does not take {name} of shape {tuple(shape)}")
        return context

    def runner(self) -> Runner:
        return Runner(self)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Dense inputs of the plan's types, in its order and of one batch size -> its outputs."""
        current = torch.cuda.current_stream(self.device)
        if current != torch.cuda.default_stream(self.device):
            return self._runner(inputs)
        # On the default stream TensorRT would wait for the whole device.
        self._stream.wait_stream(current)
        outputs = self._runner(inputs, self._stream)
        current.wait_stream(self._stream)
        return outputs

    def layer_types(self) -> Counter[str]:
        """How many layers of the plan give each element type, as its inspector tells; empty where it does not."""
        inspector = self.engine.create_engine_inspector()
        return layer_types(inspector.get_engine_information(self.tensorrt.LayerInformationFormat.JSON))


class Runner:
    """A plan's execution contexts, one for each batch size."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._contexts: OrderedDict[int, Any] = OrderedDict()

    def __call__(self, inputs: Sequence[Tensor], stream: torch.cuda.Stream | None = None) -> list[Tensor]:
        """See Session.run; the outputs are allocated on the current stream, whatever stream runs the plan."""
        session = self._session
        batch = len(inputs[0])
        with torch.cuda.device(session.device):
            context = self._contexts.get(batch)
            if context is None:
                context = session.new_context(batch, [x.shape for x in inputs])
                self._contexts[batch] = context
                if len(self._contexts) > CONTEXTS_KEPT:
                    torch.cuda.synchronize(session.device)  # it may still be running
                    self._contexts.popitem(last=False)
            self._contexts.move_to_end(batch)
            for name, x in zip(session.inputs, inputs, strict=True):
                if x.dtype != session.types[name] or not x.is_contiguous():
                    raise ValueError(f"{name} must be dense {session.types[name]}, not {x.dtype}")
                context.set_tensor_address(name, x.data_ptr())
            outputs = []
            for name in session.outputs:
                shape = tuple(context.get_tensor_shape(name))
                outputs.append(torch.empty(shape, dtype=session.types[name], device=session.device))
                context.set_tensor_address(name, outputs[-1].data_ptr())
            stream = torch.cuda.current_stream(session.device) if stream is None else stream
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError(f"TensorRT failed ({_log(session.tensorrt).first_error()})")
        return outputs


@dataclass(frozen=True)
class Batch:
    """Gaps that go through the decoder together, all of them blended in place or all of them moved.

    Attributes:
        features: per domain the keyframes' lifted features, each once.
        pairs: per gap the places of its keyframes in these lists.
        times: per gap its instants.
        fields: per gap, where moved; dense float32.
    """

    features: dict[str, list[Tensor]]
    pairs: tuple[tuple[int, int], ...]
    times: tuple[tuple[Fraction, ...], ...]
    fields: tuple[Fields, ...]

    @classmethod
    def of(cls, gaps: Sequence[Gap], fields: Sequence[Fields | None], domains: Sequence[str]) -> Batch:
        keyframes = {id(keyframe): keyframe for gap in gaps for keyframe in (gap.left, gap.right)}
        place = {key: i for i, key in enumerate(keyframes)}
        return cls(
            {d: [keyframe.lifted[d].contiguous() for keyframe in keyframes.values()] for d in domains},
            tuple((place[id(gap.left)], place[id(gap.right)]) for gap in gaps),
            tuple(gap.times for gap in gaps),
            tuple(
                Fields(*(part.float().contiguous() for part in (f.to_left, f.to_right, f.right_share)))
                for f in fields
                if f is not None
            ),
        )

    @property
    def counts(self) -> list[int]:
        """Instants of each gap."""
        return [len(times) for times in self.times]

    @property
    def key(self) -> Any:
        """What a CUDA graph is captured for. Where features are moved, instants are in the fields, not in the graph."""
        return (self.pairs, tuple(self.counts), "moved") if self.fields else (self.pairs, self.times, "blended")

    def tensors(self) -> Iterator[Tensor]:
        """All that differs between batches of the same key, in the same order."""
        for features in self.features.values():
            yield from features
        for field in self.fields:
            yield from (field.to_left, field.to_right, field.right_share)

    def copy(self) -> Batch:
        """The same with tensors of its own."""
        return Batch(
            {d: [x.clone() for x in features] for d, features in self.features.items()},
            self.pairs,
            self.times,
            tuple(Fields(f.to_left.clone(), f.to_right.clone(), f.right_share.clone()) for f in self.fields),
        )

    def plans(self) -> dict[str, Callable[[], Tensor]]:
        """Per domain, what makes the decoder's normed inputs anew from these tensors, whenever it is called."""
        made: dict[str, Callable[[], Tensor]] = {}
        for d, features in self.features.items():
            lefts, rights = ([features[pair[side]] for pair in self.pairs] for side in (0, 1))
            if self.fields:
                made[d] = latents_triton.MovedPlan(lefts, rights, self.fields)
            else:
                made[d] = latents_triton.BlendPlan(lefts, rights, self.times)
        return made

    def mixed(self) -> dict[str, Tensor]:
        """Per domain the decoder's normed inputs, gap after gap."""
        return {d: plan() for d, plan in self.plans().items()}


class GapGraph:
    """A batch's kernels and the decoder as one CUDA graph, for batches of the same key.

    Raises:
        RuntimeError: what runs cannot be captured here.
    """

    def __init__(self, batch: Batch, decoder: Callable[[], Callable[[dict[str, Tensor]], dict[str, Tensor]]]) -> None:
        self._batch = batch.copy()
        self._plans = self._batch.plans()
        self._decoded = decoder()
        device = next(self._batch.tensors()).device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._run()  # compiles what is compiled at a first call, which cannot be captured
        torch.cuda.synchronize(device)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = self._run()

    def _run(self) -> dict[str, Tensor]:
        return self._decoded({d: plan() for d, plan in self._plans.items()})

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        for own, given in zip(self._batch.tensors(), batch.tensors(), strict=True):
            own.copy_(given)
        self._graph.replay()
        # The next replay overwrites the graph's own.
        return {d: out.clone() for d, out in self._outputs.items()}


def checked_precision(precision: str) -> str:
    """The precision that runs.

    Raises:
        UsageError: this engine does not have it.
    """
    precision = "fp16" if precision == "auto" else precision
    if precision not in ELEMENT_TYPES:
        raise UsageError(f"the tensorrt engine has no --precision {precision}; it has {', '.join(ELEMENT_TYPES)}")
    return precision


def batch_limit(height: int, width: int) -> int:
    """The largest batch of a plan for frames of the padded size (height, width)."""
    return max(1, BATCH_PIXELS // (height * width))


def parts_for(net: Any) -> tuple[str, ...]:
    """The parts of a net that an engine may want on a GPU that is not here, with Triton or without."""
    fused = ("finish_normed",) if net.lift_norm == "instance_relu" else ()
    return ("encode_lifts", *fused, "finish")


def layer_types(information: str) -> Counter[str]:
    """How many layers give each element type, from an inspector's JSON; its words differ from version to version."""
    words = {"fp16": r"fp16|half", "bf16": r"bf16|bfloat16", "fp32": r"fp32|float", "int8": r"int8", "fp8": r"fp8"}
    found: Counter[str] = Counter()
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError):
        return found
    for layer in layers:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        for output in outputs[:1]:
            text = str(output.get("Format/Datatype", "")).lower()
            found.update([name for name, word in words.items() if re.search(rf"\b({word})\b", text)][:1])
    return found


def relative_error(engine: BaseEngine, net: Any) -> float:
    """The largest relative RMS error of any output against float32 torch, keyframes and an in-between, on test frames.

    Frames are the same at all times, so that a plan that passed once need not be tried on every video; and they have
    structure everywhere, where a black frame's norms would make noise of rounding.
    """
    import copy

    from vidtrans.engines.torch_engine import TorchEngine

    frames = _test_frames(engine.working_size)
    source, *targets = engine.domains
    reference = TorchEngine(copy.deepcopy(net), source, targets, engine.working_size, engine.device, "fp32")
    results = []
    # Torch convolves float32 in TF32 by default on a GPU.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, fp32_precision="ieee"):
        for one in (engine, reference):
            left, right = one.encode(frames)
            results.append((left.decoded, one.between([Gap(left, right, (Fraction(3, 8),))])[0]))
    return _worst([(got[d], want[d]) for got, want in zip(*results, strict=True) for d in engine.domains])


def _worst(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The largest RMS difference of (got, wanted), relative to what is wanted; not a number if any is none."""
    errors = [float((got - want).square().mean().sqrt() / want.square().mean().sqrt()) for got, want in pairs]
    return max(errors, key=lambda error: math.inf if math.isnan(error) else error)


def _test_frames(size: tuple[int, int]) -> Tensor:
    """Two frames (2, H, W, 3) uint8: soft blotches of colour under fine noise."""
    generator = torch.Generator().manual_seed(0)
    width, height = size
    blotches = F.interpolate(torch.rand(2, 3, 5, 7, generator=generator), (height, width), mode="bicubic")
    noise = torch.rand(2, 3, height, width, generator=generator)
    return (255 * (0.8 * blotches + 0.2 * noise)).clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous()


def on_device(device: str) -> AbstractContextManager[object]:
    """Plans are built and loaded on the current GPU."""
    return torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext()


@contextmanager
def heartbeat(what: str, report: Report | None, seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Say every few seconds that something is still going on; nothing where it is done before the first time."""
    if report is None:
        yield
        return
    over = threading.Event()
    begin = time.monotonic()

    def beat() -> None:
        while not over.wait(seconds):
            report(f"{what}: {time.monotonic() - begin:.0f} s so far")

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _found(major: int, minor: int) -> Any | str:
    """The module to use for GPUs of a compute capability that are here, or why there is none."""
    reasons = []
    for name in FLAVOURS:
        if importlib.util.find_spec(name) is not None:
            found = _rtx_found(major, minor) if name == "tensorrt_rtx" else _imported(name)
            if not isinstance(found, str):
                return found
            reasons.append(found)
    return "; ".join(reasons) or f"TensorRT is not installed: {INSTALL}"


def _rtx_found(major: int, minor: int) -> Any | str:
    """tensorrt_rtx, which also builds for GPUs that are not here, if it knows this compute capability; else why not."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return "plans for a GPU that is not here are built by tensorrt_rtx: pip install 'vidtrans[rtx]'"
    module = _imported("tensorrt_rtx")
    if isinstance(module, str) or hasattr(module.ComputeCapability, f"SM{major}{minor}"):
        return module
    digits = [name[2:] for name in module.ComputeCapability.__members__ if name.startswith("SM")]
    known = ", ".join(f"{number[:-1]}.{number[-1]}" for number in digits)
    return (
        f"tensorrt_rtx {module.__version__} knows no GPUs of compute capability {major}.{minor}, only of {known}; "
        "tensorrt may: pip install 'vidtrans[tensorrt]'"
    )


def _imported(name: str) -> Any | str:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:  # its libraries are packages of their own
        return f"{name} cannot be imported ({next(iter(str(error).splitlines()), type(error).__name__)})"


@lru_cache
def _log(tensorrt: Any) -> Any:
    """TensorRT's errors, kept to be part of ours; nothing is printed. One logger for all, as TensorRT wants it."""

    class Log(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt.ILogger.Severity.ERROR, tensorrt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def first_error(self) -> str:
            return self.errors[0].splitlines()[0] if self.errors else "it does not say why"

    return Log()


def _in_float32(features: Features) -> Features:
    return Features({d: a.float() for d, a in features.lifted.items()}, features.decoded)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _split(outputs: dict[str, Tensor], counts: Sequence[int]) -> list[dict[str, Tensor]]:
    """The rows of each gap."""
    split = {d: torch.split(out, list(counts)) for d, out in outputs.items()}
    return [{d: split[d][row] for d in outputs} for row in range(len(counts))]
