#!/usr/bin/env bash
# Tries what is committed on every supported release of Debian and with the oldest and newest packages. Needs
# what scripts/in_debian.sh needs. The first run takes about half an hour; logs are in build/distros/.
#
#   scripts/test_distros.sh [WORD]    only the runs below that contain WORD
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Release, then the command. Debian 12: Python 3.11, GStreamer 1.22. Debian 13: 3.13, 1.26. sid: 3.14, 1.28.
runs=(
    "bookworm make demo test-runtime"
    "trixie make demo test-runtime"
    "sid make demo test-runtime"
    "bookworm make demo test-runtime VERSIONS=lowest"
    "trixie make demo test-runtime VERSIONS=newest"
)
if [ "${1:-}" = arm64 ]; then
    export ARCH=arm64
    # onnxruntime 1.28 and newer (the locked one, too) crash qemu 7.2 at import. These run.
    runs=("bookworm bash scripts/demo_with.sh onnxruntime 1.23.2 1.26.0")
elif [ $# -gt 0 ]; then
    mapfile -t runs < <(printf '%s\n' "${runs[@]}" | grep -F -- "$1")
fi

if [ -n "$(git -c safe.directory="$PWD" status --porcelain --untracked-files=no)" ]; then
    echo "test_distros: commit your changes first; what is committed is tested" >&2
    exit 1
fi
if [ "${ARCH:-}" != arm64 ]; then
    # The tests' tiny models are made here, with PyTorch, and used there without it.
    bash scripts/setup.sh test
    .venv/bin/python -m pytest tests/test_tiny_bundles.py
    KEEP=$(echo .pytest_cache/d/tiny-bundles-*)
    export KEEP
fi

mkdir -p build/distros
status=0
for run in "${runs[@]}"; do
    read -ra words <<<"$run"
    log="build/distros/${run//[ \/]/-}.log"
    started=$SECONDS
    if scripts/in_debian.sh "${words[@]}" >"$log" 2>&1; then
        echo "ok      $run ($((SECONDS - started)) s)"
    else
        echo "FAILED  $run; see $log"
        status=1
    fi
done
exit "$status"
