"""The compact family: a small Llama-style decoder that reads pooled EfficientNet-Lite0 features.

`nano` trains this decoder from scratch; `smol` puts SmolLM2-135M in its place (:mod:`train.models.smollm`).
The vision backbone is frozen and lives outside (:mod:`train.models.compact.lite0`), so that its features are
computed once and cached on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Cache, LlamaConfig, LlamaForCausalLM

from train.models.base import UNUSED, StreamModel, Visual
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.chunked_attention import CHUNKED_CAUSAL
from train.models.compact.concept import ConceptToken, name_embeddings
from train.models.compact.lite0 import Lite0Vision
from train.models.compact.slots import SlotProjector, SlotVision
from train.models.perception.zones import ZONES
from train.models.vision import FrozenVision

FEATURE_CHANNELS = 320
FEATURE_GRID = 7
TRACE_CHANNELS = 48
"""What is kept of a cell to compare the next frame with."""
CHANGE_CHANNELS = 128
_WINDOWS = {2: (4, 3), 3: (3, 2)}
"""Regions a side: cells a window is wide, cells from one window to the next; together they cover the grid."""


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the decoder and of the projector.

    ``visual_grid`` 3: 3 x 3 regions; 2: 2 x 2; each is a visual token, and ``concept_token`` adds one.
    ``motion``: a region's token is made from the frame before as well, so it can say what moved.
    ``slots``: objects per frame when the frozen vision is a detector (:mod:`train.models.compact.slots`);
    0: it is EfficientNet-Lite0. ``slots_per_token``: how many of them share a visual token.
    ``zones``: zones of a camera's frame that the slots' tokens tell apart, 0 or 4.
    ``used_vocab``: rows of the embedding that are tokens, 0 for all; the rest is padding, never said.
    """

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    rope_theta: float = 10000.0
    max_positions: int = 8192
    cell_channels: int = 128
    visual_grid: int = 3
    feature_channels: int = FEATURE_CHANNELS
    rms_norm_eps: float = 1e-6
    used_vocab: int = 0
    concept_token: bool = False
    motion: bool = False
    slots: int = 0
    slots_per_token: int = 1
    zones: int = 0

    def __post_init__(self) -> None:
        if self.visual_grid not in _WINDOWS:
            raise ValueError(f"visual_grid must be one of {sorted(_WINDOWS)}, got {self.visual_grid}")
        if self.zones not in (0, ZONES) or (self.zones and not self.slots):
            raise ValueError(f"zones must be 0, or {ZONES} for a model with slots, got {self.zones}")
        if not 0 <= self.used_vocab <= self.vocab_size:
            raise ValueError(f"used_vocab must lie in 0..vocab_size, got {self.used_vocab}")
        if self.slots_per_token < 1 or self.slots % self.slots_per_token:
            raise ValueError(f"slots_per_token must divide slots ({self.slots}), got {self.slots_per_token}")

    @property
    def regions(self) -> int:
        """Visual tokens that stand for a part of the picture."""
        return self.visual_grid**2

    @property
    def frame_tokens(self) -> int:
        """Visual tokens per frame (V)."""
        return self.slots // self.slots_per_token + 1 if self.slots else self.regions + self.concept_token

    def region_centres(self) -> list[float]:
        """Where the regions of one side are centred, as shares of the picture's side."""
        width, step = _WINDOWS[self.visual_grid]
        return [(step * i + width / 2) / FEATURE_GRID for i in range(self.visual_grid)]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def llama(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            max_position_embeddings=self.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            rms_norm_eps=self.rms_norm_eps,
            tie_word_embeddings=True,
            attn_implementation=CHUNKED_CAUSAL,  # type: ignore[call-arg]
        )


class Projector(nn.Module):
    """Frozen vision features to V visual tokens of the decoder's width.

    Each of the 7 x 7 cells is reduced on its own, then overlapping windows of cells become one token each:
    what lies where within a region survives, which pooling by mean would lose. With ``motion`` every cell is
    also compared with its neighbourhood in the frame before. Comparing frames is what a small decoder learns
    last: without this, events of a few seconds were told by the clock and not by what is seen.
    """

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        d = config.hidden_size
        width, step = _WINDOWS[config.visual_grid]
        self.norm = nn.BatchNorm2d(config.feature_channels)
        self.cell = nn.Conv2d(config.feature_channels, config.cell_channels, kernel_size=1)
        seen = config.cell_channels
        self.trace = self.change = None
        if config.motion:
            self.trace = nn.Sequential(
                nn.Conv2d(config.feature_channels, CHANGE_CHANNELS, kernel_size=1),
                nn.GELU(),
                nn.Conv2d(CHANGE_CHANNELS, TRACE_CHANNELS, kernel_size=1),
            )
            self.change = nn.Conv2d(2 * TRACE_CHANNELS, CHANGE_CHANNELS, kernel_size=3, padding=1)
            seen += CHANGE_CHANNELS
        self.region = nn.Conv2d(seen, 2 * d, kernel_size=width, stride=step)
        self.out = nn.Linear(2 * d, d)
        self.out_norm = nn.RMSNorm(d, eps=1e-5)
        nn.init.constant_(self.out_norm.weight, 0.1)  # near the scale of freshly made token embeddings
        self.region_embedding = nn.Parameter(torch.zeros(config.regions, d))
        self.concept = ConceptToken(d) if config.concept_token else None

    def forward(self, features: Tensor, streams: Sequence[int] | None = None) -> Tensor:
        """``features`` [N, 320, 7, 7] -> visual tokens [N, V, D], the concept token last.

        ``streams``: frames of each stream, in order; None when all are one stream's.
        """
        return self._with_concept(self.read_regions(features, streams), features)

    def read_regions(self, features: Tensor, streams: Sequence[int] | None = None) -> Tensor:
        """As :meth:`forward`, but only the tokens of the picture's regions [N, grid x grid, D]."""
        features = self.norm(features)
        if self.trace is None:
            return self._regions(features)
        trace = self.trace(features)
        return self._regions(features, self.compare(trace, frame_before(trace, streams)))

    def see(self, features: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """One frame of a stream, with ``motion``: features [1, 320, 7, 7] and the trace of the frame before,
        zeros for the first -> visual tokens [1, V, D] and its own trace [1, 48, 7, 7].
        """
        assert self.trace is not None
        normed = self.norm(features)
        trace = self.trace(normed)
        return self._with_concept(self._regions(normed, self.compare(trace, previous)), features), trace

    def compare(self, trace: Tensor, previous: Tensor) -> Tensor:
        """Traces of frames and of the one before each, [N, 48, 7, 7] -> what changed [N, 128, 7, 7]."""
        assert self.change is not None
        return nn.functional.gelu(self.change(torch.cat([trace, previous], dim=1)))

    def _regions(self, normed: Tensor, change: Tensor | None = None) -> Tensor:
        """Normalised features [N, 320, 7, 7], and what changed, -> [N, grid x grid, D]."""
        x = nn.functional.gelu(self.cell(normed))  # [N, C, 7, 7]
        if change is not None:
            x = torch.cat([x, change], dim=1)  # [N, C + 128, 7, 7]
        x = nn.functional.gelu(self.region(x))  # [N, 2D, grid, grid]
        x = self.out(x.flatten(2).transpose(1, 2))  # [N, V, D]
        return self.out_norm(x) + self.region_embedding

    def _with_concept(self, regions: Tensor, features: Tensor) -> Tensor:
        if self.concept is None:
            return regions
        return torch.cat([regions, self.concept(features).to(regions.dtype)], dim=1)

    def train(self, mode: bool = True) -> Projector:
        """The input statistics stay what alignment measured: those of a few clips are not those of all."""
        super().train(mode)
        self.norm.eval()
        return self


def frame_before(traces: Tensor, streams: Sequence[int] | None) -> Tensor:
    """``traces`` [N, ...] of frames in order -> those of the frame before; zeros at a stream's start."""
    shifted = torch.cat([torch.zeros_like(traces[:1]), traces[:-1]])
    if streams is None:
        return shifted
    seen = [frames for frames in streams if frames]  # a stream may have no frame at all
    starts = torch.tensor([0, *seen[:-1]], device=traces.device).cumsum(0)
    goes_on = torch.ones(len(traces), dtype=traces.dtype, device=traces.device)
    goes_on[starts] = 0.0
    return shifted * goes_on.view(-1, *[1] * (traces.ndim - 1))


class CompactModel(StreamModel):
    """Decoder and projector. ``decoder`` is a transformers ``LlamaForCausalLM``."""

    config: CompactConfig
    decoder: LlamaForCausalLM
    family = "compact"
    stored_as_fp16 = True
    vision: FrozenVision = Lite0Vision()

    def __init__(self, config: CompactConfig, decoder: LlamaForCausalLM | None = None) -> None:
        super().__init__()
        self.config = config
        if decoder is None:
            decoder = LlamaForCausalLM(config.llama())
            _prepare_for_copying(decoder)
        self.decoder = decoder
        self.projector: Any  # a Projector; with slots a SlotProjector
        if config.slots:
            self.projector = SlotProjector(
                config.slots, config.slots_per_token, config.hidden_size, config.zones
            )
            self.vision = SlotVision()
        else:
            self.projector = Projector(config)

    @property
    def frame_tokens(self) -> int:
        return self.config.frame_tokens

    def add_zones(self, zones: int) -> None:
        """Let a model with slots read ``zones`` zones as well; see :meth:`SlotProjector.add_zones`."""
        self.config = replace(self.config, zones=zones)  # raises ValueError for a number that cannot be
        self.projector.add_zones(zones)

    def name_concepts(self, tokenizer: Tokenizer) -> None:
        """Give the concept token, if there is one, the class names in the decoder's present embeddings."""
        if self.projector.concept is not None:
            self.projector.concept.names.copy_(name_embeddings(self.embedding.weight, tokenizer))

    def visual(self, features: Tensor, streams: Sequence[int] | None = None) -> Visual:
        """``features`` [N, 320, 7, 7] -> tokens [N, V, D]."""
        return Visual(self.projector(features, streams))

    def positions(self, input_ids: Tensor, image_id: int, start: Tensor) -> tuple[Tensor, Tensor]:
        """Every token takes one position: [B, T] and [B]."""
        length = input_ids.shape[1]
        return start[:, None] + torch.arange(length, device=start.device), start + length

    def embed(self, input_ids: Tensor, visual_tokens: Tensor, image_id: int) -> Tensor:
        """Token embeddings with the image placeholders replaced, in order.

        ``input_ids`` [B, T]; ``visual_tokens`` [N, V, D], N frames in the order of the placeholders,
        row by row; returns [B, T, D]. Raises ValueError when the counts differ.
        """
        embeddings = self.embedding(input_ids)  # [B, T, D]
        mask = input_ids == image_id
        flat = visual_tokens.reshape(-1, visual_tokens.shape[-1]).to(embeddings.dtype)
        if int(mask.sum()) != flat.shape[0]:
            raise ValueError(f"{int(mask.sum())} image placeholders but {flat.shape[0]} visual tokens")
        return embeddings.masked_scatter(mask.unsqueeze(-1), flat)

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
        output = self.decoder.model(
            inputs_embeds=self.embed(input_ids, visual.tokens, image_id),
            position_ids=positions,
            attention_mask=attention_mask,
            **{CACHE_ARGUMENT: cache},
            use_cache=cache is not None,
        )
        return output.last_hidden_state  # [B, T, D]

    def logits(self, hidden: Tensor) -> Tensor:
        logits = self.decoder.lm_head(hidden)
        if self.token_rows is not None:
            logits = self.token_rows.logits(hidden, logits)
        if self.config.used_vocab:
            logits[..., self.config.used_vocab :] = UNUSED
        return logits

    def output_matrix(self) -> nn.Linear:
        return self.decoder.lm_head


@torch.no_grad()
def _prepare_for_copying(decoder: LlamaForCausalLM) -> None:
    """Start values from which a small decoder learns in hundreds of steps to say what a visual token holds.

    Attention's output projection starts as the transpose of its value projection: attending to a token then
    copies its direction, and what remains to be learned is where to look. Embeddings start with norm 1 and
    matrices with a spread that keeps scales, which the usual 0.02 does not at a width of a few hundred, where
    logits could hardly leave zero. Measured: 93 % against 33 % of sprites named after 250 steps.
    """
    config = decoder.config
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    kv_heads = config.num_key_value_heads
    assert kv_heads is not None
    shared = config.num_attention_heads // kv_heads
    spread = width**-0.5
    nn.init.normal_(decoder.model.embed_tokens.weight, std=spread)
    for layer in decoder.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            nn.init.normal_(linear.weight, std=spread)
        values = attention.v_proj.weight.view(kv_heads, head, width)
        copies = values.repeat_interleave(shared, dim=0).flatten(0, 1)  # [heads * head, width]
        attention.o_proj.weight.copy_(copies.T / config.num_attention_heads)
