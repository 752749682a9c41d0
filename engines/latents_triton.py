"""Blend, instance norm and ReLU of many instants in one pass over memory: the CUDA path of `vidtrans/latents.py`.

A net whose `lift_norm` is "instance_relu" norms the lifted features first of all. In place, the statistics of a blend
follow from five numbers per channel, two keyframes' means and variances and their covariance c:

    mu(t) = (1-t) m0 + t m1        var(t) = (1-t)^2 v0 + t^2 v1 + 2t(1-t) c, not below 0

so all n in-betweens of a gap take 2 reads and n writes. Moved features have no such identity: one kernel gathers,
blends and takes the statistics, a second one norms. For inference: there are no gradients. The statistics and the last
kernel also serve the norms of whole nets (norms_triton.py).

All arithmetic is float32, whatever the storage, and all statistics are sums of centred values: blocks find their own
mean and the squares about it, and are merged after Chan, Golub and LeVeque ("Algorithms for computing the sample
variance", 1983). Nothing is added up atomically, so results repeat bit for bit, and no block's shape depends on how
many keyframes, gaps or instants there are.

Errors (tests/test_latents_triton.py), u = 2^-24 being the float32 rounding. The plain blend and norm are met within
1e-5 wherever the keyframes' correlation is -0.5 or more and their means are at most ten standard deviations. Below
-0.5, var(t) is a small difference of larger numbers and loses digits: an output differs from its value in exact
arithmetic by at most 4u (k |largest output| + sqrt(k) |largest feature| / deviation) of its channel, with

    k = ((1-t)^2 v0 + t^2 v1 + 2t(1-t) |c|) / (var(t) + eps)

which is at most v / eps: exactly opposed keyframes of equal variance v cancel at t = 1/2, and what is left of them is
rounding in the plain blend as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from fractions import Fraction
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple, no_type_check

import torch
from torch import Tensor

from vidtrans.latents import Fields

# Both are Any to the type checker, whether Triton is installed where it runs or not.
triton: Any = None
tl: Any = None
with suppress(ImportError):
    triton, tl = import_module("triton"), import_module("triton.language")

EPS = 1e-5  # of torch's instance norm
# Sizes for Hopper, by reasoning, not measured: each of its 132 SMs holds 8 programs of 4 warps with room to spare, and
# 2048 elements give each of their 128 threads two or more 16-byte loads in flight from every tensor.
WARPS = 4
TILE = 2048
MOVED_TILE = 1024  # a moved element takes eight loads and as many registers
CHANNELS_TOGETHER = 64  # of channels-last features: 128 bytes in a row in half precision
MOVED_CHANNELS_TOGETHER = 8  # of planes: positions are computed once for all of them
MERGED_TOGETHER = 16
PROGRAMS = 1024  # for one keyframe, gap or instant, where its positions have to be shared out to get there
MAX_SPLITS = 128
WORD = 16  # bytes of the widest load


class Moments(NamedTuple):
    """Per channel mean and (biased) variance over the positions: (C,) of one keyframe, (K, C) of several; float32."""

    mean: Tensor
    variance: Tensor

    def rows(self) -> list[Moments]:
        """One Moments for each of several keyframes."""
        return [Moments(*row) for row in zip(self.mean, self.variance, strict=True)]


def why_unavailable(device: torch.device | str) -> str | None:
    """Why these kernels cannot run on a device, in words for the user; None if they can.

    On a GPU a first call that gets that far compiles and runs a small kernel, so that whatever is wrong is found here.
    """
    device = torch.device(device)
    if triton is None:
        return "Triton is not installed"
    interpreted = not isinstance(_moments_kernel, triton.JITFunction)
    if device.type == "cpu":
        return None if interpreted else "Triton needs a CUDA device"
    if interpreted:
        return "Triton's interpreter is on (TRITON_INTERPRET), which works on the CPU"
    if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
        return f"Triton needs a CUDA device, and {device} is none that can be used"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "Triton needs a GPU of compute capability 8.0 or higher"
    return _why_no_compiler() or _why_trial_fails(device)


def _why_no_compiler() -> str | None:
    """Triton builds its launcher with a C compiler, found in this way (triton/runtime/build.py)."""
    named = os.environ.get("CC")
    if named is not None:
        return None if shutil.which(named) else f"Triton needs a C compiler, and CC={named} is no program"
    if shutil.which("gcc") or shutil.which("clang"):
        return None
    return "Triton needs a C compiler; install gcc or clang, or set CC"


@lru_cache
def _why_trial_fails(device: torch.device) -> str | None:
    try:
        moments(torch.zeros(1, 1, 2, device=device))
        torch.cuda.synchronize(device)
    except Exception as error:  # compilers, linkers, drivers: whatever it is, the caller has another way
        return f"Triton does not work on {device}: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return None


def moments(features: Tensor | Sequence[Tensor]) -> Moments:
    """Mean and variance per channel of keyframes' features: a keyframe's serve both of its gaps.

    CUDA graphs can hold this for one dense tensor, not for a sequence, whose addresses come from the host.

    Args:
        features: (C, h, w) of one keyframe, or (K, C, h, w) or a sequence of (C, h, w) of several; float32, bfloat16 or
            float16, h w >= 2. Planes and channels-last memory are read as they are, anything else is copied first.

    Returns:
        Moments of shape (C,) for one keyframe, (K, C) for several.

    Raises:
        ValueError: features that differ in shape, type or device, or that no instance norm can take.
    """
    if not isinstance(features, Tensor):
        keyframes = _dense(features)
        layout = Layout.of(keyframes)
        return layout.moments(layout.table([x.data_ptr() for x in keyframes], torch.int64))
    batch = features.unsqueeze(0) if features.dim() == 3 else features
    if batch.dim() != 4:
        raise ValueError(f"features must be (C, h, w) or (K, C, h, w), not {tuple(features.shape)}")
    if not batch.is_contiguous() and not batch.is_contiguous(memory_format=torch.channels_last):
        batch = batch.contiguous()
    layout = Layout.of_batch(batch)
    result = layout.moments(layout.addresses(batch))
    return result.rows()[0] if features.dim() == 3 else result


def covariance(
    lefts: Sequence[Tensor], rights: Sequence[Tensor], kept: Sequence[tuple[Moments, Moments]] | None = None
) -> Tensor:
    """Per channel covariance of each gap's two keyframes, E[(x - m0) (y - m1)]: (G, C) float32.

    Arguments and errors as of `blend_norm_relu`.
    """
    together = _dense([*lefts, *rights])
    return BlendPlan(together[: len(lefts)], together[len(lefts) :], [()] * len(lefts), kept).covariance()


def blend_norm_relu(
    lefts: Sequence[Tensor],
    rights: Sequence[Tensor],
    times: Sequence[Sequence[Fraction | float]],
    kept: Sequence[tuple[Moments, Moments]] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`relu(instance_norm(blend(left, right, times)))` of every gap: see `vidtrans.latents.blend` and `NormReLU`.

    Args:
        lefts, rights: each gap's two keyframes, (C, h, w); float32, bfloat16 or float16, h w >= 2. Planes and
            channels-last memory are read as they are, anything else is copied first.
        times: each gap's instants, positions in [0, 1] from the left keyframe; as many for each gap as it likes.
        kept: the moments of each gap's left and right keyframe if they are known already; else they are taken here,
            once for a tensor that is in several gaps.
        dtype: of the result; None is that of the features.

    Returns:
        (instants of all gaps, C, h, w), gap after gap, channels-last if the features are.

    Raises:
        ValueError: no gaps, arguments for different numbers of gaps, features that differ in shape, type or device, or
            that no instance norm can take.
    """
    together = _dense([*lefts, *rights])
    return BlendPlan(together[: len(lefts)], together[len(lefts) :], times, kept, dtype)()


def moved_norm_relu(
    lefts: Sequence[Tensor], rights: Sequence[Tensor], fields: Sequence[Fields], dtype: torch.dtype | None = None
) -> Tensor:
    """`relu(instance_norm(fields.blend(left, right)))` of every gap: see `vidtrans.latents.Fields`.

    Positions and weights are float32 whatever the features are. In half precision the blend is rounded once before it
    is normed; its statistics are of the numbers before that.

    Args:
        lefts, rights, dtype: as of `blend_norm_relu`.
        fields: where the pixels of each gap's instants come from, on the features' grid and device.

    Returns:
        (instants of all gaps, C, h, w), gap after gap, channels-last if the features are.

    Raises:
        ValueError: as `blend_norm_relu`, and fields on another grid or device.
    """
    together = _dense([*lefts, *rights])
    return MovedPlan(together[: len(lefts)], together[len(lefts) :], [dense_fields(f) for f in fields], dtype)()


def parts_of(fields: Fields) -> tuple[Tensor, Tensor, Tensor]:
    return fields.to_left, fields.to_right, fields.right_share


def dense_fields(fields: Fields) -> Fields:
    """The same in dense float32, as `MovedPlan` wants them."""
    return Fields(*(part.float().contiguous() for part in parts_of(fields)))


def on_device(device: torch.device | str) -> AbstractContextManager[object]:
    """Makes a GPU the current one, as launching kernels wants it."""
    return torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext()


class BlendPlan:
    """`blend_norm_relu` with its tables on the device already: a call only launches kernels, as CUDA graphs need it.

    Every call reads the tensors it was made with anew, so new features may be copied into them between calls.
    Arguments and errors as of `blend_norm_relu`; features must be dense planes or dense channels-last memory.

    Attributes:
        times: (n,) float32, the instants of all gaps; another such tensor may be put in its place.
    """

    def __init__(
        self,
        lefts: Sequence[Tensor],
        rights: Sequence[Tensor],
        times: Sequence[Sequence[Fraction | float]],
        kept: Sequence[tuple[Moments, Moments]] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _check_lengths(lefts=lefts, rights=rights, times=times, kept=lefts if kept is None else kept)
        self._layout = layout = Layout.of([*lefts, *rights])
        self._dtype = layout.dtype if dtype is None else dtype
        _check_dtype(self._dtype)
        # All that the tables hold addresses of is kept alive here.
        keyframes = {x.data_ptr(): x for x in (*lefts, *rights)}
        self._features = list(keyframes.values())
        self._addresses, self._own = None, None
        if kept is None:
            self._addresses = layout.table(list(keyframes), torch.int64)
            self._own = layout.empty_moments(len(keyframes))
            known = dict(zip(keyframes, self._own.rows(), strict=True))
            self._moments = [(known[x.data_ptr()], known[y.data_ptr()]) for x, y in zip(lefts, rights, strict=True)]
        else:
            self._moments = [(layout.checked(left), layout.checked(right)) for left, right in kept]
        rows, first = [], 0
        for left, right, pair, instants in zip(lefts, rights, self._moments, times, strict=True):
            numbers = [number.data_ptr() for of_keyframe in pair for number in of_keyframe]
            rows.append([left.data_ptr(), right.data_ptr(), *numbers, first, len(instants)])
            first += len(instants)
        self._gaps = layout.table(rows, torch.int64)
        self.times = layout.table([float(t) for instants in times for t in instants], torch.float32)

    def __call__(self) -> Tensor:
        layout = self._layout
        out = layout.empty(len(self.times), self._dtype)
        if not len(self.times):
            return out
        numbers = self._numbers()
        block_c, block_p = layout.block(TILE)
        grid = (_ceil_div(layout.channels, block_c) * _ceil_div(layout.positions, block_p), len(self._gaps))
        with on_device(layout.device):
            _blend_kernel[grid](
                self._gaps, self.times, numbers, out, layout.channels, layout.positions, EPS, **layout.constants,
                BLOCK_C=block_c, BLOCK_P=block_p, num_warps=WARPS,
            )  # fmt: skip
        return out

    def covariance(self) -> Tensor:
        """See the function of this name."""
        return self._numbers()[:, 4]

    def _numbers(self) -> Tensor:
        """Means, variances and covariance of every gap, (G, 5, C): m0, v0, m1, v1, c."""
        layout, count = self._layout, len(self._gaps)
        if self._addresses is not None:
            layout.moments(self._addresses, self._own)
        block_c, block_p = layout.block(TILE)
        blocks = _ceil_div(layout.channels, block_c)
        per_split, splits = _split(layout.positions, block_p, blocks)
        sums = torch.empty(count, splits, layout.channels, device=layout.device)
        numbers = torch.empty(count, 5, layout.channels, device=layout.device)
        with on_device(layout.device):
            _covariance_kernel[(blocks * splits, count)](
                self._gaps, sums, layout.channels, layout.positions, per_split, **layout.constants,
                BLOCK_C=block_c, BLOCK_P=block_p, num_warps=WARPS,
            )  # fmt: skip
            block_c, block_s = layout.merge_block(splits)
            _numbers_kernel[(_ceil_div(layout.channels, block_c), count)](
                self._gaps, sums, numbers, layout.channels, layout.positions, splits,
                BLOCK_C=block_c, BLOCK_S=block_s, num_warps=WARPS,
            )  # fmt: skip
        return numbers


class MovedPlan:
    """`moved_norm_relu` with its table on the device already; see `BlendPlan`. Fields must be dense float32."""

    def __init__(
        self,
        lefts: Sequence[Tensor],
        rights: Sequence[Tensor],
        fields: Sequence[Fields],
        dtype: torch.dtype | None = None,
    ) -> None:
        _check_lengths(lefts=lefts, rights=rights, fields=fields)
        self._layout = layout = Layout.of([*lefts, *rights])
        self._dtype = layout.dtype if dtype is None else dtype
        _check_dtype(self._dtype)
        self._kept = (list(lefts), list(rights), list(fields))  # the table holds their addresses
        rows = []
        for left, right, field in zip(lefts, rights, fields, strict=True):
            parts = parts_of(field)
            for part, depth in zip(parts, (2, 2, 1), strict=True):
                expected = (len(field.to_left), depth, layout.height, layout.width)
                if tuple(part.shape) != expected or part.device != layout.device:
                    raise ValueError(
                        f"fields must be {expected} on {layout.device}, not {tuple(part.shape)} on {part.device}"
                    )
                if part.dtype != torch.float32 or not part.is_contiguous():
                    raise ValueError("fields must be dense float32")
            for instant in range(len(field.to_left)):
                rows.append([left.data_ptr(), right.data_ptr(), *(part[instant].data_ptr() for part in parts)])
        self._instants = layout.table(rows, torch.int64)

    def __call__(self) -> Tensor:
        layout, count = self._layout, len(self._instants)
        blended = layout.empty(count, layout.dtype)
        out = blended if self._dtype == layout.dtype else layout.empty(count, self._dtype)
        if not count:
            return out
        block_c, block_p = layout.block(MOVED_TILE, MOVED_CHANNELS_TOGETHER)
        blocks = _ceil_div(layout.channels, block_c)
        per_split, splits = _split(layout.positions, block_p, blocks)
        partial = torch.empty(count, splits, 2, layout.channels, device=layout.device)
        with on_device(layout.device):
            _moved_kernel[(blocks * splits, count)](
                self._instants, blended, partial, layout.channels, layout.height, layout.width, per_split,
                **layout.constants, BLOCK_C=block_c, BLOCK_P=block_p, num_warps=WARPS,
            )  # fmt: skip
            of_instants = layout.merged(partial, per_split)
        return layout.normed(blended, of_instants, out, relu=True)


class Layout(NamedTuple):
    """What all features of a call have in common, and how it is laid out in blocks and tables."""

    channels: int
    height: int
    width: int
    dtype: torch.dtype
    device: torch.device
    channels_last: bool
    aligned: bool

    @classmethod
    def of(cls, features: Sequence[Tensor]) -> Layout:
        if not features:
            raise ValueError("there are no features")
        first = features[0]
        if first.dim() != 3:
            raise ValueError(f"features must be (C, h, w), not {tuple(first.shape)}")
        channels, height, width = first.shape
        _check_dtype(first.dtype)
        if height * width < 2 or not channels:
            raise ValueError(f"an instance norm needs channels and two positions or more, not {tuple(first.shape)}")
        if first.numel() >= 2**30:
            raise ValueError(f"features of {first.numel()} elements are too large")
        channels_last = _is_channels_last(first)
        for x in features:
            if (x.shape, x.dtype, x.device) != (first.shape, first.dtype, first.device):
                raise ValueError("the features of a call must have one shape, type and device")
            if not _is_dense(x, channels_last):
                raise ValueError("features must be dense, all of them planes or all of them channels last")
        aligned = all(x.data_ptr() % WORD == 0 for x in features)
        return cls(channels, height, width, first.dtype, first.device, channels_last, aligned)

    @classmethod
    def of_batch(cls, features: Tensor) -> Layout:
        """Of dense features (K, C, h, w)."""
        return cls.of(list(features[:2]))  # the others lie at the same steps

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def constants(self) -> dict[str, Any]:
        """What kernels that read features are compiled for."""
        storage = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[self.dtype]
        return {
            "DTYPE": storage,
            "ALIGNMENT": WORD if self.aligned else self.dtype.itemsize,
            "LAST": self.channels_last,
        }

    def block(self, elements: int, together: int = 1) -> tuple[int, int]:
        """(channels, positions) of a program's tile: long along the axis that is contiguous in memory.

        together: the fewest channels of a tile of planes.
        """
        channels, positions = _power_of_two(self.channels), _power_of_two(self.positions)
        if self.channels_last:
            block_c = min(CHANNELS_TOGETHER, channels)
            return block_c, min(elements // block_c, positions)
        block_p = min(elements // min(together, channels), positions)
        return min(elements // block_p, channels), block_p

    def merge_block(self, splits: int) -> tuple[int, int]:
        """(channels, shares) of a tile that has all shares of its channels; few channels, so that programs are many."""
        return min(MERGED_TOGETHER, _power_of_two(self.channels)), _power_of_two(splits)

    def table(self, rows: Sequence[Any], dtype: torch.dtype) -> Tensor:
        # In the stream's order, without waiting for it: the driver takes its own copy of memory that is not pinned.
        return torch.tensor(rows, dtype=dtype).to(self.device, non_blocking=True)

    def addresses(self, features: Tensor) -> Tensor:
        """A table of dense features (K, C, h, w), made by the device: a CUDA graph takes none from the host."""
        first, step = features.data_ptr(), self.channels * self.positions * self.dtype.itemsize
        return torch.arange(first, first + len(features) * step, step, dtype=torch.int64, device=self.device)

    def empty(self, count: int, dtype: torch.dtype) -> Tensor:
        shape = (count, self.channels, self.height, self.width)
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=dtype, device=self.device, memory_format=form)

    def empty_moments(self, count: int) -> Moments:
        return Moments(*torch.empty(2, count, self.channels, device=self.device))

    def checked(self, given: Moments) -> Moments:
        for numbers in given:
            if (numbers.shape, numbers.dtype, numbers.device) != ((self.channels,), torch.float32, self.device):
                raise ValueError(f"a keyframe's moments must be ({self.channels},) float32 on {self.device}")
        return Moments(*(numbers.contiguous() for numbers in given))

    def moments(self, addresses: Tensor, into: Moments | None = None) -> Moments:
        """Of the features at these addresses; both results (K, C)."""
        block_c, block_p = self.block(TILE)
        blocks = _ceil_div(self.channels, block_c)
        per_split, splits = _split(self.positions, block_p, blocks)
        partial = torch.empty(len(addresses), splits, 2, self.channels, device=self.device)
        with on_device(self.device):
            _moments_kernel[(blocks * splits, len(addresses))](
                addresses, partial, self.channels, self.positions, per_split, **self.constants,
                BLOCK_C=block_c, BLOCK_P=block_p, num_warps=WARPS,
            )  # fmt: skip
            return self.merged(partial, per_split, into)

    def merged(self, partial: Tensor, per_split: int, into: Moments | None = None) -> Moments:
        """partial (K, splits, 2, C): means and sums of squares about them, of `per_split` positions each."""
        count, splits = partial.shape[:2]
        result = self.empty_moments(count) if into is None else into
        block_c, block_s = self.merge_block(splits)
        _merge_kernel[(_ceil_div(self.channels, block_c), count)](
            partial, result.mean, result.variance, self.channels, self.positions, splits, per_split,
            BLOCK_C=block_c, BLOCK_S=block_s, num_warps=WARPS,
        )  # fmt: skip
        return result

    def normed(
        self, x: Tensor, of: Moments, out: Tensor | None = None, *, relu: bool, added: Tensor | None = None
    ) -> Tensor:
        """The instance norm of dense x (K, C, h, w), then ReLU if it is wanted, then the sum with what is added.

        of: the moments of x, (K, C). out: where to write, which may be x itself. added, out: laid out as x.
        """
        out = torch.empty_like(x) if out is None else out
        block_c, block_p = self.block(TILE)
        blocks = _ceil_div(self.channels, block_c) * _ceil_div(self.positions, block_p)
        with on_device(self.device):
            _norm_kernel[(blocks, len(x))](
                x, of.mean, of.variance, x if added is None else added, out, self.channels, self.positions, EPS,
                RELU=relu, ADD=added is not None, LAST=self.channels_last,
                BLOCK_C=block_c, BLOCK_P=block_p, num_warps=WARPS,
            )  # fmt: skip
        return out


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def _power_of_two(number: int) -> int:
    """The smallest one that is not less."""
    return 1 << (number - 1).bit_length()


def _split(positions: int, block: int, blocks: int) -> tuple[int, int]:
    """Shares of the positions: how many positions in each, a multiple of `block`, and how many shares, none empty.

    blocks: programs that there are for one share of one keyframe. How many keyframes there are is not asked.
    """
    wanted = min(MAX_SPLITS, _ceil_div(PROGRAMS, blocks), _ceil_div(positions, block))
    per_split = _ceil_div(_ceil_div(positions, wanted), block) * block
    return per_split, _ceil_div(positions, per_split)


def _check_lengths(**arguments: Sequence[Any]) -> None:
    lengths = {name: len(argument) for name, argument in arguments.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"one of each for every gap is needed, not {lengths}")


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"features must be float32, bfloat16 or float16, not {dtype}")


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.stride(0) < x.stride(2)


def _is_dense(x: Tensor, channels_last: bool) -> bool:
    return (x.movedim(0, -1) if channels_last else x).is_contiguous()


def _dense(features: Iterable[Tensor]) -> list[Tensor]:
    """The same features, dense, all in the first one's memory format; copied only where they are not."""
    features = list(features)
    if any(x.dim() != 3 for x in features):
        raise ValueError(f"features must be (C, h, w), not {[tuple(x.shape) for x in features]}")
    if features and _is_channels_last(features[0]):
        return [x.movedim(0, -1).contiguous().movedim(-1, 0) for x in features]
    return [x.contiguous() for x in features]


def _jit(kernel: Callable[..., Any]) -> Any:
    return kernel if triton is None else triton.jit(kernel)


# Kernels. A tile is (channels, positions); a program's first grid axis picks it, the second one a keyframe, gap or
# instant. Features are found by addresses from tables, so they need not be stacked. Triton reads the annotations itself
# and takes none but its own.


@_jit
@no_type_check
def _tile(channels, BLOCK_C: tl.constexpr):
    """(channels of this program, their mask, the program's place among those with the same channels)."""
    blocks = tl.cdiv(channels, BLOCK_C)
    c = (tl.program_id(0) % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return c, c < channels, tl.program_id(0) // blocks


@_jit
@no_type_check
def _offsets(c, p, channels, positions, LAST: tl.constexpr):
    """Elements from a keyframe's first one to channel c, position p."""
    return p[None, :] * channels + c[:, None] if LAST else c[:, None] * positions + p[None, :]


@_jit
@no_type_check
def _pointer(address, DTYPE: tl.constexpr, ALIGNMENT: tl.constexpr):
    """The pointer behind an address in a table."""
    return tl.multiple_of(tl.load(address).to(tl.pointer_type(DTYPE)), ALIGNMENT)


@_jit
@no_type_check
def _numbers(address, c, inside):
    """One float32 for each channel, behind an address in a table."""
    return tl.load(_pointer(address, tl.float32, 4) + c, mask=inside, other=0.0)


@_jit
@no_type_check
def _not_below_zero(x):
    """ReLU; what is not a number stays so."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@_jit
@no_type_check
def _with_block(count, mean, squares, x, inside, size):
    """Count, mean and centred squares with those of a tile's `size` positions added to them (Chan's merge)."""
    block_mean = tl.sum(tl.where(inside, x, 0.0), axis=1) / size
    centred = tl.where(inside, x - block_mean[:, None], 0.0)
    total = count + size
    delta = block_mean - mean
    share = size / total
    squares += tl.sum(centred * centred, axis=1) + delta * delta * (count * share)
    return total, mean + delta * share, squares


@_jit
@no_type_check
def _put_partial(partial, split, splits, channels, c, inside, mean, m2):
    """Into (.., splits, 2, C)."""
    row = partial + (tl.program_id(1).to(tl.int64) * splits + split) * 2 * channels
    tl.store(row + c, mean, mask=inside)
    tl.store(row + channels + c, m2, mask=inside)


@_jit
@no_type_check
def _moments_kernel(
    addresses, partial, channels, positions, per_split,
    DTYPE: tl.constexpr, ALIGNMENT: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """addresses (K) -> partial (K, splits, 2, C)."""
    c, in_c, split = _tile(channels, BLOCK_C)
    x = _pointer(addresses + tl.program_id(1), DTYPE, ALIGNMENT)
    # Sums start from the first position's value, so a constant's mean is that constant, whatever its size.
    first = tl.load(x + _offsets(c, tl.arange(0, 1), channels, positions, LAST), mask=in_c[:, None]).to(tl.float32)
    count = 0.0
    mean = tl.zeros((BLOCK_C,), tl.float32)
    squares = tl.zeros((BLOCK_C,), tl.float32)
    for begin in range(split * per_split, tl.minimum((split + 1) * per_split, positions), BLOCK_P):
        p = begin + tl.arange(0, BLOCK_P)
        inside = in_c[:, None] & (p < positions)[None, :]
        tile = tl.load(x + _offsets(c, p, channels, positions, LAST), mask=inside, other=0.0).to(tl.float32)
        size = tl.minimum(positions - begin, BLOCK_P).to(tl.float32)
        count, mean, squares = _with_block(count, mean, squares, tile - first, inside, size)
    mean += tl.sum(first, axis=1)
    _put_partial(partial, split, tl.cdiv(positions, per_split), channels, c, in_c, mean, squares)


@_jit
@no_type_check
def _merge_kernel(
    partial, means, variances, channels, positions, splits, per_split,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """partial (K, splits, 2, C) -> means and variances (K, C); all shares at once (Chan's merge for many)."""
    c, in_c, _ = _tile(channels, BLOCK_C)
    s = tl.arange(0, BLOCK_S)
    inside = in_c[:, None] & (s < splits)[None, :]
    row = tl.program_id(1).to(tl.int64)
    parts = partial + (row * splits + s[None, :]) * 2 * channels + c[:, None]
    size = tl.minimum(positions - s * per_split, per_split).to(tl.float32)[None, :]
    first = tl.load(partial + row * splits * 2 * channels + c, mask=in_c, other=0.0)
    delta = tl.where(inside, tl.load(parts, mask=inside, other=0.0) - first[:, None], 0.0)
    shift = tl.sum(tl.where(inside, delta * size, 0.0), axis=1) / positions
    delta = delta - shift[:, None]
    squares = tl.load(parts + channels, mask=inside, other=0.0) + delta * delta * size
    variance = tl.sum(tl.where(inside, squares, 0.0), axis=1) / positions
    tl.store(means + row * channels + c, first + shift, mask=in_c)
    tl.store(variances + row * channels + c, variance, mask=in_c)


@_jit
@no_type_check
def _covariance_kernel(
    gaps, sums, channels, positions, per_split,
    DTYPE: tl.constexpr, ALIGNMENT: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """gaps (G, 8), see BlendPlan -> sums (G, splits, C) of the product of both keyframes' deviations."""
    c, in_c, split = _tile(channels, BLOCK_C)
    gap = gaps + tl.program_id(1) * 8
    left, right = _pointer(gap, DTYPE, ALIGNMENT), _pointer(gap + 1, DTYPE, ALIGNMENT)
    left_mean, right_mean = _numbers(gap + 2, c, in_c)[:, None], _numbers(gap + 4, c, in_c)[:, None]
    products = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    for begin in range(split * per_split, tl.minimum((split + 1) * per_split, positions), BLOCK_P):
        p = begin + tl.arange(0, BLOCK_P)
        inside = in_c[:, None] & (p < positions)[None, :]
        offsets = _offsets(c, p, channels, positions, LAST)
        x = tl.load(left + offsets, mask=inside, other=0.0).to(tl.float32) - left_mean
        y = tl.load(right + offsets, mask=inside, other=0.0).to(tl.float32) - right_mean
        products += tl.where(inside, x * y, 0.0)
    row = tl.program_id(1) * tl.cdiv(positions, per_split) + split
    tl.store(sums + row * channels + c, tl.sum(products, axis=1), mask=in_c)


@_jit
@no_type_check
def _numbers_kernel(gaps, sums, numbers, channels, positions, splits, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr):
    """gaps (G, 8), see BlendPlan; sums (G, splits, C) -> numbers (G, 5, C): m0, v0, m1, v1 and the covariance."""
    c, in_c, _ = _tile(channels, BLOCK_C)
    s = tl.arange(0, BLOCK_S)
    inside = in_c[:, None] & (s < splits)[None, :]
    parts = sums + (tl.program_id(1) * splits + s[None, :]) * channels + c[:, None]
    gap = gaps + tl.program_id(1) * 8
    row = numbers + tl.program_id(1) * 5 * channels + c
    for index in tl.static_range(4):
        tl.store(row + index * channels, _numbers(gap + 2 + index, c, in_c), mask=in_c)
    covariance = tl.sum(tl.load(parts, mask=inside, other=0.0), axis=1) / positions
    tl.store(row + 4 * channels, covariance, mask=in_c)


@_jit
@no_type_check
def _blend_kernel(
    gaps, times, numbers, out, channels, positions, eps,
    DTYPE: tl.constexpr, ALIGNMENT: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """gaps (G, 8), see BlendPlan; times (N); numbers (G, 5, C) -> out (N, C, h, w). A tile is read once for all n."""
    c, in_c, place = _tile(channels, BLOCK_C)
    p = place * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = in_c[:, None] & (p < positions)[None, :]
    offsets = _offsets(c, p, channels, positions, LAST)
    gap = gaps + tl.program_id(1) * 8
    left, right = _pointer(gap, DTYPE, ALIGNMENT), _pointer(gap + 1, DTYPE, ALIGNMENT)
    row = numbers + tl.program_id(1) * 5 * channels + c
    left_mean = tl.load(row, mask=in_c, other=0.0)
    left_variance = tl.load(row + channels, mask=in_c, other=0.0)
    right_mean = tl.load(row + 2 * channels, mask=in_c, other=0.0)
    right_variance = tl.load(row + 3 * channels, mask=in_c, other=0.0)
    shared = tl.load(row + 4 * channels, mask=in_c, other=0.0)
    # Deviations first: with them a large mean costs no more digits than the features themselves have lost to it.
    x = tl.load(left + offsets, mask=inside, other=0.0).to(tl.float32) - left_mean[:, None]
    y = tl.load(right + offsets, mask=inside, other=0.0).to(tl.float32) - right_mean[:, None]
    first = tl.load(gap + 6)
    for instant in range(first, first + tl.load(gap + 7)):
        t = tl.load(times + instant)
        rest = 1.0 - t
        variance = rest * rest * left_variance + t * t * right_variance + 2.0 * t * rest * shared
        scale = tl.rsqrt(_not_below_zero(variance) + eps)
        value = _not_below_zero((rest * scale)[:, None] * x + (t * scale)[:, None] * y)
        tl.store(out + instant * channels * positions + offsets, value.to(out.dtype.element_ty), mask=inside)


@_jit
@no_type_check
def _lerp(a, b, weight):
    """As torch.lerp does it."""
    return tl.where(tl.abs(weight) < 0.5, a + weight * (b - a), b - (b - a) * (1.0 - weight))


@_jit
@no_type_check
def _gathered(x, field, p, in_p, c, inside, channels, height, width, LAST: tl.constexpr):
    """`vidtrans.latents.gather` of features at x by the field (2, h, w) at an address in a table, at positions p."""
    positions = height * width
    across = tl.load(field + p, mask=in_p, other=0.0) + (p % width).to(tl.float32)
    down = tl.load(field + positions + p, mask=in_p, other=0.0) + (p // width).to(tl.float32)
    across = tl.minimum(tl.maximum(across, 0.0), width - 1.0)
    down = tl.minimum(tl.maximum(down, 0.0), height - 1.0)
    column, line = across.to(tl.int32), down.to(tl.int32)
    across, down = (across - column)[None, :], (down - line)[None, :]
    start = line * width + column
    right = (column < width - 1).to(tl.int32)
    below = start + (line < height - 1).to(tl.int32) * width
    a = tl.load(x + _offsets(c, start, channels, positions, LAST), mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + _offsets(c, start + right, channels, positions, LAST), mask=inside, other=0.0).to(tl.float32)
    upper = _lerp(a, b, across)
    a = tl.load(x + _offsets(c, below, channels, positions, LAST), mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + _offsets(c, below + right, channels, positions, LAST), mask=inside, other=0.0).to(tl.float32)
    return _lerp(upper, _lerp(a, b, across), down)


@_jit
@no_type_check
def _moved_kernel(
    instants, out, partial, channels, height, width, per_split,
    DTYPE: tl.constexpr, ALIGNMENT: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """instants (N, 5), see MovedPlan -> out (N, C, h, w), not normed, and partial (N, splits, 2, C)."""
    c, in_c, split = _tile(channels, BLOCK_C)
    positions = height * width
    entry = instants + tl.program_id(1) * 5
    left, right = _pointer(entry, DTYPE, ALIGNMENT), _pointer(entry + 1, DTYPE, ALIGNMENT)
    to_left = _pointer(entry + 2, tl.float32, 4)
    to_right = _pointer(entry + 3, tl.float32, 4)
    right_share = _pointer(entry + 4, tl.float32, 4)
    result = out + tl.program_id(1).to(tl.int64) * channels * positions
    # As in _moments_kernel: near any value of the blend, and equal to a constant one.
    corner = _offsets(c, tl.arange(0, 1), channels, positions, LAST)
    first = _lerp(
        tl.load(left + corner, mask=in_c[:, None]).to(tl.float32),
        tl.load(right + corner, mask=in_c[:, None]).to(tl.float32),
        tl.load(right_share),
    )
    count = 0.0
    mean = tl.zeros((BLOCK_C,), tl.float32)
    squares = tl.zeros((BLOCK_C,), tl.float32)
    for begin in range(split * per_split, tl.minimum((split + 1) * per_split, positions), BLOCK_P):
        p = begin + tl.arange(0, BLOCK_P)
        in_p = p < positions
        inside = in_c[:, None] & in_p[None, :]
        value = _lerp(
            _gathered(left, to_left, p, in_p, c, inside, channels, height, width, LAST),
            _gathered(right, to_right, p, in_p, c, inside, channels, height, width, LAST),
            tl.load(right_share + p, mask=in_p, other=0.0)[None, :],
        )
        offsets = _offsets(c, p, channels, positions, LAST)
        tl.store(result + offsets, value.to(out.dtype.element_ty), mask=inside)
        size = tl.minimum(positions - begin, BLOCK_P).to(tl.float32)
        count, mean, squares = _with_block(count, mean, squares, value - first, inside, size)
    mean += tl.sum(first, axis=1)
    _put_partial(partial, split, tl.cdiv(positions, per_split), channels, c, in_c, mean, squares)


@_jit
@no_type_check
def _norm_kernel(
    x, means, variances, added, out, channels, positions, eps,
    RELU: tl.constexpr, ADD: tl.constexpr, LAST: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """x, added (N, C, h, w), means and variances (N, C) -> out (N, C, h, w), which may be x itself."""
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
