#!/usr/bin/env bash
# Writes constraints.txt: the newest versions that pyproject.toml allows, on every platform, for Python 3.10 and
# newer (training and export: 3.11 and newer). uv comes from PyPI into build/.
#
# torch stays at the version below: it is a download of gigabytes, and its builds for the CPU come later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly torch=torch==2.13.0

mkdir -p build
[ -x build/uv/bin/uv ] || { python3 -m venv build/uv && build/uv/bin/pip install -q uv; }
compile() {
    build/uv/bin/uv pip compile -q --universal --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links "$@"
}

# What training needs, with markers that say: from Python 3.11 on.
{
    compile --python-version 3.11 --extra cpu --extra train-core --extra export --extra bench --extra docs --extra dev \
        -c <(echo "$torch") pyproject.toml
    compile --python-version 3.11 --no-deps scripts/no-deps.txt
    echo "tensorrt_rtx ; platform_machine == 'x86_64'" | compile --python-version 3.11 -
} | sed -E "s/ ; (.*)/ ; (\1) and python_full_version >= '3.11'/; t; s/$/ ; python_full_version >= '3.11'/" \
    >build/training.txt
{
    echo "# Exact versions that this project is tested with; pip reads them as constraints. \`make lock\` writes this."
    {
        cat build/training.txt
        compile --python-version 3.10 --extra cpu --extra dev -c build/training.txt pyproject.toml
    } | LC_ALL=C sort -u | awk '
        { line[NR] = $0 }
        !/ ; / { everywhere[$0] }
        END {
            for (i = 1; i <= NR; i++) {
                split(line[i], part, " ; ")
                if (line[i] == part[1] || !(part[1] in everywhere)) print line[i]
            }
        }'
} >build/constraints.txt
mv build/constraints.txt constraints.txt

# Every version has a wheel wherever it is used.
for python in 3.10 3.11 3.12 3.13; do
    extras=(--extra cpu --extra dev)
    [ "$python" = 3.10 ] || extras+=(--extra train-core --extra export --extra bench --extra docs)
    for machine in x86_64 aarch64; do
        build/uv/bin/uv pip compile -q --python-version "$python" --python-platform "$machine-manylinux_2_28" \
            --only-binary :all: "${extras[@]}" -c constraints.txt pyproject.toml >/dev/null ||
            { echo "lock: something has no wheel for Python $python on $machine" >&2; exit 1; }
    done
done
