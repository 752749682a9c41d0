"""How many label pixels keep their class through the default encoder, and through the ones the documentation names.

    python benchmarks/label_survival.py [--model street] [--clip examples/street.mp4]

The network's own labels, before any encoder, come from a lossless RGB file; each other file is decoded by the ffmpeg
program and every pixel goes to the class of the nearest palette colour.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import vidtrans
from vidtrans.palettes import STREET

ENCODERS: dict[str, dict[str, Any]] = {
    "default (H.264, 4:2:0, crf 17)": {},
    "--crf 0": {"crf": 0},
    "--pix-fmt yuv444p": {"pix_fmt": "yuv444p"},
    "--crf 0 --pix-fmt yuv444p": {"crf": 0, "pix_fmt": "yuv444p"},
}


def classes(path: Path) -> np.ndarray:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return STREET.nearest(np.frombuffer(raw, np.uint8).reshape(-1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Share of label pixels whose class survives the encoder.")
    parser.add_argument("--model", default="street")
    parser.add_argument("--clip", type=Path, default=Path("examples/street.mp4"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def labels(suffix: str, **options: Any) -> Path:
            summary = vidtrans.upsample(
                arguments.clip,
                "segmentation",
                model=arguments.model,
                output=folder / f"up.{suffix}",
                output_to=folder / f"labels.{suffix}",
                overwrite=True,
                **options,
            )
            return summary.outputs[1]

        truth = classes(labels("mkv", codec="ffv1", pix_fmt="gbrp"))
        print("| encoder | pixels that keep their class | size, kB |\n|---|---|---|")
        for words, options in ENCODERS.items():
            path = labels("mp4", **options)
            share = np.mean(classes(path) == truth)
            print(f"| {words} | {100 * share:.2f} % | {path.stat().st_size / 1000:.0f} |", flush=True)


if __name__ == "__main__":
    main()
