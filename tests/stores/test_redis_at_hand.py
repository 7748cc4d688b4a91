"""Connections that the sync face of the Redis store keeps at hand."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis

from coatcheck import StoreUnavailable
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ReplyLost
from coatcheck.stores import _redis_client
from coatcheck.stores.redis import RedisSessions, RedisStore
from servers import Server
from servers import redis as own_redis
from tests.stores.redis_help import NOW, after, fresh, raw, record, talking
from tests.stores.test_redis_faults import proxied


def opened(server: Server, **options: Any) -> tuple[RedisStore, RedisSessions, Any]:
    """A store, its sync face, and redis-py's pool under it."""
    store = RedisStore.from_url(server.url, prefix=fresh(), **options)
    face = store.blocking()
    return store, face, face._client._pool  # type: ignore[attr-defined]  # the real client


def load(face: RedisSessions, key: str) -> Any:
    return run_now(face.load(key, now=NOW))


def test_one_thread_needs_one_connection_and_lends_it_once(redis_server: Server) -> None:
    store, face, pool = opened(redis_server)
    lent, lend = list[Any](), pool.get_connection

    def counted() -> Any:
        lent.append(lend())
        return lent[-1]

    pool.get_connection = counted
    with store:
        there = record()
        assert run_now(face.create(there, now=NOW)) is SAVED
        for _ in range(5):
            assert load(face, there.key) == there
            new = after(there)
            assert run_now(face.replace(new, expected=there.versions[0], now=NOW)) is SAVED
            there = new
        assert len(lent) == 1


def test_what_is_larger_than_one_reading_comes_whole(redis_server: Server) -> None:
    store, face, _ = opened(redis_server)
    with store:
        there = record(data=b'"' + b"x" * 900_000 + b'"')
        for _ in range(3):
            assert run_now(face.create(there, now=NOW)) is SAVED  # it is there already, and recognised
            assert load(face, there.key) == there


@pytest.mark.parametrize("retries", [0, 1])
def test_connections_that_the_server_closed_are_no_failure(redis_server: Server, retries: int) -> None:
    store, face, _ = opened(redis_server, outage=Outage(retries=retries))
    with store:
        there = record()
        assert run_now(face.create(there, now=NOW)) is SAVED
        for _ in range(2):
            raw(redis_server).client_kill_filter(_type="normal", skipme=True)
            assert load(face, there.key) == there
            raw(redis_server).client_kill_filter(_type="normal", skipme=True)
            new = after(there)
            assert run_now(face.replace(new, expected=there.versions[0], now=NOW)) is SAVED
            there = new


def test_all_of_many_that_the_server_closed_are_found_out(redis_server: Server) -> None:
    store, face, pool = opened(redis_server)
    barrier = threading.Barrier(6)
    found: list[Record] = []

    def visit() -> None:
        barrier.wait()
        found.extend(load(face, there.key) for _ in range(5))

    with store:
        there = record()
        assert run_now(face.create(there, now=NOW)) is SAVED
        for _ in range(2):
            threads = [threading.Thread(target=visit) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            raw(redis_server).client_kill_filter(_type="normal", skipme=True)
        assert found == [there] * 60
        assert all(load(face, there.key) == there for _ in range(8))
        assert pool._created_connections <= 6


def test_the_applications_own_pool_gets_its_connection_back_each_time(redis_server: Server) -> None:
    client = redis.Redis.from_url(redis_server.url, max_connections=1)
    face = RedisStore(client, prefix=fresh()).blocking()
    there = record()
    assert run_now(face.create(there, now=NOW)) is SAVED
    assert client.ping()
    assert load(face, there.key) == there
    client.close()


def test_a_server_that_does_not_answer_in_time_is_told(redis_server: Server) -> None:
    store, face, _ = opened(redis_server, outage=Outage(command_timeout=0.2, retries=0))
    with store:
        there = record()
        assert run_now(face.create(there, now=NOW)) is SAVED
        assert load(face, there.key) == there
        raw(redis_server).client_pause(600, all=True)
        with pytest.raises(StoreUnavailable, match=r"did not answer"):
            load(face, there.key)
        raw(redis_server).client_unpause()
        assert load(face, there.key) == there


def test_a_time_out_that_redis_py_changes_meanwhile_counts(redis_server: Server) -> None:
    """It does so when a server announces its maintenance."""
    store, face, pool = opened(redis_server, outage=Outage(command_timeout=5.0, retries=0))
    with store:
        there = record()
        assert run_now(face.create(there, now=NOW)) is SAVED
        (connection,) = pool._in_use_connections
        connection._sock.settimeout(0.2)
        assert load(face, there.key) == there
        began = monotonic()
        raw(redis_server).client_pause(600, all=True)
        with pytest.raises(StoreUnavailable, match=r"did not answer"):
            load(face, there.key)
        raw(redis_server).client_unpause()
        assert monotonic() - began < 4.0
        assert load(face, there.key) == there


def test_the_applications_own_connections_stay_as_redis_py_made_them(redis_server: Server) -> None:
    client = redis.Redis.from_url(redis_server.url, max_connections=1, socket_timeout=0.2)
    face = RedisStore(client, prefix=fresh(), outage=Outage(retries=0)).blocking()
    there = record()
    assert run_now(face.create(there, now=NOW)) is SAVED
    assert load(face, there.key) == there
    (connection,) = client.connection_pool._available_connections
    assert not os.get_blocking(connection._sock.fileno())  # to the system
    raw(redis_server).client_pause(600, all=True)
    with pytest.raises(StoreUnavailable, match=r"did not answer"):
        load(face, there.key)
    raw(redis_server).client_unpause()
    client.close()


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from coatcheck.core.outage import Outage
from coatcheck.core.stepping import run_now
from coatcheck.stores.redis import RedisStore
with RedisStore.from_url(sys.argv[1], prefix=sys.argv[2], outage=Outage(command_timeout=5.0)) as store:
    face = store.blocking()
    run_now(face.load("key", now=0.0))  # connected
    turns = []
    def others():
        while True:
            turns.append(1)
            gevent.sleep(0.01)
    others = gevent.spawn(others)
    gevent.sleep(0)
    before = len(turns)
    print("asks", flush=True)
    sys.stdin.readline()  # the server is paused
    run_now(face.load("key", now=0.0))
    assert len(turns) - before > 10, len(turns) - before
    others.kill()
"""


def test_others_have_their_turn_under_gevent_while_one_waits(redis_server: Server) -> None:
    command = [sys.executable, "-c", UNDER_GEVENT, redis_server.url, fresh()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        raw(redis_server).client_pause(600, all=True)
        process.communicate("now\n", timeout=20)
        assert process.returncode == 0


def test_a_reply_that_nobody_asked_for_reaches_nobody(redis_server: Server) -> None:
    doubled: list[str] = []

    def changed(answer: bytes) -> bytes:
        return answer + b"$7\r\nanother\r\n" if doubled and doubled.pop() else answer

    there = record()
    with proxied(redis_server, lambda asked: True, changed) as port:
        store = RedisStore.from_url(f"redis://127.0.0.1:{port}", prefix=fresh())
        face = store.blocking()
        with store:
            assert run_now(face.create(there, now=NOW)) is SAVED
            assert load(face, there.key) == there
            doubled.append("the next answer")
            assert load(face, there.key) == there
            for _ in range(3):
                assert load(face, there.key) == there
            doubled.append("the next answer")
            new = after(there)
            assert run_now(face.replace(new, expected=there.versions[0], now=NOW)) is SAVED
            assert load(face, there.key) == new
            assert not doubled


def test_a_reply_that_comes_late_and_twice_is_found_before_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a piece of its own, so that it is not there yet when the first one is read."""
    monkeypatch.setattr(_redis_client, "UNLOOKED", 0.0)
    with (
        talking(lambda asked: b"$-1\r\n", afterwards=b"$5\r\nwrong\r\n") as port,
        RedisStore.from_url(f"redis://127.0.0.1:{port}?protocol=3") as store,
    ):
        for _ in range(3):
            assert load(store.blocking(), "key") is None
            threading.Event().wait(0.1)  # the second one is on its way


def test_a_primary_that_became_a_replica_is_told_by_the_command_and_not_by_what_follows_it(
    tmp_path: Path,
) -> None:
    """A write is followed by WAIT, whose reply is read too before the connection is closed."""
    with own_redis(tmp_path) as server:
        outage = Outage(retries=0)
        store, face, _ = opened(server, outage=outage, durability="replicated", replicas=1, wait_timeout=0.01)
        with store:
            with pytest.raises(ReplyLost, match="0 of 1 replicas"):
                run_now(face.create(record(), now=NOW))
            raw(server).replicaof("127.0.0.1", 1)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match=r"(?i)read ?only"):
                    run_now(face.create(record(), now=NOW))
            raw(server).replicaof("NO", "ONE")
            with pytest.raises(ReplyLost, match="0 of 1 replicas"):
                run_now(face.create(record(), now=NOW))
