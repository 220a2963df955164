"""What training asks of a backbone: supervised steps, rollouts and GRPO use this and nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from train.models.vision import FrozenVision

if TYPE_CHECKING:
    from train.models.lora import Adapters, TokenRows

UNUSED = -1e4
"""Logit of an embedding row that only pads the matrix: no probability, and finite in every precision."""


@dataclass(frozen=True)
class Visual:
    """Frames as the decoder takes them in.

    ``tokens`` [N, V, D]; ``deepstack`` [n, N, V, D], added to the image positions after each of the first n
    layers (Qwen3-VL), or None.
    """

    tokens: Tensor
    deepstack: Tensor | None = None

    def select(self, frames: Tensor) -> Visual:
        """The frames with these indices, in their order; an index may come twice."""
        deepstack = None if self.deepstack is None else self.deepstack[:, frames]
        return Visual(self.tokens[frames], deepstack)


class ModelConfig(Protocol):
    """Sizes of a model, as a checkpoint's config.json holds them."""

    def to_dict(self) -> dict[str, Any]: ...


class StreamModel(nn.Module, ABC):
    """A causal decoder that reads visual tokens in place of image placeholders.

    The vision backbone is frozen and lives outside, so that its features are computed once and cached.
    """

    family: str
    """Name of the family, as a checkpoint's config.json has it."""

    stored_as_fp16: bool = False
    """Whether a checkpoint may hold the weights as float16, which are read as float32."""

    vision: FrozenVision
    """The frozen backbone whose features :meth:`visual` takes."""

    config: ModelConfig

    decoder: PreTrainedModel
    """The decoder as transformers makes it."""

    adapters: Adapters | None
    """What its LoRA adapters are, when it has any."""

    token_rows: TokenRows | None
    """With adapters: the trained rows of an otherwise frozen embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters = None
        self.token_rows = None

    @property
    def embedding(self) -> nn.Embedding:
        """The decoder's input embedding, a row for each logit."""
        return cast(nn.Embedding, self.decoder.get_input_embeddings())

    @property
    @abstractmethod
    def frame_tokens(self) -> int:
        """Visual tokens per frame (V)."""

    @abstractmethod
    def visual(self, features: Tensor, streams: Sequence[int] | None = None) -> Visual:
        """Frozen features of N frames -> what the decoder takes in; what is trained of vision is here.

        ``streams``: frames of each stream, in order, because a frame may be seen in the light of the one
        before it; None when all are one stream's.
        """

    @abstractmethod
    def positions(self, input_ids: Tensor, image_id: int, start: Tensor) -> tuple[Tensor, Tensor]:
        """Position ids of ``input_ids`` [B, T] whose rows go on at ``start`` [B], and where each row goes on
        after them [B]. [B, T], or [3, B, T] for M-RoPE.
        """

    @abstractmethod
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
        """Last hidden states [B, T, D] of ``input_ids`` [B, T]; ``visual`` holds the frames of all
        placeholders, row by row.

        ``cache``: what came before, appended to. ``attention_mask`` [B, past + T]: 0 where a row has a hole;
        ``positions`` must then skip the holes; or bool [B, 1, T, S]: what each token sees of what the cache
        gives (:class:`train.rollout.kv_cache.RowCache`). Without it rows are padded on the right only, or
        not at all.
        Raises ValueError when placeholders and visual tokens differ in number.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., vocab], one for each row of the embedding; :data:`UNUSED` for rows that are no
        token.
        """

    @abstractmethod
    def output_matrix(self) -> nn.Linear | None:
        """The module that makes logits, or None when the embedding itself does."""

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Recompute the decoder's layers in the backward pass instead of keeping their activations."""
        self.decoder.activation_checkpointing_enable(**options)

    def forward(
        self, input_ids: Tensor, features: Tensor, image_id: int, supervised: Tensor | None = None
    ) -> Tensor:
        """Teacher-forced logits, of every position or only where they are needed.

        ``input_ids`` [B, T], padded on the right with any id but ``image_id``; ``features`` of all frames,
        row by row; ``supervised`` [B, T] bool. Returns [B, T, vocab], or [M, vocab] for M
        supervised positions.
        """
        # Padding is on the right and attention is causal: no real position sees it, no mask is needed.
        streams = ((input_ids == image_id).sum(1) // self.frame_tokens).tolist()
        hidden = self.hidden(input_ids, self.visual(features, streams), image_id)  # [B, T, D]
        return self.logits(hidden if supervised is None else hidden[supervised])
