"""``edge-run check``: says all that is wrong with a configuration, without running it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import click

from edge_runtime import redaction
from edge_runtime.app.config_file import find_path
from edge_runtime.command_line.log_options import log_options
from edge_runtime.errors import Finding
from edge_runtime.observability.console import Console

_COLOURS = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}


@click.command("check")
@click.option("--config", metavar="FILE", help="Configuration.  [default: ./edge-run.toml, then the user's]")
@click.option("--connect", "try_them", is_flag=True, help="Try sinks, endpoint and cameras; sends no event.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all findings.")
@log_options
def check(config: str | None, try_them: bool, as_json: bool) -> int:
    """Check edge-run.toml and list every problem with its line.

    \b
    The exit code is that of a run with the first thing that fails:
      0  nothing does (there may be warnings), or there is no edge-run.toml
      2  the file itself, or a secret
      3  the bundle
      4  a source
      5  the file of events, the outbox, or a sink
      6  the endpoint
    """
    from edge_runtime.app.check import check as check_file
    from edge_runtime.app.check import exit_code
    from edge_runtime.app.check_connections import connect

    path = find_path(config)
    console = Console(sys.stdout)
    if path is None:
        if as_json:
            click.echo(json.dumps({"ok": True, "file": None, "findings": []}, indent=2))
        else:
            console.line(
                "no edge-run.toml here and none of the user's; edge-run init writes one to start from"
            )
        return 0
    findings: list[Finding] = []

    def show(finding: Finding) -> None:
        finding = replace(finding, detail=redaction.scrub(finding.detail))
        findings.append(finding)
        if not as_json:
            console.line(f"{finding.status:<5} {finding}", style=_COLOURS[finding.status])

    settings, found = check_file(path)
    for finding in found:
        show(finding)
    if try_them and exit_code(found) == 0:
        for finding in connect(settings):
            show(finding)
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        report = {"ok": not failed, "file": str(path), "findings": [_to_dict(one) for one in findings]}
        click.echo(json.dumps(report, indent=2))
    elif failed and try_them and exit_code(found):
        console.line(f"{path}: {failed} to fix; connections are tried once these are fixed")
    else:
        console.line(f"{path}: {f'{failed} to fix' if failed else 'can be run'}")
    return exit_code(findings)


def _to_dict(finding: Finding) -> dict[str, object]:
    file = {"file": str(finding.file), "line": finding.line, "key": finding.subject}
    return {"status": finding.status, **file, "text": finding.detail}
