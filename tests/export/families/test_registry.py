"""A backbone of another package, found by its entry point and exported to a bundle that runs."""

from __future__ import annotations

import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import edge_runtime  # noqa: E402
from edge_runtime.errors import ConfigError  # noqa: E402
from export.bundle_writer import export_model  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families.registry import family_of  # noqa: E402
from export.options import ExportOptions  # noqa: E402

PLUGIN = """
from export.families.compact import CompactFamily
from train.models.registry import Backbone

OTHER = Backbone(("other",), exporter="other_family:OtherFamily")


class OtherFamily(CompactFamily):
    vision_precisions = ("fp32",)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package outside the tree, with its entry point."""
    (tmp_path / "other_family.py").write_text(textwrap.dedent(PLUGIN))
    info = tmp_path / "other_family-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-family\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[streampro_edge.backbones]\nother = other_family:OTHER\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("other_family", None)


def test_a_family_of_another_package_is_exported(installed, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_model.model, "family", "other", raising=False)
    options = ExportOptions(precision="fp32", context_rows=384, parity_timesteps=60)
    bundle = edge_runtime.load(export_model(tiny_model.source(), tmp_path / "bundle", options), threads=1)
    assert bundle.bundle.manifest["family"] == "other"
    assert bundle.bundle.manifest["parity"]["decision_agreement"] == 1.0
    with pytest.raises(ExportError, match="vision in int8 for family other, only fp32"):
        export_model(tiny_model.source(), tmp_path / "bundle", ExportOptions(vision_precision="int8"))


def test_a_family_that_nobody_has(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model.model, "family", "other", raising=False)
    with pytest.raises(ConfigError, match=r"family is .other., expected one of .*compact"):
        family_of(tiny_model.model)
