"""A report as one self-contained HTML page: drawn here, so that it needs neither script nor network."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.latency.bench.report.drawing import draw_histogram, draw_timeline, draw_waterfall
from benchmarks.latency.bench.report.statistics import NOT_MEASURED
from benchmarks.latency.bench.report.table import facts
from edge_runtime.atomic_write import write_whole

_COLUMNS = ("n", "mean", "p50", "p90", "p99", "max")


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write the whole page or nothing. Raises SinkError."""
    write_whole(path, [render(report).encode("utf-8", "replace").decode("utf-8")])


def render(report: dict[str, Any]) -> str:
    """The whole page. Every text of the report is escaped; the page may load nothing."""
    style = files("benchmarks.streampro.page").joinpath("template", "style.css").read_text(encoding="utf-8")
    style += files("benchmarks.latency.bench.report").joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    model, settings = report["model"], report["settings"]
    title = f"{model['name']} {model['precision']} on {_device(report)}"
    decision = report["latency"]["decision_ms"]
    stats = [
        ("p50", _ms(decision["p50"]), "frame to decision"),
        ("p99", _ms(decision["p99"]), f"of {decision['n']} decisions"),
        ("dropped", str(report["load"]["dropped"]), f"of {report['load']['offered']} frames offered"),
        ("first token", _ms(report["latency"]["first_token_ms"]["p50"]), "p50, from the frame"),
    ]
    head = (
        f"{settings['source']}, {settings['streams']} x {settings['rate']:g} fps for "
        f"{settings['duration_s']:g} s, {report['engine']}. Latency: {report['latency']['clock']}."
    )
    known = [*_device_facts(report), *facts(report)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header class="top">
  <p class="kicker">Latency report</p>
  <h1>{_text(title)}</h1>
  <p>{_text(head)}</p>
  <div id="headline">{"".join(_stat(*stat) for stat in stats)}</div>
  <dl id="facts">{"".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in known)}</dl>
</header>
<main>
  <section>
    <h2>Stage by stage</h2>
    <p class="lead">Mean share of each stage in the time from frame to decision; the shares add up to the
      mean. Late: the source itself was behind its timetable. Queue: waiting for the model. Decide: what the
      step needs beside the decoder.</p>
    <figure>{draw_waterfall(report["shares_ms"])}</figure>
    <div class="scroll" id="table">{_table(report)}</div>
  </section>
  <section>
    <h2>Timeline</h2>
    <p class="lead">Frame to decision over the run: median and maximum of each second or longer part. A bar
      at the bottom marks dropped frames, the dashed line the frame interval.</p>
    <figure>{draw_timeline(report["timeline"], report["load"]["deadline_ms"])}</figure>
  </section>
  <section>
    <h2>Distributions</h2>
    <p class="lead">How often each duration came, on a logarithmic scale.</p>
    <div class="histograms">{_histograms(report)}</div>
  </section>
  <section>
    <h2>Notes</h2>
    <ul>{"".join(f"<li>{_text(remark)}</li>" for remark in report["remarks"]) or "<li>none</li>"}</ul>
  </section>
</main>
</body>
</html>
"""


def _device(report: dict[str, Any]) -> str:
    device = report["device"]
    return str(device.get("gpu") or device.get("device") or device.get("processor") or "an unknown device")


def _device_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    device, model = report["device"], report["model"]
    packages = ", ".join(f"{name} {version}" for name, version in device.get("packages", {}).items())
    height, width = model["image_size"]
    return [
        (
            "device",
            f"{_device(report)}, {device.get('cores', '?')} cores, {device.get('memory', NOT_MEASURED)}",
        ),
        ("governor", str(device.get("governor", NOT_MEASURED))),
        ("system", str(device.get("system", NOT_MEASURED))),
        ("packages", packages or NOT_MEASURED),
        ("model", f"{model['name']} {model['precision']}, sha256 {model['sha256_of_manifest'][:12]}"),
        ("frame", f"{width} x {height}, {model['tokens_per_frame']} tokens a frame"),
        ("commit", str(device.get("commit", NOT_MEASURED))[:12]),
        ("measured", report["created"]),
    ]


def _table(report: dict[str, Any]) -> str:
    rows = {
        "frame to decision": report["latency"]["decision_ms"],
        **report["stages_ms"],
        "frame to first token": report["latency"]["first_token_ms"],
        "per further token": report["latency"]["token_ms"],
        "staleness": report["load"]["staleness_ms"],
    }
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    cells = {name: "".join(f"<td>{_number(row[c])}</td>" for c in _COLUMNS) for name, row in rows.items()}
    body = "".join(f'<tr><th class="left">{_text(name)}</th>{row}</tr>' for name, row in cells.items())
    top = f'<tr><th class="left">milliseconds</th>{head}</tr>'
    return f"<table><thead>{top}</thead><tbody>{body}</tbody></table>"


def _histograms(report: dict[str, Any]) -> str:
    return "".join(
        f"<figure><h3>{_text(name)}</h3>{draw_histogram(histogram['edges_ms'], histogram['counts'])}</figure>"
        for name, histogram in report["histograms"].items()
        if histogram["counts"]
    )


def _stat(name: str, value: str, about: str) -> str:
    return (
        f'<div class="stat"><div class="stat-name">{_text(name)}</div>'
        f'<div class="stat-value">{_text(value)}</div><div class="stat-about">{_text(about)}</div></div>'
    )


def _ms(value: float | str) -> str:
    return "\u2013" if isinstance(value, str) else f"{value:.1f} ms"


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return f'<span class="about">{_text(value)}</span>'
    return str(value) if isinstance(value, int) else f"{value:.{2 if math.fabs(value) < 1000 else 0}f}"


def _text(value: str) -> str:
    return html.escape(str(value))
