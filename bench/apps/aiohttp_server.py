"""``python -m bench.apps.aiohttp_server MODULE PORT``: an aiohttp application under aiohttp's own server.

On uvloop where it is installed, as uvicorn is, and without an access log.
"""

import importlib
import sys

from aiohttp import web

from bench.server import loop_and_parser


def main() -> None:
    """Serve the module's `app` until the process is told to end."""
    if loop_and_parser()[0] == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = None
    app = importlib.import_module(f"bench.apps.{sys.argv[1]}").app
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
