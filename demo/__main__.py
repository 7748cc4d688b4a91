"""`python -m demo --port 8000`: serve the demo on this machine until Ctrl-C."""

import argparse
import errno
import logging
import os
import socket
import sqlite3
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from coatcheck import ConfigurationError
from demo.app import PASSWORD, USER, build
from demo.cart import SLOW
from demo.state import prepare

HOST = "127.0.0.1"


def main() -> int:
    """Serve; returns the exit code."""
    wanted = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        with socket.socket() as listener:
            _listen(listener, wanted.port)
            os.umask(0o077)  # what the demo keeps is its owner's business
            app = build(prepare(wanted.state))
            _greet(listener.getsockname()[1])
            _serve(app, listener)
    except KeyboardInterrupt:
        pass  # uvicorn has wound everything up by now
    except (OSError, sqlite3.Error, ConfigurationError) as error:
        print(f"demo: {_explain(error, wanted.port)}", file=sys.stderr)
        return 1
    print(f"\nStopped. Everybody's session is kept in {wanted.state}/ for next time.")
    return 0


def _serve(app: Starlette, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(SLOW) + 1,  # a slow request may finish
    )
    uvicorn.Server(config).run(sockets=[listener])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description="The coatcheck demo.")
    parser.add_argument("--port", type=_port, default=8000, help="where to listen (8000)")
    parser.add_argument("--state", type=Path, default=Path(".demo"), help="where to keep things (.demo)")
    return parser.parse_args()


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        raise ValueError(text)
    return number


def _listen(listener: socket.socket, port: int) -> None:
    """Listen before anything else, so that the address we print answers from the moment it is read."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(2048)


def _explain(error: Exception, port: int) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another: make demo PORT={port + 1}"
    if isinstance(error, sqlite3.Error):
        return (
            f"users.db in the state folder cannot be used ({error}); move it away, or choose another --state"
        )
    return str(error)


def _greet(port: int) -> None:
    print(
        f"\n  coatcheck demo   http://{HOST}:{port}\n"
        f"  sign in as       {USER} / {PASSWORD}\n"
        f"  in a script      curl -b jar -c jar -d username={USER} -d password={PASSWORD} http://{HOST}:{port}/login\n"
        f"                   curl -b jar http://{HOST}:{port}/me\n"
        f"  stop with        Ctrl-C (sessions are kept)\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
