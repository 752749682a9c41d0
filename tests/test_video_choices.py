"""What is chosen for an output before its first frame: pixel format, colour tags, clock."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vidtrans.errors import OutputError
from vidtrans.video.clock import MAX_TICKS_PER_SECOND, exact_time_base
from vidtrans.video.encoder import EncoderOptions, choose_pix_fmt, encoder_settings, find_encoder
from vidtrans.video.frame import PIXEL_FORMATS, Colour


@pytest.mark.parametrize(
    ("codec", "source", "expected"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv444p", "yuv444p"),
        ("libx264", "yuv422p10le", "yuv422p10le"),
        ("libx264", "yuv420p12le", "yuv420p10le"),
        ("libx264", "gbrp", "yuv444p"),
        ("libx264", "gbrp12le", "yuv444p10le"),
        ("libx264", "gray", "yuv420p"),
        ("libx265", "gray12le", "yuv420p12le"),
        ("ffv1", "gray10le", "yuv420p10le"),
        ("libx264rgb", "yuv420p", "gbrp"),
        ("libvpx-vp9", "gray", "yuv420p"),
        ("ffv1", "gbrp12le", "gbrp12le"),
        ("png", "yuv420p", "gbrp"),
    ],
)
def test_default_format_keeps_what_the_encoder_can_keep(codec: str, source: str, expected: str) -> None:
    assert choose_pix_fmt(EncoderOptions(codec=codec), PIXEL_FORMATS[source]).name == expected


def test_wishes_an_encoder_does_not_know_are_named() -> None:
    settings, notes = encoder_settings(EncoderOptions(codec="ffv1", crf=20, preset="slow"), find_encoder("ffv1"))
    assert settings == {}
    assert [note.split(",")[0] for note in notes] == ["encoder ffv1 has no presets", "encoder ffv1 has no crf"]


def test_crf_zero_is_lossless_at_every_depth() -> None:
    for codec, expected in (("libx264", ("qp", "0")), ("libx265", ("x265-params", "log-level=error:lossless=1"))):
        settings, _ = encoder_settings(EncoderOptions(codec=codec, crf=0), find_encoder(codec))
        assert expected in settings.items()


def test_format_asked_for() -> None:
    source = PIXEL_FORMATS["yuv420p"]
    assert choose_pix_fmt(EncoderOptions(pix_fmt="yuv444p"), source).name == "yuv444p"
    assert choose_pix_fmt(EncoderOptions(pix_fmt="nv12"), source).name == "yuv420p"
    with pytest.raises(OutputError, match="it takes: yuv420p"):
        choose_pix_fmt(EncoderOptions(pix_fmt="gbrp12le"), source)
    with pytest.raises(OutputError, match="did you mean 'yuv420p'"):
        choose_pix_fmt(EncoderOptions(pix_fmt="yuv420"), source)


def test_exact_time_base() -> None:
    assert exact_time_base(Fraction(1, 24000) / 8) == Fraction(1, 192000)
    assert exact_time_base(Fraction(1001, 24000) / 8) == Fraction(1, 192000)
    assert exact_time_base(Fraction(1001, 60000), Fraction(1, 90000)) == Fraction(1, 180000)
    rounded = exact_time_base(Fraction(1, 90000), Fraction(1, 99991))
    assert rounded.numerator == 1
    assert rounded.denominator % 90000 == 0
    assert rounded.denominator <= MAX_TICKS_PER_SECOND < rounded.denominator + 90000
    with pytest.raises(ValueError, match="above zero"):
        exact_time_base()


def test_colour_of_an_output_in_another_format() -> None:
    source = Colour("bt601", True, primaries=1, transfer=13)
    yuv, rgb, gray = PIXEL_FORMATS["yuv420p"], PIXEL_FORMATS["gbrp"], PIXEL_FORMATS["gray"]
    assert source.stored_as(yuv, PIXEL_FORMATS["yuv444p10le"], 64, 48) is source
    assert source.stored_as(yuv, rgb, 64, 48) == Colour("bt601", True, 0, 2, 1, 13)
    assert source.stored_as(rgb, yuv, 1280, 720) == Colour("bt709", False, 1, 1, 1, 13)
    assert (
        source.stored_as(gray, yuv, 64, 48)
        == source.stored_as(gray, gray, 64, 48)
        == Colour("bt601", True, 2, 2, 1, 13)
    )
