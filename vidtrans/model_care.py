"""Models looked after: tried before they are trusted, and written in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vidtrans.checkpoint import Model, load_model, save_model
from vidtrans.errors import InputError, OutputError, UsageError
from vidtrans.files import write_atomically
from vidtrans.model_library import checked_hash, file_hash, find_model, recorded_hash
from vidtrans.nets.contract import direction, padded_size
from vidtrans.nets.translating import translated

_OPENVINO_PRECISIONS = ("fp32", "fp16")


def verify_model(
    name: str, expected: str | None = None, report: Callable[[str], None] = lambda text: None
) -> tuple[str, bool]:
    """Everything that can be known of a model's file without data; report hears what was found.

    The header against the file's length and the network it describes, the hash against `expected` or, without it, the
    recorded one, all numbers finite, and one small frame through every pair of domains.

    Returns:
        (SHA-256, whether there was one to compare it with).

    Raises:
        UsageError: no such model, or its file is not one.
        InputError: it is one, but damaged.
    """
    found = find_model(name)
    path = found.path
    wanted = checked_hash(expected, "--sha256") if expected is not None else recorded_hash(path)
    sha256 = file_hash(path)
    if wanted is not None and sha256 != wanted:
        raise InputError(f"{path} has SHA-256 {sha256}, not {wanted}: it is damaged, or another model")
    report(f"SHA-256: {sha256}" + (", as expected" if wanted is not None else " (none recorded to compare with)"))
    model = load_model(path.absolute())
    report("header: tensors and their sizes are those of the network that it describes")
    for key, tensor in model.net.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path} holds numbers that are not finite, in {key}: its training broke")
    pairs = try_out(model)
    report(f"run: one small frame through {len(pairs)} pairs of domains")
    return sha256, wanted is not None


@torch.no_grad()
def try_out(model: Model) -> list[tuple[str, str]]:
    """One small frame from every domain into every domain that it can go to; returns the pairs.

    Raises:
        InputError: a picture comes out that is none.
    """
    net = model.net
    height, width = padded_size(net.sizes.minimum, net.sizes.minimum, net.sizes)
    frame = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    pairs = []
    for source in net.domains:
        for target in net.domains:
            if source == target and not net.shares_latent:
                continue
            picture = translated(net, frame, source.name, target.name)
            if picture.shape != frame.shape or not bool(torch.isfinite(picture).all()) or picture.abs().max() > 1.001:
                raise InputError(f"the model makes no picture of a frame from {source.name} to {target.name}")
            pairs.append((source.name, target.name))
    return pairs


def export_half(name: str, path: Path) -> list[Path]:
    """The model in half precision, half as large, with all its metadata; returns what was written.

    Raises:
        OutputError: it cannot be written.
        UsageError: no such model, or one with numbers that float16 cannot hold.
    """
    model = load_model(name)
    largest = max(float(tensor.abs().max()) for tensor in model.net.state_dict().values() if tensor.numel())
    if largest > torch.finfo(torch.float16).max:
        raise UsageError(f"{name} has numbers up to {largest:g}, more than float16 can hold")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(path, model.net, trained=model.trained, quality=model.quality, half=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return [path]


def export_onnx(name: str, folder: Path, to: str | None, from_: str | None, precision: str) -> list[Path]:
    """The two halves of one direction as ONNX, for ONNX Runtime and its like, of any batch and size.

    encode_lifts.onnx: frames (B, 3, H, W) in [-1, 1] -> lifted features of both domains; finish.onnx: lifted features
    -> both domains' pictures, or class scores. Blending the features of two frames in between makes in-betweens.

    Raises:
        UsageError: no such model or precision, or the exporter is not installed.
        OutputError: a file cannot be written.
    """
    from vidtrans.engines.onnx_export import ELEMENT_TYPES, Graph

    if precision not in ELEMENT_TYPES:
        raise UsageError(f"ONNX is exported in {', '.join(ELEMENT_TYPES)}, not in {precision}")
    net = _with_halves(name)
    domains = direction(net.domains, to, from_)
    written = []
    for part in ("encode_lifts", "finish"):
        path = folder / f"{part}.onnx"
        data = Graph(net, domains, part, precision).onnx
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except OSError as error:
            raise _unwritable(path, error) from error
        written.append(path)
    return written


def export_openvino(
    name: str, folder: Path, to: str | None, from_: str | None, precision: str, size: tuple[int, int] | None
) -> list[Path]:
    """The same two halves as OpenVINO's models (.xml with .bin), for one picture of one (width, height).

    Raises:
        UsageError: no such model or precision, or OpenVINO is not installed.
        OutputError: a file cannot be written.
    """
    from vidtrans.engines.openvino_engine import converted, unusable

    if precision not in _OPENVINO_PRECISIONS:
        raise UsageError(f"OpenVINO's models are exported in {' or '.join(_OPENVINO_PRECISIONS)}, not in {precision}")
    reason = unusable("cpu")
    if reason is not None:
        raise UsageError(reason)
    import openvino

    net = _with_halves(name)
    width, height = size or net.sizes.trained
    halves = converted(net, direction(net.domains, to, from_), padded_size(height, width, net.sizes))
    names = [f"{part}{suffix}" for part in ("encode_lifts", "finish") for suffix in (".xml", ".bin")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as unfinished:
            for name_of_half, half in zip(names[::2], halves, strict=True):
                openvino.save_model(half, Path(unfinished, name_of_half), compress_to_fp16=precision == "fp16")
            for file in names:
                Path(unfinished, file).replace(folder / file)
    except (OSError, RuntimeError) as error:
        raise _unwritable(folder, error) from error
    return [folder / file for file in names]


def _with_halves(name: str) -> Any:
    net = load_model(name).net
    if not net.shares_latent:
        raise UsageError(
            f"{name} is a {net.family}, which shares no latent space and so has no halves between which frames could "
            "be blended; it is exported in half precision only"
        )
    return net


def _unwritable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return OutputError(f"{path} cannot be written: {reason}")
