"""Models by name: found, described, added, verified and exported; nothing but whole safetensors files is taken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vidtrans import cli, model_library
from vidtrans.checkpoint import load_model, save_model
from vidtrans.errors import InputError, OutputError, UsageError
from vidtrans.model_card import card_text, figures_table, read_card
from vidtrans.model_care import export_half, export_openvino, verify_model
from vidtrans.model_library import BUNDLED, file_hash, find_model, models_folder, named_models, recorded_hash
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, empty."""
    monkeypatch.setenv("VIDTRANS_MODELS", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`models("list", ...)` -> (exit code, stdout, stderr)."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vidtrans", "models", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_folder_is_where_the_platform_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDTRANS_MODELS")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_folder() == Path("/data/vidtrans/models")
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert models_folder() == Path("/home/u/.local/share/vidtrans/models")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert models_folder() == Path("/home/u/Library/Application Support/vidtrans/models")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert models_folder() == Path("/local/vidtrans/models")


def test_a_name_goes_before_files_and_a_path_says_which(
    own: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own.mkdir()
    for path in (own / "mine.safetensors", tmp_path / "mine", tmp_path / "street", own / "street.safetensors"):
        shutil.copy(tiny_model, path)
    (tmp_path / "run").mkdir()
    shutil.copy(tiny_model, tmp_path / "run" / "model.safetensors")
    (tmp_path / "empty").mkdir()
    assert find_model("mine").path == own / "mine.safetensors"
    assert find_model("./mine").path == Path("mine")
    assert find_model("street").kind == "bundled"
    assert [found.name for found in named_models()] == [*BUNDLED, "mine"]
    assert find_model("run").path == Path("run/model.safetensors")
    for name, hint in (("empty", "holds no model"), ("mien", "did you mean 'mine'"), ("../x", "models list")):
        with pytest.raises(UsageError, match=hint):
            find_model(name)


def test_every_bundled_model_is_as_recorded() -> None:
    for name in BUNDLED:
        found = find_model(name)
        assert recorded_hash(found.path) == file_hash(found.path) == load_model(name).sha256
        assert verify_model(name)[1]


def test_added_models_are_copies_that_every_command_finds(
    own: Path, tmp_path: Path, tiny_model: Path, models: Callable[..., tuple[int, str, str]]
) -> None:
    run = tmp_path / "harbour"
    run.mkdir()
    shutil.copy(tiny_model, run / "model.safetensors")
    assert models("add", run)[0] == 0
    copy = own / "harbour.safetensors"
    assert copy.read_bytes() == tiny_model.read_bytes()
    assert load_model("harbour").sha256 == file_hash(tiny_model)
    if check := shutil.which("sha256sum"):
        subprocess.run([check, "--quiet", "-c", f"{copy.name}.sha256"], cwd=own, check=True)
    other = tmp_path / "other.safetensors"
    save_model(other, JWDM(load_model(tiny_model).net.config))
    code, _, err = models("add", other, "--name", "harbour")
    assert (code, "add -y" in err) == (OutputError.exit_code, True)
    assert copy.read_bytes() == tiny_model.read_bytes()
    assert models("add", other, "--name", "harbour", "-y")[0] == 0
    assert load_model("harbour").sha256 == file_hash(other)
    assert models("verify", "harbour")[0] == 0
    code, out, _ = models("list")
    assert "harbour (own" in out
    assert json.loads(models("list", "--json")[1])[-1]["recorded_sha256"] == file_hash(other)


def test_what_cannot_be_added_leaves_nothing(
    own: Path, tmp_path: Path, tiny_model: Path, models: Callable[..., tuple[int, str, str]]
) -> None:
    assert models("add", tiny_model, "--name", "street")[0] == UsageError.exit_code
    assert models("add", tiny_model, "--name", "../escaped")[0] == UsageError.exit_code
    assert models("add", tiny_model, "--sha256", "0" * 64)[0] == InputError.exit_code
    assert models("add", tiny_model, "--sha256", "short")[0] == InputError.exit_code
    pickled = tmp_path / "p.pt"
    for new in (True, False):
        torch.save({"a": torch.zeros(2)}, pickled, _use_new_zipfile_serialization=new)
        code, _, err = models("add", pickled)
        assert (code, "only safetensors" in err) == (UsageError.exit_code, True)
    assert not own.exists()


def test_damage_is_found(tmp_path: Path, tiny_model: Path, models: Callable[..., tuple[int, str, str]]) -> None:
    path = tmp_path / "m.safetensors"
    data = bytearray(tiny_model.read_bytes())
    path.write_bytes(data)
    digest = model_library.record_hash(path)
    assert verify_model(str(path)) == (digest, True)
    data[-3] ^= 1  # a bit of a weight: the header cannot tell
    path.write_bytes(data)
    code, _, err = models("verify", path)
    assert (code, digest in err) == (InputError.exit_code, True)
    code, out, err = models("verify", path, "street")
    assert code == InputError.exit_code
    assert "street: run" in out
    assert "1 of 2" in err
    (tmp_path / "m.safetensors.sha256").unlink()
    assert verify_model(str(path))[1] is False
    net = load_model(tiny_model).net
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    save_model(path, net)
    with pytest.raises(InputError, match="not finite"):
        verify_model(str(path))
    path.write_bytes(data[:-1])
    with pytest.raises(UsageError, match="bytes"):
        verify_model(str(path))


def test_the_card_is_what_the_file_says(tmp_path: Path, models: Callable[..., tuple[int, str, str]]) -> None:
    path = tmp_path / "m.safetensors"
    domains = (Domain("winter"), Domain("summer"), Domain("map", "label", "street"))
    net = JWDM(JWDMConfig(domains, 4, 6, 1, trained_size=(48, 36)))
    quality = {"classes": ["a", "b"], "l1": 0.25, "keyframes": {"accuracy": 0.5, "iou": [0.125, None]}}
    recipe = {"domains": [{"name": "winter", "data": "films/w\x1b[2J"}], "train": {"batch": 4}}
    save_model(path, net, trained={"step": 12, "recipe": recipe}, quality=quality, half=True)
    head, rows = figures_table(quality)
    assert head == ["", "accuracy", "a", "b"]
    assert rows == [["keyframes", "0.500", "0.125", ""]]
    card = card_text(read_card(find_model(str(path))))
    parameters = sum(tensor.numel() for tensor in net.state_dict().values())
    for part in (file_hash(path), f"{parameters:,} numbers in float16", "48x36", "map (labels, palette street)",
                 "12 of 4 frames", "| keyframes | 0.500 | 0.125 |  |", "- L1: 0.250"):  # fmt: skip
        assert part in card
    code, out, _ = models("info", path)
    assert (code, "\x1b" in out) == (0, False)
    facts = json.loads(models("info", path, "--json")[1])
    assert facts["quality"] == quality
    assert facts["trained"]["recipe"] == recipe
    save_model(path, net)
    assert "Nothing was measured" in card_text(read_card(find_model(str(path))))


def test_lists_and_cards_need_no_torch() -> None:
    program = (
        "import sys; from vidtrans.model_library import find_model, named_models\n"
        "from vidtrans.model_card import card_text, read_card\n"
        "print(len([card_text(read_card(found)) for found in named_models()]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(len(BUNDLED)), "False"]


def test_half_precision_is_the_same_model_rounded(tmp_path: Path, tiny_model: Path) -> None:
    whole = load_model(tiny_model)
    (path,) = export_half(str(tiny_model), tmp_path / "new" / "h.safetensors")
    half = load_model(path)
    assert half.net.config == whole.net.config
    for key, tensor in whole.net.state_dict().items():
        assert torch.equal(half.net.state_dict()[key], tensor.half().float())
    with torch.no_grad():
        next(whole.net.parameters()).view(-1)[0] = 1e6
    save_model(tmp_path / "large.safetensors", whole.net)
    with pytest.raises(UsageError, match="float16"):
        export_half(str(tmp_path / "large.safetensors"), path)


def test_openvino_files_compute_what_torch_computes(
    tmp_path: Path, tiny_model: Path, models: Callable[..., tuple[int, str, str]]
) -> None:
    import openvino

    written = export_openvino(str(tiny_model), tmp_path, "segmentation", None, "fp32", (50, 38))
    assert sorted(written) == sorted(tmp_path.iterdir())
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    encode, finish = (core.compile_model(path, "CPU", settings) for path in written[::2])
    frame = torch.rand(1, 3, 40, 52) * 2 - 1  # padded to what the network takes
    scene, scores = finish(list(encode([frame.numpy()]).values())).values()
    net = load_model(tiny_model).net
    with torch.no_grad():
        z = net.encode(frame, "scene")
        torch.testing.assert_close(torch.from_numpy(scene), net.decode(z, "scene"), rtol=0, atol=1e-4)
        wanted = net.finish(net.lift(z, "segmentation"), "segmentation")
    torch.testing.assert_close(torch.from_numpy(scores), wanted, rtol=0, atol=1e-4)
    assert models("export", tiny_model, "--as", "openvino", "-o", tmp_path)[0] == OutputError.exit_code
    for refused in (["--as", "openvino", "--precision", "bf16"], ["--size", "64x64"], ["--as", "onnx", "--to", "x"]):
        assert models("export", tiny_model, *refused, "-o", tmp_path / "x")[0] == UsageError.exit_code
