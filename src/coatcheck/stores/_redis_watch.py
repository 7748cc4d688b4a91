"""Watching for ended sessions: a connection of its own that subscribes, and asks the server for a sign of life all the while.

The raw connection and not redis-py's PubSub, which connects again by itself and says nothing of it: what was published meanwhile
would be missed without anybody knowing.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from coatcheck.core.ports import HEARTBEAT, Notice
from coatcheck.errors import StoreError
from coatcheck.stores._redis_errors import FAILURES

__all__ = ["watch_awaiting", "watch_blocking"]

Tell = Callable[[Notice], None]
PULSE: Final = HEARTBEAT / 3
"""Seconds between two signs of life. One that is not answered before the next is due means that the connection is lost."""
STEP: Final = 0.2
"""Seconds in which a watching thread notices that it should stop."""
PAUSES: Final = (0.1, 0.3, 1.0, 2.0)
"""Seconds between attempts to connect again."""
WATCHING: Final = Notice("watching")
LOST: Final = Notice("lost")


class _Ear:
    """What is made of what a subscribed connection hears. Pure."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.waiting = False
        """Whether a sign of life is owed."""

    def hear(self, said: Any) -> None:
        """A message, or the answer to SUBSCRIBE or PING, in RESP2 or RESP3."""
        if isinstance(said, list) and said[0] == b"message":
            if said[2]:
                self.tell(Notice("ended", said[2].decode(errors="replace")))
        else:
            self.waiting = False
            self.tell(WATCHING)


class _Silence(OSError):
    """The server owed a sign of life."""


def watch_awaiting(lend: Callable[[], Awaitable[Any]], channel: str, tell: Tell) -> Callable[[], None]:
    """Watch in a task of the running loop."""
    task = asyncio.get_running_loop().create_task(_watch(lend, channel, tell))
    return lambda: _cancel(task)


def _cancel(task: "asyncio.Task[None]") -> None:
    loop = task.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


async def _watch(lend: Callable[[], Awaitable[Any]], channel: str, tell: Tell) -> None:
    tries = 0

    def told(notice: Notice) -> None:
        nonlocal tries
        tries = 0
        tell(notice)

    while True:
        tries += 1
        connection = writer = None
        try:
            connection = await lend()
            await connection.connect()
            writer = connection._writer  # at an error it forgets it
            await _listen(connection, channel, _Ear(told))
        except (*FAILURES, StoreError):
            tell(LOST)
        finally:
            if connection is not None:
                await connection.disconnect(nowait=True)
            if writer is not None:
                writer.transport.abort()  # TLS says goodbye for as long as the peer likes: the loop may end before
        await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])


async def _listen(connection: Any, channel: str, ear: _Ear) -> None:
    await connection.send_command("SUBSCRIBE", channel, check_health=False)
    ear.waiting = True
    while True:
        due = time.monotonic() + PULSE
        while (left := due - time.monotonic()) > 0:
            said = await connection.read_response(timeout=left, disable_decoding=True, push_request=True)
            if said is not None:
                ear.hear(said)
        if ear.waiting:
            raise _Silence(f"no sign of life for {PULSE:.1f} s")
        ear.waiting = True
        await connection.send_command("PING", check_health=False)


def watch_blocking(lend: Callable[[], Any], channel: str, tell: Tell) -> Callable[[], None]:
    """Watch in a thread of its own, which ends with the process."""
    stop = threading.Event()
    thread = threading.Thread(
        target=_keep_watching, args=(lend, channel, tell, stop), name="coatcheck-watch", daemon=True
    )
    thread.start()
    return stop.set


def _keep_watching(lend: Callable[[], Any], channel: str, tell: Tell, stop: threading.Event) -> None:
    tries = 0

    def told(notice: Notice) -> None:
        nonlocal tries
        if not stop.is_set():
            tries = 0 if notice is not LOST else tries
            tell(notice)

    while not stop.is_set():
        tries += 1
        connection = None
        try:
            connection = lend()
            _hear(connection, channel, _Ear(told), stop)
        except (*FAILURES, StoreError):
            told(LOST)
        finally:
            if connection is not None:
                connection.disconnect()
        stop.wait(PAUSES[min(tries, len(PAUSES) - 1)])


def _hear(connection: Any, channel: str, ear: _Ear, stop: threading.Event) -> None:
    connection.connect()
    connection.send_command("SUBSCRIBE", channel, check_health=False)
    ear.waiting = True
    while not stop.is_set():
        due = time.monotonic() + PULSE
        while (left := due - time.monotonic()) > 0 and not stop.is_set():
            if connection.can_read(timeout=min(left, STEP)):
                ear.hear(connection.read_response(disable_decoding=True, push_request=True))
        if ear.waiting:
            raise _Silence(f"no sign of life for {PULSE:.1f} s")
        ear.waiting = True
        connection.send_command("PING", check_health=False)
