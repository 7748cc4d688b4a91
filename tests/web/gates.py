"""A gate of the test's, at which the requests of a server wait, whichever of its processes serves them.

A handler goes `through` the gate whose number the request names: it says which process it is, and waits. The test waits `for_all`
to have come, which tells it that each has loaded its session, and opens.
"""

import asyncio
import os
import socket
from types import TracebackType
from typing import Self

PATIENCE = 30.0
ANYWHERE = "127.0.0.1"


class Gate:
    """Closed until `open`; a context that opens it at the latest at its end."""

    def __init__(self) -> None:
        self._door = socket.create_server((ANYWHERE, 0), backlog=512)
        self._door.settimeout(PATIENCE)
        self._waiting: list[socket.socket] = []
        self.number: int = self._door.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        self._door.close()

    def for_all(self, count: int) -> list[int]:
        """Wait until so many stand before it. Returns the process of each."""
        processes = []
        for _ in range(count):
            there, _ = self._door.accept()
            there.settimeout(PATIENCE)
            self._waiting.append(there)
            processes.append(int(there.recv(32)))
        return processes

    def open(self) -> None:
        """Let all go on that have come."""
        for there in self._waiting:
            there.close()
        self._waiting.clear()


async def through(number: str) -> None:
    """Wait at a gate, on an event loop."""
    reader, writer = await asyncio.open_connection(ANYWHERE, int(number))
    writer.write(b"%d" % os.getpid())
    await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()


def through_in_a_thread(number: str) -> None:
    """The same for a thread."""
    with socket.create_connection((ANYWHERE, int(number)), timeout=PATIENCE) as there:
        there.sendall(b"%d" % os.getpid())
        there.recv(1)
