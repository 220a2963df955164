"""Fixtures shared by all tests: a tiny model with random weights, and bundles made from it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import edge_runtime  # noqa: F401  # first: it switches off the telemetry of other libraries

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from edge_runtime.bundle.stream_format import StreamFormat
    from export.options import Source
    from train.models.compact.model import CompactModel

ROOT = Path(__file__).resolve().parent.parent
CONTEXT_ROWS = 384


def pytest_configure() -> None:
    """Ignored signals would be inherited by what tests start: SIGHUP under ``nohup``, SIGINT behind ``&``."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers start with the files that take long, so that none of them is left for the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


class TinyModel:
    """A CompactModel of 2 layers and width 64 with random weights, its tokenizer, protocol and backbone.

    The weights are large enough that scores, texts and evictions really depend on what the stream holds.
    """

    def __init__(self) -> None:
        import torch
        from torch import nn
        from transformers import LlamaForCausalLM

        from edge_runtime.bundle.stream_format import StreamFormat
        from train.models.compact.model import CompactConfig, CompactModel
        from train.models.tokenizer import train_tokenizer

        self.stream_format: StreamFormat = StreamFormat(
            system_prompt="Stay silent until an event has concluded, then say what happened.",
            window_turns=12,
            evict_turns=4,
            max_response_tokens=8,
        )
        texts = [
            self.stream_format.system_prompt,
            "Tell me each step as it is finished.",
            "What does the person do?",
            "Alert me when the dog crosses the street.",
            "The person cuts the tomato and washes the knife.",
            "How many red cars passed by? A red car is passing.",
        ]
        self.tokenizer: Tokenizer = train_tokenizer(texts * 3, 2048)
        config = CompactConfig(
            vocab_size=2048,
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            motion=True,
        )
        state = torch.random.get_rng_state()
        torch.manual_seed(7)
        # A decoder of its own making: one that starts out copying would say the same thing all the time.
        self.model: CompactModel = CompactModel(config, LlamaForCausalLM(config.llama())).eval()
        self.backbone: nn.Module = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 320, 8, stride=8)
        ).eval()
        with torch.no_grad():
            for name, weight in self.model.decoder.named_parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.3 if "embed" in name else weight.shape[1] ** -0.5)
            for norm in (self.model.projector.norm, self.backbone[1]):
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.5, 2.0)
            self.model.projector.out_norm.weight.fill_(0.3)
        torch.random.set_rng_state(state)

    def export(self, out: Path, precision: str, **options: Any) -> Path:
        from export.bundle_writer import export_model
        from export.options import ExportOptions

        options = {"context_rows": CONTEXT_ROWS, "precision": precision, **options}
        return export_model(self.source(), out, ExportOptions(**options))

    def source(self, **changes: Any) -> Source:
        """What the export takes."""
        from export.options import Source

        parts = {"model": self.model, "tokenizer": self.tokenizer, "stream_format": self.stream_format}
        parts |= {"backbone": self.backbone, "backbone_name": "tiny"}
        return Source(**(parts | changes))


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test registers as a secret must not vanish from the messages of the next."""
    monkeypatch.setattr("edge_runtime.redaction._registered", set())


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    return TinyModel()


@pytest.fixture(scope="session")
def tiny_bundle(request: pytest.FixtureRequest) -> Path:
    """Folder of a tiny int8 bundle with random weights. Shared: copy it before changing anything in it."""
    return _bundle(request, "int8")


@pytest.fixture(scope="session")
def tiny_bundle_fp32(request: pytest.FixtureRequest) -> Path:
    """The same model in fp32. Shared: copy it before changing anything in it."""
    return _bundle(request, "fp32")


@pytest.fixture(scope="session")
def tiny_bundle_tensorrt(request: pytest.FixtureRequest) -> Path:
    """The same model for TensorRT: fp16, both flavours of the decoder. Shared as well."""
    return _bundle(request, "fp16", target="tensorrt")


def _bundle(request: pytest.FixtureRequest, precision: str, target: str = "ort-cpu") -> Path:
    """Made again only when the code that makes it changed: importing torch costs more than most tests."""
    model = ROOT / "train" / "models"
    sources = [Path(__file__), model / "compact" / "model.py", model / "tokenizer.py"]
    sources += [
        ROOT / "edge_runtime" / "bundle" / "stream_format.py",
        *sorted((ROOT / "export").rglob("*.py")),
    ]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    if request.config.pluginmanager.hasplugin("cacheprovider"):
        parent = request.config.cache.mkdir(f"tiny-bundles-{digest.hexdigest()[:16]}")
    else:
        parent = request.getfixturevalue("tmp_path_factory").mktemp("tiny-bundles")
    folder = parent / f"tiny-{target}-{precision}"
    with open(parent / "lock", "w") as lock:  # two workers need the same bundle
        fcntl.flock(lock, fcntl.LOCK_EX)
        _export_once(request, folder, precision, target)
    return folder


def _export_once(request: pytest.FixtureRequest, folder: Path, precision: str, target: str) -> None:
    if not (folder / "bundle.json").is_file():
        for package in ("torch", "transformers", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="tiny bundles are made with the packages of [export]")
        request.getfixturevalue("tiny_model").export(folder, precision, target=target)


@pytest.fixture(scope="session")
def _rtsp_possible() -> None:
    """Skips where GStreamer's RTSP server is not installed."""
    gi = pytest.importorskip("gi")
    try:
        gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0")
