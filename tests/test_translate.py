"""`vidtrans translate`, and `vidtrans upsample` with families that share no latent space."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from identity import identity_model
from torch import Tensor, nn

import vidtrans
import vidtrans.pipeline
from vidtrans import clips
from vidtrans.checkpoint import Model, load_model, save_model
from vidtrans.cli import main
from vidtrans.engines import cuda_engine, open_engine
from vidtrans.engines.contract import Gap
from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain, SizeFacts
from vidtrans.nets.cyclegan import CycleGAN, CycleGANConfig
from vidtrans.nets.cyclegan3d import CycleGAN3D, CycleGAN3DConfig
from vidtrans.nets.jwdm import JWDM
from vidtrans.nets.pixel_space import PixelSpace
from vidtrans.nets.windows import in_windows
from vidtrans.options import TranslateOptions, UpsampleOptions
from vidtrans.palettes import STREET, Palette
from vidtrans.pipeline import Decoded, run
from vidtrans.stages import StageClock
from vidtrans.timeline import Instant, Interval
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.segments import SegmentStore

DOMAINS = (Domain("scene"), Domain("segmentation", "label", "street"), Domain("winter"))
LOSSLESS = {"codec": "ffv1", "pix_fmt": "gbrp"}


class Negative(nn.Module):
    """A Translator of which everything is known: every other domain is the negative."""

    family = "negative"
    shares_latent = False
    clip = 1
    clip_multiple = 1

    def __init__(self, domains: tuple[Domain, ...] = (Domain("here"), Domain("there"))) -> None:
        super().__init__()
        self.config, self.domains = None, domains
        self.sizes = SizeFacts(multiple=1, minimum=1, trained=(64, 48))

    def has_scores(self, domain: str) -> bool:
        return False

    def translate(self, x: Tensor, source: str, target: str) -> Tensor:
        return -x

    def colour(self, out: Tensor, domain: str) -> Tensor:
        return out


class Clips(Negative):
    """The same of clips: the negative of each picture, and of the mean of its clip."""

    clip = 8
    clip_multiple = 4

    def translate(self, x: Tensor, source: str, target: str) -> Tensor:
        assert x.shape[:2] == (1, 8)
        return -(x + x.mean(1, keepdim=True)) / 2


@pytest.fixture(scope="module")
def cyclegan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cyclegan") / "m.safetensors"
    save_model(path, CycleGAN(CycleGANConfig(DOMAINS, 4, 1, label_head="palette", trained_size=(48, 36))))
    return path


def pictures(path: Path) -> np.ndarray:
    """(n, height, width, 3) uint8."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `vidtrans` with these."""
    monkeypatch.setattr(sys, "argv", ["vidtrans", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


# One output, frame for frame


def test_a_translation_is_that_of_upsample_alone_in_step_with_the_input(
    tmp_path: Path,
    tiny_model: Path,
    make_clip: Callable[..., Path],
    ffprobe: Callable[..., dict[str, Any]],
    ffmpeg: Callable[..., bytes],
    framemd5: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, audio=["aac"], options={"bf": "0"})
    told = {"model": str(tiny_model), "engine": "torch"}
    both = vidtrans.upsample(clip, "segmentation", factor=1, **told)
    finished: list[str] = []
    original = JWDM.finish
    monkeypatch.setattr(JWDM, "finish", lambda self, a, domain: finished.append(domain) or original(self, a, domain))
    alone = vidtrans.translate(clip, "segmentation", **told)
    assert set(finished) == {"segmentation"}  # nobody needs the source decoded
    assert alone.outputs == (tmp_path / "in.segmentation.mp4",)
    assert alone.domains == ("segmentation",)
    assert (alone.frames_in, alone.frames_out) == (5, 5)
    assert framemd5(alone.outputs[0]) == framemd5(both.outputs[1])
    probed = ffprobe(alone.outputs[0], "-select_streams", "v:0", "-show_entries", "frame=pts")
    stream = next(one for one in probed["streams"] if one["codec_type"] == "video")
    base = Fraction(stream["time_base"])
    assert [int(frame["pts"]) * base for frame in probed["frames"]] == times[:-1]
    assert Fraction(int(stream["duration_ts"])) * base == times[-1]
    sounds = [ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-") for path in (clip, alone.outputs[0])]
    assert sounds[0] == sounds[1]


def test_labels_are_pure_and_class_numbers_are_those_colours(
    tmp_path: Path, cyclegan: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, size=(70, 50))
    told = {"model": str(cyclegan), "engine": "torch", "from_": "scene"}
    coloured = vidtrans.translate(clip, "segmentation", **told, **LOSSLESS).outputs[0]
    found = {tuple(colour) for colour in np.unique(pictures(coloured).reshape(-1, 3), axis=0).tolist()}
    assert found <= set(STREET.colours)
    assert len(found) > 1
    numbers = vidtrans.translate(clip, "segmentation", labels="index", output=tmp_path / "n.mkv", **told).outputs[0]
    assert (STREET.array[pictures(numbers)[..., 0]] == pictures(coloured)).all()


def test_several_targets_each_with_a_name_and_an_encoder_or_in_one_file(
    tmp_path: Path, cyclegan: Path, make_clip: Callable[..., Path], ffprobe: Callable[..., dict[str, Any]]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    told = {"to": ["segmentation", "winter"], "model": str(cyclegan), "engine": "torch"}
    apart = vidtrans.translate(
        clip, **told, output={"winter": tmp_path / "w.mkv"}, codec="ffv1", codec_to={"segmentation": "libx264"}
    )
    assert apart.outputs == (tmp_path / "in.segmentation.mp4", tmp_path / "w.mkv")
    codecs = [ffprobe(path)["streams"][0]["codec_name"] for path in apart.outputs]
    assert codecs == ["h264", "ffv1"]
    both = vidtrans.translate(clip, **told, mux="both", output=tmp_path / "both.mkv")
    assert both.outputs == (tmp_path / "both.mkv",) * 2
    titles = [one["tags"]["title"] for one in ffprobe(tmp_path / "both.mkv")["streams"]]
    assert titles == ["segmentation", "winter"]
    for options, words in (
        ({"output": "a.mp4"}, "-o a.mp4 is one name for 2"),
        ({"mux": "both", "output": {"winter": "a.mkv", "segmentation": "b.mkv"}}, "one -o"),
        ({"mux": "both", "to": "winter"}, "names one, winter"),
        ({"factor": 2}, "translate has no option 'factor'"),
        ({"output_to": "a.mp4"}, "did you mean 'output'"),
        ({"motion": "flow"}, "no option 'motion'"),
    ):
        with pytest.raises(UsageError, match=words):
            vidtrans.translate(clip, **{**told, **options})


def test_the_command_line_takes_what_upsample_takes_but_what_is_about_in_betweens(
    tmp_path: Path,
    tiny_model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from vidtrans.cli.translate import command as translate
    from vidtrans.cli.upsample import command as upsample

    names = [{option for parameter in one.params for option in parameter.opts} for one in (translate, upsample)]
    assert names[0] < names[1]
    assert names[1] - names[0] == {
        *("-m", "--factor", "--fps", "--slowmo", "--tail", "--detail", "--motion", "--paper"),
        *("--out-to", "--out-format-to", "--cuts", "--cut-threshold", "--dedup", "--dedup-tolerance"),
    }
    clip = make_clip(tmp_path / "in.mp4", frames=6)
    told = ("--to", "segmentation", "--model", tiny_model, "--engine", "torch")
    assert command(monkeypatch, "translate", clip, *told, "--dry-run") == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "output " + str(tmp_path / "in.segmentation.mp4") in err
    assert "6 frames to encode, 6 network encodings, at most 6 decodings" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    other = make_clip(tmp_path / "other.mp4", frames=2)
    summary = ("--summary", tmp_path / "s.json", "--end", "0.2", "--out-dir", tmp_path, "--progress", "none")
    assert command(monkeypatch, "translate", clip, other, *told, *summary) == 0
    inputs = json.loads((tmp_path / "s.json").read_text())["inputs"]
    assert [row["frames_out"] for row in inputs] == [5, 2]
    assert [row["outputs"] for row in inputs] == [
        [{"domain": "segmentation", "path": str(tmp_path / f"{name}.segmentation.mp4")}] for name in ("in", "other")
    ]
    assert "5 frames in, 5 out," in capfd.readouterr().err
    assert command(monkeypatch, "translate", clip, *told, "-o", "-", "--out-format", "rawvideo") == 0
    assert len(capfd.readouterr().out.encode(errors="surrogateescape")) > 0
    assert command(monkeypatch, "translate", clip, *told) == 5  # it is there already
    assert command(monkeypatch, "translate", clip, *told, "--factor", "2") == 2


def test_a_plan_of_a_translation(tmp_path: Path, tiny_model: Path, make_clip: Callable[..., Path]) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    plan = vidtrans.plan(clip, "segmentation", job="translate", model=str(tiny_model), engine="torch")
    assert [output.path.name for output in plan.outputs] == ["in.segmentation.mp4"]
    assert plan.work is not None
    assert (plan.work.frames_out, plan.work.encodings, plan.work.decodings) == (4, 4, 4)
    with pytest.raises(UsageError, match="upsample, translate"):
        vidtrans.plan(clip, "segmentation", job="translation", model=str(tiny_model))


# No shared latent space: interpolate, then translate


@pytest.mark.parametrize("motion", ["flow", "none"])
def test_the_source_is_interpolated_in_its_own_pixels_and_every_frame_of_it_translated(
    tmp_path: Path, make_clip: Callable[..., Path], framemd5: Callable[[Path], list[str]], motion: str
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, codec="ffv1", pix_fmt="bgr0")
    told: dict[str, Any] = {"to": "there", "engine": "torch", "factor": 3, "motion": motion, "overwrite": True}
    told |= {"size": (64, 48), "encoder": EncoderOptions(**LOSSLESS)}
    lines: list[str] = []
    summary = run(UpsampleOptions(clip, **told), model=Model(Negative()), announce=lines.append)
    source, target = summary.outputs
    assert framemd5(source)[::3] == framemd5(clip)
    made = pictures(source)
    assert np.abs(made.astype(int) + pictures(target) - 255).max() <= 1
    # The identity's source is that very interpolation.
    run(UpsampleOptions(clip, **told, output=tmp_path / "same.mkv"), model=identity_model())
    assert framemd5(source) == framemd5(tmp_path / "same.mkv")
    said = [line for line in lines if "share no latent space" in line]
    assert len(said) == 1
    assert "made in here first" in said[0]
    assert said[0] in summary.notes


def test_that_frames_are_made_first_is_said_wherever_a_run_is_told(
    tmp_path: Path, cyclegan: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    told: dict[str, Any] = {"model": str(cyclegan), "engine": "torch", "from_": "scene"}
    plan = vidtrans.plan(clip, "winter", factor=2, **told)
    assert plan.work is not None
    assert (plan.work.encodings, plan.work.decodings) == (0, 3)  # two keyframes and one between
    alone = vidtrans.plan(clip, "winter", job="translate", **told)
    done = vidtrans.upsample(clip, "winter", factor=2, **told)
    counts = [sum("share no latent space" in note for note in one.notes) for one in (plan, alone, done)]
    assert counts == [1, 0, 1]


def test_between_two_classes_there_is_never_a_third(tmp_path: Path) -> None:
    # Half way from black to white lies grey, which is a class of its own.
    palette = Palette("greys", ("dark", "middle", "light"), ((0, 0, 0), (128, 128, 128), (255, 255, 255)))
    clip = tmp_path / "in.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=64, height=48)
        stream.codec_context.pix_fmt = "bgr0"
        for shift in (0, 16):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, 16 + shift : 32 + shift] = 250  # the nearest class is light
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    net = Negative((Domain("labels", "label", palette), Domain("photo")))
    options = UpsampleOptions(
        clip, "photo", engine="torch", factor=4, motion="none", encoder=EncoderOptions(**LOSSLESS)
    )
    source, target = map(pictures, run(options, model=Model(net)).outputs)
    between = [1, 2, 3]  # the keyframe before is as it was read, and so is the one behind, which is held
    assert set(np.unique(source[between])) == {0, 255}
    assert (target[between] == 255 - source[between]).all()  # what is translated is pure, too
    assert (target[0] == np.where(source[0] == 250, 0, 255)).all()


@pytest.mark.parametrize("engine", ["torch", "openvino", "cuda"])
@pytest.mark.parametrize(("source", "target"), [("scene", "segmentation"), ("segmentation", "winter")])
def test_an_engine_makes_what_the_net_makes(
    cyclegan: Path, engine: str, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_engine, "unusable", lambda device: None)  # all but CUDA itself runs on a CPU, too
    how: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
    net = load_model(str(cyclegan)).net
    space = PixelSpace(net, source)
    generator = torch.Generator().manual_seed(1)
    shape = (2, 36, 48)
    frames = torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)
    if source == "segmentation":
        frames = torch.from_numpy(STREET.array)[torch.randint(0, len(STREET), shape, generator=generator)]
    x = frames.movedim(-1, 1) / 127.5 - 1.0
    for decode_source in (True, False):
        made = open_engine(engine, space, source, [target], (48, 36), decode_source=decode_source, **how)
        assert made.domains == ((source, target) if decode_source else (target,))
        left, right = made.encode(frames)
        half = made.between([Gap(left, right, (Fraction(1, 4),))])[0]
        with torch.no_grad():
            torch.testing.assert_close(left.decoded[target], net.translate(x, source, target)[0], atol=1e-3, rtol=1e-3)
            if source == "scene":
                wanted = net.translate(torch.lerp(x[:1], x[1:], 0.25), source, target)
            else:
                wanted = net.translate(x[:1], source, target)  # three quarters of the shares
            torch.testing.assert_close(half[target], wanted, atol=1e-3, rtol=1e-3)
        if decode_source:
            assert (space.colour(left.decoded[source][None], source)[0] - x[0]).abs().max() < 1e-6


# Clips


def clip_pictures(source: np.ndarray) -> np.ndarray:
    """What the net Clips makes of a segment's pictures (n, height, width, 3), up to rounding."""
    frames = torch.from_numpy(source).movedim(-1, 1).unsqueeze(1) / 127.5 - 1.0
    made = in_windows(iter(frames), lambda x: Clips().translate(x, "here", "there"), 8)
    return ((torch.cat(list(made)) + 1.0) * 127.5).movedim(1, -1).numpy()


@pytest.mark.parametrize("job", [TranslateOptions, UpsampleOptions])
def test_clips_are_translated_in_windows_of_what_was_made_segment_by_segment(
    tmp_path: Path,
    make_clip: Callable[..., Path],
    framemd5: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    job: type[UpsampleOptions],
) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 7)
    clip = make_clip(tmp_path / "in.mkv", frames=17, codec="ffv1", pix_fmt="bgr0")
    upsampled = job is UpsampleOptions
    told: dict[str, Any] = {"size": (64, 48), "encoder": EncoderOptions(**LOSSLESS)}
    told |= {"factor": 2, "detail": "none", "detail_to": "none", "cut_threshold": 1.0} if upsampled else {}
    options = job(clip, "there", engine="auto", device="cpu", **told)
    model = Model(Clips(), sha256="clips")
    lines: list[str] = []
    summary = run(options, model=model, announce=lines.append)
    assert any(line.startswith("engine torch") for line in lines)
    *up, target = map(pictures, summary.outputs)
    source = up[0] if up else pictures(clip)
    length = 14 if upsampled else 7
    assert len(target) == len(source) == (34 if upsampled else 17)
    for first in range(0, len(source), length):
        segment = slice(first, first + length)
        assert np.abs(target[segment] - clip_pictures(source[segment])).max() <= 1.01
    with pytest.raises(UsageError, match="8 frames at once; use --engine torch"):
        run(job(clip, "there", engine="openvino", overwrite=True, **told), model=model)
    # Stopped in its third segment and continued.
    hashes = [framemd5(path) for path in summary.outputs]
    for path in summary.outputs:
        path.unlink()
    original, left = SegmentStore.finish, [3 * len(hashes)]

    def finish(self: SegmentStore, *facts: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        original(self, *facts)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "finish", finish)
        with pytest.raises(OutputError, match="No space left"):
            run(options, model=model)
    again = run(options, model=model)
    assert again.frames_continued >= length
    assert [framemd5(path) for path in again.outputs] == hashes


def test_windows_do_not_reach_across_a_cut() -> None:
    frames = torch.rand(14, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    black = Frame((), Fraction(0), Fraction(1), PIXEL_FORMATS["gray"], Colour("bt601", True))
    items = [
        Decoded(
            Interval(black, None, (Instant(Fraction(0), Fraction(row), Fraction(1)),), row, ends_segment=row == 13),
            {"here": frames[row : row + 1]},
            {},
            None,
            None,
            ends_scene=row == 3,
        )
        for row in range(14)
    ]
    engine: Any = SimpleNamespace(device="cpu", precision="fp32")
    stage = clips.Clips(PixelSpace(Clips(), "here"), ["there"], engine, StageClock(), keep_source=False)
    made = list(stage(items))
    assert [item.interval.index for item in made] == list(range(14))
    assert all(item.outputs.keys() == {"there"} for item in made)
    scenes = [in_windows(part.split(1), lambda x: Clips().translate(x, "", ""), 8) for part in frames.split([4, 10])]
    wanted = torch.cat([frame for scene in scenes for frame in scene])
    torch.testing.assert_close(torch.cat([item.outputs["there"] for item in made]), wanted, atol=0, rtol=0)


def test_a_3d_cyclegan_labels_a_clip_shorter_than_its_own(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    config = CycleGAN3DConfig(DOMAINS[:2], 8, 4, 1, 3, label_head="palette", trained_size=(32, 24))
    save_model(path, CycleGAN3D(config))
    clip = make_clip(tmp_path / "in.mkv", frames=5)
    made = pictures(vidtrans.translate(clip, "segmentation", model=str(path), device="cpu", **LOSSLESS).outputs[0])
    assert len(made) == 5
    found = {tuple(colour) for colour in np.unique(made.reshape(-1, 3), axis=0).tolist()}
    assert found <= set(STREET.colours)
    assert len(found) > 1
