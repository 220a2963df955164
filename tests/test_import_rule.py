"""Which room imports which: the runtime must run without PyTorch and without GStreamer."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["export", "train", "benchmarks", "pipelines", "edge_runtime"]  # each imports only those after it
# The command line starts what lies above it, inside its commands;
# the rest of the runtime knows nothing of it.
EXCEPTIONS = {
    ("edge_runtime/app/cli.py", "pipelines"),
    ("edge_runtime/app/run/source_factory.py", "pipelines"),
    ("edge_runtime/app/cli.py", "benchmarks"),
}

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


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_downwards(room):
    allowed = set(ROOMS[ROOMS.index(room) :])
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for other in imported_rooms(path)
        if other not in allowed and (str(path.relative_to(ROOT)), other) not in EXCEPTIONS
    ]
    assert not wrong
