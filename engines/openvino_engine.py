"""The OpenVINO engine, the fastest on CPUs: two compiled models, encoder with lifts, and finish of all domains.

Measured on two cores (AVX-512 with bf16, width 64 at 128x128 and width 24 at 256x128), and why it is built so:
one picture after another takes as long as a batch of seven (540 and 537 ms), so the models are compiled for one
picture: any number of in-betweens, gaps and keyframes runs through the same two, activations stay small, and batches
cannot see each other. All domains in one model take as long as one model after the other, or as two at once with a
core each.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidtrans.engines.base import BaseEngine
from vidtrans.engines.cache import cache_folder, load_entry, save_entry
from vidtrans.engines.contract import Report, Samples
from vidtrans.engines.modules import EncodeLifts, Finish, with_padded_lifts
from vidtrans.errors import DeviceError, UsageError, VidtransError
from vidtrans.remarks import Warn
from vidtrans.stages import cores

PRECISIONS = ("fp32", "bf16", "int8")
HINTS = {"fp32": "f32", "bf16": "bf16"}
# What a layer's run-time type is called on the command line; quantised convolutions read u8 or i8.
NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}

CONVERSION = 1  # of the code that makes the compiled models; one of another number is never loaded
ENTRIES_KEPT = 16  # a compiled net of width 64 takes 140 MB


def unusable(device: str) -> str | None:
    """Why this engine cannot run on the device, and what to install; None: it can."""
    if device != "cpu":
        return f"the openvino engine runs on the CPU, not on device {device!r}"
    if importlib.util.find_spec("openvino") is None:
        return "openvino is not installed: pip install openvino"
    return None


class OpenVinoEngine(BaseEngine):
    """See contract.Engine.

    Compiled models are kept in the cache folder, under a name made of all that shaped them; int8 ones also of the
    footage they were calibrated on, because they were accepted for that footage only.

    Args:
        device: "cpu".
        precision: "auto" is bf16 where the CPU computes in it, else fp32; "int8" is calibrated on `samples` and falls
            back to "auto" where its output is too far from float32's (see openvino_int8.py), which `notes` says.
        samples: frames for int8.
        int8_unchecked: take int8 whatever it does to the output: for timing networks without trained weights.
        report: gets a line before every calibration, which takes seconds for small nets and a minute for large ones.

    Raises:
        UsageError: openvino or nncf is missing, a precision this engine does not have, int8 without samples.
        DeviceError: another device, or out of memory. VidtransError: OpenVINO cannot take the network.
    """

    name = "openvino"

    def __init__(
        self,
        net: Any,
        source: str,
        targets: Sequence[str],
        working_size: tuple[int, int],
        device: str = "cpu",
        precision: str = "auto",
        samples: Samples | None = None,
        report: Report | None = None,
        int8_unchecked: bool = False,
        *,
        decode_source: bool = True,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise UsageError(f"the openvino engine has no --precision {precision}; it has fp32, bf16 and int8")
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; try --device cpu") if device != "cpu" else UsageError(reason)
        super().__init__(net, source, targets, working_size, device, precision, decode_source)
        self._compiler = Compiler()
        fastest = "bf16" if self._compiler.has_bf16 else "fp32"
        if precision == "bf16" and fastest != "bf16":
            self.notes.append(Warn("this CPU does not compute in bf16: fp32 instead"))
        weights = weights_hash(net)
        halves = None
        if precision == "int8":
            halves = self._quantised(net, weights, samples, fastest, report, checked=not int8_unchecked)
        elif precision == "fp32":
            fastest = "fp32"
        halves = halves or self._plain(net, weights, fastest)
        self._encoder, self._decoder = halves.encoder, halves.finish
        self.precision = halves.finish.precision

    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.domains, self._encoder(x), strict=True))

    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._decoder(*(lifted[domain] for domain in self.domains))
        return dict(zip(self.domains, outputs, strict=True))

    def _plain(self, net: Any, weights: str, precision: str) -> Halves:
        """The two halves in fp32 or bf16, from the cache or made now."""
        path = self._entry(weights, precision)
        kept = load_entry(path)
        halves = None if kept is None else self._compiler.imported(kept[0], HINTS[precision])
        if halves is None:
            encoder, finish = converted(net, self.domains, self.padded_size, self.source)
            halves = self._compiler.compiled(encoder, finish, HINTS[precision])
            self._keep(path, halves, {})
        return halves

    def _quantised(
        self, net: Any, weights: str, samples: Samples | None, instead: str, report: Report | None, *, checked: bool
    ) -> Halves | None:
        """The two halves in int8 if their output is near enough to float32's; `notes` says how near.

        instead: the precision there will be if it is not. A refusal is kept in the cache too.
        """
        if importlib.util.find_spec("nncf") is None:
            raise UsageError("--precision int8 needs nncf: pip install 'vidtrans[int8]'")
        if samples is None:
            raise UsageError("--precision int8 is calibrated on frames of the footage, and none were given")
        from vidtrans.engines import openvino_int8

        frames = samples()
        footage = hashlib.sha256(f"{tuple(frames.shape)} {frames.dtype}".encode())
        footage.update(frames.contiguous().numpy().data)
        rest = "bf16" if self._compiler.has_bf16 else "f32"  # of all that is not a convolution
        path = self._entry(weights, "int8", footage.hexdigest(), openvino_int8.VERSION, version_of("nncf"), checked)
        kept = load_entry(path)
        if kept is not None:
            blobs, facts = kept
            halves = self._compiler.imported(blobs, rest) if blobs else None
            if halves is not None or not blobs:
                self.notes.append(facts["note"] if halves is not None else Warn(facts["note"]))
                return halves
        models = converted(net, self.domains, self.padded_size, self.source)
        trial = openvino_int8.best(
            net,
            self.source,
            self.domains,
            self._prepare(frames),
            models,
            lambda encoder, finish: self._compiler.compiled(encoder, finish, rest),
            report,
            checked=checked,
        )
        note = trial.note if trial.halves is not None else f"{trial.note}: {instead} instead"
        self.notes.append(note if trial.halves is not None else Warn(note))
        self._keep(path, trial.halves, {"note": note})
        return trial.halves

    def _entry(self, weights: str, precision: str, *more: object) -> Path:
        """Where the compiled models are kept that this very engine would make."""
        versions = [CONVERSION, version_of("openvino"), torch.__version__]
        facts = [weights, self.source, self.domains, self.padded_size, precision, versions, self._compiler.cpu, more]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        height, width = self.padded_size
        return cache_folder() / "openvino" / f"{precision}-{width}x{height}-{digest[:32]}.safetensors"

    def _keep(self, path: Path, halves: Halves | None, facts: dict[str, str]) -> None:
        blobs = {} if halves is None else {"encoder": halves.encoder.blob(), "finish": halves.finish.blob()}
        try:
            save_entry(path, blobs, facts, keep=ENTRIES_KEPT)
        except OSError as error:
            reason = error.strerror or str(error)
            self.notes.append(f"the compiled model cannot be kept in {path.parent} ({reason}): every start makes it")


class Half:
    """A compiled model that takes one picture; called with batches (B, ...), one for each input.

    Attributes:
        precision: of most of its convolutions, as OpenVINO reports what really runs.
    """

    def __init__(self, compiled: Any) -> None:
        import openvino

        self._tensor = openvino.Tensor
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
        self._unbound = _without_memory(compiled)
        self.precision = _running_precision(compiled)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Fresh float32 tensors: others may still read the last call's."""
        count = len(inputs[0])
        outputs = [torch.empty(count, *shape) for shape in self._shapes]
        # Views of torch's memory: OpenVINO reads and writes there, nothing is copied but features that lie transposed.
        sources = [x.contiguous().numpy() for x in inputs]
        targets = [x.numpy() for x in outputs]
        with openvino_errors("run the network"):
            for row in range(count):
                for number, source in enumerate(sources):
                    self._request.set_input_tensor(number, self._tensor(source[row : row + 1], shared_memory=True))
                for number, target in enumerate(targets):
                    if number not in self._unbound:
                        self._request.set_output_tensor(number, self._tensor(target[row : row + 1], shared_memory=True))
                self._request.infer()
                for number in self._unbound:
                    targets[number][row] = self._request.get_output_tensor(number).data[0]
        return outputs

    def blob(self) -> bytes:
        """The compiled model, for `Compiler.imported`."""
        with openvino_errors("export the compiled network"):
            exported: bytes = self._compiled.export_model().getvalue()
        return exported


@dataclass(frozen=True)
class Halves:
    """The two compiled models: frames -> lifted features of every domain -> every domain's output."""

    encoder: Half
    finish: Half


class Compiler:
    """OpenVINO's CPU device with our settings.

    Attributes:
        cpu: what compiled models depend on.
        has_bf16: the CPU computes in bf16; OpenVINO emulates it on others, slower than float32.
    """

    def __init__(self) -> None:
        import openvino

        with openvino_errors("start"):
            self._core = openvino.Core()
            capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            self.cpu = [self._core.get_property("CPU", "FULL_DEVICE_NAME"), platform.machine(), *sorted(capabilities)]
        self.has_bf16 = "BF16" in capabilities
        # Decoder, motion and encoders run beside us: threads bound to a core would wait for it while another is free.
        self._options: dict[str, object] = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        # Who limits torch's threads (OMP_NUM_THREADS, set_num_threads) means ours too; else OpenVINO knows best.
        if torch.get_num_threads() < cores():
            self._options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()

    def compiled(self, encoder: Any, finish: Any, hint: str) -> Halves:
        """Two models of OpenVINO, compiled; hint: INFERENCE_PRECISION_HINT, without which OpenVINO picks bf16."""
        with openvino_errors("compile the network"):
            options = {**self._options, "INFERENCE_PRECISION_HINT": hint}
            encoder, finish = (self._core.compile_model(model, "CPU", options) for model in (encoder, finish))
            return Halves(Half(encoder), Half(finish))

    def imported(self, blobs: dict[str, bytes], hint: str) -> Halves | None:
        """What `Half.blob` gave, compiled; None where OpenVINO does not take it."""
        options = {**self._options, "INFERENCE_PRECISION_HINT": hint}
        try:
            encoder, finish = (self._core.import_model(blobs[name], "CPU", options) for name in ("encoder", "finish"))
        except (RuntimeError, KeyError):
            return None
        return Halves(Half(encoder), Half(finish))


def converted(
    net: Any, domains: Sequence[str], padded_size: tuple[int, int], source: str | None = None
) -> tuple[Any, Any]:
    """Encoder with lifts, and finish, as models of OpenVINO for one picture of (height, width).

    source: None: the first of the domains.
    """
    # The lift as a padded convolution: in bf16 both lifts and the encoder take 73 ms in place of 98, in fp32 the same;
    # and int8 has no transposed convolutions of kernel 8.
    net = with_padded_lifts(net).requires_grad_(False)
    encoder = _converted(EncodeLifts(net, domains, source), [(1, 3, *padded_size)])
    finish = _converted(Finish(net, domains), [tuple(output.shape) for output in encoder.outputs])
    return encoder, finish


def _converted(module: torch.nn.Module, shapes: list[tuple[int, ...]]) -> Any:
    """A module as a model of OpenVINO for inputs of these shapes.

    By the parts that `openvino.convert_model` is made of: that function itself reports its use to Intel.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = tuple(torch.zeros(shape) for shape in shapes)
    with openvino_errors("convert the network"), warnings.catch_warnings(), torch.no_grad():
        # torch.jit.trace is deprecated; the way through torch.export loses the inputs of a forward(*inputs).
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(module, example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
        model.reshape({number: openvino.PartialShape(list(shape)) for number, shape in enumerate(shapes)})
    return model


@contextmanager
def openvino_errors(doing: str) -> Iterator[None]:
    """OpenVINO's exceptions as ours, in one sentence."""
    try:
        yield
    except MemoryError as error:
        raise DeviceError(f"out of memory: OpenVINO could not {doing}; try a smaller --size") from error
    except RuntimeError as error:
        # The first lines say where in OpenVINO's source it was thrown.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise VidtransError(f"OpenVINO could not {doing} ({reason}); try --engine torch") from error


def weights_hash(net: Any) -> str:
    """SHA-256 of a net's shape and weights."""
    digest = hashlib.sha256(json.dumps([type(net).__name__, net.family, net.config.to_json()]).encode())
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def version_of(distribution: str) -> str:
    """A distribution's version, "" where it is not known."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _without_memory(compiled: Any) -> list[int]:
    """The outputs for which OpenVINO does not write to memory that it is given (measured, 2026.4).

    They are inputs, as where pictures pass through a PixelSpace, or several are one and the same.
    """
    results = compiled.get_runtime_model().get_results()
    origins = {result.friendly_name: result.input_value(0).get_node() for result in results}
    shared = Counter(node.friendly_name for node in origins.values())
    found = []
    for number, output in enumerate(compiled.outputs):
        origin = origins[output.get_node().friendly_name]
        is_input = origin.get_rt_info()["layerType"].astype(str) == "Input"
        if is_input or shared[origin.friendly_name] > 1:
            found.append(number)
    return found


def _running_precision(compiled: Any) -> str:
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = Counter(
        row["runtimePrecision"].astype(str)
        for row in facts
        if row["layerType"].astype(str) in ("Convolution", "Deconvolution")
    )
    if not kinds:
        return "fp32"  # nothing that computes: a net may do all its work in the other half
    kind = kinds.most_common(1)[0][0]
    return NAMES.get(kind, kind)
