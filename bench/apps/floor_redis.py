"""What the floors of Flask and Django share: the least that a command to Redis costs a thread, and a session.

No time-out, and nobody is told of an error: nothing to use.
"""

import os
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import hiredis

_local = threading.local()


class Session(dict[str, Any]):
    """A dict that knows whether a value was set."""

    modified = False

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a value."""
        self.modified = True
        super().__setitem__(key, value)


def ask(*words: Any) -> Any:
    """One command, and its reply."""
    if not hasattr(_local, "file"):
        _connect()
    os.write(_local.file, hiredis.pack_command(words))
    reader = _local.reader
    reader.feed(os.read(_local.file, 65_536))
    return reader.gets()


def _connect() -> None:
    url = urlsplit(os.environ["BENCH_STORE"])
    _local.socket = socket.create_connection((url.hostname or "", url.port or 6379))
    _local.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _local.file, _local.reader = _local.socket.fileno(), hiredis.Reader()
    ask("SELECT", url.path.strip("/") or "0")
