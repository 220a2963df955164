"""Files and folders that appear whole or not at all, also when the process is killed or the power fails."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_runtime.errors import SinkError


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """An empty file beside ``path`` to write. At the end it replaces ``path``; after an error it is removed.

    Folders are made. Its name ends with ``.tmp``: tell a writer that chooses by the ending the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(temporary, flags, mode))
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # it was never made
            temporary.unlink()
        raise
    with suppress(OSError):  # a folder that may be written but not read
        _sync(path.parent)


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write ``parts`` as UTF-8. Raises SinkError when that fails, and whatever making the parts raises;
    ``path`` is as before then.
    """
    try:
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}); choose another path") from error


def replace_folder(new: Path, folder: Path) -> None:
    """Put ``new`` in ``folder``'s place. That takes two steps: first the old one steps aside."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def sweep(out: Path) -> None:
    """Remove what processes that were killed while they wrote ``out`` have left beside it.

    One that was killed between the two renames of :func:`replace_folder` has put the old folder aside and
    nothing in its place: the old one is put back.
    """
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(\d+)(\.old)?")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] and not out.exists():
            os.replace(path, out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
