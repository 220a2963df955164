"""Attention supervision: training that also shows the decoder what to attend to, turn by turn.

An answer comes once in a few hundred tokens and says nothing about where in them its reasons are. A decoder
of a few million parameters then finds a short cut, the rhythm of answers, before it finds the reasons. For
generated clips the reasons are known: a few attention heads are shown what to attend to, and
what one can know in a turn is predicted from the decoder's middle layers by auxiliary heads, which are
thrown away after training. The trained model is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from edge_runtime.bundle.stream_format import TurnEncoder
from train.data.encode import IGNORE, Encoded
from train.sft.attention_targets import DOINGS, IDLE, NAMES, PHASES, TurnTruth
from train.sft.recipe import AttentionSupervisionSettings

_AS_FAR_AS_THE_VERB = 4
"""Tokens of a turn that look at what the text names: decision, article, name, verb."""
_LONGEST_INTERVAL = 16
"""Tokens in which both numbers of an interval stand."""
_IDLE_WEIGHT = 0.3
"""Of turns in which nothing happens, which are most, in the auxiliary loss."""
_SAME_WEIGHT = 0.15
"""Of turns like the one before in the loss of reading the one before, which the present one names there."""


@dataclass(frozen=True)
class AttentionTarget:
    """A token, by its position ``at``, that is to attend to one or several earlier ones."""

    at: int
    attend_to: tuple[int, ...]


@dataclass(frozen=True)
class AuxiliaryTargets:
    """Of one trajectory: attention targets by head, and what is to be known at each turn's decision.

    ``decisions`` [n]: positions; ``known`` [n, 3]: doing, name, phase; ``known_before`` [n, 2]: doing and
    name one turn earlier (IGNORE: nothing).
    """

    attention: dict[str, list[AttentionTarget]]
    decisions: Tensor
    known: Tensor
    known_before: Tensor


HEADS = ("name", "verb", "region", "before", "time", "event")
"""Name: the region of the one that is asked about looks at its name in the query. Region: decision and answer
look at that region. Before: a decision looks at the one before it. Time: the answer of temporal grounding
looks at the labels of the turns its interval begins and ends in. Where the query names an event, after which
something else is asked for: verb, a decision looks at the action named; event, at the decisions of
earlier turns that showed it."""


def attention_layers(layers: int) -> tuple[int, int]:
    """Where a region looks for its name in the query, and where the answer looks for that region."""
    return min(1, max(0, layers - 2)), min(3, layers - 1)


class AuxiliaryTargetWriter:
    """Writes targets for trajectories of one protocol and tokenizer."""

    def __init__(self, encoder: TurnEncoder, tokenizer: Tokenizer) -> None:
        self._image_id, self._response_id = encoder.image_id, encoder.response_id
        self._tokenizer = tokenizer

    def targets(self, truth: TurnTruth, encoded: Encoded) -> AuxiliaryTargets:
        """Of a trajectory whose turns are those of ``truth``. Turns before the question have no targets."""
        ids, turns = encoded.input_ids, encoded.turns
        attention: dict[str, list[AttentionTarget]] = {head: [] for head in HEADS}
        name = self._name(ids, truth.subject)
        verb = self._rest_of_sentence(ids, name)
        decisions = [end - 1 for _, end in turns]
        known = torch.full((len(turns), 3), IGNORE)
        before = torch.full((len(turns), 2), IGNORE)
        for turn, (start, end) in enumerate(turns):
            if encoded.labels[end] == IGNORE:
                continue
            known[turn] = torch.tensor([truth.doing[turn], truth.name[turn], truth.phase[turn]])
            if turn:
                attention["before"].append(AttentionTarget(end - 1, (decisions[turn - 1],)))
                before[turn] = known[turn - 1, :2]
            if truth.first_event is not None:
                if verb:
                    attention["verb"].append(AttentionTarget(end - 1, verb))
                if shown := tuple(decisions[at] for at in truth.first_event if at < turn):
                    attention["event"].append(AttentionTarget(end - 1, shown))
            if truth.region[turn] >= 0:
                image = ids.index(self._image_id, start) + int(truth.region[turn])
                if name and truth.name[turn] in (IGNORE, NAMES.index(truth.subject)):
                    attention["name"].append(AttentionTarget(image, name))
                spoken = _AS_FAR_AS_THE_VERB if ids[end] == self._response_id else 1
                attention["region"] += [
                    AttentionTarget(at, (image,)) for at in range(end - 1, end - 1 + spoken)
                ]
            if truth.interval and ids[end] == self._response_id:
                attention["time"] += self._times(truth.interval, encoded, end)
        return AuxiliaryTargets(attention, torch.tensor(decisions), known, before)

    def _name(self, ids: Sequence[int], subject: str) -> tuple[int, ...]:
        """Positions of a name where it first stands within a sentence."""
        if not subject:
            return ()
        part = self._tokenizer.encode(f" {subject}", add_special_tokens=False).ids
        for at in range(len(ids) - len(part) + 1):
            if ids[at : at + len(part)] == part:
                return tuple(range(at, at + len(part)))
        return ()

    def _rest_of_sentence(self, ids: Sequence[int], name: Sequence[int]) -> tuple[int, ...]:
        """Positions behind a name up to the full stop."""
        rest: list[int] = []
        for at in range(name[-1] + 1 if name else len(ids), len(ids)):
            if "." in (self._tokenizer.id_to_token(ids[at]) or ""):
                break
            rest.append(at)
        return tuple(rest)

    def _times(self, interval: tuple[int, int], encoded: Encoded, response: int) -> list[AttentionTarget]:
        """The digits of an answer like ``7s-12s`` look at those of the labels that begin with 7 and 12."""
        said = self._numbers(encoded.input_ids, response)
        found = []
        for number, turn in zip(said, interval, strict=False):
            if turn < 0:
                continue
            label = next(iter(self._numbers(encoded.input_ids, encoded.turns[turn][0])), [])
            found += [AttentionTarget(at - 1, (seen,)) for at, seen in zip(number, label, strict=False)]
        return found

    def _numbers(self, ids: Sequence[int], start: int) -> list[list[int]]:
        """Positions of the first two numbers at or after ``start``, digit by digit or as they are cut."""
        numbers: list[list[int]] = [[]]
        for at in range(start, min(start + _LONGEST_INTERVAL, len(ids))):
            if (self._tokenizer.id_to_token(ids[at]) or "").strip("\u0120").isdigit():
                numbers[-1].append(at)
            elif numbers[-1]:
                if len(numbers) == 2:
                    break
                numbers.append([])
        return [number for number in numbers if number]


class AttentionSupervision(nn.Module):
    """The loss of auxiliary targets, and the linear heads that it needs.

    ``decoder`` must be of the compact family. It is watched, not owned: nothing of this is saved with it.
    """

    def __init__(self, decoder: LlamaForCausalLM, settings: AttentionSupervisionSettings) -> None:
        super().__init__()
        self.settings = settings
        layers = decoder.config.num_hidden_layers
        early, late = attention_layers(layers)
        after = min(late + 1, layers - 1)
        other = min(2, decoder.config.num_attention_heads - 1)
        self._layers = {
            "name": (early, 0),
            "verb": (early, other),
            "region": (late, 0),
            "before": (after, 1),
            "time": (after, 0),
            "event": (after, other),
        }
        width = decoder.config.hidden_size
        self.seen = nn.Linear(width, len(DOINGS) + len(NAMES))
        self.before = nn.Linear(width, len(DOINGS) + len(NAMES))
        self.phase = nn.Linear(width, len(PHASES))
        self._read_after = {"seen": late, "phase": after}
        self._caught: dict[tuple[str, int], Any] = {}
        for layer in {layer for layer, _ in self._layers.values()}:
            attention = decoder.model.layers[layer].self_attn
            attention.register_forward_pre_hook(self._catch_attention(layer), with_kwargs=True)
        for layer in self._read_after.values():
            decoder.model.layers[layer].register_forward_hook(self._catch_output(layer))

    def _catch_attention(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            self._caught["attention", layer] = (module, hidden, kwargs["position_embeddings"])

        return hook

    def _catch_output(self, layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._caught["output", layer] = output[0] if isinstance(output, tuple) else output

        return hook

    def loss(self, auxiliary: Sequence[AuxiliaryTargets]) -> Tensor:
        """Of the batch that the decoder has just read, targets for each row: a mean for each row, summed over
        rows, so that it does not matter how a batch is split.
        """
        total = sum(self._of_row(row, targets) for row, targets in enumerate(auxiliary))
        self._caught.clear()
        return torch.as_tensor(total)

    def _of_row(self, row: int, targets: AuxiliaryTargets) -> Tensor:
        s = self.settings
        total = s.auxiliary * self._auxiliary_loss(row, targets)
        for head, attention in targets.attention.items():
            weight = s.grounding if head == "time" else s.attention
            total = total + weight * self.attention_loss(head, row, attention)
        return total

    def attention_loss(self, head: str, row: int, targets: Sequence[AttentionTarget]) -> Tensor:
        """Mean of -log of the attention that a head gives to its targets, in one row of the batch."""
        layer, number = self._layers[head]
        return attention_to(targets, number, row, *self._caught["attention", layer])

    def _auxiliary_loss(self, row: int, targets: AuxiliaryTargets) -> Tensor:
        """Mean cross-entropy of what is to be known at the decisions of a row, read off the layers."""
        at = targets.decisions
        doing, name, phase = targets.known.unbind(1)
        seen = self._caught["output", self._read_after["seen"]][row, at].float()  # [n, D]
        waited = self._caught["output", self._read_after["phase"]][row, at].float()
        parts = [len(DOINGS), len(NAMES)]
        with torch.autocast(seen.device.type, enabled=False):
            doings, names = self.seen(_unit(seen)).split(parts, dim=-1)
            earlier = self.before(_unit(waited)).split(parts, dim=-1)
            phases = self.phase(_unit(waited))
        loss = (
            _wrong(doings, doing, len(IDLE))
            + _wrong(names, name, 1)  # nobody
            + _wrong(phases, phase, 0)
        )
        for logits, was, now in zip(earlier, targets.known_before.unbind(1), (doing, name), strict=True):
            loss = loss + of_the_turn_before(logits, was, now)
        return loss


def _unit(hidden: Tensor) -> Tensor:
    """As the decoder's own layers take it in; the sums between them have any scale."""
    return nn.functional.rms_norm(hidden, hidden.shape[-1:])


def _wrong(logits: Tensor, wanted: Tensor, idle: int) -> Tensor:
    """Mean cross-entropy; the first ``idle`` classes are those of turns in which nothing happens."""
    if not (wanted != IGNORE).any():
        return logits.sum() * 0.0
    weight = torch.ones(logits.shape[-1], device=logits.device)
    weight[:idle] = _IDLE_WEIGHT
    wanted = wanted.to(logits.device)
    return nn.functional.cross_entropy(logits, wanted, weight, ignore_index=IGNORE)


def of_the_turn_before(logits: Tensor, was: Tensor, now: Tensor) -> Tensor:
    """Mean cross-entropy of what was to be known one turn earlier, above all where it is another now.

    ``logits`` [n, classes]; ``was`` and ``now`` [n], of the turn before and of the turn itself.
    """
    if not (was != IGNORE).any():
        return logits.sum() * 0.0
    was, now = was.to(logits.device), now.to(logits.device)
    weight = torch.where(was == now, _SAME_WEIGHT, 1.0) * (was != IGNORE)
    wrong = nn.functional.cross_entropy(logits, was, ignore_index=IGNORE, reduction="none")
    return (wrong * weight).sum() / weight.sum()


def attention_to(
    targets: Sequence[AttentionTarget],
    head: int,
    row: int,
    module: Any,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
) -> Tensor:
    """Mean of -log of the attention that ``head`` of a layer gives to targets, in one row of the batch.

    ``module``: the layer's attention; ``hidden`` [B, T, D]: what it read; ``rotation``: cos and sin.
    """
    cos, sin = rotation
    hidden = hidden[row]  # [T, D]
    if not targets:
        return hidden.sum() * 0.0
    size = module.head_dim
    kv = head * module.k_proj.out_features // module.q_proj.out_features
    linear = nn.functional.linear
    queries = linear(hidden, module.q_proj.weight[head * size : (head + 1) * size])  # [T, size]
    keys = linear(hidden, module.k_proj.weight[kv * size : (kv + 1) * size])
    place = (cos[min(row, len(cos) - 1)][None], sin[min(row, len(sin) - 1)][None])
    turned, matched = apply_rotary_pos_emb(queries[None, None], keys[None, None], *place)
    at = torch.tensor([target.at for target in targets], device=hidden.device)
    scores = turned[0, 0, at].float() @ matched[0, 0].float().T * module.scaling  # [M, T]
    later = torch.arange(len(hidden), device=hidden.device) > at[:, None]
    scores = scores.masked_fill(later, float("-inf")).log_softmax(-1)
    found = [scores[i, list(target.attend_to)].logsumexp(0) for i, target in enumerate(targets)]
    return -torch.stack(found).mean()
