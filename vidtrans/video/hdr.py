"""What HDR pictures say of the screen they were graded on and of how bright they get, and how encoders are told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Point = tuple[Fraction, Fraction]

# Side data of a frame that changes from frame to frame, or that nothing here can write, in words for the user.
_LEFT_OUT = {
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
    "ICC_PROFILE": "the ICC profile",
    "STEREO3D": "the stereo 3D tag",
    "SPHERICAL": "the spherical video tag",
    "A53_CC": "closed captions inside the pictures",
}


@dataclass(frozen=True)
class Mastering:
    """The display on which a video was graded (SMPTE ST 2086).

    Attributes:
        red, green, blue, white: chromaticities (x, y), CIE 1931.
        darkest, brightest: cd/m2.
    """

    red: Point
    green: Point
    blue: Point
    white: Point
    darkest: Fraction
    brightest: Fraction

    @classmethod
    def read(cls, data: bytes) -> Mastering | None:
        """FFmpeg's AVMasteringDisplayMetadata; None where it does not state all of it.

        Ten fractions of two 32-bit integers (red, green, blue and white as x and y, the darkest, the brightest), then
        whether the chromaticities and the luminances are stated.
        """
        numbers = np.frombuffer(data, np.int32).tolist()
        parts, stated = numbers[:20], numbers[20:22]
        if not all(stated) or not all(parts[1::2]):
            return None
        values = [Fraction(above, below) for above, below in zip(parts[::2], parts[1::2], strict=True)]
        red, green, blue, white = zip(values[0:8:2], values[1:8:2], strict=True)
        return cls(red, green, blue, white, *values[8:])

    def written(self, *, decimals: bool) -> str:
        """In the notation of x264, x265 and SVT-AV1.

        decimals: plain numbers, else whole steps of 0.00002 and of 0.0001 cd/m2 as in the bit stream.
        """

        def number(value: Fraction, steps: int) -> str:
            return f"{float(value):.6g}" if decimals else str(round(value * steps))

        points = (("G", self.green), ("B", self.blue), ("R", self.red), ("WP", self.white))
        text = "".join(f"{name}({number(x, 50_000)},{number(y, 50_000)})" for name, (x, y) in points)
        return f"{text}L({number(self.brightest, 10_000)},{number(self.darkest, 10_000)})"


@dataclass(frozen=True)
class Light:
    """How bright a video gets (CTA-861.3), cd/m2: its brightest pixel, and its brightest frame on average."""

    pixel: int
    frame: int

    @classmethod
    def read(cls, data: bytes) -> Light:
        """FFmpeg's AVContentLightMetadata: two 32-bit integers."""
        pixel, frame = np.frombuffer(data, np.uint32)[:2].tolist()
        return cls(pixel, frame)


# How each encoder is told: its option for further settings, the names of the two facts there, and the notation.
_TOLD_BY = {
    "libx264": ("x264-params", "mastering-display", "cll", False),
    "libx265": ("x265-params", "master-display", "max-cll", False),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", True),
}


def with_hdr(settings: dict[str, str], codec: str, mastering: Mastering | None, light: Light | None) -> dict[str, str]:
    """An encoder's settings, with what makes it write these facts into its stream; what is set there already stays."""
    if codec not in _TOLD_BY:
        return settings
    option, mastering_name, light_name, decimals = _TOLD_BY[codec]
    parts = [settings[option]] if settings.get(option) else []
    known = "".join(parts)
    if mastering is not None and f"{mastering_name}=" not in known:
        parts.append(f"{mastering_name}={mastering.written(decimals=decimals)}")
    if light is not None and f"{light_name}=" not in known:
        parts.append(f"{light_name}={light.pixel},{light.frame}")
    return {**settings, option: ":".join(parts)} if parts else settings


def read_hdr(side_data: Any) -> tuple[Mastering | None, Light | None, list[str]]:
    """Of a decoded frame's side data: the static facts, and in words what there is beyond them that is left out."""
    found = {item.type.name: item for item in side_data}
    left_out = list(dict.fromkeys(words for name, words in _LEFT_OUT.items() if name in found))
    mastering = light = None
    if (data := found.get("MASTERING_DISPLAY_METADATA")) is not None:
        mastering = Mastering.read(bytes(data))
        if mastering is None:
            left_out.append("incomplete mastering display metadata")
    if (data := found.get("CONTENT_LIGHT_LEVEL")) is not None:
        light = Light.read(bytes(data))
    return mastering, light, left_out
