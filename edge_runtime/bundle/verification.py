"""Checks that a file of a bundle is the one that bundle.json describes."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from edge_runtime.errors import BundleError

_BLOCK = 1 << 20
_AGAIN = "the file is damaged or from another bundle: copy or export it again"


def verify(folder: Path, name: str, sha256: str, size: int) -> None:
    """Raises BundleError unless ``name`` lies in ``folder`` and has this size and hash."""
    posix, path = PurePosixPath(name), folder / name
    outside = (
        name != posix.as_posix()
        or posix.is_absolute()
        or ".." in posix.parts
        or "\\" in name
        or PureWindowsPath(name).drive
    )
    # resolve: a symbolic link may lead out
    if outside or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder / 'bundle.json'}: file {name} lies outside the bundle's folder; refused")
    if not path.is_file():
        raise BundleError(f"{path}: missing; copy the bundle again, every file of it")
    try:
        found = path.stat().st_size
        if found != size:
            raise BundleError(f"{path}: {found} bytes, but bundle.json says {size}; {_AGAIN}")
        digest = file_sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if digest != sha256:
        raise BundleError(f"{path}: sha256 differs from bundle.json; {_AGAIN}")


def file_sha256(path: Path) -> str:
    """Hash a file without holding all of it in memory; hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
