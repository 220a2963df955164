"""A checkpoint as its authors published it: what can be told from its file names and its config.json.

Weights are read from safetensors alone. A pickle runs code when it is loaded, and so does a repository whose
model is defined by Python files of its own: both are refused, here and before anything large is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edge_runtime.bundle.quantized_weights import check_quantized
from edge_runtime.errors import BundleError

CONFIG = "config.json"
ARCHITECTURES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
"""What can be imported: ``model_type`` of config.json, and the class that its weights belong to."""
DEFAULT_FRAME = "16:9@224"
_ONE_SIZE = ("smolvlm",)
"""Families whose vision tower sees one square size."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_RESEARCH_ONLY = ("qwen-research", "research", "non-commercial", "cc-by-nc")
_TEXTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
_LICENCES = ("readme.md", "license", "license.md", "license.txt", "notice")


def is_published(folder: Path) -> bool:
    """True for a folder in the layout of transformers; a checkpoint of ``train`` names a ``family``."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config and "family" not in config


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json. Raises BundleError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); is this a model's folder?") from error
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise BundleError(f"{path}: expected a JSON object; download it again")
    return config


def check_config(config: Mapping[str, Any], where: str) -> str:
    """Return the family of a model that can be imported.

    Raises BundleError for another architecture, for a model whose class is code in its repository, and for
    weights that are quantized in a way that cannot be read.
    """
    family = config.get("model_type")
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if isinstance(family, str) and ARCHITECTURES.get(family) == architecture:
        if config.get("quantization_config") is not None:
            check_quantized(config["quantization_config"], where)
        return family
    known = ", ".join(ARCHITECTURES.values())
    what = f"its model is {architecture} (model_type {family})"
    if config.get("auto_map"):
        raise BundleError(
            f"{where}: {what}, which is Python code in the repository; such code is never run. "
            f"Models that can be imported: {known}"
        )
    raise BundleError(f"{where}: {what}, which cannot be imported; expected one of {known}")


def default_frame(config: Mapping[str, Any]) -> str:
    """Return the frame of a model for which none is given: the one size that it sees, if there is one.

    Raises BundleError for a config.json without that size.
    """
    if config.get("model_type") not in _ONE_SIZE:
        return DEFAULT_FRAME
    vision = config.get("vision_config")
    size = vision.get("image_size") if isinstance(vision, Mapping) else None
    if not isinstance(size, int) or isinstance(size, bool):
        raise BundleError(f"{CONFIG}: vision_config.image_size is {size}, expected pixels; download it again")
    return f"{size}x{size}"


def wanted_files(names: Iterable[str], where: str) -> list[str]:
    """Return which files of a repository or folder an import reads, weights last.

    Raises BundleError when there are no safetensors, or no tokenizer.
    """
    top = sorted(name for name in names if PurePosixPath(name).name == name)
    if CONFIG not in top:
        raise BundleError(f"{where}: holds no {CONFIG}; only models in the layout of transformers are taken")
    weights = [name for name in top if name.endswith(".safetensors")]
    if not weights:
        pickles = [name for name in top if name.endswith(_PICKLES)]
        if pickles:
            raise BundleError(
                f"{where}: its weights are pickles ({pickles[0]}), which run code when they are loaded; "
                "refused. Look for a copy in safetensors"
            )
        raise BundleError(f"{where}: holds no *.safetensors; look for a copy in safetensors")
    index = "model.safetensors.index.json"
    if index not in top and weights != ["model.safetensors"]:
        raise BundleError(
            f"{where}: holds neither model.safetensors nor shards with {index}; take a copy in that layout"
        )
    if "tokenizer.json" not in top and not {"vocab.json", "merges.txt"} <= set(top):
        raise BundleError(f"{where}: holds no tokenizer (tokenizer.json); take a complete copy")
    texts = [name for name in top if name in _TEXTS or name.lower() in _LICENCES]
    return [CONFIG, *texts, *([index] if index in top else []), *weights]


def read_licence(folder: Path) -> str | None:
    """Return the licence that the model card states (``license_name``, else ``license``); None without."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    found = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            found[key] = value.strip().strip("\"'")
    return found.get("license_name") or found.get("license") or None


def is_research_only(licence: str) -> bool:
    """Whether a licence's name says that it forbids commercial use."""
    return any(word in licence.lower() for word in _RESEARCH_ONLY)
