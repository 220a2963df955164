"""``edge-run bench`` from its options to its files, on the tiny bundle, for about a second."""

import base64
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import av
import jsonschema
import pytest

from benchmarks.latency.bench import measure as measure_module
from benchmarks.latency.bench.load.clip import WORLD_CLIP, LoopedClip
from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.bench.load.watcher import STAGES, Sample
from benchmarks.latency.bench.measure import Plan, Sources, find_maximum, measure
from benchmarks.latency.bench.report import page
from benchmarks.latency.bench.report.compare import compare
from benchmarks.latency.bench.report.drawing import draw_histogram
from benchmarks.latency.bench.report.schema import first_fault, read_schema
from benchmarks.latency.facts import machine_facts
from edge_runtime.app.cli import _main

SERVE_CLIP = Path(__file__).resolve().parents[3] / "serve_clip.py"
QUICK = ("--warm-up", "0", "--threads", "1")


@pytest.fixture(scope="module")
def report_dir(tiny_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "report"
    options = ("--rate", "8", "--streams", "2", "--duration", "1.5", "--speak-every", "3")
    code = _main(
        [
            "bench",
            "--bundle",
            str(tiny_bundle),
            *options,
            *QUICK,
            "--report",
            str(folder),
            "--allow-throttling",
        ]
    )
    assert code == 0
    return folder


@pytest.fixture
def report(report_dir):
    return json.loads((report_dir / "report.json").read_text())


def test_every_frame_is_accounted_for(report):
    load = report["load"]
    assert load["offered"] == 24
    assert load["processed"] + load["dropped"] == 24
    assert load["processed"] > 0
    assert sum(row["processed"] for row in report["timeline"]) == load["processed"]


def test_the_stages_are_all_there_and_add_up(report):
    # A window that happens not to be full at any of these frames leaves eviction out.
    assert set(STAGES) - {"evict"} <= set(report["stages_ms"])
    decision = report["latency"]["decision_ms"]
    assert sum(report["shares_ms"].values()) == pytest.approx(decision["mean"], rel=0.05)
    assert decision["p99"] == "not measured"
    assert report["latency"]["first_token_ms"]["n"] > 0
    assert report["latency"]["first_token_ms"]["mean"] > report["stages_ms"]["vision"]["mean"]


def test_what_the_numbers_must_be_read_with(report):
    assert report["warm_up"]["steps"] >= 13  # the tiny bundle's window of 12 turns, and one more
    assert max(report["context"]["rows_at_start"]) <= report["context"]["capacity_rows"] == 384
    assert len(report["context"]["rows_at_end"]) == 2
    assert report["cold_start"]["load_s"] > 0
    assert report["memory"]["rss_mb_peak"] >= report["memory"]["rss_mb_loaded"]
    assert report["model"]["precision"] == "int8"
    assert any("p99 is not measured" in remark for remark in report["remarks"])


def test_the_report_keeps_to_its_schema(report):
    assert first_fault(report) is None
    jsonschema.Draft202012Validator.check_schema(read_schema())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r.update(version=2), "report.version: 1 was expected"),
        (lambda r: r.pop("load"), "report: 'load' is a required property"),
        (lambda r: r["load"].update(dropped=-1), "report.load.dropped: -1 is less than the minimum of 0"),
        (
            lambda r: r["latency"]["decision_ms"].update(p50="fast"),
            "report.latency.decision_ms.p50: 'fast' is not",
        ),
        (lambda r: r["warm_up"].update(steady=1), "report.warm_up.steady: 1 is not of type 'boolean'"),
        (
            lambda r: r["timeline"][0].update(extra=1),
            "report.timeline[0]: Additional properties are not allowed ('extra' was unexpected)",
        ),
    ],
)
def test_the_schema_finds_faults(report, change, fault):
    change(report)
    assert fault in first_fault(report)


def test_the_page_is_self_contained_and_trusts_no_text(report, report_dir):
    text = (report_dir / "report.html").read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert text.count('<img class="chart"') == 2 + len(
        [h for h in report["histograms"].values() if h["counts"]]
    )
    report["device"]["processor"] = "<script>alert(1)</script>"
    report["remarks"] = ["<b>"]
    assert "<script" not in page.render(report)


def test_a_histogram_names_the_powers_of_ten_between_its_ends():
    image = draw_histogram([10 ** (power / 10) for power in range(-25, 26)], [1] * 50)
    text = base64.b64decode(re.search(r"base64,([^\"]*)", image)[1]).decode()
    assert {"{-1}", "{0}", "{1}"} <= set(re.findall(r"10\^(\{-?\d\})", text))
    assert "{3}" not in text


def test_the_machine_says_its_memory_in_gigabytes():
    memory = machine_facts().get("memory")
    if memory is None:
        pytest.skip("this system does not say")
    value, unit = memory.split()
    assert unit == "GB" and 0.1 < float(value) < 100_000


def test_compare_gives_ratios_and_warns(report, report_dir, tmp_path, capsys):
    slower = json.loads(json.dumps(report))
    slower["latency"]["decision_ms"]["p50"] = report["latency"]["decision_ms"]["p50"] * 2
    slower["engine"] = "another engine"
    rows, warnings = compare(report, slower)
    assert rows[0].ratio == pytest.approx(2.0)
    assert next(row for row in rows if row.name == "decision p99, ms").ratio is None
    assert any("different engine" in warning for warning in warnings)
    assert any("noise" in warning or "few values" in warning for warning in warnings)
    (tmp_path / "b.json").write_text(json.dumps(slower))
    assert _main(["bench", "compare", str(report_dir / "report.json"), str(tmp_path / "b.json")]) == 0
    assert "2.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--source", "none.mp4"], 4, "none.mp4': no such file"),
        (["--source", "ftp://x/y"], 4, "no source of a benchmark"),
        (["--source", __file__], 4, "cannot be decoded"),
        (["--bundle", "none"], 3, "bundle none: no such folder"),
        (["--window-turns", "1"], 2, "--window-turns"),
        (["--window-turns", "1000"], 2, "--window-turns 1000: nano keeps 80"),
        (["--rate", "0"], 2, "--rate"),
        (["--rate", "nan"], 2, "--rate"),
        (["--rate", "1", "--duration", "0.5"], 2, "less than two frames"),
        (["--source", "rtsp://127.0.0.1/x", "--find-max"], 2, "sets its own pace"),
        (["--report", "/proc/none/report"], 5, "reports cannot be written"),
        (["--nonsense"], 2, "--nonsense"),
        (["compare", "none.json", "none.json"], 2, "none.json: cannot be read"),
        (["compare", __file__, __file__], 2, "not JSON"),
    ],
)
def test_a_mistake_is_one_line(arguments, code, words, capsys):
    assert _main(["bench", *arguments]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_a_file_that_is_no_report(tmp_path, capsys):
    (tmp_path / "a.json").write_text('{"format": "other"}')
    assert _main(["bench", "compare", *[str(tmp_path / "a.json")] * 2]) == 2
    assert "not a latency report" in capsys.readouterr().err


def test_without_the_packages_one_line_says_which_to_install(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("benchmarks.latency.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert _main(["bench"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "pip install 'streampro-edge[bench]'" in line


def test_throttling_fails_unless_it_is_allowed(report, monkeypatch, capsys):
    from benchmarks.latency.bench import command

    report["sensors"]["throttled"] = True
    monkeypatch.setattr(command, "measure", lambda plan, say: report)
    assert _main(["bench"]) == 1
    assert "throttled" in capsys.readouterr().err
    assert _main(["bench", "--allow-throttling"]) == 0


def test_ctrl_c_keeps_the_report_and_says_130(report, monkeypatch, tmp_path):
    from benchmarks.latency.bench import command

    report["load"]["interrupted"] = True
    monkeypatch.setattr(command, "measure", lambda plan, say: report)
    assert _main(["bench", "--report", str(tmp_path / "out")]) == 130
    assert (tmp_path / "out" / "report.json").is_file()


def test_no_picture_comes_twice():
    with av.open(str(WORLD_CLIP)) as container:
        lap = sum(1 for _ in container.decode(video=0))
    clip = LoopedClip(WORLD_CLIP)
    first = [clip.next() for _ in range(10)]
    for _ in range(lap - 10):
        clip.next()
    assert first[0].dtype == "uint8"
    assert all((clip.next() != picture).any() for picture in first)
    assert (LoopedClip(WORLD_CLIP, first_lap=100).next() != first[0]).any()


def test_the_search_reports_what_the_machine_carries(monkeypatch):
    """A machine that takes 20 ms for every frame: 50 a second in all."""

    def run_open_loop(rate, duration_s, pictures, step):
        count = int(rate * duration_s) * len(pictures)
        overloaded = rate * len(pictures) >= 50
        samples = [Sample(0, k / rate, k / rate + 0.02) for k in range(count)]
        dropped = [(0, 0.0)] if overloaded else []
        return Run(0.0, duration_s, rate, len(pictures), count, samples, dropped, len(dropped))

    class Watcher:
        streams, full_after = 1, 0

        def add_stream(self):
            self.streams += 1

        def next_run(self):
            pass

        def step(self, arrival):
            raise AssertionError("the stand-in of the run steps by itself")

    monkeypatch.setattr(measure_module, "run_open_loop", run_open_loop)
    found = find_maximum(
        Plan(rate=4.0, trial_s=2.0), Watcher(), Sources("world", (224, 224)), lambda line: None
    )
    assert 48 <= found.rate < 50
    assert found.streams == 12
    assert sum(not trial.carried for trial in found.trials) % 2 == 0  # each failure was tried twice


def test_soak_and_search_on_the_real_model(tiny_bundle, tmp_path):
    options = ["--bundle", str(tiny_bundle), "--soak", "--duration", "3", "--rate", "4", "--allow-throttling"]
    options += ["--find-max", "--trial", "0.5", "--max-streams", "2", "--report", str(tmp_path)]
    assert _main(["bench", *options, *QUICK]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert first_fault(report) is None
    assert report["soak"]["last_over_first_p50"] > 0
    tried = {(trial["rate"], trial["streams"]) for trial in report["maximum"]["trials"]}
    assert {(1.0, 1), (4.0, 1)} <= tried  # where either search begins
    text = (tmp_path / "report.html").read_text()
    assert "highest load" in text and "p50 of the last" in text


@pytest.mark.gst
@pytest.mark.slow
def test_a_network_camera_sets_the_pace(tiny_bundle):
    gi = pytest.importorskip("gi")
    try:
        gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        pytest.skip("needs GstRtspServer")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, str(SERVE_CLIP), str(port), str(WORLD_CLIP)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "ready\n"
            address = f"rtsp://127.0.0.1:{port}/clip"
            plan = Plan(str(tiny_bundle), source=address, rate=2.0, duration_s=4, warm_up_s=0, threads=1)
            report = measure(plan, lambda line: None)
        finally:
            server.kill()
    assert first_fault(report) is None
    load = report["load"]
    assert 1 <= load["offered"] <= 10  # 8 in 4 s, and what a slow machine shifts
    assert load["offered"] == load["processed"] + load["dropped"]
    assert "capture" in report["latency"]["clock"]
    assert "late" not in report["stages_ms"]  # a camera has no timetable of ours
    assert report["stages_ms"]["decode"]["n"] == load["processed"]
    assert any("transport" in remark for remark in report["remarks"])


def test_a_smaller_window_holds_fewer_rows(tiny_bundle, report):
    plan = Plan(str(tiny_bundle), window_turns=3, rate=8.0, duration_s=1, warm_up_s=0, threads=1)
    small = measure(plan, lambda line: None)
    assert first_fault(small) is None
    assert (small["settings"]["window_turns"], report["settings"]["window_turns"]) == (3, 12)
    assert max(small["context"]["rows_at_end"]) < min(report["context"]["rows_at_start"])
    assert any("different turns in the window: 12 and 3" in warning for warning in compare(report, small)[1])


def test_a_file_as_source_and_no_speech(tiny_bundle):
    plan = Plan(
        str(tiny_bundle),
        source=str(WORLD_CLIP),
        rate=5.0,
        duration_s=0.6,
        speak_every=0,
        warm_up_s=0,
        threads=1,
    )
    report = measure(plan, lambda line: None)
    assert report["settings"]["frame_size"] == [224, 224]
    assert report["latency"]["first_token_ms"]["n"] == 0
    assert report["latency"]["first_token_ms"]["p50"] == "not measured"
    assert report["soak"] == report["maximum"] == "not measured"
