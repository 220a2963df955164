"""Soak and fuzz harnesses. Their commands need the extra `bench`."""

from edge_runtime.command_line.missing_extra import explain_missing_packages

explain_missing_packages("bench")
