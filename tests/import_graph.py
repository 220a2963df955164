"""The project's modules and which module imports which, read from the source without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Graph = Mapping[str, set[str]]


@dataclass(frozen=True)
class Import:
    """Module ``source`` imports module ``target``, at the top of the file, in a function or for types."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} imports {self.target}"


def modules_of(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """Dotted names and files of every module of ``packages``, which lie in ``root``."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(modules: Mapping[str, Path]) -> set[Import]:
    """Every import between ``modules``, late and type-only ones included."""
    return {
        Import(name, target)
        for name, path in modules.items()
        for text in _imported_names(name, path, modules)
        if (target := _enclosing_module(text, modules)) is not None
    }


def first_level(package: str, imports: Iterable[Import]) -> dict[str, set[str]]:
    """Which child of ``package`` imports which other. ``package`` itself (its ``__init__``) is no child."""
    graph: dict[str, set[str]] = {}
    for entry in imports:
        source, target = _child(package, entry.source), _child(package, entry.target)
        if source and target and source != target:
            graph.setdefault(source, set()).add(target)
            graph.setdefault(target, set())
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other, sorted; empty for a graph without cycles."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {
        tuple(sorted({node, *(other for other in reached[node] if node in reached[other])})) for node in graph
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def levels(graph: Graph) -> int:
    """Nodes on the longest path through the graph. Nodes of one cycle count as one level."""
    reached = {node: _reachable(graph, node) for node in graph}
    height: dict[str, int] = {}
    # A node that reaches fewer nodes comes first, so that everything below it has its height already.
    for node in sorted(graph, key=lambda node: len(reached[node])):
        below = [height[other] for other in reached[node] if other in height and node not in reached[other]]
        height[node] = 1 + max(below, default=0)
    return max(height.values(), default=0)


def _imported_names(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import module` imports the module, `from module import name` imports `module`.
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and (target := _import_module_argument(node)):
            yield target


def _import_module_argument(call: ast.Call) -> str:
    named = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if named not in ("import_module", "__import__") or not call.args:
        return ""
    argument = call.args[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""


def _enclosing_module(text: str, modules: Mapping[str, Path]) -> str | None:
    while text and text not in modules:
        text = text.rpartition(".")[0]
    return text or None


def _child(package: str, module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found
