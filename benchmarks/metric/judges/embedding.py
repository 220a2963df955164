"""A judge without a server: how alike are two texts in meaning, by sentence embeddings.

The cosine of the embeddings goes through a monotone map whose three constants were fitted to the labelled
pairs in ``calibration.jsonl`` (``python -m benchmarks.streampro calibrate`` measures them anew). What that
showed: a response to another matter is told well, but a wrong fact in the right sentence, such as "green" for
"red", is as near to the answer as a paraphrase is. So what speaks of the same matter gets the middle value
that such texts deserve on average. Good for sorting out what is off the point and for watching a trend; a
claim of accuracy needs the ``exact``, ``fields`` or ``llm`` judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.metric.annotations import Annotation, Answer, Response
from benchmarks.metric.judges.base import Case, normalise
from benchmarks.metric.judges.minilm import MiniLm


@dataclass(frozen=True)
class CosineMap:
    """Expected accuracy of a cosine: ``top / (1 + exp(-slope * (cosine - middle)))``."""

    top: float
    slope: float
    middle: float

    def __call__(self, cosine: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.top / (1 + np.exp(-self.slope * (cosine - self.middle))))


MAP = CosineMap(top=0.64, slope=10.87, middle=0.413)
"""Fitted to as many wrong facts as paraphrases: ``top`` would be higher for a model that is mostly right."""


class EmbeddingJudge:
    """1 for the same words, 0 for none, else the map of the cosine, to four decimals."""

    name = "embedding all-MiniLM-L6-v2"

    def __init__(self, model: MiniLm, cosine_map: CosineMap = MAP) -> None:
        self._model, self._map = model, cosine_map
        self._embeddings: dict[str, NDArray[np.float32]] = {}

    @classmethod
    def load(cls) -> EmbeddingJudge:
        """Raises ConfigError when the model is not installed."""
        return cls(MiniLm.load())

    def prepare(self, cases: Sequence[Case]) -> None:
        """Embed all texts in a few passes."""
        self._embed(text for case in cases for text in (case.answer.text, case.response.text))

    def accuracy(self, annotation: Annotation, answer: Answer, response: Response) -> float:
        said = normalise(response.text)
        if not said or said == normalise(answer.text):
            return float(bool(said))
        self._embed((answer.text, response.text))
        cosine = self._embeddings[answer.text] @ self._embeddings[response.text]
        # The last bits of an embedding depend on the texts it was computed with.
        return round(float(self._map(np.array([cosine], np.float64))[0]), 4)

    def _embed(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._embeddings]
        if new:
            self._embeddings.update(zip(new, self._model.encode(new), strict=True))
