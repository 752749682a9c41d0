"""Text that came with a file, made fit for a terminal and a log."""

from __future__ import annotations

import unicodedata

# Of Unicode's general categories: control, format (which turn the direction of text, or are not seen at all), lone
# surrogates (bytes of a file name that are no text), and what divides lines and paragraphs.
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # invisible too, but parts of words and of emoji


def plain(text: str) -> str:
    r"""The text on one line, with everything that a terminal would obey or hide written out, such as `\x1b`.

    Names of files and what their metadata says may hold anything.
    """
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE and char not in _JOINERS


def _escaped(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 127 else f"\\x{ord(char):02x}"
