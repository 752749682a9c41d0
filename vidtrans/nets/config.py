"""What the configs of all families of networks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from vidtrans.errors import UsageError, one_of
from vidtrans.nets.contract import Domain, domains_from_json

# Far above what anyone trains.
_MOST_DOMAINS, _MOST_PIXELS = 100, 8192


@dataclass(frozen=True)
class NetConfig:
    """The shape of a net; it is saved with the weights. A family adds its own fields, all of them with defaults.

    Attributes:
        domains: two or more, with different names.
        trained_size: (width, height) in pixels of the training frames.
    """

    domains: tuple[Domain, ...]
    trained_size: tuple[int, int] = field(default=(128, 128), kw_only=True)

    def _check(self, whole: Mapping[str, tuple[int, int]], choices: Mapping[str, tuple[object, ...]]) -> None:
        """Refuse fields that no net has: a description that comes with a file is not trusted with how much memory is
        taken.

        Args:
            whole: (least, most) of the family's whole numbers.
            choices: the values of its other fields.

        Raises:
            UsageError: one of them is none of these, or the domains or the trained size are no good.
        """
        names = [domain.name for domain in self.domains]
        if len(names) < 2 or len(set(names)) != len(names):
            raise UsageError(f"a model needs two or more domains with different names, not {names}")
        if len(names) > _MOST_DOMAINS:
            raise UsageError(f"a model has at most {_MOST_DOMAINS} domains, not {len(names)}")
        for key, (least, most) in whole.items():
            value = getattr(self, key)
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"{key} must be a whole number from {least} to {most}, not {value!r}")
        if len(self.trained_size) != 2 or any(
            type(length) is not int or not 1 <= length <= _MOST_PIXELS for length in self.trained_size
        ):
            raise UsageError(
                f"trained_size must be two whole numbers from 1 to {_MOST_PIXELS}, not {self.trained_size!r}"
            )
        for key, allowed in choices.items():
            one_of(key, getattr(self, key), allowed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """From what `to_json` gave. Raises KeyError or TypeError if it is no config of this family."""
        row = dict(row)
        row["domains"] = domains_from_json(row["domains"])
        row["trained_size"] = tuple(row["trained_size"])
        return cls(**row)
