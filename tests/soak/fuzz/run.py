"""Spoiled inputs by the thousand: configurations, video files, an RTSP server's answers.

    python -m tests.soak.fuzz.run --cases 10000 --seed 0
    python -m tests.soak.fuzz.run --seed 0 --case 4711

Every case must end with a state or a one-line error: never a crash, a traceback, or a hang. The cases run one
after another in long-lived processes, one for each kind; one that dies or hangs is noted with its case and
replaced. Findings go to a folder with the bytes that led to them. Ends with code 1 when there are any.
"""

from __future__ import annotations

import collections
import json
import queue
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from benchmarks.latency.facts import machine_facts, write_json
from edge_runtime.command_line.exit import run_command
from tests.soak.fuzz.cases import (
    HANG_S,
    Kind,
    Material,
    kind_of,
    make_case,
    make_material,
    save_material,
)
from tests.soak.process import slope

KINDS: tuple[Kind, ...] = ("config", "file", "rtsp")
START_S = 60.0


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--cases", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--case", "only", type=click.IntRange(0), help="This one case alone.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="[default: all]")
@click.option("--findings", type=click.Path(path_type=Path), default=Path("fuzz-findings"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here as JSON.")
def main(
    cases: int, seed: int, only: int | None, kinds: tuple[Kind, ...], findings: Path, out: Path | None
) -> None:
    material = make_material()
    span = range(cases) if only is None else range(only, only + 1)
    chosen = [kind for kind in kinds or KINDS if any(kind_of(number) == kind for number in span)]
    with tempfile.TemporaryDirectory() as folder:
        save_material(material, Path(folder))
        records = run_cases(span, seed, chosen, Path(folder))
    result = summary(records, seed)
    click.echo(json.dumps(result, indent=2))
    for record in records:
        if record["result"] == "finding":
            _keep(findings, seed, record, material)
    write_json(out, result)
    sys.exit(0 if result["passed"] else 1)


def run_cases(span: range, seed: int, kinds: list[Kind], folder: Path) -> list[dict[str, Any]]:
    """Records with ``case kind result detail seconds`` and the process's ``rss_mb threads files``."""
    wanted = sum(kind_of(number) in kinds for number in span)
    with tqdm(total=wanted, desc="cases", file=sys.stderr, disable=None) as bar:
        lock = threading.Lock()

        def done(_record: dict[str, Any]) -> None:
            with lock:
                bar.update()

        with ThreadPoolExecutor(len(kinds)) as pool:
            work = [pool.submit(_Worker(seed, kind, folder, done).run, span) for kind in kinds]
            records = [record for item in work for record in item.result()]
    return sorted(records, key=lambda record: record["case"])


@dataclass
class _Worker:
    """The processes, one after another, that run the cases of one kind."""

    seed: int
    kind: Kind
    folder: Path
    done: Any
    records: list[dict[str, Any]] = field(default_factory=list)
    starts: int = 0

    def run(self, span: range) -> list[dict[str, Any]]:
        first = span.start
        while first < span.stop:
            first = self._one_process(first, span.stop)
        return self.records

    def _one_process(self, first: int, stop: int) -> int:
        """Run from ``first`` on; the number to go on with. Raises ClickException when the process ends, by
        itself or from outside, between two cases while some are left.
        """
        self.starts += 1
        before = len(self.records)
        arguments = [*map(str, (self.seed, first, stop, 1)), self.kind, str(self.folder)]
        command = [sys.executable, "-m", "tests.soak.fuzz.worker", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        number, patience = None, START_S
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            while line := _next_line(lines, patience):
                record = json.loads(line)
                if "start" in record:
                    number, patience = record["start"], HANG_S[self.kind]
                else:
                    self._note(record | {"process": self.starts})
                    number, patience = None, START_S
            hangs = line is None
        finally:
            process.kill()
            code = process.wait()
        if number is None:
            done = len(self.records) - before
            wanted = sum(kind_of(number) == self.kind for number in range(first, stop))
            if done < wanted or code not in (0, -9):  # -9: ours, when it was about to end
                how = f"said nothing for {patience:g} s" if hangs else f"ended with {code}"
                raise click.ClickException(
                    f"the process that runs {self.kind} cases {how} after {done} of {wanted} cases, from "
                    f"{first} on; is memory short? (dmesg says whether the system killed it); start again"
                )
            return stop
        stacks = self.folder / f"stacks-{self.kind}"
        where = stacks.read_text(errors="replace")[-2000:] if stacks.exists() else ""
        what = f"hangs for {patience:g} s: {where}" if hangs else f"the process died ({code})"
        self._note(
            {"case": number, "kind": self.kind, "result": "finding", "detail": what, "seconds": patience}
        )
        return number + 1

    def _note(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self.done(record)


def _read_lines(stdout: Any, lines: queue.SimpleQueue[str]) -> None:
    """Until the process ends: then an empty line."""
    for line in stdout:
        lines.put(line)
    lines.put("")


def _next_line(lines: queue.SimpleQueue[str], patience_s: float) -> str | None:
    """Empty when the process has ended, None when nothing came in time."""
    try:
        return lines.get(timeout=patience_s)
    except queue.Empty:
        return None


def summary(records: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Counts and times by kind, how the long-lived processes grew, and the findings."""
    result: dict[str, Any] = {"what": f"{len(records)} cases, seed {seed}", "machine": machine_facts()}
    for kind in KINDS:
        mine = [record for record in records if record["kind"] == kind]
        if not mine:
            continue
        seconds = [record["seconds"] for record in mine]
        steady = [record for record in mine if record.get("process") == 1][len(mine) // 5 :]
        numbers = range(len(steady))
        result[kind] = {
            "cases": len(mine),
            **collections.Counter(record["result"] for record in mine),
            "seconds": {"p50": round(float(np.median(seconds)), 4), "max": max(seconds)},
            "rss_mb_per_100_cases": round(100 * slope(numbers, [r["rss_mb"] for r in steady]), 3),
            "more_threads": steady[-1]["threads"] - steady[0]["threads"] if steady else 0,
            "more_files": steady[-1]["files"] - steady[0]["files"] if steady else 0,
        }
    found = [record for record in records if record["result"] == "finding"]
    result["findings"] = [{key: record[key] for key in ("case", "kind", "detail")} for record in found]
    result["passed"] = not found
    return result


def _keep(folder: Path, seed: int, record: dict[str, Any], material: Material) -> None:
    """The bytes of a finding, to look at and to try again."""
    case = make_case(seed, record["case"], material)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{seed}-{case.number}-{case.kind}"
    (folder / f"{stem}.txt").write_text(f"{record['detail']}\n", encoding="utf-8")
    if case.replies:
        spoken = {method: reply.decode("latin-1") for method, reply in case.replies.items()}
        spoken["media"] = case.media.decode("latin-1")
        (folder / f"{stem}.json").write_text(json.dumps(spoken, indent=1), encoding="utf-8")
    else:
        (folder / f"{stem}-{Path(case.name).name}").write_bytes(case.data)


if __name__ == "__main__":
    run_command(main)
