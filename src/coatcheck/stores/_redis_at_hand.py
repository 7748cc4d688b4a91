"""A connection of redis-py's to one Redis server, and the shortest way through it for a thread that waits."""

import _socket
import os
from select import POLLIN, poll
from socket import socket
from time import monotonic
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

__all__ = ["AtHand", "read"]

PLAIN: Final = b"$:_"
"""How replies begin that are a text, a number or nothing."""
_PLAINLY: Final = (bytes, int, type(None))
_NO_SOCKET: Final = object()
_IS_PYTHONS_OWN: Final = issubclass(socket, _socket.socket)
"""gevent puts a class of its own in the place of `socket`, which waits for the others' sake: then nothing here goes past it."""


class AtHand:
    """A connection, and the shortest way through it.

    A socket with a time-out is a non-blocking one to the system. Python's own `send` and `recv` ask the system each time whether
    they may, and each question gives other threads a turn; so where nothing but Python is in between (neither TLS nor gevent)
    we write at once, and ask only for the answer. A reply that is neither an error nor a message of the server's own is taken
    from hiredis at once, past two layers of redis-py's.
    """

    __slots__ = ("_file", "_poll", "_reader", "_socket", "connection", "looked")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._socket: Any = _NO_SOCKET
        self._reader: Any = None
        self._file, self._poll = -1, poll()
        self.looked = monotonic()
        """When it was last seen to be quiet."""

    def is_quiet(self) -> bool:
        """Whether nothing has come over it that nobody asked for: mostly that is the end."""
        self.looked = monotonic()
        return self._is_known() and not self._poll.poll(0)

    def is_done(self) -> bool:
        """Whether the next reply will be that of the next command: nothing came with the last one that nobody asked for."""
        connection = self.connection
        known = connection._sock is self._socket or self._is_known()
        return known and not self._reader.has_data() and not connection.should_reconnect()

    def _is_known(self) -> bool:
        """Whether it is connected; what there is to know of its socket is looked up once."""
        current = self.connection._sock
        if current is None:
            return False
        if current is not self._socket:
            self._socket, self._poll, self._reader = current, poll(), self.connection._parser._reader
            self._poll.register(current, POLLIN)
            is_plain = _IS_PYTHONS_OWN and type(current) is socket and current.gettimeout()
            self._file = current.fileno() if is_plain else -1
        return True

    def ask(self, packed: bytes, sent: list[bool]) -> Any:
        """Send all of it, then note that it was `sent` (what fails was not complete); return the reply. An error of the server's
        is one too.
        """
        if self._file < 0 or self.connection._sock is not self._socket:
            self.connection.send_packed_command([packed], check_health=False)
            sent.append(True)
            return read(self.connection)
        try:
            written = os.write(self._file, packed)
        except BlockingIOError:
            written = 0
        if written < len(packed):
            self._socket.sendall(packed[written:])
        sent.append(True)
        if not self._poll.poll(self._socket.gettimeout() * 1000):
            raise RedisTimeout("Timeout reading from socket")
        octets = os.read(self._file, 65_536)
        if not octets:
            raise RedisConnectionError("Connection closed by server")
        reader = self._reader
        reader.feed(octets)
        if octets[0] in PLAIN and type(reply := reader.gets(False)) in _PLAINLY:
            return reply
        return read(self.connection)  # and the rest, if that was not all


def read(connection: Any) -> Any:
    """The next reply, as redis-py reads it; an error of the server's is one too."""
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
