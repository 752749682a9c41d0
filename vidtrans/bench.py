"""How fast each engine runs a model on this machine, with its error against float32 beside it."""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vidtrans.checkpoint import Model
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Engine, Features, Gap
from vidtrans.engines.modules import EncodeLifts, Finish
from vidtrans.errors import VidtransError
from vidtrans.measuring import measured_peak, median_seconds, peak_memory_mib, reset_peak_memory
from vidtrans.nets.contract import Domain, padded_size
from vidtrans.nets.jwdm import JWDM, JWDMConfig

if TYPE_CHECKING:
    # The networks alone can be measured where PyAV is missing.
    from vidtrans.options import UpsampleOptions

# (engine, device, precision), slowest first; the first row is the reference. What a machine lacks is left out aloud.
ROWS: tuple[tuple[str, str, str], ...] = (
    ("torch", "cpu", "fp32"),
    ("torch", "cpu", "bf16"),
    ("torch-compile", "cpu", "bf16"),
    ("openvino", "cpu", "fp32"),
    ("openvino", "cpu", "bf16"),
    ("openvino", "cpu", "int8"),
    ("torch", "cuda", "fp32"),
    ("cuda", "cuda", "fp32"),
    ("cuda", "cuda", "bf16"),
    ("cuda", "cuda", "fp16"),
    ("tensorrt", "cuda", "fp16"),
)


def paper_model() -> Model:
    """JWDM as in the paper (Table 4, width 64, 256 latent channels), two photo domains, weights as before training."""
    torch.manual_seed(0)
    return Model(JWDM(JWDMConfig((Domain("scene"), Domain("segmentation")))).eval().requires_grad_(False))


class LiftEachFrame(nn.Module):
    """A net seen as one whose decoder cannot be split, which is how the papers run it: every output frame is lifted."""

    lift_norm = "none"

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.family, self.config, self.domains, self.sizes = net.family, net.config, net.domains, net.sizes
        self.shares_latent = net.shares_latent
        self.has_scores, self.encode, self.colour = net.has_scores, net.encode, net.colour

    def lift(self, z: Tensor, domain: str) -> Tensor:
        return z

    def finish(self, z: Tensor, domain: str) -> Tensor:
        return self.net.finish(self.net.lift(z, domain), domain)


@dataclass
class Row:
    """One engine's figures. Milliseconds are medians; None: not measured, for the reason in `notes`.

    Attributes:
        lift: "keyframe" (once for both gaps) or "frame" (as the papers do).
        encode_ms: one keyframe's encoder; lift_ms: one domain's lift of it.
        finish_ms: finish of one in-between in all domains, of seven in one batch; in_between_ms: the blend and that.
        keyframe_ms: everything a keyframe costs, its own decoding in all domains included.
        pair_ms: the network's time for one pair of output frames: (keyframe + the gap's in-betweens) / factor.
        sequence_ms: two keyframes and their in-betweens, all of a gap and its right keyframe in both domains: nine
            frames at factor 8, the papers' sequence.
        gflop_pair: counted convolutions and products for that, 1e9 operations, a multiply-add being two.
        peak_tflops: the machine's measured peak in that precision, 1e12 operations a second.
        peak_share: gflop_pair / pair_ms as a share of it.
        fps_null, fps_files: pairs of output frames a second, end to end, written nowhere and to two files.
        peak_mib: peak memory of the end-to-end run (of the GPU where there is one).
        error_db: PSNR of photo domains' in-betweens against the float32 torch engine; labels_kept: share of label
            pixels with the same class.
    """

    engine: str
    device: str
    precision: str
    lift: str
    encode_ms: float | None = None
    lift_ms: float | None = None
    finish_ms: float | None = None
    in_between_ms: float | None = None
    keyframe_ms: float | None = None
    pair_ms: float | None = None
    sequence_ms: float | None = None
    gflop_pair: float | None = None
    peak_tflops: float | None = None
    peak_share: float | None = None
    fps_null: float | None = None
    fps_files: float | None = None
    peak_mib: float | None = None
    error_db: float | None = None
    labels_kept: float | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Bench:
    """What is measured on: a model, its direction, a clip, and how long to measure.

    Attributes:
        size: (width, height) in pixels the network works at.
        clip: the video of the end-to-end runs; None leaves them out.
        seconds: of measuring, for each figure.
        int8_unchecked: time int8 whatever it does to the output, as weights before training need.
    """

    model: Model
    source: str
    target: str
    size: tuple[int, int]
    factor: int = 8
    clip: Path | None = None
    seconds: float = 2.0
    int8_unchecked: bool = False

    def rows(
        self,
        wanted: Sequence[tuple[str, str, str]] = ROWS,
        lifts: Sequence[str] = ("keyframe",),
        report: Callable[[str], None] = lambda text: None,
    ) -> Iterator[Row]:
        """A Row for each engine this machine has, the reference first; `report` hears why one is left out."""
        reference = self._outputs(self._open("torch", "cpu", "fp32", self.model.net))
        peaks: dict[tuple[str, str], float] = {}
        for lift in lifts:
            net = self.model.net if lift == "keyframe" else LiftEachFrame(self.model.net)
            work = self._gflop_pair(net)
            for name, device, precision in wanted:
                try:
                    row = self._row(name, device, precision, lift, net, reference)
                except VidtransError as error:
                    report(f"{name} {device} {precision}: {error}")
                    continue
                row.gflop_pair = work
                if (device, row.precision) not in peaks:
                    peaks[device, row.precision] = measured_peak(device, row.precision)
                row.peak_tflops = peaks[device, row.precision]
                if row.pair_ms:
                    row.peak_share = work / row.pair_ms / row.peak_tflops
                yield row

    def _row(self, name: str, device: str, precision: str, lift: str, net: Any, reference: dict[str, Tensor]) -> Row:
        engine = self._open(name, device, precision, copy.deepcopy(net))  # engines may change weights' type and place
        row = Row(name, device, engine.precision, lift, notes=list(engine.notes))
        self._network(engine, row)
        row.error_db, row.labels_kept = self._error(self._outputs(engine), reference)
        del engine
        gc.collect()
        if precision == "int8" and self.int8_unchecked:
            row.notes.append("not checked against float32, and not run end to end")
        elif self.clip is not None:
            self._end_to_end(row, net, precision)
        return row

    def _network(self, engine: Engine, row: Row) -> None:
        frames, device = self._frames(), row.device
        left, right = engine.encode(frames)
        gap = Gap(left, right, tuple(Fraction(k, self.factor) for k in range(self.factor)))
        row.keyframe_ms = self._milliseconds(lambda: engine.encode(frames[:1]), device)
        between = self._milliseconds(lambda: engine.between([gap]), device)
        row.in_between_ms = between / max(1, self.factor - 1)
        row.pair_ms = (row.keyframe_ms + between) / self.factor

        def sequence() -> None:
            left, right = engine.encode(frames)
            engine.between([Gap(left, right, gap.times)])

        row.sequence_ms = self._milliseconds(sequence, device)
        self._parts(engine, row, left, device)

    def _parts(self, engine: Any, row: Row, keyframe: Features, device: str) -> None:
        """Encoder, lift and finish by themselves, through the hooks of engines.base.BaseEngine."""
        x = engine._prepare(self._frames()[:1])
        lifted = {domain: a.expand(max(1, self.factor - 1), -1, -1, -1) for domain, a in keyframe.lifted.items()}
        row.finish_ms = self._milliseconds(lambda: engine._finish(lifted), device) / max(1, self.factor - 1)
        both = self._milliseconds(lambda: engine._encode_lifts(x), device)
        net = copy.deepcopy(self.model.net if row.lift == "keyframe" else LiftEachFrame(self.model.net))
        alone: Any = self._open(row.engine, row.device, row.precision, net, [])
        one = self._milliseconds(lambda: alone._encode_lifts(x), device)
        # One domain's encoder and lift, and two domains': the difference is a lift.
        row.lift_ms = max(0.0, both - one)
        row.encode_ms = max(0.0, one - row.lift_ms)  # differences of noisy times

    def _end_to_end(self, row: Row, net: Any, precision: str) -> None:
        from vidtrans.options import UpsampleOptions

        assert self.clip is not None
        device = row.device
        with TemporaryDirectory() as folder:
            options = UpsampleOptions(
                self.clip,
                self.target,
                self.source,
                factor=self.factor,
                output=Path(folder, "source.mp4"),
                output_to=Path(folder, "target.mp4"),
                overwrite=True,
                engine=row.engine,
                device=device,
                precision=precision,
                size=self.size,
            )
            reset_peak_memory(device)
            row.fps_null = self._pairs_a_second(options, net, files=False)
            row.peak_mib = peak_memory_mib(device)
            row.fps_files = self._pairs_a_second(options, net, files=True)

    def _pairs_a_second(self, options: UpsampleOptions, net: Any, *, files: bool) -> float:
        """From the first gap that came out to the last, so that opening an engine does not count."""
        from vidtrans.pipeline import run
        from vidtrans.video.nowhere import Nowhere

        marks: list[tuple[float, int]] = []
        run(
            options,
            model=Model(copy.deepcopy(net)),
            writers=None if files else (Nowhere(), Nowhere()),
            progress=lambda done, expected: marks.append((time.monotonic(), done)),
        )
        (first, before), (last, after) = marks[0], marks[-1]
        return (after - before) / (last - first) if last > first else math.nan

    def _open(self, name: str, device: str, precision: str, net: Any, targets: Sequence[str] | None = None) -> Engine:
        more = {"int8_unchecked": True} if precision == "int8" and self.int8_unchecked else {}
        targets = [self.target] if targets is None else targets
        return open_engine(
            name, net, self.source, targets, self.size, device=device, precision=precision, samples=self._some, **more
        )

    def _some(self) -> Tensor:
        if self.clip is None:
            return self._frames()
        from vidtrans.opening import footage_samples

        return footage_samples(self.clip)

    def _frames(self) -> Tensor:
        """Two keyframes at the working size, (2, H, W, 3) uint8: the clip's first, or smooth noise that moves."""
        if self.clip is not None:
            return self._some()[:2]
        width, height = self.size
        noise = torch.randn(1, 3, height // 8 + 2, width // 8 + 3, generator=torch.Generator().manual_seed(0))
        wide = F.interpolate(noise, (height + 16, width + 24), mode="bicubic").mul(50).add(128).clamp(0, 255)
        return torch.cat([wide[..., :height, :width], wide[..., 4 : height + 4, 8 : width + 8]]).movedim(1, -1).byte()

    def _outputs(self, engine: Engine) -> dict[str, Tensor]:
        left, right = engine.encode(self._frames())
        times = tuple(Fraction(k, self.factor) for k in range(self.factor))
        return {domain: out.float().cpu() for domain, out in engine.between([Gap(left, right, times)])[0].items()}

    def _error(self, got: dict[str, Tensor], want: dict[str, Tensor]) -> tuple[float | None, float | None]:
        decibel, kept = None, None
        for name, out in got.items():
            if self.model.net.has_scores(name):
                kept = (out.argmax(1) == want[name].argmax(1)).float().mean().item()
            else:
                error = (out - want[name]).square().mean().item()
                found = 10 * math.log10(4.0 / error) if error else math.inf
                decibel = found if decibel is None else min(decibel, found)
        return decibel, kept

    def _gflop_pair(self, net: Any) -> float:
        """Counted on tensors without data."""
        encode, finish = count_gflop(net, (self.source, self.target), self.size)
        return (encode + finish * self.factor) / self.factor

    def _milliseconds(self, work: Callable[[], object], device: str) -> float:
        return 1000.0 * median_seconds(work, self.seconds, device)


def count_gflop(net: Any, domains: Sequence[str], size: tuple[int, int]) -> tuple[float, float]:
    """1e9 operations of (one keyframe's encoder and lifts, finishing one frame in all domains) at a (width, height).

    Convolutions and products only, a multiply-add counted as two.
    """
    height, width = padded_size(size[1], size[0], net.sizes)
    net = copy.deepcopy(net).to("meta")
    with FlopCounterMode(display=False) as counter:
        lifted = EncodeLifts(net, domains)(torch.empty(1, 3, height, width, device="meta"))
    encode = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        Finish(net, domains)(*lifted)
    return encode / 1e9, counter.get_total_flops() / 1e9


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("encode_ms", "encode ms", ".2f"),
    ("lift_ms", "lift ms", ".2f"),
    ("finish_ms", "finish ms", ".2f"),
    ("in_between_ms", "in-between ms", ".2f"),
    ("pair_ms", "pair ms", ".2f"),
    ("sequence_ms", "sequence ms", ".1f"),
    ("gflop_pair", "GFLOP a pair", ".1f"),
    ("peak_tflops", "peak TFLOP/s", ".1f"),
    ("peak_share", "of peak", ".0%"),
    ("fps_null", "pairs/s", ".1f"),
    ("fps_files", "with files", ".1f"),
    ("peak_mib", "MiB", ".0f"),
    ("error_db", "dB of fp32", ".1f"),
    ("labels_kept", "labels kept", ".2%"),
)


def table_head() -> str:
    """The first two lines of a Markdown table of rows."""
    heads = ["engine", "precision", "lift per", *(head for _, head, _ in COLUMNS)]
    return "| " + " | ".join(heads) + " |\n" + "|" + "---|" * len(heads)


def table_line(row: Row) -> str:
    """A row as a line of the table; what was not measured stays empty."""
    cells = [f"{row.engine} ({row.device})", row.precision, row.lift]
    for name, _, form in COLUMNS:
        value = getattr(row, name)
        cells.append("" if value is None else format(value, form))
    return "| " + " | ".join(cells) + " |"
