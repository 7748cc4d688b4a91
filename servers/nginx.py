"""nginx, in front of an application that a test has started."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.running import Server, binary, free_port, serving

__all__ = ["nginx"]

_FRAME = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{servers}
}}
"""


@contextmanager
def nginx(folder: Path, servers: str, *ports: int) -> Iterator[Server]:
    """One nginx with these `server` blocks, which listen on loopback `ports` (from `free_port`)."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(_FRAME.format(folder=folder, servers=servers))
    command = [binary("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
    port = ports[0] if ports else free_port()
    with serving(Server(f"http://127.0.0.1:{port}", port, folder, command, _listens)) as server:
        try:
            yield server
        finally:
            server.stop()  # not killed, as servers are: its worker would go on without it


def _listens(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1.0).close()
    except OSError:
        return False
    return True
