"""The two halves of a net in int8: calibrated on half of some real frames, and compared with float32 on the others.

What int8 costs, measured with a trained model of width 24 at 128x64: 37.6 dB and 99.3 % of labels from photos, 35.7 dB
and 99.4 % from labels; bf16 has 64 dB and 99.9 %. Nearly all of it is lost in finish, in no layer more than in others:
first, last or up-sampling layers in bf16 gain 0.2 dB at most, so whole halves are quantised; asymmetric activations
gain 1 dB, for 5 % of the time.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vidtrans.engines.contract import Report
from vidtrans.engines.openvino_engine import Halves, openvino_errors
from vidtrans.errors import UsageError
from vidtrans.latents import blend
from vidtrans.nets.contract import domain_named

VERSION = 1  # of what is tried and accepted here

# Output further from float32's is refused. A trained model is itself 20 to 25 dB from the true picture; an error 10 dB
# below that, a tenth of its power, is not what a viewer sees. Of labels it gets a tenth or more wrong.
LEAST_DB = 34.0
LEAST_LABELS = 0.98

# (encoder in int8 too, activations), fastest first; the first that is accepted is taken.
TRIALS: tuple[tuple[bool, str], ...] = ((True, "PERFORMANCE"), (True, "MIXED"), (False, "MIXED"))

TIMES = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))  # of the in-betweens in the footage
PIXELS = 2**18  # of the frames on either side: 32 at 128x64; larger frames show more at once


@dataclass(frozen=True)
class Likeness:
    """How near to float32's an output is, in its worst domains.

    Attributes:
        db: PSNR of a photo domain's colours; None without one.
        labels: share of a label domain's pixels that keep their class; None without one.
    """

    db: float | None
    labels: float | None

    @property
    def is_enough(self) -> bool:
        return (self.db is None or self.db >= LEAST_DB) and (self.labels is None or self.labels >= LEAST_LABELS)

    def __str__(self) -> str:
        db = [] if self.db is None else [f"{self.db:.1f} dB of float32"]
        return ", ".join([*db, *([] if self.labels is None else [f"{100 * self.labels:.1f} % of labels kept"])])


@dataclass(frozen=True)
class Trial:
    """What came of it: the halves to use, None if all were refused, and what to tell the user."""

    halves: Halves | None
    note: str


@torch.inference_mode()
def best(
    net: Any,
    source: str,
    domains: Sequence[str],
    x: Tensor,
    models: tuple[Any, Any],
    compiled: Callable[[Any, Any], Halves],
    report: Report | None = None,
    *,
    checked: bool = True,
) -> Trial:
    """The fastest int8 halves whose output is near enough to float32's.

    Args:
        net: in float32, the reference.
        source: the domain of the frames; domains: what they are decoded in.
        x: frames (B, 3, H, W) in [-1, 1] as the network takes them.
        models: encoder with lifts, and finish, in OpenVINO's float32.
        compiled: makes such a pair ready to run.
        report: gets a line before every trial.
        checked: False takes the first trial whatever it gives.

    Raises:
        UsageError: no frames.
    """
    if not len(x):
        raise UsageError("--precision int8 is calibrated on frames of the footage, and it has none")
    # Fewer cannot be shared out: the error is then measured on what was calibrated on.
    calibration, check = (x[0::2], x[1::2]) if len(x) >= 4 else (x, x)
    most = max(2, PIXELS // (x.shape[-2] * x.shape[-1]))
    calibration, check = calibration[:most], check[:most]
    lifted = _lifted(net, source, domains, calibration)
    reference = _finished(net, domains, _lifted(net, source, domains, check))
    # Two trials share a finish, and calibrating it is what takes long.
    encoder_in = cache(lambda activations: quantised(models[0], [[row] for row in calibration], activations))
    finish_in = cache(lambda activations: quantised(models[1], list(zip(*lifted, strict=True)), activations))
    refused = []
    for number, (encoder_too, activations) in enumerate(TRIALS, 1):
        if report is not None:
            report(f"int8: calibrating on {len(calibration)} frames of the footage (trial {number} of {len(TRIALS)})")
        halves = compiled(encoder_in(activations) if encoder_too else models[0], finish_in(activations))
        outputs = halves.finish(*(_with_in_betweens(a) for a in halves.encoder(check)))
        found = likeness(net, domains, outputs, reference)
        if found.is_enough or not checked:
            return Trial(halves, f"int8{'' if encoder_too else ' but for the encoder'}: {found}")
        refused.append(found)
    nearest = max(refused, key=lambda found: (found.db or 0.0, found.labels or 0.0))
    wanted = Likeness(None if nearest.db is None else LEAST_DB, None if nearest.labels is None else LEAST_LABELS)
    return Trial(None, f"int8 refused, {nearest}, where {wanted} are wanted")


def quantised(model: Any, inputs: Sequence[Sequence[Tensor]], activations: str) -> Any:
    """A model of OpenVINO in int8, calibrated by NNCF on rows of inputs (each without batch dimension).

    activations: "PERFORMANCE" (symmetric) or "MIXED" (asymmetric where they are signed).
    """
    nncf = _nncf()
    rows = [[a.unsqueeze(0).contiguous().numpy() for a in row] for row in inputs]
    # Its progress bars go to stdout, where nothing but video belongs.
    with openvino_errors("quantise the network"), redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model.clone(), nncf.Dataset(rows), preset=nncf.QuantizationPreset[activations], subset_size=len(rows)
        )


def likeness(net: Any, domains: Sequence[str], outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> Likeness:
    """Per domain (B, C, H, W), as `finish` gives them."""
    db, labels = [], []
    for domain, got, wanted in zip(domains, outputs, reference, strict=True):
        if domain_named(net.domains, domain).is_label:
            same = _classes(net, domain, got) == _classes(net, domain, wanted)
            labels.append(float(same.float().mean()))
        else:
            error = (net.colour(got, domain) - net.colour(wanted, domain)).square().mean()
            db.append(float(10 * torch.log10(4 / error.clamp_min(1e-12))))  # colours span 2
    return Likeness(min(db, default=None), min(labels, default=None))


def _classes(net: Any, domain: str, out: Tensor) -> Tensor:
    if net.has_scores(domain):
        return out.argmax(1)
    rgb = ((out + 1) * 127.5).movedim(1, -1).numpy()
    return torch.from_numpy(domain_named(net.domains, domain).colours.nearest(rgb))


def _lifted(net: Any, source: str, domains: Sequence[str], x: Tensor) -> list[Tensor]:
    """Per domain the features of the frames and of the in-betweens of neighbours."""
    z = torch.cat([net.encode(row.unsqueeze(0), source) for row in x])
    return [_with_in_betweens(net.lift(z, domain)) for domain in domains]


def _with_in_betweens(a: Tensor) -> Tensor:
    return torch.cat([a, *(blend(left, right, TIMES) for left, right in pairwise(a))])


def _finished(net: Any, domains: Sequence[str], lifted: Sequence[Tensor]) -> list[Tensor]:
    return [
        torch.cat([net.finish(row.unsqueeze(0), domain) for row in a])
        for domain, a in zip(domains, lifted, strict=True)
    ]


def _nncf() -> Any:
    """NNCF without its reports to Intel, which this variable stops if it is set while the package is imported."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf
