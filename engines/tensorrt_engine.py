"""The TensorRT engine: two plans (tensorrt_plans), the encoder with the lifts and the decoders' rest.

Our own kernels are between them where Triton works; all of a batch of gaps is one CUDA graph (gap_graph). Plans come
from a cache and are compared with the float32 reference before their first use on a device, because TensorRT has been
seen to miscompile residual blocks in silence.
"""

from __future__ import annotations

import copy
import importlib.util
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.engines import norms_triton, tensorrt_plans
from vidtrans.engines.base import BaseEngine
from vidtrans.engines.contract import Features, Gap, Report, Samples
from vidtrans.engines.gap_graph import Decode, GapGraphEngine, Keyframe, joined, largest_difference
from vidtrans.engines.latents_triton import moments, on_device
from vidtrans.engines.onnx_export import ELEMENT_TYPES, Graph
from vidtrans.engines.plan_cache import PlanCache
from vidtrans.engines.tensorrt_plans import Job, Plan
from vidtrans.errors import DeviceError, UsageError

# Relative RMS error against float32 above which a plan is refused. Rounding alone gives 0.7 % in fp16 and 5 % in bf16
# at worst (untrained weights; a tenth of that with trained ones), a miscompiled network gives about 100 %.
LARGEST_ERROR = {"fp32": 0.005, "fp16": 0.05, "bf16": 0.2}


def unusable(device: str) -> str | None:
    """Why TensorRT cannot be used on a device, in words for the user; None if it can."""
    if not any(importlib.util.find_spec(name) for name in tensorrt_plans.FLAVOURS):
        return f"TensorRT is not installed: {tensorrt_plans.INSTALL}"
    try:
        if torch.device(device).type != "cuda":
            return "TensorRT needs a CUDA device"
        capability = torch.cuda.get_device_capability(device)
    except (RuntimeError, AssertionError) as error:
        return f"device {device!r} cannot be used ({str(error).splitlines()[0]})"
    found = tensorrt_plans.found_for(*capability)
    return found if isinstance(found, str) else None


class TensorRTEngine(GapGraphEngine):
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
        *,
        decode_source: bool = True,
    ) -> None:
        precision = checked_precision(precision)
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; or try another --engine")
        super().__init__(net, source, targets, working_size, device, precision, decode_source)
        self._type = ELEMENT_TYPES[precision]
        height, width = self.padded_size
        self._rows = tensorrt_plans.batch_limit(height, width)
        self.gaps_at_once = max(1, min(8, self._rows // 8))
        target = tensorrt_plans.target_of(device)
        parts = ("encode_lifts", "finish_normed" if self._fused else "finish")
        jobs = [Job(Graph(net, self.domains, part, precision, source), height, width, target) for part in parts]
        cache = PlanCache()
        with on_device(device):  # plans are built and loaded on the current GPU
            plans = [job.plan(cache, report) for job in jobs]
            # Loading a plan of tensorrt_rtx compiles its kernels for the device.
            with tensorrt_plans.heartbeat("loading the TensorRT plans and comparing them with the reference", report):
                self._encoder, self._decoder = (
                    tensorrt_plans.Session(job.tensorrt, plan.data, torch.device(device))
                    for job, plan in zip(jobs, plans, strict=True)
                )
                self._check(net, jobs, cache, [plan for plan in plans if plan.built])
                self._try()

    def _check(self, net: Any, jobs: Sequence[Job], cache: PlanCache, built: Sequence[Plan]) -> None:
        """Compare plans with the reference, once for every device they are used on.

        Raises:
            DeviceError: they are far off; they are removed from the cache.
        """
        where = str(jobs[0].target)
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

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> list[Features]:
        features = super().encode(frames)
        kept = [moments([one.lifted[d] for one in features]).rows() for d in self.domains if self._fused]
        return [
            Keyframe(one.lifted, one.decoded, [of_rows[row] for of_rows in kept]) for row, one in enumerate(features)
        ]

    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        parts = [self._encoder.run([rows]) for rows in torch.split(x.float().contiguous(), self._rows)]
        return {d: joined([part[i] for part in parts]) for i, d in enumerate(self.domains)}

    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = [lifted[d].contiguous() for d in self.domains]
        if self._fused:
            inputs = [norms_triton.instance_norm(a, relu=True) for a in inputs]
        return dict(zip(self.domains, self._decoding(captured=False)(inputs), strict=True))

    def _decoding(self, captured: bool) -> Decode:
        # A graph has contexts of its own, which nothing else will bind again.
        run = self._decoder.runner() if captured else self._decoder.run

        def decode(inputs: Sequence[Tensor]) -> list[Tensor]:
            batches = (torch.split(a.to(self._type).contiguous(), self._rows) for a in inputs)
            parts = [run(rows) for rows in zip(*batches, strict=True)]
            return [joined(rows) for rows in zip(*parts, strict=True)]

        return decode


def checked_precision(precision: str) -> str:
    """The precision that runs.

    Raises:
        UsageError: this engine does not have it.
    """
    precision = "fp16" if precision == "auto" else precision
    if precision not in ELEMENT_TYPES:
        raise UsageError(f"the tensorrt engine has no --precision {precision}; it has {', '.join(ELEMENT_TYPES)}")
    return precision


def parts_for(net: Any) -> tuple[str, ...]:
    """The parts of a net that an engine may want on a GPU that is not here, with Triton or without."""
    fused = ("finish_normed",) if net.lift_norm == "instance_relu" else ()
    return ("encode_lifts", *fused, "finish")


def relative_error(engine: BaseEngine, net: Any) -> float:
    """The largest relative RMS error of any output against float32 torch, keyframes and an in-between, on test frames.

    Frames are the same at all times, so that a plan that passed once need not be tried on every video; and they have
    structure everywhere, where a black frame's norms would make noise of rounding.
    """
    from vidtrans.engines.torch_engine import TorchEngine

    frames = _test_frames(engine.working_size)
    targets = [domain for domain in engine.domains if domain != engine.source]
    reference = TorchEngine(
        copy.deepcopy(net),
        engine.source,
        targets,
        engine.working_size,
        engine.device,
        "fp32",
        decode_source=len(targets) < len(engine.domains),
    )
    results = []
    # Torch convolves float32 in TF32 by default on a GPU.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, fp32_precision="ieee"):
        for one in (engine, reference):
            left, right = one.encode(frames)
            results.append((left.decoded, one.between([Gap(left, right, (Fraction(3, 8),))])[0]))
    return largest_difference([(got[d], want[d]) for got, want in zip(*results, strict=True) for d in engine.domains])


def _test_frames(size: tuple[int, int]) -> Tensor:
    """Two frames (2, H, W, 3) uint8: soft blotches of colour under fine noise."""
    generator = torch.Generator().manual_seed(0)
    width, height = size
    blotches = F.interpolate(torch.rand(2, 3, 5, 7, generator=generator), (height, width), mode="bicubic")
    noise = torch.rand(2, 3, height, width, generator=generator)
    return (255 * (0.8 * blotches + 0.2 * noise)).clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous()
