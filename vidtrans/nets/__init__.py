"""The families of networks: a literal table, imported when one is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from vidtrans.errors import UsageError, nearest_names

# family -> (module, net class, config class)
FAMILIES: dict[str, tuple[str, str, str]] = {
    "jwdm": ("vidtrans.nets.jwdm", "JWDM", "JWDMConfig"),
    "cyclegan": ("vidtrans.nets.cyclegan", "CycleGAN", "CycleGANConfig"),
    "cyclegan3d": ("vidtrans.nets.cyclegan3d", "CycleGAN3D", "CycleGAN3DConfig"),
}


def config_class(family: str) -> Any:
    """The class of that family's configs: a frozen dataclass with domains and trained_size, to_json and from_json.

    Raises:
        UsageError: no such family.
    """
    module, _, config_name = _row(family)
    return getattr(module, config_name)


def net_class(family: str) -> Any:
    """The class of that family's nets; `shares_latent` says which contract of nets/contract.py it keeps.

    Raises:
        UsageError: no such family.
    """
    module, net_name, _ = _row(family)
    return getattr(module, net_name)


def make_net(family: str, config: dict[str, Any]) -> Any:
    """A net of that family with fresh weights; config is what its `config.to_json()` gives.

    Raises:
        UsageError: no such family, or a config that is not one of its.
    """
    module, net_name, config_name = _row(family)
    try:
        parsed = getattr(module, config_name).from_json(config)
    except (KeyError, TypeError) as error:
        raise UsageError(f"this is not a description of a {family} network: {error}") from error
    return getattr(module, net_name)(parsed)


def _row(family: str) -> tuple[Any, str, str]:
    if family not in FAMILIES:
        raise UsageError(f"unknown family of networks {family!r}; {nearest_names(family, tuple(FAMILIES))}")
    module, net_name, config_name = FAMILIES[family]
    return importlib.import_module(module), net_name, config_name
