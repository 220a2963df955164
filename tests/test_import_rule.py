"""The import rule of docs/architecture.md, and the shape that it gives each top-level package.

    edge_runtime (without app) <- pipelines <- edge_runtime.app
    edge_runtime (without app) <- benchmarks.metric <- train <- export <- the rest of benchmarks

A part may import what stands to its left, and itself. The one exception is `edge-run bench`, which starts
`benchmarks.latency` inside a function.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.import_graph import Import, cycles, first_level, imports_of, levels, modules_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge_runtime", "pipelines", "benchmarks", "train", "export")
MODULES = modules_of(ROOT, PACKAGES)
IMPORTS = imports_of(MODULES)
MAX_NODES, MAX_LEVELS, MAX_LINES = 14, 8, 400

# Sub-packages that are parts of their own; every other module belongs to the part named by its first folder.
PARTS = ("edge_runtime.app", "benchmarks.metric")
# `edge_runtime.__main__` starts the app; `benchmarks` itself is loaded whenever `benchmarks.metric` is.
ALSO = {"edge_runtime.__main__": "edge_runtime.app", "benchmarks": "benchmarks.metric"}
MAY_IMPORT = {
    "edge_runtime": set(),
    "pipelines": {"edge_runtime"},
    "edge_runtime.app": {"edge_runtime", "pipelines"},
    "benchmarks.metric": {"edge_runtime"},
    "train": {"edge_runtime", "benchmarks.metric"},
    "export": {"edge_runtime", "benchmarks.metric", "train"},
    "benchmarks": {"edge_runtime", "pipelines", "benchmarks.metric", "train", "export"},
}
BENCH_COMMAND = "benchmarks.latency.bench.command"  # what `edge-run bench` starts

BLOCK_AND_IMPORT = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} must not be needed here")

blocked = sys.argv[2].split(",")
sys.meta_path.insert(0, Blocker())
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 3
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_every_module_of_the_runtime_imports_without_torch_and_gstreamer():
    result = run(
        BLOCK_AND_IMPORT, "edge_runtime", "torch,gi,transformers,onnx,train,export,pipelines,benchmarks"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.gst
@pytest.mark.skipif(find_spec("gi") is None, reason="GStreamer's Python bindings are not installed")
def test_every_module_of_the_pipelines_imports_without_torch():
    result = run(BLOCK_AND_IMPORT, "pipelines", "torch,transformers,onnx,train,export,benchmarks")
    assert result.returncode == 0, result.stderr


def test_importing_the_runtime_loads_no_engine():
    code = "import sys, edge_runtime; edge_runtime.open, edge_runtime.EdgeError; print(*sys.modules)"
    loaded = run(code).stdout.split()
    assert "edge_runtime.errors" in loaded
    assert not {"onnxruntime", "tokenizers", "PIL", "numpy"} & set(loaded)
    code = "import sys, edge_runtime.engine.model, edge_runtime.engine.session; print(*sys.modules)"
    assert not {"onnxruntime", "tokenizers"} & set(run(code).stdout.split())


def part_of(module: str) -> str:
    if module in ALSO:
        return ALSO[module]
    for part in PARTS:
        if module == part or module.startswith(f"{part}."):
            return part
    return module.split(".")[0]


def broken(imports: set[Import]) -> list[str]:
    return sorted(
        str(entry)
        for entry in imports
        if (source := part_of(entry.source)) != (target := part_of(entry.target))
        and target not in MAY_IMPORT[source]
        and not (source == "edge_runtime.app" and entry.target == BENCH_COMMAND)
    )


@pytest.mark.parametrize("part", list(MAY_IMPORT))
def test_a_part_imports_only_what_it_may(part: str) -> None:
    assert not broken({entry for entry in IMPORTS if part_of(entry.source) == part})


def graph_of(package: str) -> dict[str, set[str]]:
    imports = IMPORTS
    if package == "edge_runtime":  # its __main__ is the app's
        imports = {entry for entry in IMPORTS if entry.source != "edge_runtime.__main__"}
    return first_level(package, imports)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_sub_packages_form_no_cycle(package: str) -> None:
    assert cycles(graph_of(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_first_level_of_a_package_stays_small(package: str) -> None:
    graph = graph_of(package)
    assert len(graph) <= MAX_NODES, sorted(graph)
    assert levels(graph) <= MAX_LEVELS


@pytest.mark.parametrize("folder", (*PACKAGES, "tests"))
def test_no_file_is_longer_than_400_lines(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    lengths = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(lengths) > 20
    assert {name: count for name, count in lengths.items() if count > MAX_LINES} == {}


def test_the_rule_finds_what_breaks_it(tmp_path: Path) -> None:
    files = {
        "edge_runtime/__init__.py": "",
        "edge_runtime/engine.py": "def late():\n    from pipelines import camera\n",
        "edge_runtime/app/__init__.py": "import pipelines.camera\n",
        "pipelines/__init__.py": "",
        "pipelines/camera.py": "from edge_runtime import engine\nimport importlib\n"
        "importlib.import_module('edge_runtime.app')\n",
        "benchmarks/__init__.py": "",
        "benchmarks/metric.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import train.sft\n",
        "train/__init__.py": "",
        "train/sft.py": "from . import grpo\n",
        "train/grpo.py": "from .sft import something\nfrom benchmarks.metric import score\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    imports = imports_of(modules_of(tmp_path, ("edge_runtime", "pipelines", "benchmarks", "train")))
    assert broken(imports) == [
        "benchmarks.metric imports train.sft",
        "edge_runtime.engine imports pipelines.camera",
        "pipelines.camera imports edge_runtime.app",
    ]
    assert cycles(first_level("train", imports)) == [["grpo", "sft"]]


def test_levels_count_the_longest_path() -> None:
    chain = {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": {"c"}}
    assert levels(chain) == 3 and cycles(chain) == []
    assert levels({**chain, "c": {"b"}}) == 3 and cycles({**chain, "c": {"b"}}) == [["b", "c"]]
