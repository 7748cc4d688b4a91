"""The sessions of connect-redis: each the JSON text of express-session in a Redis string of its own, at `sess:` and the id.

Wire formats 1.2 says what connect-redis writes and when; what is written here it reads, and the reverse. The drivers are those of
the native Redis store (`coatcheck.stores._redis_client`): one server, behind Sentinel, or a Cluster, where a session is one key
and so concerns one slot. Redis counts down each key's time-to-live itself, and that is when a session ends; `now` tells only how
much of it is left.

connect-redis's `set` writes over whatever is there. Here `create` is SET NX, and `replace` a script that writes only over the
very string that was read. Nothing of this is seen in the value: a Node application goes on as before, and overwrites what it has
not read.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, Protocol

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Verdict
from coatcheck.dialects.express._connect_redis_rules import DAY, Rules, Serializer, Ttl
from coatcheck.dialects.express.ports import GONE, SAVED, Changed, Entry, Named, Outcome
from coatcheck.errors import ConfigurationError
from coatcheck.stores._health import ConnectionEvent, Health
from coatcheck.stores._redis_link import Link
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores._redis_url import Source, given, parsed
from coatcheck.stores._redis_version import warn_of_eviction

__all__ = ["ConnectRedis", "ConnectRedisSessions"]

# ------------------------------------------------------------------------------------------------- what the server does

# GET and not GETRANGE, as in the native store's scripts: a user whose ACL was made for connect-redis may do that already.
READ: Final = Script(
    "read",
    """
-- The text, and the milliseconds it has left (-1: no end). nil: nothing is there; connect-redis takes '' for nothing.
local text = redis.call('GET', KEYS[1])
if not text or text == '' then return false end
return {text, redis.call('PTTL', KEYS[1])}
""",
    reads=True,
)

REPLACE: Final = Script(
    "replace",
    """
-- what was read, what is to be there, for how many seconds ('': without an end)
-- 1: written (deleted, if it has no time left). A list: what is there instead, as of `read`. nil: nothing is there.
local text = redis.call('GET', KEYS[1])
if not text or text == '' then return false end
if text ~= ARGV[1] then return {text, redis.call('PTTL', KEYS[1])} end
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], ARGV[2])
elseif tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return 1
""",
)

PROBE: Final = Script(
    "probe",
    """
-- Do what every other command does, to nobody's session. It is gone before anybody can list it: Node would fail to parse it.
redis.call('SET', KEYS[1], 'probe', 'EX', 60)
redis.call('EXPIRE', KEYS[1], 60)
redis.call('GET', KEYS[1])
redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
return 1
""",
)

SET: Final = Script("SET")
EXPIRE: Final = Script("EXPIRE")
DEL: Final = Script("DEL")


class Client(Protocol):
    """What the sessions ask of a client. Each method raises StoreErrors (and UsageError) only."""

    def run(self, script: Script, keys: tuple[Any, ...], args: tuple[Any, ...] = ()) -> Awaitable[Any]:
        """One command."""
        ...

    async def all(
        self, script: Script, calls: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]
    ) -> list[Any]:
        """The same command for several keys, each on the node that has it."""
        ...

    async def scan(self, pattern: str, cursor: Any, count: int) -> tuple[list[bytes], Any]:
        """Some of the keys of all masters, and where to go on (None: that was all)."""
        ...

    async def ask_all(self, *words: str) -> list[Any]:
        """A command to every master. One that its ACL forbids is answered by None."""
        ...


# ----------------------------------------------------------------------------------------------------------- the backend


class ConnectRedis:
    """The sessions that connect-redis keeps in a Redis or Valkey, shared with its Node application.

    client         the server's URL, as `coatcheck.stores.redis.RedisStore.from_url` takes it; or the application's own
                   `redis.Redis`, `redis.RedisCluster`, or one of the same names in `redis.asyncio`, which stays the application's
    prefix         what every key begins with, before the session's id
    ttl            seconds for which a session is kept whose cookie has no end, a whole number; or a function that is given each
                   session as a dict, `cookie` included, and says how many seconds it is kept: 0 or less deletes it
    disable_ttl    keep sessions without an end. Whoever is to delete them is yours to say
    disable_touch  leave a session's end alone while nothing but that would change
    scan_count     keys that one step of a walk over all sessions looks at, about
    serializer     what the Node application has under this name, in Python: an object with `dumps(session)`, which answers text,
                   and `loads(text)`. None: JSON
    outage         what to do when the server is slow or away; of these, `break_after`, `break_for` and `retries` count for a
                   client of the application's own
    on_connection  called with a `ConnectionEvent` when the server is first reached, lost, and back

    The options are connect-redis's, with its defaults and its units: give both applications the same (wire formats 1.2). Raises
    ConfigurationError for a setting that cannot be, naming it.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "sess:",
        ttl: Ttl = DAY,
        disable_ttl: bool = False,
        disable_touch: bool = False,
        scan_count: int = 100,
        serializer: Serializer | None = None,
        outage: Outage | None = None,
        credential_provider: Any = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self._rules = Rules(prefix, ttl, disable_ttl, disable_touch, scan_count, serializer)
        outage = outage or Outage()
        source = _source(client, outage, credential_provider)
        self._name = source.name
        self._link = Link(source, Health(source.name, outage, on_connection=on_connection), outage)
        self._blocking: ConnectRedisSessions | None = None
        self._awaiting: ConnectRedisSessions | None = None

    @classmethod
    def from_url(cls, url: str, *, outage: Outage | None = None, **options: Any) -> "ConnectRedis":
        """The store of a URL; connections are made when they are first needed. `options`: as for the class, and
        `credential_provider`, redis-py's. Raises ConfigurationError for a URL that means no Redis.
        """
        if type(url) is not str:
            raise ConfigurationError(f"ConnectRedis.from_url({type(url).__name__}): give a URL")
        return cls(url, outage=outage, **options)

    def __repr__(self) -> str:
        return f"<ConnectRedis {self._name}>"

    def blocking(self) -> "ConnectRedisSessions":
        """The store whose methods never suspend. Raises WrongFace around a client of `redis.asyncio`."""
        if self._blocking is None:
            self._blocking = ConnectRedisSessions(self._link.blocking()[0], self._rules, self._name)
        return self._blocking

    def awaiting(self) -> "ConnectRedisSessions":
        """The store for event loops, several if need be. Raises WrongFace around a client that blocks."""
        if self._awaiting is None:
            self._awaiting = ConnectRedisSessions(self._link.awaiting()[0], self._rules, self._name)
        return self._awaiting

    def close(self) -> None:
        """Close the connections of the sync face; afterwards it cannot be used. The application's own client stays open."""
        self._link.close()

    async def aclose(self) -> None:
        """Close the connections of event loops, and of the sync face."""
        await self._link.aclose()

    def __enter__(self) -> "ConnectRedis":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _source(client: Any, outage: Outage, credentials: Any) -> Source:
    if type(client) is str:
        return parsed(client, outage, credentials)
    if credentials is not None:
        raise ConfigurationError("credential_provider=…: give it to your own client, or give a URL")
    return given(client, store="ConnectRedis")


# ---------------------------------------------------------------------------------------------------------- the sessions


class ConnectRedisSessions:
    """What `ConnectRedis` hands to a face: `ExpressStore` and `Lists` of `coatcheck.dialects.express.ports`, and `Checks`."""

    def __init__(self, client: Client, rules: Rules, name: str) -> None:
        self._client, self._rules, self._name = client, rules, name
        self._run = client.run
        self._prefix = rules.prefix
        self.touches = rules.touches
        self._warned = False

    async def get(self, sid: str, *, now: float) -> Entry | None:
        """The session of this id, in one round trip. Raises CorruptRecord for what is no text, StoreErrors."""
        there = await self._run(READ, (self._prefix + sid,))
        return None if there is None else self._entry(there, now)

    async def create(
        self, sid: str, text: bytes, *, expires: float | None, now: float
    ) -> Literal[Verdict.SAVED, Verdict.TAKEN]:
        """Write a session where nothing is. One that has no time left is not written: connect-redis deletes it."""
        seconds = self._rules.seconds(text, expires, now)
        if seconds <= 0:
            return Verdict.SAVED if await self._run(READ, (self._prefix + sid,)) is None else Verdict.TAKEN
        end = () if self._rules.endless else ("EX", seconds)
        answer = await self._run(SET, (self._prefix + sid,), (self._rules.stored(text), "NX", *end))
        return Verdict.TAKEN if answer is None else Verdict.SAVED

    async def replace(
        self, sid: str, text: bytes, *, over: Entry, expires: float | None, now: float
    ) -> Outcome:
        """Write a session over exactly what was read; delete it, if it has no time left."""
        seconds = self._rules.seconds(text, expires, now)
        end = "" if self._rules.endless and seconds > 0 else seconds
        read = self._rules.stored(over.text) if over.stored is None else over.stored
        answer = await self._run(REPLACE, (self._prefix + sid,), (read, self._rules.stored(text), end))
        if answer == 1:
            return SAVED
        return GONE if answer is None else Changed(self._entry(answer, now))

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        """Move the end of the key, which alone counts. Nothing, where an option says so."""
        if self.touches:
            await self._run(EXPIRE, (self._prefix + sid,), (self._rules.seconds(text, expires, now),))

    async def destroy(self, sid: str) -> bool:
        """Delete the key. Returns whether it was there."""
        return bool(await self._run(DEL, (self._prefix + sid,)) == 1)

    def _entry(self, there: Sequence[Any], now: float) -> Entry:
        stored, left = there
        return Entry(self._rules.body(stored), None if left < 0 else now + left / 1000, stored)

    # -------------------------------------------------------------------------------------------------- for operators

    async def names(self, *, now: float, cursor: object = None, limit: int = 1000) -> Named:
        """Some of the ids: see `Lists`. All keys of the server are walked over, those of others too."""
        sids: list[str] = []
        while True:
            keys, cursor = await self._scan(cursor)
            sids += self._named(keys)
            if cursor is None or len(sids) >= limit:
                return Named(sids, cursor)

    async def length(self, *, now: float) -> int:
        """How many sessions live, by a walk over all keys."""
        found: set[bytes] = set()  # a walk may come by a key twice
        cursor = None
        while True:
            keys, cursor = await self._scan(cursor)
            found.update(keys)
            if cursor is None:
                return len(found)

    async def clear(self) -> None:
        """Delete every session, each key on its own: together they would be in several slots of a Cluster."""
        cursor = None
        while True:
            keys, cursor = await self._scan(cursor)
            await self._client.all(DEL, [((key,), ()) for key in keys])
            if cursor is None:
                return

    async def check(self) -> None:
        """Write something that is nobody's. Raises StoreUnavailable if that cannot be done; logs if sessions may be evicted."""
        await self._run(PROBE, (self._prefix + "coatcheck-check",))
        if not self._warned:
            self._warned = warn_of_eviction(self._name, await self._client.ask_all("INFO", "memory"))

    def _scan(self, cursor: Any) -> Awaitable[tuple[list[bytes], Any]]:
        return self._client.scan(self._rules.pattern, cursor, self._rules.scan_count)

    def _named(self, keys: Sequence[bytes]) -> list[str]:
        """The ids in these keys. What is no text was never in a cookie."""
        skip = len(self._prefix.encode())
        names = (key[skip:].decode("utf-8", "replace") for key in keys)
        return [name for name in names if "\ufffd" not in name]
