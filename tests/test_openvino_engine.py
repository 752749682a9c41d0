"""The OpenVINO engine against the float32 torch engine, and its cache."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vidtrans.bench import LiftEachFrame
from vidtrans.engines import cache, open_engine, openvino_engine, openvino_int8
from vidtrans.engines.cache import cache_folder, load_entry, save_entry
from vidtrans.engines.contract import Gap
from vidtrans.engines.openvino_engine import Compiler, openvino_errors, unusable
from vidtrans.errors import DeviceError, UsageError, VidtransError
from vidtrans.latents import Fields
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig

TIMES = tuple(Fraction(k, 8) for k in range(8))
SIZE = (37, 41)
# Bounds of the difference, in standard deviations of the output (0.3 in this untrained net): root mean square (seen:
# 2e-6 and 0.02) and largest (seen: 1e-5 and 0.11).
RMS = {"fp32": 1e-5, "bf16": 0.03}
LARGEST = {"fp32": 1e-4, "bf16": 0.2}


def small_net(latent_channels: int) -> JWDM:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("labels", "label", "street"))
    config = JWDMConfig(domains, width=8, latent_channels=latent_channels, blocks=1, label_head="palette")
    return JWDM(config).eval()


@pytest.fixture(scope="module")
def net() -> JWDM:
    return small_net(latent_channels=8)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randint(0, 256, (4, 40, 52, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(net: JWDM, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`make(precision, source="scene", size=SIZE, **options)`, all tests sharing one cache."""
    monkeypatch.setenv("VIDTRANS_CACHE", str(shared))

    def made(precision: str, source: str = "scene", size: tuple[int, int] = SIZE, **options: Any) -> Any:
        target = "labels" if source == "scene" else "scene"
        return open_engine("openvino", net, source, [target], size, precision=precision, **options)

    return made


def fields(count: int, height: int = 20, width: int = 24) -> Fields:
    """Motion of `count` instants on a grid of its own."""
    generator = torch.Generator().manual_seed(2)
    to_left, to_right = torch.randn(2, count, 2, height, width, generator=generator) * 2
    return Fields(to_left, to_right, torch.rand(count, 1, height, width, generator=generator))


def outputs(engine: Any, frames: Tensor) -> list[dict[str, Tensor]]:
    """Of three gaps of one call: eight instants, two, and three with motion."""
    a, b, c, d = engine.encode(frames)
    return engine.between([Gap(a, b, TIMES), Gap(b, c, TIMES[3:5]), Gap(c, d, TIMES[:3], fields(3))])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("source", ["scene", "labels"])
def test_output_is_the_reference_engines(
    frames: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, precision: str
) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    # OpenVINO 2026.4 computes 8 latent channels wrongly in bf16 where the CPU has AMX (docs/engines.md).
    net = small_net(latent_channels=16)
    engine = open_engine(
        "openvino", net, source, ["labels" if source == "scene" else "scene"], SIZE, precision=precision
    )
    assert engine.precision == (precision if Compiler().has_bf16 else "fp32")
    reference = open_engine("torch", net, source, engine.domains[1:], SIZE)
    for got, wanted in zip(outputs(engine, frames), outputs(reference, frames), strict=True):
        assert list(got) == list(wanted) == list(engine.domains)
        for domain, out in wanted.items():
            assert (got[domain].dtype, got[domain].shape) == (torch.float32, out.shape)
            difference = (got[domain] - out) / out.std()
            assert difference.square().mean().sqrt() < RMS[precision]
            assert difference.abs().max() < LARGEST[precision]


def test_batches_and_gaps_do_not_see_each_other(frames: Tensor, make: Callable[..., Any]) -> None:
    engine = make("fp32")
    together = engine.encode(frames[:3])
    for features, frame in zip(together, frames[:3], strict=True):
        alone = engine.encode(frame.unsqueeze(0))[0]
        for domain in engine.domains:
            assert torch.equal(features.lifted[domain], alone.lifted[domain])
            assert torch.equal(features.decoded[domain], alone.decoded[domain])
    gaps = [Gap(together[0], together[1], TIMES[1:]), Gap(together[1], together[2], TIMES[5:])]
    for got, gap in zip(engine.between(gaps), gaps, strict=True):
        alone = engine.between([gap])[0]
        assert all(torch.equal(got[domain], alone[domain]) for domain in engine.domains)


def test_what_was_given_is_not_overwritten(frames: Tensor, make: Callable[..., Any]) -> None:
    engine = make("fp32")
    first = outputs(engine, frames)
    copies = [{domain: out.clone() for domain, out in gap.items()} for gap in first]
    outputs(engine, frames.flip(0))
    for gap, copy in zip(first, copies, strict=True):
        assert all(torch.equal(gap[domain], copy[domain]) for domain in gap)


def test_a_net_without_a_lift_and_a_single_domain(
    net: JWDM, frames: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    whole: Any = LiftEachFrame(net)
    for targets in (["labels"], []):
        engine = open_engine("openvino", whole, "scene", targets, SIZE, precision="fp32")
        reference = open_engine("torch", net, "scene", targets, SIZE)
        for got, wanted in zip(engine.encode(frames[:1]), reference.encode(frames[:1]), strict=True):
            for domain in ("scene", *targets):
                torch.testing.assert_close(got.decoded[domain], wanted.decoded[domain], rtol=0, atol=1e-4)
    assert len(list((tmp_path / "openvino").iterdir())) == 2


# Precision


def test_auto_is_bf16_where_the_cpu_computes_in_it(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert make("auto").precision == ("bf16" if Compiler().has_bf16 else "fp32")
    made = Compiler.__init__

    def without(self: Compiler) -> None:
        made(self)
        self.has_bf16 = False

    monkeypatch.setattr(Compiler, "__init__", without)
    engine = make("auto")
    assert (engine.precision, engine.notes) == ("fp32", [])
    engine = make("bf16")
    assert engine.precision == "fp32"
    assert "bf16" in engine.notes[0]


def test_threads_are_no_more_than_torchs(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert make("fp32")._decoder._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_nothing_is_reported_to_the_makers_of_openvino(
    net: JWDM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = pytest.importorskip("openvino_telemetry")

    def send(*arguments: object, **options: object) -> None:
        raise AssertionError("a report was made")

    monkeypatch.setattr(telemetry.Telemetry, "__init__", send)
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    open_engine("openvino", net, "scene", [], SIZE)


# Cache


def test_a_cached_engine_is_the_same_and_converts_nothing(
    net: JWDM, frames: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    first = open_engine("openvino", net, "scene", ["labels"], SIZE, precision="fp32")

    def converted(*arguments: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_engine, "converted", converted)
    second = open_engine("openvino", net, "scene", ["labels"], SIZE, precision="fp32")
    assert second.precision == "fp32"
    for one, two in zip(outputs(first, frames), outputs(second, frames), strict=True):
        assert all(torch.equal(one[domain], two[domain]) for domain in one)
    with pytest.raises(AssertionError, match="converted again"):
        open_engine("openvino", net, "scene", ["labels"], (SIZE[0] + 8, SIZE[1]), precision="fp32")


def test_whatever_shapes_the_models_names_their_entry(net: JWDM, make: Callable[..., Any]) -> None:
    engine = make("fp32")
    paths = {engine._entry("weights", "fp32"), engine._entry("others", "fp32"), engine._entry("weights", "bf16")}
    paths |= {make("fp32", "labels")._entry("weights", "fp32"), engine._entry("weights", "int8", "footage")}
    assert len(paths) == 5
    before = openvino_engine.weights_hash(net)
    parameter = next(net.parameters())
    with torch.no_grad():
        parameter[0] += 1
        changed = openvino_engine.weights_hash(net)
        parameter[0] -= 1
    assert changed != before


def test_a_damaged_entry_is_made_again(
    net: JWDM, frames: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path))
    first = open_engine("openvino", net, "scene", [], SIZE, precision="fp32").encode(frames[:1])[0]
    (path,) = (tmp_path / "openvino").iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    save_entry(path, {"encoder": b"no model", "finish": b"none either"}, {}, keep=9)
    foreign = path.read_bytes()
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (flipped, whole[:middle], b"nonsense"):
        path.write_bytes(damaged)
        assert load_entry(path) is None
    for damaged in (flipped, foreign):  # the second is undamaged, but nothing OpenVINO takes
        path.write_bytes(damaged)
        second = open_engine("openvino", net, "scene", [], SIZE, precision="fp32").encode(frames[:1])[0]
        assert torch.equal(first.decoded["scene"], second.decoded["scene"])
        entry = load_entry(path)
        assert entry is not None
        assert len(entry[0]["finish"]) > 1000


def test_a_folder_that_cannot_be_written_is_a_note(net: JWDM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path / "file"))
    engine = open_engine("openvino", net, "scene", [], SIZE, precision="fp32")
    assert engine.precision == "fp32"
    assert "cannot be kept" in engine.notes[0]


def test_the_cache_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIDTRANS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "vidtrans"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vidtrans"
    monkeypatch.setenv("VIDTRANS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_entries_are_whole_and_the_oldest_go(tmp_path: Path) -> None:
    assert load_entry(tmp_path / "none") is None
    for number in range(4):
        path = tmp_path / "folder" / f"{number}.safetensors"
        save_entry(path, {"a": bytes([number]) * 100, "b": b""}, {"note": "ö"}, keep=2)
        assert load_entry(path) == ({"a": bytes([number]) * 100, "b": b""}, {"note": "ö"})
        cache.os.utime(path, (number, number))
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["2.safetensors", "3.safetensors"]
    assert load_entry(tmp_path / "folder" / "2.safetensors") is not None  # used, so it is no more the oldest
    save_entry(path.with_name("4.safetensors"), {}, {}, keep=2)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["2.safetensors", "4.safetensors"]


# int8


def test_int8_is_taken_where_it_is_near_enough(
    net: JWDM, frames: Tensor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr(openvino_int8, "LEAST_LABELS", 0.8)  # an untrained net is of two minds about most pixels
    engine = make("int8", samples=lambda: frames)
    assert engine.precision == "int8"
    (note,) = engine.notes
    assert note.startswith("int8: ")
    assert "dB of float32" in note
    assert note.endswith("% of labels kept")
    reference = open_engine("torch", net, "scene", engine.domains[1:], SIZE)
    for got, wanted in zip(outputs(engine, frames), outputs(reference, frames), strict=True):
        error = (got["scene"] - wanted["scene"]).square().mean()
        assert 10 * torch.log10(4 / error) > openvino_int8.LEAST_DB
    monkeypatch.setattr(openvino_int8, "quantised", None)
    again = make("int8", samples=lambda: frames)
    assert (again.precision, again.notes) == ("int8", engine.notes)
    one, two = engine.encode(frames[:1])[0], again.encode(frames[:1])[0]
    assert all(torch.equal(one.decoded[domain], two.decoded[domain]) for domain in engine.domains)


def test_int8_that_is_too_far_off_is_refused_aloud(
    frames: Tensor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr(openvino_int8, "LEAST_DB", 99.0)
    monkeypatch.setattr(openvino_int8, "TRIALS", ((True, "PERFORMANCE"), (False, "MIXED")))
    footage = frames[:3]  # two frames on either side would make four
    said: list[str] = []
    engine = make("int8", samples=lambda: footage, report=said.append)
    assert [line.split(" (")[1] for line in said] == ["trial 1 of 2)", "trial 2 of 2)"]
    fallback = make("auto")
    assert engine.precision == fallback.precision
    (note,) = engine.notes
    assert note.startswith("int8 refused")
    assert note.endswith(f"99.0 dB of float32, 98.0 % of labels kept are wanted: {fallback.precision} instead")
    one, two = engine.encode(frames[:1])[0], fallback.encode(frames[:1])[0]
    assert torch.equal(one.decoded["scene"], two.decoded["scene"])
    monkeypatch.setattr(openvino_int8, "quantised", None)  # the refusal is kept too
    assert make("int8", samples=lambda: footage).notes == [note]
    assert capsys.readouterr().out == ""


def test_likeness_is_that_of_the_worst_domain() -> None:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("painted", "label", "street"))
    net = JWDM(JWDMConfig(domains, width=2, latent_channels=2, blocks=1))
    colours = torch.from_numpy(domains[1].colours.array.copy()).float() / 127.5 - 1
    painted = colours[torch.tensor([[0, 1], [2, 3]])].movedim(-1, 0).unsqueeze(0)
    other = colours[torch.tensor([[0, 1], [2, 4]])].movedim(-1, 0).unsqueeze(0)
    photo = torch.zeros(1, 3, 2, 2)
    found = openvino_int8.likeness(net, ("scene", "painted"), (photo + 0.02, painted + 0.01), (photo, other))
    assert found.db == pytest.approx(40.0, abs=0.01)
    assert found.labels == 0.75
    assert str(found) == "40.0 dB of float32, 75.0 % of labels kept"
    assert not found.is_enough
    assert openvino_int8.Likeness(40.0, None).is_enough
    assert not openvino_int8.Likeness(20.0, 1.0).is_enough


# Mistakes


def test_mistakes_are_named(frames: Tensor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="has fp32, bf16 and int8"):
        make("fp16")
    with pytest.raises(DeviceError, match="--device cpu"):
        make("fp32", device="cuda")
    found = importlib.util.find_spec
    gone: set[str] = set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else found(name))
    with pytest.raises(UsageError, match="none were given"):
        make("int8")
    with pytest.raises(UsageError, match="has none"):
        make("int8", samples=lambda: frames[:0])
    gone.add("nncf")
    with pytest.raises(UsageError, match=r"pip install 'vidtrans\[int8\]'"):
        make("int8", samples=lambda: frames)
    assert unusable("cpu") is None
    gone.add("openvino")
    with pytest.raises(UsageError, match="pip install openvino"):
        make("fp32")
    assert "pip install" in str(unusable("cpu"))


def test_openvinos_exceptions_are_one_sentence() -> None:
    with (
        pytest.raises(VidtransError, match=r"^OpenVINO could not run \(why it failed\); try --engine torch$"),
        openvino_errors("run"),
    ):
        raise RuntimeError("Exception from src/core.cpp:1\nwhy it failed\n\n")
    with pytest.raises(DeviceError, match="out of memory"), openvino_errors("run"):
        raise MemoryError
