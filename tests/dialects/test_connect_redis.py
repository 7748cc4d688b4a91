"""connect-redis's sessions against a real Redis: the contract, lists, and what goes wrong.

What the real connect-redis makes of them is in test_connect_redis_node.
"""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Checks
from coatcheck.dialects.express.connect_redis import ConnectRedis
from coatcheck.dialects.express.plain import load
from coatcheck.dialects.express.ports import SAVED, TAKEN, Changed, Entry, ExpressStore, Lists
from coatcheck.errors import (
    CorruptRecord,
    ReplyLost,
    StoreError,
    StoreUnavailable,
)
from servers import Server
from servers.running import free_port
from tests.dialects.connect_redis_help import NUMBERS, Base64, fresh, place
from tests.dialects.contract import SENTENCES, Sentence, keep, named
from tests.dialects.rig import FACES, Place, on
from tests.patience import PATIENT
from tests.stores.redis_help import calls, raw
from tests.stores.test_redis_faults import proxied

NOW = 1_700_000_000.0
END = NOW + 600
TEXT = b'{"cookie":{"originalMaxAge":600000},"n":1}'
OTHER = b'{"cookie":{"originalMaxAge":600000},"n":2}'
SID = "S" * 31 + "7"
on_both_faces = pytest.mark.parametrize("face", FACES)


def create(sid: str = SID, text: bytes = TEXT, **more: Any) -> Callable[[ExpressStore], Any]:
    return lambda store: store.create(sid, text, **{"expires": END, "now": NOW, **more})


def get(sid: str = SID) -> Callable[[ExpressStore], Any]:
    return lambda store: store.get(sid, now=NOW)


def replace(over: Entry, text: bytes = OTHER, sid: str = SID) -> Callable[[ExpressStore], Any]:
    return lambda store: store.replace(sid, text, over=over, expires=END, now=NOW)


# ----------------------------------------------------------------------------------------------------------- the contract


@on_both_faces
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Sentence, face: str, redis_server: Server) -> None:
    keep(sentence, face, place(redis_server))


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "sess:"},
        {"ttl": 77, "disable_touch": True, "scan_count": 7},
        {"disable_ttl": True},
        {"ttl": lambda session: (session["cookie"]["originalMaxAge"] or 86_400_000) / 1000},
        {"serializer": Base64()},
        {"resp2": True},
    ],
    ids=lambda options: " ".join(options),
)
def test_contract_with_options(options: dict[str, Any], redis_server: Server) -> None:
    options = dict(options)
    server = redis_server
    if options.pop("resp2", False):
        server = Server(f"{server.url}?protocol=2", server.port, server.folder, [], lambda _: True)
    for sentence in SENTENCES:
        for face in FACES:
            keep(sentence, face, place(server, **options))


def test_has_its_abilities() -> None:
    backend = ConnectRedis("redis://h")
    faces: list[ExpressStore] = [backend.blocking(), backend.awaiting()]
    for face in faces:
        assert isinstance(face, Lists)
        assert isinstance(face, Checks)


def test_touches_says_whether_there_is_a_touch() -> None:
    assert ConnectRedis("redis://h").blocking().touches is True
    assert ConnectRedis("redis://h", disable_touch=True).blocking().touches is False
    assert ConnectRedis("redis://h", disable_ttl=True).blocking().touches is False


@on_both_faces
def test_a_get_is_one_round_trip(face: str, redis_server: Server) -> None:
    there = place(redis_server)
    on(face, there, create())
    counted: dict[str, int] = {}
    with calls(redis_server, counted):
        assert on(face, there, get()) is not None
    assert counted in (
        {"evalsha": 1, "get": 1},
        {"evalsha": 1, "eval": 1, "get": 1},
    )  # the GET is the script's


# -------------------------------------------------------------------------------------------------------------- the lists


@on_both_faces
def test_lists_name_no_key_of_another_prefix(face: str, redis_server: Server) -> None:
    """connect-redis takes its prefix for a pattern, and its clear() deletes what is not its own."""
    prefix = f"p[{next(NUMBERS)}a]*:"
    strangers = [
        prefix.replace("[", "").replace("]", ""),
        prefix.replace("*", "xyz"),
        "p1:x",
        "p1zz:",
        prefix[1:],
    ]
    with raw(redis_server) as client:
        for stranger in strangers:
            client.set(stranger, "not ours")
        client.set(prefix.encode() + b"\xff\xfe", "no id is like this")
    there = place(redis_server, prefix=prefix)
    on(face, there, create())

    async def look(store: Any) -> None:
        assert list((await store.names(now=NOW)).sids) == [SID]
        await store.clear()
        assert (await store.names(now=NOW)).sids == []
        assert await store.length(now=NOW) == 0

    on(face, there, look)
    with raw(redis_server) as client:
        assert client.exists(*strangers) == len(strangers)
        client.delete(*strangers)


@on_both_faces
def test_a_walk_is_made_in_steps(face: str, redis_server: Server) -> None:
    there = place(redis_server, scan_count=5)
    sids = [f"{n:032}" for n in range(60)]

    async def walk(store: Any) -> None:
        for sid in sids:
            assert await store.create(sid, TEXT, expires=END, now=NOW) is SAVED
        first = await store.names(now=NOW, limit=10)
        assert 10 <= len(first.sids) < 60
        found, step = set(first.sids), first
        while step.cursor is not None:
            step = await store.names(now=NOW, cursor=step.cursor, limit=10)
            found |= set(step.sids)
        assert found == set(sids)

    on(face, there, walk)


# ---------------------------------------------------------------------------------------------------- what is not ours


@on_both_faces
def test_what_is_no_string_or_no_text_is_corrupt(face: str, redis_server: Server) -> None:
    there = place(redis_server)
    backend = there.open()
    key = backend._rules.prefix + SID
    puts: list[Callable[[Any], Any]] = [
        lambda client: client.hset(key, "a", 1),
        lambda client: client.rpush(key, 1),
        lambda client: client.set(key, b"\xff{}"),
    ]
    for put in puts:
        with raw(redis_server) as client:
            client.delete(key)
            put(client)
        for work in (get(), replace(Entry(TEXT))):
            with pytest.raises(CorruptRecord) as caught:
                on(face, there, work)
            assert SID not in f"{caught.value} {caught.value.__cause__}"
        assert on(face, there, create()) is TAKEN
    assert on(face, there, lambda store: store.destroy(SID)) is True


@on_both_faces
def test_what_the_serializer_cannot_read_is_corrupt(face: str, redis_server: Server) -> None:
    there = place(redis_server, serializer=Base64())
    for value in (TEXT, b"\xff", b"salt.bm9uZQ=="):
        with raw(redis_server) as client:
            client.set(there.open()._rules.prefix + SID, value)
        with pytest.raises(CorruptRecord) as caught:
            on(face, there, get())
        assert "originalMaxAge" not in f"{caught.value!r} {caught.value.__cause__}"


def test_a_body_that_is_no_json_is_found_by_who_reads_it(redis_server: Server) -> None:
    there = place(redis_server)
    on("blocking", there, create(text=b'{"cookie":'))
    with pytest.raises(CorruptRecord):
        load(on("blocking", there, get()).text)


@on_both_faces
def test_an_empty_value_is_nothing_as_it_is_to_node(face: str, redis_server: Server) -> None:
    there = place(redis_server)
    with raw(redis_server) as client:
        client.set(there.open()._rules.prefix + SID, "")
    assert on(face, there, get()) is None


def test_a_key_without_an_end_has_none(redis_server: Server) -> None:
    there = place(redis_server)
    with raw(redis_server) as client:
        client.set(there.open()._rules.prefix + SID, TEXT)
    assert on("blocking", there, get()).expires is None


# ------------------------------------------------------------------------------------------------------------ what goes wrong


@on_both_faces
def test_a_server_that_has_lost_the_scripts_is_told_them_again(face: str, redis_server: Server) -> None:
    there = place(redis_server)

    async def work(store: Any) -> None:
        assert await store.create(SID, TEXT, expires=END, now=NOW) is SAVED
        for text in (OTHER, TEXT):
            with raw(redis_server) as client:
                client.script_flush()
            read = await store.get(SID, now=NOW)
            with raw(redis_server) as client:
                client.script_flush()
            assert await store.replace(SID, text, over=read, expires=END, now=NOW) is SAVED

    on(face, there, work)


@on_both_faces
def test_a_write_whose_reply_was_lost_is_recognised_by_its_text(face: str, redis_server: Server) -> None:
    prefix = fresh()
    loses = [b"", b""]  # the text whose command is carried out unanswered

    def lets_through(asked: bytes) -> bool:
        return loses[0] == b"" or loses[0] not in asked

    with proxied(redis_server, lets_through) as port:
        beyond = Place(
            open=lambda: ConnectRedis(f"redis://127.0.0.1:{port}/0", prefix=prefix, outage=PATIENT)
        )
        there = place(redis_server, prefix=prefix)
        loses[0] = TEXT
        with pytest.raises(ReplyLost):
            on(face, beyond, create())
        read = on(face, there, get())
        assert read.text == TEXT
        loses[0] = OTHER
        with pytest.raises(ReplyLost):
            on(face, beyond, replace(read))
        assert on(face, there, get()).text == OTHER
        # Asked again, it is told what is there, which is what it wrote.
        outcome = on(face, there, replace(read))
        assert isinstance(outcome, Changed)
        assert outcome.current is not None
        assert outcome.current.text == OTHER


@on_both_faces
def test_a_get_whose_reply_was_lost_is_asked_again(face: str, redis_server: Server) -> None:
    prefix, lost = fresh(), list[bytes]()
    on(face, place(redis_server, prefix=prefix), create())

    def lets_through(asked: bytes) -> bool:
        if SID.encode() in asked and not lost:
            lost.append(asked)
            return False
        return True

    with proxied(redis_server, lets_through) as port:
        beyond = Place(
            open=lambda: ConnectRedis(f"redis://127.0.0.1:{port}/0", prefix=prefix, outage=PATIENT)
        )
        assert on(face, beyond, get()).text == TEXT
    assert lost


@on_both_faces
def test_nothing_that_is_secret_is_said(face: str, redis_server: Server) -> None:
    """Neither the password nor an id, which is the visitor's cookie, nor what a session holds."""
    url = f"redis://ada:lovelace@127.0.0.1:{free_port()}/0"
    there = Place(open=lambda: ConnectRedis(url, outage=Outage(connect_timeout=0.5, retries=0)))
    for work in (
        get(),
        create(),
        replace(Entry(TEXT)),
        lambda store: store.destroy(SID),
        lambda store: store.check(),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            on(face, there, work)
        assert not isinstance(caught.value, ReplyLost)
        said = f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        assert SID not in said
        assert "lovelace" not in said
        assert "originalMaxAge" not in said
    assert repr(ConnectRedis(url)).startswith("<ConnectRedis redis://ada:***@127.0.0.1:")


@on_both_faces
def test_an_id_or_text_that_cannot_be_stored_is_an_error(face: str, redis_server: Server) -> None:
    with pytest.raises(StoreError):
        on(face, place(redis_server), get("\udc80"))


@on_both_faces
def test_what_the_user_of_connect_redis_may_do_and_scripts_suffice(face: str, redis_server: Server) -> None:
    prefix = f"acl{next(NUMBERS)}:"
    with raw(redis_server) as client:
        client.execute_command(
            "ACL", "SETUSER", "node", "on", ">pw", f"~{prefix}*", "+get", "+set", "+expire", "+del", "+scan",
            "+pttl", "+eval", "+evalsha",
        )  # fmt: skip
    url = f"redis://node:pw@127.0.0.1:{redis_server.port}/0"
    there = Place(open=lambda: ConnectRedis(url, prefix=prefix, outage=PATIENT))

    async def work(store: Any) -> None:
        await store.check()
        assert await store.create(SID, TEXT, expires=END, now=NOW) is SAVED
        assert await store.replace(SID, OTHER, over=Entry(TEXT), expires=END, now=NOW) is SAVED
        await store.touch(SID, OTHER, expires=END, now=NOW)
        assert await store.length(now=NOW) == 1
        await store.clear()

    on(face, there, work)
    with raw(redis_server) as client:
        client.execute_command("ACL", "SETUSER", "node", "-evalsha", "-eval")
    with pytest.raises(StoreError, match="does not allow"):
        on(face, there, lambda store: store.check())
    with raw(redis_server) as client:
        client.execute_command("ACL", "DELUSER", "node")


@on_both_faces
def test_check_leaves_nothing_and_warns_of_eviction(
    face: str, redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    there = place(redis_server)
    with raw(redis_server) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with caplog.at_level(logging.WARNING):
            on(face, there, lambda store: store.check())
        client.config_set("maxmemory-policy", "noeviction")
        assert "allkeys-lru" in caplog.text
    assert on(face, there, lambda store: store.length(now=NOW)) == 0
