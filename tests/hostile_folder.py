"""Modules of a user's that have the names of our packages."""

from pathlib import Path


def write_hostile_modules(folder: Path, *, without: str = "") -> Path:
    """Write modules that end the process that imports them; ``without``: the name of one to leave out."""
    for path in ("train.py", "export.py", "pipelines/__init__.py", "benchmarks/__init__.py"):
        name = Path(path).parts[0].removesuffix(".py")
        if name != without:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(f"raise SystemExit('the user\\'s {name} was imported')\n")
    return folder
