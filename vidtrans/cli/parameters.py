"""Kinds of values that several commands take: a size, a positive exact fraction, and a time."""

from __future__ import annotations

import re
from fractions import Fraction

import click

from vidtrans.video.local_file import Source, source_named

# How a command tells its progress, and how much else it tells.
PROGRESS = ("auto", "plain", "json", "none")
LEVELS = ("info", "warning", "error")

# Fraction() itself also takes "1e999999999", which it would spend hours to write out.
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18}|[0-9]{1,18}/[1-9][0-9]{0,17}")
_TIME = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})")
_WIDTH_HEIGHT = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})")


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """ "WIDTHxHEIGHT" in pixels, both at least 1, to (width, height)."""

    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "WIDTHxHEIGHT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):  # a default
            width, height = value
            return int(width), int(height)
        match = _WIDTH_HEIGHT.fullmatch(str(value).strip())
        if match is None or not int(match[1]) or not int(match[2]):
            self.fail(f"{value!r} is not a size; give WIDTHxHEIGHT in pixels, such as 512x256.", param, ctx)
        return int(match[1]), int(match[2])


class FractionType(click.ParamType):  # type: ignore[type-arg]
    """A positive number, kept exact: "8", "7.5" or "30000/1001"."""

    name = "fraction"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NUMBER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        text = str(value).strip()  # of a default, too: str(7.5) is the shortest decimal, which is what was meant
        number = Fraction(text) if _NUMBER.fullmatch(text) else Fraction(0)
        if not number:
            self.fail(f"{value!r} is not a positive number; give one such as 8, 7.5 or 30000/1001.", param, ctx)
        return number


class TimeType(click.ParamType):  # type: ignore[type-arg]
    """Seconds, 0 or more, kept exact: "90", "90.5", "1:30.5" or "00:01:30.5"."""

    name = "time"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        match = _TIME.fullmatch(str(value).strip())
        hours, minutes, seconds = match.groups("") if match else ("", "", "")
        # As on a clock: each counts up to 59 where something larger stands before it.
        if match is None or (hours and int(minutes) > 59) or (minutes and Fraction(seconds) >= 60):
            self.fail(f"{value!r} is not a time; give seconds or [HH:]MM:SS, such as 90.5 or 1:30.5.", param, ctx)
        return int(hours or 0) * 3600 + int(minutes or 0) * 60 + Fraction(seconds)


class SourceType(click.ParamType):  # type: ignore[type-arg]
    """A local file or an address."""

    name = "source"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        return source_named(value if isinstance(value, Source) else str(value))


class ProtocolsType(click.ParamType):  # type: ignore[type-arg]
    """Names divided by commas."""

    name = "protocols"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NAMES"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in str(value).split(","))


class PairType(click.ParamType):  # type: ignore[type-arg]
    """ "KEY=VALUE" to (key, value); the value may be empty and hold further equals signs."""

    name = "pair"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "KEY=VALUE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, rest = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE; give one such as tune=film.", param, ctx)
        return key, rest


SIZE = SizeType()
FRACTION = FractionType()
TIME = TimeType()
SOURCE = SourceType()
PROTOCOLS = ProtocolsType()
PAIR = PairType()
