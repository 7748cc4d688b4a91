"""What stands between an application and its Redis: passes everything on, until it is told to hold what is asked."""

import socket
import threading
from types import TracebackType
from typing import Self


class Between:
    """Listens on `port` for the length of the block. Between `hold` and `let_go` no question gets through."""

    def __init__(self, server_port: int) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._server_port, self._ends = server_port, list[socket.socket]()
        self._open, self._asked = threading.Event(), threading.Semaphore(0)
        self._open.set()
        self.pieces: list[int] = []
        """How many pieces of questions came over each connection so far, in the order in which these were made."""

    def hold(self) -> None:
        """From now on questions wait."""
        self._open.clear()

    def for_all(self, count: int) -> None:
        """Wait until so many connections have a question that waits."""
        for _ in range(count):
            assert self._asked.acquire(timeout=60)

    def let_go(self) -> None:
        """Pass on what waits, and what will come."""
        self._open.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._welcome, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        for end in (self._door, *self._ends):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side has hung up
                pass
            end.close()

    def _welcome(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:  # the block has ended
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._ends += [client, server]
            self.pieces.append(0)
            number = len(self.pieces) - 1
            threading.Thread(target=self._ask, args=(client, server, number), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, number: int) -> None:
        while piece := _read(client):
            self.pieces[number] += 1
            if not self._open.is_set():
                self._asked.release()
                self._open.wait()
            _write(server, piece)
        _hang_up(server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        while piece := _read(server):
            _write(client, piece)
        _hang_up(client)


def _read(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _write(end: socket.socket, piece: bytes) -> None:
    try:
        end.sendall(piece)
    except OSError:  # it has gone; the reader hears of it
        pass


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_WR)
    except OSError:
        pass
