import edge_runtime  # noqa: F401  # first: it switches off the telemetry of other libraries
