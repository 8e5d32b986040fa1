#!/usr/bin/env bash
# Everything that only a GPU can show; each word takes less than nine minutes. docs/cuda.md says what ran where.
#   bench/gpu_check.sh test       drawn networks: steps, fits, evaluation on the device against the CPU; ops on arrays
#                                 of CuPy and PyTorch; plain loops; bfloat16 and TF32
#   bench/gpu_check.sh sanitize   the same few under compute-sanitizer's four tools
#   bench/gpu_check.sh bench      bench/run.py --device cuda: steps against PyTorch (eager fused, CUDA graphs,
#                                 torch.compile); products, updates and batch-norm against PyTorch's, which calls
#                                 cuBLAS; copies against CuPy
# Needs a CUDA 13 toolkit, Python 3.12 with torch, CuPy, NumPy, pytest, safetensors, CMake, ninja, pybind11 and
# scikit-build-core, and no network. Results go to bench/results/gpu-*.json, or to $RESULTS.
set -euo pipefail
cd "$(dirname "$0")/.."
word=${1:?test, sanitize or bench}
python=${PYTHON:-python3}
work=${WORK:-/tmp/fastnn-gpu-check}
export RESULTS=${RESULTS:-$PWD/bench/results}
commit=$(git rev-parse HEAD 2> /dev/null || echo "${COMMIT:-unknown}")
mkdir -p "$work" "$RESULTS"

case $word in test | sanitize | bench) ;; *) echo "test, sanitize or bench, not '$word'"; exit 2 ;; esac
"$python" -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target "$work/site" . \
    -C build-dir="$work/build" -C fastnn.cuda=on -C cmake.define.FASTNN_CUDA_ARCHITECTURES="${ARCH:-90}"
export PYTHONPATH="$work/site:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"

if [ "$word" = sanitize ]; then
    status=0
    for tool in memcheck racecheck initcheck synccheck; do
        echo "=== $tool"
        timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$python" bench/gpu_check.py sanitize --commit "$commit" --tool "$tool" || status=1
    done
    exit $status
fi
if [ "$word" = bench ]; then
    COMMIT=$commit timeout 440 "$python" bench/run.py --device cuda --json "$RESULTS/gpu-bench.json"
    exit
fi
timeout 330 "$python" bench/gpu_check.py test --commit "$commit"
# The conftest needs packages that are not there.
timeout 120 "$python" -m pytest -q -p no:cacheprovider --noconftest -k "(CuPy or PyTorch) and not stand-in" \
    tests/test_cuda_ops.py tests/test_cuda_layers.py tests/test_cuda_metrics.py tests/test_cuda_precision.py
