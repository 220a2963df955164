from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from edge_runtime.bundle.stream_format import StreamFormat  # noqa: E402
from export.bundle_writer import window_for  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families.registry import reference_of  # noqa: E402
from export.validation.parity import Comparison, measure_parity  # noqa: E402
from export.validation.parity_stream import story_stream  # noqa: E402


def test_comparison_of_known_logits():
    comparison = Comparison(lambda logits: 1 / (1 + np.exp(logits[0] - logits[1])))
    comparison.add(np.float32([0, 0]), np.float32([0, 0]), decision=True)
    comparison.add(np.log(np.float32([0.5, 0.5])), np.log(np.float32([0.75, 0.25])), decision=True)
    comparison.add(np.float32([3, 0]), np.float32([1, 0]), decision=False)
    result = comparison.result()
    assert result["logit_max_abs_diff"] == 2.0
    assert (result["timesteps"], result["positions"]) == (2, 3)
    assert result["spoke"] == 1
    assert result["score_max_abs_diff"] == 0.25
    assert result["decision_agreement"] == 0.5  # equal scores speak, 0.25 against 0.75 does not
    p = 1 / (1 + np.exp(-1.0))
    q = 1 / (1 + np.exp(-3.0))
    kl = [0.75 * np.log(1.5) + 0.25 * np.log(0.5), p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))]
    assert result["kl_mean"] == pytest.approx(sum(kl) / 3, rel=1e-2)


def test_int8_against_torch_over_evictions(tiny_bundle, tiny_model):
    result = measure_parity(tiny_bundle, reference_of(tiny_model.model, tiny_model.backbone), timesteps=80)
    assert result["evictions"] >= 15
    assert result["decision_agreement"] > 0.9
    assert result["kl_mean"] < 0.01
    assert result["positions"] > 100  # prefix, decisions and the words of responses


def test_a_model_other_than_the_bundles_is_noticed(tiny_bundle_fp32, tiny_model):
    class Blind(torch.nn.Module):
        def forward(self, pixels):
            return torch.zeros(len(pixels), 320, 7, 7)

    result = measure_parity(tiny_bundle_fp32, reference_of(tiny_model.model, Blind()), timesteps=30)
    assert result["kl_mean"] > 1e-3  # the right one: 1e-6


def test_a_stream_too_short_to_mean_anything_is_refused(tiny_bundle, tiny_model):
    def measure(**options):
        measure_parity(tiny_bundle, reference_of(tiny_model.model, tiny_model.backbone), **options)

    with pytest.raises(ExportError, match="the clip has 5 frames, 20 are needed"):
        measure(timesteps=20, steps=itertools.islice(story_stream(1.0), 5))
    with pytest.raises(ExportError, match="8 timesteps evict nothing"):
        measure(timesteps=8)


def test_the_stream_is_the_same_every_time_and_asks_in_every_story():
    first, again = (list(itertools.islice(story_stream(1.0), 150)) for _ in range(2))
    assert [step.query for step in first] == [step.query for step in again]
    assert all(np.array_equal(a.frame, b.frame) for a, b in zip(first, again, strict=True))
    assert first[0].frame.shape == (224, 224, 3) and first[0].frame.dtype == np.uint8
    assert len({step.query for step in first if step.query}) >= 2


def test_a_short_stream_evicts_from_a_shorter_window(tiny_bundle, tiny_model):
    opened = reference_of(tiny_model.model, tiny_model.backbone)
    result = measure_parity(tiny_bundle, opened, timesteps=8, window_turns=4)
    assert (result["timesteps"], result["decision_agreement"]) == (8, 1.0)
    assert result["evictions"] >= 2
    assert window_for(16, StreamFormat(window_turns=64)) == 8
    assert window_for(64, StreamFormat(window_turns=64)) == 32
    assert window_for(65, StreamFormat(window_turns=64)) is None
