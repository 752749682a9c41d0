"""Helpers of all tests: clips made on the spot, and FFmpeg's programs, which check what we read and write."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

# Before torch is first imported: small tensors gain nothing from many threads, and tests may run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# As the command line does: threads that spin while they wait starve the encoders' threads on a small machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Compiled models of tests' nets are nothing to keep; child processes share the folder.
os.environ["VIDTRANS_CACHE"] = tempfile.mkdtemp(prefix="vidtrans-tests-")
atexit.register(shutil.rmtree, os.environ["VIDTRANS_CACHE"], ignore_errors=True)

AUDIO_RATE_HERTZ = 48000


def _program(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails where VIDTRANS_REQUIRE_FFMPEG=1."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed; it checks files independently of PyAV"
        if os.environ.get("VIDTRANS_REQUIRE_FFMPEG") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """`ffmpeg(*arguments) -> bytes`: what it wrote to stdout; the test fails with its stderr if it fails."""
    program = _program("ffmpeg")

    def run(*arguments: str | Path) -> bytes:
        command = [program, "-v", "error", "-nostdin", "-y", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr.decode()}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ffprobe() -> Callable[..., dict[str, Any]]:
    """`ffprobe(path, *arguments) -> dict`: streams and format of a file, and what further arguments ask for."""
    program = _program("ffprobe")

    def run(path: str | Path, *arguments: str) -> dict[str, Any]:
        command = [program, "-v", "error", "-of", "json", "-show_streams", "-show_format", *arguments, str(path)]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def framemd5(ffmpeg: Callable[..., bytes]) -> Callable[[Path], list[str]]:
    """`framemd5(path) -> list`: the MD5 of every picture's code values as another program decodes them."""

    def run(path: Path) -> list[str]:
        lines = (
            ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-").decode().splitlines()
        )
        return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]

    return run


def moving_picture(index: int, width: int, height: int) -> np.ndarray:
    """Picture `index` of the standard clip, (height, width, 3) uint8: drifting gradients, crossed by a square."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 40 + 160 * columns / width + 20 * np.sin(index / 5)
    green = 40 + 160 * rows / height + 20 * np.cos(index / 7)
    blue = 128 + 60 * np.sin((columns + rows + 3 * index) / 20)
    picture = np.stack((red, green, blue), axis=-1)
    side = max(4, min(width, height) // 4)
    top, left = (index * 2) % max(1, height - side), (index * 3) % max(1, width - side)
    picture[top : top + side, left : left + side] = (230, 60, 40)
    return picture.round().clip(0, 255).astype(np.uint8)


def _tone(stream: av.AudioStream, pitch_hertz: float, seconds: Fraction) -> list[av.Packet]:
    """A sine, encoded."""
    context = stream.codec_context
    context.layout = "mono"
    context.time_base = Fraction(1, AUDIO_RATE_HERTZ)
    context.open()
    total, step = int(seconds * AUDIO_RATE_HERTZ), 960
    tone = 0.3 * np.sin(2 * np.pi * pitch_hertz * np.arange(total) / AUDIO_RATE_HERTZ)
    fifo, packets = av.AudioFifo(), []
    for begin in range(0, total, step):
        samples = tone[None, begin : begin + step].astype(np.float32)
        if context.format.name.startswith("s16"):
            samples = (samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=context.format.name, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE_HERTZ, begin, Fraction(1, AUDIO_RATE_HERTZ)
        fifo.write(frame)
    for frame in fifo.read_many(context.frame_size or step, partial=True):
        packets += stream.encode(frame)
    return packets + stream.encode(None)


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """The function below; it returns the path it was given."""

    def make(
        path: Path,
        *,
        frames: int = 12,
        rate: Fraction | int = 24,
        size: tuple[int, int] = (64, 48),
        audio: Sequence[str] = (),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        times: Sequence[Fraction] | None = None,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        tags: dict[str, int] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        """A deterministic clip of `moving_picture`s.

        Args:
            path: the extension chooses the container.
            frames: how many.
            rate: per second, constant unless `times` is given.
            size: (width, height).
            audio: an encoder's name for each audio stream, as long as the pictures.
            codec, pix_fmt, options, container_options: of the encoder and the container.
            times: seconds of every frame and, one more, the end of the last: a variable frame rate.
            tags: attributes of the codec context, such as colorspace, or sample_aspect_ratio.
            metadata: of the container.
        """
        width, height = size
        rate = Fraction(rate)
        instants = list(times) if times is not None else [index / rate for index in range(frames + 1)]
        time_base = Fraction(1, 90000) if times is not None else 1 / rate
        with av.open(str(path), "w", container_options=container_options or {}) as container:
            container.metadata.update(metadata or {})
            stream = container.add_stream(codec, rate=rate, options=options or {}, width=width, height=height)
            stream.codec_context.pix_fmt = pix_fmt
            stream.codec_context.time_base = time_base
            for name, value in (tags or {}).items():
                setattr(stream.codec_context, name, value)
            durations: dict[int, int] = {}
            packets = []
            for index, (begin, end) in enumerate(pairwise(instants)):
                frame = av.VideoFrame.from_ndarray(moving_picture(index, width, height), "rgb24").reformat(
                    format=pix_fmt
                )
                frame.pts, frame.time_base = int(begin / time_base), time_base
                durations[frame.pts] = int((end - begin) / time_base)
                packets += stream.encode(frame)
            packets += stream.encode(None)
            # The muxer needs every stream before the first packet.
            pending_audio = [container.add_stream(name, rate=AUDIO_RATE_HERTZ) for name in audio]
            for packet in packets:
                packet.duration = durations[packet.pts]
            for number, sound in enumerate(pending_audio):
                packets += _tone(sound, 330.0 * (number + 1), instants[-1] - instants[0])
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)
        return path

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of random weights: a scene, and its segmentation in the street's ten classes."""
    import torch

    from vidtrans.checkpoint import save_model
    from vidtrans.nets.contract import Domain
    from vidtrans.nets.jwdm import JWDM, JWDMConfig

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "m.safetensors"
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return path


@pytest.fixture(scope="session")
def learn_by_heart() -> Callable[..., tuple[dict[str, float], dict[str, float]]]:
    """`learn_by_heart(step, batch, steps, lr)`: a method's generators alone on one batch, its first and last losses.

    With plays=True the discriminators learn beside them, as in a run.
    """
    import torch

    def learn(step: Any, batch: Any, steps: int, lr: float, *, plays: bool = False) -> Any:
        down = torch.optim.Adam(step.net.parameters(), lr, betas=(0.5, 0.999))
        up = torch.optim.Adam(step.discriminators(), 2e-4, betas=(0.5, 0.999))
        history = []
        for _ in range(steps):
            streams = step(batch)
            if plays:
                _descend(up, step.discriminator_loss(batch, streams))
            terms = step.generator_loss(batch, streams)
            _descend(down, terms)
            history.append({name: term.item() for name, term in terms.items()})
        return history[0], history[-1]

    return learn


def _descend(optimiser: Any, terms: dict[str, Any]) -> None:
    optimiser.zero_grad()
    sum(terms.values()).backward()
    optimiser.step()
