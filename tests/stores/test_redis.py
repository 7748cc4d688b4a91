"""The Redis store against a real server: the contract in both modes, and what is special to Redis."""

import asyncio
import logging
import pickle
from collections.abc import Callable, Iterator
from struct import pack, unpack
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio

from coatcheck import Options, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import (
    FENCED,
    FULL,
    GONE,
    SAVED,
    TOMBSTONE,
    ByUser,
    Changed,
    Checks,
    Counts,
    Sweeps,
    Terms,
    Watches,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.core.session import CookieAction
from coatcheck.core.stepping import run_now
from coatcheck.errors import CorruptRecord, StoreError, StoreUnavailable, UsageError
from coatcheck.stores._redis_index import user_keys
from coatcheck.stores._redis_record import encoded
from coatcheck.stores.redis import RedisSessions, RedisStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import Server
from tests.patience import PATIENT
from tests.stores.redis_help import (
    FACES,
    NOW,
    TRANSPORTS,
    Transport,
    after,
    calls,
    fresh,
    login,
    on,
    raw,
    record,
)


@pytest.fixture
def prefix() -> str:
    return fresh()


@pytest.fixture
def backend(redis_server: Server, prefix: str) -> Iterator[RedisStore]:
    with RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix) as backend:
        yield backend


@pytest.fixture
def store(backend: RedisStore) -> RedisSessions:
    return backend.blocking()


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    with raw(redis_server) as client:
        yield client


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, redis_server: Server, prefix: str, transport: Transport) -> None:
    StoreContract(
        lambda: RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix, transport=transport)
    ).run(sentence)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_contract_in_either_protocol(redis_server: Server, protocol: int, transport: Transport) -> None:
    url = f"{redis_server.url}?protocol={protocol}"
    StoreContract(lambda: RedisStore.from_url(url, outage=PATIENT, prefix=fresh(), transport=transport)).run()


@pytest.mark.parametrize("ability", [ByUser, Sweeps, Counts, Checks, Watches])
def test_has_every_ability(backend: RedisStore, ability: type) -> None:
    assert isinstance(backend.blocking(), ability)
    assert isinstance(backend.awaiting(), ability)


def test_both_faces_share_the_sessions(redis_server: Server, prefix: str) -> None:
    there = record()

    def backend() -> RedisStore:
        return RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix)

    assert on("blocking", backend(), lambda store: store.create(there, now=NOW)) is SAVED
    assert on("awaiting", backend(), lambda store: store.load(there.key, now=NOW)) == there


@pytest.mark.parametrize("face", FACES)
def test_a_closed_store_says_so(redis_server: Server, face: str) -> None:
    backend = RedisStore.from_url(redis_server.url, outage=PATIENT)
    sessions = backend.blocking() if face == "blocking" else backend.awaiting()

    async def closed() -> None:
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(UsageError, match="closed"):
            await sessions.load("key", now=NOW)

    asyncio.run(closed())


def test_several_event_loops_use_one_store(redis_server: Server, prefix: str) -> None:
    backend = RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix)
    there = record()

    async def one_by_one(work: Any) -> Any:
        try:
            return await work
        finally:
            # Its connections are closed with the loop; the store is not.
            await backend.awaiting()._client._line().pool.disconnect()  # type: ignore[attr-defined]  # the real client

    assert asyncio.run(one_by_one(backend.awaiting().create(there, now=NOW))) is SAVED
    for _ in range(3):
        assert asyncio.run(one_by_one(backend.awaiting().load(there.key, now=NOW))) == there


# ----------------------------------------------------------------------------------------------- commands and scripts


def ticket(session: Any) -> Ticket:
    return Ticket(session._record.key, session._verifier)


def test_commands_per_request(redis_server: Server, backend: RedisStore) -> None:
    sessions = SessionManager(backend)
    run_now(
        backend.blocking().check()
    )  # the first command of a client is preceded by a look at the server's version
    first = sessions.session()

    def untouched() -> None:
        assert sessions.commit(sessions.session(ticket(first))) is CookieAction.NONE

    def first_save() -> None:
        first["n"] = 1
        sessions.commit(first)

    def read() -> None:
        session = sessions.session(ticket(first))
        assert session["n"] >= 1
        sessions.commit(session)

    def write() -> None:
        session = sessions.session(ticket(first))
        session["n"] += 1
        sessions.commit(session)

    def log_in() -> None:
        session = sessions.session(ticket(first))
        session.login("ada")
        sessions.commit(session)

    counted: dict[str, dict[str, int]] = {}
    for request in (first_save, untouched, read, write, log_in):
        with calls(redis_server, counted.setdefault(request.__name__, {})):
            request()
    assert counted == {
        "first_save": {"evalsha": 1} | counted["first_save"],
        "untouched": {},
        "read": {"get": 1},
        "write": {"get": 1, "evalsha": 1} | counted["write"],
        "log_in": {"get": 1, "evalsha": 3} | counted["log_in"],
    }
    totals = {name: sum(numbers.values()) for name, numbers in counted.items()}
    assert totals["first_save"] <= 2
    assert totals["write"] <= 3  # one more where the server had not got the script yet
    assert totals["log_in"] <= 4 + 3


@pytest.mark.parametrize("face", FACES)
def test_a_script_flush_is_not_noticed(redis_server: Server, prefix: str, face: str, client: Any) -> None:
    async def work(store: RedisSessions) -> None:
        old = record()
        assert await store.create(old, now=NOW) is SAVED
        for _ in range(3):
            client.script_flush()
            new = after(old)
            assert await store.replace(new, expected=old.version, now=NOW) is SAVED
            old = new
        client.script_flush()
        assert await store.delete(old.key, now=NOW, token="t")

    on(face, RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix), work)


def test_a_script_flush_among_many_is_not_noticed(redis_server: Server, prefix: str, client: Any) -> None:
    async def work(store: RedisSessions) -> None:
        records = [record() for _ in range(50)]
        client.script_flush()
        assert set(await asyncio.gather(*(store.create(r, now=NOW) for r in records))) == {SAVED}
        assert await asyncio.gather(*(store.load(r.key, now=NOW) for r in records)) == records

    on("awaiting", RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix), work)


def test_the_commands_of_one_turn_leave_together(redis_server: Server, prefix: str, client: Any) -> None:
    async def work(store: RedisSessions) -> None:
        await store.check()
        before = client.info("stats")["total_reads_processed"]
        await asyncio.gather(*(store.load(f"key{n}", now=NOW) for n in range(100)))
        # One read of the socket by the server for all, and one for the INFO.
        assert client.info("stats")["total_reads_processed"] - before <= 3

    on("awaiting", RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix), work)


# ------------------------------------------------------------------------------------------------------- time to live


def test_the_server_collects_garbage_later_than_the_deadline(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    there = record()
    run_now(store.create(there, now=NOW))
    key = f"{prefix}s:{there.key}"
    hour = 3_600_000
    assert 2 * hour - 60_000 < client.pttl(key) <= 2 * hour
    assert run_now(store.touch(there.key, deadline=NOW + 7_200, seen_at=NOW, expected=there.version, now=NOW))
    assert 3 * hour - 60_000 < client.pttl(key) <= 3 * hour
    run_now(store.replace(after(there, deadline=NOW + 10_800), expected=there.version, now=NOW))
    assert 4 * hour - 60_000 < client.pttl(key) <= 4 * hour
    run_now(store.delete(there.key, now=NOW, token="t"))
    assert TOMBSTONE * 1000 < client.pttl(key) <= hour


def test_what_was_found_to_be_over_is_deleted(store: RedisSessions, client: Any, prefix: str) -> None:
    one, two = record(), record()
    for there in (one, two):
        run_now(store.create(there, now=NOW))
    run_now(store.delete(two.key, now=NOW, token="t"))
    for there, over, said in ((one, one.deadline, Expired(one.key)), (two, NOW + TOMBSTONE, None)):
        assert client.exists(f"{prefix}s:{there.key}")
        assert run_now(store.load(there.key, now=over)) == said
        assert not client.exists(f"{prefix}s:{there.key}")


def test_index_and_fence_go_by_themselves(store: RedisSessions, client: Any, prefix: str) -> None:
    run_now(store.admit(login("ada"), expected=None, terms=Terms(), now=NOW))
    run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
    index, beside, fence = (client.pttl(key) for key in user_keys(prefix, "ada"))
    day = 86_400_000
    assert day < index <= day + 3_600_000
    assert day < beside <= day + 3_600_000
    assert day - 60_000 < fence <= day


def test_a_touch_leaves_the_rest_where_it_is(store: RedisSessions, client: Any, prefix: str) -> None:
    there = record(data=b"x" * 1000)
    run_now(store.create(there, now=NOW))
    before = client.get(f"{prefix}s:{there.key}")
    run_now(store.touch(there.key, deadline=NOW + 9_000, seen_at=NOW + 5, expected=there.version, now=NOW))
    now = client.get(f"{prefix}s:{there.key}")
    assert now[1:17] == pack(">dd", NOW + 9_000, NOW + 5)
    assert (now[:1], now[17:]) == (before[:1], before[17:])


# --------------------------------------------------------------------------------------------------- index and fence


def entry(client: Any, prefix: str, user: str, key: str) -> bytes | None:
    value: bytes | None = client.hget(user_keys(prefix, user)[1], key)
    return value


def test_a_logout_leaves_the_entry_and_a_list_heals_it(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    there = login("ada")
    run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    run_now(store.delete(there.key, now=NOW, token="t"))
    assert entry(client, prefix, "ada", there.key)
    assert run_now(store.of_user("ada", now=NOW)).records == []
    assert entry(client, prefix, "ada", there.key) is None
    assert not client.exists(*user_keys(prefix, "ada"))


def aged(raw_entry: bytes, seconds: float) -> bytes:
    written_us = unpack(">d", raw_entry[1:9])[0] - seconds * 1e6
    return raw_entry[:1] + pack(">d", written_us) + raw_entry[9:]


def test_an_entry_whose_record_is_yet_to_be_written_is_not_healed_away(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    there = login("ada")
    run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    client.delete(f"{prefix}s:{there.key}")  # as though it were yet to be written
    assert run_now(store.of_user("ada", now=NOW)).records == []
    written = entry(client, prefix, "ada", there.key)
    assert written is not None
    client.hset(user_keys(prefix, "ada")[1], there.key, aged(written, 61))
    assert run_now(store.of_user("ada", now=NOW)).records == []
    assert entry(client, prefix, "ada", there.key) is None


def test_entries_long_past_their_absolute_deadline_are_trimmed_by_a_login(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    old = [login("ada", deadline=NOW + 1, ends_at=NOW + 1) for _ in range(5)]
    for there in old:
        run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    run_now(store.admit(login("ada", ends_at=NOW + 90_000), expected=None, terms=Terms(), now=NOW + 3_700))
    assert client.hlen(user_keys(prefix, "ada")[1]) == client.zcard(user_keys(prefix, "ada")[0]) == 1


def test_a_login_at_the_limit_heals_what_it_finds_dead(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    for _ in range(10):
        there = login("ada")
        assert run_now(store.admit(there, expected=None, terms=Terms(limit=2, evict=False), now=NOW)) is SAVED
        run_now(store.delete(there.key, now=NOW, token="t"))
    assert client.hlen(user_keys(prefix, "ada")[1]) <= 2


def test_whom_a_broken_off_eviction_left_over_the_next_login_ends(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    one, two = login("ada"), login("ada")
    for there in (one, two):
        run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    chosen = entry(client, prefix, "ada", one.key)
    assert chosen is not None
    client.hset(user_keys(prefix, "ada")[1], one.key, b"v" + chosen[1:])
    assert run_now(store.admit(login("ada"), expected=None, terms=Terms(limit=2), now=NOW)) is SAVED
    assert isinstance(run_now(store.load(one.key, now=NOW)), Ended)
    assert isinstance(run_now(store.load(two.key, now=NOW)), Record)
    assert entry(client, prefix, "ada", one.key) is None


@pytest.mark.parametrize("expected", [True, False])
def test_a_login_that_is_repeated_after_a_fence_is_not_left_there(
    store: RedisSessions, expected: bool
) -> None:
    """It was written, its answer lost, and the fence raised before it was sent again; `keep` spared it from being ended."""
    old = record()
    run_now(store.create(old, now=NOW))
    there = after(old, user_id="ada", authenticated_at=NOW, epoch=1) if expected else login("ada")
    over = old.version if expected else None
    terms = Terms(stopwatch=lambda: 60.0)
    assert run_now(store.admit(there, expected=over, terms=terms, now=NOW)) is SAVED
    run_now(store.end_user("ada", keep=there.key, now=NOW, token="t"))
    assert run_now(store.admit(there, expected=over, terms=terms, now=NOW)) is FENCED
    assert isinstance(run_now(store.load(there.key, now=NOW)), Ended)


def test_a_refused_login_gives_back_what_was_there_to_the_last_octet(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    old = record(data=b"cart")
    run_now(store.create(old, now=NOW))
    before = client.get(f"{prefix}s:{old.key}")
    run_now(store.end_user("ada", keep=None, now=NOW, token="t"))
    late = after(old, user_id="ada", authenticated_at=NOW, epoch=1, deadline=NOW + 9_000)
    terms = Terms(stopwatch=lambda: 5.0)
    assert run_now(store.admit(late, expected=old.version, terms=terms, now=NOW)) is FENCED
    assert client.get(f"{prefix}s:{old.key}") == before
    assert client.pttl(f"{prefix}s:{old.key}") <= 7_200_000


def test_full_takes_the_login_back(store: RedisSessions, client: Any, prefix: str) -> None:
    run_now(store.admit(login("ada"), expected=None, terms=Terms(), now=NOW))
    there = login("ada")
    terms = Terms(limit=1, evict=False)
    assert run_now(store.admit(there, expected=None, terms=terms, now=NOW)) is FULL
    assert not client.exists(f"{prefix}s:{there.key}")


def test_a_users_keys_are_in_one_slot_whatever_the_user_is_called(prefix: str) -> None:
    for user in ("", "ada", "{}", "}{", "a{b}c", "☂"):
        tags = {key.partition("{")[2].partition("}")[0] for key in user_keys(prefix, user)}
        assert len(tags) == 1
        assert len(tags.pop()) == 32


def test_an_index_of_somebody_elses_is_a_store_error(store: RedisSessions, client: Any, prefix: str) -> None:
    _, beside, _ = user_keys(prefix, "ada")
    client.hset(beside, "key", b"short")
    with pytest.raises(StoreError, match="index"):
        run_now(store.of_user("ada", now=NOW))
    client.delete(beside)
    client.set(beside, "text")
    with pytest.raises(StoreError):
        run_now(store.of_user("ada", now=NOW))


def test_a_cursor_of_somebody_elses_is_refused(store: RedisSessions) -> None:
    with pytest.raises(UsageError, match="cursor"):
        run_now(store.of_user("ada", now=NOW, cursor="garbage"))


def test_a_login_of_nobody_is_an_ordinary_write(store: RedisSessions) -> None:
    there = record()
    assert run_now(store.admit(there, expected=None, terms=Terms(), now=NOW)) is SAVED
    assert run_now(store.admit(after(there), expected=there.version, terms=Terms(), now=NOW)) is SAVED
    late = store.admit(after(there), expected=there.version, terms=Terms(), now=NOW)
    assert isinstance(run_now(late), Changed)


# ------------------------------------------------------------------------------------- hostile values (checklist 68, 111)


def packed(**changes: Any) -> bytes:
    """What is packed of a record, sound but for `changes`."""
    fields: dict[str, Any] = dict(
        format=1, versions=("v",), verifier=bytes(32), data=b"0", created_at=NOW, epoch=0, rotated_at=None,
        authenticated_at=None, login=None, renewal=None, lifetime=None,
        era=0, pending=None,
    )  # fmt: skip
    return msgspec.msgpack.encode(list((fields | changes).values()))


def value(
    rest: bytes | None = None,
    *,
    times: tuple[float, float, float] = (NOW + 3_600, NOW, NOW + 86_400),
    version: bytes = b"v",
    user: bytes = b"ada",
    lengths: tuple[int, int] | None = None,
) -> bytes:
    head = b"R" + pack(">dddHH", *times, *(lengths or (len(version), len(user))))
    return head + version + user + (packed() if rest is None else rest)


INF, NAN = float("inf"), float("nan")
LATER = NOW + 99
HOSTILE = [
    *(
        b"garbage",
        b"R",
        b"E",
        b"Eshort",
        b"R" + bytes(10),
        pickle.dumps(print),
        b"{}",
        bytes(100),
        b"X" * 500,
    ),
    *(
        value(times=times)
        for times in ((INF, NOW, INF), (LATER, NOW, INF), (LATER, NAN, LATER), (LATER, INF, LATER))
    ),
    *(value(times=times) for times in ((LATER, NOW, NOW + 1), (1.7e12, NOW, 1.8e12))),
    *(value(version=version) for version in (b"", b"other", b"\xff")),
    *(value(lengths=lengths) for lengths in ((60_000, 3), (1, 60_000), (1, 0xFFFF))),
    *(value(rest) for rest in (b"", b"text", b"\xc0", b"\x91" * 100_000, packed()[:-1], packed(versions=()))),
    *(
        value(packed(**{name: bad}))
        for name, bad in (("versions", (1,)), ("data", [1]), ("login", []), ("epoch", "1"))
    ),
    *(value(packed(created_at=bad)) for bad in (NAN, INF, "soon", None)),
    value(user=b"\xff"),
    b"E" + pack(">d", INF) + b"t",
    b"E" + pack(">d", NOW) + b"\xff",
]


@pytest.mark.parametrize("bad", HOSTILE, ids=lambda bad: repr(bad[:12]))
def test_68_111_what_is_no_record_is_corrupt(
    store: RedisSessions, client: Any, prefix: str, bad: bytes
) -> None:
    client.set(f"{prefix}s:key", bad)
    with pytest.raises(CorruptRecord, match="key"):
        run_now(store.load("key", now=NOW))
    assert client.get(f"{prefix}s:key") == bad  # kept for inspection


def test_68_the_value_that_hostile_ones_are_made_from_is_sound(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    client.set(f"{prefix}s:key", value())
    there = run_now(store.load("key", now=NOW))
    assert isinstance(there, Record)
    assert encoded(there) == value()


@pytest.mark.parametrize("bad", HOSTILE, ids=lambda bad: repr(bad[:12]))
def test_what_is_no_record_can_be_ended_and_is_never_written_over(
    store: RedisSessions, client: Any, prefix: str, bad: bytes
) -> None:
    client.set(f"{prefix}s:key", bad)
    over = record(key="key")
    try:
        outcome: object = run_now(store.replace(over, expected="no such version", now=NOW))
    except (CorruptRecord, StoreError):
        outcome = GONE
    assert outcome is GONE
    if bad[:1] != b"E":
        assert run_now(store.delete("key", now=NOW, token="t"))
        assert run_now(store.load("key", now=NOW)) == Ended("key", "t", NOW)


def test_a_corrupt_record_does_not_spoil_the_list(store: RedisSessions, client: Any, prefix: str) -> None:
    one, two = login("ada"), login("ada")
    for there in (one, two):
        run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    client.set(f"{prefix}s:{one.key}", b"garbage")
    assert run_now(store.of_user("ada", now=NOW)).records == [two]
    assert run_now(store.end_user("ada", keep=None, now=NOW, token="t")).count == 1


@pytest.mark.parametrize("face", FACES)
def test_a_key_of_another_kind_is_that_session_only(
    redis_server: Server, prefix: str, face: str, client: Any
) -> None:
    client.rpush(f"{prefix}s:key", "a list")

    async def work(store: RedisSessions) -> None:
        there = record()
        with pytest.raises(CorruptRecord):
            await store.load("key", now=NOW)
        with pytest.raises(CorruptRecord):
            await store.create(record(key="key"), now=NOW)
        assert await store.create(there, now=NOW) is SAVED
        assert await store.load(there.key, now=NOW) == there

    on(face, RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix), work)


def test_a_newer_releases_record_is_read(store: RedisSessions, client: Any, prefix: str) -> None:
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(packed(format=9)), {"something": "new"}])
    client.set(f"{prefix}s:key", value(newer))
    there = run_now(store.load("key", now=NOW))
    assert isinstance(there, Record)
    assert there.format == 9


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "bad",
    [
        {"key": "\ud800"},
        {"user_id": "\ud800"},
        {"deadline": NAN, "ends_at": NAN},
        {"user_id": 2**70},
        {"user_id": "x" * 70_000},
    ],
)
def test_a_value_that_cannot_be_kept_is_a_store_error(
    redis_server: Server, prefix: str, face: str, bad: dict[str, Any]
) -> None:
    async def work(store: RedisSessions) -> None:
        with pytest.raises(StoreError) as caught:
            await store.create(msgspec.structs.replace(record(), **bad), now=NOW)
        assert caught.value.__cause__ is not None
        assert await store.count(now=NOW) == 0

    on(face, RedisStore.from_url(redis_server.url, outage=PATIENT, prefix=prefix), work)


# ------------------------------------------------------------------------------------------------------ upkeep, memory


def test_sweep_and_count_walk_through_many(store: RedisSessions, client: Any, prefix: str) -> None:
    with client.pipeline(transaction=False) as pipe:
        for n in range(3_000):
            there = record(deadline=NOW + (1 if n % 3 else 100))
            pipe.set(f"{prefix}s:{there.key}", encoded(there))
        pipe.execute()
    assert run_now(store.count(now=NOW + 1)) == 1_000
    assert run_now(store.sweep(now=NOW + 1, limit=1_500)) == 1_500
    assert run_now(store.sweep(now=NOW + 1)) == 500
    assert run_now(store.count(now=NOW)) == 1_000


def test_a_sweep_takes_out_of_the_indexes_what_is_gone(
    store: RedisSessions, client: Any, prefix: str
) -> None:
    """Else an index would grow with every session left alone, until its absolute deadline."""
    index, beside, _ = user_keys(prefix, "ada")
    idle, young, living = login("ada", deadline=NOW + 1), login("ada", deadline=NOW + 1), login("ada")
    for there in (idle, young, living):
        run_now(store.admit(there, expected=None, terms=Terms(), now=NOW))
    run_now(store.admit(login("eve", deadline=NOW + 1), expected=None, terms=Terms(), now=NOW))
    moved = login("bob")  # what another user's index still names
    run_now(store.admit(moved, expected=None, terms=Terms(), now=NOW))
    for key, written in client.hgetall(beside).items():
        if key.decode() != young.key:
            client.hset(beside, key, aged(written, 61))
    client.hset(beside, moved.key, aged(entry(client, prefix, "bob", moved.key) or b"", 61))
    client.zadd(index, {moved.key: NOW + 86_400})
    assert run_now(store.sweep(now=NOW + 2, limit=2)) == 2  # records first, as many as may go
    assert client.hlen(beside) == 4
    assert run_now(store.sweep(now=NOW + 2)) == 1
    assert set(client.hkeys(beside)) == {young.key.encode(), living.key.encode()}
    assert set(client.zrange(index, 0, -1)) == set(client.hkeys(beside))
    assert entry(client, prefix, "bob", moved.key)
    assert [there.key for there in run_now(store.of_user("ada", now=NOW + 2)).records] == [living.key]


@pytest.fixture
def full(redis_server: Server, client: Any) -> Iterator[Callable[[], None]]:
    def fill() -> None:
        client.config_set("maxmemory", "1mb")

    yield fill
    client.config_set("maxmemory", "0")


def test_out_of_memory_a_write_fails_and_a_logout_works(
    store: RedisSessions, full: Callable[[], None]
) -> None:
    there, other = record(), login("ada")
    run_now(store.create(there, now=NOW))
    run_now(store.admit(other, expected=None, terms=Terms(), now=NOW))
    full()
    with pytest.raises(StoreUnavailable, match="memory"):
        run_now(store.replace(after(there), expected=there.version, now=NOW))
    assert run_now(store.delete(there.key, now=NOW, token="t"))
    assert run_now(store.load(there.key, now=NOW)) is None  # no room for a tombstone
    assert run_now(store.end_one("ada", other.key, now=NOW, token="t"))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_check_warns_of_a_server_that_evicts(
    store: RedisSessions, client: Any, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.config_set("maxmemory-policy", policy)
    try:
        with caplog.at_level(logging.WARNING, "coatcheck"):
            for _ in range(3):
                run_now(store.check())
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert [policy in line.getMessage() for line in caplog.records] == [True]


def test_check_is_quiet_otherwise(store: RedisSessions, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "coatcheck"):
        run_now(store.check())
    assert caplog.records == []


# ------------------------------------------------------------------------------- the application's own client and settings


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}, {"max_connections": 1}])
def test_the_applications_own_client(redis_server: Server, prefix: str, options: dict[str, Any]) -> None:
    async def work(store: RedisSessions) -> None:
        there = record(data=b"\xff\x00")
        new = after(there)
        assert await store.create(there, now=NOW) is SAVED
        assert await store.load(there.key, now=NOW) == there
        assert await store.replace(new, expected=there.version, now=NOW) is SAVED
        assert await store.delete(there.key, now=NOW, token="t")
        await store.check()
        assert await store.sweep(now=NOW + TOMBSTONE) == 0

    with raw(redis_server, **options) as client:
        on("blocking", RedisStore(client, prefix=prefix), work)
        assert client.ping()  # not closed with the store

    async def awaiting() -> None:
        client = redis.asyncio.Redis(port=redis_server.port, **options)
        backend = RedisStore(client, prefix=prefix)
        await work(backend.awaiting())
        await backend.aclose()
        assert await client.ping()
        await client.aclose()

    asyncio.run(awaiting())


def test_limits_need_no_options() -> None:
    """`Options` with a limit is accepted: the store has a by-user index."""
    with RedisStore.from_url("redis://localhost:1/0") as backend:
        SessionManager(backend, options=Options(max_sessions=3))


def test_an_older_releases_record_is_read(store: RedisSessions, client: Any, prefix: str) -> None:
    """One from before there were eras and pending logins."""
    client.set(f"{prefix}s:key", value(msgspec.msgpack.encode(msgspec.msgpack.decode(packed())[:-2])))
    there = run_now(store.load("key", now=NOW))
    assert isinstance(there, Record)
    assert (there.era, there.pending) == (0, None)
