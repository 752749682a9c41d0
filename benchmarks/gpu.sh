#!/usr/bin/env bash
# One command on a machine with an NVIDIA GPU: trains the street recipe there (resuming what an earlier call left in the run
# folder), measures the model, and compares the torch engine on CUDA with the CPU's. Usage: benchmarks/gpu.sh [RUN_FOLDER] [SECONDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run=${1:-runs/street-gpu}
seconds=${2:-480}
python=${PYTHON:-python3}

resume=()
[[ -e $run/state.safetensors ]] && resume=(--resume)
# A whole run at this size fits one lease several times over; the time limit only guards a slow machine.
timeout --signal=INT "$seconds" "$python" -m vidtrans train street-gpu -o "$run" --device cuda "${resume[@]}" || [[ $? == 124 ]]
"$python" -m vidtrans evaluate "$run" --device cuda --json "$run/held-out.json"
"$python" - "$run" <<'PYTHON'
import sys
import torch
from fractions import Fraction
from vidtrans.checkpoint import load_model
from vidtrans.engines import open_engine
from vidtrans.engines.contract import Gap

times = tuple(Fraction(k, 8) for k in range(8))
frames = torch.randint(0, 256, (2, 256, 512, 3), dtype=torch.uint8)
outputs = {}
for device in ("cpu", "cuda"):
    engine = open_engine("torch", load_model(sys.argv[1]).net, "scene", ["segmentation"], (512, 256), device)
    outputs[device] = engine.between([Gap(*engine.encode(frames), times)])[0]
for domain, reference in outputs["cpu"].items():
    error = (outputs["cuda"][domain].cpu() - reference).abs().max().item()
    print(f"torch on CUDA against torch on CPU, {domain}: largest difference {error:.2e} of {reference.abs().max():.2f}")
PYTHON
