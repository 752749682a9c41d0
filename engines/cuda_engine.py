"""The CUDA engine: torch on NVIDIA GPUs in half precision, our own kernels around cuDNN's convolutions, CUDA graphs.

Convolutions want channels-last memory, torch's instance norm wants planes and would transpose twice for every norm. So
where Triton works the norms are ours too, each with the ReLU or the residual sum that follows it (norms_triton), and
the blend between lifts and finish is that of latents_triton. From the second time a shape comes, a whole batch of gaps,
or of keyframes, is one CUDA graph (gap_graph).

Features are kept in the network's own precision: a half-precision convolution made them, so more bits would hold
nothing more, and the blend is bound by memory. It computes in float32 whatever they are stored in. What `between` gives
is float32, because composing goes on from there.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from vidtrans.engines.base import BATCH_PIXELS
from vidtrans.engines.contract import Features, Gap, Report, Samples
from vidtrans.engines.gap_graph import Decode, GapGraphEngine, Keyframe, Prepare, Work
from vidtrans.engines.latents_triton import Moments, moments, parts_of
from vidtrans.engines.modules import EncodeLifts, Finish
from vidtrans.engines.norms_triton import fuse_norms
from vidtrans.errors import DeviceError, UsageError
from vidtrans.latents import Fields

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ROWS_A_GAP = 8  # instants of a gap that `gaps_at_once` reckons with, which is factor 8
ELEMENTS_A_PIXEL = 256  # of activations at width 64, see base.BATCH_PIXELS

Result = TypeVar("Result")


def unusable(device: str) -> str | None:
    """Why this engine cannot run on the device; None: it can."""
    try:
        if torch.device(device).type != "cuda" or torch.version.cuda is None:
            return "the cuda engine needs an NVIDIA GPU and a torch built for CUDA"
        torch.zeros(1, device=device).item()  # runs a kernel, which a torch built for other GPUs does not have
    except (RuntimeError, AssertionError) as error:
        return f"device {device!r} cannot be used ({str(error).splitlines()[0]})"
    return None


class CudaEngine(GapGraphEngine):
    """See contract.Engine; the net stays as it is, a copy of it runs.

    Args:
        device: "cuda", "cuda:1" ...
        precision: "auto" is bf16 where the GPU has it, else fp16; fp32 is float32 without TF32.

    Raises:
        DeviceError: the device is not there, or has too little memory even for one frame at a time (`encode` and
            `between` raise it too). UsageError: a precision this engine does not have.
    """

    name = "cuda"

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
        if precision not in ("auto", *TYPES):
            raise UsageError(f"the cuda engine has no --precision {precision}; it has {', '.join(TYPES)}")
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; try --device cpu")
        on_gpu = torch.device(device).type == "cuda"
        if precision == "auto":
            precision = "bf16" if not on_gpu or torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        super().__init__(net, source, targets, working_size, device, precision, decode_source)
        self._type = TYPES[precision]
        self._uploads = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._unfinished: deque[torch.cuda.Event] = deque()
        self._is_short_of_memory = False
        own = self._within_memory(lambda: copy.deepcopy(net).to(device, self._type))
        own = own.to(memory_format=torch.channels_last)
        if self._no_triton is None:
            fuse_norms(own)
        self._encoder = EncodeLifts(own, self.domains, source)
        self._decoder = Finish(own, self.domains)
        self._blend_decoder = Finish(own, self.domains, normed=self._fused)
        self._rows = self._rows_that_fit()
        self.gaps_at_once = max(1, self._rows // ROWS_A_GAP)
        self._try()

    def _rows_that_fit(self) -> int:
        """Frames in a batch: one gap's, or more where frames are small, until the GPU has enough to do."""
        height, width = self.padded_size
        rows = max(ROWS_A_GAP, BATCH_PIXELS // (height * width))
        if self._uploads is None:
            return rows
        free, _ = torch.cuda.mem_get_info(self.device)
        # Half of what is free: work outside of graphs and graphs have their own.
        return max(1, min(rows, free // 2 // (height * width * ELEMENTS_A_PIXEL * self._type.itemsize)))

    # What engines give

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> list[Features]:
        return self._within_memory(lambda: self._encoded(frames))

    @torch.inference_mode()
    def between(self, gaps: Sequence[Gap]) -> list[dict[str, Tensor]]:
        base = super().between
        outputs = self._within_memory(lambda: base(gaps))
        self._keep_in_step()
        return outputs

    def _encoded(self, frames: Tensor) -> list[Features]:
        features: list[Features] = []
        count = len(self.domains)
        for rows in torch.split(frames, self._rows):
            outputs = self._run(("encode", rows.shape, rows.dtype), [self._up(rows)], self._encoding)
            lifted, decoded, numbers = outputs[:count], outputs[count : 2 * count], outputs[2 * count :]
            of_domains = [Moments(*pair).rows() for pair in zip(numbers[::2], numbers[1::2], strict=True)]
            for row in range(len(rows)):
                features.append(
                    Keyframe(
                        {d: a[row] for d, a in zip(self.domains, lifted, strict=True)},
                        {d: out[row] for d, out in zip(self.domains, decoded, strict=True)},
                        [of_rows[row] for of_rows in of_domains],
                    )
                )
        return features

    # Hooks. The first two are not on the path of `encode` and `between`.

    @torch.inference_mode()
    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        lifted = self._run(("lifts", x.shape), [x], lambda own, _: lambda: self._lifted(own[0]))
        return dict(zip(self.domains, lifted, strict=True))

    @torch.inference_mode()
    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = [self._for_convolutions(lifted[domain]) for domain in self.domains]

        def finishing(own: Sequence[Tensor], captured: bool) -> Work:
            return lambda: tuple(out.float() for out in self._decoder(*own))

        outputs = self._run(("finish", inputs[0].shape), inputs, finishing)
        return dict(zip(self.domains, outputs, strict=True))

    def _decoding(self, captured: bool) -> Decode:
        return lambda mixed: self._blend_decoder(*map(self._for_convolutions, mixed))

    def _encoding(self, own: Sequence[Tensor], captured: bool) -> Work:
        """Frames (B, H, W, 3) -> for all domains lifted features, float32 decodings, and the features' moments."""

        def work() -> tuple[Tensor, ...]:
            lifted = self._lifted(self._prepare(own[0]))
            numbers = [number for a in lifted for number in moments(a)] if self._fused else []
            return (*lifted, *self._outputs(self._decoder(*lifted)), *numbers)

        return work

    def _lifted(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(self._for_convolutions, self._encoder(self._for_convolutions(x))))

    def _for_convolutions(self, x: Tensor) -> Tensor:
        return x.to(self._type).contiguous(memory_format=torch.channels_last)

    # How it runs

    def _run(self, key: Any, inputs: Sequence[Tensor], prepare: Prepare) -> tuple[Tensor, ...]:
        with _arithmetic(tried=key in self._graphs.seen):
            return super()._run(key, inputs, prepare)

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        """Work; if the GPU's memory does not suffice, once more with one frame at a time and without graphs."""
        try:
            return work()
        except torch.OutOfMemoryError as error:
            if self._is_short_of_memory:
                raise DeviceError(self._too_little_memory()) from error
        # The error is gone, and with it what its traceback kept in memory.
        self._is_short_of_memory = True
        self._rows = self.gaps_at_once = 1
        self._graphs.stop("the GPU is short of memory: one frame at a time and no CUDA graphs, which is slower")
        if self._uploads is not None:
            torch.cuda.empty_cache()
        try:
            return work()
        except torch.OutOfMemoryError as error:
            raise DeviceError(self._too_little_memory()) from error

    def _too_little_memory(self) -> str:
        width, height = self.working_size
        return (
            f"{self.device} has too little free memory to work at {width}x{height}; give a smaller --size, "
            "end other programs that use it, or try --device cpu"
        )

    def _up(self, x: Tensor) -> Tensor:
        """x on the device, copied beside what the device computes meanwhile.

        Torch's cache of pinned memory alternates between its buffers: one is handed out again when its copy is over.
        """
        if self._uploads is None or x.is_cuda:
            return super()._up(x)
        return self._uploaded(lambda: [x.pin_memory().to(self.device, non_blocking=True)])[0]

    def _uploaded(self, work: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Results of work in the stream of uploads, for use in the current one from now on."""
        assert self._uploads is not None
        with torch.cuda.stream(self._uploads):
            tensors = work()
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._uploads)
        for x in tensors:
            x.record_stream(current)
        return tensors

    def _prepare(self, frames: Tensor) -> Tensor:
        return super()._prepare(self._up(frames))

    def _feature_fields(self, motion: Fields, keyframe: Features) -> Fields:
        base = super()._feature_fields
        if self._uploads is None:
            return base(motion, keyframe)

        def work() -> list[Tensor]:
            parts = (part if part.is_cuda else part.pin_memory() for part in parts_of(motion))
            given = Fields(*(part.to(self.device, non_blocking=True) for part in parts))
            return list(parts_of(base(given, keyframe)))

        return Fields(*self._uploaded(work))

    def _keep_in_step(self) -> None:
        """Wait until the batch before this one is done: one is always under way, and no more are queued in memory."""
        if self._uploads is None:
            return
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        self._unfinished.append(done)
        if len(self._unfinished) > 1:
            self._unfinished.popleft().synchronize()


@contextmanager
def _arithmetic(*, tried: bool) -> Iterator[None]:
    """Float32 is not to be TF32. tried: all ways to convolve are timed and the fastest is taken; else cuDNN guesses."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=tried, allow_tf32=False, fp32_precision="ieee"):
        yield
