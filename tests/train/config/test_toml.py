"""A recipe as editors write it."""

from __future__ import annotations

from pathlib import Path

from train.config.toml import read_toml


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'out = "runs/x"\n')
    assert read_toml(path) == {"out": "runs/x"}
