"""The runtime's model over a reference checkpoint: sessions, window and decisions are those of the runtime.

Only the engine is another one: eager PyTorch on the CPU, in fp32, attention and rotation as transformers has
them. So a checkpoint can be measured before it is exported, and what it says differs from what its bundle
says by rounding alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import LlamaForCausalLM
from transformers.cache_utils import Cache, DynamicLayer

from benchmarks.reference.checkpoint import TOKENIZER, CheckpointError, Reference, load_reference
from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.bundle.manifest import Bundle, FileSpec, GraphSpec, ModelSpec
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.bundle.tokenizer import Tokenizer
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError, BundleError
from edge_runtime.kv_cache.eviction import CacheSlots
from edge_runtime.kv_cache.host_store import HostStore
from edge_runtime.kv_cache.rope import inverse_frequencies
from edge_runtime.kv_cache.window import EvictionPlan
from train.models.cache_argument import CACHE_ARGUMENT
from train.models.compact.lite0 import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD


class ReferenceModel(Model):
    """A checkpoint folder, used like any :class:`edge_runtime.Model`.

    ``threads``: of PyTorch, for the whole process. ``context_rows``: rows of a session's cache; by default
    as many as the model has positions, so that the window of turns decides what is forgotten, as with an
    exported bundle. ``backbone``: see :func:`load_reference`. Raises CheckpointError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        context_rows: int | None = None,
        backbone: nn.Module | None = None,
    ) -> None:
        # Model's own start reads a bundle and picks an engine for its graphs; here both are made instead.
        torch.set_num_threads(threads)
        checkpoint = load_reference(folder, backbone=backbone)
        config = checkpoint.decoder.config
        self.bundle = _as_bundle(checkpoint, context_rows or config.max_position_embeddings)
        self.stream_format = checkpoint.stream_format
        try:
            self.tokenizer = Tokenizer(folder / TOKENIZER)
            self.encoder = TurnEncoder(self.stream_format, self.tokenizer.encode)
        except (BundleError, ValueError) as error:
            raise CheckpointError(f"{folder / TOKENIZER}: cannot be used ({error})") from error
        if self.tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{folder / TOKENIZER}: {self.tokenizer.vocab_size} tokens, but the model has "
                f"{config.vocab_size}; it belongs to another checkpoint"
            )
        self.embedding = checkpoint.decoder.get_input_embeddings().weight.numpy()
        self.text_bias = self._text_bias()
        self.backend = f"torch {torch.__version__}, cpu, {threads} threads"
        self._vision = _Vision(checkpoint)
        self._decoder = _Decoder(checkpoint.decoder, self.bundle.model)


class _Vision:
    """See :class:`edge_runtime.backends.base.VisionGraph`."""

    def __init__(self, checkpoint: Reference) -> None:
        self._checkpoint = checkpoint

    def run(
        self,
        pixels: NDArray[np.float32],
        previous: NDArray[np.float32] | None,
        zones: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """``zones``: not read; a reference is of a checkpoint whose vision has none."""
        before = None if previous is None else torch.from_numpy(previous)
        try:
            with torch.inference_mode():
                features = self._checkpoint.backbone(torch.from_numpy(pixels))
            tokens, own = self._checkpoint.visual_tokens(features, before)
        except RuntimeError as error:
            raise BackendError(f"vision: torch failed ({error})") from error
        return tokens.numpy(), None if own is None else own.numpy()


class _Decoder:
    """See :class:`edge_runtime.backends.base.DecoderGraph`."""

    batcher: StepBatcher | None = None

    def __init__(self, decoder: LlamaForCausalLM, model: ModelSpec) -> None:
        self._decoder, self._model = decoder, model

    def open_cache(self) -> ReferenceCache:
        return ReferenceCache(self._decoder, self._model)


class ReferenceCache:
    """See :class:`edge_runtime.backends.base.DecoderCache`.

    Keys and values lie in one numpy array [L, 2, Hkv, C, Dh]; torch sees the same memory, so that rows are
    evicted by the runtime's own :class:`CacheSlots`.
    """

    most_rows = 1

    def __init__(self, decoder: LlamaForCausalLM, model: ModelSpec) -> None:
        self.capacity = model.context_rows
        self._decoder = decoder
        shape = (model.num_layers, 2, model.num_kv_heads, self.capacity, model.head_dim)
        cache = np.zeros(shape, np.float32)
        self._rows = CacheSlots(
            HostStore(cache),
            self.capacity,
            model.rotary_positions or model.context_rows,
            inverse_frequencies(model.head_dim, model.rope_theta),
        )
        self._layers = [_Rows(*layer[:, None]) for layer in torch.from_numpy(cache)]

    @torch.inference_mode()
    def step(self, embeddings: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """[S, D] at rows ``start ..`` -> logits of the last position, [vocab]."""
        rows = len(embeddings)
        if not 0 < rows <= self.capacity - start:
            raise ValueError(f"step of {rows} rows at {start} in a cache of {self.capacity}")
        first = start + self._rows.begin(start)
        for layer in self._layers:
            layer.start = start
        try:
            output = self._decoder(
                inputs_embeds=torch.from_numpy(embeddings)[None],
                position_ids=torch.arange(first, first + rows)[None],
                **{CACHE_ARGUMENT: Cache(layers=self._layers)},
                use_cache=True,
                logits_to_keep=1,
            )
        except RuntimeError as error:
            raise BackendError(f"decoder: torch failed ({error})") from error
        logits: NDArray[np.float32] = output.logits[0, -1].numpy()
        return logits

    def verify(self, embeddings: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        """As :meth:`step`, of one position: logits [1, vocab]."""
        return self.step(embeddings, start)[None]

    def evict(self, plan: EvictionPlan) -> None:
        self._rows.evict(plan)

    def close(self) -> None:
        self._layers = []


class _Rows(DynamicLayer):
    """One layer's rows, allocated once: a step writes at ``start`` and reads everything up to its own end."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values  # [1, Hkv, C, Dh]
        self.is_initialized = True
        self.start = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stop = self.start + key_states.shape[-2]
        self.keys[:, :, self.start : stop] = key_states
        self.values[:, :, self.start : stop] = value_states
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        """Rows before the step; masks are made from it."""
        return self.start


def _as_bundle(checkpoint: Reference, context_rows: int) -> Bundle:
    """What a session and the facts of a run ask of a bundle."""
    config = checkpoint.decoder.config
    graph = GraphSpec("model.safetensors", inputs=(), outputs=())
    files = {path.name: path.stat().st_size for path in sorted(checkpoint.folder.iterdir()) if path.is_file()}
    return Bundle(
        folder=checkpoint.folder,
        name=checkpoint.folder.resolve().name,
        precision="fp32",
        stream_format=checkpoint.stream_format,
        model=ModelSpec(
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            rope_theta=config.rope_parameters["rope_theta"],
            vocab_size=config.vocab_size,
            context_rows=context_rows,
            image_size=(IMAGE_SIZE, IMAGE_SIZE),
            image_mean=IMAGE_MEAN,
            image_std=IMAGE_STD,
        ),
        vision=graph,
        decoder=graph,
        files={name: FileSpec("", size) for name, size in files.items()},
        manifest={
            "name": checkpoint.folder.resolve().name,
            "family": checkpoint.config["family"],
            "precision": "fp32 checkpoint, eager torch",
            "training": {"recipe": checkpoint.config.get("recipe")},
        },
    )
