"""What can be wrong with a recipe, and what can go wrong with a training."""

from __future__ import annotations

from edge_runtime.errors import ConfigError, EdgeError


class RecipeError(ConfigError, ValueError):
    """A recipe that can't be used; the message names the file and the key."""


class TrainingError(EdgeError, RuntimeError):
    """Training can't go on; the message says where, on what, and what is kept."""
