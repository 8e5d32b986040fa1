#!/usr/bin/env bash
# The CUDA kernels on the CPU (tests/cuda_shim) under a sanitizer, 200 shapes each (fewer of what products of tensor cores
# do beside), and the planted bugs that the same set-up must report. Needs fastnn installed for $PYTHON, with pytest and
# hypothesis.
#   tests/tiers/cuda_shim.sh address    AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/tiers/cuda_shim.sh thread     ThreadSanitizer
# SHAPES=20 makes it short, as does what follows the name and goes to pytest. docs/reliability.md says what ran so far.
# Exit 77: a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
tier=${1:?address or thread}
shift
python=${PYTHON:-python3}
work=$(mktemp -d)
reports=$work/reports
mkdir "$reports"
trap 'rm -rf "$work"' EXIT

libraries() { # the files that the compiler would link, or exit 77
    local name file
    for name in "$@"; do
        file=$("${CXX:-g++}" -print-file-name="$name")
        [ -e "$file" ] || { echo "skipped: ${CXX:-g++} has no $name" >&2; exit 77; }
        printf '%s ' "$file"
    done
}
case $tier in
    address)
        flags="-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined"
        preload=$(libraries libubsan.so libasan.so libstdc++.so.6)
        bugs=beyond
        ;;
    thread)
        flags="-O1 -g1 -fsanitize=thread"
        preload=$(libraries libtsan.so libstdc++.so.6)
        bugs="race unfenced shuffled"
        ;;
    *) echo "address or thread, not '$tier'"; exit 2 ;;
esac

# A guard page must kill as it does without us (handle_segv=0).
common="log_path=$reports/report:handle_segv=0:allocator_may_return_null=1"
instrumented() {
    env LD_PRELOAD="$preload" PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 FASTNN_NUM_THREADS=1 \
        FASTNN_SHIM_FLAGS="$flags" FASTNN_SHIM_SHAPES="${SHAPES:-200}" \
        ASAN_OPTIONS="$common:detect_leaks=0:verify_asan_link_order=0" UBSAN_OPTIONS="$common:print_stacktrace=1" \
        TSAN_OPTIONS="$common" "$@"
}
count() { find "$reports" -type f | wc -l; }

# Not on every kernel, whose addresses may lie where gcc's runtime expects none.
instrumented "$python" -c "" > "$work/log" 2>&1 || {
    echo "skipped: the sanitizer does not start: $(cat "$work/log" "$reports"/* 2> /dev/null | head -1)"
    exit 77
}

echo "=== planted bugs"
for name in clean counted warp $bugs; do
    rm -f "$reports"/*
    instrumented "$python" tests/cuda_shim/planted.py $name "$work/planted" > "$work/log" 2>&1 || true
    echo "$name: $(count) reports"
    case $name in
        clean | counted | warp) test "$(count)" -eq 0 && grep -q "$name ran" "$work/log" ;;
        *) grep -q "SUMMARY\|runtime error" "$reports"/* ;;
    esac || { echo "FAILED: '$name' must be $([[ " $bugs " = *" $name "* ]] && echo reported || echo silent)"; cat "$work/log" "$reports"/*; exit 1; }
done

echo "=== the kernels"
rm -f "$reports"/*
status=0
instrumented "$python" -m pytest -q -p no:cacheprovider -m "not slow and not heavy" tests/test_cuda_kernels.py \
    tests/test_cuda_tensor.py "$@" || status=$?
echo "=== $tier: pytest exit $status, $(count) reports"
for file in "$reports"/*; do [ -e "$file" ] && sed -n 1,40p "$file"; done
[ "$status" -eq 0 ] && [ "$(count)" -eq 0 ]
