"""A plan is used for exactly what shaped it, or built anew."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from vidtrans.engines.plan_cache import Facts, PlanCache

FACTS = Facts(
    network="0" * 64,
    part="finish",
    precision="fp16",
    frames="64x48",
    shapes={"lifted_scene": [[1, 8, 12, 16], [4, 8, 12, 16], [8, 8, 12, 16]]},
    flavour="tensorrt",
    version="11.4.0",
    compute_capability="8.9",
    gpu="NVIDIA GeForce RTX 4090",
    processors=128,
    memory_mib=24564,
    cache_kib=73728,
)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def never() -> bytes:
    pytest.fail("built again")


def test_a_plan_is_built_once(cache: PlanCache) -> None:
    assert cache.get(FACTS, lambda: b"plan", "street: scene to labels") == (b"plan", True)
    assert PlanCache(cache.folder).get(FACTS, never) == (b"plan", False)
    (entry,) = cache.entries()
    assert (entry.facts, entry.about, entry.bytes) == (FACTS, "street: scene to labels", 4)
    assert FACTS.name.startswith("finish-64x48-fp16-sm8.9-")


@pytest.mark.parametrize(
    "change",
    [
        {"network": "1" * 64},
        {"part": "finish_normed"},
        {"precision": "bf16"},
        {"frames": "60x48"},
        {"shapes": {"lifted_scene": [[1, 8, 12, 16], [4, 8, 12, 16], [9, 8, 12, 16]]}},
        {"flavour": "tensorrt_rtx"},
        {"version": "11.4.1"},
        {"compute_capability": "12.0"},
        {"gpu": "NVIDIA GeForce RTX 4090 D"},
        {"processors": 114},
        {"memory_mib": 49140},
        {"cache_kib": 1},
        {"format": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_fact_makes_another_plan(cache: PlanCache, change: dict[str, Any]) -> None:
    other = dataclasses.replace(FACTS, **change)
    cache.get(FACTS, lambda: b"plan")
    assert other.name != FACTS.name
    assert cache.load(other) is None
    # Not even under the other one's name: facts are read, not names.
    for suffix in (".plan", ".json"):
        (cache.folder / f"{FACTS.name}{suffix}").rename(cache.folder / f"{other.name}{suffix}")
    assert cache.load(other) is None
    assert cache.get(other, lambda: b"other") == (b"other", True)


def test_every_field_of_the_facts_is_tried_above() -> None:
    names = {
        name
        for mark in test_every_fact_makes_another_plan.pytestmark  # type: ignore[attr-defined]
        for change in mark.args[1]
        for name in change
    }
    assert names == {field.name for field in dataclasses.fields(Facts)}


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "no plan", "no facts", "facts cut", "facts not facts"])
def test_a_damaged_plan_is_built_again(cache: PlanCache, damage: str) -> None:
    cache.get(FACTS, lambda: b"plan " * 100)
    plan, facts = (cache.folder / f"{FACTS.name}{suffix}" for suffix in (".plan", ".json"))
    if damage == "flipped":
        plan.write_bytes(b"plaN " + plan.read_bytes()[5:])
    elif damage in ("short", "empty"):
        plan.write_bytes(plan.read_bytes()[: 20 if damage == "short" else 0])
    elif damage == "facts cut":
        facts.write_bytes(facts.read_bytes()[:40])
    elif damage == "facts not facts":
        facts.write_text(json.dumps(["facts"]))
    else:
        (plan if damage == "no plan" else facts).unlink()
    assert cache.load(FACTS) is None
    assert cache.get(FACTS, lambda: b"again") == (b"again", True)
    assert cache.get(FACTS, never) == (b"again", False)


def test_a_build_that_fails_leaves_nothing(cache: PlanCache) -> None:
    def fail() -> bytes:
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        cache.get(FACTS, fail)
    assert cache.entries() == []
    assert cache.get(FACTS, lambda: b"plan") == (b"plan", True)
    assert not list(cache.folder.glob(".*"))


def test_checks_are_kept_with_the_plan_and_a_wrong_plan_is_dropped(cache: PlanCache) -> None:
    cache.get(FACTS, lambda: b"plan")
    cache.add_check(FACTS, "this GPU", "0.2 %")
    entry = cache.entry(FACTS)
    assert entry is not None
    assert entry.checks == {"this GPU": "0.2 %"}
    assert cache.get(FACTS, never) == (b"plan", False)
    cache.drop(FACTS)
    assert cache.load(FACTS) is None
    assert cache.entries() == []


def test_clear_says_how_many_bytes_and_leaves_what_is_not_ours(cache: PlanCache) -> None:
    assert cache.clear() == 0
    cache.get(FACTS, lambda: b"x" * 1000)
    (cache.folder / "notes.txt").write_text("mine")
    assert cache.clear() >= 1000
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert PlanCache(tmp_path / "plans").get(FACTS, lambda: b"plan") == (b"plan", True)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("")
    cache = PlanCache(tmp_path / "plans")
    assert cache.get(FACTS, lambda: b"plan") == (b"plan", True)
    assert cache.entries() == []


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    assert PlanCache().folder == tmp_path / "plans"


def _build_slowly(folder: Path, number: int, begin: Any, results: Any) -> None:
    def build() -> bytes:
        time.sleep(0.5)
        return f"plan of process {number}".encode()

    begin.wait()
    results.put(PlanCache(folder).get(FACTS, build))


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_build_slowly, args=(tmp_path / "plans", number, begin, results)) for number in range(2)
    ]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert sorted(built for _, built in got) == [False, True]
    assert len({plan for plan, _ in got}) == 1
