"""The Redis store over a Cluster of six nodes and behind Sentinel, and through their failovers: all slow."""

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis
import redis.asyncio

from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Notice, Terms
from coatcheck.core.record import Record
from coatcheck.errors import ReplyLost, StoreUnavailable, WrongFace
from coatcheck.stores._redis_awaiting import Awaiting
from coatcheck.stores._redis_cluster import AwaitingCluster
from coatcheck.stores.redis import RedisSessions, RedisStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import RedisGroup, Server, redis_cluster, redis_sentinel
from servers.redis import cli
from tests.patience import PATIENT
from tests.stores.redis_help import ACL, FACES, NOW, TRANSPORTS, Transport, after, fresh, login, on, record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as group:
        yield group


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_sentinel(tmp_path_factory.mktemp("redis-sentinel")) as group:
        yield group


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_over_a_cluster(sentence: Sentence, cluster: RedisGroup, transport: Transport) -> None:
    prefix = fresh()
    StoreContract(
        lambda: RedisStore.from_url(cluster.url, outage=PATIENT, prefix=prefix, transport=transport)
    ).run(sentence)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_behind_sentinel(sentence: Sentence, sentinel: RedisGroup, transport: Transport) -> None:
    prefix = fresh()
    StoreContract(
        lambda: RedisStore.from_url(sentinel.url, outage=PATIENT, prefix=prefix, transport=transport)
    ).run(sentence)


QUICK = Outage(connect_timeout=0.5, command_timeout=0.5, break_for=0.2)


@pytest.mark.parametrize("durability", ["normal", "replicated"])
@pytest.mark.parametrize("face", FACES)
def test_a_node_of_the_cluster_is_lost_and_its_replica_takes_over(
    tmp_path: Path, face: str, durability: Literal["normal", "replicated"]
) -> None:
    with redis_cluster(tmp_path) as group:
        prefix = fresh()

        async def work(store: RedisSessions) -> None:
            records = [login("ada") for _ in range(30)]
            for there in records:
                assert await store.admit(there, expected=None, terms=Terms(), now=NOW) is SAVED
            victim = group.primary_of(f"{prefix}s:{records[0].key}")
            if durability == "normal":
                _until_replicated(group)
            victim.kill()
            for there in records:  # the other nodes too refuse for a moment
                await until_found(store, there)
            if durability == "replicated":
                # The shard has no replica any more: it takes nothing that it could not keep.
                with pytest.raises(ReplyLost):
                    await store.delete(records[0].key, now=NOW, token="t")
                return
            assert (await store.end_user("ada", keep=None, now=NOW, token="t")).count == 30
            assert await store.count(now=NOW) == 0

        backend = RedisStore.from_url(group.url, prefix=prefix, outage=QUICK, durability=durability)
        on(face, backend, work)


def _until_replicated(group: RedisGroup) -> None:
    """What was acknowledged is with the replicas: a failover takes nothing with it."""
    for primary in group.primaries():
        offset = _offset(r"master_repl_offset:", primary)
        deadline = time.monotonic() + 10
        while _offset(r"slave0:.*offset=", primary) < offset:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _offset(what: str, primary: Server) -> int:
    found = re.search(what + r"(\d+)", cli(primary, "INFO", "replication"))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("face", FACES)
def test_slots_that_move_are_followed(cluster: RedisGroup, face: str) -> None:
    prefix = fresh()

    async def work(store: RedisSessions) -> None:
        records = [record() for _ in range(5)]
        for there in records:
            assert await store.create(there, now=NOW) is SAVED
        moving = records[0]
        key = f"{prefix}s:{moving.key}"
        slot = cli(cluster.servers[0], "CLUSTER", "KEYSLOT", key)
        source = cluster.primary_of(key)
        target = next(node for node in cluster.primaries() if node is not source)
        ids = {node.port: cli(node, "CLUSTER", "MYID") for node in (source, target)}
        cli(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        cli(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        assert await store.load(moving.key, now=NOW) == moving  # still here
        cli(source, "MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
        assert await store.load(moving.key, now=NOW) == moving  # already there
        new = after(moving)
        assert await store.replace(new, expected=moving.version, now=NOW) is SAVED
        for node in cluster.primaries():
            cli(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
        assert await store.load(moving.key, now=NOW) == new
        assert await store.delete(moving.key, now=NOW, token="t")
        for there in records[1:]:
            assert await store.load(there.key, now=NOW) == there

    on(face, RedisStore.from_url(cluster.url, outage=PATIENT, prefix=prefix), work)


@pytest.mark.parametrize("face", FACES)
def test_a_watch_hears_of_ends_on_every_node(cluster: RedisGroup, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        heard: list[Notice] = []
        stop = store.watch(heard.append)
        await until(store, lambda: bool(heard))
        records = [record() for _ in range(12)]
        for there in records:
            await store.create(there, now=NOW)
            await store.delete(there.key, now=NOW, token="t")
        keys = {there.key for there in records}
        await until(store, lambda: {notice.key for notice in heard if notice.kind == "ended"} == keys)
        stop()

    on(face, RedisStore.from_url(cluster.url, outage=PATIENT, prefix=fresh()), work)


def test_the_applications_own_cluster_client(cluster: RedisGroup) -> None:
    async def work(store: RedisSessions) -> None:
        there = login("ada")
        assert await store.admit(there, expected=None, terms=Terms(limit=1), now=NOW) is SAVED
        assert (await store.of_user("ada", now=NOW)).records == [there]
        await store.check()

    with redis.RedisCluster("127.0.0.1", cluster.servers[0].port) as client:
        on("blocking", RedisStore(client, prefix=fresh()), work)
        assert client.ping()
        with pytest.raises(WrongFace):
            RedisStore(client).awaiting()

    async def awaiting() -> None:
        async with redis.asyncio.RedisCluster("127.0.0.1", cluster.servers[0].port) as client:
            backend = RedisStore(client, prefix=fresh())
            await work(backend.awaiting())
            await backend.aclose()
            assert await client.ping()

    asyncio.run(awaiting())


@pytest.mark.parametrize("face", FACES)
def test_an_acl_user_of_a_cluster_needs_no_more_than_the_page_says(cluster: RedisGroup, face: str) -> None:
    rule = ["on", ">pw", "resetchannels", "&coatcheck:*", "~coatcheck:*", "-@all", *ACL.split()]
    for node in cluster.servers:
        cli(node, "ACL", "SETUSER", "web", *rule, "+info", "+wait", "+cluster|slots", "+command")

    async def work(store: RedisSessions) -> None:
        there = login("ada")
        assert await store.admit(there, expected=None, terms=Terms(limit=1), now=NOW) is SAVED
        assert (await store.end_user("ada", keep=None, now=NOW, token="t")).count == 1
        await store.check()

    url = cluster.url.replace("://", "://web:pw@")
    outage = Outage(command_timeout=5)
    backend = RedisStore.from_url(
        url, durability="replicated", wait_timeout=5, outage=outage, prefix=f"coatcheck:{fresh()}"
    )
    on(face, backend, work)


def test_cancelled_callers_mislead_no_reply_of_a_cluster(cluster: RedisGroup) -> None:
    async def work(store: RedisSessions) -> None:
        records = [record(data=b"%d" % n) for n in range(50)]
        for there in records:
            assert await store.create(there, now=NOW) is SAVED
        luck, cancelled = random.Random(7), 0

        async def ask(n: int) -> None:
            found = await store.load(records[n].key, now=NOW)
            assert isinstance(found, Record)
            assert found.data == b"%d" % n

        while cancelled < 3_000:
            tasks = [asyncio.ensure_future(ask(luck.randrange(50))) for _ in range(100)]
            for _ in range(luck.randrange(6)):
                await asyncio.sleep(0)
            for task in luck.sample(tasks, 60):
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                cancelled += isinstance(outcome, asyncio.CancelledError)
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)

    on("awaiting", RedisStore.from_url(cluster.url, outage=PATIENT, prefix=fresh()), work)


@pytest.mark.parametrize("face", FACES)
def test_sentinels_put_the_replica_in_the_primarys_place(tmp_path: Path, face: str) -> None:
    with redis_sentinel(tmp_path) as group:

        async def work(store: RedisSessions) -> None:
            there = record()
            assert await store.create(there, now=NOW) is SAVED
            group.servers[0].kill()
            await until_found(store, there)
            new = after(there)
            assert await store.replace(new, expected=there.version, now=NOW) is SAVED
            assert await store.load(there.key, now=NOW) == new

        backend = RedisStore.from_url(group.url, prefix=fresh(), outage=QUICK, durability="normal")
        on(face, backend, work)


@pytest.mark.parametrize("face", FACES)
def test_a_primary_that_was_demoted_is_left_at_once(tmp_path: Path, face: str) -> None:
    with redis_sentinel(tmp_path) as group:

        async def work(store: RedisSessions) -> None:
            there = record()
            assert await store.create(there, now=NOW) is SAVED
            cli(group.sentinels[0], "SENTINEL", "FAILOVER", "mymaster")
            await until(store, lambda: group.servers[1] in group.primaries() and len(group.primaries()) == 1)
            last = there
            for _ in range(20):  # over connections that were made to what is a replica now
                new = after(last)
                await until_replaced(store, new, last.version)
                last = new
            assert await store.load(there.key, now=NOW) == last

        on(face, RedisStore.from_url(group.url, prefix=fresh(), outage=QUICK), work)


async def until_replaced(store: RedisSessions, new: Record, expected: str) -> None:
    while True:
        try:
            assert await store.replace(new, expected=expected, now=NOW) is SAVED
            return
        except StoreUnavailable:
            await pause(store)


async def until_found(store: RedisSessions, there: Record) -> None:
    """Load it as soon as somebody answers: a failover takes a while. It must be there then."""
    deadline = time.monotonic() + 40
    while True:
        try:
            assert await store.load(there.key, now=NOW) == there
            return
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await pause(store)


async def until(store: RedisSessions, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        await pause(store)


async def pause(store: RedisSessions) -> None:
    """A moment, in either face: there is nothing better to wait on."""
    if isinstance(store._client, (Awaiting, AwaitingCluster)):
        await asyncio.sleep(0.1)
    else:
        time.sleep(0.1)
