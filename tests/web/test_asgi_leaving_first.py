"""The application ends before a response that waits for its commit: what a browser and a background task notice of that.

The store keeps its sessions in memory, and every write of it waits at a gate that the test opens.
"""

import asyncio
import sqlite3
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coatcheck import StoreUnavailable, TooLate
from coatcheck.asgi import App, Message, Receive, Scope, Send, SessionMiddleware
from coatcheck.core.record import Record
from coatcheck.eras import ERA_KEY
from coatcheck.errors import StoreError
from coatcheck.stores.sqlite import SQLiteStore
from tests.web.apps import SECRET
from tests.web.rig import START as STARTED
from tests.web.rig import Counted, Ears, Talk, Time, http_scope, page, run, settled

LENGTH = (b"content-length", b"1")
START = {"type": "http.response.start", "status": 200, "headers": [LENGTH]}
BODY = {"type": "http.response.body", "body": b"x"}


class Gated(Counted):
    """Writes wait at a gate. `refuses` is what they are told when it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuses: StoreError | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "never_waits":  # which the store inside says of itself
            raise AttributeError(name)
        return super().__getattr__(name)

    async def replace(self, *args: Any, **words: Any) -> Any:
        await self._pass()
        return await self.inner.replace(*args, **words)

    async def admit(self, *args: Any, **words: Any) -> Any:
        await self._pass()
        return await self.inner.admit(*args, **words)

    async def delete(self, *args: Any, **words: Any) -> Any:
        await self._pass()
        return await self.inner.delete(*args, **words)

    async def _pass(self) -> None:
        await asyncio.sleep(0)  # as any store that is not of this process
        await self.gate.wait()
        if self.refuses is not None:
            raise self.refuses


class Site:
    """An application that a test writes, with a browser that has a session: `n` is 1."""

    def __init__(self, **options: Any) -> None:
        self.store = Gated()
        given = {"store": self.store, "secret": SECRET, "clock": Time().clock, **options}
        self.middleware = SessionMiddleware(self._answer, **given)
        self.app: App = page(self.count)
        self.cookie = ""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    @staticmethod
    def count(session: Any) -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    async def begin(self) -> "Site":
        """Have a session, and know that the store has to be waited for."""
        self.cookie = (await Talk(self.middleware, http_scope()).run()).cookie
        await Talk(self.middleware, http_scope(cookie=self.cookie)).run()
        await self.write(1)
        self.store.gate.clear()
        return self

    async def write(self, n: int) -> None:
        def handle(session: Any) -> str:
            session["n"] = n
            return ""

        before, self.app = self.app, page(handle)
        await Talk(self.middleware, http_scope(cookie=self.cookie)).run()
        self.app = before

    def ask(self, app: App) -> Talk:
        self.app = app
        return Talk(self.middleware, http_scope(cookie=self.cookie))

    async def kept(self) -> object:
        """What the store has."""
        found = list[object]()

        def look(session: Any) -> str:
            found.append(session.get("n"))
            return ""

        self.app = page(look)
        await Talk(self.middleware, http_scope(cookie=self.cookie)).run()
        return found[0]


@asynccontextmanager
async def asked(site: Site, app: App) -> AsyncIterator[tuple[Talk, "asyncio.Task[Talk]"]]:
    """A request that has come as far as it can while the gate is closed."""
    talk = site.ask(app)
    task = asyncio.create_task(talk.run())
    await settled()
    yield talk, task
    site.store.gate.set()
    await asyncio.gather(task, return_exceptions=True)


def story(test: Callable[[Site], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a test with a site of its own, in a loop of its own."""

    async def main() -> None:
        await test(await Site(**options).begin())

    run(main())


def writing(
    *messages: Message, then: Callable[[Any], Coroutine[Any, Any, None]] | None = None, act: Any = None
) -> App:
    """An application that sets `n` to 2, sends these messages, and then goes on with something else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["session"]
        session["n"] = 2
        if act is not None:
            act(session)
        for message in messages or (START, BODY):
            await send(message)
        if then is not None:
            await then(session)

    return app


def test_nothing_of_the_application_is_alive_while_its_commit_waits() -> None:
    class Local:
        pass

    async def test(site: Site) -> None:
        alive = list[weakref.ref[Local]]()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            local = Local()
            alive.append(weakref.ref(local))
            await writing()(scope, receive, send)
            del local

        async with asked(site, app) as (talk, task):
            assert alive[0]() is None
            assert (talk.sent, task.done()) == ([], False)
            assert asyncio.all_tasks() == {task, asyncio.current_task()}  # its own, and none besides
            site.store.gate.set()
            await task
            assert [message["type"] for message in talk.sent] == [START["type"], BODY["type"]]
            assert (talk.body, talk.all(b"vary"), await site.kept()) == (b"x", ["Cookie"], 2)

    story(test)


def test_a_background_task_does_not_hold_the_response_up() -> None:
    async def test(site: Site) -> None:
        goes_on, ended = asyncio.Event(), asyncio.Event()

        async def later(session: Any) -> None:
            await goes_on.wait()
            ended.set()

        async with asked(site, writing(then=later)) as (talk, task):
            site.store.gate.set()
            await settled()
            assert (talk.body, ended.is_set(), task.done()) == (b"x", False, False)
            goes_on.set()
            await task
            assert ended.is_set()

    story(test)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_background_task_comes_too_late_before_and_after_the_commit(*, is_open: bool) -> None:
    async def test(site: Site) -> None:
        heard = list[str]()

        async def later(session: Any) -> None:
            if is_open:
                site.store.gate.set()
                await settled()
            for act in (lambda: session.update(n=3), session.logout, lambda: session.login("ann")):
                with pytest.raises(TooLate) as told:
                    act()
                heard.append(str(told.value))
            assert session["n"] == 2  # to read is no change

        async with asked(site, writing(then=later)) as (_, task):
            site.store.gate.set()
            await task
        assert len(heard) == 3
        assert await site.kept() == 2

    story(test)


def test_a_refused_commit_is_answered_503_and_what_goes_on_goes_on() -> None:
    async def test(site: Site) -> None:
        done = list[str]()

        async def later(session: Any) -> None:
            done.append("later")

        site.store.refuses = StoreUnavailable("no route to the store")
        async with asked(site, writing(then=later)) as (talk, task):
            site.store.gate.set()
            await task
            assert (talk.status, talk.all(b"retry-after"), done) == (503, ["5"], ["later"])
            assert len(talk.sent) == 2
        site.store.refuses = None
        assert await site.kept() == 1

    ears = Ears()
    story(test, on_event=ears)
    assert ears.heard.count("store.down") == 1


def test_a_refused_commit_that_is_no_outage_is_the_servers_to_answer() -> None:
    async def test(site: Site) -> None:
        site.store.refuses = StoreError("permission denied")
        async with asked(site, writing()) as (talk, task):
            site.store.gate.set()
            with pytest.raises(StoreError, match="permission"):
                await task
            assert talk.sent == []

    story(test)


def test_a_policy_that_goes_on_without_a_session_answers() -> None:
    async def test(site: Site) -> None:
        site.store.refuses = StoreUnavailable("no route to the store")
        async with asked(site, writing()) as (talk, task):
            site.store.gate.set()
            await task
            assert (talk.status, talk.body) == (200, b"x")

    story(test, on_store_error="anonymous")


def test_a_conflict_that_is_to_be_raised_is_409() -> None:
    async def test(site: Site) -> None:
        first = site.ask(writing())
        task = asyncio.create_task(first.run())
        await settled()
        inner = site.store.inner
        there = next(row for row in inner._rows.values() if isinstance(row, Record) and row.key != ERA_KEY)
        other = replace(there, versions=("other", *there.versions), data=b'{"n":7}')
        await inner.replace(other, expected=there.versions[0], now=STARTED)  # another request is first
        site.store.gate.set()
        await task
        assert first.status == 409
        assert await site.kept() == 7

    story(test, on_conflict="raise")


ACTS: dict[str, Callable[[Any], object]] = {
    "login": lambda session: session.login("ann"),
    "begin_login": lambda session: session.begin_login("ann"),
    "logout": lambda session: session.logout(),
    "regenerate": lambda session: session.regenerate(),
}
CHANGES: dict[str, Callable[[Any], object]] = {
    "touch": lambda session: session.touch(),
    "increment": lambda session: session.increment("m"),
    "delete": lambda session: session.pop("n"),
    "flash": lambda session: session.flash("hello"),
}


@pytest.mark.parametrize("name", [*ACTS, *CHANGES])
def test_a_login_or_logout_is_done_before_the_application_goes_on(name: str) -> None:
    async def test(site: Site) -> None:
        went_on = list[bool]()

        async def later(session: Any) -> None:
            went_on.append(site.store.gate.is_set())

        act = (ACTS | CHANGES)[name]
        async with asked(site, writing(act=act, then=later)) as (talk, task):
            site.store.gate.set()
            await task
            assert (talk.status, went_on) == (200, [name in ACTS])

    story(test)


@pytest.mark.parametrize(
    "messages",
    [
        ({**START, "headers": []}, BODY),
        ({**START, "headers": (LENGTH,)}, BODY),
        ({**START, "trailers": True}, BODY),
        (START, {**BODY, "more_body": True}, {"type": "http.response.body"}),
        (START, {"type": "http.response.pathsend", "path": "/x"}),
        (
            {**START, "headers": [LENGTH, (b"content-type", b"text/event-stream")]},
            {**BODY, "more_body": True},
        ),
    ],
    ids=["no length", "a tuple", "trailers", "in parts", "a file", "a stream"],
)
def test_other_responses_wait_in_the_application(messages: tuple[Message, ...]) -> None:
    async def test(site: Site) -> None:
        went_on = list[bool]()

        async def later(session: Any) -> None:
            went_on.append(site.store.gate.is_set())

        async with asked(site, writing(*messages, then=later)) as (talk, task):
            assert talk.sent == []
            site.store.gate.set()
            await task
            assert went_on == [True]
            assert [message["type"] for message in talk.sent] == [message["type"] for message in messages]
            assert await site.kept() == 2

    story(test)


def test_a_failure_after_the_response_does_not_take_it_back() -> None:
    async def test(site: Site) -> None:
        async def later(session: Any) -> None:
            raise ZeroDivisionError

        async with asked(site, writing(then=later)) as (talk, task):
            assert not task.done()
            site.store.gate.set()
            with pytest.raises(ZeroDivisionError):
                await task
            assert (talk.status, talk.body, await site.kept()) == (200, b"x", 2)

    story(test)


def test_a_failure_after_a_response_that_failed_too_tells_of_both() -> None:
    async def test(site: Site) -> None:
        async def later(session: Any) -> None:
            raise ZeroDivisionError

        site.store.refuses = StoreError("permission denied")
        async with asked(site, writing(then=later)) as (_, task):
            site.store.gate.set()
            with pytest.raises(ZeroDivisionError) as raised:
                await task
            assert isinstance(raised.value.__cause__, StoreError)

    story(test)


def test_a_failure_between_beginning_and_end_leaves_the_server_free_to_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"]["n"] = 2
        await send(START)
        raise ZeroDivisionError

    async def test(site: Site) -> None:
        site.store.gate.set()
        talk = site.ask(app)
        with pytest.raises(ZeroDivisionError):
            await talk.run()
        assert (talk.sent, await site.kept()) == ([], 1)

    story(test)


def test_a_beginning_without_an_end_is_passed_on_and_kept_from_the_store() -> None:
    async def test(site: Site) -> None:
        site.store.gate.set()
        talk = await site.ask(writing(START)).run()
        assert [message["type"] for message in talk.sent] == [START["type"]]
        assert await site.kept() == 1

    story(test)


def test_two_beginnings_are_both_passed_on_to_a_server_that_will_complain() -> None:
    async def test(site: Site) -> None:
        site.store.gate.set()
        talk = await site.ask(writing(START, START, BODY)).run()
        assert [message["type"] for message in talk.sent] == [START["type"], START["type"], BODY["type"]]

    story(test)


def test_a_request_that_is_cancelled_meanwhile_is_kept_and_whoever_cancelled_it_answers() -> None:
    async def test(site: Site) -> None:
        async with asked(site, writing()) as (talk, task):
            task.cancel()
            await settled()
            assert task.cancelled()
            site.store.gate.set()
            await settled()
            assert (talk.sent, await site.kept()) == ([], 2)

    story(test)


def test_a_store_that_had_to_wait_once_writes_at_once_again(tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    sent_by_then = list[int]()

    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["session"]["n"] = len(sent_by_then)
            await send(START)
            await send(BODY)
            sent_by_then.append(len(talk.sent))

        middleware = SessionMiddleware(app, store=SQLiteStore(file), secret=SECRET)
        talk = Talk(middleware, http_scope())
        cookie = (await talk.run()).cookie
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            talk = Talk(middleware, http_scope(cookie=cookie))
            task = asyncio.create_task(talk.run())
            await settled()
            other.execute("ROLLBACK")
            await task
        for _ in range(2):
            talk = Talk(middleware, http_scope(cookie=cookie))
            await talk.run()

    run(main())
    assert sent_by_then == [2, 2, 2, 2]


def test_an_application_that_is_cancelled_right_after_its_response_leaves_that_to_its_way() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await writing()(scope, receive, send)
        raise asyncio.CancelledError

    async def test(site: Site) -> None:
        site.store.gate.set()
        talk = site.ask(app)
        with pytest.raises(asyncio.CancelledError):
            await talk.run()
        await settled()
        assert (talk.body, await site.kept()) == (b"x", 2)

    story(test)


def test_a_background_task_that_is_cancelled_leaves_the_response_to_its_way() -> None:
    async def test(site: Site) -> None:
        async def later(session: Any) -> None:
            await asyncio.Event().wait()

        async with asked(site, writing(then=later)) as (talk, task):
            task.cancel()
            await settled()
            assert task.cancelled()
            site.store.gate.set()
            await settled()
            assert talk.body == b"x"

    story(test)


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_client_that_has_gone_is_told_as_ever(version: str) -> None:
    async def test(site: Site) -> None:
        async def gone(message: Message) -> None:
            raise OSError("gone")

        talk = site.ask(writing())
        talk.scope["asgi"]["spec_version"], talk.on_send = version, gone
        task = asyncio.create_task(talk.run())
        await settled()
        site.store.gate.set()
        with pytest.raises(OSError, match="gone"):
            await task
        assert await site.kept() == 2

    story(test)


def test_a_session_around_a_session_waits_for_both() -> None:
    async def test(site: Site) -> None:
        site.store.gate.set()
        outer = Gated()
        around = SessionMiddleware(
            site.middleware, store=outer, secret=SECRET, scope_key="outer", name="outer", clock=Time().clock
        )

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["outer"]["n"] = scope["outer"].get("n", 0) + 1
            await writing()(scope, receive, send)

        site.app, cookie = app, ""
        for _ in range(3):
            talk = await Talk(around, http_scope(cookie="; ".join(filter(None, (site.cookie, cookie))))).run()
            cookie = talk.cookie or cookie
        outer.gate.clear()
        site.store.gate.clear()
        talk = Talk(around, http_scope(cookie=f"{site.cookie}; {cookie}"))
        task = asyncio.create_task(talk.run())
        await settled()
        site.store.gate.set()
        await settled()
        assert (talk.sent, task.done()) == ([], False)
        outer.gate.set()
        await task
        assert (talk.body, await site.kept()) == (b"x", 2)

    story(test)
