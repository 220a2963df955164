"""What made a prediction file is kept beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metric.annotations import FormatError
from benchmarks.streampro.run_metadata import MANIFEST_KEYS, metadata_path, read_metadata, write_metadata
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.errors import SinkError


def test_facts_of_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    assert read_metadata(out) is None
    bundle = load_bundle(tiny_bundle)
    write_metadata(out, {"bundle": bundle.name, "threshold": 0.25}, bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl.run.json"]
    facts = read_metadata(out)
    assert facts and facts["run"] == {"bundle": bundle.name, "threshold": 0.25}
    size = sum(path.stat().st_size for path in tiny_bundle.iterdir() if path.name != "bundle.json")
    assert facts["bundle"].pop("bytes") == size
    assert facts["bundle"] == {k: bundle.manifest[k] for k in MANIFEST_KEYS if k in bundle.manifest}


def test_a_polled_model_has_no_bundle(tmp_path: Path) -> None:
    write_metadata(tmp_path / "p.jsonl", {"model": "large"})
    assert read_metadata(tmp_path / "p.jsonl") == {"run": {"model": "large"}, "bundle": {}}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": {}}', b'{"run": {}, "bundle": 1}', b"\xff"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = metadata_path(tmp_path / "p.jsonl")
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"p\.jsonl\.run\.json: "):
        read_metadata(tmp_path / "p.jsonl")


def test_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("a file")
    with pytest.raises(SinkError, match="cannot be written"):
        write_metadata(tmp_path / "none" / "p.jsonl", {})
