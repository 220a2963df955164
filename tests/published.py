"""Public checkpoints in tiny: the class, chat format and added tokens of the real ones, with random weights.

The decoder has one layer. What a token leaves in the cache then depends on the token and its position alone,
so a loop that computes its whole prompt anew at every step must decide as the runtime, which keeps a cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from edge_runtime.bundle.presets import load_preset
from edge_runtime.bundle.stream_format import StreamFormat
from tests.train.models.test_qwen import PICTURES, tiny_config
from train.models.chat_template import plain
from train.models.qwen.backbone import save_tower
from train.models.qwen.model import QWEN2_5, WHOLE, QwenConfig, QwenModel

STOCK = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
STOCK += ["<|image_pad|>", "<|video_pad|>"]
WINDOW, BLOCK, LONGEST = 6, 2, 3


@dataclass(frozen=True)
class Published:
    """What the authors' repository says. ``content``: the user's message at a turn, with a question or None,
    which was asked in this very turn (``new``) or has moved here."""

    preset: str
    family: str
    added: tuple[str, ...]
    content: Callable[[int, str, str | None, bool], str]
    silences: tuple[str, ...]
    responses: tuple[str, ...]
    words: tuple[tuple[str, ...], ...] = ()
    """Words of the ordinary vocabulary, each by its pieces."""
    own_message: bool = False
    images: int = 1
    pad: str = "<|image_pad|>"


def tokenizer_of(words: Sequence[tuple[str, ...]], added: Sequence[str]) -> Tokenizer:
    """Bytes, some words, the special tokens of Qwen's chat format, then those of the checkpoint."""
    vocab = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for pieces in words:
        for piece in pieces:
            for end in range(2, len(piece) + 1):
                pair = piece[: end - 1], piece[end - 1]
                if pair not in merges:
                    merges.append(pair)
                    vocab.setdefault(piece[:end], len(vocab))
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in STOCK])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in added])
    return tokenizer


@dataclass
class Loop:
    """The authors' loop: the whole conversation is computed anew for every token, greedily."""

    checkpoint: TinyPublished
    asked_at: int
    question: str
    rounds: list[tuple[int, list[int]]] = field(default_factory=list)  # turn and what was written
    frames: dict[int, Any] = field(default_factory=dict)

    def step(self, turn: int, frames: Sequence[Any]) -> tuple[bool, str, str]:
        """Whether it speaks, the text, and which silence was written."""
        self.frames[turn] = frames
        if len(self.rounds) == WINDOW:
            self.rounds = self.rounds[BLOCK:]
        facts, encode = self.checkpoint.facts, self.checkpoint.encode
        written: list[int] = []
        logits = self.logits(turn, written)
        silences = [encode(text) for text in (*facts.silences, *(() if facts.responses else ("<|im_end|>",)))]
        responses = [encode(text) for text in facts.responses]
        silent = max(silences, key=lambda ids: float(logits[ids[0]]))
        if facts.responses:
            spoken = max(responses, key=lambda ids: float(logits[ids[0]]))
            speaks = logits[spoken[0]] >= logits[silent[0]]
        else:
            spoken, speaks = [], self.masked(logits, []).max() >= logits[silent[0]]
        if turn < self.asked_at or not speaks:
            self.rounds.append((turn, silent))
            return False, "", self.checkpoint.tokenizer.decode(silent, skip_special_tokens=False)
        text: list[int] = []
        written = list(spoken)
        while len(text) < LONGEST:
            scores = self.masked(self.logits(turn, written), text)
            token = int(scores.argmax())
            if token == self.checkpoint.end:
                break
            text.append(token)
            written.append(token)
        self.rounds.append((turn, written))
        return True, self.checkpoint.tokenizer.decode(text).strip(), ""

    def masked(self, logits: torch.Tensor, text: list[int]) -> torch.Tensor:
        """No special token within a text, and no end before its first letter."""
        scores = logits.clone()
        scores[self.checkpoint.added_ids] = -torch.inf
        if not text and not self.checkpoint.facts.responses:
            scores[
                [self.checkpoint.encode(silence)[0] for silence in self.checkpoint.facts.silences]
            ] = -torch.inf
        if self.checkpoint.tokenizer.decode(text).strip():
            scores[self.checkpoint.end] = logits[self.checkpoint.end]
        return scores

    def logits(self, turn: int, written: Sequence[int]) -> torch.Tensor:
        facts, encode = self.checkpoint.facts, self.checkpoint.encode
        head, end = "<|im_start|>", "<|im_end|>\n"
        ids = encode(f"{head}system\n{self.checkpoint.stream_format.system_prompt}{end}")
        turns = [*self.rounds, (turn, list(written))]
        known = turn >= self.asked_at
        gone = known and turns[0][0] > self.asked_at
        for place, (number, answer) in enumerate(turns):
            if facts.own_message and known and (number == self.asked_at or (gone and place == 0)):
                ids += encode(f"{head}user\n{self.question}{end}")
            carries = known and not facts.own_message
            new = carries and number == self.asked_at
            question = self.question if new or (carries and gone and place == 0) else None
            images = "<|vision_start|>" + facts.pad * self.checkpoint.frame_tokens + "<|vision_end|>"
            content = facts.content(number, images * facts.images, question, new)
            ids += encode(f"{head}user\n{content}{end}{head}assistant\n") + list(answer)
            if number != turn:
                ids += encode(end)[1:] if answer[-1:] == [self.checkpoint.end] else encode(end)
        return self.checkpoint.forward(ids, [frame for number, _ in turns for frame in self.frames[number]])


class TinyPublished:
    """A checkpoint of ``facts``, its preset with a small window, and the same weights as a StreamModel."""

    def __init__(self, facts: Published, folder: Path) -> None:
        self.facts = facts
        self.tokenizer = tokenizer_of(facts.words, facts.added)
        self.end = self.tokenizer.token_to_id("<|im_end|>")
        self.added_ids = sorted(self.tokenizer.get_added_tokens_decoder())
        picture = PICTURES[facts.family]
        config = tiny_config(facts.family, tied=False)
        for name in ("image_token", "video_token", "vision_start_token", "vision_end_token"):
            token = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}.get(
                name, f"<|{name.removesuffix('_token')}|>"
            )
            setattr(config, f"{name}_id", self.tokenizer.token_to_id(token))
        config.text_config.num_hidden_layers = 1
        if getattr(config.text_config, "layer_types", None):
            config.text_config.layer_types = config.text_config.layer_types[:1]
        config.text_config.vocab_size = -(-self.tokenizer.get_vocab_size() // 64) * 64
        if facts.family != QWEN2_5:
            config.vision_config.deepstack_visual_indexes = [0]
        state = torch.random.get_rng_state()
        torch.manual_seed(1)
        self.whole = WHOLE[facts.family](config).eval()
        for parameter in self.whole.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.15)
            parameter.data = parameter.data.half().float()  # as bundles store embeddings and towers
        torch.random.set_rng_state(state)
        self.tower = save_tower(self.whole, folder, picture, (0.5,) * 3, (0.5,) * 3)
        cell = self.tower.processor().patch_size * 2
        self.grid = picture[0] // cell, picture[1] // cell
        self.frame_tokens = self.grid[0] * self.grid[1]
        preset = load_preset(facts.preset)
        assert facts.family in preset.family
        changes = {"window_turns": WINDOW, "evict_turns": BLOCK, "max_response_tokens": LONGEST}
        changes |= {"system_prompt": "Watch.", "frame_tokens": self.frame_tokens, "fps": 1.0}
        self.stream_format: StreamFormat = replace(preset.stream_format, **changes)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @torch.no_grad()
    def hidden(self, ids: list[int], frames: Sequence[Any]) -> torch.Tensor:
        """What the head reads after the last token, [D]."""
        image = torch.tensor([ids]) == self.tokenizer.token_to_id(self.facts.pad)
        inputs = self.tower.processor()(images=list(frames), return_tensors="pt")
        pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
        video = self.facts.pad == "<|video_pad|>"
        kinds = ("pixel_values_videos", "video_grid_thw") if video else ("pixel_values", "image_grid_thw")
        output = self.whole.model(
            input_ids=torch.tensor([ids]),
            mm_token_type_ids=image.int() * (2 if video else 1),
            **dict(zip(kinds, (pixels, grid), strict=True)),
            use_cache=False,
        )
        return output.last_hidden_state[0, -1]

    def forward(self, ids: list[int], frames: Sequence[Any]) -> torch.Tensor:
        """Logits after the last token; padding rows are no tokens."""
        with torch.no_grad():
            logits = self.whole.lm_head(self.hidden(ids, frames))
        logits[self.tokenizer.get_vocab_size() :] = -torch.inf
        return logits

    @torch.no_grad()
    def teach(self, frames: Sequence[Sequence[Any]], question: str) -> None:
        """Let decisions be the likeliest tokens where one is due, and each of them about equally likely."""
        loop = Loop(self, 0, question)
        states = []
        silence = self.encode(self.facts.silences[0])
        real = self.forward

        def keep(ids: list[int], shown: Sequence[Any]) -> torch.Tensor:
            states.append(self.hidden(ids, shown))
            return real(ids, shown)

        self.forward = keep  # type: ignore[method-assign]
        for turn, shown in enumerate(frames):
            loop.frames[turn] = shown
            loop.rounds = loop.rounds[-WINDOW + 1 :]
            loop.logits(turn, [])
            loop.rounds.append((turn, silence))
        self.forward = real  # type: ignore[method-assign]
        rows = self.whole.lm_head.weight
        at = torch.stack(states)  # [n, D]
        mean = at.mean(0) / at.mean(0).square().sum()
        texts = (*self.facts.silences, *self.facts.responses)
        ids = [self.encode(text)[0] for text in texts]
        others = [i for i in range(self.tokenizer.get_vocab_size()) if i not in (*ids, *self.added_ids)]
        highest = (at @ rows[others].T).max(1).values
        goal = highest.median() if not self.facts.responses else highest.max() + 2
        for id in ids:
            rows[id] += (goal - (at @ rows[id]).median()) * mean
        rows.copy_(rows.half().float())

    def model(self) -> QwenModel:
        config = QwenConfig(
            text=plain(self.whole.model.language_model.config),
            vision=plain(self.whole.model.visual.config),
            picture=PICTURES[self.facts.family],
            used_vocab=self.tokenizer.get_vocab_size(),
            tied=False,
        )
        return QwenModel(self.facts.family, config, self.tower, self.whole).eval()

    def export(self, out: Path) -> Path:
        from export.bundle_writer import export_model
        from export.families.reference.qwen import QwenBackbone
        from export.options import ExportOptions, Source

        source = Source(self.model(), self.tokenizer, self.stream_format, QwenBackbone(self.tower))
        return export_model(source, out, ExportOptions(precision="fp32", parity_timesteps=40))


def pictures(count: int, family: str) -> np.ndarray:
    """Frames of one colour each, now and then the same again, so that decisions come and go."""
    rng = np.random.default_rng(4)
    colours = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    noise = rng.integers(0, 60, (count, *PICTURES[family], 3))
    return np.clip(colours + noise, 0, 255).astype(np.uint8)


def as_json(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return data
