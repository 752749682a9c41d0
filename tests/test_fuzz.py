"""A hundred damaged and forged videos through the whole tool; benchmarks/fuzz.py runs thousands."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
COUNT = 100


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_nothing_hangs_crashes_or_leaves_a_broken_output(
    fuzz: ModuleType, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clips = fuzz.make_clips(tmp_path)
    assert len(clips) > len(fuzz.CLIPS) / 2
    mutants = fuzz.spread(list(clips), COUNT, seed=1_000_000)
    results = list(fuzz.fuzz(mutants, clips, seconds=30))
    assert [result.name for result in results] == [f"{name}:{seed}" for name, seed in mutants]
    assert [f"{result.name}: {result.outcome}" for result in results if not result.passed] == []
    assert len({result.outcome for result in results}) == 3  # refused, damaged and whole ones: the mutants differ


def test_a_mutant_is_made_again_from_its_name(fuzz: ModuleType) -> None:
    clip = bytes(range(256)) * 20
    made = [fuzz.mutate(clip, "mp4-h264", seed) for seed in range(50)]
    assert made == [fuzz.mutate(clip, "mp4-h264", seed) for seed in range(50)]
    assert len(set(made)) > 45
    assert fuzz.mutate(clip, "mkv-h264", 0) != made[0]


STUBBORN = """
import json, os, signal, sys, time
print("ready", flush=True)
for line in sys.stdin:
    mutant, folder = json.loads(line)
    what = open(mutant).read()
    if what == "hang":
        time.sleep(1000)
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    print(json.dumps([what, 1]), flush=True)
"""


def test_a_child_that_hangs_or_crashes_is_named_and_replaced(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "child.py").write_text(STUBBORN)
    monkeypatch.setattr(fuzz, "__file__", str(tmp_path / "child.py"))
    monkeypatch.setattr(fuzz, "mutate", lambda clip, name, seed: clip)
    words = ["whole", "hang", "refused", "crash", "PARTIAL", "whole"]
    mutants = [(f"x-{number}", number) for number in range(len(words))]
    clips = {f"x-{number}": word.encode() for number, word in enumerate(words)}
    results = list(fuzz.fuzz(mutants, clips, seconds=2, keep=tmp_path))
    assert [result.outcome.split(":")[0] for result in results] == [
        *("whole", "HUNG", "refused", "CRASHED", "PARTIAL", "whole")
    ]
    assert "SIGSEGV" in results[3].outcome
    assert [result.passed for result in results] == [True, False, True, False, False, True]
    kept = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("x-"))
    assert kept == ["x-1.1.x", "x-3.3.x", "x-4.4.x"]
