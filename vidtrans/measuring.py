"""What a machine is and does: times, its arithmetic's measured peak, peak memory."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn


def median_seconds(work: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """Median time of one call, over at least five calls and this many seconds, after a warm-up call or two."""
    for _ in range(2):
        work()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < seconds:
        _wait_for(device)
        before = time.perf_counter()
        work()
        _wait_for(device)
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def measured_peak(device: str, precision: str) -> float:
    """The most this machine does in that precision, in 1e9 operations a millisecond (TFLOP/s).

    The better of a matrix product and a 3x3 convolution of 256 channels; for int8 a matrix product.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}[precision]
    large = device.startswith("cuda")
    side, height, width = (8192, 256, 512) if large else (1024, 64, 64)
    if precision == "int8":
        a = torch.randint(-127, 127, (side, side), dtype=dtype, device=device)
        return 2e-12 * side**3 / median_seconds(lambda: torch._int_mm(a, a), 0.5, device)
    with torch.inference_mode():
        m = torch.randn(side, side, device=device, dtype=dtype)
        best = 2e-12 * side**3 / median_seconds(lambda: m @ m, 0.5, device)
        conv = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype).to(memory_format=torch.channels_last)
        x = torch.randn(4, 256, height, width, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        work = 2e-12 * 4 * height * width * 256 * 256 * 9
        return max(best, work / median_seconds(lambda: conv(x), 0.5, device))


def reset_peak_memory(device: str) -> None:
    """Start counting peak memory anew, where the system can."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: str) -> float | None:
    """Peak memory since `reset_peak_memory`, in MiB: the GPU's, or this process's resident memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return None


def machine() -> str:
    """Processor, cores, GPU and versions, in one line."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
