#!/usr/bin/env bash
# Writes constraints.txt: the newest versions that pyproject.toml allows, for Python 3.10 and newer, on every
# platform. uv comes from PyPI into build/.
#
# torch stays at the version below: it is a download of gigabytes, and its builds for the CPU come later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly torch=torch==2.13.0

mkdir -p build
[ -x build/uv/bin/uv ] || { python3 -m venv build/uv && build/uv/bin/pip install -q uv; }
compile() {
    build/uv/bin/uv pip compile -q --universal --python-version 3.10 --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links -c <(echo "$torch") "$@"
}
{
    echo "# Exact versions that this project is tested with; pip reads them as constraints. \`make lock\` writes this."
    {
        compile --extra cpu --extra train-core --extra export --extra bench --extra dev pyproject.toml
        compile --no-deps scripts/no-deps.txt
        echo "tensorrt_rtx ; platform_machine == 'x86_64'" | compile -
    } | LC_ALL=C sort -u
} >build/constraints.txt
mv build/constraints.txt constraints.txt
