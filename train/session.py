"""run.json: when and on what a run was trained, session by session, each from its start or resume to its end."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vidtrans import __version__
from vidtrans.errors import VidtransError
from vidtrans.files import write_atomically

RUN = "run.json"


class Sessions:
    """The sessions of one run folder, which exists; times are seconds since 1970."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._path = folder / RUN
        self._device = device
        self._rows: list[dict[str, Any]] = []

    @contextmanager
    def one(self, step: Callable[[], int], total: int) -> Iterator[None]:
        """A session: written down now, and again when it ends, with why."""
        self._rows = read_sessions(self._path.parent)
        row = {"started": time.time(), "from_step": step(), "total": total, **machine(self._device), **versions()}
        self._rows.append(row)
        self.note(step())
        ended = "interrupted"
        try:
            yield
            ended = "finished" if step() == total else "paused"
        except VidtransError as error:
            ended = str(error)
            raise
        finally:
            row["ended"] = ended
            self.note(step())

    def note(self, step: int) -> None:
        """The session has come to this step."""
        self._rows[-1] |= {"step": step, "until": time.time()}
        write_atomically(self._path, json.dumps({"sessions": self._rows}, indent=1).encode())


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions of a run folder so far; none where there is no run.json that can be read."""
    try:
        rows = json.loads((folder / RUN).read_bytes())["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def machine(device: torch.device) -> dict[str, Any]:
    """What the run is computed on."""
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        computes = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    else:
        computes = f"{processor()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
    return {"device": computes, "system": f"{platform.system()} {platform.machine()}"}


def processor() -> str:
    """The CPU's name as Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what computes."""
    found = {"vidtrans": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in ("torchvision", "kornia", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": ", ".join(f"{name} {version}" for name, version in found.items())}
