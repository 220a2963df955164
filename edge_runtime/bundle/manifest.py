"""The model bundle: a folder with ``bundle.json``, two graphs, the embedding table and the tokenizer.

Loading reads every file once to compare its sha256 with what ``bundle.json`` says, and refuses the bundle
with one line that names the file and what to do. A hash finds damage and mix-ups; it is no signature: load
only bundles from people you trust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

from edge_runtime.bundle.batch_spec import BatchSpec, read_batch
from edge_runtime.bundle.bundle_cache import cached_bundle, cached_names
from edge_runtime.bundle.knowledge import Knowledge, read_knowledge
from edge_runtime.bundle.published import CONFIG, is_published
from edge_runtime.bundle.stream_format import WORD_SETS, StreamFormat
from edge_runtime.bundle.verification import verify
from edge_runtime.errors import BundleError

FORMAT_VERSION = 5
"""Newest that is read. 2: M-RoPE and DeepStack (``model.visual_grid``, ``model.deepstack``). 3: a cache in
int8 (``cache_scales.npy``). 4: numbered queries (``protocol.queries_per_session`` above 1). 5: a stream
format that is not basic (``StreamFormat.is_basic``)."""
NUMBERED_VERSION = 4
INT8_CACHE_VERSION = 3
MANIFEST = "bundle.json"
EMBEDDING = "embedding.npy"
CACHE_SCALES = "cache_scales.npy"
"""What a step of an int8 cache stands for, float32 [L, 2, Hkv, 1, Dh]: keys and values of each layer."""
TOKENIZER = "tokenizer.json"
SHIPPED = Path(__file__).parents[1] / "bundles"

_T = TypeVar("_T")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph. A dimension is a number, or a name when it varies."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSpec:
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    lowering: str = ""
    """Which engines the graph is written for: ``ort-gqa``, ``native-kv`` or ``legacy-kv``."""

    def input(self, name: str) -> TensorSpec:
        """Raises BundleError when the graph has no such input."""
        for tensor in self.inputs:
            if tensor.name == name:
                return tensor
        raise BundleError(f"{MANIFEST}: graph {self.file} lists no input {name}; export the bundle again")


@dataclass(frozen=True)
class ModelSpec:
    """Sizes the runtime needs. ``context_rows`` is the capacity of the cache in tokens."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    vocab_size: int
    context_rows: int
    image_size: tuple[int, int]
    """Height and width."""
    image_mean: float
    image_std: float
    visual_grid: tuple[int, int] | None = None
    """Rows and columns of a frame's visual tokens where positions follow them (M-RoPE); None where a row's
    index is its position."""
    deepstack: int = 0
    """Layers that take in visual tokens of their own."""
    rotary_positions: int | None = None
    """Positions that the decoder has angles for; None: as many as rows."""


@dataclass(frozen=True)
class FileSpec:
    sha256: str
    size: int


@dataclass(frozen=True)
class Bundle:
    folder: Path
    name: str
    precision: str
    stream_format: StreamFormat
    model: ModelSpec
    vision: GraphSpec
    decoder: GraphSpec
    files: Mapping[str, FileSpec]
    manifest: Mapping[str, Any]
    """The whole of bundle.json, keys unknown to this version included."""
    alternatives: tuple[GraphSpec, ...] = ()
    """The same decoder written for other engines, over the same weights."""
    knowledge: Knowledge | None = None
    """What it was trained for; None when the bundle does not say."""
    batch: BatchSpec | None = None

    @property
    def visual_shape(self) -> tuple[int, int, int]:
        """Of a frame's visual tokens: [1 + DeepStack's layers, V, D]."""
        return 1 + self.model.deepstack, self.stream_format.frame_tokens, self.model.hidden_size

    @property
    def queries_per_session(self) -> int | None:
        """Most queries that a session may watch for; None when the bundle does not say.

        That of the stream format where it numbers queries, or fewer if the manifest says so. Else what one
        trajectory of training held: so many, without numbers.
        """
        if self.stream_format.numbers_queries:
            most = self.manifest.get("queries_per_session")
            numbers = self.stream_format.queries_per_session
            return min(most, numbers) if isinstance(most, int) and most > 0 else numbers
        data: Any = self.manifest
        for key in ("training", "recipe", "data"):
            data = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(data, Mapping):
            return None
        found = data.get("queries_per_session", data.get("questions_per_clip"))  # the second: older bundles
        return found if isinstance(found, int) and found > 0 else None

    @property
    def zones(self) -> tuple[int, int] | None:
        """Zones of a camera's frame that the vision graph takes, and cells of a side of their grid; None when
        it takes none.
        """
        shape = next((tensor.shape for tensor in self.vision.inputs if tensor.name == "zones"), None)
        if shape is None:
            return None
        if len(shape) != 4 or shape[2] != shape[3] or not all(isinstance(size, int) for size in shape):
            raise BundleError(
                f"{self.path(MANIFEST)}: input zones of {self.vision.file} has the shape {list(shape)}, "
                "expected [1, zones, cells, cells]; export the bundle again"
            )
        return int(shape[1]), int(shape[2])

    def decoder_for(self, lowerings: Sequence[str]) -> GraphSpec | None:
        """The decoder an engine takes that runs ``lowerings``, its preferred one first; None without one."""
        graphs = {graph.lowering: graph for graph in (*self.alternatives, self.decoder)}
        return next((graphs[name] for name in lowerings if name in graphs), None)

    def path(self, name: str) -> Path:
        """Full path of one of the bundle's files."""
        return self.folder / name


def find_bundle(name_or_folder: str | PathLike[str]) -> Path:
    """Folder of a shipped or pulled bundle's name, or the folder itself. Raises BundleError when it is none.

    A shipped name wins over a folder of the same name (write ``./nano`` for the folder), and a folder over a
    pulled bundle (:mod:`edge_runtime.bundle.bundle_cache`).
    """
    text = str(name_or_folder)
    if max(map(len, text.split("/"))) > 255:
        raise BundleError(f"bundle {text[:40]}...: no file name is so long; give a name or a folder")
    if PurePosixPath(text).name == text and (SHIPPED / text / MANIFEST).is_file():
        return SHIPPED / text
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if (pulled := cached_bundle(text)) is not None:
        return pulled
    shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}"))
    known = ", ".join(shipped) if shipped else "none"
    what = "is not a folder" if folder.exists() else "no such folder"
    names = cached_names()
    known += f"; pulled: {', '.join(names)}" if names else ""
    hint = f"; edge-run pull {text} gets a model from the hub" if _HUB_NAME.fullmatch(text) else ""
    raise BundleError(f"bundle {text}: {what} and no bundle of that name is shipped (shipped: {known}){hint}")


def load_bundle(name_or_folder: str | PathLike[str]) -> Bundle:
    """Read, check and verify a bundle. Raises BundleError (see :func:`find_bundle` for the argument)."""
    bundle = read_bundle(name_or_folder)
    verify_bundle(bundle)
    return bundle


def verify_bundle(bundle: Bundle) -> None:
    """Compare every file of a bundle that was read with its hash. Raises BundleError."""
    for name, spec in bundle.files.items():
        verify(bundle.folder, name, spec.sha256, spec.size)


def read_bundle(name_or_folder: str | PathLike[str]) -> Bundle:
    """Read and check the manifest alone; for what is not going to be run. Raises BundleError."""
    folder = find_bundle(name_or_folder)
    bundle = _parse(folder, _read_manifest(folder))
    _check_consistent(bundle)
    return bundle


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(_no_manifest(folder)) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not JSON ({error}); export or copy the bundle again") from error
    if not isinstance(data, dict):
        raise BundleError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def _no_manifest(folder: Path) -> str:
    if is_published(folder):
        return (
            f"{folder}: a transformers checkpoint, not a bundle; make one with: python -m export {folder} "
            "--format PRESET --out BUNDLE"
        )
    if (folder / CONFIG).is_file():
        return f"{folder}: a checkpoint, not a bundle; make one with: python -m export {folder} --out BUNDLE"
    return f"{folder / MANIFEST}: missing; a model bundle is the folder that export writes"


def _parse(folder: Path, manifest: dict[str, Any]) -> Bundle:
    root = _Section(manifest, folder / MANIFEST)
    version = root.get("format_version", int)
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder / MANIFEST}: format version {version} is newer than this program reads "
            f"({FORMAT_VERSION}); update streampro-edge"
        )
    graphs = root.section("graphs")
    return Bundle(
        folder=folder,
        name=root.get("name", str),
        precision=root.get("precision", str),
        stream_format=_stream_format(root.section("protocol")),
        model=_model(root.section("model")),
        vision=_graph(graphs.section("vision")),
        decoder=_graph(graphs.section("decoder")),
        alternatives=_alternatives(graphs.section("decoder")),
        files=_files(root.section("files")),
        manifest=manifest,
        knowledge=read_knowledge(manifest, str(folder / MANIFEST)),
        batch=read_batch(graphs.section("decoder").data, str(folder / MANIFEST)),
    )


def _check_consistent(bundle: Bundle) -> None:
    path, tokens = bundle.path(MANIFEST), bundle.stream_format.frame_tokens
    grid = bundle.model.visual_grid
    if grid is not None and grid[0] * grid[1] != tokens:
        model = _Section(bundle.manifest["model"], path, "model.")
        raise model.wrong("visual_grid", f"{tokens} visual tokens, as the protocol has")
    decoders = [graph.file for graph in (bundle.decoder, *bundle.alternatives)]
    if bundle.batch is not None:
        decoders.append(bundle.batch.file)
    for needed in (bundle.vision.file, *decoders, EMBEDDING, TOKENIZER):
        if needed not in bundle.files:
            raise BundleError(f"{path}: files does not list {needed}; export the bundle again")


class _Section:
    """An object inside bundle.json; knows its place, so that errors name the key."""

    def __init__(self, data: Mapping[str, Any], path: Path, place: str = "") -> None:
        self.data, self.path, self.place = data, path, place

    def wrong(self, key: str, expected: str) -> BundleError:
        got = f"got {self.data[key]!r}" if key in self.data else "it is missing"
        return BundleError(f"{self.path}: key {self.place}{key}: expected {expected}, {got:.80}")

    def get(self, key: str, kind: type[_T]) -> _T:
        value = self.data.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {str: "text", int: "an integer", list: "a list", dict: "an object"}
            raise self.wrong(key, names[kind])
        return value

    def positive(self, key: str) -> int:
        value = self.get(key, int)
        if value < 1:
            raise self.wrong(key, "a positive integer")
        return value

    def number(self, key: str) -> float:
        value = self.data.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        return float(value)

    def section(self, key: str) -> _Section:
        return _Section(self.get(key, dict), self.path, f"{self.place}{key}.")


def _model(model: _Section) -> ModelSpec:
    image_size = _pair(model, "image_size", "height, width")
    positions = model.positive("rotary_positions") if "rotary_positions" in model.data else None
    slots = model.positive("context_rows")
    if positions is not None and positions < slots:
        raise model.wrong("rotary_positions", f"at least {slots}, one for each of context_rows")
    return ModelSpec(
        hidden_size=model.positive("hidden_size"),
        num_layers=model.positive("num_layers"),
        num_heads=model.positive("num_heads"),
        num_kv_heads=model.positive("num_kv_heads"),
        head_dim=model.positive("head_dim"),
        rope_theta=model.number("rope_theta"),
        vocab_size=model.positive("vocab_size"),
        context_rows=slots,
        image_size=image_size,
        image_mean=model.number("image_mean"),
        image_std=model.number("image_std"),
        visual_grid=_pair(model, "visual_grid", "rows, columns") if "visual_grid" in model.data else None,
        deepstack=model.positive("deepstack") if "deepstack" in model.data else 0,
        rotary_positions=positions,
    )


def _pair(section: _Section, key: str, names: str) -> tuple[int, int]:
    sides = section.get(key, list)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise section.wrong(key, f"two positive integers: {names}")
    return sides[0], sides[1]


def _stream_format(section: _Section) -> StreamFormat:
    defaults = asdict(StreamFormat())
    for key, value in section.data.items():
        if key in WORD_SETS and isinstance(value, list) and all(isinstance(word, str) for word in value):
            continue
        if key in defaults and not _same_kind(value, defaults[key]):
            raise section.wrong(key, f"the kind of {defaults[key]!r:.40}")
    try:
        return StreamFormat.from_dict(dict(section.data))
    except ValueError as error:
        raise BundleError(f"{section.path}: {error}") from error


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(value, bool):
        return isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


def _graph(section: _Section) -> GraphSpec:
    def tensors(key: str) -> tuple[TensorSpec, ...]:
        specs = []
        for number, entry in enumerate(section.get(key, list)):
            if not isinstance(entry, dict):
                raise section.wrong(key, "a list of objects")
            tensor = _Section(entry, section.path, f"{section.place}{key}[{number}].")
            shape = tensor.get("shape", list)
            if not all(isinstance(dim, (int, str)) for dim in shape):
                raise tensor.wrong("shape", "a list of numbers and names")
            specs.append(TensorSpec(tensor.get("name", str), tuple(shape), tensor.get("dtype", str)))
        return tuple(specs)

    lowering = cast(str, section.data.get("lowering", ""))
    return GraphSpec(section.get("file", str), tensors("inputs"), tensors("outputs"), str(lowering))


def _alternatives(section: _Section) -> tuple[GraphSpec, ...]:
    entries = section.data.get("alternatives", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise section.wrong("alternatives", "a list of objects")
    place = f"{section.place}alternatives"
    return tuple(
        _graph(_Section(entry, section.path, f"{place}[{number}].")) for number, entry in enumerate(entries)
    )


def _files(section: _Section) -> dict[str, FileSpec]:
    files = {}
    for name in section.data:
        entry = section.section(name)
        files[name] = FileSpec(entry.get("sha256", str).lower(), entry.get("bytes", int))
    return files
