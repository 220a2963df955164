"""Many questions, each way measured in every round."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks.latency import questions
from edge_runtime.backends.ort_batch import OrtBatch
from edge_runtime.errors import ConfigError


def run(*arguments):
    return CliRunner().invoke(
        questions.main, [*map(str, arguments), "--threads", "1"], catch_exceptions=False
    )


def test_every_way_is_measured_and_compared_with_one_question(tiny_bundle, tmp_path):
    out = tmp_path / "questions.json"
    outcome = run(
        "--bundle",
        tiny_bundle,
        "--context",
        128,
        "--questions",
        3,
        "--questions",
        9,
        "--rounds",
        1,
        "--out",
        out,
    )
    assert outcome.exit_code == 0, outcome.output
    results = json.loads(out.read_text())["results"]
    cases = [(row["questions"], row["step"], row["way"]) for row in results]
    assert cases == [
        (count, step, way) for count in (3, 9) for step in ("timestep", "token") for way in questions.WAYS
    ]
    assert all(row[kind]["ratio"]["p50"] == 1.0 for row in results[::4] for kind in ("elapsed", "processor"))
    assert outcome.output.count("questions") >= len(cases)


def test_other_numbers_are_refused(tiny_bundle, monkeypatch):
    step = OrtBatch.step
    monkeypatch.setattr(OrtBatch, "step", lambda self, steps: [logits + 1e-6 for logits in step(self, steps)])
    with pytest.raises(ConfigError, match="other logits"):
        run("--bundle", tiny_bundle, "--context", 128, "--questions", 3, "--rounds", 1)


def test_a_context_beyond_the_cache_is_refused(tiny_bundle):
    with pytest.raises(ConfigError, match="--context 4096: must lie from 57 to"):
        run("--bundle", tiny_bundle, "--context", 4096)


def test_a_bundle_without_the_graph_is_refused():
    with pytest.raises(ConfigError, match="no graph for several questions"):
        run("--bundle", "nano", "--rounds", 1)
