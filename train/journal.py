"""What a run writes down while it goes: TensorBoard, train.jsonl, and pictures as PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vidtrans.files import write_atomically

LOG = "train.jsonl"
SAMPLES = "samples"  # STEP.png: pictures.samples, STEP.between.png: pictures.between


class Journal:
    """Writes below a run's folder; TensorBoard only where it is installed (extra `train`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._board: Any = None
        self._next = 0  # step of the first point that TensorBoard shall show of this session

    def scalars(self, step: int, numbers: dict[str, float]) -> None:
        """One line of train.jsonl, {"step": step, **numbers}, and one point of every TensorBoard curve."""
        with (self._folder / LOG).open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        board = self._opened()
        if board is not None:
            for name, value in numbers.items():
                board.add_scalar(name, value, step)

    def picture(self, step: int, picture: Tensor, kind: str = "") -> None:
        """samples/STEP.png, or STEP.KIND.png; picture: (3, H, W) uint8."""
        path = self._folder / SAMPLES / f"{step:07d}{'.' if kind else ''}{kind}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture.movedim(0, -1).numpy()).save(path)
        board = self._opened()
        if board is not None:
            board.add_image(kind or "samples", picture, step)

    def go_back(self, step: int) -> None:
        """Forget what was logged after a step: a killed run has logged more than it has saved."""
        path = self._folder / LOG
        if path.is_file():
            rows = [row for row in read_log(self._folder) if row["step"] <= step]
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._next = step + 1

    def close(self) -> None:
        """Put everything on disk; the next point opens TensorBoard again."""
        if self._board is not None:
            self._board.close()
            self._board, self._next = None, 0

    def _opened(self) -> Any:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._next or None)
        return self._board


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's train.jsonl, without the one that a kill or a full disk has cut off."""
    try:
        lines = (folder / LOG).read_text(errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
