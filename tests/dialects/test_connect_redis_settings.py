"""How the store of connect-redis's sessions is set up: URLs, clients, options; what cannot be is refused, with the fix."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_redis import ConnectRedis, ConnectRedisSessions
from coatcheck.dialects.express.ports import SAVED, ExpressStore
from coatcheck.errors import (
    ConfigurationError,
    UsageError,
    WrongFace,
)
from servers import Server
from tests.dialects.connect_redis_help import fresh, place
from tests.dialects.rig import FACES, data, on
from tests.stores.redis_help import raw

NOW = 1_700_000_000.0
END = NOW + 600
TEXT = b'{"cookie":{"originalMaxAge":600000},"n":1}'
SID = "S" * 31 + "7"
on_both_faces = pytest.mark.parametrize("face", FACES)


def create(sid: str = SID, text: bytes = TEXT, **more: Any) -> Callable[[ExpressStore], Any]:
    return lambda store: store.create(sid, text, **{"expires": END, "now": NOW, **more})


def get(sid: str = SID) -> Callable[[ExpressStore], Any]:
    return lambda store: store.get(sid, now=NOW)


def test_around_the_applications_own_clients(redis_server: Server) -> None:
    prefix = fresh()
    mine = redis.Redis(port=redis_server.port, decode_responses=True)
    backend = ConnectRedis(mine, prefix=prefix)
    assert run_now(create()(backend.blocking())) is SAVED
    backend.close()
    assert mine.get(prefix + SID) == TEXT.decode()
    mine.close()

    async def within() -> None:
        theirs = redis.asyncio.Redis(port=redis_server.port, decode_responses=True)
        backend = ConnectRedis(theirs, prefix=prefix)
        read = await backend.awaiting().get(SID, now=NOW)
        assert read is not None
        assert data(read.text) == {"n": 1}
        await backend.aclose()
        assert await theirs.ping()
        await theirs.aclose()

    asyncio.run(within())


def test_the_wrong_face_is_refused_at_once() -> None:
    with pytest.raises(
        WrongFace, match=r"ConnectRedis around .* redis\.asyncio\.Redis, or use ConnectRedis\.from_url"
    ):
        ConnectRedis(redis.Redis(port=1)).awaiting()
    with pytest.raises(WrongFace, match=r"ConnectRedis around .* redis\.Redis"):
        ConnectRedis(redis.asyncio.Redis(port=1)).blocking()


@pytest.mark.parametrize(
    ("client", "options", "message"),
    [
        ("redis://", {}, "host"),
        ("postgresql://h/d", {}, "redis://"),
        (None, {}, r"ConnectRedis\(NoneType\).*ConnectRedis\.from_url"),
        (redis.Redis(port=1), {"credential_provider": object()}, "your own client"),
        ("redis://h", {"prefix": None}, "prefix=None"),
        ("redis://h", {"prefix": b"sess:"}, "prefix="),
        ("redis://h", {"prefix": "\udc80"}, "prefix="),
        ("redis://h", {"ttl": 0}, "ttl=0"),
        ("redis://h", {"ttl": -1}, "ttl=-1"),
        ("redis://h", {"ttl": 1.5}, r"ttl=1\.5"),
        ("redis://h", {"ttl": True}, "ttl=True"),
        ("redis://h", {"ttl": None}, "ttl=None"),
        ("redis://h", {"disable_ttl": "false"}, "disable_ttl='false'"),
        ("redis://h", {"disable_touch": 1}, "disable_touch=1"),
        ("redis://h", {"serializer": object()}, "serializer="),
        ("redis://h", {"serializer": object}, "serializer="),
        ("redis://h", {"scan_count": 0}, "scan_count=0"),
        ("redis://h", {"scan_count": "100"}, "scan_count='100'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(client: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ConnectRedis(client, **options)


def test_from_url_takes_a_url() -> None:
    with pytest.raises(ConfigurationError, match="URL"):
        ConnectRedis.from_url(redis.Redis(port=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, "600", True, float("nan"), float("inf"), [1]])
def test_a_ttl_function_that_answers_no_seconds_is_told_so(answer: Any, redis_server: Server) -> None:
    there = place(redis_server, ttl=lambda session: answer)
    with pytest.raises(UsageError, match="ttl="):
        on("blocking", there, create())
    assert on("blocking", there, get()) is None


def test_a_ttl_function_is_given_the_session_and_rounded_up(redis_server: Server) -> None:
    seen = list[Any]()

    def ttl(session: dict[str, Any]) -> float:
        seen.append(session)
        return 99.2

    there = place(redis_server, ttl=ttl)
    on("blocking", there, create())
    with raw(redis_server) as client:
        assert 99_000 < client.pttl(there.open()._rules.prefix + SID) <= 100_000
    assert seen == [{"cookie": {"originalMaxAge": 600_000}, "n": 1}]


def test_the_module_json_is_a_serializer_and_one_that_answers_no_text_is_told_so(
    redis_server: Server,
) -> None:
    there = place(redis_server, serializer=json)
    on("blocking", there, create())
    assert data(on("blocking", there, get()).text) == {"n": 1}
    with raw(redis_server) as client:
        assert (
            client.get(there.open()._rules.prefix + SID) == b'{"cookie": {"originalMaxAge": 600000}, "n": 1}'
        )
    with pytest.raises(UsageError, match="serializer"):
        on("blocking", place(redis_server, serializer=SimpleNamespace(dumps=len, loads=repr)), create())


@on_both_faces
def test_a_closed_store_says_so(face: str, redis_server: Server) -> None:
    backend = ConnectRedis.from_url(redis_server.url)

    async def closed() -> None:
        store: ConnectRedisSessions = backend.blocking() if face == "blocking" else backend.awaiting()
        await store.get(SID, now=NOW)
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(UsageError, match="closed"):
            await store.get(SID, now=NOW)

    asyncio.run(closed())
