"""Sessions in the cookie itself: through ASGI and WSGI, what they hold, what they cannot, and what a server must be asked for."""

import base64
import re
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coatcheck import (
    ConfigurationError,
    CookieSettings,
    CookieTooLarge,
    Options,
    SessionManager,
    StoreUnavailable,
    Timeouts,
    TooLate,
    UsageError,
)
from coatcheck.carrying import carrier_of
from coatcheck.core.ports import ByUser, Carries, Checks, Counts, SetsUp, Sweeps, Tallies, Watches
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.eras import ERA_KEY
from coatcheck.security.encryption import OVERHEAD
from coatcheck.stores import carried, has_server, open_store
from coatcheck.stores import cookie as module
from coatcheck.stores.cookie import LONGEST, Carried, CookieStore
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.layered import LayeredStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.telemetry.observed import Observed
from servers import Server
from tests.patience import PATIENT
from tests.stores.cookie_site import (
    KINDS,
    NAME,
    NOON,
    OTHER,
    SECRET,
    SHORT,
    Browser,
    Site,
    logs_in,
    logs_out,
    puts,
    who,
)


@pytest.fixture(params=["asgi", "wsgi"])
def face(request: pytest.FixtureRequest) -> str:
    face: str = request.param
    return face


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, face: str) -> Site:
    return Site(face, store=KINDS[request.param]())


@pytest.fixture
def backed(face: str) -> Site:
    return Site(face, store=KINDS["epoch"]())


@pytest.fixture
def alone(face: str) -> Site:
    return Site(face, store=KINDS["none"]())


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


# ------------------------------------------------------------------------------------------------------- a session


def test_what_is_put_into_a_session_is_there_at_the_next_request(browser: Browser) -> None:
    browser.do(puts(cart={"apples": 3}))
    assert browser.jar.keys() == {NAME}
    assert browser.do() == {"cart": {"apples": 3}}
    assert browser.fields == []
    assert browser.response.headers["vary"] == "Cookie"
    browser.do(lambda session: session.increment("visits"))
    browser.do(lambda session: session["cart"].update(pears=1))
    assert browser.do() == {"cart": {"apples": 3, "pears": 1}, "visits": 1}


def test_a_response_that_sets_the_cookie_is_for_nobody_else(browser: Browser) -> None:
    browser.do(puts(a=1))
    assert browser.response.headers["cache-control"] == "no-store"
    (field,) = browser.fields
    assert field.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax")


def test_nothing_is_set_for_a_visitor_who_has_no_session(browser: Browser) -> None:
    assert browser.do() == {}
    assert (browser.fields, browser.jar) == ([], {})


def test_the_cookie_shows_nothing(browser: Browser) -> None:
    browser.do(puts(secret="marker-in-the-data"))
    browser.do(logs_in("marker-of-a-user"))
    text = browser.jar[NAME][2:]
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert b"marker" not in raw
    assert "marker" not in text


def test_a_session_begun_saved_and_read_again_in_one_request(browser: Browser) -> None:
    async def both(session: Any) -> Any:
        session["a"] = 1
        await _maybe(session.save())
        session["b"] = 2
        await _maybe(session.reload())
        session["c"] = 3
        return dict(session)

    answer = browser.do(both if browser.site.face == "asgi" else lambda session: _run(both(session)))
    assert answer == {"a": 1, "c": 3} == browser.do()


async def _maybe(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def _run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def test_login_and_logout(browser: Browser) -> None:
    browser.do(puts(cart=1))
    browser.do(logs_in())
    assert (browser.do(who), browser.do()) == ("ada", {"cart": 1})
    browser.do(logs_out)
    assert browser.jar == {}
    assert browser.do(who) is None


def test_another_user_logs_in_over_a_session(browser: Browser) -> None:
    browser.do(logs_in("ada"))
    browser.do(puts(secret="ada's"))
    browser.do(logs_in("eve"))
    assert (browser.do(who), browser.do()) == ("eve", {})


def test_the_handle_is_a_plain_text_and_constant(browser: Browser) -> None:
    browser.do(puts(a=1))
    handle = browser.do(lambda session: session.handle)
    browser.do(logs_in())
    assert browser.do(lambda session: session.handle) == handle
    assert type(handle) is str
    assert all(type(event.handle) in (str, type(None)) for event in browser.site.events)


def test_reading_moves_the_deadline_in_steps(browser: Browser) -> None:
    browser.do(puts(a=1))
    for _ in range(5):
        browser.site.now += 3_000
        assert browser.do() == {"a": 1}
        assert browser.fields
    browser.site.now += 30
    browser.do()
    assert browser.fields == []


def test_no_verifier_is_renewed_by_age(browser: Browser) -> None:
    browser.do(logs_in())
    browser.site.now += 3_500
    browser.do()
    browser.site.now += 3_500
    browser.do()
    assert browser.do(who) == "ada"
    assert "session.renewed" not in browser.site.names()


def test_a_session_that_says_so_outlives_the_browser(browser: Browser) -> None:
    browser.do(lambda session: session.login("ada", remember=True))
    assert f"Max-Age={int(LONGEST)}" in browser.fields[0]
    browser.site.now += 7_200
    assert browser.do(who) == "ada"


# ------------------------------------------------------------------------------------------------------ many cookies


def test_a_large_session_takes_several_cookies_and_gives_them_back(browser: Browser) -> None:
    browser.do(puts(note="x" * 4_500))
    assert list(browser.jar) == [NAME, f"{NAME}.1"]
    assert browser.jar[NAME].startswith("2.")
    browser.do(logs_in())
    assert browser.do() == {"note": "x" * 4_500}
    browser.do(puts(note="short"))
    assert list(browser.jar) == [NAME]
    assert browser.do() == {"note": "short"}
    browser.do(puts(note="y" * 4_500))
    browser.do(logs_out)
    assert browser.jar == {}


def test_the_order_in_the_header_is_of_no_consequence(browser: Browser) -> None:
    browser.do(puts(note="x" * 4_500))
    browser.jar = dict(reversed(browser.jar.items()))
    assert browser.do() == {"note": "x" * 4_500}


def test_the_largest_session_takes_nine_cookies_at_most() -> None:
    site = Site("wsgi", store=CookieStore(revocation="epoch", store=MemoryStore(), octets=32_768))
    browser = Browser(site)
    browser.do(puts(note="x" * 24_000))
    assert list(browser.jar) == [NAME, *(f"{NAME}.{n}" for n in range(1, 9))]
    assert all(len(field) <= 4_093 for field in browser.fields)
    assert browser.do() == {"note": "x" * 24_000}


@pytest.mark.parametrize("how", ["missing", "of another response", "exchanged", "twice"])
def test_pieces_that_do_not_belong_together_are_nothing(browser: Browser, how: str) -> None:
    browser.do(puts(note="x" * 4_500))
    before = dict(browser.jar)
    browser.do(puts(note="y" * 4_500))
    second = f"{NAME}.1"
    if how == "missing":
        del browser.jar[second]
    elif how == "of another response":
        browser.jar[second] = before[second]
    elif how == "exchanged":
        browser.jar = {NAME: "2." + browser.jar[second], second: browser.jar[NAME][2:]}
    header = browser.header + (f"; {second}={before[second]}" if how == "twice" else "")
    browser.site.names()
    browser.site.send(header)
    assert browser.site.answer == {}
    assert browser.site.names() == ["cookie.forged"]


def test_a_piece_too_many_is_left_alone_and_then_deleted(browser: Browser) -> None:
    browser.do(puts(a=1))
    browser.jar[f"{NAME}.1"] = "left-by-an-older-release"
    assert browser.do() == {"a": 1}
    browser.do(puts(b=2))
    assert list(browser.jar) == [NAME]


# ------------------------------------------------------------------------------------------------------ what is refused


def test_what_is_too_large_is_refused_before_anything_leaves(browser: Browser) -> None:
    browser.do(puts(a=1))
    before = dict(browser.jar)
    with pytest.raises(CookieTooLarge, match=r"octets=7168"):
        browser.do(puts(note="x" * 9_000))
    assert browser.jar == before
    assert browser.do() == {"a": 1}


@pytest.mark.parametrize("verb", ["take", "devices", "end_all", "end_others"])
def test_what_needs_a_server_says_which(alone: Site, verb: str) -> None:
    browser = Browser(alone)
    browser.do(logs_in())

    def call(session: Any) -> Any:
        return getattr(session, verb)(*(("state",) if verb == "take" else ()))

    with pytest.raises(UsageError, match=r'CookieStore\(revocation="epoch", store="redis://…"\), or a store'):
        browser.do(call)


def test_tries_of_a_second_factor_are_not_counted_in_a_cookie(site: Site) -> None:
    """Whoever sends an older cookie again would have all of them again."""
    browser = Browser(site)
    browser.do(lambda session: session.begin_login("ada", method="pwd"))
    with pytest.raises(UsageError, match="counts the tries"):
        browser.do(lambda session: session.try_factor())


def test_an_expired_session_is_told_as_expired_and_looks_like_none(browser: Browser) -> None:
    browser.do(logs_in())
    browser.site.names()
    browser.site.now += 3_600
    thief, stranger = browser.copy(), Browser(browser.site)
    assert (thief.do(), thief.fields) == (stranger.do(), stranger.fields) == ({}, [])
    (event,) = browser.site.events
    assert (event.name, event.user_id, event.detail) == ("session.expired", "ada", "idle")


def test_all_methods_of_a_login_are_in_the_cookie(browser: Browser) -> None:
    browser.do(lambda session: session.login("ada", method=("pwd", "otp")))
    assert browser.do(lambda session: session.amr) == ("pwd", "otp")


def test_a_value_for_one_taker_needs_the_data_on_a_server(backed: Site) -> None:
    browser = Browser(backed)
    browser.do(puts(state="x"))
    with pytest.raises(UsageError, match="one taker at most"):
        browser.do(lambda session: session.take("state"))


def test_nobody_can_end_what_no_server_knows() -> None:
    manager = SessionManager("cookie:?revocation=none", options=Options(timeouts=SHORT))
    with pytest.raises(UsageError, match="end another's session"):
        manager.end("a-handle")
    with pytest.raises(UsageError, match="lists sessions by user"):
        manager.of("ada").end_all()
    with pytest.raises(UsageError, match="counts"):
        manager.count()
    assert manager.find("a-handle") is None


def test_a_streamed_body_cannot_change_what_has_left(face: str) -> None:
    seen: list[BaseException] = []
    site = Site(face, store=KINDS["epoch"]())

    def late(session: Any) -> None:
        try:
            session["b"] = 2
        except TooLate as error:
            seen.append(error)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        session["a"] = {"n": 1}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        late(session)
        await send({"type": "http.response.body", "body": b"done"})

    def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
        session = environ["coatcheck.session"]
        session["a"] = {"n": 1}
        start_response("200 OK", [])
        late(session)
        yield b"done"

    site.app.app = asgi if face == "asgi" else wsgi
    browser = Browser(site)
    browser.take(site.send(""))
    assert "with them the cookie" in str(seen[0])
    site.app.app = site._asgi if face == "asgi" else site._wsgi
    assert browser.do() == {"a": {"n": 1}}


def test_a_value_changed_in_place_while_streaming_is_not_lost_in_silence() -> None:
    site = Site("wsgi", store=KINDS["epoch"]())

    def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
        session = environ["coatcheck.session"]
        value = session["a"]
        start_response("200 OK", [])
        yield b"first"
        value["n"] = 2
        yield b"second"

    browser = Browser(site)
    browser.do(puts(a={"n": 1}))
    site.app.app = wsgi
    with pytest.raises(TooLate, match="before you stream"):
        site.send(browser.header)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Site("wsgi", store="cookie:"), "cookie\\+redis://…"),
        (lambda: Site("wsgi", store="cookie:?revocation=epoch"), "cookie\\+redis://…"),
        (lambda: Site("wsgi", store="cookie:?revocation=none&x=1"), "cookie:\\?revocation=none"),
        (lambda: Site("wsgi", store="cookie+nonsense:"), "no store for this"),
        (lambda: Site("wsgi", store="cookie:?revocation=none", timeouts=Timeouts()), "at most 86400 seconds"),
        (lambda: Site("wsgi", store="cookie:?revocation=none", max_sessions=3), "max_sessions"),
        (lambda: Site("wsgi", store=KINDS["epoch"](), on_conflict="raise"), "on_conflict"),
        (lambda: Site("asgi", store=KINDS["epoch"](), merge={"a": max}), "merge"),
        (lambda: CookieStore(), "works on after the logout"),
        (lambda: CookieStore(revocation="later"), "works on after the logout"),  # type: ignore[arg-type]
        (lambda: CookieStore(revocation="epoch"), "give it"),
        (lambda: CookieStore(revocation="none", store="memory:"), "leave it out"),
        (lambda: CookieStore(revocation="none", octets=100), "1024 to 32768"),
        (lambda: CookieStore(revocation="epoch", store=LayeredStore(MemoryStore())).blocking(), "must not be remembered"),
        (lambda: LayeredStore(KINDS["epoch"]()).blocking(), "nothing to remember"),
        (lambda: Encrypted(KINDS["epoch"](), secret=SECRET).blocking(), "encrypted as it is"),
        (lambda: CookieStore(revocation="epoch", store=KINDS["epoch"]()).blocking(), "keeps what it is told"),
        (
            lambda: Site(
                "wsgi",
                store=CookieStore(revocation="epoch", store=MemoryStore(), octets=32_768),
                cookie=CookieSettings(name="n" * 600),
            ),
            "so long a name",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_start_up(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_urls(tmp_path: Path) -> None:
    assert carried("cookie:?revocation=none") == carried("cookie+redis://localhost") == 7_168
    assert carried("redis://localhost") is carried(MemoryStore()) is None
    assert not has_server("cookie:?revocation=none")
    assert not has_server(f"cookie+sqlite:///{tmp_path / 's.db'}")
    assert has_server("cookie+redis://localhost")
    assert has_server("cookie+postgresql+asyncpg://localhost/db")
    shown = repr(open_store("cookie+redis://:hunter22@localhost/0"))
    assert shown == "<CookieStore over redis://:***@localhost/0>"


def test_the_overhead_is_that_of_an_envelope() -> None:
    assert module._OVERHEAD == OVERHEAD


def test_the_size_that_is_checked_is_the_size_that_is_sent(backed: Site) -> None:
    browser = Browser(backed)
    with pytest.raises(CookieTooLarge) as error:
        browser.do(puts(note="x" * 6_000))
    size = int(re.findall(r"takes (\d+)", str(error.value))[0])
    roomy = Site(
        backed.face, store=CookieStore(revocation="epoch", store=MemoryStore(), octets=max(size, 1024))
    )
    other = Browser(roomy)
    other.do(puts(note="x" * 6_000))
    assert sum(map(len, other.jar.values())) - 2 == size
    with pytest.raises(CookieTooLarge):
        Browser(
            Site(backed.face, store=CookieStore(revocation="epoch", store=MemoryStore(), octets=size - 1))
        ).do(puts(note="x" * 6_000))


# ------------------------------------------------------------------------------------------------------------- the keys


def test_an_older_secret_reads_and_the_cookie_is_sealed_anew(face: str) -> None:
    below = MemoryStore()
    old = Browser(
        Site(face, store=CookieStore(revocation="epoch", store=below), secret=OTHER, name="session")
    )
    old.do(puts(a=1))
    both = Browser(
        Site(face, store=CookieStore(revocation="epoch", store=below), secret=[SECRET, OTHER], name="session")
    )
    both.jar = dict(old.jar)
    assert both.do() == {"a": 1}
    assert both.fields
    new = Browser(
        Site(face, store=CookieStore(revocation="epoch", store=below), secret=SECRET, name="session")
    )
    new.jar = dict(old.jar)
    assert new.do() == {}
    new.jar = dict(both.jar)
    assert new.do() == {"a": 1}


# --------------------------------------------------------------------------------------------- what the server is asked


class Counted(MemoryStore):
    """Writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def told(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


for _name in ("load", "create", "replace", "touch", "delete", "admit"):

    def _counted(name: str = _name) -> Any:
        async def verb(self: Counted, *args: Any, **how: Any) -> Any:
            if args[:1] != (ERA_KEY,):  # which is asked for now and then, and not by the request
                self.asked.append(name)
            return await getattr(super(Counted, self), name)(*args, **how)

        return verb

    setattr(Counted, _name, _counted())


def test_the_store_has_no_data_and_is_asked_once_for_each_thing(face: str) -> None:
    below = Counted()
    site = Site(face, store=CookieStore(revocation="epoch", store=below))
    browser = Browser(site)
    browser.do(puts(note="marker"))
    assert below.told() == ["create"]
    browser.do()
    assert below.told() == ["load"]
    browser.do(puts(note="another marker"))
    assert below.told() == ["load", "touch"]
    browser.do(logs_in())
    assert below.told() == ["load", "admit"]
    browser.do(logs_out)
    assert below.told() == ["load", "delete"]
    assert not [row for row in below._rows.values() if isinstance(row, Record) and row.data != b"{}"]


def test_the_abilities_are_those_of_the_store_below() -> None:
    abilities = (ByUser, Sweeps, Counts, Checks, Watches, SetsUp, Tallies, Carries)
    face = CookieStore(revocation="epoch", store=MemoryStore()).blocking()
    assert {ability for ability in abilities if isinstance(face, ability)} == {*abilities} - {SetsUp}
    alone = CookieStore(revocation="none").blocking()
    assert {ability for ability in abilities if isinstance(alone, ability)} == {Carries}


def test_devices_and_end_all_are_what_they_are_anywhere(backed: Site) -> None:
    phone, laptop = Browser(backed), Browser(backed)
    for browser in (phone, laptop):
        browser.do(logs_in())

    async def devices(session: Any) -> list[str]:
        return [device.handle for device in await _maybe(session.devices())]

    call = devices if backed.face == "asgi" else lambda session: _run(devices(session))
    handles = phone.do(call)
    assert len(handles) == 2
    assert {type(handle) for handle in handles} == {str}
    assert phone.do(lambda session: session.end_others()) == 1
    assert (phone.do(who), laptop.do(who)) == ("ada", None)


def test_the_limit_of_sessions_holds(face: str) -> None:
    site = Site(face, store=KINDS["epoch"](), max_sessions=1)
    first, second = Browser(site), Browser(site)
    first.do(logs_in())
    second.do(logs_in())
    assert (first.do(who), second.do(who)) == (None, "ada")


def test_a_slow_request_does_not_bring_back_what_was_logged_out(backed: Site) -> None:
    browser = Browser(backed)
    browser.do(logs_in())
    handle = browser.do(lambda session: session.handle)
    sessions = backed.app.sessions.flows.store

    def slow(session: Any) -> None:
        session["a"] = 1
        assert _run(sessions.delete(handle, now=NOON, token="elsewhere")) is True

    browser.do(slow)
    assert browser.fields == []
    assert browser.do(who) is None


def test_a_slow_request_does_not_take_the_place_of_a_newer_login() -> None:
    site = Site("wsgi", store=KINDS["epoch"]())
    browser = Browser(site)
    browser.do(puts(cart=1))
    tab = browser.copy()

    def slow(session: Any) -> None:
        session["late"] = True
        browser.do(logs_in())

    tab.do(slow)
    assert tab.fields == []
    assert (browser.do(who), browser.do()) == ("ada", {"cart": 1})


def test_two_requests_at_once_and_the_last_response_wins(site: Site) -> None:
    """What no server keeps nobody can merge: the page on this store says so."""
    browser = Browser(site)
    browser.do(puts(n=0))
    tab = browser.copy()
    browser.do(puts(a=1))
    tab.do(puts(b=2))
    browser.take(tab.response)
    assert browser.do() == {"n": 0, "b": 2}


def test_a_cookie_from_before_a_login_is_worth_nothing_after_it(backed: Site) -> None:
    browser = Browser(backed)
    browser.do(puts(cart=1))
    planted = browser.copy()
    browser.do(logs_in())
    assert planted.do() == {}
    backed.now += 61
    assert planted.do() == {}
    assert "session.superseded" in backed.names()


def test_a_rotation_after_a_save_of_data_in_the_same_request(backed: Site) -> None:
    async def handler(session: Any) -> None:
        session["a"] = 1
        await _maybe(session.save())
        session["b"] = 2
        session.regenerate()

    browser = Browser(backed)
    browser.do(puts(n=0))
    before = browser.copy()
    browser.do(handler if backed.face == "asgi" else lambda session: _run(handler(session)))
    assert browser.do() == {"n": 0, "a": 1, "b": 2}
    assert before.do() == {}


def test_a_lifetime_of_its_own_meanwhile_merges_without_harm(backed: Site) -> None:
    """The server's half changed in the same epoch: the data that this request read stand for what nobody knows."""
    browser = Browser(backed)
    browser.do(puts(n=1))
    face = backed.app.sessions.flows.store._below
    (row,) = [row for row in face._rows.values() if isinstance(row, Record)]

    def handler(session: Any) -> None:
        session.increment("n")
        newer = replace(row, versions=("elsewhere", *row.versions))
        _run(face.replace(newer, expected=row.version, now=NOON))

    browser.do(handler)
    assert browser.do() == {"n": 2}


def test_an_outage_is_503_and_lets_nobody_in(face: str) -> None:
    class Down(MemoryStore):
        down = False

        async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
            if self.down:
                raise StoreUnavailable("no route")
            return await super().load(key, now=now)

    below = Down()
    browser = Browser(Site(face, store=CookieStore(revocation="epoch", store=below)))
    browser.do(logs_in())
    below.down = True
    browser.do(who)
    assert browser.response.status_code == 503
    below.down = False
    assert browser.do(who) == "ada"


class Wrapped:
    """What somebody else puts around a store; with `shows`, it shows of each face what it has."""

    def __init__(self, inside: Any, *, shows: bool) -> None:
        self.inside, self.shows = inside, shows

    def blocking(self) -> Any:
        face = self.inside.blocking()
        if self.shows:
            return face
        verbs = ("load", "create", "replace", "touch", "delete")
        return type("Bare", (), {verb: staticmethod(getattr(face, verb)) for verb in verbs})()

    awaiting = blocking


@pytest.mark.parametrize("shows", [True, False])
def test_a_wrapper_that_hides_it_loses_nothing_in_silence(face: str, shows: bool) -> None:
    browser = Browser(Site(face, store=Wrapped(KINDS["epoch"](), shows=shows)))
    with pytest.raises(ConfigurationError, match="as it is"):
        browser.do(puts(a=1))


def test_it_can_be_observed(face: str) -> None:
    class Told:
        def __init__(self) -> None:
            self.commands: list[str] = []

        def began(self, command: str) -> None:
            self.commands.append(command)

        def ended(self, began: Any, command: str, outcome: str, seconds: float) -> None: ...

    told = Told()
    browser = Browser(Site(face, store=Observed(KINDS["epoch"](), told)))
    browser.do(logs_in())
    assert browser.do(who) == "ada"
    assert told.commands == ["load", "admit", "load"]  # the first asks for the era


def test_the_store_behind_it_may_be_encrypted(face: str) -> None:
    below = MemoryStore()
    browser = Browser(Site(face, store=CookieStore(revocation="epoch", store=Encrypted(below, secret=OTHER))))
    browser.do(logs_in())
    thief = browser.copy()
    assert browser.do(who) == "ada"
    browser.do(logs_out)
    assert thief.do(who) is None


def test_a_real_server_behind_it(redis_server: Server) -> None:
    site = Site("wsgi", store=f"cookie+{redis_server.url}", outage=PATIENT)
    browser = Browser(site)
    browser.do(logs_in("redis-user"))
    browser.do(puts(a=1))
    thief = browser.copy()
    assert (browser.do(), browser.do(who)) == ({"a": 1}, "redis-user")
    browser.do(logs_out)
    assert thief.do(who) is None
    site.app.sessions.check()
    site.app.sessions.close()


def test_a_lifetime_of_its_own_goes_with_the_session(browser: Browser) -> None:
    browser.do(puts(a=1))

    def shorten(session: Any) -> None:
        session.cookie.max_age = 600

    browser.do(shorten)
    assert "Max-Age=600" in browser.fields[0]
    browser.site.now += 599
    assert browser.do(lambda session: session.cookie.max_age) == 600
    browser.site.now += 601
    assert browser.do() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rolling_cookie_is_sent_with_every_response(face: str, kind: str) -> None:
    browser = Browser(Site(face, store=KINDS[kind](), rolling=True))
    browser.do(puts(a=1))
    for _ in range(3):
        browser.site.now += 1
        browser.do(lambda session: None)
        assert [field.split("=")[0] for field in browser.fields] == [NAME]
    assert browser.do() == {"a": 1}


def test_what_fails_keeps_the_cookie_that_was_there(browser: Browser) -> None:
    browser.do(puts(a=1))

    def fails(session: Any) -> None:
        session["b"] = 2
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        browser.do(fails)
    assert browser.do() == {"a": 1}


def test_a_request_leaves_nothing_of_its_session_in_memory() -> None:
    """A record under the key that it is kept in was a cycle, and the garbage collector does not look into records."""
    carrier = carrier_of(CookieSettings(), "session", SECRET, 7_168, secure=True)
    there = Record(
        "k" * 24, ("v",), b"d" * 32, b'{"a":"%s"}' % (b"x" * 1_000), NOON, NOON, NOON + 60, NOON + 90
    )
    header = carrier.set(there, b"", max_age=None, now=NOON)[0].partition(";")[0].encode()

    def read() -> None:
        found, _ = carrier.read(header, NOON)
        assert found is not None
        assert type(found[0].locator) is Carried
        assert found[0].locator.record == there

    read()
    tracemalloc.start()
    try:
        for _ in range(100):
            read()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 50_000
