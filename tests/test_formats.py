"""Some cases of the table in docs/formats.md, judged anew; the whole table is made by benchmarks/formats.py."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
# One of each kind that needs something of its own.
CHOSEN = ("in.ogv", "in.y4m", "in.h264", "in.dv")


@pytest.fixture(scope="module")
def formats() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import formats

        yield formats
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("file", CHOSEN)
def test_ffprobe_agrees(formats: ModuleType, file: str, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    case = next(case for case in formats.CASES if case.file == file)
    row = formats.judged(case, tmp_path)
    assert row.wrong == ()
    assert f"| {case.name} |" in row.line


def test_a_difference_is_noticed(formats: ModuleType, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    case = next(case for case in formats.CASES if case.name == "MP4, H.264, AAC")
    facts = formats.facts_of(formats.make_input(case, tmp_path))
    assert formats.differences(facts, facts, case) == {}
    late = tuple(replace(sound, begin=sound.begin + Fraction(1, 10), hidden=sound.begin) for sound in facts.sounds)
    later = tuple(time + Fraction(index > 5, 50) for index, time in enumerate(facts.times))
    for name, changed in (
        ("frames", replace(facts, times=facts.times[:-1])),
        ("times", replace(facts, times=later)),
        ("start", replace(facts, times=tuple(time + 1 for time in facts.times), end=facts.end + 1)),
        ("length", replace(facts, end=facts.end + Fraction(1, 5))),
        ("sound", replace(facts, sounds=())),
        ("sound begin", replace(facts, sounds=late)),
        ("matrix", replace(facts, colour={**facts.colour, "matrix": "bt709"})),
    ):
        assert name in formats.differences(facts, changed, case)


def test_the_page_has_a_line_for_every_case(formats: ModuleType) -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    made = page.partition(formats.MARKS[0])[2].partition(formats.MARKS[1])[0]
    lines = [line.split(" | ")[:2] for line in made.splitlines() if re.match(r"\| (?!input \|)[^-]", line)]
    told = [" ".join(f"`{word}`" for word in case.told) for case in formats.CASES]
    expected = [[f"| {case.name}", words] for case, words in zip(formats.CASES, told, strict=True)]
    assert sorted([first, words.strip()] for first, words in lines) == sorted(expected)
    assert "**" not in re.sub(r"^\*\*[A-Z][a-z ]+\*\*$", "", made, flags=re.MULTILINE)  # what disagrees is bold
