"""A real Redis under the explorer: before each command its keys are put as they must be, all in one round trip.

Everything lies under a prefix of its own, drawn at random, and is deleted at the end. The scripts are the store's own;
only, where they ask for the TIME, they are told the explorer's.
"""

import secrets
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

from coatcheck.errors import StoreError
from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores._redis_client import pack
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores.redis import RedisStore
from coatcheck.testing.explorer.database import Database
from coatcheck.testing.explorer.redis import PREFIX, RedisDatabase
from coatcheck.testing.explorer.redis_model import Keys, Value

__all__ = ["RedisServer", "redis"]

KEPT: Final = 200_000
"""Replies that are remembered: the same command on the same keys at the same time has the same reply."""

# The last two KEYS are the explorer's clock: seconds, microseconds.
TOLD_THE_TIME: Final = """
local redis = (function(server)
  return {
    pcall = server.pcall,
    call = function(...)
      if ... == 'TIME' then return {KEYS[#KEYS - 1], KEYS[#KEYS]} end
      return server.call(...)
    end,
  }
end)(redis)
"""
READ: Final = Script(
    "read",
    """
local read = {}
for n, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then read[n] = {kind, redis.call('GET', key)}
  elseif kind == 'zset' then read[n] = {kind, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')}
  elseif kind == 'hash' then read[n] = {kind, redis.call('HGETALL', key)}
  else read[n] = {kind} end
end
return read
""",
)
TIMED: Final = {
    script: Script(script.name, TOLD_THE_TIME + script.source)
    for script in (scripts.INDEX, scripts.CONFIRM, scripts.ENTRIES, scripts.HEAL)
}


class RedisServer:
    """The server at a URL, for the length of a `with` block, to be called as the model is."""

    def __init__(self, url: str) -> None:
        self._store = RedisStore.from_url(url)
        self._prefix = f"explored-{secrets.token_hex(6)}:"
        self._there: Mapping[str, Value] = {}
        self._known: dict[Hashable, tuple[Any, Keys]] = {}

    def __enter__(self) -> "RedisServer":
        self._connection = self._store.blocking()._client._lent()  # type: ignore[attr-defined]  # ours
        self._connection.connect()
        loaded = (READ, *TIMED.values(), *(s for s in _all_scripts() if s not in TIMED))
        self._exchange([("SCRIPT", "LOAD", script.source) for script in loaded])
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self._there:
                self._exchange([("DEL", *map(self._name, self._there))])
        finally:
            self._connection.disconnect()
            self._store.close()

    def __call__(
        self,
        there: Mapping[str, Value],
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        micros: int,
    ) -> tuple[Any, Keys]:
        """The reply to a command where `there` is all that the server holds, and what it holds afterwards."""
        moment = micros if script in TIMED else 0
        question = frozenset(there.items()), script.name, tuple(keys), tuple(args), moment
        if question not in self._known:
            if len(self._known) > KEPT:
                self._known.clear()
            self._known[question] = self._ask(there, script, keys, args, micros)
        reply, after = self._known[question]
        return reply, dict(after)

    def _ask(
        self,
        there: Mapping[str, Value],
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        micros: int,
    ) -> tuple[Any, Keys]:
        names = tuple(map(self._name, keys))
        put = self._differences(there)
        said = self._of(script, names, args, micros)
        try:
            *_, reply, read = self._exchange([*put, said, READ.words(names, ())])
        except StoreError:
            self._exchange([("DEL", *names, *map(self._name, {**self._there, **there}))])
            self._there = {}
            raise
        after = {key: value for key, value in there.items() if key not in keys}
        after |= {key: value for key, answer in zip(keys, read, strict=True) if (value := _value(answer))}
        self._there = after
        return _in_order(script, reply), after

    def _of(
        self, script: Script, names: tuple[str, ...], args: Sequence[Any], micros: int
    ) -> tuple[Any, ...]:
        if script in TIMED:
            seconds, rest = divmod(micros, 1_000_000)
            return TIMED[script].words((*names, str(seconds), str(rest)), tuple(args))
        return script.words(names, tuple(args))

    def _differences(self, wanted: Mapping[str, Value]) -> list[tuple[Any, ...]]:
        words: list[tuple[Any, ...]] = []
        stale = [key for key, value in self._there.items() if wanted.get(key) != value]
        if stale:
            words.append(("DEL", *map(self._name, stale)))
        for key, value in wanted.items():
            if self._there.get(key) != value:
                words.append(_restoring(self._name(key), value))
        return words

    def _name(self, key: str) -> str:
        return self._prefix + key.removeprefix(PREFIX)

    def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        self._connection.send_packed_command([b"".join(map(pack, commands))], check_health=False)
        answers = [self._answer() for _ in commands]
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreError(f"the server answered: {answer}") from answer
        return answers

    def _answer(self) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True)
        except Exception as error:
            return error


def _all_scripts() -> list[Script]:
    """Those that the store may run in a request."""
    return [
        scripts.PUT,
        scripts.TOUCH,
        scripts.END,
        scripts.PURGE,
        scripts.FORGET,
        scripts.RESTORE,
        *TIMED,
    ]


def _restoring(name: str, value: Value) -> tuple[Any, ...]:
    if isinstance(value, bytes):
        return ("SET", name, value)
    if isinstance(value, frozenset):
        return ("ZADD", name, *(part for member, score in sorted(value) for part in (repr(score), member)))
    return ("HSET", name, *(part for pair in value for part in pair))


def _value(answer: list[Any]) -> Value | None:
    kind, content = (*answer, None)[:2]
    if content is None:
        return None
    if kind == b"string":
        return cast(bytes, content)
    pairs = list(zip(content[::2], content[1::2], strict=True))
    if kind == b"zset":
        return frozenset((member.decode(), float(score)) for member, score in pairs)
    return tuple(sorted((field.decode(), value) for field, value in pairs))


def _in_order(script: Script, reply: Any) -> Any:
    """Redis promises no order of a hash's fields, and the store relies on none: here it is always the same."""
    if script is scripts.ENTRIES:
        return [*reply[:2], _sorted(reply[2])]
    if script is scripts.CONFIRM and len(reply) > 1:
        return [*reply[:-1], _sorted(reply[-1])]
    return reply


def _sorted(pairs: Sequence[bytes]) -> list[bytes]:
    return [part for pair in sorted(zip(pairs[::2], pairs[1::2], strict=True)) for part in pair]


@contextmanager
def redis(url: str) -> Iterator[Callable[[Callable[[], float]], Database]]:
    """A `MakeStore` on the server at a URL."""
    with RedisServer(url) as server:
        yield partial(RedisDatabase, server)
