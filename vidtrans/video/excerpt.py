"""Which part of a file is used, so that pictures and all that is carried along are cut at the same times."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Excerpt:
    """The part of a file that begins in [since, until), seconds on the file's own clock.

    Attributes:
        since: the time of the first frame used; None: nothing is cut in front.
        until: None: nothing is cut at the end. A frame that begins before it is used as a whole, so the pictures may
            last a little longer.
        shift: taken off every time, so that the excerpt begins when the file did, or at 0 if that was earlier.
    """

    since: Fraction | None = None
    until: Fraction | None = None
    shift: Fraction = Fraction(0)


WHOLE = Excerpt()
