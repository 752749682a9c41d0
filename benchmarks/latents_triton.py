"""The Triton kernels of engines/latents_triton.py against the bandwidth of a copy, on an NVIDIA GPU.

    python benchmarks/latents_triton.py [--json FILE] [--gaps 1 2 4 8] [--instants 7] [--channels 256]

Every result is first compared with the plain blend and norm; a difference beyond the bound ends the run. The kernels'
times are of CUDA graph replays, as an engine runs them; the plain torch way is launched call by call. Bandwidth counts
the least traffic that the job needs: in place both keyframes of every gap read once and all instants written once;
moved, both keyframes and the fields read once for every instant, and the blend written, read and written again. What
the moments and the covariance read besides is in the time and not in the bytes. The share is of a large copy's
bandwidth in the same run; tensors that fit into the L2 cache together can pass 100 %, and are marked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines.latents_triton import BlendPlan, MovedPlan, moments, why_unavailable
from vidtrans.latents import Fields, blend

# (height, width) of lifted features: networks at 128x128, 512x256 and 1280x720.
GRIDS = ((32, 32), (64, 128), (180, 320))
# Relative rounding of the storage; float32 differs by the order of its sums.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2.0**-8}
COPY_BYTES = 2**30
REPEATS, ROUNDS = 20, 7
MOST_BYTES = 40 * 2**30  # of one job's tensors


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """The same as one CUDA graph."""
    work()  # compiles, which a capture must not
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def seconds_of(work: Callable[[], object]) -> float:
    """Of one call: the best of several rounds."""
    for _ in range(3):
        work()
    best = float("inf")
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(REPEATS):
            work()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3 / REPEATS)
    return best


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy far larger than any cache."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / seconds_of(lambda: target.copy_(source))


def norm_relu(x: Tensor) -> Tensor:
    return F.relu(F.instance_norm(x))


def check(name: str, out: Tensor, reference: Iterable[Tensor], roundings: float) -> float:
    """The largest difference; ends the run if one is beyond rounding, `roundings` of the storage's own."""
    worst = 0.0
    for row, true in zip(out, reference, strict=True):
        difference = (row.float() - true).abs()
        if not bool((difference <= 1e-5 + roundings * ROUNDING[out.dtype] * true.abs().max()).all()):
            sys.exit(f"{name}: differs from the plain blend and norm by {difference.max().item():.2e}")
        worst = max(worst, difference.max().item())
    return worst


def random_fields(instants: int, height: int, width: int) -> Fields:
    """Smooth motion of a few pixels, as optical flow has it."""
    coarse = torch.randn(2, instants, 2, 4, 6, device="cuda") * 3
    moves = [F.interpolate(part, (height, width), mode="bilinear").contiguous() for part in coarse]
    return Fields(moves[0], moves[1], torch.rand(instants, 1, height, width, device="cuda"))


def measure(
    channels: int, grid: tuple[int, int], gaps: int, times: list[Fraction], dtype: torch.dtype, channels_last: bool
) -> list[dict[str, Any]]:
    height, width = grid
    form = torch.channels_last if channels_last else torch.contiguous_format
    keyframes = torch.randn(gaps + 1, channels, height, width, device="cuda").to(dtype, memory_format=form)
    lefts, rights, plane = list(keyframes[:-1]), list(keyframes[1:]), keyframes[0].nbytes
    fields = [random_fields(len(times), height, width) for _ in range(gaps)]
    of_each = moments(keyframes).rows()
    kept = list(pairwise(of_each))
    instants, field_bytes = gaps * len(times), sum(field.byte_count for field in fields)
    pairs = list(pairwise(keyframes))
    name = f"{channels}x{height}x{width} {str(dtype).removeprefix('torch.')} {'last' if channels_last else 'planes'}"
    jobs: list[tuple[str, Callable[[], Tensor], Callable[[], Tensor], float, float]] = [
        (
            "in place",
            BlendPlan(lefts, rights, [times] * gaps, kept),
            lambda: torch.cat([norm_relu(blend(left, right, times)) for left, right in pairs]),
            (2 * gaps + instants) * plane,
            1.0,
        ),
        (
            "in place, with moments",
            BlendPlan(lefts, rights, [times] * gaps),
            lambda: torch.cat([norm_relu(blend(left, right, times)) for left, right in pairs]),
            (2 * gaps + instants) * plane,
            1.0,
        ),
        (
            "moved",
            MovedPlan(lefts, rights, fields),
            # The fields' arithmetic is float32.
            lambda: torch.cat(
                [
                    norm_relu(field.blend(left.float(), right.float())).to(dtype)
                    for field, (left, right) in zip(fields, pairs, strict=True)
                ]
            ),
            (2 + 3) * instants * plane + field_bytes,
            2.0,
        ),
    ]
    rows = []
    for job, plan, plain, least_bytes, roundings in jobs:
        wide = [(left.float(), right.float()) for left, right in pairs]
        if job == "moved":
            truth = (row for field, pair in zip(fields, wide, strict=True) for row in norm_relu(field.blend(*pair)))
        else:
            truth = (row for pair in wide for row in norm_relu(blend(*pair, times)))
        # The moved blend is rounded once more, and both are measured by the largest value.
        error = check(f"{name}, {gaps} gaps, {job}", plan(), truth, roundings)
        del wide, truth
        seconds = seconds_of(captured(plan))
        rows.append(
            {
                "features": name,
                "gaps": gaps,
                "job": job,
                "microseconds": seconds * 1e6,
                "torch_microseconds": seconds_of(plain) * 1e6,
                "least_bytes": least_bytes,
                "bytes_per_second": least_bytes / seconds,
                "in_cache": (gaps + 1 + instants) * plane < torch.cuda.get_device_properties("cuda").L2_cache_size,
                "largest_error": error,
            }
        )
        torch.cuda.empty_cache()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Bandwidth of the fused blend, norm and ReLU.")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--gaps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--instants", type=int, default=7)
    parser.add_argument("--channels", type=int, default=256)
    arguments = parser.parse_args()
    reason = why_unavailable("cuda")
    if reason is not None:
        sys.exit(f"there is nothing to measure here: {reason}")
    torch.manual_seed(0)
    times = [Fraction(k, arguments.instants + 1) for k in range(1, arguments.instants + 1)]
    with torch.inference_mode():
        copy = copy_bandwidth()
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; copy {copy / 1e12:.2f} TB/s\n")
        print("| features | gaps | job | µs | µs, plain torch | TB/s | of a copy | largest difference |")
        print("|---|---|---|---|---|---|---|---|")
        rows = []
        for grid in GRIDS:
            for dtype in ROUNDING:
                for channels_last in (False, True):
                    for gaps in arguments.gaps:
                        instants = gaps * arguments.instants
                        # The plain way holds its blends, its norms and their concatenation.
                        if 4 * instants * arguments.channels * grid[0] * grid[1] * dtype.itemsize > MOST_BYTES:
                            continue
                        for row in measure(arguments.channels, grid, gaps, times, dtype, channels_last):
                            row["share_of_copy"] = row["bytes_per_second"] / copy
                            rows.append(row)
                            print(
                                f"| {row['features']} | {gaps} | {row['job']} | {row['microseconds']:.1f} | "
                                f"{row['torch_microseconds']:.1f} | {row['bytes_per_second'] / 1e12:.2f} | "
                                f"{row['share_of_copy']:.0%}{' (L2)' if row['in_cache'] else ''} | "
                                f"{row['largest_error']:.1e} |",
                                flush=True,
                            )
    if arguments.json is not None:
        result = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "copy_bytes_per_second": copy,
            "instants": arguments.instants,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
