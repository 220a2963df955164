"""Which tokens the policy may choose from, place by place, and with what probability.

The runtime masks all but the two decision tokens where a decision is due, and special tokens inside a text.
Rollouts do the same, so that what is rewarded is what runs; or they may leave everything open, as the paper
does, and let the format reward teach the format.
"""

from __future__ import annotations

import math
from enum import IntEnum

import torch
from tokenizers import Tokenizer
from torch import Tensor

from edge_runtime.bundle.stream_format import TurnEncoder


class Place(IntEnum):
    """Where a token is chosen."""

    DECISION = 0
    TEXT_START = 1
    """Inside a text that is still blank: it must not end here."""
    TEXT = 2


class TokenConstraints:
    """``threshold``: the score from which the runtime speaks. Sampling is centred on it: the policy speaks
    with probability 1/2 where the score equals the threshold, so that the runtime's decision is always the
    policy's likelier one. At 0.5 nothing is shifted. ``constrained`` False leaves every token open at every
    place but the image token and rows of the embedding that no token has, and shifts nothing.
    """

    def __init__(
        self,
        encoder: TurnEncoder,
        tokenizer: Tokenizer,
        vocabulary: int,
        *,
        constrained: bool = True,
        threshold: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        """``vocabulary``: logits of the model. Raises ValueError for a temperature that is not positive."""
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.constrained, self.threshold, self.temperature = constrained, threshold, temperature
        self.encoder, self.tokenizer = encoder, tokenizer
        self._bias = torch.zeros(len(Place), vocabulary)
        self._bias[:, tokenizer.get_vocab_size() :] = -math.inf
        self._bias[:, encoder.image_id] = -math.inf
        if not constrained:
            return
        special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
        text = self._bias[[Place.TEXT_START, Place.TEXT]]
        text[:, [*special, encoder.silence_id, encoder.response_id]] = -math.inf
        text[1, encoder.stop_id] = 0.0
        self._bias[[Place.TEXT_START, Place.TEXT]] = text
        self._bias[Place.DECISION] = -math.inf
        self._bias[Place.DECISION, encoder.silence_id] = 0.0
        self._bias[Place.DECISION, encoder.response_id] = -_logit(threshold)

    def log_probs(self, logits: Tensor, places: Tensor) -> Tensor:
        """``logits`` [M, vocab], ``places`` [M] -> log-probabilities of the policy, float32 [M, vocab]."""
        self._bias = self._bias.to(logits.device)
        return torch.log_softmax((logits.float() + self._bias[places]) / self.temperature, dim=-1)

    def is_blank(self, ids: list[int]) -> bool:
        """Whether a text of these tokens says nothing."""
        return not self.text(ids)

    def text(self, ids: list[int]) -> str:
        """As the runtime decodes it: no special tokens, no blanks at either end."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _logit(probability: float) -> float:
    """Log-odds, kept finite at 0 and 1."""
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
