"""The name under which a decoder of transformers takes its KV cache.

transformers 5.24 calls it ``cache`` and warns about ``past_key_values``, which 5.40 removes; earlier releases
know ``past_key_values`` alone. It lies here because training and export may import from this folder too.
"""

from __future__ import annotations

import inspect

from transformers import LlamaForCausalLM

CACHE_ARGUMENT = (
    "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"
)
"""Pass a cache as ``decoder(..., **{CACHE_ARGUMENT: cache})``."""
