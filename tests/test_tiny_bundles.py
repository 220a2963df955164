"""The tiny bundles that other tests run can be made and loaded. `make test-distros` makes them with this."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.bundle.manifest import load_bundle


def test_tiny_bundles(tiny_bundle: Path, tiny_bundle_fp32: Path, tiny_bundle_tensorrt: Path) -> None:
    folders = {"int8": tiny_bundle, "fp32": tiny_bundle_fp32, "fp16": tiny_bundle_tensorrt}
    for precision, folder in folders.items():
        assert load_bundle(folder).precision == precision
