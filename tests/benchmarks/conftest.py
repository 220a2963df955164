"""The chat server of :mod:`tests.chat_server`, for the tests of this folder and of training."""

from tests.chat_server import Reply, chat_server, reply_kind

__all__ = ["Reply", "chat_server", "reply_kind"]
