"""What is exported computes what torch computes, at any size and batch, in the types that it says."""

from __future__ import annotations

import copy
import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vidtrans.checkpoint import save_model
from vidtrans.engines import onnx_export
from vidtrans.engines.modules import EncodeLifts, Finish
from vidtrans.engines.onnx_export import Graph, SubPixelConvolution
from vidtrans.errors import UsageError
from vidtrans.model_care import export_onnx
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig

DOMAINS = ("scene", "labels")
# (batch, height, width) of frames: lifted features of 9x13 and 10x11 are odd, 12x10 even.
SIZES = ((1, 36, 52), (3, 40, 44), (2, 48, 40))


@pytest.fixture(scope="module")
def net() -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    return JWDM(JWDMConfig(domains, width=6, latent_channels=8, blocks=1, label_head="palette")).eval()


@pytest.fixture
def exported(net: JWDM, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], bytes]:
    """`exported(part, precision)`; what takes seconds is done once for all tests, test_tensorrt_engine.py's too."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed; it writes the graphs")

    def export(part: str, precision: str) -> bytes:
        graph = Graph(net, DOMAINS, part, precision)
        file = tmp_path_factory.getbasetemp() / f"{graph.network_hash}.onnx"
        if not file.exists():
            file.write_bytes(graph.onnx)
        return file.read_bytes()

    return export


def inputs_and_outputs(
    net: JWDM, part: str, batch: int, height: int, width: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(height)
    frames = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
    with torch.no_grad():
        lifted = EncodeLifts(net, DOMAINS)(frames)
        if part == "encode_lifts":
            return [frames], list(lifted)
        if part == "finish_normed":
            lifted = [torch.relu(torch.nn.functional.instance_norm(a)) for a in lifted]
        return list(lifted), list(Finish(net, DOMAINS, normed=part == "finish_normed")(*lifted))


# Of the outputs' RMS: rounding, and nothing that grows with the size.
@pytest.mark.parametrize(
    ("part", "precision", "error"),
    [
        ("encode_lifts", "fp32", 1e-5),
        ("finish", "fp32", 1e-5),
        ("encode_lifts", "fp16", 0.01),
        ("finish_normed", "fp16", 0.01),
    ],
)
def test_onnx_runtime_computes_what_torch_computes(
    net: JWDM, exported: Callable[[str, str], bytes], part: str, precision: str, error: float
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; it runs the graphs")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(exported(part, precision), options, providers=["CPUExecutionProvider"])
    graph = Graph(net, DOMAINS, part, precision)
    assert [one.name for one in session.get_inputs()] == graph.input_names
    assert [one.name for one in session.get_outputs()] == graph.output_names
    lifted_type = {"fp32": "tensor(float)", "fp16": "tensor(float16)"}[precision]
    frames, lifted = (session.get_inputs(), session.get_outputs())[:: 1 if part == "encode_lifts" else -1]
    assert {one.type for one in frames} == {"tensor(float)"}
    assert {one.type for one in lifted} == {lifted_type}
    for batch, height, width in SIZES:
        inputs, wanted = inputs_and_outputs(net, part, batch, height, width)
        half = precision == "fp16" and part != "encode_lifts"
        feeds = {
            name: x.numpy().astype(np.float16 if half else np.float32)
            for name, x in zip(graph.input_names, inputs, strict=True)
        }
        for got, want in zip(session.run(None, feeds), wanted, strict=True):
            assert got.shape == tuple(want.shape)
            difference = torch.from_numpy(got.astype(np.float32)) - want
            assert difference.square().mean().sqrt() < error * want.square().mean().sqrt()


def test_bf16_graphs_compute_what_torch_computes(net: JWDM, exported: Callable[[str, str], bytes]) -> None:
    """In the slow evaluator of ONNX itself: ONNX Runtime has no bfloat16 on CPUs."""
    data = exported("finish", "bf16")
    import onnx
    from onnx.reference import ReferenceEvaluator

    bfloat16 = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed; it gives NumPy bfloat16").bfloat16
    inputs, wanted = inputs_and_outputs(net, "finish", 2, 36, 40)
    graph = Graph(net, DOMAINS, "finish", "bf16")
    feeds = {name: x.numpy().astype(bfloat16) for name, x in zip(graph.input_names, inputs, strict=True)}
    for got, want in zip(ReferenceEvaluator(onnx.load_from_string(data)).run(None, feeds), wanted, strict=True):
        difference = torch.from_numpy(np.asarray(got, np.float32)) - want
        assert difference.square().mean().sqrt() < 0.05 * want.square().mean().sqrt()


@pytest.mark.parametrize(("part", "precision"), [("finish_normed", "fp16"), ("finish", "bf16")])
def test_graphs_are_strongly_typed(exported: Callable[[str, str], bytes], part: str, precision: str) -> None:
    data = exported(part, precision)
    import onnx

    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    names = Counter(node.op_type for node in model.graph.node)
    assert names["InstanceNormalization"] == (8 if part == "finish_normed" else 10)
    assert not names["GroupNormalization"]
    assert bool(names["ConvTranspose"]) == (precision != "bf16")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    half = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
    for node in inferred.node:
        if node.op_type == "InstanceNormalization":
            assert {types[name] for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
        elif node.op_type in ("Conv", "ConvTranspose", "Relu", "Add", "Tanh"):
            assert {types[name] for name in (*node.input, *node.output)} == {half}
    for value in (*inferred.input, *inferred.output):
        batch, _, height, width = value.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert "height" in height.dim_param
        assert "width" in width.dim_param
    assert b".py" not in data  # nothing of the machine that made it


def test_the_network_hash_knows_weights_part_precision_and_domains(net: JWDM) -> None:
    other = copy.deepcopy(net)
    with torch.no_grad():
        next(other.parameters())[0, 0, 0, 0] += 1e-3
    graphs = [
        Graph(net, DOMAINS, "finish", "fp16"),
        Graph(net, DOMAINS, "finish", "bf16"),
        Graph(net, DOMAINS, "finish_normed", "fp16"),
        Graph(net, DOMAINS[::-1], "finish", "fp16"),
        Graph(other, DOMAINS, "finish", "fp16"),
    ]
    assert len({graph.network_hash for graph in graphs}) == len(graphs)
    assert Graph(copy.deepcopy(net), DOMAINS, "finish", "fp16").network_hash == graphs[0].network_hash


def test_lifted_shape_is_the_encoders(net: JWDM) -> None:
    (_, height, width), *_ = SIZES
    _, lifted = inputs_and_outputs(net, "encode_lifts", 1, height, width)
    assert Graph(net, DOMAINS, "finish", "fp32").lifted_shape(height, width) == tuple(lifted[0].shape[1:])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra"), [(3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0), (5, 3, 1, 0), (6, 4, 1, 0)]
)
@torch.no_grad()
def test_sub_pixel_convolutions_equal_transposed_ones(kernel: int, stride: int, padding: int, extra: int) -> None:
    torch.manual_seed(kernel)
    layer = nn.ConvTranspose2d(3, 5, kernel, stride, padding, output_padding=extra)
    x = torch.randn(2, 3, 7, 10)
    torch.testing.assert_close(SubPixelConvolution(layer)(x), layer(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{"padding": 0}, {"padding": 1, "dilation": 2}, {"padding": (1, 0)}])
def test_other_transposed_convolutions_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiply height and width"):
        SubPixelConvolution(nn.ConvTranspose2d(2, 2, 3, 2, **options))


def test_bf16_is_refused_where_there_is_no_ordinary_form(net: JWDM) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed; it is looked for first")
    other = copy.deepcopy(net)
    other.decoders["labels"].lift = nn.ConvTranspose2d(8, 24, 8, (1, 2))  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"bf16 .*use --precision fp16"):
        _ = Graph(other, DOMAINS, "encode_lifts", "bf16").onnx


def test_a_missing_exporter_is_named(net: JWDM, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object:
        return None if name == "onnxscript" else importlib.util.find_spec(name)

    monkeypatch.setattr(onnx_export, "find_spec", find_spec)
    with pytest.raises(UsageError, match=r"onnxscript is not installed.*vidtrans\[onnx\]"):
        _ = Graph(net, DOMAINS, "finish", "fp16").onnx


def test_the_documented_program_runs_what_models_export_writes(
    net: JWDM, exported: Callable[[str, str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; it runs the graphs")
    made = {part: exported(part, "fp32") for part in ("encode_lifts", "finish")}
    monkeypatch.setattr(Graph, "onnx", property(lambda graph: made[graph.part]))
    save_model(tmp_path / "m.safetensors", net)
    written = export_onnx(str(tmp_path / "m.safetensors"), tmp_path, "labels", None, "fp32")
    assert [path.name for path in written] == ["encode_lifts.onnx", "finish.onnx"]
    document = Path(__file__).parent.parent / "docs" / "models.md"
    (program,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(program, names)
    with torch.no_grad():
        z = net.encode(torch.from_numpy(names["frames"]), "scene").mean(0, keepdim=True)
        scene, scores = net.decode(z, "scene"), net.finish(net.lift(z, "labels"), "labels")
    torch.testing.assert_close(torch.from_numpy(names["scene"]), scene, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(names["scores"]), scores, rtol=0, atol=1e-4)
