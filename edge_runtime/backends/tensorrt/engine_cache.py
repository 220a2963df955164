"""Engines built on this device, kept between runs, and never used when in doubt.

Loading an engine is running native code. So only files count that this user wrote into a folder of their own,
whose sidecar names everything the engine depends on and whose bytes have the sidecar's hash; everything else
is built again, and the reason is said. An engine appears whole: temporary file, fsync, rename, sidecar last.
One process builds, a second one waits for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime.atomic_write import whole_file
from edge_runtime.backends.tensorrt.api import Built, Tensor
from edge_runtime.errors import BackendError

SCHEMA = 1
_log = logging.getLogger(__name__)

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
Key = Mapping[str, Any]


def default_folder() -> Path:
    """In the user's cache, never in a folder that others can write to."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "streampro-edge" / "engines"


class EngineCache:
    """Logs what is built, why it is built again, and what it waits for."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else default_folder()

    def get(self, slot: str, key: Key, build: Callable[[bytes], Built]) -> Built:
        """The engine of ``slot``, built now unless the stored one has this ``key``.

        ``key``: everything the engine depends on, JSON values; ``build`` takes the last build's timing cache.
        Raises BackendError when the folder cannot be used, and whatever ``build`` raises.
        """
        slot = _safe(slot)
        with self._locked(slot):
            built, reason = self._load(slot, key)
            if built is not None:
                return built
            _log.info("engine %s: building%s", slot, f", because {reason}" if reason else "")
            built = build(self._timing(slot, key))
            self._store(slot, key, built)
            return built

    def import_engines(self, folder: Path) -> list[str]:
        """Take over engines that the user had built elsewhere; returns their slots.

        The user vouches for them by calling this. Raises BackendError for one that is not whole.
        """
        sidecars = sorted(folder.glob("*.json"))
        if not sidecars:
            raise BackendError(f"{folder}: no engines there; python -m export engines writes them")
        taken = []
        for path in sidecars:
            slot = _safe(path.stem)
            try:
                sidecar = json.loads(path.read_text(encoding="utf-8"))
                plan = path.with_suffix(".plan").read_bytes()
            except (OSError, ValueError) as error:
                raise BackendError(f"{path}: cannot be read ({error}); copy the engines again") from error
            problem = _damage(sidecar, plan)
            if problem:
                raise BackendError(f"{path.with_suffix('.plan')}: {problem}; copy the engines again")
            with self._locked(slot):
                self._store(slot, sidecar["key"], Built(plan, _tensors(sidecar)))
            taken.append(slot)
        return taken

    def write(self, slot: str, key: Key, built: Built) -> Path:
        """Store an engine without asking whether there is one; returns the plan's path."""
        slot = _safe(slot)
        with self._locked(slot):
            return self._store(slot, key, built)

    def _load(self, slot: str, key: Key) -> tuple[Built | None, str]:
        """The stored engine, or why it cannot be used; an empty reason when there is none."""
        try:
            text = _read_own(self.folder / f"{slot}.json")
            plan = _read_own(self.folder / f"{slot}.plan")
        except FileNotFoundError as error:
            other = self.folder / f"{slot}.plan"
            half = str(error.filename).endswith(".json") and other.exists()
            return None, "an earlier build was cut short" if half else ""
        except _ForeignError as error:
            return None, str(error)
        except OSError as error:
            return None, f"the stored one cannot be read ({error.strerror})"
        try:
            sidecar = json.loads(text)
            reason = _stale(sidecar["key"], key) or _damage(sidecar, plan)
            return (None, reason) if reason else (Built(plan, _tensors(sidecar)), "")
        except (ValueError, KeyError, TypeError):
            return None, "what describes the stored one is damaged"

    def _store(self, slot: str, key: Key, built: Built) -> Path:
        sidecar = {
            "schema": SCHEMA,
            "key": dict(key),
            "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
            "plan_bytes": len(built.plan),
            "tensors": [asdict(tensor) for tensor in built.tensors],
        }
        target = self.folder / f"{slot}.plan"
        try:
            _write(target, built.plan)
            if built.timing:
                _write(self._timing_path(slot), _timing_head(key) + built.timing)
            _write(target.with_suffix(".json"), json.dumps(sidecar, indent=1).encode())
        except OSError as error:
            raise BackendError(f"{target}: cannot be written ({error.strerror}); make room there") from error
        return target

    def _timing_path(self, slot: str) -> Path:
        return self.folder / f"{slot}.timing"

    def _timing(self, slot: str, key: Key) -> bytes:
        try:
            data = _read_own(self._timing_path(slot))
        except OSError:
            return b""
        head = _timing_head(key)
        return data[len(head) :] if data.startswith(head) else b""

    @contextmanager
    def _locked(self, slot: str) -> Iterator[None]:
        self._secure()
        try:
            descriptor = os.open(
                self.folder / f"{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise BackendError(f"{self.folder}: cannot be written ({error.strerror})") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("engine %s: another process is building it, waiting", slot)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in self.folder.glob(f".{slot}.*.tmp"):
                left.unlink(missing_ok=True)  # of a build that was killed: we hold the lock
            yield
        finally:
            os.close(descriptor)  # which also unlocks

    def _secure(self) -> None:
        """A folder of mode 0700 that is ours. Engines in one that others could write to are thrown away."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            facts = os.lstat(self.folder)
        except OSError as error:
            raise BackendError(
                f"{self.folder}: cannot be made ({error.strerror}); set XDG_CACHE_HOME to a folder of yours"
            ) from error
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise BackendError(
                f"{self.folder}: is not a folder of this user; remove it, or set XDG_CACHE_HOME to another"
            )
        if facts.st_mode & _OTHERS_MAY_WRITE:
            for path in self.folder.iterdir():
                if path.suffix in (".plan", ".json", ".timing"):
                    path.unlink()
            _log.warning("%s: others could write there; its engines are built again", self.folder)
        if stat.S_IMODE(facts.st_mode) != 0o700:
            self.folder.chmod(0o700)


class _ForeignError(OSError):
    """A file that others own or can write to."""


def _read_own(path: Path) -> bytes:
    """Bytes of a regular file that this user owns and nobody else can write to; no link is followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _ForeignError(f"{path.name} is a link or cannot be opened ({error.strerror})") from error
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid():
            raise _ForeignError(f"{path.name} belongs to another user")
        if facts.st_mode & _OTHERS_MAY_WRITE:
            raise _ForeignError(f"others can write to {path.name}")
        return file.read()


def _write(path: Path, data: bytes) -> None:
    with whole_file(path, 0o600) as temporary:
        temporary.write_bytes(data)


def _stale(stored: Key, wanted: Key) -> str:
    """What the stored engine was made for and is not wanted now, in words; empty when it fits.

    An engine built ahead of time names several compute capabilities and no GPU: one of them has to be ours.
    """
    ahead = isinstance(stored.get("sm"), list)
    for name, value in wanted.items():
        have = stored.get(name)
        if ahead and (name in ("gpu", "cuda_major") or (name == "sm" and value in (have or []))):
            continue
        if have != value:
            return f"the stored one is for {name.replace('_', ' ')} {_short(have)}, not {_short(value)}"
    return ""


def _damage(sidecar: Mapping[str, Any], plan: bytes) -> str:
    if sidecar["schema"] != SCHEMA:
        return f"the stored one is of schema {sidecar['schema']}, not {SCHEMA}"
    if len(plan) != sidecar["plan_bytes"]:
        return f"the stored one is truncated ({len(plan)} of {sidecar['plan_bytes']} bytes)"
    if hashlib.sha256(plan).hexdigest() != sidecar["plan_sha256"]:
        return "the stored one was changed after it was built"
    return ""


def _tensors(sidecar: Mapping[str, Any]) -> tuple[Tensor, ...]:
    return tuple(Tensor(**{**entry, "shape": tuple(entry["shape"])}) for entry in sidecar["tensors"])


def _timing_head(key: Key) -> bytes:
    """Timings hold for one version on one GPU."""
    facts = [key.get(name) for name in ("engine", "version", "cuda_major", "gpu", "sm")]
    return json.dumps(facts).encode() + b"\n"


def _safe(slot: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", slot).lstrip(".") or "engine"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
