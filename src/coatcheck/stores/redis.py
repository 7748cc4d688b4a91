"""Sessions in Redis or Valkey: standalone, behind Sentinel, or a Cluster.

Written once, as coroutines that await nothing but a client: the blocking one never suspends. The five verbs and `end_one` are one
command each: GET for `load`, a Lua script for the rest (`_redis_scripts`), so each is atomic by itself. A record lies at a key of
its own, spread over the slots of a cluster; what belongs to a user (index and fence) lies in the slot of the user.

So `admit`, `of_user` and `end_user` are series of steps, and others may come between any two of them. PROTOCOL rules 18-23 say
why each step is where it is; they are taken on a single server too, so that there is one way to explore.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Final, Literal, Protocol

from coatcheck.core.outage import Outage
from coatcheck.core.policy import seconds
from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    NO_TALLY,
    SAVED,
    TAKEN,
    Changed,
    EndedAll,
    Notice,
    Outcome,
    Page,
    Tally,
    Terms,
    Walked,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError, CorruptRecord, ReplyLost, StoreUnavailable
from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores._alike import cursor_at, place_of
from coatcheck.stores._health import ConnectionEvent, Health
from coatcheck.stores._redis_errors import storable
from coatcheck.stores._redis_index import (
    Entry,
    entries,
    flat,
    indexes,
    is_dead,
    keys_of,
    packed_time,
    removable,
    user_keys,
)
from coatcheck.stores._redis_link import Link
from coatcheck.stores._redis_record import decoded, encoded, expired, login_at
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores._redis_url import Source, given, parsed
from coatcheck.stores._redis_version import warn_of_eviction

__all__ = ["RedisSessions", "RedisStore"]

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:/-]{0,64}")
SWEEP_STEP: Final = 500
"""Keys that are looked at together."""


class Client(Protocol):
    """What the sessions ask of a client. Each method raises StoreErrors (and UsageError) only."""

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...] = ()) -> Awaitable[Any]:
        """One command, which may be on its way before it is awaited."""
        ...

    async def all(
        self, script: Script, calls: Sequence[tuple[tuple[str, ...], tuple[Any, ...]]]
    ) -> list[Any]:
        """The same command for several keys, together and in any order. All are tried before anything is raised."""
        ...

    async def scan(self, pattern: str, cursor: Any) -> tuple[list[bytes], Any]:
        """Some of the keys, and where to go on (None: that was all). `cursor` None: from the beginning."""
        ...

    async def ask_all(self, *words: str) -> list[Any]:
        """A command to every server that holds records. One that its ACL forbids is answered by None."""
        ...

    def watch(self, channel: str, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Watch a channel whose messages are session keys."""
        ...


class RedisStore:
    """Sessions in the Redis or Valkey that `client` speaks to.

    client         the application's own `redis.Redis`, `redis.RedisCluster`, or one of the same names in `redis.asyncio`; it
                   stays the application's: its pool, its time-outs, and it is never closed here. `RedisStore.from_url` is for a
                   client of the store's own
    prefix         what every key begins with: letters, digits and _ . : / -
    durability     "normal": a write is acknowledged by the primary. "replicated": creates, logins and deletes are
                   acknowledged only when `replicas` replicas have them too, within `wait_timeout` seconds; else ReplyLost
    on_connection  called with a `ConnectionEvent` when the server is first reached, lost, and back
    outage         of these, `break_after`, `break_for` and `retries` count for a client of the application's own

    Raises ConfigurationError for a setting that cannot be, naming it.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "coatcheck:",
        durability: Literal["normal", "replicated"] = "normal",
        replicas: int = 1,
        wait_timeout: float = 0.5,
        outage: Outage | None = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self._prefix = _checked_prefix(prefix)
        wait = _checked_wait(durability, replicas, wait_timeout)
        source = client if isinstance(client, Source) else given(client)
        self._name = source.name
        outage = outage or Outage()
        health = Health(source.name, outage, on_connection=on_connection)
        self._link = Link(source, health, outage, wait)
        self._blocking: RedisSessions | None = None
        self._awaiting: RedisSessions | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        outage: Outage | None = None,
        transport: Literal["hiredis", "redis-py"] = "hiredis",
        **options: Any,
    ) -> "RedisStore":
        """The store of a URL; connections are made when they are first needed.

        redis://user:password@host:6379/0, rediss:// (TLS), unix:///path.sock?db=0, redis+sentinel://h1:26379,h2:26379/name/0,
        redis+cluster://h1:7000,h2:7001; `valkey` in place of `redis` anywhere. `?protocol=2` and the like are settings
        of redis-py's connections. `options`: as for the class, and `credential_provider`, redis-py's.

        transport  how event loops speak to the server: "hiredis", over one connection that redis-py opens and that is ours from
                   then on; or "redis-py", over a pool of its connections, at three times the cost

        Raises ConfigurationError for any other form.
        """
        outage = outage or Outage()
        source = parsed(url, outage, options.pop("credential_provider", None), transport)
        return cls(source, outage=outage, **options)

    def __repr__(self) -> str:
        return f"<RedisStore {self._name}>"

    def blocking(self) -> "RedisSessions":
        """The store whose methods never suspend. Raises WrongFace around a client of `redis.asyncio`."""
        if self._blocking is None:
            self._blocking = RedisSessions(*self._link.blocking(), self._prefix, self._name)
        return self._blocking

    def awaiting(self) -> "RedisSessions":
        """The store for event loops, several if need be. Raises WrongFace around a client that blocks."""
        if self._awaiting is None:
            self._awaiting = RedisSessions(*self._link.awaiting(), self._prefix, self._name)
        return self._awaiting

    def close(self) -> None:
        """Close the connections of the sync face; afterwards it cannot be used. The application's own client stays open."""
        self._link.close()

    async def aclose(self) -> None:
        """Close the connections of event loops, and of the sync face."""
        await self._link.aclose()

    def __enter__(self) -> "RedisStore":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _checked_prefix(prefix: str) -> str:
    if type(prefix) is not str or not _PREFIX.fullmatch(prefix):
        # Braces would put every session into one slot, * and ? make patterns.
        raise ConfigurationError(f"prefix={prefix!r}: give up to 64 of A-Z a-z 0-9 _ . : / -")
    return prefix


def _checked_wait(durability: str, replicas: int, wait_timeout: float) -> tuple[int, float] | None:
    if durability not in ("normal", "replicated"):
        raise ConfigurationError(f'durability={durability!r}: give "normal" or "replicated"')
    if type(replicas) is not int or replicas < 1:
        raise ConfigurationError(f"replicas={replicas!r}: give a whole number, 1 or more")
    timeout = seconds(wait_timeout, setting="wait_timeout")
    return (replicas, timeout) if durability == "replicated" else None


class RedisSessions:
    """What `RedisStore` hands to a face: `Store`, `ByUser`, `Sweeps`, `Counts`, `Checks` and `Watches` of `coatcheck.core.ports`.

    `careful` is the client for creates, logins and deletes: the same one, unless these wait for replicas.
    """

    def __init__(self, client: Client, careful: Client, prefix: str, name: str) -> None:
        self._client = client
        self._run = client.run
        self._careful = careful
        self._prefix, self._name = prefix, name
        self._records = prefix + "s:"
        self._channel = prefix + "ended"
        self._warned = False

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        raw = await self._run(scripts.LOAD, (self._records + key,))
        if raw is None:
            return None
        there = decoded(key, raw, now)
        if there is None:
            over = expired(key, raw)
            # To be deleted, so that a clock that steps back does not bring back what was answered to be over. It was not: so
            # somebody was quicker, and it lives on, or went.
            purge = scripts.PURGE if raw[:1] == b"R" else scripts.FORGET
            if await self._run(purge, (self._records + key,), (packed_time(now),)) != 1:
                raw = await self._run(scripts.LOAD, (self._records + key,))
                return over if raw is None else decoded(key, raw, now) or over
            return over
        return there

    async def create(self, record: Record, *, now: float) -> Outcome:
        answer = await self._put(self._careful, record, "create", "", now)
        return SAVED if answer == 1 else self._refusal(answer, record, None, now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        how = "set" if may_shorten else "replace"
        answer = await self._put(self._client, record, how, expected, now)
        return SAVED if answer == 1 else self._refusal(answer, record, expected, now)

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        args = (packed_time(now), expected, repr(deadline), repr(seen_at))
        return bool(await self._run(scripts.TOUCH, (self._records + key,), args) == 1)

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        whose = ("any", "") if expected is None else ("version", expected)
        return bool(await self._careful.run(scripts.END, *self._end(key, now, token, whose)) == 1)

    def _put(
        self, client: Client, record: Record, how: str, expected: str, now: float, *keep: str
    ) -> Awaitable[Any]:
        value = storable(encoded, record)
        return client.run(
            scripts.PUT, (self._records + record.key,), (packed_time(now), how, expected, value, *keep)
        )

    def _refusal(self, answer: bytes | None, record: Record, expected: str | None, now: float) -> Outcome:
        """Why it was not written over what is there; SAVED if it already was."""
        there = None if answer is None else decoded(record.key, answer, now)
        if isinstance(there, Record) and record.versions[0] in there.versions:
            return SAVED
        if expected is None:
            return TAKEN
        return Changed(there) if isinstance(there, Record) else GONE

    def _end(
        self, key: str, now: float, token: str, whose: tuple[str, str]
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        return (self._records + key,), (packed_time(now), token, *whose, self._channel, key)

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login: see `coatcheck.core.ports.ByUser`.

        Index entry, record, then the entry again together with a look at the fence and the limit. Until that look is taken the
        record is there, and nobody has its cookie; where it may not stay, it is taken back.
        """
        user_id, how = record.user_id, "create" if expected is None else "set"
        if user_id is None:
            answer = await self._put(self._careful, record, how, expected or "", now)
            return SAVED if answer == 1 else self._refusal(answer, record, expected, now)
        entry = (record.key, repr(record.ends_at), packed_time(login_at(record)))
        clock = await self._careful.run(scripts.INDEX, self._of(user_id), (packed_time(now), *entry))
        # The server's clock first, `elapsed` second: what passes in between makes the login older, never younger.
        began = clock - terms.elapsed * 1e6
        answer = await self._put(self._careful, record, how, expected or "", now, "keep")
        before: bytes | None = None
        if isinstance(answer, list):
            before = answer[0]
        elif (refusal := self._refusal(answer, record, expected, now)) is not SAVED:
            return refusal
        try:
            return await self._settled(
                record, user_id, before, (packed_time(now), *entry, repr(began)), terms, now
            )
        except StoreUnavailable as error:
            # The record is there, over what was there before: that nothing was sent is true of this command only. Asked again,
            # the login recognises itself.
            raise ReplyLost(f"a login was written, and is not confirmed yet: {error}") from error

    async def _settled(
        self,
        record: Record,
        user_id: str,
        before: bytes | None,
        entry: tuple[Any, ...],
        terms: Terms,
        now: float,
    ) -> Outcome:
        """Whether the record that was written may stay, and all that follows from it."""
        outcome, victims = await self._confirmed(user_id, entry, terms, now)
        if outcome is SAVED:
            await self._evict(user_id, victims, record.versions[0], now)
        else:
            await self._take_back(record, before, now)
        return outcome

    async def _confirmed(
        self, user_id: str, entry: tuple[Any, ...], terms: Terms, now: float
    ) -> tuple[Outcome, list[Entry]]:
        """Add the entry again, unless the fence or the limit is against it. Also: whom the limit makes go."""
        own = "" if terms.own_fence is None else f"{terms.own_fence * 1e6:.0f}"
        limited = (own, terms.limit or 0, "evict" if terms.evict else "refuse")
        answer = await self._careful.run(scripts.CONFIRM, self._of(user_id), (*entry, *limited, ""))
        if answer[0] == b"verify":
            dead = await self._dead(user_id, entries(answer[2]), answer[1], now)
            again = (*entry, *limited, "verified", *flat(dead))
            answer = await self._careful.run(scripts.CONFIRM, self._of(user_id), again)
        if answer[0] == b"saved":
            return SAVED, entries(answer[1])
        return FENCED if answer[0] == b"fenced" else FULL, []

    async def _dead(self, user_id: str, some: Sequence[Entry], clock: float, now: float) -> list[Entry]:
        """Which of these entries are of no session of this user; those that may go are removed."""
        found = await self._found(some, now)
        dead = [(entry, there) for entry, there in found if is_dead(there, user_id)]
        await self._heal(user_id, [entry for entry, there in dead if removable(entry, there, clock)], now)
        return [entry for entry, _ in dead]

    async def _evict(self, user_id: str, victims: Sequence[Entry], token: str, now: float) -> None:
        """First the records, then their entries: what fails in between is seen by the next login."""
        if victims:
            whose = ("user", user_id)
            await self._careful.all(scripts.END, [self._end(v.key, now, token, whose) for v in victims])
            await self._heal(user_id, victims, now)

    async def _take_back(self, record: Record, before: bytes | None, now: float) -> None:
        """Leave what was there before this login. Its entry stays until it is healed: it names what may still live.

        `before` None: this was a retry of a login that had been written, and what was there before is not known any more. It
        is ended; nobody has its cookie.
        """
        version = record.versions[0]
        if before is not None:
            args = (packed_time(now), version, before)
            if await self._careful.run(scripts.RESTORE, (self._records + record.key,), args) == 1:
                return
        whose = ("user", record.user_id or "")
        await self._careful.run(scripts.END, *self._end(record.key, now, version, whose))

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        before = (inf, "") if cursor is None else place_of(cursor)
        clock, _, pairs = await self._run(scripts.ENTRIES, self._of(user_id), (packed_time(now), ""))
        some = [entry for entry in entries(pairs) if (entry.login_at, entry.key) < before]
        records: list[tuple[Entry, Record]] = []
        healed: list[Entry] = []
        while some and len(records) <= limit and limit > 0:
            step = limit + 1 - len(records)
            for entry, there in await self._found(some[:step], now):
                if isinstance(there, Record) and there.user_id == user_id:
                    records.append((entry, there))
                elif removable(entry, there, clock):
                    healed.append(entry)
            some = some[step:]
        await self._heal(user_id, healed, now)
        page = records[:limit]
        more = len(records) > len(page) and page
        return Page(
            [record for _, record in page], cursor_at(page[-1][0].login_at, page[-1][0].key) if more else None
        )

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        _, fence, pairs = await self._careful.run(
            scripts.ENTRIES, self._of(user_id), (packed_time(now), "raise")
        )
        theirs = [entry for entry in entries(pairs) if entry.key != keep]
        whose = ("user", user_id)
        answers = await self._careful.all(
            scripts.END, [self._end(entry.key, now, token, whose) for entry in theirs]
        )
        # What is ended now keeps its entry: should a failover undo it, it can be found. What had ended before is healed.
        await self._heal(
            user_id, [entry for entry, answer in zip(theirs, answers, strict=True) if answer == 2], now
        )
        return EndedAll(answers.count(1), fence / 1e6)

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        return bool(await self._careful.run(scripts.END, *self._end(key, now, token, ("user", user_id))) == 1)

    async def _found(self, some: Sequence[Entry], now: float) -> list[tuple[Entry, Record | Ended | None]]:
        """What the entries name. What is corrupt opens nothing, and must not take the others with it."""
        raws = await self._client.all(scripts.LOAD, [((self._records + entry.key,), ()) for entry in some])
        return [(entry, _tolerant(entry.key, raw, now)) for entry, raw in zip(some, raws, strict=True)]

    async def _heal(self, user_id: str, some: Sequence[Entry], now: float) -> None:
        if some:
            await self._run(scripts.HEAL, self._of(user_id), (packed_time(now), *flat(some)))

    def _of(self, user_id: str) -> tuple[str, str, str]:
        return storable(user_keys, self._prefix, user_id)

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        args = (packed_time(now), amount, repr(now + window), "prolong" if prolong else "")
        count, until = await self._run(scripts.TALLY, (self._prefix + "t:" + key,), args)
        return Tally(int(count), float(until))

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        count, until = await self._run(scripts.TALLIED, (self._prefix + "t:" + key,))
        return Tally(int(count), float(until)) if count and float(until) > now else NO_TALLY

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        await self._run(scripts.FORGET_TALLY, (self._prefix + "t:" + key,))

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records and their like. Returns how many records went.

        Redis does it by itself, an hour after each deadline; here all keys are walked over, those of others too. Once no
        record is left to go, the indexes are gone through: what they still name of sessions that are gone is taken out, which
        otherwise waits for a list, a login at the limit, or the absolute deadline.
        """
        swept, cursor = 0, None
        while True:
            keys, cursor = await self._client.scan(self._records + "*", cursor)
            while keys and swept < limit:
                step = min(SWEEP_STEP, limit - swept)
                swept += await self._ones(scripts.PURGE, keys[:step], now)
                keys = keys[step:]
            if swept >= limit:
                return swept
            if cursor is None:
                await self._heal_all(now)
                return swept

    async def _heal_all(self, now: float) -> None:
        cursor = None
        while True:
            found, cursor = await self._client.scan(indexes(self._prefix), cursor)
            for index in found:
                await self._heal_one(keys_of(index), now)
            if cursor is None:
                return

    async def _heal_one(self, keys: tuple[str, str, str], now: float) -> None:
        """The same as a list of this user heals; whose index it is, only its key tells."""
        clock, _, pairs = await self._run(scripts.ENTRIES, keys, (packed_time(now), ""))
        gone = [
            entry
            for entry, there in await self._found(entries(pairs), now)
            if removable(entry, there, clock) and not self._is_of(keys, there)
        ]
        if gone:
            await self._run(scripts.HEAL, keys, (packed_time(now), *flat(gone)))

    def _is_of(self, keys: tuple[str, str, str], there: Record | Ended | None) -> bool:
        return isinstance(there, Record) and there.user_id is not None and self._of(there.user_id) == keys

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """Some of all keys: see `coatcheck.core.ports.Walks`. All keys of the server are walked over, those of others too."""
        names: list[bytes] = []
        while True:
            found, cursor = await self._client.scan(self._records + "*", cursor)
            names += found
            if cursor is None or len(names) >= limit:
                return Walked([name[len(self._records) :].decode("latin-1") for name in names], cursor)

    async def count(self, *, now: float) -> int:
        """How many sessions live. All keys are walked over, those of others too: for a report, not for a request."""
        living, cursor = 0, None
        while True:
            keys, cursor = await self._client.scan(self._records + "*", cursor)
            living += await self._ones(scripts.LIVES, keys, now)
            if cursor is None:
                return living

    async def _ones(self, script: Script, keys: Sequence[Any], now: float) -> int:
        answers = await self._client.all(script, [((key,), (packed_time(now),)) for key in keys])
        return answers.count(1)

    async def check(self) -> None:
        """Write something that is nobody's. Raises StoreUnavailable if that cannot be done; logs if sessions may be evicted."""
        await self._careful.run(scripts.PROBE, (self._prefix + "check",), (self._channel,))
        if not self._warned:
            self._warned = warn_of_eviction(self._name, await self._client.ask_all("INFO", "memory"))

    async def time(self) -> float:
        """The server's time; of several servers the first that says."""
        answers = await self._client.ask_all("TIME")
        for answer in answers:
            if answer is not None:
                return int(answer[0]) + int(answer[1]) / 1e6
        raise StoreUnavailable(f"{self._name} does not tell its time")

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called when a session is ended: see `coatcheck.core.ports.Watches`."""
        return self._client.watch(self._channel, tell)


def _tolerant(key: str, raw: bytes | None, now: float) -> Record | Ended | None:
    try:
        return None if raw is None else decoded(key, raw, now)
    except CorruptRecord:
        return None
