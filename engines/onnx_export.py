"""A net's two halves as ONNX, strongly typed: every element type stands in the graph, a converter has none to choose.

Batch, height and width are dynamic; frames come in and pictures go out in float32, and lifted features are of the
graph's own type, in which the blend between the halves can read and write them. Instance norm stays
InstanceNormalization, and its statistics stay float32 (in float16 sums of squares overflow).
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vidtrans.nets
from vidtrans.engines import modules
from vidtrans.engines.modules import EncodeLifts, Finish, with_padded_lifts
from vidtrans.errors import UsageError

ELEMENT_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PARTS = ("encode_lifts", "finish", "finish_normed")
OPSET = 22  # the first whose convolutions take bfloat16


@dataclass(frozen=True)
class Graph:
    """One half of a net, as a converter is to see it.

    Attributes:
        net: of the contract in nets/contract.py, in float32.
        domains: one output for each.
        part: "encode_lifts"; "finish"; "finish_normed", which starts after the first instance norm and ReLU.
        precision: a name in ELEMENT_TYPES.
        source: the domain of the frames; None: the first of the domains.
    """

    net: Any
    domains: tuple[str, ...]
    part: str
    precision: str
    source: str | None = None

    @property
    def input_names(self) -> list[str]:
        return ["frames"] if self.part == "encode_lifts" else [f"lifted_{domain}" for domain in self.domains]

    @property
    def output_names(self) -> list[str]:
        return [f"{'lifted' if self.part == 'encode_lifts' else 'out'}_{domain}" for domain in self.domains]

    @cached_property
    def network_hash(self) -> str:
        """SHA-256 of all that decides the ONNX: weights, configuration, part, precision, this code, the exporter.

        In place of the hash of the ONNX itself, because exporting takes seconds and this does not: who has a plan of
        it need not export.
        """
        digest = hashlib.sha256()
        facts = [
            self.net.family,
            self.net.config.to_json(),
            self.source,
            self.domains,
            self.part,
            self.precision,
            OPSET,
        ]
        versions = {name: _version(name) for name in ("torch", "onnxscript", "onnx")}
        digest.update(json.dumps([facts, versions], sort_keys=True).encode())
        sources = [*sorted(Path(next(iter(vidtrans.nets.__path__))).glob("*.py")), Path(modules.__file__)]
        for path in (*sources, Path(__file__)):
            digest.update(path.read_bytes())
        for name, tensor in sorted(self.net.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def lifted_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of the lifted features of frames of this size in pixels, one the net takes."""
        with torch.no_grad(), torch.device("meta"):
            on_meta = copy.deepcopy(self.net).to("meta")
            (a, *_) = EncodeLifts(on_meta, self.domains, self.source)(torch.empty(1, 3, height, width))
        return tuple(a.shape[1:])

    @cached_property
    def onnx(self) -> bytes:
        """The model, serialised, with its weights.

        Raises:
            UsageError: the exporter's packages are not installed, or bf16 is asked of a net with a transposed
                convolution that has no ordinary form.
        """
        for package in ("onnx", "onnxscript"):
            if find_spec(package) is None:
                raise UsageError(f"{package} is not installed, without which no network can be exported: "
                                 "pip install 'vidtrans[onnx]'")  # fmt: skip
        net = copy.deepcopy(self.net).cpu().eval()
        # Sizes that differ from each other and from any number of channels: equal ones might be taken for one.
        step = net.sizes.multiple
        height, width = (step * (-(-net.sizes.minimum // step) + more) for more in (2, 5))
        if self.part == "encode_lifts":
            inputs = [torch.zeros(2, 3, height, width)]
            half: nn.Module = EncodeLifts(net, self.domains, self.source)
        else:
            shape = self.lifted_shape(height, width)
            # As many tensors as inputs: the exporter would take the same one twice for one input.
            inputs = [torch.zeros(2, *shape, dtype=ELEMENT_TYPES[self.precision]) for _ in self.domains]
            half = Finish(net, self.domains, normed=self.part == "finish_normed")
        if self.precision == "bf16":
            # TensorRT 1.7 for RTX builds no transposed convolutions in bfloat16.
            try:
                half = _with_subpixels(with_padded_lifts(half))
            except ValueError as error:
                raise UsageError(f"this network cannot be exported in bf16 ({error}); use --precision fp16") from error
        outward = ELEMENT_TYPES[self.precision] if self.part == "encode_lifts" else torch.float32
        typed = _Typed(half, ELEMENT_TYPES[self.precision], outward).eval()
        sizes = {axis: torch.export.Dim(name) for axis, name in ((0, "batch"), (2, "height"), (3, "width"))}
        with _quiet():
            program = torch.onnx.export(
                typed,
                tuple(inputs),
                dynamo=True,
                dynamic_shapes=((sizes,) * len(inputs),),
                input_names=self.input_names,
                output_names=self.output_names,
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.instance_norm.default: _norm_in_float32()},
                verbose=False,
            )
        assert program is not None  # with dynamo=True it never is
        model = program.model_proto
        # The exporter notes where in which source file each node comes from, with this machine's paths.
        for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
        return model.SerializeToString()


class SubPixelConvolution(nn.Module):
    """A transposed convolution of stride s as an ordinary one that makes the s x s pixels of every input pixel.

    Equal to it. Only for those that give exactly s times the height and width.

    Raises:
        ValueError: another one.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        stride, size = layer.stride[0], layer.kernel_size[0]
        inward, extra = int(layer.padding[0]), int(layer.output_padding[0])
        square = all(
            len(set(pair)) == 1 for pair in (layer.stride, layer.kernel_size, layer.padding, layer.output_padding)
        )
        plain = layer.dilation == (1, 1) and layer.groups == 1
        if not (square and plain) or size + extra - 2 * inward != stride:
            raise ValueError("only transposed convolutions that multiply height and width are sub-pixel convolutions")
        self.stride = stride
        # Output pixel s m + phase gets, from input pixel m + offset, the tap phase + inward - s offset.
        taps = [
            (phase, offset, phase + inward - stride * offset)
            for phase in range(stride)
            for offset in range(-size, size + 1)
            if 0 <= phase + inward - stride * offset < size
        ]
        first, last = min(offset for _, offset, _ in taps), max(offset for _, offset, _ in taps)
        self.before, self.after = -first, last
        reach = last - first + 1
        outputs = layer.out_channels
        weight = layer.weight.new_zeros(outputs, stride, stride, layer.in_channels, reach, reach)
        with torch.no_grad():
            source = layer.weight.transpose(0, 1)  # (outputs, inputs, size, size)
            for row, down, top in taps:
                for column, across, left in taps:
                    weight[:, row, column, :, down - first, across - first] = source[:, :, top, left]
            self.conv = nn.Conv2d(layer.in_channels, outputs * stride * stride, reach, bias=layer.bias is not None)
            self.conv.to(layer.weight.device, layer.weight.dtype)
            self.conv.weight.copy_(weight.flatten(0, 2))
            if layer.bias is not None and self.conv.bias is not None:
                self.conv.bias.copy_(layer.bias.repeat_interleave(stride * stride))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (self.before, self.after, self.before, self.after))
        return F.pixel_shuffle(self.conv(x), self.stride)


class _Typed(nn.Module):
    """A module in an element type of its own: inputs are cast to it, outputs from it to another."""

    def __init__(self, module: nn.Module, inward: torch.dtype, outward: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(inward)
        self._inward = inward
        self._outward = outward

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(out.to(self._outward) for out in self.module(*(x.to(self._inward) for x in inputs)))


def _with_subpixels(module: nn.Module) -> nn.Module:
    """The module with sub-pixel convolutions in place of its transposed ones; changed in place."""
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.ConvTranspose2d):
                setattr(part, name, SubPixelConvolution(child))
    return module


def _norm_in_float32() -> Callable[..., Any]:
    """What the exporter writes for torch's instance norm."""
    import onnxscript

    op: Any = onnxscript.opset22
    float32 = 1  # onnx.TensorProto.FLOAT

    def instance_norm(
        x: Any,
        weight: Any = None,
        bias: Any = None,
        running_mean: Any = None,
        running_var: Any = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
        cudnn_enabled: bool = False,
    ) -> Any:
        if running_mean is not None or not use_input_stats:
            raise ValueError("instance norms with running statistics are not exported")
        channels = x.shape[1]
        scale = op.Constant(value_floats=[1.0] * channels) if weight is None else op.Cast(weight, to=float32)
        shift = op.Constant(value_floats=[0.0] * channels) if bias is None else op.Cast(bias, to=float32)
        return op.CastLike(op.InstanceNormalization(op.Cast(x, to=float32), scale, shift, epsilon=eps), x)

    return instance_norm


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's hints on its own workings are nothing to the user; its errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
