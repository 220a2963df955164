"""Converters between this project's annotations and those of other projects."""
