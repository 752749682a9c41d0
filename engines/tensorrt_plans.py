"""TensorRT plans: what finds the packages, describes targets, builds, loads and runs; for tensorrt_engine.

One code path for `tensorrt` 10 and 11 and for `tensorrt_rtx`. Networks are strongly typed: precision stands in the
ONNX, and no version's flags matter.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from vidtrans.engines.base import BATCH_PIXELS
from vidtrans.engines.contract import Report
from vidtrans.engines.onnx_export import Graph
from vidtrans.engines.plan_cache import Facts, PlanCache
from vidtrans.errors import DeviceError, UsageError

FLAVOURS = ("tensorrt", "tensorrt_rtx")
INSTALL = "pip install 'vidtrans[tensorrt]', or 'vidtrans[rtx]' for GeForce and RTX GPUs"
HEARTBEAT_SECONDS = 5.0
CONTEXTS_KEPT = 8  # of batch sizes; small, their activations share one allocation


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

    def __str__(self) -> str:
        return f"{self.gpu}, {self.processors} multiprocessors, {self.memory_mib} MiB"


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
        found = found_for(*capability) if self.target.gpu else _rtx_found(*capability)
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
        source = self.graph.source or self.graph.domains[0]
        about = f"{source} to {', '.join(domain for domain in self.graph.domains if domain != source)}"
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


def batch_limit(height: int, width: int) -> int:
    """The largest batch of a plan for frames of the padded size (height, width)."""
    return max(1, BATCH_PIXELS // (height * width))


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


def found_for(major: int, minor: int) -> Any | str:
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
