"""A proxy before a server that can fall silent: what it holds back arrives nowhere, and no connection ends. Or it ends all."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """What stands before a server on this machine."""

    def __init__(self, port: int) -> None:
        self._to, self._passes = port, threading.Event()
        self._passes.set()
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._feed_only = self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self, *, feed_only: bool = False) -> None:
        """Let nothing through any more; with `feed_only` only nothing of connections that subscribe, now or later."""
        self._feed_only = feed_only
        self._passes.clear()

    def cut(self) -> None:
        """End every connection."""
        for link in self._links:
            for one in link:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def refuse(self) -> None:
        """End every connection, and each new one at once."""
        self._refuses = True
        self.cut()

    def heal(self) -> None:
        """Let everything through again, over new connections."""
        self._refuses = False
        self._passes.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                there, _ = self._listener.accept()
                if self._refuses:
                    there.close()
                    continue
                here = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._links.append((there, here))
            said = threading.Event()  # whether this connection subscribes
            threading.Thread(target=self._carry, args=(there, here, said, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(here, there, said, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, said: threading.Event, asks: bool) -> None:
        try:
            while data := source.recv(65_536):
                if asks and any(word in data for word in (b"SUBSCRIBE", b"LISTEN")):
                    said.set()
                if said.is_set() or not self._feed_only:
                    self._passes.wait()
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()
        self.heal()
        for link in self._links:
            for one in link:
                one.close()


@contextmanager
def before(port: int) -> Iterator[Proxy]:
    """A proxy before this port."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
