"""Runs that are not lost: stopped, killed, broken or out of disk, they go on as if nothing had been."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vidtrans import cli
from vidtrans.checkpoint import load_model
from vidtrans.errors import InputError, OutputError, TrainingDiverged, TrainingStopped, UsageError
from vidtrans.train import held_back as held_back_module
from vidtrans.train.health import Health
from vidtrans.train.journal import read_log
from vidtrans.train.keep import BEST, CHECKPOINTS, MODEL, STATE, Keeper, saved_step
from vidtrans.train.keep_options import KeepOptions
from vidtrans.train.loop import Run
from vidtrans.train.recipe import Recipe, parse_recipe
from vidtrans.train.session import read_sessions
from vidtrans.train.signals import Stop

TABLE: dict[str, Any] = {
    "domains": [{"name": "summer", "data": "street:summer"}, {"name": "winter", "data": "street:winter"}],
    "net": {"width": 2, "latent_channels": 2, "blocks": 1},
    "data": {"size": [40, 36], "street_frames": 4, "street_frames_per_seed": 2},
    "loss": {"discriminator": "patch70", "discriminator_width": 2, "latent_discriminator_width": 2},
    "train": {
        "batch": 1,
        "constant": 4,
        "decay": 4,
        "unit": "steps",
        "save_every": 2,
        "sample_every": 8,
        "log_every": 1,
    },
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    return parse_recipe({**TABLE, **{name: TABLE.get(name, {}) | changes for name, changes in sections.items()}})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    Run(recipe(), folder, cache=cache).advance()
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    """Weights, optimisers, model and log are those of the uninterrupted run."""
    for name in (STATE, MODEL):
        one, other = load_file(folder / name), load_file(whole / name)
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert torch.equal(tensor, other[key]), (name, key)
    speeds = {"steps_per_second", "frames_per_second", "data_wait"}
    one, other = ([{key: row[key] for key in row.keys() - speeds} for row in read_log(run)] for run in (folder, whole))
    assert one == other


def resumed(folder: Path, cache: Path, step: int | None = None) -> Run:
    run = Run(recipe(), folder, cache=cache)
    run.resume(step)
    run.advance()
    return run


CHILD = """
import json, os, signal, sys
from pathlib import Path
import vidtrans.files
from vidtrans.train.keep import STATE
from vidtrans.train.loop import Run
from vidtrans.train.recipe import parse_recipe

run = Run(parse_recipe(json.loads(sys.argv[1])), Path(sys.argv[2]), cache=Path(sys.argv[3]))
replace = os.replace
def dying(source, target):  # the new checkpoint is written, but not in its place yet
    if Path(target).name == STATE and run.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
vidtrans.files.os.replace = dying
run.advance()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_resumed_equals_an_uninterrupted_one(tmp_path: Path, cache: Path, whole: Path) -> None:
    arguments = [sys.executable, "-c", CHILD, json.dumps(TABLE), tmp_path, cache]
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert saved_step(tmp_path / STATE) == 2
    assert len(read_log(tmp_path)) == 4
    assert "ended" not in read_sessions(tmp_path)[-1]
    assert list(tmp_path.glob(".*.partial"))
    with (tmp_path / "train.jsonl").open("a") as log:
        log.write('{"step": 5, "rx": 0.1')  # and cut off in the middle
    resumed(tmp_path, cache)
    assert not list(tmp_path.glob(".*.partial"))
    assert_same_run(tmp_path, whole)
    assert [row.get("ended") for row in read_sessions(tmp_path)] == [None, "finished"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_stops_and_the_rest_equals_an_uninterrupted_run(
    tmp_path: Path, cache: Path, whole: Path, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    run = Run(recipe(), tmp_path, cache=cache)
    with pytest.raises(TrainingStopped, match=f"{number.name} at step 3.*--resume") as stopped:
        run.advance(show=lambda progress: os.kill(os.getpid(), number) if progress.step == 3 else None)
    assert stopped.value.exit_code == 6
    assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert saved_step(tmp_path / STATE) == 3
    resumed(tmp_path, cache)
    assert_same_run(tmp_path, whole)


def test_a_second_interrupt_stops_at_once(tmp_path: Path, cache: Path) -> None:
    def twice(_: object) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        Run(recipe(), tmp_path, cache=cache, report=heard.append).advance(show=twice)
    assert len(heard) == 1
    assert read_sessions(tmp_path)[-1]["ended"] == "interrupted"


def test_ranks_stop_together_where_they_meet() -> None:
    from torch import distributed

    stop = Stop()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        assert not stop.asked(meeting=True)
        stop.name = "SIGTERM"
        assert not stop.asked(meeting=False)
        assert stop.asked(meeting=True)
    finally:
        distributed.destroy_process_group()
    assert stop.asked(meeting=False)


def test_the_last_checkpoints_are_kept_and_one_can_go_back(tmp_path: Path, cache: Path, whole: Path) -> None:
    run = Run(recipe(), tmp_path, cache=cache)
    run.advance()
    assert run.keeper.steps() == [4, 6]
    for step in (4, 6):
        kept = tmp_path / CHECKPOINTS / f"{step:07d}"
        assert load_model(kept).trained["step"] == saved_step(kept / STATE) == step
    with pytest.raises(InputError, match="4, 6"):
        run.resume(3)
    again = Run(recipe(), tmp_path, cache=cache)
    again.resume(4)
    assert [row["step"] for row in read_log(tmp_path)] == [1, 2, 3, 4]
    again.advance(5)
    assert again.keeper.steps() == [4]  # 6 is of another future
    resumed(tmp_path, cache)
    assert_same_run(tmp_path, whole)
    none = Run(recipe(keep={"last": 0}), tmp_path / "none", cache=cache)
    none.advance()
    assert not none.keeper.steps()


@pytest.mark.parametrize("links", [True, False])
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, cache: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    resource = pytest.importorskip("resource")
    if not links:  # a file system without hard links

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", refuse)
    run = Run(recipe(), tmp_path, cache=cache)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond half a state: what is open gets "File too large", as it would "No space left".
    size = None

    def fill(progress: Any) -> None:
        nonlocal size
        if progress.step == 4:
            size = (tmp_path / STATE).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))

    try:
        with pytest.raises(OutputError, match=r"step 4 cannot be saved.*of step 2.*--resume") as full:
            run.advance(show=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full.value.exit_code == 5
    assert saved_step(tmp_path / STATE) == 2
    assert not list(tmp_path.glob(".*.partial"))
    resumed(tmp_path, cache)
    assert_same_run(tmp_path, whole)


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path, cache: Path, whole: Path) -> None:
    run = Run(recipe(), tmp_path, cache=cache)

    def block(progress: Any) -> None:
        if progress.step == 3:
            (tmp_path / "train.jsonl").rename(tmp_path / "moved")
            (tmp_path / "train.jsonl").mkdir()

    with pytest.raises(OutputError, match="of step 2"):
        run.advance(show=block)
    (tmp_path / "train.jsonl").rmdir()
    (tmp_path / "moved").rename(tmp_path / "train.jsonl")
    resumed(tmp_path, cache)
    assert_same_run(tmp_path, whole)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("fcntl")
    run = Run(recipe(), tmp_path, cache=cache)
    with run.keeper.alone(), pytest.raises(UsageError, match="another process"):
        Run(recipe(), tmp_path, cache=cache).advance(1)
    run.advance(1)


# Divergence


def test_what_is_not_finite_stops_a_run_and_is_never_saved(tmp_path: Path, cache: Path) -> None:
    run = Run(recipe(train={"log_every": 8}), tmp_path, cache=cache)
    run.advance(3)
    with torch.no_grad():
        next(run.net.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"state\.safetensors of step 3.*--resume") as broken:
        run.advance()
    assert broken.value.exit_code == 7
    assert saved_step(tmp_path / STATE) == 3
    assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(tmp_path / STATE).values())
    with pytest.raises(TrainingDiverged, match="step 9: rx not finite; good"):
        Health(KeepOptions()).check(9, {"rx": float("inf"), "dx": 1.0}, lambda: "good")


def test_a_discriminator_that_stays_out_of_bounds_has_diverged() -> None:
    options = KeepOptions(diverged_below=0.01, diverged_above=10.0, diverged_steps=30)

    def first_complaint(losses: list[float], options: KeepOptions = options) -> tuple[int, int] | None:
        """(step of the error, first step out of bounds), a log line every 10 steps."""
        health, asked = Health(options), []
        for number, value in enumerate(losses, 1):
            try:
                health.check(10 * number, {"dx": value, "rx": 0.0, "dz": 1.0}, lambda step: str(asked.append(step)))
            except TrainingDiverged:
                return 10 * number, asked[0]
        return None

    assert first_complaint([1.0, 0.001, 0.001, 1.0, 0.001, 0.001]) is None
    assert first_complaint([1.0, 0.001, 0.001, 0.001]) == (40, 11)
    assert first_complaint([1.0, -100.0, 0.001, 100.0, 1.0]) == (40, 11)
    assert first_complaint([0.0] * 20) is None  # its weight is 0
    assert first_complaint([1.0, 0.0, 0.0, 0.0]) == (40, 11)  # it has won for good
    assert first_complaint([1e6] * 20, KeepOptions(diverged_steps=0)) is None


def test_the_checkpoint_before_a_divergence_is_named(tmp_path: Path, cache: Path) -> None:
    keep = {"diverged_above": 1e-3, "diverged_below": 0.0, "diverged_steps": 3, "last": 3}
    run = Run(recipe(), tmp_path, cache=cache)
    run.advance(4)
    bad = Run(recipe(keep=keep), tmp_path, cache=cache)
    bad.resume()
    with pytest.raises(TrainingDiverged, match=r"at step 7.*since step 5; .*--resume 4"):
        bad.advance()
    assert Keeper(tmp_path, KeepOptions()).good(before=5).endswith("--resume 4 continues")
    assert "no checkpoint" in Keeper(tmp_path, KeepOptions()).good(before=1)


# The best


def test_the_best_model_is_kept_however_often_a_run_is_stopped(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(keep={"best": "cycle"}, data={"test_share": 0.5})
    monkeypatch.setattr(
        "vidtrans.train.loop.score", lambda kind, net, frames, device: {2: 3.0, 4: 1.0}.get(run.step, 2.0)
    )
    run = Run(wanted, tmp_path / "whole", cache=cache)
    run.advance()
    best = load_model(tmp_path / "whole" / BEST)
    assert best.trained["score"] == {"name": "cycle", "value": 1.0, "step": 4}
    assert [row["held_back_cycle"] for row in read_log(tmp_path / "whole") if "held_back_cycle" in row] == [3, 1, 2, 2]
    for end in (3, 5, None):
        run = Run(wanted, tmp_path / "cut", cache=cache)
        if end != 3:
            run.resume()
        run.advance(end)
    assert run.keeper.best == {"name": "cycle", "value": 1.0, "step": 4}
    again = load_file(tmp_path / "cut" / BEST)
    assert all(torch.equal(tensor, again[key]) for key, tensor in load_file(tmp_path / "whole" / BEST).items())


@torch.no_grad()
def test_scores_are_distances_on_frames_that_training_does_not_see(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(recipe(keep={"best": "reconstruction"}, data={"test_share": 0.5}), tmp_path, cache=cache)
    everything = Run(recipe(), tmp_path, cache=cache).frames
    for seen, unseen, frames in zip(run.frames, run.held_back, everything, strict=True):
        assert torch.equal(torch.cat([seen.batch(range(2)), unseen.batch(range(2))]), frames.batch(range(4)))
    net = run.average
    x, y = (frames.batch([2, 3]).movedim(-1, 1) / 127.5 - 1 for frames in everything)

    def l1(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())

    def way(x: torch.Tensor, *names: str) -> torch.Tensor:
        for here, there in pairwise(names):
            x = net.decode(net.encode(x, here), there)
        return x

    s, w = "summer", "winter"
    for kind, by_hand in (
        ("reconstruction", (l1(way(x, s, s), x) + l1(way(y, w, w), y)) / 2),
        ("cycle", (l1(way(x, s, w, s), x) + l1(way(y, w, s, w), y)) / 2),
    ):
        assert held_back_module.score(kind, net, run.held_back, run.device) == pytest.approx(by_hand, abs=1e-6)
    monkeypatch.setattr(held_back_module, "MOST", 1)
    by_hand = (l1(way(x[:1], "summer", "summer"), x[:1]) + l1(way(y[:1], "winter", "winter"), y[:1])) / 2
    assert held_back_module.score("reconstruction", net, run.held_back, run.device) == pytest.approx(by_hand, abs=1e-6)
    for keep, hint in (({"best": "cycle"}, "test_share"), ({"best": "fid"}, "one of"), ({"last": -1}, "negative")):
        with pytest.raises(UsageError, match=hint):
            recipe(keep=keep)
    with pytest.raises(UsageError, match="cannot be divided"):
        Run(recipe(data={"test_share": 0.9}), tmp_path, cache=cache)


# The command


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`train(...)` -> (exit code, stderr) of the command line."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vidtrans", "train", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return call


TOML = """
domains = [{ name = "summer", data = "street:summer" }, { name = "winter", data = "street:winter" }]
net = { width = 2, latent_channels = 2, blocks = 1 }
data = { size = [40, 36], street_frames = 4, street_frames_per_seed = 2 }
loss = { discriminator = "patch70", discriminator_width = 2, latent_discriminator_width = 2 }
train = { batch = 1, constant = 2, decay = 2, unit = "steps", save_every = 2, log_every = 1 }
"""


def test_the_same_command_starts_and_continues_a_run(
    tmp_path: Path, cache: Path, train: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_back_module, "REPORT_SEEDS", range(8_600_000, 8_600_001))
    path = tmp_path / "r.toml"
    path.write_text(TOML)
    options = ["--cache", cache, "-o", tmp_path / "run"]
    assert train(path, "--resume", *options)[0] == InputError.exit_code  # nothing to resume
    assert train("--resume", "auto", path, *options)[0] == 0
    rows = len(read_sessions(tmp_path / "run"))
    code, err = train(path, *options)
    assert (code, "--resume" in err) == (UsageError.exit_code, True)
    for resume in (["--resume", path], ["--resume=auto", path], [path, "--resume", "2"]):
        assert train(*resume, *options)[0] == 0
    steps = [(row["from_step"], row["step"]) for row in read_sessions(tmp_path / "run")]
    assert steps[rows - 1 :] == [(0, 4), (4, 4), (4, 4), (2, 4)]
    assert train(path, "--resume", "--init-from", "street", *options)[0] == UsageError.exit_code
    assert "summer to winter" in load_model(tmp_path / "run").quality
    assert (tmp_path / "run" / "report.html").is_file()
