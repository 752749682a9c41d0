"""What `vidtrans upsample` and `translate` are told: frozen dataclasses that check themselves, with all defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Rational
from pathlib import Path
from typing import Any, ClassVar, get_args

from vidtrans.errors import UsageError
from vidtrans.targets import for_each, target_names
from vidtrans.timeline import Sampling, Tail
from vidtrans.video.colour_names import Told
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.input_form import InputForm, default_base
from vidtrans.video.layout import layout_named
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, Source, allowed
from vidtrans.video.names import BOTH_FORMATS, STDOUT, out_format, output_path

DEFAULT_MODEL = "street"
DEFAULT_FACTOR = 8
DEFAULT_CUT_THRESHOLD = 0.8  # measured: docs/results.md
DETAILS = ("keyframes", "none")
MOTIONS = ("flow", "none")
CUTS = ("hold", "blend")
TAILS: tuple[Tail, ...] = get_args(Tail)
DEINTERLACE = ("auto", "off")
LABELS = ("rgb", "index")
MUXES = ("apart", "both")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class UpsampleOptions:
    """One run of the main job.

    Attributes:
        input: the video to read: a file, "-" for standard input, a FIFO or /dev/fd/N, a folder of images, a glob or a
            pattern such as "frames/%06d.png".
        to: the target domain, or several, as a sequence or divided by commas; afterwards a tuple.
        from_: the input's domain; None: the model's only one that is no target.
        factor: output frames per input frame, >= 1; 1 translates only. None: 8, or none where fps is given. This and
            the numbers below become exact fractions; a float stands for the decimal that it prints as.
        fps: output frames per second instead of a factor; the duration stays.
        slowmo: play the factor's frames at the input's rate: the duration is multiplied, audio is left out.
        start, end: seconds after the input's first frame; what begins in [start, end) is used, of all streams. None:
            from the front, to the end.
        in_format: "y4m" or "rawvideo"; None: told by the input's first bytes.
        size_in, pix_fmt_in: (width, height) and FFmpeg's pixel format of rawvideo.
        rate_in: frames per second of rawvideo and images; of y4m, in place of its own. None: 25 for images.
        expect_frames: how many input frames are used; any other number is an error. None: not known.
        tail: "hold" shows the last frame for as long as the input does; "drop" ends with the last output frame that
            does not lie after it.
        output, output_to: the files to write; None: IN.x8.EXT and IN.x8.DOMAIN.EXT beside the input, for a factor of
            5/2 IN.x5-2.EXT, for 60 frames per second IN.60fps.EXT, for slow motion IN.x8.slowmo.EXT. Of images IN is
            what their names have in common, else their folder. An input without a name needs an output, whose name
            serves for output_to. "-" is standard output, "frames/%06d.png" numbered images, "frames/" the same; FIFOs
            and /dev/fd/N are written to as pipes. Where there are several targets output_to is {domain: file}, of as
            many as it likes.
        out_dir: the folder of the outputs that are not named, in place of the input's.
        out_format, out_format_to: what goes into a pipe, one of video.names.OUT_FORMATS; None: what its name ends in,
            else y4m. out_format_to may be {domain: format}.
        mux: "both" writes all videos as tracks of one Matroska or NUT file or stream, `output`.
        labels: of label domains: "rgb" writes the palette's colours, "index" each pixel's class number as lossless
            grey.
        overwrite: whether files of those names may be replaced.
        model: a name (see model_library.named_models), a model file or a run folder.
        engine: a name in engines.ENGINES, or "auto"; device: "cpu", "cuda", "cuda:1" ... or "auto".
        precision: of the network's arithmetic: "fp32", "bf16", "fp16", "int8"; "auto" is the engine's choice.
        size: (width, height) in pixels at which the network works; None: the height it was trained at, with the
            input's aspect.
        motion: "flow" moves the keyframes' features and detail to each in-between; "none" blends them in place, as the
            paper does.
        detail: "keyframes" carries what the decoder loses of the keyframes into the in-betweens; "none" is the paper's
            raw decoding.
        detail_to: the same of translations, of one photo domain into another; labels are always decoded raw.
        cuts: "hold" shows a cut's left keyframe until its right one; "blend" treats cuts as any other gap.
        cut_threshold: gaps of at least this value are cuts, from 0 (any change) to 1 (nothing in common), see
            cuts.cut_value.
        dedup: take repeated frames out and time motion across them, see repeats.runs; duration and number of frames
            stay.
        dedup_tolerance: what repeated frames may differ by, code values of 8 bits in the mean of any block of 8x8; 0:
            they are equal bit for bit.
        color_matrix, color_range, color_primaries, color_trc: what the input's colours are, FFmpeg's names; they go
            before its tags. None: by the tags.
        deinterlace: "auto" makes interlaced pictures whole, one for each; "off" leaves them woven.
        protocols: what may be opened besides local files, by FFmpeg's names, such as ("https", "tls", "tcp"): then
            input may be an address (local_file.Address), and outputs stand in the current folder by default.
        max_pixels: input frames of more are refused before they are allocated.
        strict: the first warning (remarks.Warn) ends the run as an error.
        encoder: of all outputs; encoder_to: of the translations, or {domain: encoder}; None: the same.
    """

    input: Source
    to: str | Sequence[str]
    from_: str | None = None
    factor: Fraction | float | None = None
    fps: Fraction | float | None = None
    slowmo: bool = False
    start: Fraction | float | None = None
    end: Fraction | float | None = None
    in_format: str | None = None
    size_in: tuple[int, int] | None = None
    pix_fmt_in: str | None = None
    rate_in: Fraction | float | None = None
    expect_frames: int | None = None
    tail: Tail = "hold"
    output: Path | str | None = None
    output_to: Path | str | Mapping[str, Path | str] | None = None
    out_dir: Path | str | None = None
    out_format: str | None = None
    out_format_to: str | Mapping[str, str] | None = None
    mux: str = "apart"
    labels: str = "rgb"
    overwrite: bool = False
    model: str = DEFAULT_MODEL
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    size: tuple[int, int] | None = None
    detail: str = "keyframes"
    detail_to: str = "keyframes"
    motion: str = "flow"
    cuts: str = "hold"
    cut_threshold: float = DEFAULT_CUT_THRESHOLD
    dedup: bool = False
    dedup_tolerance: float = 0.0
    color_matrix: str | None = None
    color_range: str | None = None
    color_primaries: str | None = None
    color_trc: str | None = None
    deinterlace: str = "auto"
    protocols: tuple[str, ...] = ()
    max_pixels: int = DEFAULT_MAX_PIXELS
    strict: bool = False
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    encoder_to: EncoderOptions | Mapping[str, EncoderOptions | None] | None = None

    # The command; whether its first output is the input, up-converted; and the options that speak of translations.
    command: ClassVar[str] = "upsample"
    writes_source: ClassVar[bool] = True
    out_to: ClassVar[str] = "--out-to"
    out_format_said: ClassVar[str] = "--out-format-to"

    def __post_init__(self) -> None:
        if self.fps is None and self.factor is None:
            object.__setattr__(self, "factor", DEFAULT_FACTOR)
        for name in ("factor", "fps", "start", "end", "rate_in"):
            object.__setattr__(self, name, _exact(name, getattr(self, name)))
        if self.fps is not None and self.factor is not None:
            raise UsageError("--fps and --factor exclude each other; give one of them")
        if self.fps is not None and self.slowmo:
            raise UsageError("--slowmo slows a --factor down and does not go with --fps; leave one of them out")
        if self.factor is not None and self.factor < 1:
            raise UsageError(f"--factor must be at least 1, such as 8 or 5/2, not {self.factor}")
        if self.fps is not None and self.fps <= 0:
            raise UsageError(f"--fps must be above 0, such as 60 or 60000/1001, not {self.fps}")
        object.__setattr__(self, "input", allowed(self.input, self.protocols))
        object.__setattr__(self, "to", target_names(self.to))
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels must be at least 1, not {self.max_pixels}")
        start, end = self.span
        if start < 0:
            raise UsageError(f"--start must be 0 or more seconds, not {float(start):g}")
        if end is not None and end <= start:
            raise UsageError(f"--end must come after --start, but {float(end):g} s <= {float(start):g} s")
        form = self.input_form  # which checks itself
        if form.pix_fmt is not None:
            layout_named(form.pix_fmt)
        if self.expect_frames is not None and self.expect_frames < 1:
            raise UsageError(f"--expect-frames must be at least 1, not {self.expect_frames}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"--size must be at least 1x1, not {self.size[0]}x{self.size[1]}")
        for name, value, known in (
            ("tail", self.tail, TAILS),
            ("detail", self.detail, DETAILS),
            ("detail-to", self.detail_to, DETAILS),
            ("motion", self.motion, MOTIONS),
            ("cuts", self.cuts, CUTS),
            ("precision", self.precision, PRECISIONS),
            ("deinterlace", self.deinterlace, DEINTERLACE),
            ("labels", self.labels, LABELS),
            ("mux", self.mux, MUXES),
        ):
            if value not in known:
                raise UsageError(f"--{name} must be one of {', '.join(known)}, not {value!r}")
        for name, most in (("cut_threshold", 1.0), ("dedup_tolerance", 255.0)):
            object.__setattr__(self, name, _between(name, getattr(self, name), most))
        if self.dedup_tolerance and not self.dedup:
            raise UsageError("--dedup-tolerance says which frames --dedup takes out; give --dedup as well")
        _ = self.colour_told  # refuses names that are not known
        self._check_outputs()

    def _check_outputs(self) -> None:
        if self.output is not None:
            object.__setattr__(self, "output", output_path(self.output))
        object.__setattr__(self, "out_format", out_format(self.out_format, "--out-format"))
        if len(self.targets) > 1 and isinstance(self.output_to, str | Path):
            raise UsageError(
                f"{self.out_to} {self.output_to} is one name for {len(self.targets)} translations; give each its own, "
                f"such as {self.out_to} {self.targets[0]}={self.output_to}"
            )
        paths = for_each(self.output_to, self.targets, self.out_to)
        object.__setattr__(self, "output_to", {name: output_path(path) for name, path in paths.items()})
        formats = for_each(self.out_format_to, self.targets, self.out_format_said)
        known = {name: out_format(value, self.out_format_said) for name, value in formats.items()}
        object.__setattr__(self, "out_format_to", known)
        encoders = for_each(self.encoder_to, self.targets, "the encoder of a translation")
        object.__setattr__(self, "encoder_to", encoders)
        if self.mux == "both":
            if paths or formats:
                raise UsageError("--mux both writes all videos into --output; leave --out-to and --out-format-to out")
            return
        seen: dict[Path, Path] = {}
        for path in self.output_paths:
            absolute = path.absolute()
            if path == STDOUT and absolute in seen:
                raise UsageError("only one video can go to standard output; --mux both writes all into one stream")
            if absolute in seen and str(path) != os.devnull:
                raise UsageError(f"two outputs would be {path}; give {self.out_to} another name")
            seen[absolute] = path

    @property
    def targets(self) -> tuple[str, ...]:
        """The target domains."""
        return tuple(self.to)

    def encoder_of(self, target: str) -> EncoderOptions | None:
        """Of a translation; None: it follows the first output."""
        assert isinstance(self.encoder_to, Mapping)
        return self.encoder_to.get(target)

    def format_of(self, target: str) -> str | None:
        """What goes into a translation's pipe, where that is told."""
        assert isinstance(self.out_format_to, Mapping)
        return self.out_format if self.mux == "both" else self.out_format_to.get(target)

    @property
    def sampling(self) -> Sampling:
        """Where the output frames lie."""
        if self.fps is not None:
            return Sampling(rate=Fraction(self.fps), tail=self.tail)
        return Sampling(Fraction(self.factor or DEFAULT_FACTOR), slowmo=self.slowmo, tail=self.tail)

    @property
    def span(self) -> tuple[Fraction, Fraction | None]:
        """start, from 0 on, and end."""
        return Fraction(self.start or 0), None if self.end is None else Fraction(self.end)

    @property
    def colour_told(self) -> Told:
        """What the user says of the input's colours."""
        return Told(self.color_matrix, self.color_range, self.color_primaries, self.color_trc)

    @property
    def input_form(self) -> InputForm:
        """What is said of the input."""
        rate = None if self.rate_in is None else Fraction(self.rate_in)
        return InputForm(self.in_format, self.size_in, self.pix_fmt_in, rate)

    @property
    def output_paths(self) -> tuple[Path, ...]:
        """Where the up-converted input, if it is written, and its translations go."""
        # A container that cannot be written is replaced; MP4 plays everywhere.
        suffix = self.input.suffix if self.input.suffix.lower() in (".mp4", ".mkv", ".mov") else ".mp4"
        named = for_each(self.output_to, self.targets, self.out_to)
        if isinstance(self.input, Path):
            first = self.output if self.writes_source or self.mux == "both" else next(iter(named.values()), None)
            base = default_base(self.input, None if first is None else Path(first))
        else:
            base = self.input.with_name(self.input.stem)
        if self.out_dir is not None:
            base = Path(self.out_dir, base.name)
        stem = f"{base.name}{self._said_in_names}"
        if self.mux == "both":
            extension = BOTH_FORMATS.get(self.out_format or "", ".mkv")
            both = Path(self.output or base.with_name(f"{stem}.both{extension}"))
            return (both,) * (self.writes_source + len(self.targets))
        suffix_to = ".mkv" if self.labels == "index" else suffix
        source = (Path(self.output or base.with_name(f"{stem}{suffix}")),) if self.writes_source else ()
        return (
            *source,
            *(Path(named.get(name) or base.with_name(f"{stem}.{name}{suffix_to}")) for name in self.targets),
        )

    @property
    def _said_in_names(self) -> str:
        # A slash cannot be in a name.
        rate = f"x{self.factor}" if self.factor is not None else f"{self.fps}fps"
        return f".{rate.replace('/', '-')}{'.slowmo' if self.slowmo else ''}"


@dataclass(frozen=True)
class TranslateOptions(UpsampleOptions):
    """One run of `vidtrans translate`: as many frames as the input has, and the translations alone.

    What is said of in-betweens is settled and cannot be given. `encoder` is of all outputs, and `encoder_to` of some of
    them; `output` and `out_format` name the one file or stream of mux "both" only (see `named_as_translations`).
    """

    factor: Fraction | float | None = field(default=Fraction(1), init=False)
    fps: Fraction | float | None = field(default=None, init=False)
    slowmo: bool = field(default=False, init=False)
    tail: Tail = field(default="hold", init=False)
    detail: str = field(default="none", init=False)
    motion: str = field(default="none", init=False)
    cuts: str = field(default="hold", init=False)
    cut_threshold: float = field(default=DEFAULT_CUT_THRESHOLD, init=False)
    dedup: bool = field(default=False, init=False)
    dedup_tolerance: float = field(default=0.0, init=False)

    command: ClassVar[str] = "translate"
    writes_source: ClassVar[bool] = False
    out_to: ClassVar[str] = "-o"
    out_format_said: ClassVar[str] = "--out-format"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mux == "both" and len(self.targets) == 1:
            raise UsageError(f"--mux both joins several translations, and --to names one, {self.targets[0]}")

    def encoder_of(self, target: str) -> EncoderOptions:
        return super().encoder_of(target) or self.encoder

    @property
    def _said_in_names(self) -> str:
        return ""


JOBS = {job.command: job for job in (UpsampleOptions, TranslateOptions)}


def named_as_translations(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `translate` by the names of TranslateOptions' fields.

    All that it writes are translations, so its `output` and `out_format` are what `upsample` calls `output_to` and
    `out_format_to`; with mux "both" they are of the one file that takes all.

    Raises:
        UsageError: with mux "both" there are several names for the one file.
    """
    renamed = {"output": "output_to", "out_format": "out_format_to"}
    if given.get("mux") != "both":
        return {renamed.get(name, name): value for name, value in given.items()}
    options = dict(given)
    for name, option in (("output", "-o"), ("out_format", "--out-format")):
        if isinstance(said := options.get(name), Mapping):
            values = set(said.values())
            if len(values) > 1:
                raise UsageError(f"--mux both writes all translations into one file; give one {option}")
            options[name] = next(iter(values), None)
    return options


def _exact(name: str, value: object) -> Fraction | None:
    if value is None:
        return None
    if isinstance(value, Rational):
        return Fraction(value)
    try:
        return Fraction(str(float(value)))  # type: ignore[arg-type]  # what is no number is refused
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{name} must be a number, not {value!r}") from error


def _between(name: str, value: object, most: float) -> float:
    """A number from 0 to `most`."""
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number is refused
    except (TypeError, ValueError):
        number = -1.0
    if not 0.0 <= number <= most:
        raise UsageError(f"--{name.replace('_', '-')} must be a number from 0 to {most:g}, not {value!r}")
    return number
