"""Plans on disk: compiled networks that are valid for exactly what shaped them, and never loaded for anything else.

A plan is NAME.plan with NAME.json beside it, written in this order: without its facts a plan is none. NAME ends in a
digest of the facts; these are compared field by field all the same, and the plan's length and checksum too, before
anyone deserialises it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidtrans.engines.cache import cache_folder
from vidtrans.files import write_atomically

if sys.platform != "win32":
    import fcntl

FORMAT = 1  # of the entries, and of how plans are built; a plan of another one is never loaded
SUFFIXES = (".plan", ".json", ".lock", ".partial")


@dataclass(frozen=True)
class Facts:
    """All that shaped a plan.

    Attributes:
        network: hash of the network, see onnx_export.Graph.network_hash.
        part, precision: of it.
        frames: "128x64", the padded size of what the network sees, in pixels.
        shapes: per input its smallest, usual and largest shape.
        flavour, version: of TensorRT: "tensorrt" or "tensorrt_rtx".
        compute_capability: "8.9" of the GPU.
        gpu, processors, memory_mib, cache_kib: the GPU's name, and what tells devices of equal names apart:
            multiprocessors, memory, second-level cache. Empty for a plan that serves any GPU of its compute
            capability.
        format: see FORMAT.
    """

    network: str
    part: str
    precision: str
    frames: str
    shapes: dict[str, list[list[int]]]
    flavour: str
    version: str
    compute_capability: str
    gpu: str = ""
    processors: int = 0
    memory_mib: int = 0
    cache_kib: int = 0
    format: int = FORMAT

    @property
    def name(self) -> str:
        """File name without suffix: for people first, unique by its digest."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.part}-{self.frames}-{self.precision}-sm{self.compute_capability}-{digest[:16]}"


@dataclass(frozen=True)
class Entry:
    """A plan in the cache.

    Attributes:
        facts: what shaped it.
        about: for people: what it is a plan of.
        bytes: of the plan.
        made: seconds since 1970.
        checks: per device, in words, what a comparison with the reference found there.
    """

    facts: Facts
    about: str
    bytes: int
    sha256: str
    made: float
    checks: dict[str, str] = field(default_factory=dict)


class PlanCache:
    """The folder of plans; it need not exist, and a folder that cannot be written is a cache that keeps nothing.

    Several processes may use it at once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "plans" if folder is None else folder

    def get(self, facts: Facts, build: Callable[[], bytes], about: str = "") -> tuple[bytes, bool]:
        """The plan with these facts, and whether it was built now.

        Whoever wants a plan that another process is building waits for it.
        """
        plan = self.load(facts)
        if plan is not None:
            return plan, False
        with self._locked(facts.name):
            plan = self.load(facts)  # another process may have built it while this one waited
            if plan is not None:
                return plan, False
            plan = build()
            self._store(Entry(facts, about, len(plan), hashlib.sha256(plan).hexdigest(), time.time()), plan)
        return plan, True

    def load(self, facts: Facts) -> bytes | None:
        """The plan with exactly these facts, undamaged; None: there is none."""
        entry = self.entry(facts)
        if entry is None:
            return None
        try:
            plan = self._path(facts.name, ".plan").read_bytes()
        except OSError:
            return None
        return plan if (len(plan), hashlib.sha256(plan).hexdigest()) == (entry.bytes, entry.sha256) else None

    def entry(self, facts: Facts) -> Entry | None:
        """What is noted of the plan with exactly these facts."""
        entry = _read(self._path(facts.name, ".json"))
        return entry if entry is not None and asdict(entry.facts) == asdict(facts) else None

    def add_check(self, facts: Facts, device: str, result: str) -> None:
        """Note that the plan was compared with the reference on a device."""
        with self._locked(facts.name):
            entry = self.entry(facts)
            if entry is not None:
                entry.checks[device] = result
                self._store(entry)

    def drop(self, facts: Facts) -> None:
        """Forget a plan: it turned out wrong."""
        with self._locked(facts.name):
            for suffix in (".json", ".plan"):
                _remove(self._path(facts.name, suffix))

    def entries(self) -> list[Entry]:
        """All plans whose facts can be read, the newest first."""
        found = [_read(path) for path in self._files() if path.suffix == ".json"]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.made)

    def clear(self) -> int:
        """Remove everything; bytes that were freed. A build under way is not disturbed, its plan comes after."""
        return sum(_remove(path) for path in self._files())

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix in SUFFIXES)
        except OSError:
            return []

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    def _store(self, entry: Entry, plan: bytes | None = None) -> None:
        name = entry.facts.name
        try:
            if plan is not None:
                write_atomically(self._path(name, ".plan"), plan)
            write_atomically(self._path(name, ".json"), json.dumps(asdict(entry), indent=1).encode())
        except OSError:
            pass  # a full disk or a folder that is not ours costs a build next time, not this run

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time. Windows has no such lock; two processes then build the same plan, and one stays."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path(name, ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            yield
            return
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)  # which unlocks it, as the end of the process does


def _read(path: Path) -> Entry | None:
    try:
        row: dict[str, Any] = json.loads(path.read_bytes())
        return Entry(facts=Facts(**row.pop("facts")), **row)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _remove(path: Path) -> int:
    """Bytes freed."""
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError:
        return 0
    return size
