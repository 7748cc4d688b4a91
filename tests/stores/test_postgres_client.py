"""The PostgreSQL store's clients: cancelled, cut off, paused, killed; pools, loops, threads and forks; listening for endings."""

import asyncio
import gc
import random
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from coatcheck import AsyncSessionManager
from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Notice, Terms
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ReplyLost, StoreError, StoreUnavailable, UsageError
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._postgres_connect import _insist_on_version
from coatcheck.stores._postgres_pool import LoopPool
from coatcheck.stores.postgres import PostgresStore
from servers import Server, postgres
from servers.postgres import power_cut
from servers.running import free_port
from tests.stores.postgres_faces import FACES, Faced
from tests.stores.postgres_tables import login, sql, table_of
from tests.stores.sqlite_workers import NOW, after, record

ROOT = Path(__file__).parents[2]
QUICK = Outage(command_timeout=0.4, connect_timeout=0.4, break_for=0.3)


@pytest.fixture(scope="module")
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture(scope="module")
def table(postgres_server: Server) -> Iterator[str]:
    with table_of(postgres_server) as name:
        yield name


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server to be paused and killed."""
    with postgres(tmp_path_factory.mktemp("mortal")) as server:
        backend = PostgresStore.from_url(server.url)
        run_now(backend.blocking().setup())
        backend.close()
        yield server


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def faced(face: str, server: Server, table: str) -> Iterator[Faced]:
    faced = Faced(face, server.url, table=table, outage=QUICK)
    yield faced
    faced.close()


def terminate_all(url: str) -> int:
    """Cut off everybody else, as an administrator would. Returns how many."""
    statement = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'coatcheck'"
    )
    return int(sql(url, statement)[0][0])


# ------------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize(("prepared", "cancellations"), [(True, 10_000), (False, 1_000)])
def test_cancelled_requests_mix_up_no_answers(
    server: Server, table: str, prepared: bool, cancellations: int
) -> None:
    """At random moments, under load; whoever is not cancelled gets the answer to its own question."""
    backend = PostgresStore.from_url(server.url, table=table, pool_size=8, prepared_statements=prepared)
    store, chance = backend.awaiting(), random.Random(1)
    done = {"cancelled": 0, "answered": 0}

    async def ask(records: list[Record]) -> None:
        asked = chance.choice(records)
        assert await store.load(asked.key, now=NOW) == asked
        done["answered"] += 1

    async def reader(records: list[Record]) -> None:
        while done["cancelled"] < cancellations:
            task = asyncio.ensure_future(ask(records))
            for _ in range(chance.choice((1, 1, 2, 3, 4, 9))):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                done["cancelled"] += 1

    async def work() -> None:
        records = [record(data=b"%d" % n) for n in range(50)]
        for each in records:
            assert await store.create(each, now=NOW) is SAVED
        await asyncio.gather(*(reader(records) for _ in range(24)))
        await asyncio.gather(*(ask(records) for _ in range(100)))
        await backend.aclose()

    asyncio.run(work())
    assert done["cancelled"] >= cancellations
    assert done["answered"] >= 100


def test_a_cancelled_commit_is_carried_out(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table)

    async def work() -> None:
        sessions = AsyncSessionManager(backend)
        for _ in range(20):
            session = sessions.session()
            session["n"] = 1
            task = asyncio.ensure_future(sessions.commit(session))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while await sessions.find(session.handle or "") is None:
                await asyncio.sleep(0.001)
        await backend.aclose()

    asyncio.run(work())


class Made:
    """A connection to nowhere."""

    closed = False

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        return []

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True


@pytest.mark.parametrize("freed", ["drop", "doubt", "give_back"])
def test_whoever_has_waited_is_served_before_a_newcomer(freed: str) -> None:
    """Or each newcomer begins its wait anew, which then has no end (503 after 6 s where 4 are the most, on a busy machine)."""

    async def connect() -> Made:
        return Made()

    async def work() -> None:
        pool = LoopPool(connect, 1, 30.0)
        link = await pool.obtain()
        waits = asyncio.create_task(pool.obtain())
        await asyncio.sleep(0)
        newcomer = asyncio.create_task(pool.obtain())  # is there before the other hears of its turn
        getattr(pool, freed)(link)
        link = await waits
        assert not newcomer.done()
        pool.give_back(link)
        assert await newcomer is link

    asyncio.run(work())


def test_a_turn_that_is_cancelled_when_it_has_come_goes_to_the_next() -> None:
    async def connect() -> Made:
        return Made()

    async def work() -> None:
        pool = LoopPool(connect, 1, 30.0)
        link = await pool.obtain()
        first, second = (asyncio.create_task(pool.obtain()) for _ in range(2))
        await asyncio.sleep(0)
        pool.drop(link)
        first.cancel()
        pool.give_back(await second)
        assert await pool.obtain() is not link  # nothing is promised to somebody who has gone
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(work())


def test_a_connection_that_nobody_waits_for_any_more_is_closed() -> None:
    """Cancelled when it has been made, and before the request has heard of it."""

    async def work() -> None:
        made = Made()

        async def connect() -> Made:
            asyncio.get_running_loop().call_soon(
                request.cancel
            )  # after this step, and before the request's next
            return made

        pool = LoopPool(connect, 1, 1.0)
        request = asyncio.create_task(pool.obtain())
        with pytest.raises(asyncio.CancelledError):
            await request
        assert made.closed

    asyncio.run(work())


@pytest.mark.parametrize(
    "error", [RuntimeError("noise"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "noise")]
)
def test_a_connection_that_cannot_be_read_is_not_used_again(error: Exception) -> None:
    """What a driver raises that is neither the server's word nor about our values: it stopped in the middle of an answer."""

    class Noisy:
        terminated = 0

        async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
            raise error

        def is_closed(self) -> bool:
            return False

        def terminate(self) -> None:
            Noisy.terminated += 1

    async def connect() -> Any:
        return Noisy()

    async def work() -> None:
        backend = PostgresStore(connect)
        with pytest.raises(ReplyLost):
            await backend.awaiting().load("key", now=NOW)
        await backend.aclose()

    asyncio.run(work())
    assert Noisy.terminated == 1


def test_a_connection_of_the_applications_pool_goes_back_though_nobody_waits_for_it(server: Server) -> None:
    """Cancelled when it has been acquired, and before the request has heard of it."""

    async def work() -> None:
        async with asyncpg.create_pool(server.url, min_size=0, max_size=1) as pool:
            client: Any = PostgresStore(pool).awaiting()._client
            client._pool = Hurried(pool)
            for _ in range(2):
                request = asyncio.create_task(client.fetch("SELECT 1"))
                client._pool.hurry = request.cancel
                with pytest.raises(asyncio.CancelledError):
                    await request
                await asyncio.gather(*client._returning)
                async with asyncio.timeout(10), pool.acquire() as link:
                    assert await link.fetchval("SELECT 1") == 1
                await pool.expire_connections()

    class Hurried:
        """The pool, and somebody who leaves as it hands a connection out."""

        hurry: Callable[[], object]

        def __init__(self, pool: Any) -> None:
            self._pool = pool

        def __getattr__(self, name: str) -> Any:
            return getattr(self._pool, name)

        def get_idle_size(self) -> int:
            return 0

        async def acquire(self) -> Any:
            link = await self._pool.acquire()
            asyncio.get_running_loop().call_soon(self.hurry)
            return link

    asyncio.run(work())


def test_upkeep_that_never_began_leaves_nothing_behind(server: Server) -> None:
    async def work() -> None:
        backend = PostgresStore.from_url(server.url)
        client: Any = backend.awaiting()._client
        client.later("SELECT 1")
        await backend.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(work())
        gc.collect()


# ------------------------------------------------------------------------------------------------- lost and unreachable


def test_a_connection_cut_off_while_idle_is_not_noticed(faced: Faced, server: Server) -> None:
    there = record()

    async def create(store: Any) -> None:
        assert await store.create(there, now=NOW) is SAVED

    async def load(store: Any) -> None:
        await asyncio_turn(store)
        assert await store.load(there.key, now=NOW) == there

    faced.run(create)
    assert terminate_all(server.url) >= 1
    time.sleep(0.05)  # until the end of the connection has arrived
    faced.run(load)


async def asyncio_turn(store: Any) -> None:
    """Let an event loop hear of what has happened."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        await asyncio.sleep(0.01)


def test_a_connection_cut_off_while_in_use_is_a_lost_reply(faced: Faced, server: Server) -> None:
    timer = threading.Timer(0.15, terminate_all, [server.url])

    async def wait(store: Any) -> None:
        await store._client.aside("SELECT pg_sleep(5)")

    faced.run(lambda store: store.check())
    timer.start()
    with pytest.raises(ReplyLost) as caught:
        faced.run(wait)
    assert caught.value.__cause__ is not None
    timer.join()
    faced.run(lambda store: store.check())


def test_nobody_listens(face: str) -> None:
    events: list[ConnectionEvent] = []
    url = f"postgresql://u:secret@127.0.0.1:{free_port()}/d"
    faced = Faced(face, url, outage=Outage(break_after=3, break_for=60), on_connection=events.append)
    for n in range(5):
        with pytest.raises(StoreUnavailable) as caught:
            faced.run(lambda store: store.load("key", now=NOW))
        assert "secret" not in str(caught.value)
        assert ("cannot be reached" if n < 3 else "nothing is sent") in str(caught.value)
    assert [event.state for event in events] == ["lost"]
    faced.close()


def test_a_server_that_does_not_let_in_is_given_up_in_time(face: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        faced = Faced(
            face,
            f"postgresql://127.0.0.1:{mute.getsockname()[1]}/d",
            outage=Outage(connect_timeout=0.2, retries=0),
        )
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            faced.run(lambda store: store.load("key", now=NOW))
        assert time.monotonic() - began < 1.5
        faced.close()


@pytest.mark.parametrize("prepared", [True, False])
def test_a_commit_that_cannot_connect_in_time_fails_and_is_not_cancelled(prepared: bool) -> None:
    """A commit goes on in another task than it began in, which a driver's own time limit does not expect."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgresql://127.0.0.1:{mute.getsockname()[1]}/d"
        outage = Outage(connect_timeout=0.2, retries=0)
        backend = PostgresStore.from_url(url, outage=outage, prepared_statements=prepared)

        async def work() -> None:
            sessions = AsyncSessionManager(backend)
            session = sessions.session()
            session["n"] = 1
            with pytest.raises(StoreUnavailable):
                await sessions.commit(session)
            await backend.aclose()

        asyncio.run(work())


def test_a_wrong_password_is_said(face: str, own: Server) -> None:
    rules = own.folder / "data" / "pg_hba.conf"
    if "locked" not in rules.read_text():
        rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        sql(own.url, "CREATE ROLE locked LOGIN PASSWORD 'sesame'")
        sql(own.url, "SELECT pg_reload_conf()")
    for password in ("wrong", "sesame"):
        faced = Faced(face, own.url.replace("coatcheck@", f"locked:{password}@"))
        with pytest.raises(StoreError) as caught:
            faced.run(lambda store: store.check())
        assert type(caught.value) is StoreError
        assert ("user, password" if password == "wrong" else "GRANT") in str(caught.value)
        assert password not in str(caught.value)
        faced.close()


def test_a_server_too_old_is_refused() -> None:
    with pytest.raises(StoreError, match=r"version 11.*12 or newer"):
        _insist_on_version(11)


def test_a_paused_server_is_a_lost_reply_in_time_then_a_broken_circuit(face: str, own: Server) -> None:
    events: list[str] = []
    outage = Outage(command_timeout=0.5, connect_timeout=0.5, retries=0, break_after=2, break_for=0.3)
    faced = Faced(face, own.url, outage=outage, on_connection=lambda event: events.append(event.state))
    there = record()

    async def replace(store: Any) -> None:
        assert await store.replace(after(there, b"1"), expected=there.version, now=NOW) is SAVED

    faced.run(lambda store: store.create(there, now=NOW))
    own.pause()
    try:
        began = time.monotonic()
        with pytest.raises(ReplyLost):
            faced.run(replace)
        assert time.monotonic() - began < 1.5
        with pytest.raises(StoreUnavailable):
            faced.run(lambda store: store.load(there.key, now=NOW))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="nothing is sent"):
            faced.run(lambda store: store.load(there.key, now=NOW))
        assert time.monotonic() - began < 0.4  # a try would take half a second
    finally:
        own.resume()
    deadline = time.monotonic() + 10
    while "restored" not in events and time.monotonic() < deadline:
        with suppress(StoreUnavailable):
            faced.run(lambda store: store.check())
    assert events == ["connected", "lost", "restored"]
    faced.close()


def test_a_killed_server_comes_back_with_what_was_acknowledged(face: str, own: Server) -> None:
    faced = Faced(face, own.url, outage=QUICK)
    current = record()
    faced.run(lambda store: store.create(current, now=NOW))

    for n in range(20):
        new = after(current, b"%d" % n)
        assert faced.run(partial(replaced, new, current)) is SAVED
        current = new
    power_cut(own)
    with pytest.raises(StoreUnavailable):
        faced.run(lambda store: store.load(current.key, now=NOW))
    own.start()
    time.sleep(0.35)  # break_for
    assert faced.run(lambda store: store.load(current.key, now=NOW)) == current
    faced.close()


def test_a_server_that_only_reads_is_unavailable(face: str, server: Server, table: str) -> None:
    sql(
        server.url,
        "DO $$ BEGIN CREATE ROLE reader LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    sql(server.url, "ALTER ROLE reader SET default_transaction_read_only = on")
    faced = Faced(face, server.url.replace("coatcheck@", "reader@"), table=table)
    with pytest.raises(StoreUnavailable, match="standby"):
        faced.run(lambda store: store.check())
    faced.close()


async def replaced(new: Record, old: Record, store: Any) -> Any:
    return await store.replace(new, expected=old.version, now=NOW)


# ------------------------------------------------------------------------------------------------- pools, loops, threads


def test_threads_wait_for_a_connection_and_not_for_ever(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table, pool_size=2, outage=Outage(connect_timeout=0.3))
    store: Any = backend.blocking()

    def sleep(seconds: float) -> object:
        try:
            return run_now(store._client.aside("SELECT pg_sleep($1::float8)", seconds))
        except StoreUnavailable as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        assert all(isinstance(r, list) for r in pool.map(sleep, [0.05] * 6))
        answers = list(pool.map(sleep, [1.0] * 3))
    assert [a for a in answers if isinstance(a, str) and "pool_size" in a]
    assert (
        sql(server.url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'coatcheck'")[0][0]
        <= 2
    )
    backend.close()


@pytest.mark.parametrize("prepared", [True, False])
def test_tasks_wait_for_a_connection_and_not_for_ever(server: Server, table: str, prepared: bool) -> None:
    backend = PostgresStore.from_url(
        server.url, table=table, pool_size=2, outage=Outage(connect_timeout=0.3), prepared_statements=prepared
    )

    async def work() -> None:
        store: Any = backend.awaiting()

        async def sleep(seconds: float) -> object:
            return await store._client.aside("SELECT pg_sleep($1::float8)", seconds)

        await asyncio.gather(*(sleep(0.05) for _ in range(6)))
        answers = await asyncio.gather(*(sleep(1.0) for _ in range(3)), return_exceptions=True)
        assert [a for a in answers if isinstance(a, StoreUnavailable) and "pool_size" in str(a)]
        await store.check()
        await backend.aclose()

    asyncio.run(work())


def test_several_loops_share_a_store(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table)
    store, records = backend.awaiting(), [record() for _ in range(4)]
    barrier = threading.Barrier(4)

    def loop_of_its_own(each: Record) -> None:
        async def work() -> None:
            for _ in range(2):
                barrier.wait(timeout=30)
                await store.create(each, now=NOW)
                assert await store.load(each.key, now=NOW) == each

        asyncio.run(work())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(loop_of_its_own, records))

    async def afterwards() -> None:
        assert await store.load(records[0].key, now=NOW) == records[0]
        assert len(backend._clients.loops._pools) == 1  # type: ignore[union-attr]  # those of loops that have ended are gone
        await backend.aclose()

    asyncio.run(afterwards())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that loops ended with open connections: they did
        gc.collect()


def test_a_closed_store_says_so(faced: Faced) -> None:
    faced.run(lambda store: store.check())
    faced.backend.close()
    if faced._runner is not None:
        faced._runner.run(faced.backend.aclose())
    with pytest.raises(UsageError, match="closed"):
        faced.run(lambda store: store.check())


def test_each_verb_is_one_statement(server: Server, table: str) -> None:
    """Counted where the client sends them: each verb is one statement, where nobody is in its way."""

    backend = PostgresStore.from_url(server.url, table=table)
    store: Any = backend.blocking()
    asked: list[str] = []
    fetch = store._client.fetch

    async def counted(statement: str, *args: Any) -> Any:
        asked.append(statement)
        return await fetch(statement, *args)

    store._client.fetch = counted
    one = record()
    two = after(one, b"1")
    run_now(store.create(one, now=NOW))
    run_now(store.load(one.key, now=NOW))
    run_now(store.replace(two, expected=one.version, now=NOW))
    run_now(store.touch(one.key, deadline=NOW + 9, seen_at=NOW, expected=two.version, now=NOW))
    run_now(store.admit(login("eve"), expected=None, terms=Terms(limit=3), now=NOW))
    run_now(store.delete(one.key, now=NOW, token="t"))
    assert len(asked) == 6
    backend.close()


# ------------------------------------------------------------------------------------------------------------ processes


def worker(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.stores.postgres_workers", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finished(*workers: "subprocess.Popen[str]") -> list[str]:
    said = []
    for process in workers:
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        said.append(out)
    return said


def test_eight_workers_set_up_at_once(server: Server) -> None:
    at = time.time() + 2.5
    finished(*[worker("setup", server.url, "raced", at) for _ in range(8)])
    assert sql(server.url, "SELECT count(*) FROM raced") == [(8,)]
    sql(server.url, "DROP TABLE raced")


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_fork_shares_no_connection(server: Server, table: str, face: str) -> None:
    finished(worker("fork", server.url, table, face))
    backend = PostgresStore.from_url(server.url, table=table)
    for key in ("before", "child-1", "parent", "child-2"):
        assert isinstance(run_now(backend.blocking().load(key, now=NOW)), Record), key
    sql(server.url, f"DELETE FROM {table}")
    backend.close()


def test_fifty_writers_in_two_processes_lose_nothing(server: Server, table: str) -> None:
    backend, there = PostgresStore.from_url(server.url, table=table), record()
    run_now(backend.blocking().create(there, now=NOW))
    finished(
        *[worker("increments", server.url, table, there.key, face, 25) for face in ("blocking", "awaiting")]
    )
    found = run_now(backend.blocking().load(there.key, now=NOW))
    assert isinstance(found, Record)
    assert found.data == b"50"
    backend.close()


def race(server: Server, table: str, *jobs: tuple[str, ...]) -> list[str]:
    at = time.time() + 2.0
    return finished(*[worker("race", server.url, table, at, *job) for job in jobs])


def test_twenty_logins_in_two_processes_keep_the_limit(server: Server, table: str) -> None:
    race(server, table, ("logins", "limited", "3"), ("logins", "limited", "3"))
    backend = PostgresStore.from_url(server.url, table=table)
    assert len(run_now(backend.blocking().of_user("limited", now=time.time())).records) == 3
    backend.close()


def test_no_login_that_began_before_all_were_ended_survives(server: Server, table: str) -> None:
    *_, said = race(
        server, table, ("logins", "revoked", "0"), ("logins", "revoked", "0"), ("ending", "revoked", "0")
    )
    ended_at = float(said)
    backend = PostgresStore.from_url(server.url, table=table)
    for left in run_now(backend.blocking().of_user("revoked", now=time.time())).records:
        assert left.created_at > ended_at - 0.05
    fences = sql(server.url, f"SELECT ended_at FROM {table} WHERE key = chr(1) || 'revoked'")
    assert len(fences) == 1
    backend.close()


def test_a_slow_write_does_not_undo_a_logout(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table)

    async def work() -> None:
        sessions = AsyncSessionManager(backend)
        first = sessions.session()
        first.login("slow")
        await sessions.commit(first)
        handle = first.handle
        assert handle is not None
        ticket = _ticket(first)
        slow, leaving = sessions.session(ticket), sessions.session(ticket)
        for session in (slow, leaving):
            await session.load()
        slow["n"] = 1
        leaving.logout()
        await sessions.commit(leaving)
        await sessions.commit(slow)
        assert await sessions.find(handle) is None
        await backend.aclose()

    asyncio.run(work())


def test_twenty_renewals_make_one_new_verifier(server: Server, table: str) -> None:
    from coatcheck.core.options import Options
    from coatcheck.flows import Clock

    backend = PostgresStore.from_url(server.url, table=table)
    now = [time.time()]
    clock = Clock(lambda: now[0])

    async def work() -> None:
        sessions = AsyncSessionManager(backend, options=Options(), clock=clock)
        first = sessions.session()
        first.login("renewed")
        await sessions.commit(first)
        ticket = _ticket(first)
        now[0] += 4_000

        async def request() -> str | None:
            session = sessions.session(ticket)
            await session.load()
            assert session.user_id == "renewed"
            session.increment("n")
            await sessions.commit(session)
            return session._verifier

        verifiers = await asyncio.gather(*(request() for _ in range(20)))
        assert len(set(verifiers)) == 1
        last = sessions.session(ticket)
        await last.load()
        assert last["n"] == 20
        await backend.aclose()

    asyncio.run(work())


def _ticket(session: Any) -> Any:
    from coatcheck.core.ids import Ticket, digest

    verifier = session._verifier
    return Ticket(session.handle, verifier, digest(verifier))


# ------------------------------------------------------------------------------------------------------------- watching


class Heard:
    """What a watch has told, and a way to wait for it."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._news = threading.Condition()

    def __call__(self, notice: Notice) -> None:
        with self._news:
            self.notices.append(notice)
            self._news.notify_all()

    def wait_for(self, kind: str, times: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.count(kind) >= times, timeout=15), self.notices

    async def await_for(self, kind: str, times: int = 1) -> None:
        deadline = time.monotonic() + 15
        while self.count(kind) < times:
            assert time.monotonic() < deadline, self.notices
            await asyncio.sleep(0.005)

    def count(self, kind: str) -> int:
        return sum(notice.kind == kind for notice in self.notices)

    @property
    def ended(self) -> list[str]:
        return [notice.key for notice in self.notices if notice.kind == "ended"]


def endings(store: Any) -> list[str]:
    """End sessions in every way there is; returns their keys, in order."""
    logins = [login("watched", authenticated_at=NOW + n) for n in range(5)]
    for each in logins[:4]:
        run_now(store.admit(each, expected=None, terms=Terms(), now=NOW))
    nobody = record()
    run_now(store.create(nobody, now=NOW))
    run_now(store.delete(nobody.key, now=NOW, token="t"))
    run_now(store.delete(nobody.key, now=NOW, token="t"))  # a retry ends nothing
    run_now(store.end_one("watched", logins[3].key, now=NOW, token="t"))
    run_now(store.admit(logins[4], expected=None, terms=Terms(limit=3), now=NOW))
    run_now(store.end_user("watched", keep=logins[4].key, now=NOW, token="t"))
    run_now(store.end_user("watched", keep=None, now=NOW, token="t"))
    return [nobody.key, logins[3].key, logins[0].key, *sorted([logins[1].key, logins[2].key]), logins[4].key]


def in_order(ended: list[str]) -> list[str]:
    """Those that one statement ended come in any order."""
    return [*ended[:3], *sorted(ended[3:5]), *ended[5:]]


def test_a_thread_hears_of_every_ending(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table)
    store, heard = backend.blocking(), Heard()
    stop = store.watch(heard)
    heard.wait_for("watching")
    expected = endings(store)
    heard.wait_for("ended", 6)
    assert in_order(heard.ended) == expected
    before = heard.count("watching")
    heard.wait_for("watching", before + 2)  # it says so again and again
    terminate_all(server.url)
    heard.wait_for("lost")
    heard.wait_for("watching", heard.count("watching") + 1)
    expected = endings(store)
    heard.wait_for("ended", 12)
    stop()
    so_far = len(heard.notices)
    endings(store)
    assert len(heard.notices) == so_far
    backend.close()


def test_a_task_hears_of_every_ending(server: Server, table: str) -> None:
    backend = PostgresStore.from_url(server.url, table=table, listen_url=server.url)

    async def work() -> None:
        heard = Heard()
        stop = backend.awaiting().watch(heard)
        await heard.await_for("watching")
        expected = await asyncio.to_thread(endings, backend.blocking())
        await heard.await_for("ended", 6)
        assert in_order(heard.ended) == expected
        await heard.await_for("watching", heard.count("watching") + 2)
        await asyncio.to_thread(terminate_all, server.url)
        await heard.await_for("lost")
        await heard.await_for("watching", heard.count("watching") + 1)
        stop()
        so_far = len(heard.notices)
        await asyncio.to_thread(endings, backend.blocking())
        await asyncio.sleep(0.05)
        assert len(heard.notices) == so_far
        await backend.aclose()

    asyncio.run(work())
    backend.close()


def test_a_watch_begins_when_the_server_is_there(own: Server) -> None:
    own.stop()
    backend, heard = PostgresStore.from_url(own.url), Heard()
    stop = backend.blocking().watch(heard)
    own.start()
    heard.wait_for("watching")
    assert heard.notices[0] == Notice("watching")
    stop()
    backend.close()
