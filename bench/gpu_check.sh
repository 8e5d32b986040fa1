#!/usr/bin/env bash
# Everything that only a GPU can show; each word takes less than nine minutes, the build included. docs/cuda.md says
# what ran where.
#   bench/gpu_check.sh test       steps against tests/reference.py in float64; drawn networks: steps, fits, evaluation
#                                 on the device against the CPU; bfloat16 and TF32; the tests named below
#   bench/gpu_check.sh sanitize   ops on arrays and a few of the networks under compute-sanitizer's four tools
#   bench/gpu_check.sh bench      bench/run.py --device cuda: steps against PyTorch (eager fused, CUDA graphs,
#                                 torch.compile); products, updates and batch-norm against PyTorch's, which calls
#                                 cuBLAS; copies against CuPy
# Needs a CUDA 13 toolkit, Python 3.12 with torch, CuPy, NumPy, pytest, CMake, ninja, pybind11 and scikit-build-core,
# and no network. Results go to bench/results/gpu-*, or to $RESULTS, while they are found: what is out of time has
# left what it found. Exit 77: there is no GPU; 1: something is wrong or was left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tests of arrays on a device that `test` runs, and which of their cases.
tests=(tests/test_cuda_ops.py tests/test_cuda_layers.py tests/test_cuda_metrics.py tests/test_cuda_precision.py)
chosen="(CuPy or PyTorch) and not stand-in"
# Those of training that run at each place; what saves to files is left out, it needs safetensors.
places=(tests/test_{places,trainer,trainer_changes,trainer_inputs,trainer_layouts,evaluation,optim}.py
    tests/test_{optim_options,optim_steps,optim_conventions,losses,layers,models,standardize,other_arrays}.py)

word=${1:?test, sanitize or bench}
python=${PYTHON:-python3}
work=${WORK:-/tmp/fastnn-gpu-check}
export RESULTS=${RESULTS:-$PWD/bench/results}
commit=$(git rev-parse HEAD 2> /dev/null || echo "${COMMIT:-unknown}")

case $word in
    test) parts=3 ;;
    sanitize) parts=4 ;;
    bench) parts=1 ;;
    *) echo "test, sanitize or bench, not '$word'"; exit 2 ;;
esac
seconds=$((520 - SECONDS)) # for all, and 20 to end
left() { echo $((seconds - SECONDS)); }

"$python" - << 'END'
import ctypes
try:
    found = ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
except OSError:
    found = False
if not found:
    print("no GPU: the driver finds none")
    raise SystemExit(77)
END

mkdir -p "$work" "$RESULTS"
timeout -k 5 "$(left)" \
    "$python" -m pip install -q --no-index --no-deps --no-build-isolation --upgrade --target "$work/site" . \
    -C build-dir="$work/build" -C fastnn.cuda=on -C cmake.define.FASTNN_CUDA_ARCHITECTURES="${ARCH:-90}"
export PYTHONPATH="$work/site:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"

status=0
# A name and a command, for an equal share of the time that is left; where LIMIT stands it shall begin no more.
part() {
    local name=$1 rc=0 share=$(($(left) / parts))
    shift
    parts=$((parts - 1))
    echo "=== $name: $share s"
    timeout -k 5 "$share" "${@/#LIMIT/$((share * 3 / 4))}" 2>&1 | tee "$RESULTS/gpu-$name.txt" || rc=$?
    case $rc in
        0) return ;;
        77) exit 77 ;;
        124 | 137) echo "$name: out of time" ;;
    esac
    status=1
}

case $word in
    test)
        part test "$python" bench/gpu_check.py test --commit "$commit" --seconds LIMIT
        part pytest "$python" -m pytest -v -p no:cacheprovider --noconftest -k "$chosen" "${tests[@]}"
        part places "$python" -m pytest -v -p no:cacheprovider -m "not slow and not heavy" -k gpu "${places[@]}"
        ;;
    sanitize)
        for tool in memcheck racecheck initcheck synccheck; do
            part "sanitize-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
                "$python" bench/gpu_check.py sanitize --commit "$commit" --tool "$tool" --seconds LIMIT
        done
        ;;
    bench)
        export COMMIT=$commit
        part bench "$python" bench/run.py --device cuda --json "$RESULTS/gpu-bench.json"
        ;;
esac
exit $status
