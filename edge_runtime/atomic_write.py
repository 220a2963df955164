"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from edge_runtime.errors import SinkError


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write ``parts`` as UTF-8 to a temporary file beside ``path``, then rename it; folders are made.

    Raises SinkError when that fails, and whatever making the parts raises; ``path`` is as before then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    finally:
        with contextlib.suppress(OSError):  # it is not there: renamed, or never made
            temporary.unlink()
