"""Rollouts: many trajectories in lock-step, over one cache, each clip's frames encoded once.

The frames do not depend on the policy, so all rows see their timesteps together: each timestep appends one
chunk to every row (the turn's end of before, the query if it was just asked, label, visual tokens), and then
those rows that speak go on token by token while the others wait. Nothing is evicted: a trajectory sees its
whole clip, as in supervised training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.metric.annotations import Response
from edge_runtime.bundle.question_numbers import split_answers
from edge_runtime.bundle.stream_format import TurnEncoder
from train.errors import TrainingError
from train.models.base import StreamModel, Visual
from train.rollout.kv_cache import RowCache
from train.rollout.token_constraints import Place, TokenConstraints
from train.rollout.trajectory import Prompt, Trajectory


@dataclass
class _Row:
    """One trajectory while it grows. ``pending``: ids that are not in the cache yet."""

    number: int
    prompt: Prompt
    first_frame: int
    ids: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    valid: list[bool] = field(default_factory=list)
    text: list[int] = field(default_factory=list)

    def write(self, ids: Sequence[int]) -> None:
        """Ids that nobody chose; they wait for the next chunk."""
        self.ids += ids
        self.pending += ids

    def choose(self, token: int, place: Place, log_prob: float) -> None:
        self.sampled.append(len(self.ids))
        self.places.append(place)
        self.log_probs.append(log_prob)
        self.write([token])

    def take_pending(self) -> list[int]:
        pending, self.pending = self.pending, []
        return pending

    def finished(self) -> Trajectory:
        return Trajectory(
            prompt=self.prompt,
            ids=torch.tensor(self.ids),
            sampled=torch.tensor(self.sampled, dtype=torch.long),
            places=torch.tensor(self.places, dtype=torch.long),
            log_probs=torch.tensor(self.log_probs),
            responses=tuple(self.responses),
            valid=tuple(self.valid),
            numbers=tuple(self.numbers),
        )


@torch.no_grad()
def rollout(
    model: StreamModel,
    constraints: TokenConstraints,
    prompts: Sequence[Prompt],
    *,
    group: int = 1,
    generator: torch.Generator | None = None,
) -> list[list[Trajectory]]:
    """``group`` trajectories for each prompt: sampled by ``generator``, or greedy when it is None.

    The greedy trajectory is what the runtime does with the same model and threshold, as long as its window
    holds the whole clip. Runs under the caller's autocast, on the model's device. Raises TrainingError when
    the model gives NaN.
    """
    return LockStep(model, constraints, prompts, group, generator).run()


class LockStep:
    """One batch of rollouts, see :func:`rollout`."""

    def __init__(
        self,
        model: StreamModel,
        constraints: TokenConstraints,
        prompts: Sequence[Prompt],
        group: int,
        generator: torch.Generator | None,
    ) -> None:
        self._model, self._constraints, self._generator = model, constraints, generator
        self._encoder: TurnEncoder = constraints.encoder
        self._device = next(model.parameters()).device
        self._visual, firsts = visual_of(model, prompts, self._device)
        self._rows: list[_Row] = []
        for prompt, first in zip(prompts, firsts, strict=True):
            self._rows += [_Row(len(self._rows) + i, prompt, first) for i in range(group)]
        self._group = group
        self._next = torch.zeros(len(self._rows), dtype=torch.long, device=self._device)
        self._cache = RowCache(len(self._rows), self._device)

    def run(self) -> list[list[Trajectory]]:
        for row in self._rows:
            row.write(self._encoder.prefix_ids())
        for turn in range(max(len(row.prompt.timesteps) for row in self._rows)):
            present = [row for row in self._rows if turn < len(row.prompt.timesteps)]
            self._turn(present, turn)
        done = [row.finished() for row in self._rows]
        return [done[i : i + self._group] for i in range(0, len(done), self._group)]

    def _turn(self, rows: list[_Row], turn: int) -> None:
        """One timestep of these rows: append the chunk, decide, speak."""
        for row in rows:
            for number, query in enumerate(row.prompt.queries, start=1):
                if turn == query.turn:
                    row.write(self._encoder.query_ids(query.annotation.query.text, number))
            row.write(self._encoder.turn_ids(row.prompt.timesteps[turn] + row.prompt.offset))
        frames = torch.tensor([row.first_frame + turn for row in rows], device=self._device)
        hidden = self._append(rows, self._visual.select(frames))  # [A, D]

        asked = [i for i, row in enumerate(rows) if turn >= row.prompt.query_turn]
        for row in rows:
            if turn < row.prompt.query_turn:
                row.write(self._encoder.silence_ids())  # the model only watches
        if not asked:
            return
        deciding = [rows[i] for i in asked]
        before = self._cache.used.clone(), self._next.clone()
        self._choose(deciding, hidden[asked], [Place.DECISION] * len(asked))
        speaking = []
        for row in deciding:
            if row.ids[-1] == self._encoder.response_id:
                row.text = []
                speaking.append(row)
            else:  # silence, or a token that is no decision: the turn is over
                row.valid.append(row.ids[-1] == self._encoder.silence_id)
                row.write(self._encoder.silence_end_ids)
        self._speak(speaking)
        for row in speaking:
            self._close_response(row, turn, before)

    def _speak(self, speaking: Sequence[_Row]) -> None:
        """Generate texts token by token until each has ended or is as long as texts may get."""
        limit = self._encoder.stream_format.longest_response
        while speaking:
            hidden = self._append(speaking, self._no_frames)
            places = [
                Place.TEXT_START
                if self._constraints.constrained and self._constraints.is_blank(row.text)
                else Place.TEXT
                for row in speaking
            ]
            self._choose(speaking, hidden, places)
            going_on = []
            for row in speaking:
                if row.ids[-1] == self._encoder.stop_id:
                    row.write(self._encoder.response_end_ids[1:])
                    continue
                row.text.append(row.ids[-1])
                if len(row.text) < limit:
                    going_on.append(row)
                else:
                    row.write(self._encoder.response_end_ids)
            speaking = going_on

    def _close_response(self, row: _Row, turn: int, before: tuple[Tensor, Tensor]) -> None:
        text = self._constraints.text(row.text)
        time = self._encoder.stream_format.interval(row.prompt.timesteps[turn] + row.prompt.offset)[1]
        if text:
            well_formed = self._attribute(row, turn, time, text)
        elif self._constraints.constrained:
            # Nothing but blanks up to the limit: the runtime takes the response back and is silent.
            used, position = before
            self._cache.used[row.number], self._next[row.number] = used[row.number], position[row.number]
            start = len(row.ids) - row.ids[::-1].index(self._encoder.response_id) - 1
            kept = sum(1 for place in row.sampled if place < start)
            del row.sampled[kept:], row.places[kept:], row.log_probs[kept:], row.ids[start:]
            row.pending = []
            row.write(self._encoder.silence_ids())
        row.valid.append(well_formed if text else self._constraints.constrained)

    def _attribute(self, row: _Row, turn: int, time: float, text: str) -> bool:
        """Keep what ``text`` says to which question; False when part of it names none that is asked."""
        if not self._encoder.stream_format.numbers_queries:
            row.responses.append(Response(time, text))
            row.numbers.append(1)
            return True
        queries = enumerate(row.prompt.queries, start=1)
        answers = split_answers(text, {number for number, asked in queries if asked.turn <= turn})
        for number, answer in answers.texts.items():
            row.responses.append(Response(time, answer))
            row.numbers.append(number)
        return not answers.unattributed

    def _choose(self, rows: Sequence[_Row], hidden: Tensor, places: Sequence[Place]) -> None:
        """One token for each row, from the logits of ``hidden`` [A, D]."""
        log_probs = self._constraints.log_probs(
            self._model.logits(hidden), torch.tensor(places, device=self._device)
        )  # [A, vocab]
        if torch.isnan(log_probs).any():
            where = ", ".join(dict.fromkeys(row.prompt.annotation.id for row in rows))
            raise TrainingError(f"the model's logits are NaN on {where}")
        if self._generator is None:
            tokens = log_probs.argmax(-1)
        else:
            tokens = torch.multinomial(log_probs.exp(), 1, generator=self._generator)[:, 0]
        chosen = log_probs.gather(1, tokens[:, None])[:, 0]
        for row, token, place, value in zip(rows, tokens.tolist(), places, chosen.tolist(), strict=True):
            row.choose(token, place, value)

    def _append(self, rows: Sequence[_Row], visual: Visual) -> Tensor:
        """Append what is pending of each row; the last hidden state of each, [A, D]."""
        chunks = [row.take_pending() for row in rows]
        numbers = torch.tensor([row.number for row in rows], device=self._device)
        input_ids, counts = padded(chunks, self._encoder.silence_id, self._device)
        positions, _ = self._model.positions(input_ids, self._encoder.image_id, self._next[numbers])
        hidden = self._model.hidden(
            input_ids,
            visual,
            self._encoder.image_id,
            positions=positions,
            attention_mask=self._cache.begin(numbers, input_ids.shape[1]),
            cache=self._cache,
        )
        self._cache.commit(numbers, counts)
        each = torch.arange(len(rows), device=self._device)
        last = positions[..., each, counts - 1]  # [A], or [3, A]; a chunk ends in text, which is furthest on
        self._next[numbers] = (last if last.dim() == 1 else last.amax(0)) + 1
        return hidden[each, counts - 1]

    @property
    def _no_frames(self) -> Visual:
        return self._visual.select(torch.zeros(0, dtype=torch.long, device=self._device))


def padded(chunks: Sequence[Sequence[int]], filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Chunks as ids [A, T], filled up on the right, and their lengths [A]."""
    width = max(map(len, chunks))
    ids = torch.tensor([[*chunk, *[filler] * (width - len(chunk))] for chunk in chunks], device=device)
    return ids, torch.tensor([len(chunk) for chunk in chunks], device=device)


def visual_of(
    model: StreamModel, prompts: Sequence[Prompt], device: torch.device
) -> tuple[Visual, list[int]]:
    """Visual tokens of the clips of ``prompts``, each clip once, and where each prompt's frames begin."""
    first: dict[int, int] = {}
    features: list[Tensor] = []
    for prompt in prompts:
        if id(prompt.features) not in first:
            first[id(prompt.features)] = sum(map(len, features))
            features.append(prompt.features)
    visual = model.visual(torch.cat(features).to(device), list(map(len, features)))
    return visual, [first[id(p.features)] for p in prompts]
