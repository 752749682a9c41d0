"""What a job of several inputs takes as a whole, from the plan of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vidtrans.disk import byte_words, check_space, disk_needs
from vidtrans.preflight import Plan, time_words


@dataclass(frozen=True)
class Total:
    """The sum of plans whose runs are done one after the other.

    Attributes:
        plans: of the inputs that can be done, as `vidtrans.plan` gives them.
        refused: how many inputs cannot be done.
    """

    plans: Sequence[Plan]
    refused: int = 0

    @property
    def seconds(self) -> float:
        """That all runs will take, where the frames are counted."""
        return sum(plan.measured.seconds for plan in self.plans if plan.measured is not None)

    @property
    def output_bytes(self) -> int:
        """Of all finished files, likely."""
        return sum(plan.output_bytes for plan in self.plans)

    def lines(self) -> list[str]:
        """The sum for a person to read, warnings as remarks.Warn.

        Raises:
            OutputError: all together will not fit on a disk.
        """
        who = f"all {len(self.plans)} inputs"
        works = [(plan, plan.work) for plan in self.plans if plan.work is not None]
        lines = []
        if self.refused:
            lines.append(f"{who}: without {self.refused} that cannot be done")
        if len(works) < len(self.plans):
            lines.append(f"{who}: without {len(self.plans) - len(works)} whose length is not known")
        lines.append(
            f"{who}: {sum(work.frames_in for _, work in works)} input frames, "
            f"{sum(work.frames_out * len(plan.outputs) for plan, work in works)} frames to encode, "
            f"{sum(work.encodings for _, work in works)} network encodings, "
            f"at most {sum(work.decodings for _, work in works)} decodings "
            f"({sum(work.megapixels for _, work in works):.4g} megapixels)"
        )
        needs = [need for need in disk_needs(plan.outputs for plan in self.plans) if need.peak]
        lines += [
            f"{who}, disk of {need.folder}: about {byte_words(need.likely)}, and at any time at most about "
            f"{byte_words(need.peak)} with temporary space; {byte_words(need.free)} are free"
            for need in needs
        ]
        if self.seconds:
            lines.append(f"{who}, time: about {time_words(self.seconds)}")
        return [*lines, *check_space(needs, who)]
