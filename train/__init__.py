import edge_runtime  # noqa: F401  # first: it switches off the telemetry of other libraries
from edge_runtime.command_line.missing_extra import explain_missing_packages

explain_missing_packages("train")
