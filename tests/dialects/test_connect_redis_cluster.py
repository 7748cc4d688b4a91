"""connect-redis's sessions in a Redis Cluster and behind Sentinel, with the real connect-redis over `createCluster`: all slow."""

from collections.abc import Iterator
from typing import Any

import pytest

from coatcheck.dialects.express.connect_redis import ConnectRedis
from coatcheck.dialects.express.ports import SAVED
from servers import RedisGroup, redis_cluster, redis_sentinel
from servers.redis import cli
from tests.dialects.connect_redis_help import MINUTES, NOW, NOW_MS, change, end, fresh, signed, text
from tests.dialects.contract import SENTENCES, Sentence, keep, named
from tests.dialects.node import node_app
from tests.dialects.rig import FACES, Place, data, on
from tests.patience import PATIENT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as group:
        yield group


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_sentinel(tmp_path_factory.mktemp("redis-sentinel")) as group:
        yield group


def place(group: RedisGroup, **options: Any) -> Place:
    """A store under a prefix of its own. Time that passes is taken from the key, on the server that has it."""
    prefix = options.setdefault("prefix", fresh())

    def later(sid: str, seconds: float) -> None:
        server = group.servers[0] if group.sentinels else group.primary_of(prefix + sid)
        left = int(cli(server, "PTTL", prefix + sid))
        if left >= 0:
            cli(server, "PEXPIRE", prefix + sid, str(int(left - seconds * 1000)))

    return Place(
        open=lambda: ConnectRedis.from_url(group.url, outage=PATIENT, **options), later=later, slack=120
    )


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract_over_a_cluster(sentence: Sentence, face: str, cluster: RedisGroup) -> None:
    keep(sentence, face, place(cluster))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract_behind_sentinel(sentence: Sentence, face: str, sentinel: RedisGroup) -> None:
    keep(sentence, face, place(sentinel))


@pytest.mark.parametrize("face", FACES)
def test_node_over_a_cluster_and_python_share_their_sessions(face: str, cluster: RedisGroup) -> None:
    """Of twelve sessions each, some on every master: lists and `clear` find all, where connect-redis fails with CROSSSLOT."""
    there = place(cluster)
    nodes = [f"redis://127.0.0.1:{server.port}" for server in cluster.servers[:2]]
    options = {"prefix": there.open()._rules.prefix}
    session = {
        "secret": "squirrel",
        "resave": False,
        "saveUninitialized": False,
        "cookie": {"maxAge": MINUTES},
    }
    with node_app({"kind": "connect-redis", "nodes": nodes, "options": options}, session=session) as node:
        theirs = [node.run(["set", ["n"], n], now=NOW_MS) for n in range(12)]
        sids = [answer.body["id"] for answer in theirs]
        masters = {cluster.primary_of(options["prefix"] + sid).port for sid in sids}
        assert len(masters) == 3
        ours = [f"{n:032}" for n in range(12)]

        async def go_on(store: Any) -> None:
            for n, sid in enumerate(sids):
                assert data((await store.get(sid, now=NOW)).text) == {"n": n}
                assert await change(store, sid, n=n + 100) is SAVED
            for sid in ours:
                assert await store.create(sid, text(), expires=end(), now=NOW) is SAVED
            assert {*(await store.names(now=NOW)).sids} == {*sids, *ours}
            assert await store.length(now=NOW) == 24
            await store.check()

        on(face, there, go_on)
        assert [node.run(cookie=answer.cookie).data["n"] for answer in theirs] == list(range(100, 112))
        assert [node.run(cookie=signed(sid)).body["id"] for sid in ours] == ours
        on(face, there, lambda store: store.clear())
        assert [node.run(cookie=signed(sid)).data for sid in [*sids, *ours]] == [{}] * 24
