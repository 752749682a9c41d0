"""What `vidtrans bench` and `vidtrans doctor` say must be true."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from vidtrans import engines
from vidtrans.bench import Bench, LiftEachFrame, count_gflop, table_head, table_line
from vidtrans.checkpoint import Model, save_model
from vidtrans.cli import cli
from vidtrans.engines import ENGINES, choose, open_engine, unusable
from vidtrans.engines.contract import Gap
from vidtrans.engines.latents_triton import why_unavailable
from vidtrans.errors import UsageError
from vidtrans.measuring import measured_peak
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig


@pytest.fixture(scope="module")
def net() -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    config = JWDMConfig(domains, width=4, latent_channels=6, blocks=1, label_head="palette", trained_size=(48, 40))
    return JWDM(config).eval()


def test_operations_are_counted_as_by_hand(net: JWDM) -> None:
    # Twice the multiply-adds: kernel area x inputs x outputs x positions, layer by layer (Table 4).
    encoder = 49 * 3 * 4 * 40 * 48 + 9 * 4 * 8 * 20 * 24 + 9 * 8 * 16 * 10 * 12 + 2 * 9 * 16 * 16 * 10 * 12
    encoder += 64 * 16 * 6 * 3 * 5
    lift = 64 * 6 * 16 * 3 * 5
    body = 2 * 9 * 16 * 16 * 10 * 12 + 9 * 16 * 8 * 10 * 12 + 9 * 8 * 4 * 20 * 24
    finish = 2 * body + 49 * 4 * (3 + 10) * 40 * 48
    assert count_gflop(net, ("scene", "labels"), (48, 40)) == pytest.approx(
        (2e-9 * (encoder + 2 * lift), 2e-9 * finish)
    )
    assert count_gflop(LiftEachFrame(net), ("scene", "labels"), (48, 40)) == pytest.approx(
        (2e-9 * encoder, 2e-9 * (finish + 2 * lift))
    )


@torch.no_grad()
def test_lifting_each_frame_gives_the_same_frames(net: JWDM) -> None:
    frames = torch.randint(0, 256, (2, 40, 48, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    outputs = []
    for seen in (net, LiftEachFrame(net)):
        engine = open_engine("torch", seen, "scene", ["labels"], (48, 40))
        left, right = engine.encode(frames)
        outputs.append(engine.between([Gap(left, right, (Fraction(0), Fraction(3, 8)))])[0])
    for domain in outputs[0]:
        torch.testing.assert_close(outputs[0][domain], outputs[1][domain], rtol=0, atol=1e-4)


def test_rows_carry_speed_and_error(net: JWDM) -> None:
    bench = Bench(Model(net), "scene", "labels", (48, 40), factor=4, seconds=0.0)
    refused: list[str] = []
    wanted = (("torch", "cpu", "fp32"), ("torch", "cpu", "bf16"), ("torch", "cpu", "int8"))
    exact, rough = bench.rows(wanted, report=refused.append)
    assert len(refused) == 1
    assert "int8" in refused[0]
    assert exact.error_db == float("inf")
    assert exact.labels_kept == 1.0
    assert rough.error_db is not None
    assert 20 < rough.error_db < 100
    for row in (exact, rough):
        for value in (row.finish_ms, row.pair_ms, row.sequence_ms, row.peak_share):
            assert value is not None
            assert value > 0
        assert row.fps_null is None
        json.dumps(row.to_json(), allow_nan=False)
    assert len({line.count("|") for line in (*table_head().splitlines(), table_line(exact), table_line(rough))}) == 1


def test_the_peak_is_of_this_machine() -> None:
    # Within what one to many cores can do: 1e9 operations a millisecond.
    assert 0.001 < measured_peak("cpu", "fp32") < 100


def test_bench_measures_a_model_file_end_to_end(net: JWDM, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", net)
    arguments = ["bench", str(tmp_path / "m.safetensors"), "--engine", "torch", "--precision", "fp32"]
    result = CliRunner().invoke(cli, [*arguments, "--seconds", "0", "--json", str(tmp_path / "b.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {(row["engine"], row["lift"]) for row in rows} == {("torch", "keyframe"), ("torch", "frame")}
    assert all(row["fps_null"] > 0 and row["fps_files"] > 0 and row["peak_mib"] > 100 for row in rows)


# Choice


def test_auto_takes_the_fastest_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: set[str] = set()
    monkeypatch.setattr(engines, "unusable", lambda name, device: f"no {name}" if name in missing else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (choose().engine, choose().device) == ("openvino", "cpu")
    missing.add("openvino")
    assert choose().engine == "torch"
    assert "no openvino" in choose().reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (choose().engine, choose().device) == ("tensorrt", "cuda")
    missing.add("tensorrt")
    assert choose().engine == "cuda"
    assert "no tensorrt" in choose().reason
    assert choose(device="cpu").engine == "torch"
    assert choose(device="cuda:1").device == "cuda:1"
    assert (choose("torch").engine, choose("torch").device) == ("torch", "cpu")
    assert choose("cuda").device == "cuda"
    with pytest.raises(UsageError, match="openvino"):
        choose("openvina")


def test_doctor_lists_every_engine_and_what_is_missing() -> None:
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 0, result.output
    for name in ENGINES:
        reason = unusable(name, "cuda" if name in ("cuda", "tensorrt") else "cpu")
        assert f"{name}: {'ready' if reason is None else reason}" in result.output
    assert "libx264" in result.output
    missing = why_unavailable("cuda")
    assert f"Triton kernels of cuda and tensorrt: {missing or 'ready'}" in result.output.replace(
        "plain torch stands in (", ""
    )
