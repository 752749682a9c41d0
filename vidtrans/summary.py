"""What a run did, for its caller, and as JSON for other programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidtrans.remarks import Warn


@dataclass(frozen=True)
class Cut:
    """A cut between two input frames.

    Attributes:
        frame: number of the new scene's first frame, the input's first used one is 0.
        time: of that frame, seconds; in slow motion the outputs show it later.
        value: how little both frames have in common, see cuts.cut_value.
    """

    frame: int
    time: Fraction
    value: float


@dataclass
class Summary:
    """What a run did. Of a run that was continued it tells of the whole, but for the seconds.

    Attributes:
        outputs: where the videos went, the up-converted input first where it is written; domains: what each shows.
        frames_in, frames_out: input frames, frames written to each output.
        frames_continued: of frames_out, those that an earlier run of the same command had finished.
        seconds: wall time; streaming_seconds: of it, from the first frame read to the last one written.
        busy_seconds: per stage, time spent working; bottleneck: the stage with the most.
        cuts_at: gaps between different scenes; repeats: gaps between equal keyframes, held, for which the network did
            nothing; lost: gaps whose motion could not be found, blended in place; removed: frames that were taken out
            as repeats, so that motion goes on across them.
        engine, device, precision: what ran the network; model: the SHA-256 of its file.
        notes: things a user should be told, warnings among them as remarks.Warn.
    """

    outputs: tuple[Path, ...]
    domains: tuple[str, ...] = ()
    frames_in: int = 0
    frames_out: int = 0
    frames_continued: int = 0
    seconds: float = 0.0
    streaming_seconds: float = 0.0
    busy_seconds: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    cuts_at: list[Cut] = field(default_factory=list)
    repeats: int = 0
    lost: int = 0
    removed: int = 0
    engine: str = ""
    device: str = ""
    precision: str = ""
    model: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        return [note for note in self.notes if isinstance(note, Warn)]

    @property
    def cuts(self) -> int:
        """How many."""
        return len(self.cuts_at)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values; `docs/ffmpeg.md` lists them."""
        outputs = zip(self.domains, self.outputs, strict=False)  # not all is known of a run that failed early
        new = max(0, self.frames_out - self.frames_continued)
        return {
            "outputs": [{"domain": name, "path": str(path)} for name, path in outputs],
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "frames_continued": self.frames_continued,
            "seconds": round(self.seconds, 3),
            "streaming_seconds": round(self.streaming_seconds, 3),
            "frames_per_second": round(new / self.seconds, 3) if self.seconds else None,
            "stages": {
                name: {"seconds": round(busy, 3), "frames_per_second": round(new / busy, 3) if busy else None}
                for name, busy in self.busy_seconds.items()
            },
            "bottleneck": self.bottleneck,
            "cuts": [{"frame": cut.frame, "seconds": float(cut.time), "value": cut.value} for cut in self.cuts_at],
            "repeats": self.repeats,
            "repeats_removed": self.removed,
            "lost_motion": self.lost,
            "engine": {"name": self.engine, "device": self.device, "precision": self.precision},
            "model_sha256": self.model,
            "warnings": self.warnings,
            "notes": [note for note in self.notes if not isinstance(note, Warn)],
        }
