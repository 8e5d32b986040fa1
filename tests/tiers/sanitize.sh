#!/usr/bin/env bash
# The whole test suite on an instrumented build, and the planted bugs that the same set-up must report.
#   tests/tiers/sanitize.sh address    AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/tiers/sanitize.sh thread     ThreadSanitizer
# WORK=DIR keeps everything there (and a second run starts from it); PYTHON chooses the interpreter; further
# arguments go to pytest. docs/reliability.md says what was found. Exit 77: a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
tier=${1:?address or thread}
shift
python=${PYTHON:-python3}
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
reports=$work/reports
mkdir -p "$reports"

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
        flags=address,undefined
        # libubsan first, or its log_path is lost on libasan. libstdc++ too: the runtimes look for __cxa_throw when
        # they start, and python itself does not load it.
        preload=$(libraries libubsan.so libasan.so libstdc++.so.6)
        bugs="overread overflow"
        extra=
        ;;
    thread)
        flags=thread
        preload=$(libraries libtsan.so libstdc++.so.6)
        bugs="race missing_barrier"
        # The runtime has a thread of its own.
        extra="--deselect=tests/test_team.py::test_number_of_threads
               --deselect=tests/test_threadpoolctl.py::test_a_limited_call_uses_that_many_threads"
        ;;
    *) echo "address or thread, not '$tier'"; exit 2 ;;
esac

# Tests that say nothing here, each with its reason.
left_out=(
    --ignore=tests/test_build.py         # CMake's messages: nothing of ours runs
    --ignore=tests/test_rooms.py         # reads files
    --ignore=tests/test_tiers.py         # the tiers themselves
    --ignore=tests/test_mutants.py       # other tests on edited copies
    --ignore=tests/test_bench.py --ignore=tests/test_bench_conditions.py # run bench/, which measures time
    --ignore=tests/test_parity_torch.py  # torch brings threads and allocators of its own
    --ignore=tests/test_out_of_memory.py # takes malloc's place, as the sanitizer does
    --ignore=tests/test_trainer_memory.py # so does this, and it counts memory
    # These need a call that lasts for a while, and run for two minutes and longer here.
    --deselect=tests/test_signals.py::test_interrupt
    --deselect=tests/test_signals.py::test_interrupt_of_a_long_sum
    --deselect=tests/test_signals.py::test_signal_handler_may_compute
    --deselect=tests/test_trainer_inputs.py::test_a_memory_map_is_not_read_whole # counts memory
    --deselect=tests/test_diagnostics_runs.py::test_the_plan_of_native_steps_is_what_they_take # so does this
)

[ -x "$work/venv/bin/python" ] || $python -m venv "$work/venv"
PATH=$work/venv/bin:$PATH
isas=() # instrumented kernels compile for minutes: only those that this CPU can run
grep -qw avx512vl /proc/cpuinfo ||
    isas=(-C cmake.define.FASTNN_COMPILES_AVX512=OFF -C cmake.define.FASTNN_COMPILES_AVX512BF16=OFF)
pip install -q --disable-pip-version-check ".[test,bench]" -C build-dir="$work/build" \
    -C cmake.define.FASTNN_SANITIZE=$flags -C cmake.build-type=RelWithDebInfo "${isas[@]}"

# A report ends up in a file beside `log_path`, whichever process wrote it. A guard page must kill as it does
# without us (handle_segv=0); a NumPy array that is too large is a MemoryError (allocator_may_return_null=1).
common="log_path=$reports/report:handle_segv=0:allocator_may_return_null=1"
instrumented() { # with Ctrl-C, which a job in the background may not have
    env --default-signal=INT LD_PRELOAD="$preload" PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 FASTNN_BUILD_DIR= \
        FASTNN_TEST_SOON=5 \
        ASAN_OPTIONS="$common:detect_leaks=0:detect_stack_use_after_return=1:verify_asan_link_order=0" \
        UBSAN_OPTIONS="$common:print_stacktrace=1" \
        TSAN_OPTIONS="$common:die_after_fork=0:suppressions=$PWD/tests/tiers/tsan.supp" \
        "$@"
}
count() { find "$reports" -type f | wc -l; }

planted=$(find "$work/build" -name 'libfastnn_planted.so')
echo "=== planted bugs"
for name in clean $bugs; do
    rm -f "$reports"/*
    instrumented python tests/planted/call.py "$planted" $name > "$work/planted.log" 2>&1 || true
    echo "$name: $(count) reports"
    case $name in
        clean) test "$(count)" -eq 0 && grep -q "clean returned" "$work/planted.log" ;;
        *) grep -q "SUMMARY\|runtime error" "$reports"/* ;;
    esac || { echo "FAILED: '$name' must be $([ $name = clean ] && echo silent || echo reported)"; cat "$work/planted.log" "$reports"/*; exit 1; }
done

echo "=== the suite"
rm -f "$reports"/*
status=0
instrumented python -m pytest -q -p no:cacheprovider -n 0 -m "not slow and not heavy" "${left_out[@]}" $extra "$@" || status=$?
echo "=== $tier: pytest exit $status, $(count) reports"
for file in "$reports"/*; do [ -e "$file" ] && sed -n 1,40p "$file"; done
[ "$status" -eq 0 ] && [ "$(count)" -eq 0 ]
