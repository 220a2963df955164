"""What can be wrong with a recipe."""

from __future__ import annotations

from edge_runtime.errors import ConfigError


class RecipeError(ConfigError, ValueError):
    """A recipe that can't be used; the message names the file and the key."""
