"""Secrets of a configuration: in environment variables or files of their own, never in edge-run.toml."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime import redaction
from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError, Finding


@dataclass(frozen=True)
class Secret:
    """Where a secret is read from; nowhere when both are None."""

    env: str | None = None
    file: Path | None = None

    def __bool__(self) -> bool:
        return (self.env, self.file) != (None, None)

    def read(self, owner: str, environment: Mapping[str, str] = os.environ) -> str | None:
        """The value, which is redacted from now on; None without a place to read it from.

        Raises ConfigError, which names ``owner``, when the variable or file does not exist or is empty.
        """
        value = self._from_file(owner) if self.file is not None else self._from(owner, environment)
        redaction.register(value)
        return value

    def key(self, key: str) -> str:
        """The key that names its place: ``{key}_env`` or ``{key}_file``."""
        return f"{key}_env" if self.file is None else f"{key}_file"

    def check(self, key: str, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        """Findings about ``{key}_env`` or ``{key}_file``: it cannot be read, or other users can read it."""
        try:
            self.read(key, environment)
        except ConfigError as err:
            yield Finding(self.key(key), "fail", str(err).partition(": ")[2])
            return
        mode = stat.S_IMODE(self.file.stat().st_mode) if self.file is not None else 0
        if mode & 0o077:
            who = "others" if mode & 0o007 else "its group"
            text = f"{self.file} is open to {who} (mode {mode:03o}); chmod 600 {self.file}"
            yield Finding(self.key(key), "warn", text)

    def _from_file(self, owner: str) -> str:
        assert self.file is not None
        try:
            value = self.file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"{owner}: the file {self.file} cannot be read: {reason}") from None
        if not value:
            raise ConfigError(f"{owner}: the file {self.file} is empty")
        return value

    def _from(self, owner: str, environment: Mapping[str, str]) -> str | None:
        if self.env is not None and not environment.get(self.env):
            raise ConfigError(
                f"{owner}: the environment variable {self.env} is not set; export it before edge-run"
            )
        return None if self.env is None else environment[self.env]


def read_secret(table: Table, key: str) -> Secret:
    """``key_env`` or ``key_file``; at most one of them."""
    env, file = table.text(f"{key}_env", None), table.path(f"{key}_file")
    for name in (f"{key}_env", f"{key}_file"):
        if table.value(name) == "":
            table.wrong(name, "expected a name, got nothing")
    if env is not None and file is not None:
        table.wrong(f"{key}_file", f"expected one of {key}_env and {key}_file")
    return Secret(env, file)


def forbid_secret(table: Table, key: str) -> None:
    """Reject ``key``, which people may expect to hold the secret itself."""
    table.forbid(key, f"secrets do not belong in this file; use {key}_env or {key}_file")
