"""The socket beneath a driver's connection, where it can be found: to see that the server has hung up, and to hang up on it.

Both spare round trips: the first a ping before each command, the second the wait for a driver that would first say goodbye.
"""

import os
import select
import socket
from typing import Any

__all__ = ["cut", "is_stale"]


def _descriptor(driver: Any) -> int | None:
    """The socket's number. None for a driver that does not show it, and for one that has none (SQLite)."""
    try:
        if (transport := getattr(driver, "_transport", None)) is not None:  # asyncpg, asyncmy
            return _of_transport(transport)
        if (writer := getattr(driver, "_writer", None)) is not None:  # aiomysql
            return _of_transport(writer.transport)
        if (sock := getattr(driver, "_sock", None)) is not None:  # PyMySQL
            return int(sock.fileno())
        if (fileno := getattr(driver, "fileno", None)) is not None:  # psycopg, mysqlclient
            return int(fileno())
    except Exception:  # closed, each in its own words
        return None
    return None


def _of_transport(transport: Any) -> int | None:
    sock = transport.get_extra_info("socket")
    return None if sock is None else int(sock.fileno())


def is_stale(driver: Any) -> bool:
    """Whether the server has hung up on a connection that lay idle, or has said something unasked, which comes before that."""
    descriptor = _descriptor(driver)
    if descriptor is None or descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def cut(driver: Any) -> bool:
    """Hang up, whatever is under way: the driver finds the connection lost. False: there is nothing to hang up on."""
    descriptor = _descriptor(driver)
    if descriptor is None or descriptor < 0:
        return False
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:  # the driver closes its own
            sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was closed already
        pass
    return True
