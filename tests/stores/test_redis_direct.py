"""The connection that an event loop has to itself (`_redis_direct`): what leaves together, how much may wait, and when it is
given up. What both transports promise is in the other tests of the Redis store.
"""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Record
from coatcheck.errors import ConfigurationError, ReplyLost, StoreError, StoreUnavailable
from coatcheck.stores import _redis_direct as direct
from coatcheck.stores.redis import RedisSessions, RedisStore
from servers import Server
from servers import redis as running
from servers.redis import cli
from tests.stores.redis_help import FACES, NOW, after, fresh, on, raw, record, talking

QUICK = Outage(connect_timeout=0.5, command_timeout=0.4, break_after=1000)


def store_at(port: int, **options: Any) -> RedisStore:
    return RedisStore.from_url(f"redis://127.0.0.1:{port}?protocol=3", outage=QUICK, **options)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One to be hurt, and no other test's."""
    with running(tmp_path / "redis") as server:
        yield server


# ------------------------------------------------------------------------------------------------ what leaves together


def test_the_commands_of_one_turn_leave_in_one_write(redis_server: Server) -> None:
    async def work(store: RedisSessions) -> None:
        await store.check()
        with raw(redis_server) as client:

            def reads() -> int:
                return int(client.info("stats")["total_reads_processed"])

            reads()
            own = -reads() + reads()  # what asking adds
            before = reads()
            await asyncio.gather(*(store.load(f"key{n}", now=NOW) for n in range(100)))
            assert reads() - before - own <= 2  # one, and the heartbeat of nobody else

    on("awaiting", RedisStore.from_url(redis_server.url, prefix=fresh()), work)


def test_one_connection_serves_a_loop(server: Server) -> None:
    async def work(store: RedisSessions) -> None:
        for _ in range(10):
            await asyncio.gather(*(store.load(f"key{n}", now=NOW) for n in range(50)))
        with raw(server) as client:
            assert len(client.client_list()) == 2  # and this one

    on("awaiting", RedisStore.from_url(server.url), work)


def test_replies_come_back_to_those_who_asked_however_the_octets_are_cut(redis_server: Server) -> None:
    sizes = (0, 1, 70_000, 5, 200_000, 31)

    async def work(store: RedisSessions) -> None:
        there = [record(data=b"%d" % n + b" " * sizes[n % len(sizes)]) for n in range(60)]
        assert await asyncio.gather(*(store.create(r, now=NOW) for r in there)) == [SAVED] * 60
        assert await asyncio.gather(*(store.load(r.key, now=NOW) for r in there)) == there

    on("awaiting", RedisStore.from_url(redis_server.url, prefix=fresh()), work)


# ---------------------------------------------------------------------------------------------- how much may wait


def test_what_waits_for_a_server_that_says_nothing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "WINDOW", 50)
    monkeypatch.setattr(direct, "MOST", 100)
    with talking(lambda asked: b"") as port:

        async def work(store: RedisSessions) -> None:
            asking: list[asyncio.Future[Any]] = []
            for _ in range(20):
                asking += [asyncio.ensure_future(store.load("key", now=NOW)) for _ in range(50)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            line: Any = store._client._line()  # type: ignore[attr-defined]  # the real client
            assert len(line._queue) <= 100
            outcomes = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable, ReplyLost}
            assert "wait to be sent already" in str(outcomes[-1])
            assert not line._queue

        on("awaiting", store_at(port), work)


def test_what_waited_for_room_leaves_when_there_is_some(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "WINDOW", 5)

    async def work(store: RedisSessions) -> None:
        there = [record() for _ in range(300)]

        async def one(n: int) -> None:
            for _ in range(n % 7):
                await asyncio.sleep(0)
            assert await store.create(there[n], now=NOW) is SAVED

        await asyncio.gather(*(one(n) for n in range(300)))
        assert await asyncio.gather(*(store.load(r.key, now=NOW) for r in there)) == there

    on("awaiting", RedisStore.from_url(redis_server.url, prefix=fresh()), work)


# -------------------------------------------------------------------------------------------------- when it is given up


NONSENSE: dict[str, bytes | None] = {
    "no RESP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "half a reply": b"$100\r\nabc",
    "nothing": b"",
    "the end": None,
    "a length below nothing": b"$-7\r\n",
    "an endless number": b":" + b"9" * 10_000,
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "BUSY": b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    "a number for a text": b":1\r\n",
    "a list for a text": b"*1\r\n$1\r\na\r\n",
    "an error in a list": b"*1\r\n-ERR nested\r\n",
    "a truth for a text": b"#t\r\n",
    "a map for a text": b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("what", NONSENSE)
def test_an_answer_that_is_none_is_a_typed_error_in_time(what: str, face: str) -> None:
    with talking(lambda asked: NONSENSE[what]) as port:

        async def work(store: RedisSessions) -> None:
            began = time.monotonic()
            with pytest.raises(StoreError):
                await store.load("key", now=NOW)
            if what not in ("a number for a text", "a list for a text"):  # so a write may be answered
                with pytest.raises(StoreError):
                    await store.replace(after(record()), expected="1", now=NOW)
            assert time.monotonic() - began < 4  # each is tried twice at most, in half a second

        on(face, store_at(port), work)


def test_news_that_nobody_asked_for_is_no_reply(redis_server: Server) -> None:
    push = b">2\r\n$4\r\nnews\r\n$1\r\na\r\n"
    with talking(lambda asked: push + b"$-1\r\n" + push) as port:

        async def work(store: RedisSessions) -> None:
            for _ in range(3):
                assert await store.load("key", now=NOW) is None

        on("awaiting", store_at(port), work)


def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    connections = []

    def answer(asked: bytes) -> bytes:
        connections.append(threading.current_thread())
        return b"$-1\r\n$-1\r\n"

    with talking(answer) as port:

        async def work(store: RedisSessions) -> None:
            for _ in range(3):
                assert await store.load("key", now=NOW) is None

        on("awaiting", store_at(port), work)
    assert len(set(connections)) == 3  # never the same again


def test_replies_that_have_moved_are_noticed_under_load(redis_server: Server) -> None:
    """A doubled reply while others are under way: every later one would be its neighbour's for as long as the load lasts."""
    doubled = threading.Event()
    prefix = fresh()
    with redis_behind(redis_server, doubled) as port:

        async def work(store: RedisSessions) -> None:
            there = [record(data=b'{"n":%d}' % n) for n in range(20)]
            assert await asyncio.gather(*(store.create(r, now=NOW) for r in there)) == [SAVED] * 20
            loop, wrong, luck = asyncio.get_running_loop(), list[float](), random.Random(7)
            until = loop.time() + 3

            async def user(mine: Record) -> None:
                while loop.time() < until:
                    await asyncio.sleep(luck.uniform(0, 0.005))
                    try:
                        found = await store.load(mine.key, now=NOW)
                    except StoreError:  # what it was given is no record
                        found = None
                    if found != mine:
                        wrong.append(loop.time())

            users = [asyncio.ensure_future(user(r)) for r in there]
            await asyncio.sleep(0.2)
            doubled.set()
            began = loop.time()
            await asyncio.gather(*users)
            assert wrong, "the fault did not come through"
            assert max(wrong) < began + 0.4  # QUICK's time-out
            assert await asyncio.gather(*(store.load(r.key, now=NOW) for r in there)) == there

        on("awaiting", store_at(port, prefix=prefix), work)


@contextmanager
def redis_behind(server: Server, doubled: threading.Event) -> Iterator[int]:
    """A port before a real server that says one reply twice when it is told to."""
    links: dict[threading.Thread, socket.socket] = {}
    never = threading.Event()

    def answer(asked: bytes) -> bytes:
        me = threading.current_thread()
        if me not in links:
            links[me] = socket.create_connection(("127.0.0.1", server.port))
            links[me].sendall(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
            links[me].recv(65_536)
        links[me].sendall(asked)
        never.wait(0.005)  # so that more is asked meanwhile, and there is no moment in which nothing is
        said = links[me].recv(1_000_000)
        if doubled.is_set() and said.startswith(b"$"):
            doubled.clear()
            first = said.index(b"\r\n") + 4 + int(said[1 : said.index(b"\r\n")])
            return said[:first] + said
        return said

    try:
        with talking(answer) as port:
            yield port
    finally:
        for link in links.values():
            link.close()


def test_a_connection_that_the_server_closes_while_nothing_is_asked_is_not_missed(server: Server) -> None:
    told: list[str] = []

    async def work(store: RedisSessions) -> None:
        for _ in range(3):
            assert await store.load("key", now=NOW) is None
            cli(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.05)  # the loop hears of it
        assert told == ["connected"]

    on(
        "awaiting",
        RedisStore.from_url(server.url, on_connection=lambda event: told.append(event.state)),
        work,
    )


def test_a_primary_that_became_a_replica_is_left_for_another_connection(server: Server) -> None:
    async def work(store: RedisSessions) -> None:
        there = record()
        assert await store.create(there, now=NOW) is SAVED
        cli(server, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match=r"READONLY|read only"):
            await store.replace(after(there), expected=there.versions[0], now=NOW)
        cli(server, "REPLICAOF", "NO", "ONE")
        assert await store.replace(after(there), expected=there.versions[0], now=NOW) is SAVED

    on("awaiting", RedisStore.from_url(server.url, outage=QUICK), work)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_loop_that_stood_still_takes_a_reply_that_has_come_for_none_that_is_late(
    redis_server: Server, run: Callable[[Any], Any]
) -> None:
    async def work() -> None:
        backend = RedisStore.from_url(redis_server.url, prefix=fresh(), outage=QUICK)
        store, there = backend.awaiting(), record()
        assert await store.create(there, now=NOW) is SAVED
        writing = asyncio.ensure_future(store.replace(after(there), expected=there.versions[0], now=NOW))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has left
        threading.Event().wait(0.6)  # longer than QUICK has patience
        assert await writing is SAVED
        await backend.aclose()

    run(work())


def test_what_is_under_way_when_the_store_is_closed_comes_to_its_end(redis_server: Server) -> None:
    backend = RedisStore.from_url(redis_server.url, prefix=fresh())

    async def work() -> None:
        store = backend.awaiting()
        writes = [asyncio.ensure_future(store.create(record(), now=NOW)) for _ in range(20)]
        await asyncio.sleep(0)
        await backend.aclose()
        assert await asyncio.gather(*writes) == [SAVED] * 20

    asyncio.run(work())


def test_a_transport_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'transport=.*"hiredis" or "redis-py"'):
        RedisStore.from_url("redis://localhost", transport="carrier-pigeon")  # type: ignore[arg-type]
