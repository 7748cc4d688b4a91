"""The PostgreSQL store with a primary and its standby: which of them it talks to, and what an acknowledgement is worth."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Terms
from coatcheck.core.record import Ended
from coatcheck.core.stepping import run_now
from coatcheck.errors import ReplyLost, StoreUnavailable
from coatcheck.stores._postgres_connect import target
from coatcheck.stores._postgres_hosts import each_host
from coatcheck.stores.postgres import PostgresStore
from servers import PostgresPair, Server, postgres_replicated
from servers.postgres import promote, psql
from tests.stores.postgres_faces import FACES, Faced
from tests.stores.postgres_tables import login
from tests.stores.sqlite_workers import NOW, after, record

QUICK = Outage(command_timeout=0.4, connect_timeout=1.0, break_for=0.3)


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    with postgres_replicated(tmp_path_factory.mktemp("pair")) as pair:
        _set_up(pair.primary)
        yield pair


@pytest.fixture
def synchronous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    with postgres_replicated(tmp_path_factory.mktemp("pair"), synchronous=True) as pair:
        _set_up(pair.primary)
        yield pair


@contextmanager
def all_faces(url: str, outage: Outage = QUICK) -> Iterator[list[Faced]]:
    faces = [Faced(face, url, outage=outage) for face in FACES]
    yield faces
    for faced in faces:
        faced.close()


async def _create(*which_and_store: Any) -> Any:
    *which, store = which_and_store
    return await store.create(*(which or [record()]), now=NOW)


async def _create_for_ever(store: Any) -> None:
    while True:
        await _create(store)


async def _found(key: str, store: Any) -> Any:
    return await store.load(key, now=NOW)


async def _fill(size: int, store: Any) -> None:
    """Open all connections of a pool; then they are idle."""
    pool = store._client
    if hasattr(pool, "_pools"):
        await asyncio.gather(*(store.load("none", now=NOW) for _ in range(size)))
    else:
        for link in [pool._pool.take() for _ in range(size)]:
            pool._pool.give_back(link)


def _set_up(server: Server) -> None:
    backend = PostgresStore.from_url(server.url)
    run_now(backend.blocking().setup())
    backend.close()


# --------------------------------------------------------------------------------------------------------- which server


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        (
            "postgresql://app:se%40c+ret@h1:1,h2:2/db",
            [
                "postgresql://app:se%40c+ret@h1:1/db?target_session_attrs=read-write",
                "postgresql://app:se%40c+ret@h2:2/db?target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql://app@h1,[::1]:7/db?sslmode=require&target_session_attrs=any",
            [
                "postgresql://app@h1/db?sslmode=require&target_session_attrs=any",
                "postgresql://app@[::1]:7/db?sslmode=require&target_session_attrs=any",
            ],
        ),
        (
            "postgresql:///db?host=/run/pg,h2&port=3",
            [
                "postgresql:///db?target_session_attrs=read-write&host=/run/pg&port=3",
                "postgresql://h2:3/db?target_session_attrs=read-write",
            ],
        ),
        ("postgresql://h1:1/db", ["postgresql://h1:1/db"]),
        ("postgresql:///db", ["postgresql:///db"]),
        (
            "postgresql://h1,h2,h3/db?port=1,2",
            ["postgresql://h1,h2,h3/db?port=1,2"],
        ),  # libpq says what is wrong
    ],
)
def test_a_url_of_several_hosts_is_one_of_each(url: str, urls: list[str]) -> None:
    places = each_host(target(url, connect_timeout=1.0, command_timeout=1.0, prepared=True))
    assert [place.url for place in places] == urls
    assert {place.connect_timeout for place in places} == {1.0 / len(urls)}
    assert all("se%40c" not in place.name and "se@c" not in place.name for place in places)


def test_several_hosts_may_be_asked_in_any_order() -> None:
    url = "postgresql://a,b,c,d,e,f/db?load_balance_hosts=random"
    place = target(url, connect_timeout=1.0, command_timeout=1.0, prepared=True)
    assert len({tuple(each.name for each in each_host(place)) for _ in range(20)}) > 1


@pytest.mark.slow
def test_the_primary_is_found_though_the_standby_is_named_first(pair: PostgresPair) -> None:
    url = f"postgresql://coatcheck@127.0.0.1:{pair.replica.port},127.0.0.1:{pair.primary.port}/coatcheck"
    with all_faces(url) as faces:
        for faced in faces:
            assert faced.run(_create) is SAVED


@pytest.mark.slow
def test_a_promoted_standby_is_found_though_the_primary_hangs(pair: PostgresPair) -> None:
    """It accepts connections (the kernel does) and answers none: neither may the time there is be spent on it, nor may each of
    the old connections cost somebody a time-out."""
    with all_faces(pair.url) as faces:
        for faced in faces:
            faced.run(_create)
            faced.run(partial(_fill, 10))
        pair.primary.pause()
        promote(pair.replica)
        for faced in faces:
            began, failed = time.monotonic(), 0
            while True:
                try:
                    assert faced.run(_create) is SAVED
                    break
                except StoreUnavailable:
                    failed += 1
                    assert time.monotonic() - began < 20, "the standby is not found"
            took = time.monotonic() - began
            print(f"{faced.face}: found after {took:.1f} s, of which a time-out each: {QUICK.break_after}")
            # Five time-outs of 0.4 s break the circuit for 0.3 s; then half of connect_timeout for the host that hangs.
            assert took < 5.0
        pair.primary.resume()


@pytest.mark.slow
def test_a_server_that_only_reads_is_left(pair: PostgresPair) -> None:
    """As in a switch-over: the old primary is made to stand back, and stays up. One command tells for the whole pool."""
    with all_faces(pair.url) as faces:
        for faced in faces:
            faced.run(partial(_fill, 10))
        promote(pair.replica)
        psql(pair.primary, "ALTER SYSTEM SET default_transaction_read_only = on")
        psql(pair.primary, "SELECT pg_reload_conf()")
        for faced in faces:
            with pytest.raises(StoreUnavailable, match="only reads") as refused:
                faced.run(
                    _create_for_ever
                )  # the reload reaches each connection when it next waits for a command
            assert not isinstance(refused.value, ReplyLost)  # nothing was done, and that is known
            for _ in range(10):
                assert faced.run(_create) is SAVED
    assert int(psql(pair.replica, "SELECT count(*) FROM coatcheck_session")) >= 30


# --------------------------------------------------------------------------------------------- what was acknowledged


@pytest.mark.slow
def test_what_the_standby_does_not_have_is_not_acknowledged(synchronous: PostgresPair) -> None:
    """A second try sees what the first has written, on a primary whose standby is away; both are lost with the primary."""
    pair = synchronous
    with all_faces(pair.url, Outage(command_timeout=0.4, break_after=1000)) as faces:
        jobs = [Jobs(faced) for faced in faces]
        pair.replica.pause()
        told = [f"{job.faced.face}: {name} {told}" for job in jobs for name, told in job.told(pair.primary)]
        assert told == []
        pair.replica.resume()
        for job in jobs:  # with the standby back they are, and it is still the first try that counts
            assert job.eventually(job.verbs["replace"]) is SAVED
            assert job.eventually(job.verbs["delete"]) is True
        pair.primary.kill()
        promote(pair.replica)
        for job in jobs:
            assert job.eventually(partial(_found, job.new.key)) == job.new
            assert job.eventually(partial(_found, job.gone.key)) == Ended(job.gone.key, "t", NOW)


class Jobs:
    """What one face is to write, twice and more."""

    def __init__(self, faced: "Faced") -> None:
        self.faced = faced
        old, self.gone, begun, user = record(), record(), record(), login(f"user of {faced.face}")
        self.new = after(old, b"1")
        for each in (old, self.gone):
            assert faced.run(partial(_create, each)) is SAVED
        self.verbs: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
            "replace": lambda store: store.replace(self.new, expected=old.version, now=NOW),
            "create": partial(_create, begun),
            "admit": lambda store: store.admit(user, expected=None, terms=Terms(), now=NOW),
            "delete": lambda store: store.delete(self.gone.key, now=NOW, token="t"),
        }

    def told(self, primary: Server) -> Iterator[tuple[str, object]]:
        """Try each three times, where nothing may be acknowledged: the verbs that were, and how."""
        for name, verb in self.verbs.items():
            for _ in range(3):
                with suppress(StoreUnavailable):
                    yield name, self.faced.run(verb)
                # What waits for the standby waits no longer: then the first try is there for everybody to see.
                psql(
                    primary,
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
                )

    def eventually(self, verb: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """The answer, when there is one."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.faced.run(verb)
            except StoreUnavailable:
                assert time.monotonic() < deadline
