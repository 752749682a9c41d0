"""Numbered images: PNG, TIFF and JPEG, each written under a temporary name and then renamed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vidtrans.errors import OutputError
from vidtrans.remarks import Warn
from vidtrans.video.contract import Output
from vidtrans.video.encoder import EncoderOptions, encoder_settings, find_encoder
from vidtrans.video.frame import Frame, PixelFormat
from vidtrans.video.names import IMAGE_NUMBER
from vidtrans.video.picture import picture_of
from vidtrans.video.pipe_out import Steady

FIRST_NUMBER = 1
# Frames that each encoder makes images of. JPEG is YUV of the full range in the matrix of BT.601 (JFIF 1.02); its
# coarser chroma lies between two columns, ours beside one, so 4:4:4 stands first.
_LOSSLESS = ("gbrp", "gbrp10le", "gbrp12le", "gray", "gray10le", "gray12le")
IMAGE_PIX_FMTS = {"png": _LOSSLESS, "tiff": _LOSSLESS, "mjpeg": ("yuv444p", "yuv422p", "yuv420p")}
# FFmpeg's scale of 1 (best) to 31, in its own unit of 1/118.
_JPEG_SETTINGS = {"flags": "+qscale", "global_quality": str(2 * 118)}


class ImageWriter(Output):
    """Writes frame k as image k of a sequence, from FIRST_NUMBER on; a context manager.

    A run that fails keeps the images made so far: each is whole. A longer sequence that is replaced leaves none of its
    images behind once the new one is complete.

    Args:
        path: a name with %d or %06d in it; the extension chooses the kind of image. The folder is made where only it is
            missing.
        width, height: pixels of every frame.
        pix_fmt: format of every frame, one of IMAGE_PIX_FMTS; above 8 bits images have 16, scaled to their full range.
        encoder: settings.
        steady: images hold no times, and it is noted where frames are not even.
        overwrite: whether a sequence of that name may be replaced.

    Attributes:
        notes: things a user should be told, one line each.

    Raises:
        OutputError: the images cannot be made this way.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        pix_fmt: PixelFormat,
        encoder: EncoderOptions,
        steady: Steady,
        overwrite: bool = False,
    ) -> None:
        check_sequence(path, overwrite=overwrite)
        codec = find_encoder(encoder.codec)
        settings, self.notes = encoder_settings(encoder, codec)
        if codec.name == "mjpeg":
            settings = {**_JPEG_SETTINGS, **settings}
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.time_base = width, height, Fraction(1, 25)
        context.pix_fmt = _stored(pix_fmt, codec.name)
        context.options = settings
        context.thread_type, context.thread_count = "FRAME", encoder.threads
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"{path}: {codec.name} {width}x{height} cannot be encoded here ({error})") from error
        self._context = context
        self._path = path
        self._pix_fmt = pix_fmt
        self._shapes = pix_fmt.plane_shapes(width, height)
        self._steady = steady
        self._is_uneven = False
        self._given = 0
        self._made_folder = not path.parent.exists()
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent}: the folder cannot be made ({error.strerror})") from error

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        if self._made_folder:
            with contextlib.suppress(OSError):  # something is in it
                self._path.parent.rmdir()

    def write(self, frame: Frame) -> None:
        """Appends a frame.

        Raises:
            OutputError: the encoder or the disk refuses.
            ValueError: a frame of another size or format.
        """
        if frame.pix_fmt != self._pix_fmt or tuple(plane.shape for plane in frame.planes) != self._shapes:
            raise ValueError(f"frame of {frame.pix_fmt.name} {frame.width}x{frame.height} does not fit")
        if self._steady.off(frame.time) is not None and not self._is_uneven:
            self._is_uneven = True
            self.notes.append(
                Warn(f"{self._path}: images hold no times and the frame rate varies; --fps gives an even one")
            )
        picture = _picture(frame, str(self._context.pix_fmt))
        picture.pts = self._given
        self._given += 1
        self._store(picture)

    def close(self) -> None:
        """Writes the images still inside the encoder, and removes those of a longer sequence of before.

        Raises:
            OutputError: an image cannot be written.
        """
        self._store(None)
        stale = [path for number, path in _numbered(self._path) if not 0 <= number - FIRST_NUMBER < self._given]
        for path in stale:
            path.unlink(missing_ok=True)
        if stale:
            self.notes.append(f"{self._path}: {len(stale)} images of a longer sequence removed")

    def _store(self, picture: av.VideoFrame | None) -> None:
        try:
            for packet in self._context.encode(picture):
                assert packet.pts is not None  # as it was given
                target = self._path.with_name(_name(self._path, FIRST_NUMBER + packet.pts))
                partial = target.with_name(f".{target.stem}.partial{target.suffix}")
                try:
                    partial.write_bytes(bytes(packet))
                    partial.replace(target)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self._path}: cannot be written further ({error})") from error


def check_sequence(path: Path, *, overwrite: bool) -> None:
    """Refuses a name that no images can be written under.

    Raises:
        OutputError: no such folder, not writable, or images of that name that may not be replaced.
    """
    folder = path.absolute().parent
    if len(IMAGE_NUMBER.findall(path.name)) != 1:
        raise OutputError(f"{path}: must have one number such as %06d in its name")
    if not folder.is_dir():
        if not folder.parent.is_dir() or folder.exists():
            raise OutputError(f"{path}: there is no folder {folder.parent}; make it first")
        folder = folder.parent
    elif not overwrite and (first := min(_numbered(path), default=None)):
        raise OutputError(f"{path}: {first[1].name} exists already; choose another folder or allow overwriting")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: folder {folder} may not be written to; choose another one")


def _numbered(path: Path) -> Iterator[tuple[int, Path]]:
    """The files that are of this sequence, with their numbers."""
    before, after = IMAGE_NUMBER.split(path.name)[0], IMAGE_NUMBER.split(path.name)[-1]
    for entry in path.parent.iterdir():
        found = re.fullmatch(f"{re.escape(before)}([0-9]+){re.escape(after)}", entry.name)
        if found and _name(path, int(found[1])) == entry.name:
            yield int(found[1]), entry


def _name(path: Path, number: int) -> str:
    return IMAGE_NUMBER.sub(lambda match: f"{number:0{match[1] or 1}d}", path.name)


def _stored(pix_fmt: PixelFormat, codec: str) -> str:
    """FFmpeg's name of what the image holds."""
    if pix_fmt.kind == "yuv":
        return pix_fmt.name.replace("yuv", "yuvj")
    order = "be" if codec == "png" else "le"
    if pix_fmt.bits == 8:
        return "rgb24" if pix_fmt.kind == "rgb" else "gray"
    return f"rgb48{order}" if pix_fmt.kind == "rgb" else f"gray16{order}"


def _picture(frame: Frame, stored: str) -> av.VideoFrame:
    bits = frame.pix_fmt.bits
    if frame.pix_fmt.kind == "yuv":
        return picture_of(frame.planes, replace(frame.pix_fmt, name=stored))
    planes = frame.planes
    if bits > 8:  # the top bits again below: the largest code value stays the largest
        planes = tuple((plane << (16 - bits)) | (plane >> (2 * bits - 16)) for plane in planes)
    if frame.pix_fmt.kind == "gray":
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(planes[0]), stored)
    green, blue, red = planes
    return av.VideoFrame.from_ndarray(np.stack((red, green, blue), axis=-1), stored)
