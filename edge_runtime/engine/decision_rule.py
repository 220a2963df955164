"""How logits become a decision: the score of speaking, and which silence or response is the strongest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.choices import Choice
from edge_runtime.bundle.stream_format import TurnEncoder


class DecisionRule:
    """``bias`` [vocab]: -inf for tokens that no text may hold; a format without response tokens compares
    silence with all the others.
    """

    def __init__(self, encoder: TurnEncoder, bias: NDArray[np.float32]) -> None:
        self._silences, self._responses = encoder.silences, encoder.responses
        self._silence_ids = [choice.first for choice in self._silences]
        self._response_ids = [choice.first for choice in self._responses]
        self._greedy = encoder.stream_format.greedy
        self._opening = bias.copy()
        """Of the first token of a text that no response token announces."""
        if not self._responses:
            self._opening[self._silence_ids] = -np.inf

    def score(self, logits: NDArray[np.float32]) -> float:
        """Probability of speaking: of the responses against the silences."""
        if self._responses:
            responses = [float(logits[id]) for id in self._response_ids]
        else:
            responses = [self._total(logits + self._opening)]
        silences = [float(logits[id]) for id in self._silence_ids]
        margin = self._joined(silences) - self._joined(responses)
        return 1.0 / (1.0 + math.exp(min(margin, 700.0)))

    def silence(self, logits: NDArray[np.float32]) -> Choice:
        """The strongest silence."""
        return _strongest(self._silences, logits)

    def response(self, logits: NDArray[np.float32]) -> Choice | None:
        """The strongest response; None where a text begins without one."""
        return _strongest(self._responses, logits) if self._responses else None

    def opening(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the logits from which a text begins that no response token announces."""
        opening: NDArray[np.float32] = logits + self._opening
        return opening

    def _joined(self, values: Sequence[float]) -> float:
        if len(values) == 1:
            return values[0]  # as it is: the arithmetic of two tokens must not change
        highest = max(values)
        if self._greedy:
            return highest
        return highest + math.log(sum(math.exp(value - highest) for value in values))

    def _total(self, logits: NDArray[np.float32]) -> float:
        highest = float(logits.max())
        if self._greedy:
            return highest
        return highest + math.log(float(np.exp(logits - highest, dtype=np.float64).sum()))


def _strongest(choices: Sequence[Choice], logits: NDArray[np.float32]) -> Choice:
    return choices[0] if len(choices) == 1 else max(choices, key=lambda choice: float(logits[choice.first]))
