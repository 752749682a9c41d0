"""What `vidtrans upsample` is told: a frozen dataclass that checks itself; the defaults stand here only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vidtrans.errors import UsageError
from vidtrans.video.encoder import EncoderOptions

DEFAULT_MODEL = "street"
DETAILS = ("keyframes", "none")
MOTIONS = ("flow", "none")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class UpsampleOptions:
    """One run of the main job.

    Attributes:
        input: the video to read.
        to: the target domain.
        from_: the input's domain; None: the model's other one, where it has two.
        factor: output frames per input frame, a whole number >= 1; 1 translates only.
        output, output_to: the two files to write; None: IN.xFACTOR.EXT and IN.xFACTOR.DOMAIN.EXT beside the input.
        overwrite: whether files of those names may be replaced.
        model: a bundled name, a model file or a run folder.
        engine: a name in engines.ENGINES, or "auto"; device: "cpu", "cuda", "cuda:1" ... or "auto".
        precision: of the network's arithmetic: "fp32", "bf16", "fp16", "int8"; "auto" is the engine's choice.
        size: (width, height) in pixels at which the network works; None: the height it was trained at, with the
            input's aspect.
        motion: "flow" moves the keyframes' features and detail to each in-between; "none" blends them in place, as the
            paper does.
        detail: "keyframes" carries what the decoder loses of the keyframes into the in-betweens; "none" is the paper's
            raw decoding.
        encoder: of both outputs.
    """

    input: Path
    to: str
    from_: str | None = None
    factor: int = 8
    output: Path | None = None
    output_to: Path | None = None
    overwrite: bool = False
    model: str = DEFAULT_MODEL
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    size: tuple[int, int] | None = None
    detail: str = "keyframes"
    motion: str = "flow"
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 1:
            raise UsageError(f"--factor must be a whole number of at least 1, not {self.factor}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"--size must be at least 1x1, not {self.size[0]}x{self.size[1]}")
        for name, value, known in (
            ("detail", self.detail, DETAILS),
            ("motion", self.motion, MOTIONS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise UsageError(f"--{name} must be one of {', '.join(known)}, not {value!r}")
        first, second = self.output_paths
        if first.absolute() == second.absolute():
            raise UsageError(f"both outputs would be {first}; give --out-to another name")

    @property
    def output_paths(self) -> tuple[Path, Path]:
        """Where the up-converted input and its translation go."""
        # A container that cannot be written is replaced; MP4 plays everywhere.
        suffix = self.input.suffix if self.input.suffix.lower() in (".mp4", ".mkv", ".mov") else ".mp4"
        stem = f"{self.input.stem}.x{self.factor}"
        return (
            self.output or self.input.with_name(f"{stem}{suffix}"),
            self.output_to or self.input.with_name(f"{stem}.{self.to}{suffix}"),
        )
