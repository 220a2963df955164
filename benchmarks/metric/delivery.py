"""What of a model's responses a person would have received under the runtime's default policy."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.metric.annotations import Prediction, Response
from edge_runtime.events.policy import PolicySettings, ResponsePolicy


def delivered(prediction: Prediction, settings: PolicySettings | None = None) -> Prediction:
    """Without the responses that the policy withholds: the same words again within a few seconds."""
    policy = ResponsePolicy(settings or PolicySettings())
    kept: list[Response] = []
    for response in prediction.responses:
        policy.observe(True)
        if policy.review(response.time, response.text) is None:
            policy.delivered(response.time, response.text)
            kept.append(response)
    return replace(prediction, responses=tuple(kept))
