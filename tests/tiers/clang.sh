#!/usr/bin/env bash
# The whole suite on a module built by clang with warnings as errors, and its bits against those of another build.
#   tests/tiers/clang.sh          PYTHON chooses an interpreter in which fastnn, built by gcc, is installed
# CXX names the compiler (clang++-14 by default: the oldest that is promised). WORK=DIR keeps everything there.
# Exit 77: a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
compiler=${CXX:-clang++-14}
command -v "$compiler" > /dev/null || { echo "skipped: no $compiler (apt install clang-14)"; exit 77; }
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
clang=$work/venv/bin/python
[ -x "$clang" ] || $python -m venv "$work/venv"
CXX=$compiler $clang -m pip install -q --disable-pip-version-check ".[test,bench]" -C build-dir="$work/build" \
    -C cmake.define.FASTNN_WERROR=ON

echo "=== the same bits"
for isa in $($clang -c 'import fastnn; print(*fastnn.isas())'); do
    FASTNN_ISA=$isa $clang tests/tiers/bits.py > "$work/clang"
    FASTNN_ISA=$isa $python tests/tiers/bits.py > "$work/other"
    # "special values" hold denormals: of a choice between dy and slope * dy clang makes a product, where they become zero.
    diff <(grep -v '^special' "$work/clang") <(grep -v '^special' "$work/other")
    echo "$(grep -vc '^special' "$work/clang") hashes agree"
done

echo "=== the suite"
FASTNN_BUILD_DIR=$work/build env --default-signal=INT $clang -m pytest -q -p no:cacheprovider "$@"
