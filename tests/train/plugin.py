"""A package outside the tree that registers a part, as ``pip install`` would leave it: for tests."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, package: str, source: str, group: str, entries: dict[str, str]) -> None:
    """Write module ``package`` with ``source``, and metadata with ``entries`` (name -> object) of ``group``.

    ``folder`` is to be put on ``sys.path``.
    """
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{package}.py").write_text(source, encoding="utf-8")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {package}:{value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
