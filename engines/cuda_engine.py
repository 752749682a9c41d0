"""The CUDA engine: torch on NVIDIA GPUs in half precision, our own kernels around cuDNN's convolutions, CUDA graphs.

Convolutions want channels-last memory, torch's instance norm wants planes and would transpose twice for every norm. So
where Triton works the norms are ours too, each with the ReLU or the residual sum that follows it, and the blend between
lifts and finish is that of latents_triton. From the second time a shape comes, a whole batch of gaps, or of keyframes,
is one CUDA graph.

Features are kept in the network's own precision: a half-precision convolution made them, so more bits would hold
nothing more, and the blend is bound by memory. It computes in float32 whatever they are stored in. What `between` gives
is float32, because composing goes on from there.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar, no_type_check

import torch
from torch import Tensor, nn

from vidtrans.engines import latents_triton
from vidtrans.engines.base import BATCH_PIXELS, BaseEngine
from vidtrans.engines.contract import Features, Gap, Report, Samples
from vidtrans.engines.latents_triton import BlendPlan, Moments, MovedPlan, _jit, _not_below_zero, _offsets, _tile, tl
from vidtrans.engines.modules import EncodeLifts, Finish
from vidtrans.errors import DeviceError, UsageError
from vidtrans.latents import Fields
from vidtrans.nets.blocks import NormReLU, ResidualBlock

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ROWS_A_GAP = 8  # instants of a gap that `gaps_at_once` reckons with, which is factor 8
ELEMENTS_A_PIXEL = 256  # of activations at width 64, see base.BATCH_PIXELS
GRAPHS_KEPT = 8
# Relative RMS difference between a replayed graph and the same work launched call by call, above which graphs are not
# used. Other algorithms of the same convolutions differ by 5 % in bf16 at worst (untrained weights), a fault by about
# 100 %.
LARGEST_DIFFERENCE = 0.2

Work = Callable[[], tuple[Tensor, ...]]
Prepare = Callable[[Sequence[Tensor]], Work]
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


class CudaEngine(BaseEngine):
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
    ) -> None:
        if precision not in ("auto", *TYPES):
            raise UsageError(f"the cuda engine has no --precision {precision}; it has {', '.join(TYPES)}")
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; try --device cpu")
        on_gpu = torch.device(device).type == "cuda"
        if precision == "auto":
            precision = "bf16" if not on_gpu or torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        super().__init__(net, source, targets, working_size, device, precision)
        self._type = TYPES[precision]
        no_triton = latents_triton.why_unavailable(device)
        self._fused = no_triton is None and net.lift_norm == "instance_relu"
        if no_triton is not None:
            self.notes.append(f"plain blend and plain norms: {no_triton}")
        elif not self._fused:
            self.notes.append("plain blend: this network's decoders do not begin with a norm")
        self._uploads = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._unfinished: deque[torch.cuda.Event] = deque()
        self._graphs: OrderedDict[Any, Graphed] = OrderedDict()
        self._graph_pool = torch.cuda.graph_pool_handle() if on_gpu else None
        self._graphs_work = True
        self._seen: set[Any] = set()
        self._is_short_of_memory = False
        self._rows = 1
        own = self._within_memory(lambda: copy.deepcopy(net).to(device, self._type))
        own = own.to(memory_format=torch.channels_last)
        if no_triton is None:
            fuse_norms(own)
        self._encoder = EncodeLifts(own, self.domains)
        self._decoder = Finish(own, self.domains)
        self._normed_decoder = Finish(own, self.domains, normed=True) if self._fused else None
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

    def _try(self) -> None:
        """Run all kinds of work, the second time as graphs: what does not work is said before the first frame."""
        width, height = self.working_size
        frames = torch.randint(0, 256, (2, height, width, 3), generator=torch.Generator().manual_seed(0))
        half = (Fraction(1, 2),)
        nowhere = torch.zeros(1, 2, height, width)
        still = Fields(nowhere, nowhere, torch.full((1, 1, height, width), 0.5))
        runs = []
        for _ in range(2):
            left, right = self.encode(frames.to(torch.uint8))
            outputs = [self.between([Gap(left, right, half, motion)])[0] for motion in (None, still)]
            runs.append([features[d] for features in (left.decoded, *outputs) for d in self.domains])
        worst = max(_difference(*pair) for pair in zip(*runs, strict=True))
        if self._graphs_work and not worst <= LARGEST_DIFFERENCE:
            self._graphs_work = False
            self.notes.append(f"no CUDA graphs: what they compute is {100 * worst:.2g} % off")
        self._wait()
        self._graphs.clear()

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
            of_domains = [Moments(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
            for row in range(len(rows)):
                features.append(
                    Keyframe(
                        {d: a[row] for d, a in zip(self.domains, lifted, strict=True)},
                        {d: out[row] for d, out in zip(self.domains, decoded, strict=True)},
                        [Moments(m.mean[row], m.variance[row]) for m in of_domains],
                    )
                )
        return features

    def _in_betweens(self, gaps: list[Gap]) -> Any:
        made: list[list[dict[str, Tensor]]] = [[] for _ in gaps]
        fields = [None if gap.motion is None else self._feature_fields(gap.motion, gap.left) for gap in gaps]
        for batch in batches(gaps, fields, self._rows):
            counts = [len(piece.times) for piece in batch]
            outputs = self._run(*self._blending(batch))
            parts = zip(*(torch.split(out, counts) for out in outputs), strict=True)
            for piece, part in zip(batch, parts, strict=True):
                made[piece.gap].append(dict(zip(self.domains, part, strict=True)))
        return iter([{d: _joined([part[d] for part in parts]) for d in self.domains} for parts in made])

    # The hooks of BaseEngine, which are not on the path of `encode` and `between`

    @torch.inference_mode()
    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        lifted = self._run(("lifts", x.shape), [x], lambda own: lambda: self._lifted(own[0]))
        return dict(zip(self.domains, lifted, strict=True))

    @torch.inference_mode()
    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = [self._for_convolutions(lifted[domain]) for domain in self.domains]

        def finishing(own: Sequence[Tensor]) -> Work:
            return lambda: tuple(out.float() for out in self._decoder(*own))

        outputs = self._run(("finish", inputs[0].shape), inputs, finishing)
        return dict(zip(self.domains, outputs, strict=True))

    # What is captured

    def _encoding(self, own: Sequence[Tensor]) -> Work:
        """Frames (B, H, W, 3) -> for all domains lifted features, float32 decodings, and the features' moments."""

        def work() -> tuple[Tensor, ...]:
            lifted = self._lifted(self._prepare(own[0]))
            numbers = [number for a in lifted for number in moments_of_batch(a)] if self._fused else []
            return (*lifted, *self._outputs(self._decoder(*lifted)), *numbers)

        return work

    def _blending(self, batch: Sequence[Piece]) -> tuple[Any, list[Tensor], Prepare]:
        """Key, inputs and work of a batch's in-betweens. Instants are an input, so that graphs serve all of them."""
        counts = tuple(len(piece.times) for piece in batch)
        is_moved = batch[0].fields is not None
        inputs = [piece.left.lifted[d] for d in self.domains for piece in batch]
        inputs += [piece.right.lifted[d] for d in self.domains for piece in batch]
        if is_moved:
            inputs += [part for piece in batch for part in _parts(piece.fields)]
        else:
            inputs.append(self._up(torch.tensor([float(t) for piece in batch for t in piece.times])))
            for piece in batch if self._fused else ():
                inputs += [number for side in (piece.left, piece.right) for kept in side.moments for number in kept]
        return ("between", counts, is_moved), inputs, partial(self._blended, counts, is_moved)

    def _blended(self, counts: Sequence[int], is_moved: bool, own: Sequence[Tensor]) -> Work:
        take = iter(own)
        lefts, rights = ([[next(take) for _ in counts] for _ in self.domains] for _ in range(2))
        mixers: list[Callable[[], Tensor]] = []
        if is_moved:
            fields = [Fields(next(take), next(take), next(take)) for _ in counts]
            for pair in zip(lefts, rights, strict=True):
                mixers.append(MovedPlan(*pair, fields) if self._fused else partial(_moved, *pair, fields))
        else:
            times = next(take)
            if self._fused:
                # moments[gap][side][domain]
                moments = [[[Moments(next(take), next(take)) for _ in self.domains] for _ in range(2)] for _ in counts]
            for row, pair in enumerate(zip(lefts, rights, strict=True)):
                if self._fused:
                    kept = [(left[row], right[row]) for left, right in moments]
                    mixers.append(partial(_replanned, BlendPlan(*pair, [[0.0] * n for n in counts], kept), times))
                else:
                    mixers.append(partial(_lerped, *pair, counts, times))
        decoder = self._normed_decoder or self._decoder

        def work() -> tuple[Tensor, ...]:
            return self._outputs(decoder(*(self._for_convolutions(mixed()) for mixed in mixers)))

        return work

    def _lifted(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(self._for_convolutions, self._encoder(self._for_convolutions(x))))

    def _for_convolutions(self, x: Tensor) -> Tensor:
        return x.to(self._type).contiguous(memory_format=torch.channels_last)

    def _outputs(self, decoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """At the working size, float32 planes."""
        width, height = self.working_size
        return tuple(out[..., :height, :width].float().contiguous() for out in decoded)

    # How it runs

    def _run(self, key: Any, inputs: list[Tensor], prepare: Prepare) -> tuple[Tensor, ...]:
        """What the work that `prepare` makes of the inputs gives; the results are the caller's own.

        The first time a key comes the work is launched call by call: many batches are of a shape that never comes
        again, such as the last one.
        """
        with self._on_device(), _arithmetic(tried=key in self._seen):
            graph = self._graphs.get(key)
            if graph is None and self._graphs_work and key in self._seen:
                graph = self._captured(key, inputs, prepare)
            if graph is None:
                self._seen.add(key)
                return prepare(inputs)()
            self._graphs.move_to_end(key)
            return graph(inputs)

    def _captured(self, key: Any, inputs: list[Tensor], prepare: Prepare) -> Graphed | None:
        if len(self._graphs) >= GRAPHS_KEPT:
            self._wait()  # it may still be running
            self._graphs.popitem(last=False)
        try:
            graph = Graphed(inputs, prepare, self._graph_pool)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._graphs_work = False
            self._wait()
            self._graphs.clear()
            self.notes.append(f"no CUDA graphs: {next(iter(str(error).splitlines()), type(error).__name__)}")
            return None
        self._graphs[key] = graph
        return graph

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
        self._graphs_work = False
        self._wait()
        self._graphs.clear()
        if self._uploads is not None:
            torch.cuda.empty_cache()
        self.notes.append("the GPU is short of memory: one frame at a time and no CUDA graphs, which is slower")
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
            return x.to(self.device)
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

        def work() -> list[Tensor]:
            if self._uploads is not None:
                parts = (part if part.is_cuda else part.pin_memory() for part in _parts(motion))
                given = Fields(*(part.to(self.device, non_blocking=True) for part in parts))
            else:
                given = motion
            return [part.float().contiguous() for part in _parts(base(given, keyframe))]

        return Fields(*(work() if self._uploads is None else self._uploaded(work)))

    def _keep_in_step(self) -> None:
        """Wait until the batch before this one is done: one is always under way, and no more are queued in memory."""
        if self._uploads is None:
            return
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self.device))
        self._unfinished.append(done)
        if len(self._unfinished) > 1:
            self._unfinished.popleft().synchronize()

    def _wait(self) -> None:
        if self._uploads is not None:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        if self._uploads is None:
            yield
        else:
            with torch.cuda.device(self.device):
                yield


@contextmanager
def _arithmetic(*, tried: bool) -> Iterator[None]:
    """Float32 is not to be TF32. tried: all ways to convolve are timed and the fastest is taken; else cuDNN guesses."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=tried, allow_tf32=False, fp32_precision="ieee"):
        yield


@dataclass(frozen=True)
class Keyframe(Features):
    """Features with the moments of what is lifted, for both gaps: one for each domain, none where no kernel asks."""

    moments: list[Moments]


@dataclass(frozen=True)
class Piece:
    """Instants of a gap, as many as a batch takes: its number, keyframes, instants, and fields where it is moved."""

    gap: int
    left: Keyframe
    right: Keyframe
    times: tuple[Fraction, ...]
    fields: Fields | None


def batches(gaps: Sequence[Gap], fields: Sequence[Fields | None], rows: int) -> list[list[Piece]]:
    """The gaps in batches of at most so many rows, all of a batch moved or none; only longer gaps are cut."""
    pieces = []
    for number, (gap, field) in enumerate(zip(gaps, fields, strict=True)):
        assert isinstance(gap.left, Keyframe)
        assert isinstance(gap.right, Keyframe)
        cuts = [*range(0, len(gap.times), rows), len(gap.times)]
        for begin, end in pairwise(cuts):
            part = None if field is None else Fields(*(x[begin:end] for x in _parts(field)))
            pieces.append(Piece(number, gap.left, gap.right, gap.times[begin:end], part))
    packed: list[list[Piece]] = []
    for is_moved in (False, True):
        room = 0
        for piece in pieces:
            if (piece.fields is not None) != is_moved:
                continue
            if len(piece.times) > room:
                packed.append([])
                room = rows
            packed[-1].append(piece)
            room -= len(piece.times)
    return packed


class Graphed:
    """Work on tensors of its own as one CUDA graph; on a CPU it simply runs.

    Args:
        inputs: like those of every call, in number, shape, type and device.
        prepare: makes the work; its tables and plans are made once, outside of the graph.
        pool: of the memory that all graphs of an engine share. None of them runs beside another one, and what one gives
            is copied before the next one runs.

    Raises:
        RuntimeError: this work cannot be captured here.
    """

    def __init__(self, inputs: Sequence[Tensor], prepare: Prepare, pool: Any) -> None:
        self._inputs = [torch.empty_like(x).copy_(x) for x in inputs]
        self._work = prepare(self._inputs)
        self._graph: torch.cuda.CUDAGraph | None = None
        device = self._inputs[0].device
        if device.type != "cuda":
            return
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._work()  # compiles and tries what a capture cannot
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may ask the GPU for memory meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._outputs = self._work()
        self._graph = graph

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the work gives; the tensors are the caller's own."""
        for dtype in {x.dtype for x in self._inputs}:
            pairs = [pair for pair in zip(self._inputs, inputs, strict=True) if pair[0].dtype == dtype]
            torch._foreach_copy_([own for own, _ in pairs], [given for _, given in pairs])  # in one launch
        if self._graph is None:
            return self._work()
        self._graph.replay()
        return tuple(out.clone() for out in self._outputs)


# Norms


class FusedNorm(nn.Module):
    """Instance norm, ReLU if it is wanted, and a sum if there is one: (B, C, H, W) channels-last -> same.

    One kernel reads x for its moments, another one reads it again and writes the result. Arithmetic is float32; what is
    stored is rounded once.
    """

    def __init__(self, *, relu: bool) -> None:
        super().__init__()
        self._relu = relu

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        layout = _layout(x)
        mean, variance = moments_of_batch(x)
        out = torch.empty_like(x)
        block_c, block_p = layout.block(latents_triton.TILE)
        blocks = -(-layout.channels // block_c) * -(-layout.positions // block_p)
        other = x if added is None else added.contiguous(memory_format=torch.channels_last)
        with layout.on_device():
            _norm_kernel[(blocks, len(x))](
                x, mean, variance, other, out, layout.channels, layout.positions, latents_triton.EPS,
                RELU=self._relu, ADD=added is not None, LAST=layout.channels_last,
                BLOCK_C=block_c, BLOCK_P=block_p, num_warps=latents_triton.WARPS,
            )  # fmt: skip
        return out


class FusedResidual(nn.Module):
    """A ResidualBlock whose last norm and sum are one kernel."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.body = block.body[:-1]
        self.norm = FusedNorm(relu=not isinstance(block.body[-1], nn.InstanceNorm2d))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.body(x), x)


def fuse_norms(module: nn.Module) -> None:
    """Put our norms in place of all NormReLU and in all ResidualBlock below a module."""
    for name, child in list(module.named_children()):
        if isinstance(child, NormReLU):
            setattr(module, name, FusedNorm(relu=True))
            continue
        fuse_norms(child)
        if isinstance(child, ResidualBlock):
            setattr(module, name, FusedResidual(child))


def moments_of_batch(x: Tensor) -> Moments:
    """Of dense x (B, C, H, W), both (B, C) float32: latents_triton's `moments` as a CUDA graph can hold it."""
    layout, step, first = _layout(x), x[0].numel() * x.element_size(), x.data_ptr()
    # Made by the device: a table from the host could not be captured.
    return layout.moments(torch.arange(first, first + len(x) * step, step, dtype=torch.int64, device=x.device))


def _layout(x: Tensor) -> latents_triton._Layout:
    return latents_triton._Layout.of(list(x[:2]))  # the others lie at the same steps


@_jit
@no_type_check
def _norm_kernel(
    x, means, variances, added, out, channels, positions, eps,
    RELU: tl.constexpr, ADD: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """x, added (B, C, h, w), means and variances (B, C) -> out (B, C, h, w)."""
    c, in_c, place = _tile(channels, BLOCK_C)
    p = place * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = in_c[:, None] & (p < positions)[None, :]
    row = tl.program_id(1).to(tl.int64)
    offsets = row * channels * positions + _offsets(c, p, channels, positions, LAST)
    mean = tl.load(means + row * channels + c, mask=in_c, other=0.0)
    scale = tl.rsqrt(tl.load(variances + row * channels + c, mask=in_c, other=0.0) + eps)
    value = (tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32) - mean[:, None]) * scale[:, None]
    if RELU:
        value = _not_below_zero(value)
    if ADD:
        value += tl.load(added + offsets, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + offsets, value.to(out.dtype.element_ty), mask=inside)


# Blends. Moving and blending are float32 arithmetic whatever the features are stored in.


def _replanned(plan: BlendPlan, times: Tensor) -> Tensor:
    """A plan's result at the times (n,) that stand in a tensor now."""
    plan._times.copy_(times)
    return plan()


def _lerped(lefts: Sequence[Tensor], rights: Sequence[Tensor], counts: Sequence[int], times: Tensor) -> Tensor:
    """`latents.blend` of every gap at times (n,) that a CUDA graph can read."""
    rows = zip(lefts, rights, torch.split(times.view(-1, 1, 1, 1), list(counts)), strict=True)
    return torch.cat([torch.lerp(left.float()[None], right.float()[None], t) for left, right, t in rows])


def _moved(lefts: Sequence[Tensor], rights: Sequence[Tensor], fields: Sequence[Fields]) -> Tensor:
    rows = zip(lefts, rights, fields, strict=True)
    return torch.cat([field.blend(left.float(), right.float()) for left, right, field in rows])


def _parts(fields: Fields | None) -> tuple[Tensor, ...]:
    assert fields is not None
    return fields.to_left, fields.to_right, fields.right_share


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _difference(got: Tensor, wanted: Tensor) -> float:
    """RMS, relative to what is wanted; not a number if either is none."""
    return float((got - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
