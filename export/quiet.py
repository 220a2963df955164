"""Keep the exporters' chatter out of a person's terminal."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir", "onnxruntime.quantization", "optimum.gptq", "gptqmodel")


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors of the ONNX exporters get through: their warnings speak to those who write exporters.

    Importing onnxruntime's quantisation tools also configures the root logger; that is undone on leaving.
    """
    root = logging.getLogger()
    handlers, root_level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        root.handlers[:] = handlers
        root.setLevel(root_level)
