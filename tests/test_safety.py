"""Files that were made to do harm: none of them opens another file or a connection, or takes memory by a lie."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from test_upsample import command_line, make_model

from vidtrans.checkpoint import load_model
from vidtrans.errors import InputError, UsageError, VidtransError
from vidtrans.options import UpsampleOptions
from vidtrans.text import plain
from vidtrans.video.local_file import Address, source_named
from vidtrans.video.reader import VideoReader

HUGE = 30000


class Listener:
    """A socket that nothing may connect to."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._done.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def frames(path: str | Path | Address, **options: Any) -> int:
    with VideoReader(path, **options) as reader:
        return sum(1 for _ in reader)


def playlists(folder: Path, canary: Path, port: int) -> dict[str, str]:
    """Name -> content of scripts that lead to the canary, or to an address."""
    url = f"http://127.0.0.1:{port}/clip.ts"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet>'
        '<Representation id="1" mimeType="video/mp4"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period>'
        "</MPD>"
    )
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 26\n"
    made = {"session.sdp": sdp, "redirect.rtsp": f"RTSPtextRTSP://127.0.0.1:{port}/clip\n"}
    for where, target in (("file", str(canary)), ("near", canary.name), ("url", url)):
        made |= {
            f"{where}.m3u8": hls.format(target),
            f"{where}.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
            f"{where}.mpd": dash.format(target),
            f"{where}.asx": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>\n',
            f"{where}.imf": f'<?xml version="1.0"?><CompositionPlaylist><Id>{target}</Id></CompositionPlaylist>\n',
        }
    return made


def test_what_only_names_other_media_is_not_followed(
    make_clip: Callable[..., Path], listener: Listener, tmp_path: Path
) -> None:
    canary = make_clip(tmp_path / "canary.ts", frames=5)
    for name, content in playlists(tmp_path, canary, listener.port).items():
        for posing in (name, f"{name}.mp4", f"{name}.mkv"):
            path = tmp_path / posing
            path.write_text(content)
            with pytest.raises(InputError, match="is not a video"):
                frames(path)
    assert listener.connections == 0
    # These are real: FFmpeg alone follows them.
    for name in ("near.m3u8", "near.ffconcat"):
        with av.open(str(tmp_path / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5


def test_a_name_is_no_pattern_of_images(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(3):
        make_clip(
            tmp_path / f"{number:03d}.png", frames=1, codec="png", pix_fmt="rgb24", container_options={"update": "1"}
        )
    pattern = tmp_path / "%03d.png"
    pattern.write_bytes(b"no picture")
    with av.open(str(pattern)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    with pytest.raises(InputError, match="is not a video"):
        frames(pattern)


def with_box(data: bytes, path: list[bytes], new: bytes) -> bytes:
    """An MP4 whose box at that path is replaced; the sizes of those around it follow."""
    made, place = b"", 0
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        box = data[place : place + size]
        if kind == path[0]:
            box = new if len(path) == 1 else box[:8] + with_box(box[8:], path[1:], new)
            box = struct.pack(">I", len(box)) + box[4:]
        made += box
        place += size
    return made


def test_media_in_another_file_are_not_read(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """QuickTime's data references: an alias, as FFmpeg reads it, to the file that holds the pictures."""
    canary = make_clip(tmp_path / "canary.mov", frames=5, codec="mjpeg", pix_fmt="yuvj420p", tags={"color_range": 2})
    name = canary.name.encode()
    volume, file_name = b"\x04disk".ljust(28, b"\0"), bytes([len(name)]) + name.ljust(63, b"\0")
    alias = b"\0" * 10 + volume + b"\0" * 12 + file_name + b"\0" * 16 + struct.pack(">hh", 1, 1) + b"\0" * 16
    text = str(canary).encode()
    alias += struct.pack(">hh", 2, len(text)) + text + b"\0" * (len(text) % 2) + struct.pack(">hh", -1, 0) + b"\0" * 20
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    posing = with_box(canary.read_bytes(), [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], dref)
    path = tmp_path / "in.mov"
    path.write_bytes(with_box(posing, [b"mdat"], struct.pack(">I4s", 8, b"mdat")))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    with pytest.raises(InputError):
        frames(path)


def test_a_link_is_only_another_name(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(make_clip(tmp_path / "clip.mp4", frames=2))
    assert frames(tmp_path / "link.mp4") == 2


class Served(BaseHTTPRequestHandler):
    """What a test puts into `answers`: path -> (status, headers, content)."""

    answers: dict[str, tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, headers, content = self.answers[self.path]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_addresses_are_read_where_their_protocols_are_named(
    make_clip: Callable[..., Path], listener: Listener, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5, container_options={"movflags": "faststart"})
    script = playlists(tmp_path, clip, listener.port)
    Served.answers = {
        "/clip.mp4?x=1": (200, {}, clip.read_bytes()),
        "/away.mp4": (302, {"Location": f"file://{clip}"}, b""),
        "/list.mp4": (200, {}, script["file.m3u8"].encode()),
        "/script.mp4": (200, {}, script["file.ffconcat"].encode()),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base, allowed = f"http://127.0.0.1:{server.server_port}", ("http", "tcp")
        assert frames(Address(f"{base}/clip.mp4?x=1", allowed)) == 5
        for name in ("away.mp4", "list.mp4", "script.mp4"):
            with pytest.raises(InputError):
                frames(Address(f"{base}/{name}", allowed))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    for protocols in ((), ("https", "tls", "tcp")):
        with pytest.raises(InputError, match="--protocols http,tcp"):
            frames(Address(f"http://127.0.0.1:{listener.port}/clip.mp4", protocols))
    for name in ("concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:/etc/hosts", "data:video/mp4,x"):
        with pytest.raises(InputError, match="no such file"):  # names of files, by their look
            frames(name)
    assert listener.connections == 0


def test_an_address_as_input() -> None:
    url = "https://example.org/a/b%20c.mp4?t=1"
    options = UpsampleOptions(source_named(url), "winter", protocols=("https", "tls"), factor=2)
    assert options.input == Address(url, ("https", "tls"))
    assert options.output_paths == (Path("b c.x2.mp4"), Path("b c.x2.winter.mp4"))
    with pytest.raises(UsageError, match="no protocol"):
        UpsampleOptions(source_named(url), "winter", protocols=("https;file",))


# Sizes that are lies


def bits(*fields: tuple[str, int, int] | tuple[str, int]) -> bytes:
    """H.264's u(n) and ue(v) fields, a stop bit and zeros."""
    text = ""
    for field in fields:
        if field[0] == "u":
            text += format(field[1], f"0{field[2]}b")  # type: ignore[misc]
        else:
            code = format(field[1] + 1, "b")
            text += "0" * (len(code) - 1) + code
    text += "1"
    text += "0" * (-len(text) % 8)
    return bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))


def huge_h264() -> bytes:
    """One picture that says it has HUGE x HUGE pixels, and ends at once (ITU-T H.264, 7.3.2)."""
    side = HUGE // 16 - 1
    sps = bits(
        *(("u", 66, 8), ("u", 0, 8), ("u", 62, 8), ("ue", 0), ("ue", 0), ("ue", 2), ("ue", 1), ("u", 0, 1)),
        *(("ue", side), ("ue", side), ("u", 1, 1), ("u", 0, 1), ("u", 0, 1), ("u", 0, 1)),
    )
    pps = bits(
        *(("ue", 0), ("ue", 0), ("u", 0, 1), ("u", 0, 1), ("ue", 0), ("ue", 0), ("ue", 0), ("u", 0, 1), ("u", 0, 2)),
        *(("ue", 0), ("ue", 0), ("ue", 0), ("u", 0, 1), ("u", 0, 1), ("u", 0, 1)),
    )
    picture = bits(
        ("ue", 0), ("ue", 7), ("ue", 0), ("u", 0, 4), ("ue", 0), ("u", 0, 2), ("ue", 0), ("ue", 5), ("ue", 3)
    )
    start = b"\0\0\0\1"
    return start + b"\x67" + sps + start + b"\x68" + pps + start + b"\x65" + picture * 40


def liars(folder: Path, make_clip: Callable[..., Path]) -> list[Path]:
    """Small files that say that their pictures have HUGE x HUGE pixels."""
    made = []
    png = make_clip(folder / "0.png", frames=1, codec="png", pix_fmt="rgb24", container_options={"update": "1"})
    data = bytearray(png.read_bytes())
    place = data.find(b"IHDR")
    data[place + 4 : place + 12] = struct.pack(">II", HUGE, HUGE)
    data[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(data[place : place + 17]))
    png.write_bytes(data)
    made.append(png)
    for name in ("1.mov", "2.avi", "3.mkv"):
        clip = make_clip(folder / name, frames=3, codec="mjpeg", pix_fmt="yuvj420p", tags={"color_range": 2})
        data = bytearray(clip.read_bytes())
        place = -1
        while (place := data.find(b"\xff\xc0", place + 1)) >= 0:
            data[place + 5 : place + 9] = struct.pack(">HH", HUGE, HUGE)
        clip.write_bytes(data)
        made.append(clip)
    stream = folder / "4.h264"
    stream.write_bytes(huge_h264() * 3)
    made.append(stream)
    made.append(folder / "5.ts")  # no header: FFmpeg looks into the pictures while it opens the file
    with av.open(str(made[-1]), "w") as container:
        track = container.add_stream("libx264", rate=25, width=64, height=64)
        track.codec_context.pix_fmt = "yuv420p"
        for number in range(30):
            packet = av.Packet(huge_h264())
            packet.stream, packet.pts, packet.dts = track, number, number
            packet.time_base, packet.is_keyframe = 1 / track.average_rate, True
            container.mux(packet)
    return made


MEASURED = """
import resource, sys
from vidtrans.errors import InputError
from vidtrans.video.reader import VideoReader
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for path in sys.argv[1:]:
    before = peak()
    try:
        with VideoReader(path) as reader:
            print("read", sum(1 for _ in reader), peak() - before)
    except InputError as error:
        print(peak() - before, error)
"""


def test_huge_pictures_are_refused_before_they_take_memory(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    paths = liars(tmp_path, make_clip)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, paths)], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for line in lines:
        megabytes, _, message = line.partition(" ")
        assert int(megabytes) < 80, line
        assert "--max-pixels" in message


def test_the_limit_is_the_users(
    make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2, size=(64, 48))
    assert frames(clip, max_pixels=64 * 48) == 2
    with pytest.raises(InputError, match="64x48 are beyond the limit of 3071 pixels"):
        frames(clip, max_pixels=64 * 48 - 1)
    model = make_model(tmp_path / "m.safetensors")
    assert command_line(monkeypatch, "upsample", clip, "--to", "segmentation", "--model", model, "--max-pixels", 9) == 3
    assert "64x48" in capsys.readouterr().err


# What a file says about itself, on a terminal

NASTY = "a\x1b[31m\nb\u202e[bold]:heart:\x07.mp4"


def test_names_and_tags_reach_the_terminal_written_out(
    make_clip: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = make_clip(
        tmp_path / "in.mp4", frames=2, audio=["aac"], metadata={"title": "\x1b[31m\n$(touch x)\x1b]0;x\x07"}
    )
    nasty = clip.rename(tmp_path / NASTY)
    model = make_model(tmp_path / "m.safetensors")
    for arguments, code in (
        ((nasty, "--to", "segmentation", "--model", model, "--factor", 2), 0),
        ((nasty, "--to", "segmentation", "--model", model, "--factor", 2), 5),
        ((nasty.with_name(f"no{NASTY}"), "--to", "segmentation", "--model", model), 3),
        ((nasty, "--to", NASTY, "--model", model), 2),
        ((nasty, f"no{NASTY}", "--to", "segmentation", "--model", model, "--factor", 2, "-y"), 3),
        ((nasty, f"--{NASTY}"), 2),
    ):
        assert command_line(monkeypatch, "upsample", *arguments) == code
        out, err = capsys.readouterr()
        assert not out
        assert not set(err) & {"\x1b", "\x07", "\u202e"}
        assert "\\x1b[31m" in err
        assert "[bold]:heart:" in err
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {NASTY, f"{NASTY[:-4]}.x2.mp4", f"{NASTY[:-4]}.x2.segmentation.mp4", "m.safetensors"}


def test_plain_text_stays_and_what_acts_is_written_out() -> None:
    assert plain("größer 日本 👩\u200d🚀 [x].mp4") == "größer 日本 👩\u200d🚀 [x].mp4"
    assert plain("\x00\x1b\x7f\x85\x9b\u2028\u202e\u2066\udcff") == (
        "\\x00\\x1b\\x7f\\x85\\x9b\\u2028\\u202e\\u2066\\udcff"
    )


# Models


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], header: bytes | None = None) -> Path:
    """The model with its header changed."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    parsed = json.loads(data[8 : 8 + length])
    change(parsed)
    header = json.dumps(parsed).encode() if header is None else header
    made = path.with_name("changed.safetensors")
    made.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    return made


def config_with(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        header["__metadata__"]["config"] = json.dumps({**config, **changes})

    return change


def first(header: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in header.items() if name != "__metadata__")


@pytest.mark.parametrize(
    "change",
    [
        config_with(width=100000),
        config_with(width=8),
        config_with(width=True),
        config_with(width="4"),
        config_with(blocks=10**9),
        config_with(latent_channels=-1),
        config_with(trained_size=[10**9, 10**9]),
        config_with(trained_size=[48]),
        config_with(domains=[{"name": f"d{k}"} for k in range(10000)]),
        config_with(domains="ab"),
        config_with(domains=[{"name": "../../x"}, {"name": "y"}]),
        lambda header: first(header).update(shape=[-1, -4]),
        lambda header: first(header).update(shape=[1 << 40, 1 << 40]),
        lambda header: first(header).update(shape=[2] * 200000),
        lambda header: first(header).update(shape=None),
        lambda header: first(header).update(dtype="F8"),
        lambda header: first(header).update(data_offsets=[0, 1 << 50]),
        lambda header: [entry.update(data_offsets=[0, 64]) for name, entry in header.items() if "_" not in name],
        lambda header: header.pop(next(name for name in header if name != "__metadata__")),
        lambda header: header["__metadata__"].update(config="[" * 100000),
        lambda header: header["__metadata__"].update(config="[]"),
        lambda header: header["__metadata__"].update(trained="no JSON"),
        lambda header: header["__metadata__"].update(quality="[1]"),
        lambda header: header["__metadata__"].pop("config"),
        lambda header: header["__metadata__"].update(family="os"),
    ],
)
def test_models_that_lie_are_refused_before_anything_is_built(
    change: Callable[[dict[str, Any]], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rewritten(make_model(tmp_path / "m.safetensors"), change)

    def built(*_: object, **__: object) -> None:
        raise AssertionError("tensors are read")

    monkeypatch.setattr("vidtrans.checkpoint.safe_open", built)
    with pytest.raises(UsageError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 3_000_000,
        b"{" * 50,
        b"[]",
        b'{"a":' * 100000,
        b"\xff\xfe",
        b'{"__metadata__":{"a":1}}',
        b"9" * 10000,
        b" " * (5 << 20),
    ],
)
def test_headers_that_are_bombs(header: bytes, tmp_path: Path) -> None:
    model = make_model(tmp_path / "m.safetensors")
    with pytest.raises(UsageError):
        load_model(rewritten(model, lambda parsed: None, header))


def test_files_that_are_no_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    for content in (path.read_bytes(), b"", b"\xff" * 8, b"\xff" * 100, (1 << 40).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        with pytest.raises(VidtransError):
            load_model(path)
    good = make_model(path).read_bytes()
    for content in (good[:-1], good + b"x"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="bytes"):
            load_model(path)
    path.write_bytes(good)
    assert np.isfinite(next(load_model(path).net.parameters()).numpy()).all()
