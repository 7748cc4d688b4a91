"""Listening for endings (LISTEN/NOTIFY), on a connection of its own: a thread for the sync face, a task on an event loop.

Whoever ends a session notifies in the same statement, so a notification is sent exactly if the ending is committed. A round trip
on the listening connection every few seconds shows that it still works; its answer is what "watching" means.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import asyncpg
import psycopg

from coatcheck.core.ports import HEARTBEAT, Notice
from coatcheck.stores._postgres_connect import Wired

__all__ = ["watch_in_task", "watch_in_thread"]

log: Final = logging.getLogger("coatcheck")
Tell = Callable[[Notice], None]
BEAT: Final = HEARTBEAT / 2.5
"""Seconds between two round trips: two, and a late third within the heartbeat."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = HEARTBEAT
_WATCHING: Final = Notice("watching")
_LOST: Final = Notice("lost")


def watch_in_thread(connect: Callable[[], Wired], listen: str, tell: Tell) -> Callable[[], None]:
    """Watch in a daemon thread. Returns what stops it: nothing is told afterwards; the thread ends within a beat."""
    stopped = threading.Event()

    def told(notice: Notice) -> None:
        if not stopped.is_set():
            tell(notice)

    def work() -> None:
        pause = FIRST_PAUSE
        while not stopped.is_set():
            try:
                link = connect()
            except Exception as error:  # of whatever kind: it is tried again
                _log(error)
                stopped.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            try:
                link.fetch(listen, ())
                pause = FIRST_PAUSE
                told(_WATCHING)
                _listen(link, told, stopped)
            except (psycopg.Error, OSError):
                told(_LOST)
                stopped.wait(FIRST_PAUSE)
            finally:
                link.close()

    threading.Thread(target=work, name="coatcheck-watch", daemon=True).start()
    return stopped.set


def _listen(link: Wired, told: Tell, stopped: threading.Event) -> None:
    while not stopped.is_set():
        for notify in link.connection.notifies(timeout=BEAT):
            told(Notice("ended", notify.payload))
        link.fetch("SELECT 1", ())
        told(_WATCHING)


def _log(error: Exception) -> None:
    log.warning("store: endings of sessions cannot be watched now (%s)", type(error).__name__)


def watch_in_task(connect: Callable[[], Awaitable[Any]], channel: str, tell: Tell) -> Callable[[], None]:
    """Watch in a task of the running event loop. Returns what stops it: nothing is told afterwards."""
    running = True

    def told(notice: Notice) -> None:
        if running:
            tell(notice)

    task = asyncio.get_running_loop().create_task(_watch(connect, channel, told))

    def stop() -> None:
        nonlocal running
        running = False
        task.cancel()

    return stop


async def _watch(connect: Callable[[], Awaitable[Any]], channel: str, told: Tell) -> None:
    pause = FIRST_PAUSE
    while True:
        try:
            link = await connect()
        except Exception as error:  # of whatever kind: it is tried again
            _log(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        lost = asyncio.Event()
        link.add_termination_listener(partial(_set, lost))
        try:
            await link.add_listener(channel, lambda *heard: told(Notice("ended", heard[3])))
            pause = FIRST_PAUSE
            while True:
                await link.fetch("SELECT 1")
                told(_WATCHING)
                await _either(lost, BEAT)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            told(_LOST)
            await asyncio.sleep(FIRST_PAUSE)
        finally:
            link.terminate()


def _set(event: asyncio.Event, _: object) -> None:
    event.set()


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or so long."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        pass
