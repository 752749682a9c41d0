"""Every kind of input and output through the whole tool, judged by ffprobe: the table of docs/formats.md.

    python benchmarks/formats.py [--only WORD ...] [--write docs/formats.md]

The ffmpeg program makes a clip for each case (format_cases.py and format_cases_more.py), vidtrans turns it into two
outputs with a network that changes nothing (factor 2 unless the case says otherwise), and ffprobe says of both
outputs and of the input what they are. Everything must agree with the input and with the contract of the README: how
many frames and when, how long, in which rate, size, pixel format and colours, with which sound at which distance from
the pictures, and what else. What a case says differs by design must differ, and nothing else may. At input frames the
first output's pictures are compared with the input's as ffmpeg decodes both.

Prints a table in Markdown; --write puts it between the marks in a file. Exit code 1 where anything disagrees.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import format_cases_more  # noqa: F401 (adds its cases)
from format_cases import CASES, Case
from format_facts import Facts, facts_of, likeness

MARKS = ("<!-- Made by benchmarks/formats.py: begin -->", "<!-- Made by benchmarks/formats.py: end -->")
HEAD = "| input | told | output | frames in, out | at input frames | ffprobe says |\n|---|---|---|---|---|---|"
# Lossy codecs on small noisy pictures.
LEAST_DECIBELS = 25.0
# ffprobe's times have six digits.
DIGITS = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Row:
    """What became of a case: its line of the table, and what disagrees with the contract."""

    line: str
    wrong: tuple[str, ...]


# What is made, and run


def make_input(case: Case, folder: Path) -> Path:
    """The case's clip, of some 12 frames."""
    path = folder / case.file
    if path.suffix and "%" in path.name:
        path.parent.mkdir(exist_ok=True)
    for name, text in case.beside.items():
        (folder / name).write_bytes(text)
    for step in case.make:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *step.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    if case.change is not None:
        case.change(path)
    return path


def run_case(case: Case, path: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Runs the tool; the outputs, and the lines it said. What goes into a pipe is kept in a file by another process."""
    from identity import identity_model

    from vidtrans.pipeline import parsed_options, run

    outputs = [folder / name for name in case.outputs]
    options: dict[str, Any] = {"factor": 2, "engine": "torch", "threads": 1, "overwrite": True, **case.options}
    if "fps" in options:
        del options["factor"]
    for name in ("factor", "fps", "rate_in", "start", "end"):
        if name in options:
            options[name] = Fraction(options[name])
    kept, readers = [], []
    for place, output in enumerate(outputs):
        if "%" in output.name:
            output.parent.mkdir(exist_ok=True)
        if case.piped and place == 0:
            pipe = folder / f"pipe{output.suffix}"
            os.mkfifo(pipe)
            readers.append(subprocess.Popen(["cp", str(pipe), str(output)]))
            kept.append(pipe)
        else:
            kept.append(output)
    options["output"] = kept[0]
    if len(kept) > 1:
        options["output_to"] = kept[1]
    source: str | Path = path
    if case.pipe_in:
        source = folder / "pipe-in"
        os.mkfifo(source)
        readers.append(subprocess.Popen(["cp", str(path), str(source)]))
    said: list[str] = []
    try:
        parsed = parsed_options(source, "there", options)
        summary = run(parsed, model=identity_model(), announce=said.append)
    except BaseException:
        for reader in readers:
            reader.kill()
        raise
    finally:
        for reader in readers:
            reader.wait(60)
    return outputs, [*said, *summary.notes]


# What must be


def expected(source: Facts, case: Case) -> Facts:
    """The facts of an output by the contract: those of the input, but for times and rate."""
    options = case.options
    factor, fps = Fraction(options.get("factor", 2)), options.get("fps")
    slow = options.get("slowmo", False)
    origin = source.times[0]
    start, end = Fraction(options.get("start", 0)), options.get("end")
    inside = [t for t in source.times if t >= origin + start and (end is None or t < origin + Fraction(end))]
    is_last = inside[-1] == source.times[-1]
    until = source.end if is_last else source.times[source.times.index(inside[-1]) + 1]
    borders = [*inside, until]
    count = len(inside)
    drop = options.get("tail") == "drop"
    if fps is not None:
        rate = Fraction(fps)
        span = (inside[-1] if drop else until) - inside[0]
        number = floor(span * rate) + 1 if drop else ceil(span * rate)
        times = [inside[0] + k / rate for k in range(number)]
    else:
        rate = source.rate * (1 if slow else factor)
        number = floor((count - 1) * factor) + 1 if drop else ceil(count * factor)
        times = []
        for k in range(number):
            index = floor(k / factor)
            times.append(borders[index] + (k / factor - index) * (borders[index + 1] - borders[index]))
        if slow:
            times = [inside[0] + (time - inside[0]) * factor for time in times]
    begin = max(origin, Fraction(0))
    shift = begin - inside[0]
    stop = until if not slow else inside[0] + (until - inside[0]) * factor
    if drop:
        stop = times[-1] + (times[-1] - times[-2])
    sounds = []
    for sound in () if slow else source.sounds:
        first, last = sound.begin + shift, sound.end + shift
        first = max(first, begin) if start else first
        last = min(last, stop + shift) if end is not None else last
        sounds.append(replace(sound, begin=first, end=last, hidden=min(sound.hidden + shift, first)))

    def moved(time: Fraction) -> Fraction:
        late = time - origin
        return time + shift + (late * (factor - 1) if slow and late > 0 else 0)

    return replace(
        source,
        times=tuple(time + shift for time in times),
        end=stop + shift,
        rate=rate,
        turned=False,
        interlaced=False,
        size=source.size[::-1] if source.turned and case.transposed else source.size,
        shape=1 / source.shape if source.turned and case.transposed else source.shape,
        sounds=tuple(sounds),
        chapters=tuple((title, moved(begin), moved(end)) for title, begin, end in source.chapters),
    )


def differences(wanted: Facts, found: Facts, case: Case) -> dict[str, str]:
    """Which facts of an output differ from those wanted, with both."""
    # Each stamp is the exact time rounded once to the output's clock; the input's may have been rounded before.
    slack = found.tick / 2 + DIGITS
    differ: dict[str, tuple[object, object]] = {}

    def check(name: str, one: object, other: object, *, same: bool | None = None) -> None:
        if not (one == other if same is None else same):
            differ[name] = (one, other)

    begun, due = found.times[0], wanted.times[0]
    check("start", float(due), float(begun), same=abs(due - begun) <= slack)
    check("frames", len(wanted.times), len(found.times))
    if len(wanted.times) == len(found.times):
        pairs = [(one - due, other - begun) for one, other in zip(wanted.times, found.times, strict=True)]
        one, other = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        check("times", float(one), float(other), same=abs(one - other) <= 2 * slack)
    seconds, shown = wanted.end - due, found.end - begun
    check("length", float(seconds), float(shown), same=abs(seconds - shown) <= 2 * slack + found.tick)
    # Some containers state a rate, others count; both are right where they are that of the stamps.
    by_stamps = len(wanted.times) / (wanted.end - wanted.times[0])
    same_rate = any(
        abs(rate - found.rate) <= 2 * rate * rate * found.tick / len(wanted.times) + DIGITS
        for rate in (wanted.rate, by_stamps)
    )
    check("rate", wanted.rate, found.rate, same=same_rate)
    for name in ("size", "shape", "pix_fmt", "turned", "interlaced", "subtitles", "attachments", "covers", "title"):
        check(name, getattr(wanted, name), getattr(found, name))
    for name, tag in wanted.colour.items():
        check(name, tag, found.colour[name])
    check("sound", [(s.codec, s.language) for s in wanted.sounds], [(s.codec, s.language) for s in found.sounds])
    if "sound" not in differ:
        half = 1 / (2 * found.rate)
        for one, other in zip(wanted.sounds, found.sounds, strict=True):
            near = half + max(found.tick, Fraction(1, 1000)) + case.sound_slack
            apart, meant = other.begin - begun, (one.begin - due, one.hidden - due)
            check("sound begin", float(meant[0]), float(apart), same=min(abs(apart - m) for m in meant) <= near)
            apart, ends = other.end - found.end, one.end - wanted.end
            check("sound end", float(ends), float(apart), same=abs(apart - ends) <= near)
    same_chapters = len(wanted.chapters) == len(found.chapters) and all(
        a[0] == b[0] and abs(a[1] - b[1]) <= DIGITS * 1000 and abs(a[2] - b[2]) <= DIGITS * 1000
        for a, b in zip(wanted.chapters, found.chapters, strict=False)
    )
    check("chapters", wanted.chapters, found.chapters, same=same_chapters)
    return {name: f"{one} became {other}" for name, (one, other) in differ.items()}


def judged(case: Case, folder: Path) -> Row:
    path = make_input(case, folder)
    source = facts_of(path, case.read_input)
    outputs, _ = run_case(case, path, folder)
    wanted = expected(source, case)
    wrong: list[str] = []
    both = case.options.get("mux") == "both"
    files = outputs * 2 if both else outputs
    met: dict[str, str] = {}
    made = []
    for number, output in enumerate(files):
        form = case.read_output[min(number, len(case.read_output) - 1)] if case.read_output else ()
        found = facts_of(output, form, track=number if both else 0, is_made=True)
        made.append(found)
        by_design = case.differs if number == 0 or case.differs_to is None else case.differs_to
        actual = differences(wanted, found, case)
        wrong += [f"{output.name}: {name}: {what}" for name, what in actual.items() if name not in by_design]
        wrong += [
            f"{output.name}: {name} agrees, though {why}" for name, why in by_design.items() if name not in actual
        ]
        met |= by_design
    like = ""
    if case.compared:
        factor = Fraction(case.options.get("factor", 2))
        kept = f"select=not(mod(n\\,{factor}))" if factor != 1 else "null"
        form = case.read_output[0] if case.read_output else ()
        like = likeness(path, outputs[0], (case.compared, kept), (case.read_input, form))
        if like != "exact" and float(like) < case.decibels:
            wrong.append(f"{outputs[0].name}: pictures at input frames are {like} dB from the input's")
    told = " ".join(f"`{word}`" for word in case.told)
    verdict = "; ".join(
        f"{', '.join(name for name, reason in met.items() if reason == why)}: {why}"
        for why in dict.fromkeys(met.values())
    )
    says = f"**{'; '.join(wrong)}**" if wrong else f"agrees, but by design {verdict}" if verdict else "agrees"
    shown = " + ".join(
        dict.fromkeys(
            f"{o.suffix if '%' not in o.name else o.name} {f.codec} {f.pix_fmt}"
            for o, f in zip(files, made, strict=True)
        )
    )
    pictures = like if like in ("", "exact") else f"{like} dB"
    line = f"| {case.name} | {told} | {shown} | {len(source.times)}, {len(made[0].times)} | {pictures} | {says} |"
    return Row(line, tuple(wrong))


def table(rows: Sequence[tuple[Case, Row]]) -> str:
    lines = []
    for part in dict.fromkeys(case.part for case, _ in rows):
        lines += ["", f"**{part}**", "", HEAD, *(row.line for case, row in rows if case.part == part)]
    return "\n".join(lines[1:])


def write_into(page: Path, made: str) -> None:
    """Puts the table between the marks of a page."""
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n\n{made}\n\n{MARKS[1]}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description="What ffprobe says of every kind of output.")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases in whose names a word appears")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a page with marks, between which the table goes")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    rows: list[tuple[Case, Row]] = []
    for case in CASES:
        if arguments.only and not any(word in f"{case.part}: {case.name}" for word in arguments.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = judged(case, Path(folder))
            except Exception as error:
                traceback.print_exc()
                said = f"{type(error).__name__}: {error}"
                row = Row(f"| {case.name} | | | | | **{said}** |", (said,))
        rows.append((case, row))
        for what in row.wrong:
            print(f"{case.part}: {case.name}: {what}", file=sys.stderr, flush=True)
    made = table(rows)
    wrong = sum(bool(row.wrong) for _, row in rows)
    if arguments.write is not None:
        write_into(arguments.write, made)
    print(made)
    print(f"\n{len(rows)} cases, {wrong} of them disagree")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
