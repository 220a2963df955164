"""SmolVLM2: its Llama decoder, output matrix and connector, from transformers, trained.

The SigLIP tower in front of the connector is frozen and lives outside (:mod:`train.models.smolvlm.vision`).
A frame is seen whole, without the tiles that SmolVLM2 cuts a single image into, as its own video mode does.
The vocabulary stays the published one: a timestep is decided between two of its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, arange, nn
from transformers import Cache, LlamaConfig, LlamaModel, PreTrainedModel

from edge_runtime.bundle.presets import load_preset
from edge_runtime.bundle.stream_format import StreamFormat
from train.models.base import UNUSED, StreamModel, Visual
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.chat_template import plain
from train.models.vision import FrozenVision

FAMILY = "smolvlm"


@dataclass(frozen=True)
class SmolVLMConfig:
    """``text``, ``vision``: the configurations of transformers. ``scale``: the pixel shuffle's factor.

    ``used_vocab``: rows of the embedding that are tokens; the rest is padding, never generated.
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    scale: int
    used_vocab: int
    tied: bool

    def __post_init__(self) -> None:
        size, patch = self.vision["image_size"], self.vision["patch_size"]
        if not isinstance(size, int) or not isinstance(patch, int):
            raise ValueError(f"vision: expected one square image_size and patch_size, got {size} and {patch}")
        if size < patch * self.scale or (size // patch) % self.scale:
            raise ValueError(
                f"vision: {size // patch} patches a side cannot be joined {self.scale} by {self.scale}"
            )

    @property
    def frame_tokens(self) -> int:
        """Visual tokens per frame (V)."""
        return int(self.vision["image_size"] // self.vision["patch_size"] // self.scale) ** 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def smolvlm_stream_format(frame_tokens: int) -> StreamFormat:
    """Return SmolVLM2's own chat format, with its frame and time in each user message.

    " No" and " Yes" are single tokens of the published vocabulary. A window of 64 turns stays within the
    8,192 positions that the decoder was trained on.
    """
    return load_preset("smolvlm").with_prompt(None, frame_tokens)


class SmolVLM(StreamModel):
    """Decoder, output matrix (unless tied) and the connector's projection."""

    family = FAMILY
    config: SmolVLMConfig

    def __init__(
        self, config: SmolVLMConfig, vision: FrozenVision, whole: PreTrainedModel | None = None
    ) -> None:
        """``whole``: the transformers model whose parts are taken; fresh parts when absent."""
        super().__init__()
        self.config, self.vision = config, vision
        if whole is not None:
            self.decoder = whole.model.text_model
            self.lm_head = None if config.tied else whole.lm_head
            self.projector = whole.model.connector.modality_projection.proj
        else:
            text = LlamaConfig(**config.text)
            width, rows = text.hidden_size, text.vocab_size
            self.decoder = LlamaModel(text)
            self.lm_head = None if config.tied else nn.Linear(width, rows, bias=False)
            self.projector = nn.Linear(config.vision["hidden_size"] * config.scale**2, width, bias=False)

    @property
    def frame_tokens(self) -> int:
        return self.config.frame_tokens

    def visual(self, features: Tensor, streams: Sequence[int] | None = None) -> Visual:
        """``features`` [N, V, s^2 x C] -> tokens [N, V, D]."""
        return Visual(self.projector(features.to(self.projector.weight.dtype)))

    def positions(self, input_ids: Tensor, image_id: int, start: Tensor) -> tuple[Tensor, Tensor]:
        """Every token takes one position: [B, T] and [B]."""
        length = input_ids.shape[1]
        return start[:, None] + arange(length, device=start.device), start + length

    def embed(self, input_ids: Tensor, tokens: Tensor, image_id: int) -> Tensor:
        """Embed ``input_ids`` [B, T], placeholders replaced by ``tokens`` [N, V, D] in order -> [B, T, D].

        Raises ValueError when their numbers differ.
        """
        embeddings = self.embedding(input_ids)
        image, flat = input_ids == image_id, tokens.flatten(0, 1)
        if int(image.sum()) != len(flat):
            raise ValueError(f"{int(image.sum())} image placeholders but {len(flat)} visual tokens")
        return embeddings.masked_scatter(image.unsqueeze(-1), flat.to(embeddings.dtype))

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
        output = self.decoder(
            inputs_embeds=self.embed(input_ids, visual.tokens, image_id),
            position_ids=positions,
            attention_mask=attention_mask,
            **{CACHE_ARGUMENT: cache},
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        head = self.embedding if self.lm_head is None else self.lm_head
        logits = nn.functional.linear(hidden, head.weight)
        if self.token_rows is not None:
            logits = self.token_rows.logits(hidden, logits)
        logits[..., self.config.used_vocab :] = UNUSED
        return logits

    def output_matrix(self) -> nn.Linear | None:
        return self.lm_head


def take_apart(whole: PreTrainedModel, tokenizer: Tokenizer, vision: FrozenVision) -> SmolVLM:
    """Make a StreamModel that shares the weights of a transformers SmolVLM2. Neither is changed."""
    inside: Any = whole.model
    config = SmolVLMConfig(
        text=plain(inside.text_model.config),
        vision=plain(inside.vision_model.config),
        scale=whole.config.scale_factor,
        used_vocab=tokenizer.get_vocab_size(),
        tied=whole.lm_head.weight is inside.text_model.embed_tokens.weight,
    )
    return SmolVLM(config, vision, whole)
