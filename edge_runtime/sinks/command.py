"""``[[command]]``: runs a program for each event, without a shell; the event is its stdin.

One program runs at a time, in the order of the events. Exit code 0 acknowledges the event; 75 (EX_TEMPFAIL)
asks for another attempt later; every other one rejects the event, which is dropped and counted. So does a
program that runs too long or writes too much. A program that cannot be started is tried again. At the end of
the run a program that still runs is ended; its event comes again with the next run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import redaction
from edge_runtime.config.table import Table
from edge_runtime.errors import Finding, SinkError
from edge_runtime.sinks.base import SinkContext
from edge_runtime.sinks.child_process import Outcome, run_program
from edge_runtime.sinks.outbox import OutboxRecord
from edge_runtime.sinks.remote import FLUSH_S, PermanentError, RemoteSink, RetryableError
from edge_runtime.sinks.remote_config import RemoteConfig, read_outbox

INPUTS = ("json", "text")
TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""

_MINUTE_S = 60.0
_LONGEST_OUTPUT = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommandConfig(RemoteConfig):
    """One ``[[command]]``."""

    kind = "command"

    types: tuple[str, ...] = ("response",)
    argv: tuple[str, ...] = ()
    """The program and its arguments, as they are."""
    stdin: str = "json"
    """``json``: the event in one line; ``text``: its text alone."""
    timeout_s: float = 30.0
    per_minute: int = 60
    """Most programs that are started within any minute."""

    @classmethod
    def read(cls, table: Table, name: str) -> CommandConfig:
        common = read_outbox(table, name, ("response",))
        max_age_s = table.positive("max_age", common["outbox_age_s"])
        stdin = table.text("stdin", "json")
        if stdin not in INPUTS:
            table.wrong("stdin", f"expected json or text, got {stdin!r}")
        elif stdin == "text" and not {"response", "query"}.issuperset(common["types"]):
            table.wrong("stdin", "only events of the types response and query have a text; write events")
        return cls(
            **{**common, "outbox_age_s": min(max_age_s, common["outbox_age_s"])},
            argv=_read_argv(table),
            stdin=stdin,
            timeout_s=table.positive("timeout", 30.0),
            per_minute=table.whole("per_minute", 60, lambda n: 0 < n <= 6000, "a whole number, 1 to 6000"),
        )

    def transport(self, *, announce: bool = True) -> Command:
        if problem := self._problem():
            raise SinkError(f"{self.label}: {problem}")
        return Command(self)

    def open(self, context: SinkContext) -> CommandSink:
        transport = self.transport()
        return CommandSink(self.outbox(context), transport, self.types)

    def connect(self) -> bool:
        return False

    def check(self, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
        if problem := self._problem():
            yield Finding("run", "fail", problem, exit_code=SinkError.exit_code)

    def _problem(self) -> str | None:
        """Why the program cannot be started, and what to do."""
        if not self.argv:
            return None
        program = self.argv[0]
        if shutil.which(program) is not None:
            return None
        if "/" not in program:
            return f"no program {program} is on PATH; install it, or give its path in run"
        if not Path(program).is_file():
            return f"{program} does not exist; correct its path in run"
        return f"{program} is not executable; chmod +x {program}"


class Command:
    """Runs the program; ``stop`` and ``close`` end it."""

    def __init__(
        self,
        config: CommandConfig,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"{config.label} ({Path(config.argv[0]).name})"
        self._config = config
        self._environment = environment
        self._clock = clock
        self._stop = threading.Event()
        self._starts: deque[float] = deque(maxlen=config.per_minute)

    def send(self, record: OutboxRecord) -> None:
        """Run the program on one event. Raises RetryableError and PermanentError."""
        self._wait_for_turn()
        config = self._config
        try:
            outcome = run_program(
                config.argv,
                _input(record, config.stdin),
                timeout_s=config.timeout_s,
                environment=without_secrets(self._environment),
                stop=self._stop,
            )
        except OSError as err:
            raise RetryableError(f"it cannot be started: {err.strerror or type(err).__name__}") from None
        self._judge(outcome)

    def connect(self) -> None:
        """There is nothing to connect to."""

    def stop(self) -> None:
        """End the program that runs; no other is started."""
        self._stop.set()

    def close(self) -> None:
        self.stop()

    def _wait_for_turn(self) -> None:
        """Until one more may be started within the minute. Raises RetryableError when the run ends."""
        full = len(self._starts) == self._starts.maxlen
        pause = self._starts[0] + _MINUTE_S - self._clock() if full else 0.0
        if self._stop.wait(max(0.0, pause)):
            raise RetryableError("the run ended")
        self._starts.append(self._clock())

    def _judge(self, outcome: Outcome) -> None:
        said = redaction.scrub(outcome.output)[-_LONGEST_OUTPUT:]
        said = f": {said}" if said else ""
        if self._stop.is_set() and outcome.ended_by_us:
            raise RetryableError(outcome.ended_by_us)
        if outcome.ended_by_us:
            raise PermanentError(f"{outcome.ended_by_us} and was ended{said}")
        if outcome.exit_code == TRY_AGAIN:
            raise RetryableError(f"exit code {TRY_AGAIN} (try again){said}")
        if outcome.exit_code < 0:
            raise PermanentError(f"{_signal_name(-outcome.exit_code)} ended it{said}")
        if outcome.exit_code:
            raise PermanentError(f"exit code {outcome.exit_code}{said}")
        _log.debug("%s ended with exit code 0%s", self.name, said)


class CommandSink(RemoteSink):
    """The outbox and the thread that runs the program."""

    _transport: Command

    def close(self) -> int:
        """As of every sink with an outbox; a program that runs longer than that waits is ended."""
        timer = threading.Timer(FLUSH_S, self._end_program)
        timer.daemon = True
        timer.start()
        try:
            return super().close()
        finally:
            timer.cancel()

    def _end_program(self) -> None:
        self.sender.failing = True  # known: close() logs what waits, and nothing else failed
        self._transport.stop()


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment but for variables whose value is a secret of this run."""
    return {name: value for name, value in environment.items() if not redaction.is_registered(value)}


def _read_argv(table: Table) -> tuple[str, ...]:
    argv = table.items("run")
    if not argv or not all(isinstance(part, str) and "\0" not in part for part in argv) or not argv[0]:
        table.wrong("run", 'expected the program and its arguments, such as ["espeak-ng", "--stdin"]')
        return ()
    program = str(table.near(argv[0])) if "/" in argv[0] else argv[0]
    return (program, *argv[1:])


def _input(record: OutboxRecord, kind: str) -> bytes:
    if kind == "json":
        return record.body + b"\n"
    event: dict[str, Any] = json.loads(record.body)
    return f"{event.get('text', '')}\n".encode("utf-8", "replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
