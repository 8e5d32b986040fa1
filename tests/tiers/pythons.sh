#!/usr/bin/env bash
# The whole suite on other versions of Python, each in a fresh environment with the newest NumPy it can have.
#   tests/tiers/pythons.sh [INTERPRETER...]      python3.10 ... python3.14 as far as they are there
# WORK=DIR keeps everything there. Exit 77: none was found.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${WORK:-$(mktemp -d)}
[ -n "${WORK:-}" ] || trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- python3.10 python3.11 python3.12 python3.13 python3.14
found=0 failed=0
for python in "$@"; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) || {
        echo "=== $python: not here"
        continue
    }
    found=$((found + 1))
    echo "=== $python"
    "$python" -m venv "$work/$version"
    "$work/$version/bin/python" -m pip install -q --disable-pip-version-check ".[test,bench]" --config-settings build-dir="$work/build-$version"
    FASTNN_BUILD_DIR=$work/build-$version env --default-signal=INT "$work/$version/bin/python" -m pytest -q -p no:cacheprovider -W error || failed=$((failed + 1))
done
[ "$found" -gt 0 ] || { echo "skipped: none of $* is here"; exit 77; }
[ "$failed" -eq 0 ]
