"""What every family's config does: it checks itself, and it is written to JSON and read back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Self

from vidtrans.errors import UsageError, one_of
from vidtrans.nets.contract import Domain, domains_from_json

# Far above what anyone trains: a description that comes with a file is not trusted with how much memory is taken.
_MOST_DOMAINS, _LONGEST = 100, 8192


class NetConfig:
    """The base of frozen dataclasses with the fields `domains` and `trained_size`; they are saved with the weights.

    Attributes:
        most: name of a field that is a whole number from 1 on -> the largest that is taken.
        choices: name of a field -> the values it may have.
    """

    domains: tuple[Domain, ...]
    trained_size: tuple[int, int]
    most: ClassVar[dict[str, int]] = {}
    choices: ClassVar[dict[str, tuple[object, ...]]] = {}

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        if len(names) < 2 or len(set(names)) != len(names):
            raise UsageError(f"a model needs two or more domains with different names, not {names}")
        if len(names) > _MOST_DOMAINS:
            raise UsageError(f"a model has at most {_MOST_DOMAINS} domains, not {len(names)}")
        for field, most in self.most.items():
            value = getattr(self, field)
            if type(value) is not int or not 1 <= value <= most:
                raise UsageError(f"{field} must be a whole number from 1 to {most}, not {value!r}")
        if len(self.trained_size) != 2 or any(
            type(length) is not int or not 1 <= length <= _LONGEST for length in self.trained_size
        ):
            raise UsageError(f"trained_size must be two whole numbers from 1 to {_LONGEST}, not {self.trained_size!r}")
        for field, allowed in self.choices.items():
            one_of(field, getattr(self, field), allowed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """Raises:
        KeyError, TypeError, UsageError: the row does not describe such a network.
        """
        row = dict(row)
        row["domains"] = domains_from_json(row["domains"])
        row["trained_size"] = tuple(row["trained_size"])
        return cls(**row)
