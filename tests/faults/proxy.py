"""A TCP proxy in front of any server, which misbehaves as it is told.

    with FaultProxy(server.port, seed=7) as proxy:
        store = RedisStore.from_url(f"redis://127.0.0.1:{proxy.port}")
        proxy.be("halves", odds=0.05)
        ...
        proxy.be("well")

It knows nothing of what it carries: a *piece* is what one read brings. It runs in a thread with an event loop of its own, so that
neither a blocking client nor a busy loop holds it up. Whom it leads to (`target`, a port) may change too, for connections that
are made afterwards: that is how a floating address follows a failover.
"""

import asyncio
import random
import socket
import struct
import threading
import weakref
from types import TracebackType
from typing import Final, Literal, Self, get_args

__all__ = ["FAULTS", "Fault", "FaultProxy"]

Fault = Literal["well", "delays", "drops", "resets", "closes", "halves", "hangs", "doubles", "garbles"]
"""delays   each piece waits, up to `delay` seconds
drops    a connection on which anything is said now is dead for ever: it stays open, nothing is carried, nothing is said
resets   at a request, before or after the server gets it: RST
closes   the same with FIN
halves   half of a reply, then FIN
hangs    the server gets requests, its replies wait until the fault is over, and are delivered then
doubles  a reply comes twice, so that the next request could take it for its own
garbles  a piece of a reply is replaced by noise of the same length

All but delays, drops and hangs do it to each piece with the probability `odds`.
"""
FAULTS: Final[tuple[Fault, ...]] = tuple(fault for fault in get_args(Fault) if fault != "well")
_PIECE: Final = 65_536
_RST: Final = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing is then a reset."""


class _End(Exception):
    """The connection is to end here."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


class FaultProxy:
    """See above. A context manager; `port` is where it listens, on loopback."""

    def __init__(self, target: int, *, seed: int) -> None:
        self.target = target
        self._luck = random.Random(seed)
        self._fault: Fault = "well"
        self._odds, self._delay = 1.0, 0.0
        self.hits = 0
        """How often it has misbehaved."""
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="fault proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()  # a loop that is stopped while it starts ends with an error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def be(self, fault: Fault, *, odds: float = 1.0, delay: float = 0.0) -> None:
        """Misbehave so from now on, new and old connections alike; returns when that is so."""
        done = threading.Event()

        def change() -> None:
            self._fault, self._odds, self._delay = fault, odds, delay
            self._changed.set()  # wakes whoever waits for the end of a fault
            self._changed = asyncio.Event()
            done.set()

        self._loop.call_soon_threadsafe(change)
        done.wait()

    def cut(self) -> None:
        """Reset every connection there is, once."""
        done = threading.Event()

        def cut() -> None:
            for connection in self._connections:
                connection.cancel()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        done.wait()

    # -------------------------------------------------------------------------------------------- in its own thread

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, sock=self._listener))
        self._started.set()
        self._loop.run_forever()
        # Nobody more is accepted. asyncio would leak whom it has just accepted, if the server were closed first.
        self._loop.remove_reader(self._listener)
        self._loop.run_until_complete(self._end())
        server.close()

    async def _end(self) -> None:
        while asyncio.all_tasks() - {asyncio.current_task()}:
            for connection in self._connections:
                connection.cancel()
            # One that is just being accepted gets its task, and is not left to the garbage collector.
            await asyncio.sleep(0)
        for transport in list(self._transports):
            transport.abort()  # also what is closing, and waits for a client that does not read
        for _ in range(3):
            await asyncio.sleep(0)  # the loop closes their sockets in its next turns

    async def _accept(self, here: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._lead(here, to_client)
        except asyncio.CancelledError:
            pass  # that is how it is ended; asyncio would call it an error of this callback
        finally:
            self._connections.discard(task)

    async def _lead(self, here: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._transports.add(to_client.transport)
        reset = True
        try:
            there, to_server = await asyncio.open_connection("127.0.0.1", self.target)
            self._transports.add(to_server.transport)
            try:
                reset = await self._carry(here, to_server, there, to_client)
            finally:
                to_server.transport.abort()
        except OSError:
            pass  # there is no server: a reset
        finally:
            self._close(to_client, reset=reset)

    async def _carry(
        self,
        here: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
    ) -> bool:
        """Carry both ways until one ends. Returns whether that is a reset."""
        ways = [
            asyncio.ensure_future(self._forth(here, to_server)),
            asyncio.ensure_future(self._back(there, to_client)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        ends = await asyncio.gather(*ways, return_exceptions=True)
        return any(isinstance(end, _End) and end.reset for end in ends)

    async def _forth(self, here: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while piece := await here.read(_PIECE):
            await self._wait()
            ends = self._fault in ("resets", "closes") and self._happens()
            if ends and self._luck.random() < 0.5:
                raise _End(reset=self._fault == "resets")
            to_server.write(piece)
            await to_server.drain()
            if ends:
                raise _End(reset=self._fault == "resets")

    async def _back(self, there: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while piece := await there.read(_PIECE):
            await self._wait()
            self.hits += self._fault == "hangs"
            while self._fault == "hangs":
                await self._changed.wait()
            halved = self._fault == "halves" and self._happens()
            to_client.write(piece[: len(piece) // 2] if halved else self._spoilt(piece))
            await to_client.drain()
            if halved:
                raise _End(reset=False)

    async def _wait(self) -> None:
        if self._fault == "drops":
            self.hits += 1
            await self._loop.create_future()  # for ever: a stream that lost a piece cannot go on
        if self._fault == "delays":
            self.hits += 1
            await asyncio.sleep(self._luck.uniform(0, self._delay))

    def _spoilt(self, piece: bytes) -> bytes:
        if self._fault == "doubles" and self._happens():
            return piece + piece
        if self._fault == "garbles" and self._happens():
            return self._luck.randbytes(len(piece))
        return piece

    def _happens(self) -> bool:
        happens = self._luck.random() < self._odds
        self.hits += happens
        return happens

    def _close(self, writer: asyncio.StreamWriter, *, reset: bool) -> None:
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
        else:
            writer.close()  # when all of it was sent
