"""What the ffprobe and ffmpeg programs say of a video, as facts that can be compared; for benchmarks/formats.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

UNKNOWN = (None, "unknown", "unspecified", "reserved")
# ffprobe calls some of the same things by other names in other containers.
SUBTITLES = {"subrip": "text", "ass": "text", "webvtt": "text", "mov_text": "text"}


@dataclass(frozen=True)
class Sound:
    """A sound track: its codec, language, and where its packets begin and end, seconds.

    hidden: where it begins with what an edit list hides, which decoders need to start; not every container has one.
    """

    codec: str
    language: str
    begin: Fraction
    end: Fraction
    hidden: Fraction


@dataclass(frozen=True)
class Facts:
    """What ffprobe says of a file.

    Attributes:
        times: seconds of every picture that it decodes, in the order of showing; end: when the last one ends.
        size: (width, height) upright; shape: width over height of a pixel, 1 where it is not said.
        pix_fmt, field_order, and the tags of colour: None where nothing is said.
        turned: whether a display matrix turns the pictures.
        tick: seconds of the pictures' clock.
    """

    times: tuple[Fraction, ...]
    end: Fraction
    rate: Fraction
    tick: Fraction
    codec: str
    pix_fmt: str
    size: tuple[int, int]
    shape: Fraction
    turned: bool
    interlaced: bool
    colour: dict[str, str | None]
    sounds: tuple[Sound, ...] = ()
    subtitles: tuple[str, ...] = ()
    chapters: tuple[tuple[str, Fraction, Fraction], ...] = ()
    attachments: int = 0
    covers: int = 0
    title: str | None = None


def ffprobe(path: Path, *arguments: str, form: Sequence[str] = ()) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *form, *arguments, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def facts_of(path: Path, form: Sequence[str] = (), track: int = 0, *, is_made: bool = False) -> Facts:
    """The facts of a file's pictures (its video track of that number) and all else in it.

    form: what ffprobe must be told to read it. is_made: it is ours, so that the length that MP4 and MOV state is to be
    right; that of the last picture alone ffprobe only guesses, by the codec.
    """
    whole = ffprobe(path, "-show_streams", "-show_format", "-show_chapters", form=form)
    streams = whole["streams"]
    videos = [s for s in streams if s["codec_type"] == "video" and not s["disposition"]["attached_pic"]]
    video = videos[track]
    index = str(video["index"])
    entries = "frame=best_effort_timestamp,pkt_duration,interlaced_frame,color_range,color_space"
    frames = ffprobe(path, "-select_streams", index, "-show_frames", "-show_entries", entries, form=form)["frames"]
    tick = Fraction(video["time_base"])
    rate = Fraction(video["avg_frame_rate"]) if video["avg_frame_rate"] != "0/0" else Fraction(video["r_frame_rate"])
    times = _times(
        [int(f["best_effort_timestamp"]) * tick if "best_effort_timestamp" in f else None for f in frames], rate
    )
    gap = times[-1] - times[-2] if len(times) > 1 else 1 / rate
    last = int(frames[-1].get("pkt_duration", 0)) * tick or gap
    is_stated = is_made and "mp4" in whole["format"]["format_name"] and "duration_ts" in video
    end = (video["start_pts"] + video["duration_ts"]) * tick if is_stated else times[-1] + last
    turned = any("displaymatrix" in one for one in video.get("side_data_list", ()))
    # A matrix may be there and turn nothing.
    turned = turned and any(one.get("rotation") for one in video["side_data_list"])
    shape = video.get("sample_aspect_ratio", "1:1").replace(":", "/")
    tags = {
        "range": video.get("color_range", frames[0].get("color_range")),
        "matrix": video.get("color_space", frames[0].get("color_space")),
        "primaries": video.get("color_primaries"),
        "transfer": video.get("color_transfer"),
        "chroma": video.get("chroma_location"),
    }
    attached = [s for s in streams if s["codec_type"] == "attachment"]
    is_rgb = video["pix_fmt"].startswith(("rgb", "bgr", "gbr", "pal8"))
    # What goes without saying: chroma at the left; limited range, in RGB the full one.
    tags["chroma"] = "left" if tags["chroma"] in UNKNOWN else tags["chroma"]
    if tags["range"] in UNKNOWN:
        tags["range"] = "pc" if is_rgb or video["pix_fmt"].startswith("yuvj") else "tv"
    return Facts(
        times=tuple(times),
        end=end,
        rate=rate,
        tick=tick,
        codec=video["codec_name"],
        pix_fmt=video["pix_fmt"],
        size=(video["width"], video["height"]),
        shape=Fraction(1) if shape in ("0/1", "N/A") else Fraction(shape),
        turned=turned,
        interlaced=any(int(f.get("interlaced_frame", 0)) for f in frames),
        colour={name: None if value in UNKNOWN else value for name, value in tags.items()},
        sounds=tuple(_sound(path, s, form) for s in streams if s["codec_type"] == "audio"),
        subtitles=tuple(_subtitle(s) for s in streams if s["codec_type"] == "subtitle"),
        chapters=tuple(
            (c.get("tags", {}).get("title", ""), Fraction(c["start_time"]), Fraction(c["end_time"]))
            for c in whole["chapters"]
        ),
        attachments=len([s for s in attached if not _is_image(s)]),
        covers=len([s for s in streams if s["disposition"]["attached_pic"]]),
        title=next((v for k, v in whole["format"].get("tags", {}).items() if k.lower() == "title"), None),
    )


def _times(stamps: Sequence[Fraction | None], rate: Fraction) -> list[Fraction]:
    """Those of all pictures: one without a stamp lies a picture's length after or before its neighbour."""
    known = next((number for number, stamp in enumerate(stamps) if stamp is not None), None)
    before = -1 / rate if known is None else (stamps[known] or Fraction(0)) - (known + 1) / rate
    times = []
    for stamp in stamps:
        before = before + 1 / rate if stamp is None else stamp
        times.append(before)
    return times


def _is_image(stream: dict[str, Any]) -> bool:
    return stream.get("tags", {}).get("mimetype", "").startswith("image/")


def _subtitle(stream: dict[str, Any]) -> str:
    codec = stream["codec_name"]
    return f"{SUBTITLES.get(codec, codec)}:{_language(stream)}"


def _language(stream: dict[str, Any]) -> str:
    language = stream.get("tags", {}).get("language", "und")
    return "" if language == "und" else language


def _sound(path: Path, stream: dict[str, Any], form: Sequence[str]) -> Sound:
    index, tick = str(stream["index"]), Fraction(stream["time_base"])
    entries = "packet=pts,dts,duration,flags"
    packets = ffprobe(path, "-select_streams", index, "-show_packets", "-show_entries", entries, form=form)["packets"]
    shown = [p for p in packets if "D" not in p["flags"]]
    first, begin, last = (int(p.get("pts", p.get("dts", 0))) for p in (packets[0], shown[0], shown[-1]))
    end = last + int(shown[-1].get("duration", 0))
    return Sound(stream["codec_name"], _language(stream), begin * tick, end * tick, first * tick)


def likeness(source: Path, made: Path, filters: tuple[str, str], forms: tuple[Sequence[str], Sequence[str]]) -> str:
    """How like the pictures of two files are, decoded and compared by ffmpeg: "exact", or the mean PSNR in dB.

    filters: through which each goes first.
    """
    graph = f"[0:v:0]{filters[0]},setpts=N/TB[a];[1:v:0]{filters[1]},setpts=N/TB[b];[b][a]psnr"
    command = ["ffmpeg", "-v", "info", "-nostdin", *forms[0], "-i", str(source), *forms[1], "-i", str(made)]
    done = subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"], capture_output=True, text=True, check=True)
    average = next(
        word.removeprefix("average:") for word in reversed(done.stderr.split()) if word.startswith("average:")
    )
    return "exact" if average == "inf" else f"{float(average):.1f}"
