"""Redis under the explorer: the store's own code, one command at a time, on a model of the scripts or on a real server.

What the scripts say of themselves holds here too: each command is atomic. Commands that the store sends together (`Client.all`)
are one after the other, and those of others may come between any two. The server's clock is the explorer's.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any, Final, Protocol, cast

from coatcheck.core.ports import Notice, Store
from coatcheck.core.record import Record
from coatcheck.errors import StoreError
from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores._redis_errors import last_of
from coatcheck.stores._redis_index import user_keys
from coatcheck.stores._redis_record import decoded
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores.redis import RedisSessions
from coatcheck.testing.explorer.database import Command, Database, Provisional, Row, suspend
from coatcheck.testing.explorer.redis_model import Beside, Keys, Value, carry_out

__all__ = ["PREFIX", "CarryOut", "RedisDatabase", "model"]

PREFIX: Final = "explored:"
RECORDS: Final = PREFIX + "s:"
PEOPLE: Final = ("alice", "bob", "mallory")


class CarryOut(Protocol):
    """A server, given all that it holds."""

    def __call__(
        self,
        there: Mapping[str, Value],
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        micros: int,
    ) -> tuple[Any, Keys]:
        """The reply to a command at that time of the server's clock, and what it holds afterwards."""
        ...


class _Client:
    """Stops at every command. Also what the store calls its careful client: that one waits for replicas, no more."""

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Any:
        return await suspend(_command(script, keys, args))

    async def all(
        self, script: Script, calls: Sequence[tuple[tuple[str, ...], tuple[Any, ...]]]
    ) -> list[Any]:
        answers: list[Any] = []
        for keys, args in calls:
            try:
                answers.append(await suspend(_command(script, keys, args)))
            except StoreError as error:
                answers.append(error)
        if (failure := last_of(answers)) is not None:
            raise failure
        return answers

    async def scan(self, pattern: str, cursor: Any) -> tuple[list[bytes], Any]:
        raise NotImplementedError("no request walks over all keys")

    async def ask_all(self, *words: str) -> list[Any]:
        raise NotImplementedError("no request asks all servers")

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        raise NotImplementedError("no request watches")


_FENCES: Final = {user_keys(PREFIX, user)[2]: user for user in PEOPLE}
OF_A_USER: Final = (scripts.INDEX, scripts.CONFIRM, scripts.ENTRIES, scripts.HEAL)


class _Call(Command):
    """A command whose schedule shows what it is about."""

    def __str__(self) -> str:
        script, keys, args = self.args
        about = args[1] if script in (scripts.INDEX, scripts.CONFIRM) else keys[0].removeprefix(RECORDS)
        if script in (scripts.ENTRIES, scripts.HEAL):
            about = "of the user" + (", raising the fence" if self.fences else "")
        return f"{self.name.lower()} {about}"


def _command(script: Script, keys: tuple[str, ...], args: tuple[Any, ...]) -> Command:
    raises = script is scripts.ENTRIES and args[1] == "raise"
    aside = script in OF_A_USER or (script is scripts.END and args[2] == "user")
    fences = _FENCES[keys[2]] if raises else None
    return _Call(script.name, (script, keys, args), {}, script.reads, fences, aside)


@lru_cache(maxsize=50_000)
def _row(key: str, raw: bytes) -> Row | None:
    """The very same row for the same octets: the oracles look for what has changed."""
    return decoded(key, raw, -inf)


def _octets(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value


def _version(key: str, raw: bytes) -> str:
    row = _row(key, raw)
    return row.versions[0] if isinstance(row, Record) else ""


class RedisDatabase:
    """What a server holds. `carry_out` is the server: the model, or a real one that is given all of it each time."""

    def __init__(
        self,
        carry_out: CarryOut,
        clock: Callable[[], float],
        there: Mapping[str, Value] | None = None,
        held: Mapping[str, Provisional] | None = None,
    ) -> None:
        self._carry_out, self._clock = carry_out, clock
        self._there: Mapping[str, Value] = there or {}
        self._held: Mapping[str, Provisional] = held or {}
        self._state: Hashable = None
        self._rows: Mapping[str, Row] | None = None

    def store(self) -> Store:
        client = _Client()
        return RedisSessions(client, client, PREFIX, "the explorer's Redis")

    def run(self, command: Command) -> Any:
        script, keys, args = command.args
        before = self._there
        reply, self._there = self._carry_out(before, script, keys, args, round(self._clock() * 1e6))
        if not script.reads:
            self._state = self._rows = None
            self._hold(script, keys, args, reply, before)
        return reply

    def _hold(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        reply: Any,
        before: Mapping[str, Value],
    ) -> None:
        """Keep account of logins that are not decided yet (rule 21): from the record's being written until CONFIRM says so."""
        key = keys[0].removeprefix(RECORDS)
        if script is scripts.PUT and args[4:] == ("keep",) and isinstance(reply, list):
            was = before.get(keys[0]) if reply[0] else None
            held = Provisional(_version(key, args[3]), None if was is None else _row(key, _octets(was)))
            self._held = {**self._held, key: held}
        elif script is scripts.CONFIRM and reply[0] == b"saved":
            self._let_go(args[1])
        elif key in self._held:
            now = self._there.get(keys[0])
            if now is None or _version(key, _octets(now)) != self._held[key].version:
                self._let_go(key)

    def _let_go(self, key: str) -> None:
        self._held = {name: held for name, held in self._held.items() if name != key}

    def may_change(self, command: Command) -> bool:
        return not command.reads

    def copy(self) -> Database:
        twin = RedisDatabase(self._carry_out, self._clock, self._there, self._held)
        twin._state, twin._rows = self._state, self._rows
        return twin

    def state(self) -> Hashable:
        if self._state is None:
            self._state = frozenset(self._there.items()), frozenset(self._held.items())
        return self._state

    def rows(self) -> Mapping[str, Row]:
        if self._rows is None:
            self._rows = dict(self._each_row())
        return self._rows

    def _each_row(self) -> Iterator[tuple[str, Row]]:
        for name, raw in self._there.items():
            if name.startswith(RECORDS) and isinstance(raw, bytes):
                key = name.removeprefix(RECORDS)
                row = _row(key, raw)
                assert row is not None
                yield key, row

    def listed(self, user_id: str) -> frozenset[str]:
        beside = self._there.get(user_keys(PREFIX, user_id)[1], ())
        return frozenset(dict(cast(Beside, beside)))

    def provisional(self) -> Mapping[str, Provisional]:
        return self._held


def model(monotonic: Callable[[], float]) -> Database:
    """A Redis on the explorer's clock, made of the model of its scripts."""
    return RedisDatabase(carry_out, monotonic)
