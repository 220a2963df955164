"""Stands for pip in the code blocks: `pip install -e FOLDER` into ./site, for a package of one folder.

It leaves what pip would leave: a way to the package, and the metadata with its entry points.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def install(folder: Path, site: Path) -> None:
    about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    project = about["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    for package in about["tool"]["setuptools"]["packages"]:
        (site / package).symlink_to((folder / package).resolve())
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    (info / "METADATA").write_text(text, encoding="utf-8")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1:3] != ["install", "-e"]:
        sys.exit(f"usage: pip install -e FOLDER, not {' '.join(sys.argv[1:])}")
    install(Path(sys.argv[3]), Path.cwd() / "site")
