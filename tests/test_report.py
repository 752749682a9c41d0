"""What a run is watched by: its page holds what its files hold and nothing from elsewhere; pictures are the papers'."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vidtrans.checkpoint import load_model
from vidtrans.errors import OutputError, UsageError
from vidtrans.train import held_back, pictures
from vidtrans.train.charts import Curve, chart
from vidtrans.train.loop import Run
from vidtrans.train.recipe import parse_recipe
from vidtrans.train.report import finish, write_report

TABLE: dict[str, Any] = {
    "domains": [
        {"name": "scene", "data": "street:scene"},
        {"name": "labels", "kind": "label", "palette": "street", "data": "street:segmentation"},
    ],
    "net": {"width": 2, "latent_channels": 2, "blocks": 1},
    "data": {"size": [40, 36], "street_frames": 4, "street_frames_per_seed": 2, "test_share": 0.5},
    "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 2},
    "train": {
        "batch": 1,
        "constant": 4,
        "decay": 0,
        "unit": "steps",
        "save_every": 2,
        "sample_every": 2,
        "log_every": 1,
    },
    "keep": {"best": "cycle"},
}


class Page(HTMLParser):
    """A page taken apart: texts, and what its elements refer to; every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with its page."""
    folder = tmp_path_factory.mktemp("runs") / "a<b>&c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_back, "REPORT_SEEDS", range(8_600_000, 8_600_002))
        run = Run(parse_recipe(TABLE), folder)
        run.advance()
        assert finish(run) == folder / "report.html"
    return run


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """The run's folder, to be spoiled."""
    return Path(shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_holds_everything_and_refers_to_nothing(run: Run) -> None:
    page = page_of(run.folder)
    text = (run.folder / "report.html").read_text()
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import|<script", text)
    shown = {base64.b64decode(link.partition(",")[2]) for link in page.links}
    assert shown == {path.read_bytes() for path in (run.folder / "samples").iterdir()}
    assert "a<b>&c" in page.text
    for part in (
        "Finished",
        "4 of 4 steps",
        "Held-out figures",
        "Sessions",
        'data = "street:scene"',
        "test_share = 0.5",
    ):
        assert part in page.text
    assert "seeds from 8,600,000; the streets of vidtrans evaluate are others" in page.text
    # A chart for each kind of loss, for the score, and for each speed.
    assert page.tags.count("svg") == 4 + 1 + 3


def test_the_figures_of_the_page_are_those_of_the_model(run: Run) -> None:
    quality = load_model(run.folder).quality
    page = page_of(run.folder)
    assert quality.keys() == {"scene", "labels", "scene to labels", "labels to scene", "measured_on"}
    for name in ("scene", "labels", "scene to labels", "labels to scene"):
        for value in quality[name].values():
            assert f"{value:.3f}" in page.text
    assert 0 < quality["scene to labels"]["accuracy"] < 1
    # By hand: the reconstruction of the scene on the same two streets.
    net, errors = load_model(run.folder).net, []
    for seed in (8_600_000, 8_600_001):
        picture = held_back.StreetView("scene", seed).picture(held_back.INSTANT, 40, 36)
        x = torch.from_numpy(picture)[None].movedim(-1, 1) / 127.5 - 1
        with torch.no_grad():
            errors.append(float((net.decode(net.encode(x, "scene"), "scene") - x).abs().mean()))
    assert quality["scene"]["reconstruction_l1"] == pytest.approx(np.mean(errors), abs=1e-4)


def test_a_page_can_be_made_of_a_run_in_any_state(copy: Path, tmp_path: Path) -> None:
    sessions = json.loads((copy / "run.json").read_text())
    for ended, words in (("stopped by SIGTERM at step 2", "stopped by SIGTERM"), (None, "Running, or killed")):
        sessions["sessions"][-1]["ended"] = ended
        (copy / "run.json").write_text(json.dumps(sessions))
        write_report(copy)
        assert words in page_of(copy).text
    with (copy / "train.jsonl").open("a") as log:
        log.write('{"step": 5, "rx": NaN}\n{"step": 6, "r')
    for name in ("model.safetensors", "run.json"):
        (copy / name).write_bytes(b"broken")
    shutil.rmtree(copy / "samples")
    write_report(copy)
    assert "has not begun" in page_of(copy).text
    (copy / "train.jsonl").unlink()
    write_report(copy)
    assert "svg" not in page_of(copy).tags
    (copy / "report.html").unlink()
    (copy / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(copy)
    (copy / "recipe.json").write_text("{")
    for folder in (copy, tmp_path):
        with pytest.raises(UsageError, match="not a run folder"):
            write_report(folder)


@torch.no_grad()
def test_pictures_are_the_papers_compositions(run: Run) -> None:
    net, names = run.average, ["scene", "labels"]
    moments = [pictures.moments(row, frames, (40, 36), run.device) for row, frames in
               zip(run.recipe.domains, run.frames, strict=True)]  # fmt: skip
    picture = pictures.between(net, moments, names).float() / 127.5 - 1
    assert picture.shape == (3, 6 * 38 + 2, 5 * 42 + 2)

    def cell(row: int, column: int) -> torch.Tensor:
        top, left = 2 + 38 * row, 2 + 42 * column
        return picture[:, top : top + 36, left : left + 40]

    for row, frames, here, there in ((0, moments[0], *names), (3, moments[1], *names[::-1])):
        left, right = net.encode(frames[[0, -1]], here).chunk(2)
        for column in range(5):
            z = (1 - column / 4) * left + column / 4 * right
            for number, wanted in enumerate((frames[column], net.decode(z, here)[0], net.decode(z, there)[0])):
                torch.testing.assert_close(cell(row + number, column), wanted, rtol=0, atol=0.005)
    with Image.open(run.folder / "samples" / "0000004.between.png") as saved:
        assert np.array_equal(np.asarray(saved), ((picture + 1) * 127.5).round().movedim(0, -1).numpy())


def test_tensorboard_has_every_step_once_after_a_return(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step in (None, 2):
        run = Run(parse_recipe(TABLE | {"keep": {}}), tmp_path)
        if step is not None:
            run.resume(step)
        run.advance()
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [point.step for point in board.Scalars("rx")] == [1, 2, 3, 4]
    assert board.Tags()["images"] == ["samples", "between"]


def test_charts() -> None:
    svg = chart("Loss", [Curve("a & b", [(float(k), 1.0 / k) for k in range(1, 2000)]), Curve("c", [(5.0, -1.0)])])
    page = Page(svg)
    assert page.tags.count("polyline") == 4
    assert "a & b" in page.text
    longest = max(re.findall(r'points="([^"]*)"', svg), key=len).split()
    assert len(longest) <= 240
    for x, y in (point.split(",") for points in re.findall(r'points="([^"]*)"', svg) for point in points.split()):
        assert 0 <= float(x) <= 440
        assert 0 <= float(y) <= 210
    for constant in (0.0, 3.0, -2e-9, 4e7):
        Page(chart("x", [Curve("c", [(1.0, constant), (2.0, constant)])], smooth=False))
    assert chart("x", [Curve("nothing", [])]) == ""
