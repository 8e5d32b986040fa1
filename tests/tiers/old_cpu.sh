#!/usr/bin/env bash
# fastnn on CPUs without AVX, emulated by qemu-user. Emulation it must be: glibc's GLIBC_TUNABLES hides features from
# glibc alone, not from the cpuid instruction that the dispatch asks.
#   tests/tiers/old_cpu.sh        PYTHON chooses an interpreter in which fastnn[test] is installed
# Exit 77: a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(${PYTHON:-python3} -c 'import sys; print(sys.executable)')
[ "$(uname -m)" = x86_64 ] || { echo "skipped: not an x86-64 machine"; exit 77; }
command -v qemu-x86_64 > /dev/null || { echo "skipped: no qemu-x86_64 (apt install qemu-user)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FASTNN_ISA= FASTNN_BUILD_DIR=
on() { # CPU COMMAND...; what qemu cannot emulate of a CPU is of no interest here
    local cpu=$1
    shift
    qemu-x86_64 -cpu "$cpu" "$@" 2> >(grep -v "warning: TCG doesn't support" >&2)
}

echo "=== planted: an AVX instruction must end a program on Nehalem and run on Haswell"
"${CXX:-g++}" -mavx -O1 -x c++ -o "$work/avx" - <<< 'int main(int n, char**) {
    float x[8]; for (float& v : x) v = float(n);
    __asm__ volatile("vmovups %0, %%ymm0\n vaddps %%ymm0, %%ymm0, %%ymm0\n vmovups %%ymm0, %0" : "+m"(x) : : "xmm0");
    return x[7] == 2 ? 0 : 1; }'
on Haswell "$work/avx"
status=0
(on Nehalem "$work/avx") > /dev/null 2>&1 || status=$?
[ "$status" -eq 132 ] || { echo "FAILED: exit $status, must be SIGILL (132)"; exit 1; }

echo "=== what the dispatch offers"
while read -r cpu wanted; do
    got=$(on "$cpu" "$python" -c 'import fastnn; print(*fastnn.isas())')
    echo "$cpu: $got"
    [ "$got" = "$wanted" ] || { echo "FAILED: must be '$wanted'"; exit 1; }
done <<< 'Nehalem scalar
SandyBridge scalar
Haswell,-fma scalar
Haswell,-avx2 scalar
Haswell avx2 scalar'

echo "=== the same bits"
FASTNN_ISA=scalar "$python" tests/tiers/bits.py > "$work/here"
on Nehalem "$python" tests/tiers/bits.py > "$work/nehalem"
diff "$work/here" "$work/nehalem"
# The AVX2 kernels; "special values" hold denormals, which qemu's maxps passes on where a CPU flushes them (DAZ).
on Haswell "$python" tests/tiers/bits.py > "$work/haswell"
diff <(grep -v '^special' "$work/here") <(grep -v '^special' "$work/haswell")
echo "$(wc -l < "$work/here") hashes agree"

echo "=== tests on Nehalem (those that start interpreters would start them outside)"
on Nehalem "$python" -m pytest -q -p no:cacheprovider tests/test_activation.py tests/test_softmax_cross_entropy.py \
    tests/test_linear_backward.py tests/test_batch_norm.py tests/test_updates.py tests/test_nn.py \
    tests/test_properties.py -k "not shim and not guard_pages and not lengths and not (test_training and std)" "$@"
