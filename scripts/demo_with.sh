#!/usr/bin/env bash
# Watches the sample with several versions of a package: scripts/demo_with.sh onnxruntime 1.23.2 1.26.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
package=$1
shift
bash scripts/setup.sh demo
for version in "$@"; do
    echo "demo_with: $package $version"
    .venv/bin/python -m pip install -q "$package==$version"
    .venv/bin/edge-run sample
done
# The next set-up installs the locked version again.
rm -f .venv/.installed-by-setup
