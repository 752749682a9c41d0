"""Parts of a domain in time: what training sees, what it does not, and test clips that cross no border (J22)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidtrans.errors import UsageError
from vidtrans.train.data.footage import Footage, Shot


def split_by_time(footage: Footage, share: float, clip: int) -> tuple[Footage, Footage]:
    """(training, test): the last `share` of all frames, in the order of the sequences, is for testing.

    Where the border falls into a sequence it cuts it in two, each at least a clip long, for which the border moves a
    little; a sequence too short for that goes to one side as a whole.

    Raises:
        UsageError: one part would be empty.
    """
    border = len(footage) - round(len(footage) * share)
    ends = np.cumsum([len(shot) for shot in footage.sequences])
    if 0 < border < len(footage):
        cut = int(np.searchsorted(ends, border, side="right"))
        first, end = int(ends[cut]) - len(footage.sequences[cut]), int(ends[cut])
        if end - first >= 2 * clip and border != first:
            border = min(max(border, first + clip), end - clip)
        else:
            border = first if border - first <= end - border else end
    if not 0 < border < len(footage):
        raise UsageError(
            f"its {len(footage)} frames in {len(footage.sequences)} sequences cannot be divided so that {share:g} of "
            f"them are held back in clips of {clip}; change data.test_share or data.test_clip"
        )
    return footage.first(border), footage.rest(border)


def clips_of(footage: Footage, clip: int) -> Footage:
    """As many clips of that many frames as fit without overlap, from each sequence's start, as sequences."""
    clips: list[Shot] = []
    for shot in footage.sequences:
        clips += [shot.cut(first, first + clip) for first in range(0, len(shot) - clip + 1, clip)]
    return replace(footage, sequences=tuple(clips))
