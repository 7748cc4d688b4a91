"""The two faces: what scripts and requests call, sync and async, over the same flows."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coatcheck import (
    AsyncSession,
    AsyncSessionManager,
    Clock,
    ConfigurationError,
    Options,
    Session,
    SessionManager,
    StoreUnavailable,
    UsageError,
    UserKey,
    WrongFace,
)
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import Page
from coatcheck.core.record import Ended, Record
from coatcheck.core.session import CookieAction, Standing
from coatcheck.manager import AsyncUserSessions, UserSessions
from coatcheck.stores.memory import MemoryStore
from tests.visits import START

# ------------------------------------------------------------------------------------------------- they are the same

PAIRS = [(SessionManager, AsyncSessionManager), (Session, AsyncSession), (UserSessions, AsyncUserSessions)]
ONLY_ASYNC = {"load"}
"""Sync sessions load themselves."""
NEVER_AWAITED = {"session", "of", "__init__", "watch"}


def methods(kind: type) -> dict[str, Any]:
    """Everything public a class itself adds."""
    own = {**kind.__dict__}
    return {
        name: value
        for name, value in own.items()
        if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__")
    }


@pytest.mark.parametrize(("sync", "awaiting"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_faces_have_the_same_methods_with_the_same_arguments(sync: type, awaiting: type) -> None:
    ours, theirs = methods(sync), methods(awaiting)
    assert ours.keys() == theirs.keys() - ONLY_ASYNC
    for name in ours:
        # The other face's kinds of things stand where this one's do: that, and the `await`, is all the difference.
        one, other = (
            str(inspect.signature(function)).replace("Async", "") for function in (ours[name], theirs[name])
        )
        assert one == other, name
        assert inspect.iscoroutinefunction(inspect.unwrap(theirs[name])) is (name not in NEVER_AWAITED), name
        assert not inspect.iscoroutinefunction(ours[name]), name


@pytest.mark.parametrize(("sync", "awaiting"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_say_the_same_of_themselves(sync: type, awaiting: type) -> None:
    for name, function in methods(sync).items():
        if name in methods(awaiting):
            ours, theirs = (inspect.getdoc(f) or "" for f in (function, methods(awaiting)[name]))
            assert theirs.startswith(ours.rstrip(".")) or name == "session", name


# --------------------------------------------------------------------------------------------------- and do the same


class Face:
    """A manager of either kind; `do` awaits what has to be awaited."""

    def __init__(self, kind: type[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._kind, self._loop = kind, loop
        self.now = START
        self.clock = Clock(time=lambda: self.now, monotonic=lambda: self.now)
        self.store: Any = MemoryStore(monotonic=lambda: self.now)
        self.sessions = self.open(self.store)

    def open(self, store: Any, **options: Any) -> Any:
        options.setdefault("on_event", lambda event: None)
        return self._kind(store, options=Options(**options), clock=self.clock)

    def do(self, value: Any) -> Any:
        if not inspect.isawaitable(value):
            return value

        async def wait() -> Any:
            return await value

        return self._loop.run_until_complete(wait())

    def load(self, ticket: Ticket | None = None) -> Any:
        session = self.sessions.session(ticket)
        if hasattr(session, "load"):
            self.do(session.load())
        return session

    def request(self, ticket: Ticket | None, serve: Callable[[Any], Any]) -> Ticket | None:
        """One request; returns the ticket the browser then holds."""
        session = self.load(ticket)
        self.do(serve(session))
        told = self.do(self.sessions.commit(session))
        if told is CookieAction.SEND:
            return Ticket(session.handle, session._verifier)
        return None if told is CookieAction.CLEAR else ticket

    def log_in(self, user: Any = "ada", ticket: Ticket | None = None) -> Ticket:
        self.now += 1
        ticket = self.request(ticket, lambda session: session.login(user))
        self.now += 1
        assert ticket is not None
        return ticket

    def user(self, ticket: Ticket | None) -> str | None:
        user: str | None = self.load(ticket).user_id
        return user


@pytest.fixture(params=[SessionManager, AsyncSessionManager], ids=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    loop = asyncio.new_event_loop()
    yield Face(request.param, loop)
    loop.close()


def test_the_verbs_that_act_at_once(face: Face) -> None:
    ticket = face.request(None, lambda s: s.update(n=1, state="xyz"))
    session, other = face.load(ticket), face.load(ticket)
    session.increment("n")
    face.do(session.save())
    face.do(other.reload())
    assert other["n"] == 2
    assert face.do(other.take("state")) == "xyz"
    assert face.do(session.take("state", "gone")) == "gone"
    assert face.do(session.take("nothing")) is None
    face.do(session.destroy())
    assert face.do(face.sessions.count()) == 0


def test_a_device_list_is_the_newest_login_first_and_names_no_secret(face: Face) -> None:
    tickets = [face.log_in() for _ in range(3)]
    face.log_in("bob")
    devices = face.do(face.sessions.of("ada").list())
    assert [device.handle for device in devices] == [ticket.locator for ticket in reversed(tickets)]
    newest = devices[0]
    assert (newest.user_id, newest.method, newest.user_agent, newest.address) == ("ada", "pwd", "", "")
    assert newest.authenticated_at == newest.created_at == newest.last_seen_at
    assert (newest.expires_at - newest.created_at).days == 1
    assert not any(ticket.verifier in repr(devices) for ticket in tickets)


def test_a_session_lists_and_ends_its_own_users_devices(face: Face) -> None:
    mine, other, bob = face.log_in(), face.log_in(), face.log_in("bob")
    session = face.load(mine)
    assert [device.handle for device in face.do(session.devices())] == [other.locator, mine.locator]
    assert face.do(session.end_device(bob.locator)) is False
    assert face.do(session.end_device(other.locator)) is True
    assert face.do(session.end_device(other.locator)) is False
    assert (face.user(mine), face.user(other), face.user(bob)) == ("ada", None, "bob")


def test_every_page_of_a_long_list_is_read(face: Face) -> None:
    for _ in range(250):
        face.log_in()
    assert len({device.handle for device in face.do(face.sessions.of("ada").list())}) == 250


def test_ending_all_and_ending_all_but_one(face: Face) -> None:
    tickets = [face.log_in() for _ in range(3)]
    assert face.do(face.sessions.of("ada").end_all(keep=tickets[1].locator)) == 2
    assert [face.user(ticket) for ticket in tickets] == [None, "ada", None]
    assert face.do(face.sessions.of("ada").end_all()) == 1
    assert face.user(tickets[1]) is None
    assert face.do(face.sessions.of("ada").end_all()) == 0


def test_ending_the_others_from_within(face: Face) -> None:
    tickets = [face.log_in() for _ in range(3)]
    assert face.do(face.load(tickets[2]).end_others()) == 2
    assert [face.user(ticket) for ticket in tickets] == [None, None, "ada"]


def test_a_password_change(face: Face) -> None:
    """All end, and the request that changed it goes on in a session of its own."""
    mine, other = face.log_in(), face.log_in()
    session = face.load(mine)
    assert face.do(session.end_all()) == 2
    session.login("ada")
    assert face.do(face.sessions.commit(session)) is CookieAction.SEND
    fresh = Ticket(session.handle, session._verifier)
    assert (face.user(fresh), face.user(mine), face.user(other)) == ("ada", None, None)


def test_a_password_reset_by_somebody_who_is_not_logged_in(face: Face) -> None:
    theirs = face.log_in("7")
    session = face.load()
    assert face.do(session.end_all(7)) == 1  # as login(7): a user id is kept as text
    session.login(7)
    face.do(session.save())
    assert (face.user(theirs), session.user_id) == (None, "7")


@pytest.mark.parametrize("nobody", [None, "", True, b"ada"])
def test_what_names_nobody_is_no_user(face: Face, nobody: Any) -> None:
    """`end_all()` of the user None would end nobody's sessions, in silence."""
    with pytest.raises(UsageError, match="user_id"):
        face.sessions.of(nobody)
    session = face.load()
    with pytest.raises(UsageError, match="nobody is logged in" if nobody is None else "user_id"):
        face.do(session.end_all(nobody))


def test_without_a_login_there_are_no_devices(face: Face) -> None:
    for ask in ("devices", "end_others", "end_all"):
        with pytest.raises(UsageError, match="nobody is logged in"):
            face.do(getattr(face.load(), ask)())
    with pytest.raises(UsageError, match="nobody is logged in"):
        face.do(face.load().end_device("any"))


def test_handles(face: Face) -> None:
    ticket = face.log_in()
    found = face.do(face.sessions.find(ticket.locator))
    assert (found.handle, found.user_id) == (ticket.locator, "ada")
    assert face.do(face.sessions.of("bob").end(ticket.locator)) is False
    assert face.do(face.sessions.of("ada").end(ticket.locator)) is True
    assert face.do(face.sessions.end(ticket.locator)) is False
    assert face.do(face.sessions.find(ticket.locator)) is None
    anonymous = face.request(None, lambda s: s.update(a=1))
    assert anonymous is not None
    device = face.do(face.sessions.find(anonymous.locator))
    assert (device.user_id, device.authenticated_at, device.method) == (None, None, "")
    assert face.do(face.sessions.end(anonymous.locator)) is True


def test_counting_and_sweeping(face: Face) -> None:
    for _ in range(5):
        face.request(None, lambda s: s.update(a=1))
    assert face.do(face.sessions.count()) == 5
    face.now += 86_400 + 60
    assert face.do(face.sessions.sweep(limit=2)) == 2
    assert face.do(face.sessions.sweep()) == 3
    assert face.do(face.sessions.count()) == 0
    face.do(face.sessions.check())


def test_of_a_failed_request_only_a_logout_is_kept(face: Face) -> None:
    ticket = face.log_in()
    session = face.load(ticket)
    session["a"] = 1
    assert face.do(face.sessions.commit(session, only_logout=True)) is CookieAction.NONE
    session.logout()
    assert face.do(face.sessions.commit(session, only_logout=True)) is CookieAction.CLEAR


# ------------------------------------------------------------------------------------------------------- stores


class Bare:
    """The five verbs, and nothing else."""

    def __init__(self) -> None:
        inner = MemoryStore()
        for verb in ("load", "create", "replace", "touch", "delete"):
            setattr(self, verb, getattr(inner, verb))


def test_what_a_store_cannot_do_is_said_by_its_name(face: Face) -> None:
    sessions = face.open(Bare())
    asks: dict[str, Callable[[], Any]] = {
        "lists sessions by user": lambda: sessions.of("ada").list(),
        "counts its sessions": lambda: sessions.count(),
        "sweeps expired sessions": lambda: sessions.sweep(),
        "can be checked": lambda: sessions.check(),
    }
    for what, ask in asks.items():
        with pytest.raises(ConfigurationError, match=f"store=Bare: this needs a store that {what}"):
            face.do(ask())
    with pytest.raises(ConfigurationError, match="by-user index"):
        face.do(sessions.of("ada").end_all())


class OneFace:
    """A backend around an application's own client, which can serve one face only."""

    def __init__(self, *, blocks: bool) -> None:
        self._blocks = blocks

    def blocking(self) -> MemoryStore:
        if not self._blocks:
            raise WrongFace("this client awaits: use AsyncSessionManager")
        return MemoryStore()

    def awaiting(self) -> MemoryStore:
        if self._blocks:
            raise WrongFace("this client blocks: use SessionManager")
        return MemoryStore()


def test_the_wrong_face_is_refused_when_it_is_built() -> None:
    assert SessionManager(OneFace(blocks=True)).count() == 0
    assert asyncio.run(AsyncSessionManager(OneFace(blocks=False)).count()) == 0
    with pytest.raises(WrongFace, match="use AsyncSessionManager"):
        SessionManager(OneFace(blocks=False))
    with pytest.raises(WrongFace, match="use SessionManager"):
        AsyncSessionManager(OneFace(blocks=True))


class Sleeps(Bare):
    """Somebody's own store, async for real, without saying so."""

    async def load(self, key: str, *, now: float) -> Record | Ended | None:
        await asyncio.sleep(0)
        return None

    def __init__(self) -> None:
        super().__init__()
        del self.__dict__["load"]


def test_a_store_that_waits_under_the_sync_face_is_told_at_the_first_request() -> None:
    session = SessionManager(Sleeps()).session(Ticket("locator", "verifier"))  # type: ignore[arg-type]  # by duck
    with pytest.raises(WrongFace, match="use the async face"):
        session.get("a")


def test_a_url_opens_a_store_and_closes_it(face: Face, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    first = face.open(url)
    session = first.session()
    session["a"] = 1
    face.do(first.commit(session))
    face.do(first.close())
    with pytest.raises(UsageError, match="closed"):
        face.do(first.count())
    again = face.open(url)
    assert face.do(again.count()) == 1
    face.do(again.close())


def test_a_url_of_nothing_we_know(face: Face) -> None:
    with pytest.raises(ConfigurationError, match="memory:, sqlite:"):
        face.open("mysterious://here")


def test_as_a_context_manager(face: Face, tmp_path: Path) -> None:
    sessions: Any = face.open(f"sqlite:///{tmp_path}/sessions.db")
    if isinstance(sessions, SessionManager):
        with sessions as entered:
            assert entered.count() == 0
    else:

        async def main() -> None:
            async with sessions as entered:
                assert await entered.count() == 0

        face.do(main())
    with pytest.raises(UsageError, match="closed"):
        face.do(sessions.count())


def test_a_store_that_was_handed_in_is_left_open(face: Face) -> None:
    closed = []

    class Owned(MemoryStore):
        def close(self) -> None:
            closed.append(True)

    face.do(face.open(Owned()).close())
    assert closed == []


# ----------------------------------------------------------------------------------------------------- lazy loading


class Down(Bare):
    """A store that cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.load = self._load

    async def _load(self, key: str, *, now: float) -> None:
        self.asked += 1
        raise StoreUnavailable("no route to host")


def test_a_sync_session_loads_itself_once() -> None:
    store, events = Down(), list[Any]()
    sessions = SessionManager(store, options=Options(on_event=events.append))  # type: ignore[arg-type]  # by duck
    session = sessions.session(Ticket("locator", "verifier"))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            session.get("a")
    assert store.asked == 1
    assert [event.name for event in events] == ["store.down"]


def test_an_async_session_is_loaded_once_and_says_how() -> None:
    async def main() -> None:
        store, events = Down(), list[Any]()
        sessions = AsyncSessionManager(store, options=Options(on_event=events.append))  # type: ignore[arg-type]  # by duck
        session = sessions.session(Ticket("locator", "verifier"))
        with pytest.raises(UsageError, match=r"await get_session\(request\)"):
            session.get("a")
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await session.load()
        with pytest.raises(StoreUnavailable):
            session.get("a")
        assert store.asked == 1
        assert [event.name for event in events] == ["store.down"]
        fresh = sessions.session()
        assert (await fresh.load()) is fresh
        assert fresh._standing is Standing.NEW

    asyncio.run(main())


def test_the_clock_and_the_ids_are_the_systems_unless_given() -> None:
    session = SessionManager(MemoryStore()).session()
    session["a"] = 1
    session.save()
    assert session.created_at is not None
    assert len(session.handle) == 24


def test_a_page_knows_where_to_go_on() -> None:
    assert Page(()).cursor is None


@pytest.mark.parametrize(
    ("manager", "face"), [(SessionManager, Session), (AsyncSessionManager, AsyncSession)]
)
def test_a_framework_may_have_a_kind_of_session_of_its_own(manager: Any, face: Any) -> None:
    class Own(face):  # type: ignore[misc]  # one of two
        """A session with the words of a framework."""

    assert type(manager(MemoryStore(), kind=Own).session()) is Own
    session = manager(MemoryStore(), kind=Own, options=Options(identity=UserKey("user"))).session()
    session._standing = Standing.NEW
    session["user"] = "ada"
    assert (isinstance(session, Own), session.user_id) == (True, "ada")
