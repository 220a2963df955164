"""Download a published checkpoint from the Hugging Face hub, with its own client.

The client resumes files that were cut off, compares lengths, reads ``HF_TOKEN``, ``HF_ENDPOINT`` and
``HF_HUB_OFFLINE``, and keeps files in its own cache (``HF_HOME``), so other programs share them. Here the
revision becomes a commit, only the files of an import are fetched, and errors become one line.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.bundle.published import CONFIG, check_config, read_config, read_licence, wanted_files
from edge_runtime.errors import BundleError, ConfigError, first_line

Progress = Callable[[str], None]

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""``owner/name``."""
_SPARE = 1 << 28
"""Bytes of a disk that a download leaves free."""


@dataclass(frozen=True)
class Fetched:
    """A checkpoint in the client's cache."""

    folder: Path
    name: str
    commit: str
    licence: str | None

    @property
    def origin(self) -> str:
        """``owner/name@commit``."""
        return f"{self.name}@{self.commit}"


def fetch(name: str, revision: str | None = None, progress: Progress = lambda _: None) -> Fetched:
    """Download the repository ``name`` (``owner/name``), or what is missing of it.

    ``revision``: a branch, tag or commit; the newest commit when None. Raises BundleError for a repository
    that cannot be read or imported, ConfigError when the client is not installed.
    """
    hub = _client()
    _check_name(name)
    with _explained(name, revision, hub):
        info = hub.HfApi().model_info(name, revision=revision, files_metadata=True)
        commit = str(info.sha)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        wanted = wanted_files(sizes, name)
        paths = [Path(hub.hf_hub_download(name, CONFIG, revision=commit))]
        check_config(read_config(paths[0]), name)  # before gigabytes are fetched
        missing = [file for file in wanted[1:] if not _is_cached(hub, name, file, commit)]
        _check_room(name, paths[0].parent, sum(sizes[file] for file in missing))
        for number, file in enumerate(missing, start=1):
            progress(f"{name}: {file}, {_size(sizes[file])} ({number} of {len(missing)})")
            hub.hf_hub_download(name, file, revision=commit)
    folder = paths[0].parent
    return Fetched(folder, name, commit, licence_of(info) or read_licence(folder))


def fetch_config(name: str, revision: str | None = None) -> Path:
    """Download config.json alone. Raises BundleError or ConfigError as :func:`fetch` does."""
    hub = _client()
    _check_name(name)
    with _explained(name, revision, hub):
        return Path(hub.hf_hub_download(name, CONFIG, revision=revision))


def _check_name(name: str) -> None:
    if not HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name}: expected the hub's OWNER/NAME, such as Qwen/Qwen3-VL-2B-Instruct")


def licence_of(info: Any) -> str | None:
    """Return the licence of the hub's record: its own name where it has one."""
    card = info.card_data
    named = None if card is None else card.get("license_name") or card.get("license")
    return named if isinstance(named, str) else None


def _client() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; run: pip install 'streampro-edge[export]'"
        ) from error
    return huggingface_hub


def _is_cached(hub: Any, name: str, file: str, commit: str) -> bool:
    return isinstance(hub.try_to_load_from_cache(name, file, revision=commit), str)


def _check_room(name: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        raise BundleError(
            f"{name}: {_size(needed)} to download, {_size(free)} free in {folder}; make room, or set "
            "HF_HOME to a folder on a larger disk"
        )


@contextmanager
def _explained(name: str, revision: str | None, hub: Any) -> Iterator[None]:
    errors, endpoint = hub.errors, hub.constants.ENDPOINT
    again = "run the same command again, it continues where it stopped"
    try:
        yield
    except errors.GatedRepoError as error:
        raise BundleError(
            f"{name}: gated; accept its terms at {endpoint}/{name}, then set HF_TOKEN to a token of "
            "that account"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{name}: has no revision {revision}; name a branch, tag or commit of it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"{name}: no such model at {endpoint}, or a private one; check the name, or set HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise BundleError(f"{name}: HF_HUB_OFFLINE is set; unset it, or give the model's folder") from error
    except errors.LocalEntryNotFoundError as error:  # the client's word for a file it can't get anywhere
        raise BundleError(f"{name}: {endpoint} cannot be reached; check the network and {again}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        raise BundleError(f"{name}: {endpoint} answers with status {status}; {again}") from error
    except errors.HTTPError as error:  # of the library for HTTP, whichever the client uses
        reason = first_line(error)
        raise BundleError(
            f"{name}: {endpoint} cannot be reached ({reason}); check the network and {again}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cache = hub.constants.HF_HUB_CACHE
            raise BundleError(f"{name}: the disk of {cache} is full; make room and {again}") from error
        if error.errno is None:  # the client's check of a file's length
            raise BundleError(f"{name}: the download failed ({first_line(error)}); {again}") from error
        raise BundleError(f"{error.filename or name}: {error.strerror or error}; {again}") from error


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return which of these modules are not installed."""
    from importlib.util import find_spec

    return [name for name in names if find_spec(name) is None]
