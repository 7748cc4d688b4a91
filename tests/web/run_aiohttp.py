"""aiohttp's own server, on a socket that is handed over: `python -m tests.web.run_aiohttp module:name FD`."""

import importlib
import socket
import sys

from aiohttp import web


def main(app: str, descriptor: str) -> None:
    """Serve until told to end."""
    module, _, name = app.partition(":")
    with socket.socket(fileno=int(descriptor)) as listener:
        found = getattr(importlib.import_module(module), name)
        web.run_app(found, sock=listener, access_log=None, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
