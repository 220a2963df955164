"""Frame captioning ends pretraining: the decoder learns to say what it sees, one frame at a time.

Supervised training shows an answer once in a hundred tokens, in streams of eight hundred; here every example
is one short turn with an answer: the name of something in view, what is under way, what the one that is asked
about does, and whether it is there at all, a new state, an alarm. So the decoder learns to look at visual
tokens, and to heed the question, before it learns when to speak. Without a past there is also no rhythm of
earlier answers to go by. Of names any in view is right: the target is spread over their first tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from benchmarks.metric.progress import Progress
from edge_runtime.bundle.stream_format import StreamFormat
from train.data.encode import turn_encoder
from train.data.features import ClipFeatures, FeatureCache
from train.models.compact.model import CompactModel
from train.sft.attention_supervision import attention_layers
from train.synthetic.sprites.scenes.catalog import ACTORS, sprite_table
from train.synthetic.sprites.scenes.scene import SIZE
from train.synthetic.sprites.scenes.stage import Story
from train.synthetic.sprites.texts import QUESTIONS
from train.synthetic.sprites.truth import FRAME_SECOND, clip_truth, story_of, under_way

_RECENT = 400
"""Answers by which a kind of fact is judged."""
KINDS = ("names", "events", "subjects", "changes", "alarms")


@dataclass(frozen=True)
class FrameCaptioningSettings:
    """The first ``names_first`` of ``steps`` ask for names alone: who does not know what a thing is called
    cannot say what it does. ``labels``: interval labels are drawn from 0 to this many timesteps.
    """

    steps: int = 1500
    names_first: int = 300
    batch_size: int = 32
    lr: float = 1.5e-3
    embedding_lr: float = 3e-4
    projector_lr: float = 1e-4
    labels: int = 60
    seed: int = 1


@dataclass(frozen=True)
class Fact:
    """Something a frame shows: ``query`` asks for it, any of ``answers`` says it.

    ``subject``: who the query names, "" for nobody; ``region``: of the frame where it is seen, or -1.
    """

    clip: int
    frame: int
    query: str
    answers: tuple[str, ...]
    subject: str = ""
    region: int = -1


def train_frame_captioning(
    model: CompactModel,
    tokenizer: Tokenizer,
    stream_format: StreamFormat,
    clips: list[Path],
    cache: FeatureCache,
    settings: FrameCaptioningSettings,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train ``model`` in place; returns by kind of fact the share whose answer was right, word for word (of
    names the first token), over the last examples.
    """
    examples = _Examples(model, tokenizer, stream_format, clips, cache, np.random.default_rng(settings.seed))
    named = [p for n, p in model.decoder.named_parameters() if "embed_tokens" not in n]
    optimizer = torch.optim.AdamW(
        [
            {"params": named, "lr": settings.lr},
            {"params": [model.embedding.weight], "lr": settings.embedding_lr},
            {"params": model.projector.parameters(), "lr": settings.projector_lr},
        ],
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in optimizer.param_groups], total_steps=settings.steps, pct_start=0.1
    )
    model.train()
    usual = model.decoder.config._attn_implementation
    model.decoder.set_attn_implementation("eager")  # which shows what it attends to
    right: dict[str, list[bool]] = {kind: [] for kind in examples.kinds}
    started = time.monotonic()
    progress = Progress(settings.steps, "frame captioning")
    for step in range(1, settings.steps + 1):
        kinds = examples.kinds[:1] if step <= settings.names_first else examples.kinds
        loss = examples.loss(kinds, settings.batch_size, settings.labels, right)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.advance(loss=loss.item())
        if step % 50 == 0:
            figures = "  ".join(f"{kind} {value:.3f}" for kind, value in _ends(right).items())
            spent = time.monotonic() - started
            say(f"frame captioning {step}/{settings.steps}  {spent:.0f} s  loss {loss.item():.3f}  {figures}")
    progress.close()
    model.eval()
    model.decoder.set_attn_implementation(usual)
    return _ends(right)


def _ends(right: dict[str, list[bool]]) -> dict[str, float]:
    return {kind: float(np.mean(values[-_RECENT:])) for kind, values in right.items() if values}


def facts_of(
    number: int,
    clip: Path,
    features: ClipFeatures,
    keys: dict[str, int],
    motion: bool,
    centres: list[float],
    rng: np.random.Generator,
) -> Iterator[tuple[str, Fact]]:
    """(kind, fact) for everything that the frames of the generated ``clip`` show; ``keys``: as in
    :func:`clip_truth`.
    """
    story, steps = story_of(clip), features.timesteps
    names = [key.split("/")[0] for key in keys]

    def ask(kind: str, **words: str) -> str:
        return str(rng.choice(QUESTIONS[kind])).format(**words)

    regions: list[dict[str, int]] = [{} for _ in steps]
    for frame, region, sprite in clip_truth(story, steps, keys, centres).where:
        regions[frame][names[sprite]] = int(region)
    for frame, seen in enumerate(regions):
        if seen:
            yield "names", Fact(number, frame, ask("EC"), tuple(sorted(seen)))
    if motion:
        for frame, event in under_way(story, steps):
            if rng.random() < 0.5:
                yield "events", Fact(number, frame, ask("EU-all"), (event.text,))
            else:
                who = event.subject
                query, region = ask("EU", subject=who), regions[frame].get(who, -1)
                yield "events", Fact(number, frame, query, (event.text,), who, region)
        if story.family == "stage":
            for frame, now in enumerate(steps):
                who, answer = _subject(story, now + FRAME_SECOND, rng)
                query, region = ask("AC", subject=who), regions[frame].get(who, -1)
                yield "subjects", Fact(number, frame, query, (answer,), who, region)
    for frame, now in enumerate(steps):
        yield from _sudden(story, number, frame, now + FRAME_SECOND, ask)


def _subject(story: Story, now: float, rng: np.random.Generator) -> tuple[str, str]:
    """Somebody to ask about, and what it does: as often one that is not there as one that is."""
    there = [actor.name for actor in story.scene.actors if actor.visible(now)]
    if rng.random() < 0.5 or not there:
        return str(rng.choice([name for name in ACTORS if name not in there])), "not there"
    acting = [event for event in story.events if event.start + 0.4 <= now <= event.end + 0.45]
    if acting and rng.random() < 0.7:
        event = acting[int(rng.integers(len(acting)))]
        return event.subject, event.doing
    name = str(rng.choice(there))
    return name, next((event.doing for event in acting if event.subject == name), "still")


def _sudden(
    story: Story, number: int, frame: int, now: float, ask: Callable[..., str]
) -> Iterator[tuple[str, Fact]]:
    for change in story.changes:
        if 0.05 <= now - change.start < 2.0:
            yield "changes", Fact(number, frame, ask("OU", subject=change.subject), (change.text,))
    for alarm in story.anomalies:
        if alarm.start + 0.3 <= now <= alarm.end:
            yield "alarms", Fact(number, frame, ask("AA"), (alarm.text,))


class _Examples:
    """Random facts of all kinds, and the loss of the decoder's answers to them."""

    def __init__(
        self,
        model: CompactModel,
        tokenizer: Tokenizer,
        stream_format: StreamFormat,
        clips: list[Path],
        cache: FeatureCache,
        rng: np.random.Generator,
    ) -> None:
        self._model, self._rng = model, rng
        self._encoder, self._tokenizer = turn_encoder(stream_format, tokenizer), tokenizer
        self._clips = [cache.load(clip) for clip in clips]
        keys = {key: i for i, key in enumerate(sprite_table())}
        centres = [SIZE * share for share in model.config.region_centres()]
        facts: dict[str, list[Fact]] = {kind: [] for kind in KINDS}
        for number, clip in enumerate(clips):
            for kind, fact in facts_of(
                number, clip, self._clips[number], keys, model.config.motion, centres, rng
            ):
                facts[kind].append(fact)
        self._facts = {kind: found for kind, found in facts.items() if found}
        self.kinds = list(self._facts)

    def loss(self, among: Sequence[str], size: int, labels: int, right: dict[str, list[bool]]) -> Tensor:
        """Of ``size`` random facts of the kinds ``among``; adds to ``right`` which were answered rightly.

        The more often a kind was answered wrongly of late, the more often it is asked.
        """
        wrong = np.array([1.1 - np.mean(right[kind][-_RECENT:] or [False]) for kind in among])
        kinds = [among[i] for i in self._rng.choice(len(among), size, p=wrong / wrong.sum())]
        facts = [self._facts[kind][int(self._rng.integers(len(self._facts[kind])))] for kind in kinds]
        rows, starts, answers = [], [], []
        for fact in facts:
            said = [self._encoder.response_ids(text) for text in fact.answers]
            # Of several names only the first token is asked for.
            answer = said[0] if len(said) == 1 else said[0][:2]
            label = int(self._rng.integers(labels))
            ask = [*self._encoder.query_ids(fact.query), *self._encoder.turn_ids(label)]
            rows.append(ask + answer)
            starts.append(len(ask))
            answers.append(answer)
        length = max(map(len, rows))
        ids = torch.zeros(size, length, dtype=torch.long)
        target = torch.zeros(size, length, self._model.config.vocab_size)
        for i, (row, start, answer, fact) in enumerate(zip(rows, starts, answers, facts, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            for j, token in enumerate(answer[1:], start):
                target[i, j, token] = 1.0  # the logits at the response token say the first word, and so on
            if len(fact.answers) > 1:
                firsts = {self._encoder.response_ids(text)[1] for text in fact.answers}
                target[i, start] = 0.0
                target[i, start, list(firsts)] = 1.0 / len(firsts)
        asked = target.sum(-1) > 0  # [B, T]
        with torch.autocast("cpu", torch.bfloat16):
            tokens = self._see(facts)  # [B, V, D]
            embeddings = self._model.embed(ids, tokens, self._encoder.image_id)  # [B, T, D]
            seen = self._model.decoder.model(
                inputs_embeds=embeddings, use_cache=False, output_attentions=True
            )
            logits = self._model.logits(seen.last_hidden_state[asked]).float()  # [M, vocab]
        wanted = target[asked]
        hit = torch.zeros_like(asked)
        hit[asked] = wanted.gather(1, logits.argmax(-1, keepdim=True)).squeeze(1) > 0
        for kind, ok in zip(kinds, (hit | ~asked).all(1).tolist(), strict=True):
            right[kind].append(ok)
        answered = -(wanted * logits.log_softmax(-1)).sum() / size
        if self._model.adapters is not None:  # a pretrained decoder has learned to look
            return answered
        return answered + self._attention_loss(facts, ids, starts, seen.attentions)

    def _attention_loss(
        self, facts: Sequence[Fact], ids: Tensor, starts: Sequence[int], attentions: Sequence[Tensor]
    ) -> Tensor:
        """Loss of where one head of each of two layers looks, attentions [B, heads, T, T] a layer.

        Where the asked one is seen, its region looks at its name in the query, and in a later layer the
        decision and the answer look at its region. Left to itself a decoder of this size does not find out in
        an hour that what is asked about and what is seen are to be compared.
        """
        early, late = attention_layers(len(attentions))
        name_head, region_head = attentions[early][:, 0].float(), attentions[late][:, 0].float()
        losses = []
        for i, fact in enumerate(facts):
            if fact.region < 0:
                continue
            region = int((ids[i] == self._encoder.image_id).nonzero()[fact.region])
            name = self._name_ids(fact.subject)
            row = ids[i].tolist()
            at = next(j for j in range(len(row)) if row[j : j + len(name)] == name)
            losses.append(-(name_head[i, region, at : at + len(name)].sum() + 1e-4).log())
            losses += [-(region_head[i, at, region] + 1e-4).log() for at in (starts[i] - 1, starts[i])]
        return torch.stack(losses).mean() if losses else ids.new_zeros((), dtype=torch.float32)

    def _name_ids(self, name: str) -> list[int]:
        """Of the name as it stands in the middle of a sentence."""
        return self._tokenizer.encode(f" {name}", add_special_tokens=False).ids

    def _see(self, facts: Sequence[Fact]) -> Tensor:
        """Visual tokens [B, V, D] of the facts' frames, each seen after the frame before it."""
        frames, lengths = [], []
        for fact in facts:
            pair = self._clips[fact.clip].features[max(0, fact.frame - 1) : fact.frame + 1]
            frames.append(torch.from_numpy(np.array(pair, dtype=np.float32)))
            lengths.append(len(pair))
        tokens = self._model.projector(torch.cat(frames), lengths)
        return tokens[torch.tensor(lengths).cumsum(0) - 1]
