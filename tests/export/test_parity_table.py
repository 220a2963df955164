"""Every lowering and precision, through the runtime on ONNX Runtime's CPU, against PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from export.parity_table import Case, all_cases, as_table, measure_all  # noqa: E402

LIMITS = {
    "fp32": (0.05, 1e-4),
    "fp16": (0.2, 1e-3),
    "int8": (3.0, 0.01),
    "int4": (20.0, 1.0),
    "fp8": (8.0, 0.1),
}
"""Of logits (their largest is about 10) and of the mean KL divergence."""
QUICK = (Case("tensorrt", "fp16", "native-kv"), Case("tensorrt", "fp32", "legacy-kv"))


def test_every_lowering_and_precision_is_covered():
    cases = all_cases()
    assert len(set(cases)) == len(cases) == 13
    assert {case.lowering for case in cases} == {"ort-gqa", "native-kv", "legacy-kv"}
    assert Case("tensorrt", "fp32", "legacy-kv") in cases
    assert not any(case.lowering == "legacy-kv" and case.precision in ("int4", "fp8") for case in cases)


def measure(tiny_model, cases, timesteps=60):
    parts = (tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format, tiny_model.backbone)
    return list(measure_all(*parts, timesteps=timesteps, cases=cases, context_rows=384))


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in all_cases()],
    ids=str,
)
def test_a_streamed_clip_with_evictions(tiny_model, case):
    (row,) = measure(tiny_model, [case])
    logits, kl = LIMITS[case.precision]
    parity = row.parity
    assert parity["evictions"] >= 10
    assert parity["logit_max_abs_diff"] < logits
    assert parity["kl_mean"] < kl
    assert parity["kv_max_rel_diff"] < (2e-3 if case.precision == "fp32" else 0.5)  # embeddings are fp16
    assert parity["decision_agreement"] > 0.9  # of random weights, whose scores all lie near the threshold
    assert f"| {case.lowering} | {case.precision} |" in as_table([row])


def test_a_row_beyond_the_limits_says_so(tiny_model):
    case = Case("tensorrt", "fp32", "legacy-kv")
    (row,) = measure(tiny_model, [case], timesteps=20)
    row.parity["kl_mean"] = 0.5
    assert not row.passed
    assert as_table([row]).endswith("| no |")
