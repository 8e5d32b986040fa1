#!/usr/bin/env bash
# The core and the scalar kernels on aarch64: cross-compiled, run by qemu-user, and their bits those of this machine.
# The bindings are compiled too, not linked (there is no Python for aarch64 here).
#   tests/tiers/aarch64.sh        PYTHON chooses the interpreter whose headers are used
# Exit 77: a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
cross=aarch64-linux-gnu-g++
command -v $cross > /dev/null || { echo "skipped: no $cross (apt install g++-aarch64-linux-gnu)"; exit 77; }
command -v qemu-aarch64 > /dev/null || { echo "skipped: no qemu-aarch64 (apt install qemu-user)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The flags of CMakeLists.txt; what the smoke tests leave out of a struct is zero.
flags="-std=c++20 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
       -Wno-missing-field-initializers
       -fPIC -pthread -Icsrc -DFASTNN_ISA_SCALAR -DFASTNN_HAVE_SCALAR"

build() { # COMPILER NAME FLAGS...
    local compiler=$1 out=$2
    shift 2
    # shellcheck disable=SC2086
    $compiler $flags "$@" tests/aarch64/smoke.cpp csrc/core/*.cpp csrc/cpu/*.cpp -o "$work/$out"
}
echo "=== kernels and team: hashes of the bits on 1, 2 and 3 threads"
build "${CXX:-g++}" here
build $cross there -static
"$work/here" | tee "$work/here.txt"
qemu-aarch64 "$work/there" > "$work/there.txt"
diff "$work/here.txt" "$work/there.txt" && echo "aarch64 prints the same"

echo "=== bindings: compiled for aarch64, every warning an error"
python=${PYTHON:-python3}
if ! includes=$($python -m pybind11 --includes 2> /dev/null); then
    echo "left out: $python has no pybind11"
    exit 0
fi
for source in csrc/bind/*.cpp; do
    # shellcheck disable=SC2086
    $cross $flags ${includes//-I/-isystem } -fvisibility=hidden -fsyntax-only -DFASTNN_VERSION='"0"' -DFASTNN_COMPILER='""' \
        -DFASTNN_FLAGS='""' -DFASTNN_ISAS_LEFT_OUT='""' -DFASTNN_CUDA='""' -DFASTNN_NO_CUDA='""' -DFASTNN_BUILD_ID='""' "$source"
done
echo "$(ls csrc/bind/*.cpp | wc -l) files"
