#!/usr/bin/env bash
# One command on a machine with an NVIDIA GPU: tests every GPU path against the reference, measures kernels and engines
# against what the GPU can do, then trains the street recipe there (resuming what an earlier call left in the run folder)
# and measures the model. All steps run, whatever fails; the exit status says whether one did.
# Usage: [OUT=FOLDER] benchmarks/gpu.sh [RUN_FOLDER] [SECONDS OF TRAINING, 0: none]
# The tables are also written to OUT as JSON [default: a new temporary folder].
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run=${1:-runs/street-gpu}
seconds=${2:-480}
python=${PYTHON:-python3}
out=${OUT:-$(mktemp -d)}
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

failed=()
step() {  # step TITLE COMMAND...
    echo
    echo "== $1"
    "${@:2}" || failed+=("$1")
}

# tests/conftest.py makes clips with PyAV, which such a machine need not have; these tests want none.
step "tests of the Triton kernels and the CUDA engine" env VIDTRANS_REQUIRE_CUDA=1 \
    "$python" -m pytest -rs --noconftest -p no:cacheprovider tests/test_latents_triton.py tests/test_cuda_engine.py
step "Triton kernels against the bandwidth of a copy" "$python" benchmarks/latents_triton.py --json "$out/latents.json"
step "engines, bundled model" "$python" -m vidtrans bench --device cuda --seconds 0.5 --json "$out/bundled.json"
step "engines, the papers' sequence" "$python" -m vidtrans bench --device cuda --seconds 0.5 --paper --json "$out/paper.json"
step "engines, the papers' network at 512x256" \
    "$python" -m vidtrans bench --device cuda --seconds 0.5 --paper --size 512x256 --json "$out/512x256.json"

train() {
    local resume=()
    [[ -e $run/state.safetensors ]] && resume=(--resume)
    # A whole run at this size takes minutes; the time limit only guards a slow machine.
    timeout --signal=INT "$seconds" "$python" -m vidtrans train street-gpu -o "$run" --device cuda "${resume[@]}" ||
        [[ $? == 124 ]] || return
    "$python" -m vidtrans evaluate "$run" --device cuda --json "$run/held-out.json"
}
if ((seconds > 0)); then
    step "training" train
    step "engines, the model trained here at 512x256" \
        "$python" -m vidtrans bench "$run" --device cuda --seconds 0.5 --size 512x256 --json "$out/trained.json"
fi

echo
echo "tables: $out"
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
