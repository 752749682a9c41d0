"""Damaged and forged videos through the whole tool: nothing may hang, crash the interpreter or leave a broken output.

    python benchmarks/fuzz.py [--count 2000] [--seed 0] [--workers 2] [--keep FOLDER] [--only mp4-h264:123 ...]

Small clips of the common containers and codecs, made by the ffmpeg program, are mutated (cut off, bits flipped,
headers edited, pieces swapped, doubled, removed, overwritten, filled in) and run from the reader through a tiny network
into two files. Several mutants share a child process, which is killed where one takes longer than --seconds. A mutant
is named CLIP:SEED, which is all it takes to make it again: --only runs it alone, --keep leaves the files that failed in
a folder.

A mutant passes when it is refused with one of our own errors and nothing stands under the outputs' names, or when both
outputs can be read back and hold as many frames as the run says. Exit code 1 where any did not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

# name -> what ffmpeg is told after its inputs; the first part of a name is the extension.
CLIPS: dict[str, tuple[str, ...]] = {
    "mp4-h264": ("-c:v", "libx264", "-g", "6", "-c:a", "aac"),
    "mp4-fragments": ("-c:v", "libx264", "-g", "6", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "mp4-hevc": ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=6", "-c:a", "aac"),
    "mp4-av1": ("-c:v", "libsvtav1", "-preset", "12", "-g", "6", "-an"),
    "mov-mjpeg": ("-c:v", "mjpeg", "-c:a", "pcm_s16le"),
    "mov-prores": ("-c:v", "prores_ks", "-c:a", "pcm_s16le"),
    "mkv-h264": ("-c:v", "libx264", "-g", "6", "-c:a", "aac"),
    "mkv-ffv1": ("-c:v", "ffv1", "-level", "3", "-c:a", "flac"),
    "mkv-hevc": ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=6", "-an"),
    "webm-vp9": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "6", "-c:a", "libopus"),
    "webm-vp8": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "6", "-an"),
    "ts-h264": ("-c:v", "libx264", "-g", "6", "-c:a", "aac"),
    "ts-mpeg2": ("-c:v", "mpeg2video", "-g", "6", "-bf", "2", "-c:a", "mp2"),
    "avi-mpeg4": ("-c:v", "mpeg4", "-g", "6", "-bf", "2", "-c:a", "mp3"),
    "avi-h264": ("-c:v", "libx264", "-g", "6", "-an"),
    "nut-ffv1": ("-c:v", "ffv1", "-c:a", "pcm_s16le"),
    "flv-h264": ("-c:v", "libx264", "-g", "6", "-c:a", "aac"),
    "mpg-mpeg2": ("-c:v", "mpeg2video", "-g", "6", "-c:a", "mp2"),
    "gif-gif": ("-an",),
    "y4m-raw": ("-an",),
}
SIZE, FRAMES = (64, 64), 16
MAX_PIXELS = 1 << 20  # what is larger by a lie would only take time here
MUTANTS_PER_CHILD = 50

Mutation = Callable[[bytearray, random.Random], None]


def _place(data: bytearray, choose: random.Random) -> int:
    return choose.randrange(max(1, len(data)))


def _length(data: bytearray, choose: random.Random) -> int:
    return int(min(len(data) / 3, 2 ** choose.uniform(0, 13))) + 1


def cut_off(data: bytearray, choose: random.Random) -> None:
    del data[_place(data, choose) :]


def flip_bits(data: bytearray, choose: random.Random) -> None:
    for _ in range(1 << choose.randrange(8)):
        if data:
            data[_place(data, choose)] ^= 1 << choose.randrange(8)


def edit_header(data: bytearray, choose: random.Random) -> None:
    """Bytes and 32-bit numbers of the front, or of the back, where some containers have their index."""
    reach = min(len(data), 2048)
    for _ in range(1 << choose.randrange(4)):
        if reach < 4:
            return
        place = choose.randrange(reach - 3)
        place = place if choose.random() < 0.6 else len(data) - 4 - place
        if choose.random() < 0.5:
            data[place] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        else:
            number = choose.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, choose.randrange(1 << 32)))
            data[place : place + 4] = number.to_bytes(4, choose.choice(("big", "little")))


def swap_pieces(data: bytearray, choose: random.Random) -> None:
    length = _length(data, choose)
    one, two = sorted((_place(data, choose), _place(data, choose)))
    if one + length <= two:
        data[one : one + length], data[two : two + length] = data[two : two + length], data[one : one + length]


def double_piece(data: bytearray, choose: random.Random) -> None:
    place, length = _place(data, choose), _length(data, choose)
    target = _place(data, choose)
    data[target:target] = data[place : place + length]


def remove_piece(data: bytearray, choose: random.Random) -> None:
    place = _place(data, choose)
    del data[place : place + _length(data, choose)]


def overwrite(data: bytearray, choose: random.Random) -> None:
    place = _place(data, choose)
    length = min(_length(data, choose), len(data) - place)
    data[place : place + length] = choose.choice((bytes(length), b"\xff" * length, choose.randbytes(length)))


def fill_in(data: bytearray, choose: random.Random) -> None:
    place = _place(data, choose)
    data[place:place] = choose.randbytes(_length(data, choose))


MUTATIONS: tuple[Mutation, ...] = (
    cut_off,
    flip_bits,
    flip_bits,
    edit_header,
    edit_header,
    swap_pieces,
    double_piece,
    remove_piece,
    overwrite,
    fill_in,
)


def mutate(clip: bytes, name: str, seed: int) -> bytes:
    """The mutant of that clip and seed; the same wherever it is made."""
    choose, data = random.Random(f"{name}:{seed}"), bytearray(clip)
    for mutation in choose.choices(MUTATIONS, k=choose.choice((1, 1, 1, 2, 3))):
        mutation(data, choose)
    return bytes(data)


def make_clips(folder: Path, names: Sequence[str] = tuple(CLIPS)) -> dict[str, bytes]:
    """Every clip that this ffmpeg can make."""
    width, height = SIZE
    inputs = ("-f", "lavfi", "-i", f"testsrc2=s={width}x{height}:r=25", "-f", "lavfi", "-i", "sine=r=48000")
    clips = {}
    for name in names:
        path = folder / f"{name}.{name.split('-')[0]}"
        end = ("-pix_fmt", "yuv420p", "-frames:v", str(FRAMES), "-t", str(FRAMES / 25))
        arguments = (*inputs, *CLIPS[name], *(end[2:] if name.startswith(("gif", "mov-prores")) else end))
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments, "-bitexact", str(path)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            print(f"left out: {name}, {done.stderr.decode(errors='replace').splitlines()[:1]}", file=sys.stderr)
        else:
            clips[name] = path.read_bytes()
    return clips


# The child


def run_mutant(mutant: Path, folder: Path) -> str:
    """What became of it, in a word or, where it did not pass, a sentence."""
    from vidtrans.errors import VidtransError
    from vidtrans.options import UpsampleOptions
    from vidtrans.pipeline import run
    from vidtrans.video.encoder import EncoderOptions

    outputs = folder / "out.mp4", folder / "to.mp4"
    options = UpsampleOptions(
        mutant,
        "segmentation",
        factor=2,
        output=outputs[0],
        output_to=outputs[1],
        engine="torch",
        size=(36, 36),
        motion="none",
        max_pixels=MAX_PIXELS,
        encoder=EncoderOptions(preset="ultrafast", threads=1),
    )
    try:
        summary = run(options, model=tiny_model())
    except VidtransError as error:
        left = [path.name for path in outputs if path.exists()]
        if left:
            return f"PARTIAL: {left} after: {error}"
        return "refused" if "\n" not in str(error) else f"UNCLEAR: {error!r}"
    except Exception as error:
        return f"RAISED: {type(error).__name__}: {error}"
    for path in outputs:
        if (count := counted(path)) != summary.frames_out:
            return f"PARTIAL: {count} frames in {path.name}, not {summary.frames_out}"
    damage = ("damaged", "frames left out", "pictures are skipped")
    return "damaged" if any(word in note for note in summary.notes for word in damage) else "whole"


def tiny_model(known: list[object] = []) -> object:  # noqa: B006 (made once)
    """The smallest network that there is."""
    import torch

    from vidtrans.checkpoint import Model
    from vidtrans.nets.contract import Domain
    from vidtrans.nets.jwdm import JWDM, JWDMConfig

    if not known:
        torch.manual_seed(0)
        domains = (Domain("scene"), Domain("segmentation", "label", "street"))
        known.append(Model(JWDM(JWDMConfig(domains, 2, 2, 1, trained_size=(36, 36))).eval().requires_grad_(False)))
    return known[0]


def counted(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def child() -> None:
    """Takes lines [mutant, folder] and answers each with a line: what became of it, and the peak memory in MiB."""
    import resource

    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    tiny_model()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        mutant, folder = json.loads(line)
        for old in Path(folder).iterdir():  # also what a run that failed late has finished, to be continued
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        result = run_mutant(Path(mutant), Path(folder))
        answers.write(json.dumps([result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10]) + "\n")
        answers.flush()


# The parent


@dataclass(frozen=True)
class Result:
    """One mutant: its name, what became of it, how long it took and its child's peak memory so far."""

    name: str
    outcome: str
    seconds: float
    mebibytes: int

    @property
    def passed(self) -> bool:
        return self.outcome in ("refused", "damaged", "whole")


class Child:
    """A child process that can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._buffer = b""
        self._line(300)

    def ask(self, mutant: Path, folder: Path, seconds: float) -> tuple[str, int]:
        """What became of the mutant; after HUNG and CRASHED the child is gone."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps([str(mutant), str(folder)]).encode() + b"\n")
            stdin.flush()
            line = self._line(seconds)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.end()
            return f"HUNG: longer than {seconds:g} s", 0
        if not line:
            code = self._process.wait()
            return f"CRASHED: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}", 0
        outcome, mebibytes = json.loads(line)
        return outcome, mebibytes

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self, seconds: float) -> bytes | None:
        """A line; None: not in time; empty: the child has ended."""
        stdout: IO[bytes] | None = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            more = os.read(stdout.fileno(), 65536)
            if not more:
                return b""
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def run_batch(
    batch: Sequence[tuple[str, int]], clips: dict[str, bytes], seconds: float, keep: Path | None
) -> list[Result]:
    """Some mutants, one child after another."""
    results, process = [], None
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder) / "out"
        outputs.mkdir()
        for name, seed in batch:
            mutant = Path(folder) / f"{name}.{seed}.{name.split('-')[0]}"
            mutant.write_bytes(mutate(clips[name], name, seed))
            process = process or Child()
            begin = time.monotonic()
            outcome, mebibytes = process.ask(mutant, outputs, seconds)
            result = Result(f"{name}:{seed}", outcome, time.monotonic() - begin, mebibytes)
            results.append(result)
            if outcome.startswith(("HUNG", "CRASHED")):
                process = None
            if not result.passed and keep is not None:
                mutant.rename(keep / mutant.name)
            mutant.unlink(missing_ok=True)
        if process is not None:
            process.end()
    return results


def fuzz(
    mutants: Sequence[tuple[str, int]],
    clips: dict[str, bytes],
    *,
    seconds: float = 30,
    workers: int = 1,
    keep: Path | None = None,
) -> Iterator[Result]:
    """The mutants' results, batch by batch."""
    batches = [mutants[begin : begin + MUTANTS_PER_CHILD] for begin in range(0, len(mutants), MUTANTS_PER_CHILD)]
    with ThreadPoolExecutor(workers) as pool:
        for results in pool.map(partial(run_batch, clips=clips, seconds=seconds, keep=keep), batches):
            yield from results


def spread(names: Sequence[str], count: int, seed: int) -> list[tuple[str, int]]:
    """So many mutants, over all clips alike."""
    return [(names[number % len(names)], seed + number // len(names)) for number in range(count)]


def table(results: Sequence[Result]) -> str:
    lines = ["| clip | mutants | refused | damaged | whole | failed | longest, s |", "|---|---|---|---|---|---|---|"]
    by_clip: dict[str, list[Result]] = {}
    for result in results:
        by_clip.setdefault(result.name.split(":")[0], []).append(result)
    for name, group in [*by_clip.items(), ("all", list(results))]:
        counts = Counter(result.outcome if result.passed else "failed" for result in group)
        kinds = " | ".join(str(counts[kind]) for kind in ("refused", "damaged", "whole", "failed"))
        lines.append(f"| {name} | {len(group)} | {kinds} | {max(result.seconds for result in group):.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged and forged videos through the whole tool.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30, help="limit of one mutant")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the mutants that failed")
    parser.add_argument("--only", nargs="+", metavar="CLIP:SEED", help="these mutants")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child()
        return 0
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    began, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        chosen = [(name, int(seed)) for name, _, seed in (text.rpartition(":") for text in arguments.only or ())]
        clips = make_clips(Path(folder), list(dict.fromkeys(name for name, _ in chosen)) or tuple(CLIPS))
        mutants = chosen or spread(list(clips), arguments.count, arguments.seed)
        for result in fuzz(mutants, clips, seconds=arguments.seconds, workers=arguments.workers, keep=arguments.keep):
            results.append(result)
            if not result.passed or chosen:
                print(f"{result.name}: {result.outcome} ({result.seconds:.1f} s)", flush=True)
    print(table(results))
    print(f"{time.monotonic() - began:.0f} s, largest child {max(result.mebibytes for result in results)} MiB")
    return int(any(not result.passed for result in results))


if __name__ == "__main__":
    sys.exit(main())
