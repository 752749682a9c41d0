"""What this installation can do, and what to install for more."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata

import av
import torch

from vidtrans import __version__
from vidtrans.engines import ENGINES, choose, unusable
from vidtrans.engines.cache import cache_folder
from vidtrans.engines.latents_triton import why_unavailable
from vidtrans.model_library import models_folder, named_models
from vidtrans.video.encoder import encoders_here

# distribution -> what needs it
PACKAGES: dict[str, str] = {
    "torch": "everything",
    "torchvision": "training",
    "av": "video in and out",
    "numpy": "everything",
    "opencv-python-headless": "motion",
    "kornia": "training",
    "decord": "training on folders of videos (PyAV stands in)",
    "openvino": "the openvino engine",
    "nncf": "--precision int8; pip install 'vidtrans[int8]'",
    "triton": "the cuda engine's own kernels (torch stands in)",
    "onnx": "the tensorrt engine; pip install 'vidtrans[onnx]'",
    "tensorrt": "the tensorrt engine; pip install 'vidtrans[tensorrt]'",
    "tensorrt-rtx": "the tensorrt engine on RTX GPUs; pip install 'vidtrans[rtx]'",
    "tensorboard": "curves of a training run; pip install 'vidtrans[train]'",
}


def report() -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) after another."""
    yield "vidtrans", [f"{__version__}, Python {platform.python_version()}, {platform.platform()}"]
    yield "packages", [f"{name} {_version(name) or 'missing'}: {use}" for name, use in PACKAGES.items()]
    yield "devices", list(_devices())
    choice = choose()
    yield "engines", [*_engines(), f"auto is {choice.engine} on {choice.device} ({choice.reason})"]
    libraries = ", ".join(f"{name} {'.'.join(map(str, parts))}" for name, parts in sorted(av.library_versions.items()))
    yield "video encoders", [", ".join(encoders_here()), f"FFmpeg: {libraries}"]
    models = [f"{found.name}: {found.words or found.path}" for found in named_models()]
    yield "models", [*models, f"your own are kept in {models_folder()}"]
    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    yield "cache", [f"{folder} ({size / 1e6:.1f} MB of compiled models; may be deleted)"]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    yield f"cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        memory, capability = f"{facts.total_memory / 2**30:.0f} GiB", f"{facts.major}.{facts.minor}"
        yield f"cuda:{number}: {facts.name}, {memory}, compute capability {capability}"
    if not torch.cuda.is_available():
        yield "no CUDA device"


def _engines() -> Iterator[str]:
    for name in ENGINES:
        device = "cuda" if name in ("cuda", "tensorrt") else "cpu"
        reason = unusable(name, device)
        yield f"{name}: {'ready' if reason is None else reason}"
    missing = why_unavailable("cuda")
    kernels = "ready" if missing is None else f"plain torch stands in ({missing})"
    yield f"Triton kernels of cuda and tensorrt: {kernels}"
