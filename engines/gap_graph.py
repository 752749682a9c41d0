"""What the engines of a GPU share: gaps in batches, the blend by our own kernels, and CUDA graphs of such batches.

From the second time that a shape comes, a whole batch is one CUDA graph. A shape is how many gaps of how many instants,
and whether they are moved; instants themselves, like features and fields, are copied into the graph's own tensors, so
that one graph serves all of them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vidtrans.engines import latents_triton
from vidtrans.engines.base import BaseEngine
from vidtrans.engines.contract import Features, Gap
from vidtrans.engines.latents_triton import Moments, dense_fields, on_device, parts_of
from vidtrans.latents import Fields

GRAPHS_KEPT = 8  # each holds its inputs; activations and outputs share one pool
# Relative RMS difference between a replayed graph and the same work launched call by call, above which graphs are not
# used. Other algorithms of the same convolutions differ by 5 % in bf16 at worst (untrained weights), a fault by about
# 100 %.
LARGEST_DIFFERENCE = 0.2

Work = Callable[[], tuple[Tensor, ...]]
Prepare = Callable[[Sequence[Tensor], bool], Work]
"""(tensors, whether the work will be a CUDA graph) -> work that reads these tensors anew whenever it is called."""
Decode = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class GapGraphEngine(BaseEngine):
    """A BaseEngine that blends and decodes gaps in batches of one shape, as CUDA graphs where these work.

    An engine of its own gives `encode` Keyframes, adds `_decoding` to the hooks of BaseEngine, sets `_rows`, and calls
    `_try` when it is ready.

    Attributes:
        _no_triton: why our own kernels do not run here; None: they do.
        _fused: whether blend, norm and ReLU between lifts and finish are one kernel.
        _rows: how many instants are decoded in one go; a gap of more is cut.
    """

    def __init__(
        self,
        net: Any,
        source: str,
        targets: Sequence[str],
        working_size: tuple[int, int],
        device: str,
        precision: str,
        decode_source: bool = True,
    ) -> None:
        super().__init__(net, source, targets, working_size, device, precision, decode_source)
        self._no_triton = latents_triton.why_unavailable(device)
        self._fused = self._no_triton is None and net.lift_norm == "instance_relu"
        if self._no_triton is not None:
            self.notes.append(f"plain torch in place of our own kernels: {self._no_triton}")
        elif not self._fused:
            self.notes.append("plain blend: this network's decoders do not begin with a norm")
        self._rows = 1
        self._graphs = Graphs(torch.device(device), self.notes)

    @abstractmethod
    def _decoding(self, captured: bool) -> Decode:
        """What decodes blended features, one tensor for each domain; normed already where `_fused`.

        captured: whether it will be part of a CUDA graph.
        """

    def _run(self, key: Any, inputs: Sequence[Tensor], prepare: Prepare) -> tuple[Tensor, ...]:
        """See Graphs.run."""
        return self._graphs.run(key, inputs, prepare)

    def _up(self, x: Tensor) -> Tensor:
        """x on the device."""
        # In the stream's order, without waiting for it.
        return x.to(self.device, non_blocking=True)

    def _try(self) -> None:
        """Run all kinds of work, the second time as graphs: what does not work is said before the first frame."""
        width, height = self.working_size
        frames = torch.randint(0, 256, (2, height, width, 3), generator=torch.Generator().manual_seed(0))
        half = (Fraction(1, 2),)
        nowhere = torch.zeros(1, 2, height, width)
        still = Fields(nowhere, nowhere, torch.full((1, 1, height, width), 0.5))
        runs = []
        self._graphs.forget()
        for _ in range(2):
            left, right = self.encode(frames.to(torch.uint8))
            outputs = [self.between([Gap(left, right, half, motion)])[0] for motion in (None, still)]
            runs.append([features[d] for features in (left.decoded, *outputs) for d in self.domains])
        plain, replayed = runs
        worst = largest_difference(list(zip(replayed, plain, strict=True)))
        if self._graphs.work and not worst <= LARGEST_DIFFERENCE:
            self._graphs.stop(f"no CUDA graphs: what they compute is {100 * worst:.2g} % off")
        self._graphs.forget()

    def _in_betweens(self, gaps: list[Gap]) -> Any:
        made: list[list[dict[str, Tensor]]] = [[] for _ in gaps]
        fields = [None if gap.motion is None else self._feature_fields(gap.motion, gap.left) for gap in gaps]
        for batch in batches(gaps, fields, self._rows):
            counts = [len(piece.times) for piece in batch]
            is_moved = batch[0].fields is not None
            inputs = [tensor for piece in batch for tensor in piece.tensors(self.domains)]
            if not is_moved:
                inputs.append(self._up(torch.tensor([float(t) for piece in batch for t in piece.times])))
            key = ("between", tuple(counts), is_moved)
            outputs = self._run(key, inputs, partial(self._blended, counts, is_moved))
            parts = zip(*(torch.split(out, counts) for out in outputs), strict=True)
            for piece, part in zip(batch, parts, strict=True):
                made[piece.gap].append(dict(zip(self.domains, part, strict=True)))
        return iter([{d: joined([part[d] for part in parts]) for d in self.domains} for parts in made])

    def _blended(self, counts: Sequence[int], is_moved: bool, own: Sequence[Tensor], captured: bool) -> Work:
        """The work of `_in_betweens` on its inputs."""
        features, domains = own if is_moved else own[:-1], len(self.domains)
        each = len(features) // len(counts)
        pieces = [features[first : first + each] for first in range(0, len(features), each)]
        mixers: list[Callable[[], Tensor]] = []
        for row in range(domains):
            lefts, rights = ([piece[place] for piece in pieces] for place in (row, domains + row))
            if is_moved:
                fields = [Fields(*piece[2 * domains :]) for piece in pieces]
                plan = latents_triton.MovedPlan(lefts, rights, fields) if self._fused else None
                mixers.append(plan or partial(_moved, lefts, rights, fields))
            elif self._fused:
                places = (2 * (domains + row), 2 * (2 * domains + row))
                sides = ([Moments(*piece[place : place + 2]) for piece in pieces] for place in places)
                kept = list(zip(*sides, strict=True))
                blend = latents_triton.BlendPlan(lefts, rights, [[0.0] * count for count in counts], kept)
                blend.times = own[-1]
                mixers.append(blend)
            else:
                mixers.append(partial(_lerped, lefts, rights, counts, own[-1]))
        decode = self._decoding(captured)
        return lambda: self._outputs(decode([mixed() for mixed in mixers]))

    def _outputs(self, decoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """At the working size, float32 planes."""
        width, height = self.working_size
        return tuple(out[..., :height, :width].float().contiguous() for out in decoded)

    def _feature_fields(self, motion: Fields, keyframe: Features) -> Fields:
        return dense_fields(super()._feature_fields(motion, keyframe))


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

    def tensors(self, domains: Sequence[str]) -> list[Tensor]:
        """All but the instants: the left keyframe's features, the right one's, then fields, or moments if there are."""
        sides = (self.left, self.right)
        features = [side.lifted[d] for side in sides for d in domains]
        if self.fields is not None:
            return [*features, *parts_of(self.fields)]
        return [*features, *(number for side in sides for kept in side.moments for number in kept)]


def batches(gaps: Sequence[Gap], fields: Sequence[Fields | None], rows: int) -> list[list[Piece]]:
    """The gaps in batches of at most so many rows, all of a batch moved or none; only longer gaps are cut."""
    pieces = []
    for number, (gap, field) in enumerate(zip(gaps, fields, strict=True)):
        assert isinstance(gap.left, Keyframe)
        assert isinstance(gap.right, Keyframe)
        cuts = [*range(0, len(gap.times), rows), len(gap.times)]
        for begin, end in pairwise(cuts):
            part = None if field is None else Fields(*(x[begin:end] for x in parts_of(field)))
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


class Graphs:
    """CUDA graphs of an engine by key, the last ones used; on a CPU the same without graphs.

    Args:
        notes: are told once why there are none.

    Attributes:
        work: whether graphs are used.
        seen: keys that came before.
        kept: the graphs.
    """

    def __init__(self, device: torch.device, notes: list[str]) -> None:
        self.work = True
        self.seen: set[Any] = set()
        self.kept: OrderedDict[Any, Graphed] = OrderedDict()
        self._device = device
        self._notes = notes
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def run(self, key: Any, inputs: Sequence[Tensor], prepare: Prepare) -> tuple[Tensor, ...]:
        """What the work that `prepare` makes of the inputs gives; the results are the caller's own.

        The first time a key comes the work is launched call by call: many batches are of a shape that never comes
        again, such as the last one.
        """
        with on_device(self._device):
            graph = self.kept.get(key)
            if graph is None and self.work and key in self.seen:
                graph = self._captured(key, inputs, prepare)
            if graph is None:
                self.seen.add(key)
                return prepare(inputs, False)()
            self.kept.move_to_end(key)
            return graph(inputs)

    def _captured(self, key: Any, inputs: Sequence[Tensor], prepare: Prepare) -> Graphed | None:
        if len(self.kept) >= GRAPHS_KEPT:
            self._wait()
            self.kept.popitem(last=False)
        try:
            self.kept[key] = Graphed(inputs, prepare, self._pool)
        except RuntimeError as error:  # too little memory is one, too
            self.stop(f"no CUDA graphs: {next(iter(str(error).splitlines()), type(error).__name__)}")
        return self.kept.get(key)

    def stop(self, why: str) -> None:
        """No graphs from now on."""
        self.work = False
        self.forget()
        self._notes.append(why)

    def forget(self) -> None:
        """As if nothing had come before."""
        self._wait()
        self.kept.clear()
        self.seen.clear()

    def _wait(self) -> None:
        """A graph that goes may still be running."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


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
        self._work = prepare(self._inputs, True)
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


def largest_difference(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The largest RMS difference of (got, wanted), relative to what is wanted; not a number if any is none."""
    differences = [float((got - want).square().mean().sqrt() / want.square().mean().sqrt()) for got, want in pairs]
    return max(differences, key=lambda difference: math.inf if math.isnan(difference) else difference)


def joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


# The plain blend. It is float32 arithmetic whatever the features are stored in.


def _lerped(lefts: Sequence[Tensor], rights: Sequence[Tensor], counts: Sequence[int], times: Tensor) -> Tensor:
    """`latents.blend` of every gap at times (n,) that a CUDA graph can read."""
    rows = zip(lefts, rights, torch.split(times.view(-1, 1, 1, 1), list(counts)), strict=True)
    return torch.cat([torch.lerp(left.float()[None], right.float()[None], t) for left, right, t in rows])


def _moved(lefts: Sequence[Tensor], rights: Sequence[Tensor], fields: Sequence[Fields]) -> Tensor:
    rows = zip(lefts, rights, fields, strict=True)
    return torch.cat([field.blend(left.float(), right.float()) for left, right, field in rows])
