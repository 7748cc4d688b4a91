"""`durability="replicated"`: what a create, a login and a delete are worth when the primary is lost."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from coatcheck import SessionManager
from coatcheck.core.ids import Ticket, digest
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Terms
from coatcheck.core.record import Ended, Record
from coatcheck.errors import ReplyLost, StoreUnavailable, Uncertain
from coatcheck.stores.redis import RedisSessions, RedisStore
from servers import RedisGroup, Server, redis_replicated
from servers.redis import cli
from tests.stores.redis_help import FACES, NOW, after, fresh, login, on, record

SOON, PATIENTLY = 0.2, 10.0
"""Where the replica is away it is not to be waited for long; where it is there, the machine may be busy."""


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_replicated(tmp_path_factory.mktemp("redis-replicated")) as group:
        yield group


def careful(group: RedisGroup, prefix: str, wait: float = PATIENTLY, replicas: int = 1) -> RedisStore:
    return RedisStore.from_url(
        group.url,
        prefix=prefix,
        durability="replicated",
        replicas=replicas,
        wait_timeout=wait,
        outage=Outage(connect_timeout=5, command_timeout=5),
    )


class paused:
    """A replica that is away for the length of the block."""

    def __init__(self, replica: Server) -> None:
        self.replica = replica

    def __enter__(self) -> None:
        self.replica.pause()

    def __exit__(self, *exc: object) -> None:
        self.replica.resume()


@pytest.mark.parametrize("face", FACES)
def test_what_was_acknowledged_is_with_the_replica(group: RedisGroup, face: str) -> None:
    prefix, replica = fresh(), group.servers[1]

    async def work(store: RedisSessions) -> None:
        for _ in range(20):
            there, theirs = record(), login("ada")
            assert await store.create(there, now=NOW) is SAVED
            assert cli(replica, "EXISTS", f"{prefix}s:{there.key}") == "1"
            assert await store.admit(theirs, expected=None, terms=Terms(), now=NOW) is SAVED
            assert cli(replica, "EXISTS", f"{prefix}s:{theirs.key}") == "1"
            assert await store.delete(there.key, now=NOW, token="t")
            assert cli(replica, "GETRANGE", f"{prefix}s:{there.key}", "0", "0") == "E"

    on(face, careful(group, prefix), work)


@pytest.mark.parametrize("face", FACES)
def test_too_few_replicas_in_time_are_not_passed_over_in_silence(group: RedisGroup, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        there, new = record(), record()
        assert await store.create(there, now=NOW) is SAVED
        with paused(group.servers[1]):
            for _ in range(2):  # asked again it has nothing to write, and that is no excuse
                with pytest.raises(ReplyLost, match="0 of 1 replicas"):
                    await store.create(new, now=NOW)
            with pytest.raises(ReplyLost):
                await store.delete(there.key, now=NOW, token="t")
            with pytest.raises(ReplyLost):
                await store.admit(login("ada"), expected=None, terms=Terms(), now=NOW)
            with pytest.raises(ReplyLost):
                await store.end_user("ada", keep=None, now=NOW, token="t")
            with pytest.raises(StoreUnavailable):
                await store.check()
            # An ordinary write does not wait.
            assert await store.replace(after(new), expected=new.version, now=NOW) is SAVED
        # It was carried out all the same, recognises itself, and is acknowledged now that the replica is back.
        assert await store.create(new, now=NOW) is SAVED
        assert await store.delete(there.key, now=NOW, token="t")
        assert isinstance(await store.load(there.key, now=NOW), Ended)

    on(face, careful(group, fresh(), SOON), work)


def test_a_logout_that_no_replica_has_is_an_error_page_and_not_a_promise(group: RedisGroup) -> None:
    with careful(group, fresh(), SOON) as backend:
        sessions = SessionManager(backend)
        session = sessions.session()
        session.login("ada")
        sessions.commit(session)
        with paused(group.servers[1]), pytest.raises(Uncertain):
            session.destroy()
        sessions.check()


def test_a_logout_that_was_refused_and_is_asked_for_again_is_no_promise_either(group: RedisGroup) -> None:
    """The primary says that the session is over. Only it may know."""
    with careful(group, fresh(), SOON) as backend:
        sessions = SessionManager(backend)
        session: Any = sessions.session()
        session.login("ada")
        sessions.commit(session)
        ticket = Ticket(session._record.key, session._verifier, digest(session._verifier))

        def log_out_again() -> None:
            again = sessions.session(ticket)
            again.logout()
            sessions.commit(again)

        with paused(group.servers[1]):
            with pytest.raises(Uncertain):
                session.destroy()
            with pytest.raises(Uncertain):
                log_out_again()
        sessions.check()
        log_out_again()


def test_more_replicas_than_there_are_is_always_too_few(group: RedisGroup) -> None:
    async def work(store: RedisSessions) -> None:
        with pytest.raises(ReplyLost, match="1 of 2 replicas"):
            await store.create(record(), now=NOW)

    on("blocking", careful(group, fresh(), wait=SOON, replicas=2), work)


def test_many_wait_together(group: RedisGroup) -> None:
    async def work(store: RedisSessions) -> None:
        records = [record() for _ in range(100)]
        assert set(await asyncio.gather(*(store.create(r, now=NOW) for r in records))) == {SAVED}
        found = await asyncio.gather(*(store.load(r.key, now=NOW) for r in records))
        assert all(isinstance(one, Record) for one in found)

    on("awaiting", careful(group, fresh()), work)
