"""The chat server of :mod:`tests.chat_server`."""

from tests.chat_server import chat_server

__all__ = ["chat_server"]
