"""The file behind a name: local, there, whole by its own account, and open; or an address, where that was allowed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av

from vidtrans.errors import InputError, UsageError
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.container_size import declared_size

_BLOCKS, _BLOCK_BYTES = 64, 64 * 1024
_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS
WHOLE_PART = "copy or download it again, or use only its whole part, re-encoded with: ffmpeg -i INPUT REPAIRED.mp4"
# 16K, 15360x8640: a frame of it takes 200 MB in 8 bits 4:2:0.
DEFAULT_MAX_PIXELS = 1 << 27
# FFmpeg's readers of files that hold media themselves. What only names other files or addresses (playlists, scripts,
# patterns of images, session descriptions), draws text or opens a device is not among them.
CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "nut", "flv", "live_flv", "asf", "ogg", "mxf", "gxf", "rm", "wtv"),
    *("dv", "ivf", "yuv4mpegpipe", "amv", "nsv", "dhav", "swf", "flic", "gif", "apng", "webp", "jpegxl_anim"),
    *("h261", "h263", "h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "vc1test", "dirac", "cavsvideo", "obu", "av1"),
    *("mjpeg", "mpjpeg", "wav", "mp3", "flac", "aac", "aiff"),
    *("bmp_pipe", "dpx_pipe", "exr_pipe", "hdr_pipe", "j2k_pipe", "jpeg_pipe", "jpegls_pipe", "jpegxl_pipe"),
    *("pam_pipe", "pbm_pipe", "pfm_pipe", "pgm_pipe", "pgmyuv_pipe", "png_pipe", "ppm_pipe", "qoi_pipe", "sgi_pipe"),
    *("tiff_pipe", "webp_pipe"),
)
_NETWORK_SECONDS = 30.0
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Address:
    """A video that is not a local file; it has the parts of a path that names of outputs are made of.

    Attributes:
        url: its address.
        protocols: what FFmpeg may open for it, by FFmpeg's names.
    """

    url: str
    protocols: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the address, without what follows a question mark."""
        return Path(unquote(urlsplit(self.url).path)).name or "video"

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def with_name(self, name: str) -> Path:
        """A file of that name in the current folder."""
        return Path(name)


Source = Path | Address


def source_named(text: str | Source) -> Source:
    """What a user means by the name of a video: a local file, `file://` names included, or an address."""
    if isinstance(text, Address):
        return text
    match = _ADDRESS.match(str(text))
    if match is None:
        return Path(text)
    return Path(unquote(urlsplit(str(text)).path)) if match[1].lower() == "file" else Address(str(text))


def allowed(source: Source, protocols: tuple[str, ...]) -> Source:
    """The source, with the protocols that may be used for it.

    Raises:
        UsageError: what can be no name of a protocol.
    """
    for name in protocols:
        if not re.fullmatch(r"[a-z0-9]+", name):
            raise UsageError(f"--protocols {name!r} is no protocol; give FFmpeg's names, such as https,tls,tcp")
    return replace(source, protocols=protocols) if isinstance(source, Address) else source


def check_source(source: Source) -> bool:
    """Refuses an address of a protocol that was not allowed, and what `check_whole` refuses; returns what it does.

    Raises:
        InputError: nothing is fetched, nothing is opened.
    """
    if isinstance(source, Path):
        return check_whole(source)
    scheme = source.url.split(":", 1)[0].lower()
    if scheme not in source.protocols:
        parts = {"https": "https,tls,tcp", "http": "http,tcp"}.get(scheme, scheme)
        raise InputError(
            f"{source}: only local files are read; download it first, or allow its protocol with --protocols {parts}"
        )
    return False


def check_whole(path: Path) -> bool:
    """Refuses what cannot be a whole video file. Returns whether the file states its size (and is as long as that).

    Raises:
        InputError: no such file, a folder, unreadable, empty or shorter than it says.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a video file in it")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        actual, declared = path.stat().st_size, declared_size(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if actual == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if declared is not None and declared > actual:
        missing = declared - actual
        raise InputError(f"{path}: is cut off, {missing} of its {declared} bytes are missing; {WHOLE_PART}")
    return declared is not None


def open_piped_container(
    stream: ByteStream, rate: Fraction | None = None, max_pixels: int | None = None
) -> av.container.InputContainer:
    """The container that comes through a pipe, opened by FFmpeg, which may open nothing else from there.

    rate: of pictures one after the other, which have no times; of anything else it must be None.
    max_pixels: of a frame, at most.

    Raises:
        InputError: FFmpeg finds no media in it that can be read without going back, or its frames are too large.
        UsageError: a rate for what has times of its own.
    """
    options = {"protocol_whitelist": "none", "format_whitelist": ",".join(CONTAINERS)}
    options |= {} if rate is None else {"framerate": str(rate)}
    options |= {} if max_pixels is None else {"max_pixels": str(max_pixels)}
    try:
        container = av.open(stream, "r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{stream.name}: is not a video that can be read from a pipe ({error.strerror}); with ffmpeg write it as "
            "-f nut or -f yuv4mpegpipe, or say --in-format rawvideo, or name a file"
        ) from error
    try:
        if rate is not None and not is_untimed(container):
            raise times_of_its_own(stream.name)
        if max_pixels is not None:
            check_pixels(stream.name, container, max_pixels)
    except (InputError, UsageError):
        container.close()
        raise
    return container


def is_untimed(container: av.container.InputContainer) -> bool:
    """Whether it is nothing but pictures, as ffmpeg's -f image2pipe and -f h264 write them."""
    return bool(container.format.flags & _NO_TIMESTAMPS) or container.format.name.endswith("_pipe")


def times_of_its_own(name: str) -> UsageError:
    """The error for a rate told of what needs none."""
    return UsageError(f"{name}: has times of its own, --rate-in is for images, rawvideo and y4m; leave it out")


def open_container(source: Source, max_pixels: int | None = None) -> av.container.InputContainer:
    """The source opened by FFmpeg, which may open nothing else from there, whatever the file says.

    max_pixels: of a frame, at most; larger ones are never allocated.

    Raises:
        InputError: FFmpeg finds no media in it, it is a file of another kind, or its frames are too large.
    """
    if max_pixels is None:
        return _opened(source, {})
    if isinstance(source, Path) and source.is_file():
        # FFmpeg decodes a first picture to learn of a stream, and in containers without a header no limit reaches its
        # decoder; so the sizes are read first, without any.
        with _opened(source, {"codec_whitelist": "none"}) as container:
            check_pixels(source, container, max_pixels)
    container = _opened(source, {"max_pixels": str(max_pixels)})
    try:
        check_pixels(source, container, max_pixels)
    except InputError:
        container.close()
        raise
    return container


def check_pixels(source: Source | str, container: av.container.InputContainer, max_pixels: int) -> None:
    """Refuses pictures that are too large by the container's word; decoders get the limit, too.

    Raises:
        InputError: one stream has frames of more than max_pixels.
    """
    for stream in container.streams.video:
        context = stream.codec_context
        if context is None:
            continue
        context.options = {**context.options, "max_pixels": str(max_pixels)}
        check_frame_size(source, context.width, context.height, max_pixels)


def check_frame_size(source: Source | str, width: int, height: int, max_pixels: int) -> None:
    """Refuses frames that are too large.

    Raises:
        InputError: they have more than max_pixels.
    """
    if width * height > max_pixels:
        raise InputError(
            f"{source}: its frames of {width}x{height} are beyond the limit of {max_pixels} pixels; raise it with "
            "--max-pixels if there is memory for them"
        )


def _opened(source: Source, options: dict[str, str]) -> av.container.InputContainer:
    # With its protocol spelled out no name is taken for an address.
    name = f"file:{source.absolute()}" if isinstance(source, Path) else source.url
    protocols = ("file",) if isinstance(source, Path) else source.protocols
    limits = {"protocol_whitelist": ",".join(protocols), "format_whitelist": ",".join(CONTAINERS)}
    try:
        return av.open(
            name,
            options={**limits, **options},
            metadata_errors="replace",
            timeout=None if isinstance(source, Path) else _NETWORK_SECONDS,
        )
    except av.error.ArgumentError as error:
        raise InputError(
            f"{source}: is not a video but a file of another kind (a playlist, a script, text ...), and those are not "
            "followed; name the video itself"
        ) from error
    except av.FFmpegError as error:
        if isinstance(source, Address):
            raise InputError(
                f"{source}: cannot be opened ({error.strerror}); is it right, and are all its protocols in --protocols?"
            ) from error
        raise InputError(
            f"{source}: is not a video, or its index is damaged or missing ({error.strerror}); does it play elsewhere?"
        ) from error


def fingerprint(path: Path) -> dict[str, str | int]:
    """What tells one file from another without reading it whole: its size and a digest of blocks all over it."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(number * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return {"bytes": size, "sha256_of_blocks": digest.hexdigest()}
