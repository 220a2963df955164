"""Event supervision: training on generated detections that also says what each second shows.

A question is answered in one timestep of thirty, and a small decoder finds no reason for it in thousands of
steps. What it needs for a decision is known for generated clips, whatever is asked: the events of each second
and what the question waits for. Linear heads on the decoder's middle layers predict both, and one attention
head of the layer above is shown to look from a decision at the questions. The heads are thrown away after
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from benchmarks.metric.annotations import Annotation
from train.data.encode import Encoded
from train.data.timeline import Timeline
from train.models.perception.nanodet import CLASSES
from train.sft.attention_supervision import AttentionTarget, attention_to
from train.sft.recipe import EventSupervisionSettings
from train.synthetic.detections.event_labels import QUESTION_KINDS, label_count, labels_beside

_POSITIVE = 5.0
"""Weight of what is there against what is not, which is most."""
_RARE = -5.0
"""Where the logits of the heads begin."""


@dataclass(frozen=True)
class EventTargets:
    """Of one trajectory: ``decisions`` [n] and ``queries`` [q], positions; ``shown`` [n, E], what the second
    before a decision shows; ``asked`` [q, kinds + classes], what a query waits for; ``attention``: decisions
    that are to look at the queries in force.
    """

    decisions: Tensor
    shown: Tensor
    queries: Tensor
    asked: Tensor
    attention: tuple[AttentionTarget, ...]


def event_targets(
    questions: Sequence[Annotation],
    timeline: Timeline,
    timesteps: tuple[int, ...],
    first: int,
    encoded: Encoded,
) -> EventTargets:
    """Of ``questions`` in one trajectory that begins at turn ``first`` of the clip.

    Raises FileNotFoundError for a clip without labels.
    """
    labels = np.load(labels_beside(Path(questions[0].video_path)), allow_pickle=False)
    turns = len(encoded.turns)
    by_text = {question.query.text: question for question in questions}
    ends = [end - 1 for _, end in encoded.queries]
    decisions = [end - 1 for _, end in encoded.turns]
    attention = [
        AttentionTarget(at, seen) for at in decisions if (seen := tuple(end for end in ends if end < at))
    ]
    return EventTargets(
        torch.tensor(decisions),
        torch.from_numpy(labels[list(timesteps[first : first + turns])]).float(),
        torch.tensor(ends),
        torch.stack([_waits_for(by_text[text]) for _, text in timeline.queries]),
        tuple(attention),
    )


def _waits_for(question: Annotation) -> Tensor:
    """The kind and the classes of a question, as ones among zeros."""
    wanted = torch.zeros(len(QUESTION_KINDS) + len(CLASSES))
    wanted[QUESTION_KINDS.index(question.extra["kind"])] = 1
    for name in question.extra["about"]:
        wanted[len(QUESTION_KINDS) + CLASSES.index(name)] = 1
    return wanted


class EventSupervision(nn.Module):
    """The loss of event targets. ``decoder`` is watched, not owned: nothing of this is saved with it."""

    def __init__(self, decoder: LlamaForCausalLM, settings: EventSupervisionSettings) -> None:
        super().__init__()
        self.settings = settings
        layers, width = decoder.config.num_hidden_layers, decoder.config.hidden_size
        self._middle = max(0, layers // 2 - 1)
        self._above = min(self._middle + 1, layers - 1)
        self.shown = nn.Linear(width, label_count())
        self.asked = nn.Linear(width, len(QUESTION_KINDS) + len(CLASSES))
        for head in (self.shown, self.asked):
            nn.init.constant_(head.bias, _RARE)
        self._output: Tensor | None = None
        self._attention: tuple[nn.Module, Tensor, tuple[Tensor, Tensor]] | None = None
        decoder.model.layers[self._middle].register_forward_hook(self._catch_output)
        decoder.model.layers[self._above].self_attn.register_forward_pre_hook(
            self._catch_attention, with_kwargs=True
        )

    def _catch_output(self, module: nn.Module, args: Any, output: Any) -> None:
        self._output = output[0] if isinstance(output, tuple) else output

    def _catch_attention(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self._attention = module, hidden, kwargs["position_embeddings"]

    def loss(self, auxiliary: Sequence[EventTargets]) -> Tensor:
        """Of the batch that the decoder has just read, targets for each row: a mean for each row, summed over
        rows, so that it does not matter how a batch is split.
        """
        assert self._output is not None and self._attention is not None
        s = self.settings
        total = self._output.sum() * 0.0
        for row, targets in enumerate(auxiliary):
            output = self._output[row]  # [T, D]
            total = total + s.events * self._wrong(self.shown, output, targets.decisions, targets.shown)
            total = total + s.queries * self._wrong(self.asked, output, targets.queries, targets.asked)
            total = total + s.attention * attention_to(targets.attention, 0, row, *self._attention)
        self._output = self._attention = None
        return total

    def _wrong(self, head: nn.Linear, output: Tensor, at: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy of a head's numbers, summed over them and averaged over positions ``at``."""
        with torch.autocast(output.device.type, enabled=False):
            hidden = output[at.to(output.device)].float()
            logits = head(nn.functional.rms_norm(hidden, hidden.shape[-1:]))
            wanted = wanted.to(logits.device)
            weight = torch.where(wanted > 0, _POSITIVE, 1.0)
            wrong = nn.functional.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="sum")
        return wrong / max(1, len(at))
