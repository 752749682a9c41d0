"""What is said of several target domains: of all of them, or of each by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vidtrans.errors import UsageError, nearest_names


def target_names(to: str | Sequence[str]) -> tuple[str, ...]:
    """The target domains in their order: names, or lists of names divided by commas.

    Raises:
        UsageError: there is none, or one comes twice.
    """
    parts = [to] if isinstance(to, str) else to
    names = [name.strip() for part in parts for name in str(part).split(",")]
    if not names or not all(names):
        raise UsageError("--to must name the domain to translate into, or several divided by commas")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--to names {name} twice; leave one out")
    return tuple(names)


def for_each(value: Any, targets: Sequence[str], option: str) -> dict[str, Any]:
    """{target: value} of an option that is said of all targets, or as a mapping of some; None: of none.

    Raises:
        UsageError: it names what is no target.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return dict.fromkeys(targets, value)
    for name in value:
        if name not in targets:
            raise UsageError(
                f"{option} speaks of {name!r}, which --to does not name; {nearest_names(name, tuple(targets))}"
            )
    return {name: said for name, said in value.items() if said is not None}


def divided(words: str, targets: Sequence[str]) -> tuple[str | None, str]:
    """(target, value) of "TARGET=VALUE"; (None, words) where it does not begin with the name of a target."""
    name, equals, value = words.partition("=")
    return (name, value) if equals and name in targets else (None, words)


def gathered(words: Iterable[str], targets: Sequence[str]) -> dict[str, str]:
    """{target: value} of a repeated option's "VALUE" (of every target) and "TARGET=VALUE"; the last one counts."""
    found: dict[str, str] = {}
    named: dict[str, str] = {}
    for one in words:
        target, value = divided(one, targets)
        if target is None:
            found.update(dict.fromkeys(targets, value))
        else:
            named[target] = value
    return found | named
