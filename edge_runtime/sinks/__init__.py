"""Sinks of events: stdout, a file, and by way of an outbox on disk webhooks, MQTT, Frigate and programs."""

from edge_runtime.sinks.base import Sink, SinkConfig, SinkContext, Sinks
from edge_runtime.sinks.file import FileConfig, FileSink, Rotation
from edge_runtime.sinks.stdout import LineSink, ReaderGoneError, StdoutSink
from edge_runtime.sinks.terminal import TerminalSink, stdout_is_terminal

__all__ = [
    "FileConfig",
    "FileSink",
    "LineSink",
    "ReaderGoneError",
    "Rotation",
    "Sink",
    "SinkConfig",
    "SinkContext",
    "Sinks",
    "StdoutSink",
    "TerminalSink",
    "stdout_is_terminal",
]
