"""The [keep] of a recipe: what of a run is kept on disk, and when a run that has gone wrong is stopped."""

from __future__ import annotations

from dataclasses import dataclass

from vidtrans.errors import UsageError, one_of

SCORES = ("none", "reconstruction", "cycle")


@dataclass(frozen=True)
class KeepOptions:
    """Checkpoints, the best model, and what counts as diverged.

    Attributes:
        last: older checkpoints kept beside the newest one.
        best: the score by which the best model is kept too, lower is better, measured at every checkpoint on frames
            that training does not see (data.test_share), which need no labels or partners: "reconstruction" (mean L1
            distance of every domain's frames from their reconstruction), "cycle" (from their way through another domain
            and back, over all ordered pairs) or "none". Off by default: both scores like models that hide the source in
            the translation, and the paper's model is the last one.
        diverged_above, diverged_below: a discriminator has diverged when the size of its loss, as logged, was above the
            one or below the other (it tells everything apart, and there is nothing left to learn from it) in every log
            line of the last diverged_steps steps. A loss that has been exactly 0 from the start is switched off.
        diverged_steps: 0 to watch no discriminators. Losses that are not finite stop a run in any case.
    """

    last: int = 2
    best: str = "none"
    diverged_above: float = 1e3
    diverged_below: float = 1e-6
    diverged_steps: int = 1000

    def __post_init__(self) -> None:
        one_of("keep.best", self.best, SCORES)
        if min(self.last, self.diverged_steps) < 0:
            raise UsageError("keep.last and diverged_steps must not be negative")
        if not 0.0 <= self.diverged_below < self.diverged_above:
            raise UsageError("keep.diverged_below must be at least 0 and less than keep.diverged_above")
