"""Qwen2.5-VL and Qwen3-VL, the paper's backbones: their decoder and mergers, from transformers, trained.

The vision tower in front of the mergers is frozen and lives outside (:mod:`train.models.qwen.vision`). A
frame
is one image of a fixed size, so its grid of visual tokens is always the same and the M-RoPE positions follow
from the ids alone. Qwen3-VL's DeepStack gives the decoder's first layers visual tokens of earlier layers of
the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, Cache, PreTrainedModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLPatchMerger,
    Qwen2_5_VLTextModel,
)
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLForConditionalGeneration,
    Qwen3VLTextModel,
    Qwen3VLVisionPatchMerger,
)

from edge_runtime.bundle.stream_format import StreamFormat
from train.models.base import UNUSED, StreamModel, Visual
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.chat_template import add_tokens, chatml, padded_rows, plain, start_rows
from train.models.vision import FrozenVision

QWEN2_5, QWEN3 = "qwen2_5_vl", "qwen3_vl"
WHOLE: dict[str, type[PreTrainedModel]] = {
    QWEN2_5: Qwen2_5_VLForConditionalGeneration,
    QWEN3: Qwen3VLForConditionalGeneration,
}
"""The transformers class of each family, tower included."""
_DECODERS = {QWEN2_5: Qwen2_5_VLTextModel, QWEN3: Qwen3VLTextModel}
IMAGE_TOKEN = "<|image_pad|>"


@dataclass(frozen=True)
class QwenConfig:
    """``text``, ``vision``: the configurations of transformers. ``picture``: height and width of a frame.

    ``used_vocab``: rows of the embedding that are tokens; the rest is padding, never said.
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    picture: tuple[int, int]
    used_vocab: int
    tied: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "picture", tuple(self.picture))  # JSON has lists only
        cell = self.vision["patch_size"] * self.vision["spatial_merge_size"]
        if any(side < cell or side % cell for side in self.picture):
            raise ValueError(f"picture must be multiples of {cell} pixels, got {list(self.picture)}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens of a frame."""
        cell = self.vision["patch_size"] * self.vision["spatial_merge_size"]
        return self.picture[0] // cell, self.picture[1] // cell

    @property
    def frame_tokens(self) -> int:
        """Visual tokens per frame (V)."""
        return self.grid[0] * self.grid[1]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def qwen_stream_format(frame_tokens: int) -> StreamFormat:
    """Qwen's own chat format: a turn is a user message of label and image, and the assistant's decision."""
    return chatml(
        StreamFormat(frame_tokens=frame_tokens, window_turns=200, evict_turns=20, max_response_tokens=64),
        IMAGE_TOKEN,
        before="<|vision_start|>",
        after="<|vision_end|>",
    )


class QwenModel(StreamModel):
    """Decoder, output matrix (unless tied) and mergers of one of the two families.

    ``projector`` [0] is the tower's own merger, the others are DeepStack's.
    """

    config: QwenConfig

    def __init__(
        self, family: str, config: QwenConfig, vision: FrozenVision, whole: PreTrainedModel | None = None
    ) -> None:
        """``whole``: the transformers model whose parts are taken; fresh parts when absent."""
        super().__init__()
        self.family, self.config, self.vision = family, config, vision
        if whole is not None:
            tower = whole.model.visual
            self.decoder = whole.model.language_model
            self.lm_head = None if config.tied else whole.lm_head
            mergers = [tower.merger, *getattr(tower, "deepstack_merger_list", ())]
        else:
            text = AutoConfig.for_model(**config.text)
            self.decoder = _DECODERS[family](text)
            width, rows = text.hidden_size, text.vocab_size
            self.lm_head = None if config.tied else nn.Linear(width, rows, bias=False)
            mergers = _mergers(family, AutoConfig.for_model(**config.vision))
        self.projector = nn.ModuleList(mergers)

    @property
    def frame_tokens(self) -> int:
        return self.config.frame_tokens

    def visual(self, features: Tensor, streams: Sequence[int] | None = None) -> Visual:
        """``features`` [N, 1 + n, V, patches x C], as :mod:`train.models.qwen.vision` makes them."""
        frames, levels, tokens, _ = features.shape
        if levels != len(self.projector):
            raise ValueError(
                f"features of {levels} tower layers, the model has {len(self.projector)} mergers"
            )
        channels = self.config.vision["hidden_size"]
        merged = [
            merger(level.reshape(-1, channels).to(next(merger.parameters()).dtype)).view(frames, tokens, -1)
            for merger, level in zip(self.projector, features.unbind(1), strict=True)
        ]  # each [N, V, D]
        return Visual(merged[0], torch.stack(merged[1:]) if len(merged) > 1 else None)

    def positions(self, input_ids: Tensor, image_id: int, start: Tensor) -> tuple[Tensor, Tensor]:
        """M-RoPE: [3, B, T] (time, height, width) and [B].

        Text moves all three on by one. A picture stands at one time, spreads over height and width from
        there, and moves all on by its longer side. Raises ValueError for part of a picture.
        """
        height, width = self.config.grid
        image = input_ids == image_id
        if (image.sum(1) % self.frame_tokens).any():
            raise ValueError(f"a frame is {self.frame_tokens} placeholders, and a row holds part of one")
        rank = (image.long().cumsum(1) - 1) % self.frame_tokens  # place within its picture
        last = image & (rank == self.frame_tokens - 1)
        step = torch.where(image, torch.where(last, max(height, width), 0), 1)
        base = start[:, None] + step.cumsum(1) - step  # [B, T]; the same all over a picture
        row = torch.where(image, rank // width, 0)
        column = torch.where(image, rank % width, 0)
        return torch.stack([base, base + row, base + column]), start + step.sum(1)

    def hidden(
        self,
        input_ids: Tensor,
        visual: Visual,
        image_id: int,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        if positions is None:
            if cache is not None and cache.get_seq_length():
                raise ValueError("positions must be given with a cache: they do not follow from its length")
            start = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
            positions, _ = self.positions(input_ids, image_id, start)
        embeddings = self.embedding(input_ids)  # [B, T, D]
        image = input_ids == image_id
        tokens = visual.tokens.flatten(0, 1)  # [N V, D]
        if int(image.sum()) != len(tokens):
            raise ValueError(f"{int(image.sum())} image placeholders but {len(tokens)} visual tokens")
        embeddings = embeddings.masked_scatter(image.unsqueeze(-1), tokens.to(embeddings.dtype))
        deepstack: dict[str, Any] = {}
        if visual.deepstack is not None and len(tokens):
            deepstack = {
                "visual_pos_masks": image,
                "deepstack_visual_embeds": list(visual.deepstack.flatten(1, 2)),  # n of [N V, D]
            }
        output = self.decoder(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=attention_mask,
            **{CACHE_ARGUMENT: cache},
            use_cache=cache is not None,
            **deepstack,
        )
        return output.last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        if self.lm_head is not None:
            logits = self.lm_head(hidden)
        else:
            logits = nn.functional.linear(hidden, self.embedding.weight)
        if self.token_rows is not None:
            logits = self.token_rows.logits(hidden, logits)
        logits[..., self.config.used_vocab :] = UNUSED
        return logits

    def output_matrix(self) -> nn.Linear | None:
        return self.lm_head


def take_apart(
    whole: PreTrainedModel, tokenizer: Tokenizer, picture: tuple[int, int], vision: FrozenVision
) -> QwenModel:
    """A transformers Qwen-VL model, with the decision tokens added, as a StreamModel that shares its weights.

    ``tokenizer`` is changed. Raises ValueError for a model that is neither Qwen2.5-VL nor Qwen3-VL.
    """
    family = whole.config.model_type
    if family not in WHOLE:
        raise ValueError(f"the model is of type {family}, expected one of {', '.join(WHOLE)}")
    ids = add_tokens(tokenizer)
    used = tokenizer.get_vocab_size()
    table: Tensor = whole.get_input_embeddings().weight  # type: ignore[assignment]
    tied = whole.get_output_embeddings().weight is table
    if used > len(table):
        whole.resize_token_embeddings(padded_rows(used), mean_resizing=False)
    start_rows(whole.get_input_embeddings().weight, tokenizer, ids)  # type: ignore[arg-type]
    if not tied:
        start_rows(whole.get_output_embeddings().weight, tokenizer, ids)
    config = QwenConfig(
        text=plain(whole.model.language_model.config),
        vision=plain(whole.model.visual.config),
        picture=picture,
        used_vocab=used,
        tied=tied,
    )
    return QwenModel(family, config, vision, whole)


def _mergers(family: str, vision: Any) -> list[nn.Module]:
    if family == QWEN2_5:
        return [Qwen2_5_VLPatchMerger(vision.out_hidden_size, vision.hidden_size, vision.spatial_merge_size)]
    deepstack = [
        Qwen3VLVisionPatchMerger(vision, use_postshuffle_norm=True) for _ in vision.deepstack_visual_indexes
    ]
    return [Qwen3VLVisionPatchMerger(vision, use_postshuffle_norm=False), *deepstack]
