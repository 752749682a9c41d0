"""Our conversion between code values and RGB: against its own inverse, against its definition, and against FFmpeg's."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vidtrans.video.colour import planes_to_rgb, rgb_to_planes, round_planes, to_uint8_rgb
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame, Matrix, PixelFormat

MATRICES: tuple[Matrix, ...] = ("bt601", "bt709", "bt2020")


def smooth_rgb(width: int, height: int) -> torch.Tensor:
    """(1, 3, H, W): slow gradients well inside the gamut."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack((0.2 + 0.6 * rows, 0.3 + 0.4 * columns, 0.7 - 0.4 * rows * columns))[None]


def random_planes(pix_fmt: PixelFormat, width: int, height: int) -> tuple[torch.Tensor, ...]:
    """Any code values at all, also those outside the nominal range."""
    generator = torch.Generator().manual_seed(5)
    shapes = pix_fmt.plane_shapes(width, height)
    return tuple(torch.randint(0, pix_fmt.max_code + 1, (2, *shape), generator=generator).float() for shape in shapes)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    "name", [name for name, known in PIXEL_FORMATS.items() if (known.chroma_shift_x, known.kind) != (1, "yuv")]
)
def test_full_size_chroma_makes_the_way_back_exact(name: str, full_range: bool, matrix: Matrix) -> None:
    pix_fmt, colour = PIXEL_FORMATS[name], Colour(matrix, full_range)
    planes = random_planes(pix_fmt, 33, 17)
    back = rgb_to_planes(planes_to_rgb(planes, pix_fmt, colour), pix_fmt, colour)
    for before, after, whole in zip(planes, back, round_planes(back, pix_fmt), strict=True):
        assert (before - after).abs().max() < 0.05
        assert whole.dtype == (torch.uint8 if pix_fmt.bits == 8 else torch.uint16)
        assert torch.equal(whole.int(), before.int())


@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1), (2, 3)])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv420p10le", "yuv422p12le"])
def test_subsampled_way_back_keeps_luma_and_smooth_chroma(name: str, size: tuple[int, int]) -> None:
    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt709", False)
    planes = rgb_to_planes(smooth_rgb(*size), pix_fmt, colour)
    assert tuple(tuple(plane.shape[1:]) for plane in planes) == pix_fmt.plane_shapes(*size)
    assert planes_to_rgb(planes, pix_fmt, colour).shape == (1, 3, size[1], size[0])
    if size != (64, 48):  # a gradient over few pixels is not smooth
        return
    back = rgb_to_planes(planes_to_rgb(planes, pix_fmt, colour), pix_fmt, colour)
    assert (planes[0] - back[0]).abs().max() < 0.05
    # The two filters, one after the other, blur a little.
    for before, after in zip(planes[1:], back[1:], strict=True):
        assert (before - after).abs().max() < 1.5 * 2 ** (pix_fmt.bits - 8)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p"])
def test_chroma_sits_with_the_left_column_and_between_the_rows(name: str) -> None:
    """A ramp of chroma along one axis comes out as the value of the ramp at the sample's own place."""
    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt709", True)
    grey = torch.full((1, 3, 16, 16), 0.5)
    ramp = torch.arange(16.0) / 100
    across, down = grey.clone(), grey.clone()
    across[:, 2] += ramp[None]
    down[:, 2] += ramp[:, None]
    plain = rgb_to_planes(grey, PIXEL_FORMATS["yuv444p"], colour)[1]
    full_across = rgb_to_planes(across, PIXEL_FORMATS["yuv444p"], colour)[1] - plain
    full_down = rgb_to_planes(down, PIXEL_FORMATS["yuv444p"], colour)[1] - plain
    got_across = rgb_to_planes(across, pix_fmt, colour)[1] - 128
    got_down = rgb_to_planes(down, pix_fmt, colour)[1] - 128
    torch.testing.assert_close(
        got_across[:, 2, 1:7], full_across[:, 2, 2:14:2] + plain[0, 0, 0] - 128, atol=1e-3, rtol=0
    )
    middle = full_down[:, :, 4] if name == "yuv422p" else (full_down[:, 0::2, 4] + full_down[:, 1::2, 4]) / 2
    torch.testing.assert_close(got_down[:, :, 2], middle + plain[0, 0, 0] - 128, atol=1e-3, rtol=0)
    # And the way up puts it back where it was: inside, a ramp survives both ways.
    back = planes_to_rgb(rgb_to_planes(across, pix_fmt, colour), pix_fmt, colour)
    torch.testing.assert_close(back[..., 4:12], across[..., 4:12], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le", "gray", "gbrp"])
def test_to_planes_is_affine(name: str) -> None:
    """Weighted sums commute with it: carried detail is computed in planes and relies on that."""
    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt601", False)
    left, right = torch.randn(2, 1, 3, 17, 33, generator=torch.Generator().manual_seed(1)).unbind(0)
    blended = rgb_to_planes(0.3 * left + 0.7 * right, pix_fmt, colour)
    for got, first, second in zip(
        blended, rgb_to_planes(left, pix_fmt, colour), rgb_to_planes(right, pix_fmt, colour), strict=True
    ):
        torch.testing.assert_close(got, 0.3 * first + 0.7 * second, atol=2e-3, rtol=1e-5)


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "yuv444p"])
@pytest.mark.parametrize("full_range", [False, True])
def test_grey_ramp_keeps_its_mean_luma(name: str, full_range: bool) -> None:
    """Through the network's 8-bit RGB and back: a shift of the mean would make every keyframe flash."""
    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt709", full_range)
    unit = 2 ** (pix_fmt.bits - 8)
    luma = torch.arange(20 * unit, 230 * unit).repeat(4, 1)
    shapes = pix_fmt.plane_shapes(luma.shape[1], luma.shape[0])
    planes = (luma, *(torch.full(shape, 128 * unit) for shape in shapes[1:]))
    arrays = tuple(plane.numpy().astype(pix_fmt.dtype) for plane in planes)
    rgb = to_uint8_rgb(Frame(arrays, Fraction(0), Fraction(1), pix_fmt, colour))
    back = rgb_to_planes(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255, pix_fmt, colour)[0]
    assert abs((back - luma).mean().item()) < 0.05 * unit


def test_known_code_values() -> None:
    """White, black and the primaries at 8 bits as the standards' tables give them."""
    rgb = torch.tensor([[1.0, 0, 1, 0, 0], [1.0, 0, 0, 1, 0], [1.0, 0, 0, 0, 1]])[None, :, None]
    expected = {
        ("bt601", False): [[235, 16, 81, 145, 41], [128, 128, 90, 54, 240], [128, 128, 240, 34, 110]],
        ("bt709", False): [[235, 16, 63, 173, 32], [128, 128, 102, 42, 240], [128, 128, 240, 26, 118]],
        ("bt601", True): [[255, 0, 76, 150, 29], [128, 128, 85, 44, 255], [128, 128, 255, 21, 107]],
    }
    for (matrix, full_range), table in expected.items():
        yuv444p = PIXEL_FORMATS["yuv444p"]
        planes = round_planes(rgb_to_planes(rgb, yuv444p, Colour(matrix, full_range)), yuv444p)
        assert [plane[0, 0].tolist() for plane in planes] == table


def test_rounding_is_to_even_and_clips_once() -> None:
    ten_bits = PIXEL_FORMATS["gray10le"]
    (whole,) = round_planes((torch.tensor([[-3.0, 0.5, 1.5, 1022.6, 1e6]]),), ten_bits)
    assert whole.tolist() == [[0, 0, 2, 1023, 1023]]
    assert whole.numpy().dtype == np.uint16


def test_batch_is_the_same_as_one_by_one() -> None:
    pix_fmt, colour = PIXEL_FORMATS["yuv420p"], Colour("bt709", False)
    planes = random_planes(pix_fmt, 20, 12)
    together = planes_to_rgb(planes, pix_fmt, colour)
    for index in range(2):
        assert torch.equal(planes_to_rgb(tuple(plane[index] for plane in planes), pix_fmt, colour)[0], together[index])


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_agrees_with_ffmpeg(
    name: str, full_range: bool, matrix: Matrix, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    pix_fmt, colour = PIXEL_FORMATS[name], Colour(matrix, full_range)
    width, height = 96, 64
    whole = round_planes(rgb_to_planes(smooth_rgb(width, height), pix_fmt, colour), pix_fmt)
    (tmp_path / "in.raw").write_bytes(b"".join(plane.numpy().tobytes() for plane in whole))
    span = "pc" if full_range else "tv"
    # The scaler would put chroma midway between two columns unless it is told where the standards put it.
    where = (
        f"in_h_chr_pos={0 if pix_fmt.chroma_shift_x else -513}:in_v_chr_pos={128 if pix_fmt.chroma_shift_y else -513}"
    )
    ranges = f"in_color_matrix={matrix}:in_range={span}:out_range=pc"
    scale = f"scale={ranges}:{where}:flags=accurate_rnd+full_chroma_int+bicubic,format=rgb24"
    raw = ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", name, "-s", f"{width}x{height}", "-i", tmp_path / "in.raw"),
        *("-vf", scale, "-f", "rawvideo", "-"),
    )
    theirs = np.frombuffer(raw, np.uint8).reshape(height, width, 3).astype(int)
    ours = to_uint8_rgb(
        Frame(tuple(plane[0].numpy() for plane in whole), Fraction(0), Fraction(1), pix_fmt, colour)
    ).astype(int)
    assert np.abs(ours - theirs).max() <= 2
    assert abs((ours - theirs).mean()) < (0.1 if pix_fmt.bits == 8 else 0.5)  # theirs is off at 10 bits
