"""Speaking to one Redis server from a thread that waits, and what the clients of both faces go by.

Every client of ours takes connections from redis-py, but writes commands and reads replies itself: so it knows what was sent and
what not, and nothing that may have been carried out is repeated (redis-py's clients repeat whatever a connection failed with).
`_redis_awaiting` speaks from event loops.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from copy import copy
from time import monotonic
from typing import Any, Final, cast

import hiredis
from redis import ConnectionPool
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from coatcheck.core.ports import Notice
from coatcheck.errors import ReplyLost, StoreError, UsageError
from coatcheck.stores._health import Health
from coatcheck.stores._redis_at_hand import AtHand, read
from coatcheck.stores._redis_errors import (
    FAILURES,
    UNSTORABLE,
    insist_on_answer,
    is_login,
    last_of,
    may_repeat,
    refused,
    translated,
    unstorable,
)
from coatcheck.stores._redis_scripts import ANYTHING, Script
from coatcheck.stores._redis_version import HELLO, insist
from coatcheck.stores._redis_watch import watch_blocking

__all__ = [
    "SCAN_COUNT",
    "Blocking",
    "Calls",
    "Settings",
    "answered",
    "command",
    "leave_behind",
    "pack",
    "quiet",
    "sentinels_of",
    "tell_of_forks",
]

SCAN_COUNT: Final = 1000
"""Keys that a step of a walk looks at, about."""

pack: Final = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)
Calls = Sequence[tuple[tuple[str, ...], tuple[Any, ...]]]


def command(words: tuple[Any, ...]) -> bytes:
    """A command as it is sent. Raises StoreError for a word that cannot be stored."""
    try:
        return pack(words)
    except UNSTORABLE as error:
        raise unstorable(error) from error


class Settings:
    """What both clients go by."""

    __slots__ = ("connect_timeout", "health", "name", "owned", "patience", "replicas", "retries", "wait")

    def __init__(
        self,
        name: str,
        health: Health,
        *,
        retries: int,
        connect_timeout: float | None,
        patience: float | None,
        wait: tuple[int, float] | None = None,
        owned: bool = False,
    ) -> None:
        self.name, self.health, self.retries, self.owned = name, health, retries, owned
        self.connect_timeout, self.patience = connect_timeout, patience
        """Seconds, or None where the application's own client has its own."""
        self.replicas = wait[0] if wait else 0
        self.wait = pack(("WAIT", wait[0], int(wait[1] * 1000))) if wait else b""
        """The command that follows each command, if replicas are to be waited for."""

    def of_node(self, node: str) -> "Settings":
        """The same for one node of a cluster, whose health is its own: one that is away breaks nothing for the others."""
        other = copy(self)
        other.owned = False  # its pools are redis-py's, which gives them up when the cluster changes
        other.name = f"{self.name} ({node})"
        other.health = self.health.of(other.name)
        return other

    def judge(self, reply: Any, waited: Any) -> Any:
        """The reply, if enough replicas have what it tells of."""
        if waited is None or isinstance(reply, ResponseError):
            return reply
        if isinstance(waited, ResponseError):
            raise refused(waited, self.name) from waited
        if waited < self.replicas:
            # Not StoreUnavailable: it was carried out, and a failover may undo it. Asked again, a command recognises itself.
            raise ReplyLost(f"{self.name}: only {waited} of {self.replicas} replicas had this write in time")
        return reply


UNLOOKED: Final = 0.25
"""Seconds for which questions go over a connection without a look whether something came that nobody asked for."""


class Blocking:
    """Speaks from the calling thread, which waits. Never suspends."""

    def __init__(self, make: Callable[[], Any], settings: Settings) -> None:
        self._pool = make()  # no connection is made yet
        self._settings = settings
        self._health, self._retries = settings.health, settings.retries
        self._wait = settings.wait
        self._greeted = False
        self._keeps = settings.owned and _is_plain(self._pool)
        self._at_hand: list[AtHand] = []
        """Connections that worked; the last one is taken first."""
        tell_of_forks(self)

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Any:
        reply = self.exchange(command(script.words(keys, args)), script.reads, script.answers)
        if isinstance(reply, ResponseError):
            if isinstance(reply, NoScriptError):
                reply = self.exchange(pack(script.in_full(keys, args)), script.reads, script.answers)
            return answered(reply, self._settings.name)
        return reply

    async def all(self, script: Script, calls: Calls) -> list[Any]:
        answers = [await self._caught(script, keys, args) for keys, args in calls]
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any, count: int = SCAN_COUNT) -> tuple[list[bytes], Any]:
        words = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", count)
        following, keys = answered(self.exchange(pack(words), True), self._settings.name)
        return keys, None if following == b"0" else following

    async def ask_all(self, *words: str) -> list[Any]:
        return [quiet(self.exchange(pack(words), True))]

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return watch_blocking(self._lent, channel, tell)

    def _lent(self) -> Any:
        return self._open().make_connection()

    def close(self, *, owned: bool) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and owned:
            pool.disconnect()
            for sentinel in sentinels_of(pool):
                sentinel.close()

    def _open(self) -> Any:
        if self._pool is None:
            raise UsageError(f"the store {self._settings.name} is closed")
        return self._pool

    async def _caught(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        try:
            return await self.run(script, keys, args)
        except StoreError as error:
            return error

    def exchange(self, packed: bytes, reads: bool, answers: frozenset[type] = ANYTHING) -> Any:
        """Send, and read the reply, of one of these types (or an error of the server's); again where that is allowed."""
        pool, health, left = self._pool or self._open(), self._health, self._retries
        if not health.well:
            health.admit()
        # A question may be asked again, so the first time it is asked without a look whether the server is there.
        look = not reads or left == 0
        while True:
            sent: list[bool] = []
            try:
                reply = self._once(pool, packed, sent, look, answers)
            except FAILURES as error:
                if left > 0 and may_repeat(error, sent=bool(sent), reads=reads):
                    left, look = left - 1, True
                    continue
                if not is_login(error):
                    health.failed(error)
                raise translated(error, self._settings.name, sent=bool(sent)) from error
            if not health.well:
                health.worked()
            if not isinstance(reply, ReadOnlyError) or left <= 0:
                return reply
            left, look = left - 1, True

    def _take(self, pool: Any, look: bool) -> AtHand:
        """A connection that the server has not closed. To lend one from redis-py's pool costs as much as the command."""
        try:
            held = self._at_hand.pop()
        except IndexError:
            return AtHand(pool.get_connection())
        if (not look and monotonic() - held.looked < UNLOOKED) or held.is_quiet():
            return held
        held.connection.disconnect()  # redis-py would hand it out as it is, where it expects news (RESP3)
        pool.release(held.connection)
        return AtHand(pool.get_connection())

    def _give_back(self, pool: Any, held: AtHand) -> None:
        """Keep one that worked at hand for the next command. What is in doubt is closed, and is the pool's to open again."""
        if self._keeps:
            if held.is_done():
                self._at_hand.append(held)
                return
            held.connection.disconnect()
        pool.release(held.connection)

    def start_afresh(self) -> None:
        """After a fork: the connections are the parent's."""
        leave_behind(self._at_hand)
        self._at_hand = []

    def _once(self, pool: Any, packed: bytes, sent: list[bool], look: bool, answers: frozenset[type]) -> Any:
        held, wait = self._take(pool, look), self._wait
        try:
            if not self._greeted:
                self._greet(held.connection)
            # A write that fails was not complete, and the server carries out nothing incomplete: so far nothing was sent.
            reply = held.ask(packed + wait if wait else packed, sent)
            if type(reply) not in answers:
                insist_on_answer(answers, reply)
            waited = read(held.connection) if wait else None
            if type(reply) is ReadOnlyError:
                held.connection.disconnect()
        except BaseException:
            held.connection.disconnect()  # whatever it still has to say is for nobody else
            pool.release(held.connection)
            raise
        self._give_back(pool, held)
        return reply if waited is None else self._settings.judge(reply, waited)

    def _greet(self, connection: Any) -> None:
        connection.send_packed_command([HELLO], check_health=False)
        insist(read(connection), self._settings.name)
        self._greeted = True


def _is_plain(pool: Any) -> bool:
    """Whether nothing has to be done with a connection between two commands: no Sentinel to ask, no credentials to renew."""
    return type(pool) is ConnectionPool and not pool.connection_kwargs.get("credential_provider")


def answered(reply: Any, name: str) -> Any:
    """The reply, unless it is an error."""
    if isinstance(reply, ResponseError):
        raise refused(reply, name) from reply
    return reply


def quiet(reply: Any) -> Any:
    """A reply that may be missing: what an ACL forbids."""
    return None if isinstance(reply, ResponseError) else reply


def sentinels_of(pool: Any) -> list[Any]:
    """The clients with which a pool asks where its server is: it does not close them itself."""
    return list(getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()))


_ALL: "weakref.WeakSet[Any]" = weakref.WeakSet()
_LEFT_BEHIND: list[Any] = []
"""What a child process must not even close."""


def tell_of_forks(client: Any) -> None:
    """Call its `start_afresh` in every child, as long as it lives."""
    _ALL.add(client)


def leave_behind(connections: Any) -> None:
    """Keep the parent's connections from being closed by the garbage collector."""
    _LEFT_BEHIND.append(connections)


def _after_fork() -> None:
    for client in list(_ALL):
        client.start_afresh()


os.register_at_fork(after_in_child=_after_fork)
