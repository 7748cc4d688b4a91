"""The Redis store when things go wrong: servers that stop, pause, refuse, or are too old; callers that are cancelled."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coatcheck.core.outage import Outage
from coatcheck.core.ports import SAVED, Notice, Terms
from coatcheck.core.record import Expired, Record
from coatcheck.errors import ReplyLost, StoreError, StoreUnavailable
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores.redis import RedisSessions, RedisStore
from coatcheck.testing.contract import StoreContract
from servers import Server
from servers import redis as running
from servers.running import free_port
from tests.stores.redis_help import ACL, FACES, NOW, after, fresh, login, on, raw, record

QUICK = Outage(connect_timeout=0.5, command_timeout=0.3, break_after=3, break_for=0.5)


@contextmanager
def proxied(
    server: Server,
    lets_through: Callable[[bytes], bool],
    changed: Callable[[bytes], bytes] = lambda answer: answer,
) -> Iterator[int]:
    """A port before the server. What is not let through reaches the server, and the connection ends without its answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def close(*sockets: socket.socket) -> None:
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def carry(there: socket.socket, here: socket.socket) -> None:
        try:
            while asked := there.recv(65_536):
                through = lets_through(asked)
                if not through:
                    there.shutdown(socket.SHUT_WR)
                here.sendall(asked)
        except OSError:
            pass
        close(there, here)

    def carry_back(there: socket.socket, here: socket.socket) -> None:
        try:
            while answer := here.recv(65_536):
                there.sendall(changed(answer))
        except OSError:
            pass
        close(there, here)

    def serve(there: socket.socket) -> None:
        with there, socket.create_connection(("127.0.0.1", server.port)) as here:
            back = threading.Thread(target=carry_back, args=(there, here), daemon=True)
            back.start()
            carry(there, here)
            back.join()

    def accept() -> None:
        while True:
            try:
                there, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(there,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        close(listener)
        listener.close()
        thread.join(5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One to be hurt, and no other test's."""
    with running(tmp_path / "redis") as server:
        yield server


@pytest.mark.parametrize("face", FACES)
def test_an_unreachable_server_is_said_at_once_and_without_the_password(face: str) -> None:
    events: list[ConnectionEvent] = []
    url = f"redis://ada:lovelace@127.0.0.1:{free_port()}/0"

    async def work(store: RedisSessions) -> None:
        for _ in range(2):
            with pytest.raises(StoreUnavailable) as caught:
                await store.load("key", now=NOW)
            assert not isinstance(caught.value, ReplyLost)
            assert caught.value.__cause__ is not None
            assert "127.0.0.1" in str(caught.value)
            assert "lovelace" not in f"{caught.value!r} {caught.value}"

    backend = RedisStore.from_url(url, outage=QUICK, on_connection=events.append)
    assert "lovelace" not in repr(backend)
    on(face, backend, work)
    assert [event.state for event in events] == ["lost"]
    assert "ada:***@127.0.0.1" in events[0].store


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_was_restarted_is_found_again(server: Server, face: str) -> None:
    events: list[str] = []

    async def work(store: RedisSessions) -> None:
        there = record()
        assert await store.create(there, now=NOW) is SAVED
        server.stop()
        with pytest.raises(StoreUnavailable):
            await store.load(there.key, now=NOW)
        server.start()
        assert await store.load(there.key, now=NOW) is None  # it keeps nothing on disk
        assert await store.create(there, now=NOW) is SAVED

    backend = RedisStore.from_url(
        server.url, outage=QUICK, on_connection=lambda event: events.append(event.state)
    )
    on(face, backend, work)
    assert events == ["connected", "lost", "restored"]


@pytest.mark.parametrize("face", FACES)
def test_a_restart_between_two_requests_is_not_noticed(server: Server, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        for _ in range(3):
            assert await store.create(record(), now=NOW) is SAVED
            assert await store.load("key", now=NOW) is None
            server.kill()
            server.start()
            if (
                face != "blocking"
            ):  # the loop turns, as it does between requests, and hears that the connection was closed
                for _ in range(3):
                    await asyncio.sleep(0)

    on(face, RedisStore.from_url(server.url, outage=QUICK), work)


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_stops_answering_is_a_reply_lost_in_time(server: Server, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        there = record()
        assert await store.create(there, now=NOW) is SAVED
        new = after(there)
        server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(ReplyLost) as caught:
                await store.replace(new, expected=there.version, now=NOW)
            assert time.monotonic() - began < 0.3 + 0.5
            assert caught.value.__cause__ is not None
        finally:
            server.resume()
        # It may have been carried out, and asking again tells.
        assert await store.replace(new, expected=there.version, now=NOW) is SAVED
        assert await store.load(there.key, now=NOW) == new

    on(face, RedisStore.from_url(server.url, outage=QUICK), work)


@pytest.mark.parametrize("face", FACES)
def test_the_circuit_breaks_and_closes_again(server: Server, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        await store.check()
        server.pause()
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await store.load("key", now=NOW)
            began = time.monotonic()
            for _ in range(100):
                with pytest.raises(StoreUnavailable, match="nothing is sent"):
                    await store.load("key", now=NOW)
            assert time.monotonic() - began < 0.4
        finally:
            server.resume()
        deadline = time.monotonic() + 10
        while True:  # until it is time to try again
            try:
                assert await store.load("key", now=NOW) is None
                return
            except StoreUnavailable:
                assert time.monotonic() < deadline

    on(face, RedisStore.from_url(server.url, outage=QUICK), work)


def test_what_waits_behind_a_command_that_is_not_answered_fails_in_time(server: Server) -> None:
    async def work(store: RedisSessions) -> None:
        await store.check()
        server.pause()
        began = time.monotonic()

        async def late(turns: int) -> BaseException:
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable) as caught:
                await store.load("key", now=NOW)
            return caught.value

        try:
            await asyncio.gather(*(late(turns) for turns in range(60)))
        finally:
            server.resume()
        assert time.monotonic() - began < 0.3 + 0.5 + 0.7

    on("awaiting", RedisStore.from_url(server.url, outage=QUICK), work)


@pytest.mark.parametrize("face", FACES)
def test_where_the_answer_is_cut_off_a_read_is_repeated_and_a_write_is_not(
    redis_server: Server, face: str
) -> None:
    cuts: list[bytes] = []

    def lets_through(asked: bytes) -> bool:
        """The server gets to see it all the same."""
        hit = [cut for cut in cuts if cut in asked][:1]
        for cut in hit:
            cuts.remove(cut)
        return not hit

    async def work(store: RedisSessions) -> None:
        there = record()
        assert await store.create(there, now=NOW) is SAVED
        cuts.append(b"GET")
        assert await store.load(there.key, now=NOW) == there
        cuts.append(b"EVALSHA")
        new = after(there)
        with pytest.raises(ReplyLost):
            await store.replace(new, expected=there.version, now=NOW)
        assert await store.load(there.key, now=NOW) == new
        cuts.extend([b"GET", b"GET"])
        with pytest.raises(ReplyLost):
            await store.load(there.key, now=NOW)

    with proxied(redis_server, lets_through) as port:
        on(face, RedisStore.from_url(f"redis://127.0.0.1:{port}", prefix=fresh()), work)


# ------------------------------------------------------------------------------------------------------- cancellations


def test_of_ten_thousand_cancellations_none_misleads_a_reply(redis_server: Server) -> None:
    prefix = fresh()

    async def work(store: RedisSessions) -> None:
        records = [record(data=b"%d" % n) for n in range(100)]
        for there in records:
            assert await store.create(there, now=NOW) is SAVED
        luck = random.Random(7)
        cancelled = answered = 0

        async def ask(n: int) -> None:
            nonlocal answered
            if n % 10 == 0:  # a script among the GETs: a wrong reply would be of another type
                answer = await store.touch(
                    records[n].key, deadline=NOW + 4_000, seen_at=NOW, expected=records[n].version, now=NOW
                )
                assert answer is True
            else:
                found = await store.load(records[n].key, now=NOW)
                assert isinstance(found, Record)
                assert found.data == b"%d" % n
            answered += 1

        while cancelled < 10_000:
            tasks = [asyncio.ensure_future(ask(luck.randrange(100))) for _ in range(100)]
            for _ in range(luck.randrange(6)):
                await asyncio.sleep(0)
            for task in luck.sample(tasks, 60):
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, asyncio.CancelledError):
                    cancelled += 1
                else:
                    assert outcome is None
        assert answered > 1_000

    on("awaiting", RedisStore.from_url(redis_server.url, prefix=prefix), work)


def test_a_cancelled_caller_does_not_cancel_the_others_of_its_batch(redis_server: Server) -> None:
    async def work(store: RedisSessions) -> None:
        await store.check()
        there = [record() for _ in range(10)]
        tasks = [asyncio.ensure_future(store.create(r, now=NOW)) for r in there]
        await asyncio.sleep(0)  # all have joined, the batch is on its way
        await asyncio.sleep(0)
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[1:] == [SAVED] * 9

    on("awaiting", RedisStore.from_url(redis_server.url, prefix=fresh()), work)


def test_a_loop_that_ends_meanwhile_tells_those_who_wait(server: Server) -> None:
    async def work() -> None:
        backend = RedisStore.from_url(
            server.url, outage=Outage(command_timeout=30), transport="redis-py"
        )  # over the other way no task stands between who asks and the loop
        store = backend.awaiting()
        await store.check()
        server.pause()
        asking = asyncio.ensure_future(store.load("key", now=NOW))
        await asyncio.sleep(0.05)
        client: Any = store._client
        line = client._line()
        for task in line._tasks:
            task.cancel()
        with pytest.raises(ReplyLost, match="event loop"):
            await asking
        await line.pool.disconnect()

    try:
        asyncio.run(work())
    finally:
        server.resume()


# ------------------------------------------------------------------------------------- who may come in, and old servers


@pytest.mark.parametrize("face", FACES)
def test_a_wrong_password_is_a_store_error_that_does_not_show_it(tmp_path: Path, face: str) -> None:
    async def refused(store: RedisSessions) -> None:
        with pytest.raises(StoreError, match="password") as caught:
            await store.load("key", now=NOW)
        assert not isinstance(caught.value, StoreUnavailable)
        assert "wrong-one" not in str(caught.value)

    async def works(store: RedisSessions) -> None:
        await store.check()

    with running(tmp_path, "--requirepass", "the-right-one") as server:
        for url in (f"redis://:wrong-one@127.0.0.1:{server.port}", server.url):
            on(face, RedisStore.from_url(url), refused)
        on(face, RedisStore.from_url(f"redis://:the-right-one@127.0.0.1:{server.port}/1"), works)


def test_an_acl_user_needs_no_more_than_the_page_says(server: Server) -> None:
    page = (Path(__file__).parents[2] / "docs/stores/redis.md").read_text()
    assert ACL in " ".join(page.replace("\\\n", " ").split())
    with raw(server) as client:
        rule = ["on", ">pw", "~coatcheck:*", "resetchannels", "&coatcheck:*", "-@all", *ACL.split()]
        client.execute_command("ACL SETUSER", "web", *rule)
    url = f"redis://web:pw@127.0.0.1:{server.port}"
    StoreContract(lambda: RedisStore.from_url(url, prefix=f"coatcheck:{fresh()}")).run()


@pytest.mark.parametrize("face", FACES)
def test_what_the_acl_forbids_is_a_store_error_that_says_so(server: Server, face: str) -> None:
    with raw(server) as client:
        rule = ["on", ">pw", "~coatcheck:*", "resetchannels", "+@all"]
        client.execute_command("ACL SETUSER", "web", *rule)

    async def work(store: RedisSessions) -> None:
        there = record()
        assert await store.create(there, now=NOW) is SAVED
        with pytest.raises(StoreError, match="allow"):
            await store.delete(there.key, now=NOW, token="t")
        assert await store.load(there.key, now=NOW) == there  # nothing half done
        with pytest.raises(StoreError, match="allow"):
            await store.check()

    on(face, RedisStore.from_url(f"redis://web:pw@127.0.0.1:{server.port}"), work)


def older(server: Server, version: bytes) -> AbstractContextManager[int]:
    """A port at which the server claims to be of another version, of equally many octets."""
    return proxied(server, lambda asked: True, lambda answer: answer.replace(b"7.0.15", version))


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_is_too_old_is_refused_with_its_version(redis_server: Server, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        with pytest.raises(StoreError, match=r"Redis 6\.0.*6\.2 or newer"):
            await store.load("key", now=NOW)

    async def fine(store: RedisSessions) -> None:
        assert await store.load("key", now=NOW) is None

    with older(redis_server, b"6.0.16") as port:
        on(face, RedisStore.from_url(f"redis://127.0.0.1:{port}"), work)
    with older(redis_server, b"6.2.14") as port:
        on(face, RedisStore.from_url(f"redis://127.0.0.1:{port}"), fine)


@pytest.mark.parametrize("face", FACES)
def test_what_is_no_redis_is_a_store_error(face: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                there, _ = listener.accept()
            except OSError:
                return
            with there:
                there.recv(1000)
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()

    async def work(store: RedisSessions) -> None:
        with pytest.raises(StoreError):
            await store.load("key", now=NOW)

    try:
        on(face, RedisStore.from_url(f"redis://127.0.0.1:{listener.getsockname()[1]}", outage=QUICK), work)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


# ------------------------------------------------------------------------------------------------------------- watching


class Heard:
    """What a watch was told; `until` waits for a notice."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._news = threading.Condition()

    def __call__(self, notice: Notice) -> None:
        with self._news:
            self.notices.append(notice)
            self._news.notify_all()

    def keys(self) -> list[str]:
        return [notice.key for notice in self.notices if notice.kind == "ended"]

    def has(self, *kinds: str) -> bool:
        left = iter(self.notices)
        return all(any(notice.kind == kind for notice in left) for kind in kinds)

    async def until(self, face: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, self.notices
            if face != "blocking":
                await asyncio.sleep(0.01)
            else:
                with self._news:
                    self._news.wait(0.1)


@pytest.mark.parametrize("url", ["{}", "{}?protocol=2"])
@pytest.mark.parametrize("face", FACES)
def test_watching_tells_of_every_end_and_of_nothing_else(redis_server: Server, face: str, url: str) -> None:
    async def work(store: RedisSessions) -> None:
        heard = Heard()
        stop = store.watch(heard)
        await heard.until(face, lambda: heard.has("watching"))
        gone, mine, evicted, last, expired = record(), login(), login("bob"), login("bob"), record()
        for there in (gone, expired):
            await store.create(there, now=NOW)
        for there in (mine, evicted, last):
            await store.admit(there, expected=None, terms=Terms(limit=1), now=NOW)
        assert await store.load(expired.key, now=expired.deadline) == Expired(expired.key)
        await store.delete(gone.key, now=NOW, token="t")
        await store.delete(gone.key, now=NOW, token="t")
        await store.end_user("ada", keep=None, now=NOW, token="t")
        await store.end_one("bob", last.key, now=NOW, token="t")
        await store.check()
        expected = [evicted.key, gone.key, mine.key, last.key]
        await heard.until(face, lambda: len(heard.keys()) >= len(expected))
        assert heard.keys() == expected
        await heard.until(face, lambda: heard.has("watching", "watching"))
        stop()

    on(face, RedisStore.from_url(url.format(redis_server.url), prefix=fresh()), work)


@pytest.mark.parametrize("face", FACES)
def test_a_watch_that_is_lost_says_so_and_is_made_again(server: Server, face: str) -> None:
    async def work(store: RedisSessions) -> None:
        heard, there = Heard(), record()
        stop = store.watch(heard)
        await heard.until(face, lambda: heard.has("watching"))
        server.kill()
        await heard.until(face, lambda: heard.has("watching", "lost"))
        server.start()
        await heard.until(face, lambda: heard.has("watching", "lost", "watching"))
        await store.create(there, now=NOW)
        await store.delete(there.key, now=NOW, token="t")
        await heard.until(face, lambda: heard.keys() == [there.key])
        server.pause()
        try:
            await heard.until(face, lambda: heard.has("lost", "watching", "lost"))
        finally:
            server.resume()
        stop()

    on(face, RedisStore.from_url(server.url, outage=Outage(break_after=100)), work)
