"""WebSockets are closed when their session is over: told by the store at once, found by a look every 30 seconds."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from coatcheck import CorruptRecord, Notice, SessionManager, StoreUnavailable, Timeouts
from coatcheck.asgi import Message, Receive, Scope, Send, SessionMiddleware, get_session
from coatcheck.eras import ERA_KEY
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.vigil import AT_ONCE, EVERY
from tests.web.paths import SECRET
from tests.web.rig import Ears, Talk, Time, http_scope, page, settled, websocket_scope

CLOSED = {"type": "websocket.close", "code": 1008, "reason": "the session is over"}
ACCEPT = {"type": "websocket.accept"}


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """In an event loop of its own; a test that waits for what never comes fails, and does not hang."""
    return asyncio.run(asyncio.wait_for(main, 60))


class Silent(MemoryStore):
    """A watch that works, as far as anybody can see, and never tells of an end; it counts what it is asked, and may be down."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.down, self.watches = list[str](), False, 0

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        self.watches += 1
        tell(Notice("watching"))

        def stop() -> None:
            self.watches -= 1

        return stop

    async def load(self, key: str, *, now: float) -> Any:
        self.asked.append(key)
        if self.down:
            raise StoreUnavailable("no route to the store")
        return await super().load(key, now=now)


class Line:
    """The server's end of one WebSocket."""

    def __init__(self, app: Any, cookie: str) -> None:
        self.sent: list[Message] = []
        self.may_close = True
        self._hears: asyncio.Queue[Message] = asyncio.Queue()
        self.say({"type": "websocket.connect"})
        self.scope = websocket_scope(cookie=cookie)
        self.task = asyncio.create_task(app(self.scope, self._hears.get, self._send))

    def say(self, message: Message) -> None:
        """What the client does."""
        self._hears.put_nowait(message)

    async def _send(self, message: Message) -> None:
        if message["type"] == "websocket.close" and not self.may_close:
            raise RuntimeError("Unexpected ASGI message 'websocket.close'")
        self.sent.append(dict(message))
        if message["type"] == "websocket.close":  # as uvicorn does
            self.say({"type": "websocket.disconnect", "code": message.get("code", 1000)})

    @property
    def closed(self) -> bool:
        """Whether it was closed because the session is over."""
        return CLOSED in self.sent

    async def leave(self) -> None:
        """The client goes, and the application ends."""
        self.say({"type": "websocket.disconnect", "code": 1001})
        await self.task


class Site:
    """An application with pages that act on the session, and a WebSocket that looks at it."""

    def __init__(self, store: Any = None, **options: Any) -> None:
        self.time, self.ears, self.heard = Time(), Ears(), list[Any]()
        self.store: Any = store if store is not None else MemoryStore()
        options = {"clock": self.time.clock, "secret": SECRET, "on_event": self.ears, **options}
        self.app = SessionMiddleware(self._answer, store=self.store, **options)
        self.act: Callable[[Any], Any] = lambda session: ""
        self.on_message: Callable[[Any], Coroutine[Any, Any, None]] | None = None
        self.looks = True

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await page(lambda session: str(self.act(session)))(scope, receive, send)
            return
        session = scope["session"]
        await receive()
        if self.looks:
            session.get("n")
        await send(dict(ACCEPT))
        while True:
            message = await receive()
            self.heard.append(message)
            if message["type"] == "websocket.disconnect":
                break
            if self.on_message is not None:
                await self.on_message(session)
            await send({"type": "websocket.send", "text": "echo"})
        with pytest.raises(OSError, match="session of this WebSocket is over"):
            await send({"type": "websocket.send", "text": "late"})
        await send(
            {"type": "websocket.close", "code": 1000}
        )  # as Quart does, whatever its handler says: it is closed already

    async def visit(self, act: Callable[[Any], Any], cookie: str = "") -> str:
        """Do this in a request of its own; returns what the browser holds then."""
        self.act = act
        talk = await Talk(self.app, http_scope(cookie=cookie)).run()
        return talk.cookie or cookie

    async def login(self, user: str = "ada", cookie: str = "") -> str:
        return await self.visit(lambda session: session.login(user), cookie)

    async def open(self, cookie: str) -> Line:
        """A WebSocket that was accepted."""
        line = Line(self.app, cookie)
        await settled()
        assert line.sent[0]["type"] == "websocket.accept"
        return line

    def seats(self) -> int:
        """How many WebSockets are held to a session."""
        assert self.app._vigil is not None
        watches = self.app._vigil._watches.values()
        return sum(len(kept.seats) for watch in watches for kept in watch._kept.values())


def sqlite(folder: Path) -> Any:
    return SQLiteStore(folder / "sessions.db")


def end(session: Any) -> None:
    session.logout()


# ------------------------------------------------------------------------------------------------------- being told


@pytest.mark.parametrize("how", ["logout", "by handle", "all of the user", "another user logs in"])
def test_it_is_closed_at_once_when_its_session_is_ended_elsewhere(how: str) -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        line, other = await site.open(cookie), await site.open(await site.login("bob"))
        if how == "logout":
            await site.visit(end, cookie)
        elif how == "by handle":
            await site.app.sessions.end(line.scope["session"].handle)
        elif how == "all of the user":
            await site.app.sessions.of("ada").end_all()
        else:
            await site.login("eve", cookie)
        await settled()
        assert (line.closed, other.closed, site.seats()) == (True, False, 1)
        assert site.heard == [{"type": "websocket.disconnect", "code": 1008, "reason": "the session is over"}]
        await line.task
        await site.app.sessions.of("bob").end_all()
        await other.task

    run(main())


def test_a_message_that_comes_after_the_end_does_not_reach_the_application() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        line = await site.open(cookie)
        await site.visit(end, cookie)
        line.say({"type": "websocket.receive", "text": "pay"})
        await line.task
        assert [message["type"] for message in site.heard] == ["websocket.disconnect"]
        assert [message["type"] for message in line.sent] == ["websocket.accept", "websocket.close"]

    run(main())


def test_an_end_on_another_thread_is_heard_on_the_sockets_own() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        line = await site.open(cookie)
        handle, sync = line.scope["session"].handle, SessionManager(site.store)
        thread = threading.Thread(target=sync.end, args=(handle,))
        thread.start()
        await asyncio.to_thread(thread.join)
        await settled()
        assert line.closed
        await line.task

    run(main())


def test_what_the_socket_does_to_its_own_session_closes_nothing() -> None:
    async def main() -> None:
        site = Site()

        async def on_message(session: Any) -> None:
            session.increment("n")
            await session.save()
            await session.reload()

        site.on_message = on_message
        cookie = await site.login()
        line = await site.open(cookie)
        for _ in range(3):
            line.say({"type": "websocket.receive", "text": ""})
            await site.time.passes(EVERY)
        await site.visit(lambda session: session.increment("n"), cookie)
        await site.time.passes(EVERY)
        assert not line.closed
        assert line.scope["session"]["n"] == 3
        await site.visit(end, cookie)
        await line.task

    run(main())


# ---------------------------------------------------------------------------------------------- looked at now and then


def test_where_the_store_does_not_tell_it_is_closed_within_half_a_minute(tmp_path: Path) -> None:
    async def main() -> None:
        site = Site(sqlite(tmp_path))
        cookie = await site.login()
        line, other = await site.open(cookie), await site.open(await site.login("bob"))
        await site.visit(end, cookie)
        await site.time.passes(EVERY - 1)
        assert not line.closed
        await site.time.passes(1)
        assert (line.closed, other.closed) == (True, False)
        await line.task
        await site.app.sessions.of("bob").end_all()
        await site.time.passes(EVERY)
        await other.task

    run(main())


def test_a_watch_that_has_broken_without_knowing_is_made_up_for() -> None:
    async def main() -> None:
        site = Site(Silent())
        cookie = await site.login()
        line = await site.open(cookie)
        await site.visit(end, cookie)
        assert (line.closed, site.store.watches) == (False, 1)
        await site.time.passes(EVERY)
        assert line.closed
        await line.task
        assert site.store.watches == 0

    run(main())


@pytest.mark.parametrize("limit", ["idle", "absolute"])
def test_a_session_that_expires_closes_it(limit: str) -> None:
    async def main() -> None:
        site = Site(timeouts=Timeouts(idle=600, absolute=1200, renewal=None))
        cookie = await site.login()
        line = await site.open(cookie)
        if limit == "absolute":  # other requests keep it from being idle
            for _ in range(3):
                await site.time.passes(390)
                assert not line.closed
                await site.visit(lambda session: session.user_id, cookie)
        else:
            await site.time.passes(599)
            assert not line.closed
        await site.time.passes(EVERY)
        assert line.closed
        await line.task

    run(main())


def test_a_login_or_a_rotation_closes_what_an_older_cookie_opened() -> None:
    """Whoever planted or copied a cookie must not go on in a socket, when a request with that cookie could not."""

    async def main() -> None:
        for act in (lambda session: session.login("ada"), lambda session: session.regenerate()):
            site = Site()
            cookie = await site.visit(lambda session: session.update(n=1))
            planted = await site.open(cookie)
            cookie = await site.visit(act, cookie)
            mine = await site.open(cookie)
            await site.time.passes(EVERY)
            assert (planted.closed, mine.closed) == (True, False)
            await planted.task
            await site.visit(end, cookie)
            await mine.task

    run(main())


def test_a_renewal_by_age_closes_nothing() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        line = await site.open(cookie)
        await site.time.passes(3601)
        renewed = await site.visit(lambda session: session.user_id, cookie)
        assert renewed != cookie
        await site.time.passes(EVERY)
        await site.visit(lambda session: session.increment("n"), renewed)
        await site.time.passes(EVERY)
        assert not line.closed
        await site.visit(end, renewed)
        await line.task

    run(main())


def test_while_the_store_is_down_it_goes_on_until_what_was_known_to_be_the_end() -> None:
    async def main() -> None:
        site = Site(Silent(), timeouts=Timeouts(idle=600))
        line = await site.open(await site.login())
        site.store.down = True
        site.ears.heard.clear()
        await site.time.passes(EVERY)
        await site.time.passes(EVERY)
        assert (line.closed, site.ears.heard) == (False, ["store.down"] * 2)
        await site.time.passes(540)
        assert line.closed
        await line.task

    run(main())


def test_a_listener_that_raises_ends_no_vigil(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        def deaf(event: Any) -> None:
            if event.name == "store.down":
                raise LookupError

        site = Site(Silent(), on_event=deaf)
        cookie = await site.login()
        line = await site.open(cookie)
        site.store.down = True
        await site.time.passes(EVERY)
        site.store.down = False
        await site.visit(end, cookie)
        await site.time.passes(EVERY)
        assert line.closed
        await line.task

    run(main())
    assert ["LookupError" in record.message for record in caplog.records] == [True]


def test_what_cannot_be_read_is_no_session() -> None:
    async def main() -> None:
        site = Site(Silent())
        line = await site.open(await site.login())

        async def corrupt(key: str, *, now: float) -> Any:
            raise CorruptRecord("not a record")

        site.store.load = corrupt
        await site.time.passes(EVERY)
        assert line.closed
        await line.task

    run(main())


# -------------------------------------------------------------------------------------------------------- what it costs


def test_many_sockets_of_one_session_are_one_look_and_none_is_a_task_of_its_own() -> None:
    async def main() -> None:
        site = Site(Silent())
        cookies = [await site.login(f"user{n}") for n in range(AT_ONCE + 6)]
        before = len(asyncio.all_tasks())
        lines = [await site.open(cookie) for cookie in cookies for _ in range(2)]
        assert len(asyncio.all_tasks()) - before == len(lines) + 1  # the applications, and one for all
        assert site.store.watches == 1
        site.store.asked.clear()
        await site.time.passes(EVERY)
        assert len([key for key in site.store.asked if key != ERA_KEY]) == len(cookies)
        for line in lines:
            line.say({"type": "websocket.disconnect", "code": 1001})
        await asyncio.gather(*(line.task for line in lines), return_exceptions=True)
        await settled()
        assert (site.seats(), site.store.watches, len(asyncio.all_tasks())) == (0, 0, before)

    run(main())


def test_a_socket_that_never_looked_is_not_held_to_anything() -> None:
    async def main() -> None:
        site = Site(Silent())
        site.looks = False
        cookie = await site.login()
        line = await site.open(cookie)
        assert (site.seats(), site.store.watches) == (0, 0)

        async def look(session: Any) -> None:
            session.get("n")

        site.on_message = look
        line.say({"type": "websocket.receive", "text": ""})
        await settled()
        assert site.seats() == 1
        await site.visit(end, cookie)
        await site.time.passes(EVERY)
        assert line.closed
        await line.task

    run(main())


def test_a_lazy_session_is_held_to_from_when_it_is_loaded() -> None:
    async def main() -> None:
        site = Site(lazy=True)
        site.looks = False
        cookie = await site.login()
        line = await site.open(cookie)
        assert site.seats() == 0

        async def look(session: Any) -> None:
            assert (await get_session(line.scope)).user_id == "ada"

        site.on_message = look
        line.say({"type": "websocket.receive", "text": ""})
        await settled()
        await site.app.sessions.of("ada").end_all()
        await settled()
        assert line.closed
        await line.task

    run(main())


def test_nothing_is_kept_for_those_without_a_session_nor_where_it_is_switched_off() -> None:
    async def main() -> None:
        for options, cookie in (({}, ""), ({"close_websockets": False}, "login")):
            site = Site(Silent(), **options)
            if cookie:
                cookie = await site.login()
            line = await site.open(cookie)
            assert site.store.watches == 0
            await site.visit(end, cookie)
            await site.time.passes(EVERY)
            assert not line.closed
            line.task.cancel()
            await asyncio.gather(line.task, return_exceptions=True)

    run(main())


# ------------------------------------------------------------------------------------------------- who was first


@pytest.mark.parametrize("first", ["client", "application"])
def test_a_socket_that_is_closed_already_is_not_closed_again(first: str) -> None:
    async def main() -> None:
        hold = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await page(lambda session: session.login("ada") or "")(scope, receive, send)
                return
            scope["session"].get("n")
            await receive()
            await send(dict(ACCEPT))
            if first == "client":
                await receive()
            else:
                await send({"type": "websocket.close", "code": 1000})
            await hold.wait()

        sessions = SessionMiddleware(app, store=MemoryStore(), secret=SECRET)
        cookie = (await Talk(sessions, http_scope()).run()).cookie
        line = Line(sessions, cookie)
        if first == "client":
            line.say({"type": "websocket.disconnect", "code": 1001})
        await settled()
        await sessions.sessions.of("ada").end_all()
        await settled()
        assert not line.closed
        hold.set()
        await line.task

    run(main())


def test_a_server_that_has_closed_it_meanwhile_is_no_trouble() -> None:
    async def main() -> None:
        site = Site()
        cookie = await site.login()
        line = await site.open(cookie)
        line.may_close = False
        await site.visit(end, cookie)
        await settled()
        assert (line.closed, site.heard) == (False, [])
        line.say({"type": "websocket.receive", "text": "pay"})
        await line.task
        assert [message["type"] for message in site.heard] == ["websocket.disconnect"]

    run(main())


def test_a_session_that_ends_while_the_loop_is_closed_troubles_nobody() -> None:
    site = Site()

    async def main() -> str:
        cookie = await site.login()
        line = await site.open(cookie)
        return str(line.scope["session"].handle)  # the loop ends with the socket open

    handle = run(main())
    assert SessionManager(site.store).end(handle)
