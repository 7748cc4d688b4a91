"""The least that a session on Redis can cost under threads: GET, and SET on a write, over a blocking socket for each thread.

No signature, no expiry, no merge, no time-out, nobody told of an error: nothing to use, but what any library's figure is
to be held against, since a thread that waits for Redis costs the server more than the commands do.
"""

import os
import secrets
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import hiredis
import msgspec
from flask import Flask, Response, request

_local = threading.local()


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


def _key() -> str:
    return "floor:" + request.environ["HTTP_COOKIE"].removeprefix("session=")


def login() -> Response:
    """Begin a session with what a small application keeps there."""
    name = secrets.token_urlsafe(32)
    ask("SET", "floor:" + name, msgspec.json.encode({"user": "7d1f2c4e", "n": 0}))
    response = Response("ok")
    response.set_cookie("session", name)
    return response


def write() -> str:
    """Load the session, change it, save it."""
    key = _key()
    data = msgspec.json.decode(ask("GET", key))
    data["n"] += 1
    ask("SET", key, msgspec.json.encode(data))
    return "ok"


def read() -> str:
    """Load the session and read from it."""
    return str(msgspec.json.decode(ask("GET", _key()))["n"])


app = Flask("bench")
for view in (login, write, read):
    app.add_url_rule(f"/{view.__name__}", view_func=view)
