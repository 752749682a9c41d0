"""The training methods: a literal table, imported when one is asked for."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from vidtrans.errors import UsageError, nearest_names


class Method(NamedTuple):
    """Where a method's parts are.

    Attributes:
        family: of its networks (nets.FAMILIES).
        step: module:class of its step.Step.
        options: module:class of the recipe's [loss], a frozen dataclass with `check(recipe)` and
            `needs_start`, whether a run cannot begin from random networks.
    """

    family: str
    step: str
    options: str


METHODS: dict[str, Method] = {
    "jwdm": Method("jwdm", "vidtrans.train.jwdm_step:JWDMStep", "vidtrans.train.jwdm_options:LossOptions"),
    "cyclegan": Method(
        "cyclegan", "vidtrans.train.cyclegan_step:CycleGANStep", "vidtrans.train.cyclegan_options:CycleGANOptions"
    ),
    "cyclegan3d": Method(
        "cyclegan3d",
        "vidtrans.train.cyclegan3d_step:CycleGAN3DStep",
        "vidtrans.train.cyclegan_options:ClipOptions",
    ),
}


def method_named(name: str) -> Method:
    """The row of METHODS.

    Raises:
        UsageError: no such method; the message names the nearest.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {nearest_names(name, tuple(METHODS))}")
    return METHODS[name]


def imported(path: str) -> Any:
    """What module:name names."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
