"""The domains a rendered street can be shown in. Imports nothing heavy: the command line lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# name -> (season of Street, whether it shows the classes in palette colours instead of the picture)
STREET_DOMAINS: dict[str, tuple[str, bool]] = {
    "scene": ("summer", False),
    "segmentation": ("summer", True),
    "spring": ("spring", False),
    "summer": ("summer", False),
    "fall": ("fall", False),
    "winter": ("winter", False),
}


def street_domain(name: str) -> tuple[str, bool]:
    """The row of STREET_DOMAINS.

    Raises:
        UsageError: no such domain; the message names the nearest.
    """
    from vidtrans.errors import UsageError, nearest_names

    if name not in STREET_DOMAINS:
        raise UsageError(f"unknown street domain {name!r}; {nearest_names(name, tuple(STREET_DOMAINS))}")
    return STREET_DOMAINS[name]


class StreetView:
    """One street in one domain (a UsageError where there is no such domain)."""

    def __init__(self, domain: str, seed: int, device: Any = "cpu") -> None:
        from vidtrans.train.street import Street

        season, self._labels = street_domain(domain)
        self._street = Street(seed, season, device)

    def picture(self, t: float, width: int, height: int) -> np.ndarray:
        """(height, width, 3) uint8 at instant t in seconds."""
        from vidtrans.palettes import STREET

        # Labels are hard, so nothing is gained by rays beside the pixel's centre.
        frame = self._street.render(t, width, height, samples=1 if self._labels else 2)
        return STREET.colour(frame.labels.cpu().numpy()) if self._labels else frame.rgb.cpu().numpy()
