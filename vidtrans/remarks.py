"""What a run has to say: notes, and warnings, which `--strict` makes fatal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vidtrans.errors import StrictError


class Warn(str):
    """A note that is a warning: the input is damaged, an output lacks something of it, or a wish is not followed.

    What was decided where nobody asked, and what follows from an option by its own meaning, is a plain note.
    """

    __slots__ = ()


class Remarks:
    """Everything that the parts of a run have to say, each line told once and as soon as it is known.

    Args:
        tell: gets each line, a Warn where it is a warning.
        strict: whether the first warning ends the run.

    Attributes:
        notes: all lines so far, in their order.
    """

    def __init__(self, tell: Callable[[str], None], *, strict: bool = False) -> None:
        self.notes: list[str] = []
        self._tell = tell
        self._strict = strict
        self._followed: list[tuple[Sequence[str], list[int]]] = []

    @property
    def warnings(self) -> list[str]:
        return [note for note in self.notes if isinstance(note, Warn)]

    def follow(self, notes: Sequence[str]) -> None:
        """Tells a list's lines, and with every `look` those that it has got since; other threads may add to it.

        Raises:
            StrictError: one of them is a warning, which must not be.
        """
        self._followed.append((notes, [0]))
        self.look()

    def look(self) -> None:
        """Tells what is new. Raises as `follow` does."""
        for notes, seen in self._followed:
            while seen[0] < len(notes):
                seen[0] += 1
                self.add(notes[seen[0] - 1])

    def add(self, *notes: str) -> None:
        """Tells lines that were not told yet. Raises as `follow` does."""
        for note in notes:
            if note in self.notes:
                continue
            self.notes.append(note)
            self._tell(note)
            if self._strict and isinstance(note, Warn):
                raise StrictError(f"--strict: {note}")
