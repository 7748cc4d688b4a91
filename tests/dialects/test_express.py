"""The express dialect without Node: golden vectors, two requests at once, bad input, both faces."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from coatcheck import Clock, ConfigurationError, Event, Outage, OutsideRequest, StoreUnavailable, WeakSecret
from coatcheck.dialects.express import (
    CookieOptions,
    ExpressSessions,
    MemoryStore,
    express_sessions,
    get_session,
)
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.merging import merge
from coatcheck.dialects.express.ports import SAVED, Changed, Entry, Named
from coatcheck.dialects.express.signed import Secrets, find
from coatcheck.errors import CorruptRecord, ReplyLost, SessionGone, TooLate, UnstorableValue, UsageError
from servers.running import free_port
from tests.dialects.sites import NOW, Site

VECTORS = json.loads((Path(__file__).parents[1] / "data/express/cookies.json").read_text(encoding="utf-8"))

Make = Callable[..., Site]


@pytest.fixture(params=["asgi", "wsgi"])
def site_of(request: pytest.FixtureRequest) -> Make:
    """Makes a site on either face."""

    def make(**options: Any) -> Site:
        return Site(request.param, **options)

    return make


# ---------------------------------------------------------------------------------------------------- golden vectors


@pytest.mark.parametrize("vector", VECTORS["cookie_signature"], ids=lambda v: v["sid"] or "empty")
def test_signatures_are_nodes(vector: dict[str, str]) -> None:
    secrets = Secrets(vector["secret"])
    name, _, value = vector["header"].partition("=")
    assert secrets.sign(vector["sid"]) == value
    assert find(f"a=b; {vector['header']}".encode(), name.encode()) == value.encode()
    assert secrets.verify(value.encode()) == (vector["sid"] or None)  # an empty id counts as none (1.4)
    assert secrets.verify(vector["signed"].encode()) == (vector["sid"] or None)
    assert Secrets(["another", vector["secret"]]).verify(value.encode()) == (vector["sid"] or None)
    assert Secrets("another").verify(value.encode()) is None


@pytest.mark.parametrize("vector", VECTORS["set_cookie"], ids=lambda v: v["header"][26:])
def test_cookies_are_nodes(vector: dict[str, Any]) -> None:
    cookie = Cookie.loaded(vector["options"])
    assert cookie.header("connect.sid", "s%3Ax.y") == vector["header"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"s:",
        b"s:.",
        b"s%3A",
        b"s:x",
        b"s:x.",
        b"x.y",
        b"s:a.%",
        b"s:a.%zz",
        b"\xff",
        b"s:\xff.x",
        b"s:a." + b"x" * 5000,
    ],
)
def test_what_is_no_cookie_of_ours_is_none(value: bytes) -> None:
    assert Secrets("keyboard cat").verify(value) is None


# ------------------------------------------------------------------------------------------------------- two at once


def test_two_requests_lose_nothing(site_of: Make) -> None:
    """Rule 5.8: in Node the last to end wins entirely."""
    site = site_of()
    cookie = site.get(lambda s: s.update(cart={"a": 1}, gone=1)).cookie

    def outer(session: Any) -> None:
        session["cart"]["b"] = 2
        del session["gone"]
        site.get(lambda s: (s["cart"].update(c=3), s.update(other=1)), cookie=cookie)

    assert site.get(outer, cookie=cookie).status == 200
    assert site.get(dict, cookie=cookie).result == {"cart": {"a": 1, "b": 2, "c": 3}, "other": 1}


def test_what_both_changed_is_the_later_ones_and_told(site_of: Make) -> None:
    site = site_of()
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def outer(session: Any) -> None:
        session["a"] = 2
        site.get(lambda s: s.update(a=3), cookie=cookie)

    site.get(outer, cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 2}
    assert "session.conflict" in site.heard()


def test_a_resolver_settles_it(site_of: Make) -> None:
    site = site_of(merge={"n": lambda base, theirs, mine: theirs + mine - base})
    cookie = site.get(lambda s: s.update(n=1)).cookie

    def outer(session: Any) -> None:
        session["n"] += 1
        site.get(lambda s: s.update(n=s["n"] + 5), cookie=cookie)

    site.get(outer, cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"n": 7}


def test_a_session_that_was_destroyed_meanwhile_stays_destroyed(site_of: Make) -> None:
    """In Node the request that ends later writes it back to life."""
    site = site_of()
    cookie = site.get(lambda s: s.update(user=1)).cookie

    def outer(session: Any) -> None:
        session["cart"] = 1
        site.get(lambda s: site.act(s, "destroy"), cookie=cookie)

    answer = site.get(outer, cookie=cookie)
    assert (answer.status, answer.set_cookies) == (200, [])
    assert site.store._entries == {}
    assert "session.gone" in site.heard()


def test_an_idle_request_with_resave_does_not_write_old_data_back(site_of: Make) -> None:
    """Rule 5.8: in Node resave is a lost-update machine."""
    site = site_of(resave=True)
    cookie = site.get(lambda s: s.update(a=1)).cookie
    site.get(lambda s: site.get(lambda inner: inner.update(a=2), cookie=cookie), cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 2}


def test_of_a_cookie_that_only_the_other_changed_the_others_counts(site_of: Make) -> None:
    site = site_of(cookie=CookieOptions(max_age=60_000))
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def longer(session: Any) -> None:
        session["b"], session.cookie.max_age = 1, 5_000_000

    def outer(session: Any) -> None:
        session["a"] = 2
        site.get(longer, cookie=cookie)

    site.get(outer, cookie=cookie)
    assert site.get(lambda s: s.cookie.max_age, cookie=cookie).result == 5_000_000


def test_a_cookie_that_the_other_changed_is_not_written_a_second_time(site_of: Make) -> None:
    store = _Counting()
    site = site_of(store=store, cookie=CookieOptions(max_age=60_000))
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def longer(session: Any) -> None:
        session["b"], session.cookie.max_age = 1, 5_000_000
        store.writes = 0

    def outer(session: Any) -> None:
        session["a"] = 2
        site.get(longer, cookie=cookie)

    site.get(outer, cookie=cookie)
    assert store.writes == 1 + 2  # the other's, and ours: at first over what is not there any more


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("slow", [0, 1])
def test_two_tasks_of_one_request_that_store_its_session_do_not_lose_it(known: bool, slow: int) -> None:
    async def twice(session: Any) -> None:
        await asyncio.gather(session.save(), session.save())

    site, cookie = _after(twice, known=known, slow=slow)
    assert site.get(dict, cookie=cookie).result == {"a": 2}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("slow", [0, 1])
def test_a_login_beside_a_save_of_the_same_request_is_not_lost(known: bool, slow: int) -> None:
    async def beside(session: Any) -> None:
        await asyncio.gather(session.save(), session.login(42))

    site, cookie = _after(beside, known=known, slow=slow)
    assert site.get(lambda s: s.user_id, cookie=cookie).result == 42


def _after(handle: Callable[[Any], Any], *, known: bool, slow: int) -> tuple[Site, str]:
    """A site after a request whose handler did this, and the browser's cookie."""
    store = _Waiting(slow)
    site = Site("asgi", store=store)
    first = store.inline.get(lambda s: s.update(a=1)).cookie if known else ""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 2
        await handle(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"cookie", first.encode())]}
    asyncio.run(site.sessions.asgi(application)(scope, None, send))  # type: ignore[arg-type]  # nobody receives
    told = [value.decode() for name, value in sent[0]["headers"] if name == b"set-cookie"]
    return store.inline, told[0].partition(";")[0] if told else first


class _Waiting(MemoryStore):
    """Waits for its reply as for a server's: each `slow`-th one twice as long. `inline`: a site that does not wait."""

    def __init__(self, slow: int) -> None:
        super().__init__()
        self._slow, self._asked = slow, 0
        plain = MemoryStore()
        plain._entries = self._entries
        self.inline = Site("asgi", store=plain)

    async def create(self, sid: str, text: bytes, **rest: Any) -> Any:
        return await self._late(super().create(sid, text, **rest))

    async def replace(self, sid: str, text: bytes, **rest: Any) -> Any:
        return await self._late(super().replace(sid, text, **rest))

    async def destroy(self, sid: str) -> bool:
        return bool(await self._late(super().destroy(sid)))

    async def _late(self, work: Any) -> Any:
        self._asked += 1
        slow = self._slow and self._asked % 2
        await asyncio.sleep(0)
        done = await work
        for _ in range(5 if slow else 1):
            await asyncio.sleep(0)
        return done


class _Counting(MemoryStore):
    """Counts what is written over something."""

    writes = 0

    async def replace(self, sid: str, text: bytes, **rest: Any) -> Any:
        self.writes += 1
        return await super().replace(sid, text, **rest)


def test_a_reply_that_was_lost_is_made_up_for(site_of: Make) -> None:
    """The write had happened, or had not: either way it has at the end, once."""
    for carried_out in (True, False):
        site = site_of(store=_Losing(carried_out=carried_out))
        cookie = site.get(lambda s: s.update(n=1)).cookie
        assert site.get(lambda s: s.update(n=s["n"] + 1), cookie=cookie).status == 200
        assert site.get(dict, cookie=cookie).result == {"n": 2}


@pytest.mark.parametrize(("was", "becomes"), [(True, 1), (0, False), ([1], [True])])
def test_a_reply_that_was_lost_is_not_made_up_by_what_python_holds_for_equal(
    site_of: Make, was: Any, becomes: Any
) -> None:
    site = site_of(store=_Losing(carried_out=False))
    cookie = site.get(lambda s: s.update(n=was)).cookie
    site.get(lambda s: s.update(n=becomes), cookie=cookie)
    assert repr(site.get(dict, cookie=cookie).result["n"]) == repr(becomes)


class _Losing(MemoryStore):
    """Loses the reply to every first write."""

    def __init__(self, *, carried_out: bool) -> None:
        super().__init__()
        self._carried_out, self._lose = carried_out, True

    async def create(self, sid: str, text: bytes, **rest: Any) -> Any:
        return await self._once(super().create(sid, text, **rest))

    async def replace(self, sid: str, text: bytes, **rest: Any) -> Any:
        return await self._once(super().replace(sid, text, **rest))

    async def _once(self, write: Any) -> Any:
        self._lose = not self._lose
        if self._lose:
            return await write
        if self._carried_out:
            await write
        else:
            write.close()
        raise ReplyLost("the connection broke")


@pytest.mark.parametrize(
    "left", [b"\xff", b"{", b'{"cookie":{},"b":%s}' % (b"9" * 5000), b'{"cookie":{},"a":[1e400]}']
)
@pytest.mark.parametrize("tells", [False, True])
def test_what_another_writer_has_spoilt_meanwhile_is_left_as_it_is(
    site_of: Make, left: bytes, tells: bool
) -> None:
    """As if it were read now: nobody gets in, nobody sees an error page, and nothing is written over it."""
    site = site_of(store=_Telling() if tells else None)
    cookie = site.get(lambda s: s.update(a=1)).cookie
    (sid,) = site.store._entries

    def outer(session: Any) -> None:
        session["a"] = 2
        site.store._entries[sid] = left

    answer = site.get(outer, cookie=cookie)
    assert (answer.status, answer.set_cookies) == (200, [])
    assert site.store._entries[sid] == left
    assert "session.corrupt" in site.heard()


class _Telling(MemoryStore):
    """Reads what is there instead, as the stores on a server do."""

    async def replace(self, sid: str, text: bytes, *, over: Entry, **rest: Any) -> Any:
        outcome = await super().replace(sid, text, over=over, **rest)
        if isinstance(outcome, Changed):
            raise CorruptRecord("no text")
        return outcome


def test_merging_key_by_key() -> None:
    base = {"a": b"1", "d": b'{"x":1,"y":1}', "gone": b"1", "spelt": b"1.50"}
    mine = {"a": b"1", "d": b'{"x":2,"y":1}', "spelt": b"1.50", "mine": b"1"}
    theirs = {"a": b"2", "d": b'{"x":1,"z":3}', "gone": b"1", "spelt": b"1.5", "theirs": b"1"}
    merged = merge(base, mine, theirs)
    assert merged.parts == {"a": b"2", "d": b'{"x":2,"z":3}', "spelt": b"1.50", "theirs": b"1", "mine": b"1"}
    assert merged.conflicts == ()


# --------------------------------------------------------------------------------------------- values, and what Node has


def test_half_a_surrogate_pair_is_kept(site_of: Make) -> None:
    site = site_of()
    site.store._entries["sid"] = b'{"cookie":{},"half":"\\ud800"}'
    cookie = f"connect.sid={Secrets('keyboard cat').sign('sid')}"
    assert site.get(lambda s: s.update(same=s["half"] == "\ud800"), cookie=cookie).status == 200
    assert b'"half":"\\ud800","same":true' in site.store._entries["sid"]


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (2**53, "2\\*\\*53"),
        ({"a": [float("nan")]}, r"session\['k'\]\['a'\]\[0\]: JSON has no nan"),
        (float("inf"), "JSON has no inf"),
        (datetime(2026, 1, 1, tzinfo=UTC), "isoformat"),
        ((1, 2), "list"),
        ({1}, "list"),
        (b"x", "base64"),
        ({1: 2}, "a key must be a str"),
        (object(), "is not JSON"),
    ],
)
def test_what_node_would_read_as_something_else_is_refused(site_of: Make, value: Any, fix: str) -> None:
    def put(session: Any) -> None:
        with pytest.raises(UnstorableValue, match=fix):
            session["k"] = value

    assert site_of().get(put).set_cookies == []


@pytest.mark.parametrize("key", ["cookie", "id", "save", "toString", "__proto__", "constructor"])
def test_keys_that_node_drops_are_refused(site_of: Make, key: str) -> None:
    def put(session: Any) -> None:
        with pytest.raises(UnstorableValue, match="express-session drops this key"):
            session[key] = 1

    site_of().get(put)


def test_a_value_that_was_spoilt_in_place_is_refused_when_it_is_stored(site_of: Make) -> None:
    with pytest.raises(UnstorableValue, match=r"\['cart'\]\['at'\]"):
        site_of().get(lambda s: (s.update(cart={}), s["cart"].update(at=datetime(2026, 1, 1))))


def test_a_value_that_was_put_into_itself_is_refused_when_it_is_stored(site_of: Make) -> None:
    site = site_of()
    cookie = site.get(lambda s: s.update(cart=[])).cookie
    with pytest.raises(UnstorableValue, match=r"\['cart'\].*levels deep"):
        site.get(lambda s: s["cart"].append(s["cart"]), cookie=cookie)


def test_what_nobody_changed_is_written_back_as_it_came(site_of: Make) -> None:
    """Numbers that Python has no equal of, other spellings, unknown attributes of the cookie."""
    site = site_of()
    text = (
        '{"big":12345678901234567000,"e":1e21,"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/",'
        '"theirs":1},"esc":"\\u00eb"}'
    )
    site.store._entries["sid"] = text.encode()
    cookie = f"connect.sid={Secrets('keyboard cat').sign('sid')}"
    assert (
        site.get(lambda s: s.update(new=[s["big"] > 1, s["e"], s["esc"] == "ë"]), cookie=cookie).status == 200
    )
    assert site.store._entries["sid"].decode() == text[:-1] + ',"new":[true,1e+21,true]}'


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b'{"a":1}', b'{"cookie":null}', b'{"cookie":1}', b'{"cookie":{"expires":"tomorrow"}}',
        b'{"cookie":{"expires":7}}', b'{"cookie":{"originalMaxAge":"x"}}', b"\xff", b'{"a":NaN,"cookie":{}}', b"[" * 100_000,
        b'{"a":[1e400],"cookie":{}}', b'{"a":-1e400,"cookie":{}}', b'{"a":%s,"cookie":{}}' % (b"9" * 5000),
    ],
)  # fmt: skip
def test_what_is_no_session_is_an_anonymous_one_and_told(site_of: Make, text: bytes) -> None:
    """Rule 1.5: Node answers 500. Here nobody sees an error page, and nobody gets in; the entry is left where it is."""
    site = site_of()
    site.store._entries["sid"] = text
    answer = site.get(
        lambda s: (s.update(a=1), s.id)[1], cookie=f"connect.sid={Secrets('keyboard cat').sign('sid')}"
    )
    assert answer.status == 200
    assert answer.result != "sid"
    assert site.store._entries["sid"] == text
    assert "session.corrupt" in site.heard()


def test_a_cookie_of_nothing_is_taken_as_node_takes_it(site_of: Make) -> None:
    """Wire formats 1.1: `"cookie": {}` becomes a session until the browser closes."""
    site = site_of(cookie=CookieOptions(max_age=60_000))
    site.store._entries["sid"] = b'{"cookie":{},"a":1}'
    answer = site.get(dict, cookie=f"connect.sid={Secrets('keyboard cat').sign('sid')}")
    assert answer.result == {"a": 1}


@pytest.mark.parametrize("end", ["+275760-09-13T00:00:00.000Z", "2027-06-01T00:00:00.000Z", None])
@pytest.mark.parametrize("age", [8.6e15, 8_000_000_000_000_000])
def test_a_lifetime_beyond_the_calendar_is_one_to_its_end(site_of: Make, age: float, end: str | None) -> None:
    """JavaScript's dates reach to the year 275760, Python's and HTTP's to 9999."""
    site = site_of(rolling=True)
    body = {"cookie": {"originalMaxAge": age, "expires": end}, "a": 1}
    site.store._entries["sid"] = json.dumps(body).encode()
    cookie = f"connect.sid={Secrets('keyboard cat').sign('sid')}"
    (sent,) = site.get(lambda s: s.update(b=2), cookie=cookie).set_cookies
    assert sent == f"{cookie}; Expires=Fri, 31 Dec 9999 23:59:59 GMT"
    assert site.get(dict, cookie=cookie).result == {"a": 1, "b": 2}


@pytest.mark.parametrize("max_age", [8e15, -8e15])
def test_a_lifetime_beyond_the_calendar_that_was_asked_for(site_of: Make, max_age: float) -> None:
    site = site_of(cookie=CookieOptions(max_age=max_age))
    year = "9999" if max_age > 0 else "0001"
    assert f" {year} " in site.get(lambda s: s.update(a=1)).set_cookies[0]


def test_passport_and_connect_flash(site_of: Make) -> None:
    site = site_of()
    first = site.get(lambda s: s.update(cart=[1]))
    second = site.get(lambda s: site.act(s, "login", 42), cookie=first.cookie)
    assert site.get(lambda s: (s.user_id, dict(s)), cookie=first.cookie).result == (
        None,
        {},
    )  # the old id is worth nothing
    assert site.get(lambda s: (s.user_id, dict(s)), cookie=second.cookie).result == (
        42,
        {"passport": {"user": 42}},
    )
    site.get(
        lambda s: (s.flash("Saved", "info"), s.flash("Twice", "info"), s.flash("Oh", "error")),
        cookie=second.cookie,
    )
    assert site.get(lambda s: s["flash"], cookie=second.cookie).result == {
        "info": ["Saved", "Twice"],
        "error": ["Oh"],
    }
    told = [("info", "Saved"), ("info", "Twice"), ("error", "Oh")]
    assert site.get(lambda s: s.flashes(), cookie=second.cookie).result == told
    assert site.get(lambda s: s.flashes(), cookie=second.cookie).result == []
    third = site.get(lambda s: site.act(s, "logout"), cookie=second.cookie)
    assert third.status == 200
    assert site.get(lambda s: s.user_id, cookie=second.cookie).result is None


@pytest.mark.parametrize("nobody", [None, "", True, 1.5])
def test_a_login_of_nobody_is_refused_and_nothing_is_destroyed(site_of: Make, nobody: Any) -> None:
    site = site_of()
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def log_in(session: Any) -> None:
        with pytest.raises(UsageError, match="user_id"):
            site.act(session, "login", nobody)

    site.get(log_in, cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 1}


def test_a_login_of_somebody_whose_number_javascript_rounds_is_refused_and_nothing_is_destroyed(
    site_of: Make,
) -> None:
    site = site_of()
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def log_in(session: Any) -> None:
        with pytest.raises(UnstorableValue, match="keep it as text"):
            site.act(session, "login", 2**60)

    site.get(log_in, cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 1}


# -------------------------------------------------------------------------------------------------------- the response


def test_pages_with_a_session_are_kept_from_shared_caches(site_of: Make) -> None:
    site = site_of()
    assert site.get(lambda s: None).header("vary") is None
    set_, read = site.get(lambda s: s.update(a=1)), site.get(dict)
    assert (set_.header("vary"), set_.header("cache-control")) == ("Cookie", "no-store")
    assert (read.header("vary"), read.header("cache-control")) == ("Cookie", None)
    assert site.get(dict, cookie=set_.cookie).header("cache-control") == "private"
    public = site.get(
        lambda s: s.update(a=2), headers=[("Cache-Control", "public, max-age=60"), ("Vary", "Accept")]
    )
    assert (public.header("vary"), public.header("cache-control")) == ("Accept, Cookie", "no-store")


def test_the_page_of_a_session_that_ends_with_it_is_kept_from_shared_caches_too(site_of: Make) -> None:
    """It may show what was in it."""
    site = site_of()
    ends: list[Callable[[Any], Any]] = [
        lambda s: site.act(s, "destroy"),
        lambda s: site.act(s, "regenerate"),
        lambda s: (s.update(a=2), site.store._entries.clear()),
    ]
    for end in ends:
        cookie = site.get(lambda s: s.update(a=1)).cookie
        answer = site.get(partial(_both, end), cookie=cookie)
        assert answer.header("cache-control") in ("private", "no-store")


def _both(end: Callable[[Any], Any], session: Any) -> Any:
    return dict(session), end(session)


def test_paths_that_begin_with_the_cookies_have_a_session(site_of: Make) -> None:
    site = site_of(cookie=CookieOptions(path="/admin"))
    assert site.get(lambda s: s is None, path="/").result is True
    assert site.get(lambda s: s is None, path="/administrator").result is False


def test_a_store_that_is_away_is_a_503_and_nothing_is_destroyed(site_of: Make) -> None:
    """Rules 1.5, 1.6, 5.7: in Node a read that fails is a 500, and with unset='destroy' ends the session."""

    class Away(MemoryStore):
        down = False

        async def get(self, sid: str, *, now: float) -> Entry | None:
            if self.down:
                raise StoreUnavailable("away")
            return await super().get(sid, now=now)

    store = Away()
    site = site_of(store=store, unset="destroy")
    cookie = site.get(lambda s: s.update(a=1)).cookie
    Away.down = True
    asked: list[int] = []
    answer = site.get(lambda s: asked.append(1), cookie=cookie)
    assert (answer.status, answer.set_cookies, asked) == (503, [], [])
    assert "store.down" in site.heard()
    Away.down = False
    assert site.get(dict, cookie=cookie).result == {"a": 1}


def test_a_write_that_fails_is_a_503_without_a_cookie(site_of: Make) -> None:
    """Rule 5.7: in Node the browser gets the page, and the cookie of a session that there is not."""

    class Away(MemoryStore):
        async def create(self, sid: str, text: bytes, **rest: Any) -> Any:
            raise StoreUnavailable("away")

    answer = site_of(store=Away()).get(lambda s: s.update(a=1))
    assert (answer.status, answer.set_cookies) == (503, [])


def test_what_a_streamed_body_changes_is_stored_at_its_end(site_of: Make) -> None:
    site = site_of()
    cookie = site.get(lambda s: s.update(a=1)).cookie
    site.stream(lambda s: s.update(a=2), lambda s: s.update(a=3), cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 3}


@pytest.mark.parametrize("raises", [False, True])
def test_what_a_websocket_has_changed_is_stored_when_its_client_leaves(raises: bool) -> None:
    """A client that has gone is told nothing, so no message of the application's shows that it is done."""
    site = Site("asgi")
    cookie = site.get(lambda s: s.update(a=1)).cookie
    assert _socket(site, cookie, raises=raises) == ["websocket.accept"]
    assert site.get(dict, cookie=cookie).result == {"a": 2}


def test_what_a_websocket_has_changed_before_an_error_is_not_stored() -> None:
    site = Site("asgi")
    cookie = site.get(lambda s: s.update(a=1)).cookie
    _socket(site, cookie, raises=True, leaves=False)
    assert site.get(dict, cookie=cookie).result == {"a": 1}


def _socket(site: Site, cookie: str, *, raises: bool, leaves: bool = True) -> list[str]:
    """A WebSocket whose application changes the session, and returns or raises when the client has left. Returns what it sent."""
    sent: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        scope["session"]["a"] = 2
        await receive()
        if raises:
            raise ValueError("mine")

    async def receive() -> Any:
        return {"type": "websocket.disconnect" if leaves else "websocket.receive"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "scheme": "ws", "path": "/", "headers": [(b"cookie", cookie.encode())]}
    with suppress(ValueError):
        asyncio.run(site.sessions.asgi(application)(scope, receive, send))
    return sent


def test_what_a_websocket_has_changed_is_stored_when_it_is_refused() -> None:
    """The browser gets no headers of ours then: so a session that would begin is not stored."""
    site = Site("asgi", cookie=CookieOptions(max_age=60_000))
    cookie = site.get(lambda s: s.update(a=1)).cookie

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 2
        await send({"type": "websocket.close"})

    async def send(message: Any) -> None:
        assert message == {"type": "websocket.close"}

    for known in (cookie, ""):
        scope = {"type": "websocket", "scheme": "ws", "path": "/", "headers": [(b"cookie", known.encode())]}
        asyncio.run(site.sessions.asgi(application)(scope, None, send))  # type: ignore[arg-type]  # nobody receives
    assert site.get(dict, cookie=cookie).result == {"a": 2}
    assert len(site.store._entries) == 1


def test_what_a_streamed_body_has_changed_is_stored_though_nobody_waits_for_its_end() -> None:
    site = Site("asgi")
    cookie = site.get(lambda s: s.update(a=1)).cookie

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        scope["session"]["a"] = 2

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "path": "/", "headers": [(b"cookie", cookie.encode())]}
    asyncio.run(site.sessions.asgi(application)(scope, None, send))  # type: ignore[arg-type]  # nobody receives
    assert site.get(dict, cookie=cookie).result == {"a": 2}


def test_what_a_streamed_body_has_changed_is_stored_when_its_client_has_gone() -> None:
    """A server says so by OSError (ASGI 2.4); in WSGI, it closes the body."""
    site = Site("asgi")
    cookie = site.get(lambda s: s.update(a=1)).cookie

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["session"]["a"] = 2
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    scope = {"type": "http", "path": "/", "headers": [(b"cookie", cookie.encode())]}
    with pytest.raises(OSError, match="gone"):
        asyncio.run(site.sessions.asgi(application)(scope, None, send))  # type: ignore[arg-type]  # nobody receives
    assert site.get(dict, cookie=cookie).result == {"a": 2}


def test_an_error_page_in_place_of_the_first_answer_says_nothing_of_a_session_that_is_over() -> None:
    """PEP 3333: start_response may be called again, with exc_info, as long as no header has left."""
    site, told = Site("wsgi"), list[list[tuple[str, str]]]()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ["coatcheck.session"]["a"] = 1
        start_response("200 OK", [])
        environ["coatcheck.session"].destroy()
        start_response("500 Internal Server Error", [], (ValueError, ValueError(), None))
        return []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        told.append(headers)

    list(site.sessions.wsgi(application)({"wsgi.url_scheme": "http", "PATH_INFO": "/"}, start))
    names = [{name for name, _ in headers} for headers in told]
    assert ["Set-Cookie" in each for each in names] == [True, False]


def test_a_session_that_begins_after_the_headers_is_refused(site_of: Make) -> None:
    """Rule 4.8: Node stores one that nobody has a cookie for."""
    site = site_of()

    def late(session: Any) -> None:
        with pytest.raises(TooLate):
            session["a"] = 1
        with pytest.raises(TooLate):
            site.act(session, "regenerate")

    site.stream(dict, late)
    assert site.store._entries == {}


def test_after_the_response_every_change_raises(site_of: Make) -> None:
    site, kept = site_of(), list[Any]()
    site.get(kept.append)
    with pytest.raises(TooLate):
        kept[0]["a"] = 1


def test_an_exception_stores_nothing(site_of: Make) -> None:
    """Rule 4.9: Node's error page saves what was changed before the error."""
    site = site_of()
    cookie = site.get(lambda s: s.update(a=1)).cookie

    def fail(session: Any) -> None:
        session["a"] = 2
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        site.get(fail, cookie=cookie)
    assert site.get(dict, cookie=cookie).result == {"a": 1}


def test_two_middlewares_of_one_application_share_the_session(site_of: Make) -> None:
    """Rule 1.1."""
    site = site_of(twice=True)
    cookie = site.get(lambda s: s.update(a=1)).cookie
    assert site.get(dict, cookie=cookie).result == {"a": 1}


def test_attributes_of_a_cookie_that_are_none_send_no_cookie(site_of: Make) -> None:
    """Rule 2.5: other writers may leave what they like."""
    site = site_of(rolling=True)
    for attribute in (
        '"sameSite":"what"',
        '"domain":"a;b"',
        '"domain":"\u212a.com"',  # the sign for kelvin, which is a k to whoever ignores case
        '"domain":"\\u017f.com"',
        '"path":"/;x"',
        '"priority":"urgent"',
        '"sameSite":7',
    ):
        site.store._entries["sid"] = (
            b'{"cookie":{"originalMaxAge":null,"expires":null,%s}}' % attribute.encode()
        )
        answer = site.get(dict, cookie=f"connect.sid={Secrets('keyboard cat').sign('sid')}")
        assert (answer.status, answer.set_cookies) == (200, [])
        assert "store.down" not in site.heard()


# ------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("options", "error", "fix"),
    [
        ({"secret": None}, WeakSecret, "secret is missing"),
        ({"secret": []}, WeakSecret, "secret is missing"),
        ({"secret": [""]}, WeakSecret, "anybody can sign"),
        ({"secret": [7]}, ConfigurationError, "int is no secret"),
        ({"saveUninitialized": True}, ConfigurationError, "did you mean 'save_uninitialized'"),
        ({"maxAge": 1}, ConfigurationError, "give cookie=CookieOptions\\(max_age="),
        ({"resave": "no"}, ConfigurationError, "True or False"),
        ({"unset": "drop"}, ConfigurationError, "'keep' or 'destroy'"),
        ({"genid": "x"}, ConfigurationError, "a function"),
        ({"name": "a b"}, ConfigurationError, "cookie name"),
        ({"cookie": {"maxAge": 1}}, ConfigurationError, "CookieOptions"),
        ({"clock": 1}, ConfigurationError, "Clock"),
        ({"store": "ftp://x"}, ConfigurationError, "redis:"),
        ({"store": MemoryStore}, ConfigurationError, "is no store"),
        ({"store": object()}, ConfigurationError, "is no store"),
    ],
)
def test_wrong_options_say_what_to_write(options: dict[str, Any], error: type[Exception], fix: str) -> None:
    with pytest.raises(error, match=fix):
        express_sessions(**{"secret": "keyboard cat", **options})


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"max_age": "1h"}, "milliseconds"),
        ({"max_age": True}, "milliseconds"),
        ({"max_age": float("nan")}, "milliseconds"),
        ({"expires": datetime(2026, 1, 1)}, "time zone"),
        ({"max_age": 1, "expires": datetime(2026, 1, 1, tzinfo=UTC)}, "one of them"),
        ({"secure": "yes"}, "True or False"),
        ({"same_site": "Lax "}, "strict"),
        ({"priority": "urgent"}, "low"),
        ({"path": "/;x"}, "path such as"),
        ({"path": "/\r\n"}, "path such as"),
        ({"domain": "a b"}, "host name"),
    ],
)
def test_wrong_cookie_options_are_refused_at_once(options: dict[str, Any], fix: str) -> None:
    """Rules 2.5 and 9.1: Node notices with the first request, or never."""
    with pytest.raises(ConfigurationError, match=fix):
        CookieOptions(**options)


def test_no_secret_and_no_id_shows(site_of: Make) -> None:
    site = site_of()
    answer = site.get(lambda s: (s.update(a=1), repr(s), s.id))
    assert answer.result[2] not in answer.result[1]
    assert "keyboard cat" not in repr(site.sessions.options) + repr(Secrets("keyboard cat"))
    assert answer.result[2] not in repr(site.store) + repr(Named([answer.result[2]], answer.result[2]))
    site.get(dict, cookie=f"connect.sid={Secrets('keyboard cat').sign('unknown-id')}")
    assert "unknown-id" not in repr(site.events)


def test_a_cookie_may_depend_on_the_request(site_of: Make) -> None:
    site = site_of(
        cookie=lambda arrival: CookieOptions(domain="example.com" if arrival.path == "/x" else None)
    )
    assert "Domain=example.com" in site.get(lambda s: s.update(a=1), path="/x").set_cookies[0]
    assert "Domain" not in site.get(lambda s: s.update(a=1), path="/y").set_cookies[0]


@pytest.mark.parametrize("options", [None, {"max_age": 1}, "lax"])
def test_a_function_that_returns_no_cookie_options_is_told(site_of: Make, options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"cookie=.* return CookieOptions\(…\)"):
        site_of(cookie=lambda arrival: options).get(dict)


def test_a_genid_that_repeats_itself_gives_nobody_anothers_session(site_of: Make) -> None:
    """Rule 8.5."""
    ids = iter(["same", "same", "other"])
    site = site_of(genid=lambda: next(ids))
    one, two = site.get(lambda s: s.update(user=1)), site.get(lambda s: s.update(user=2))
    assert one.cookie != two.cookie
    assert [site.get(dict, cookie=answer.cookie).result for answer in (one, two)] == [
        {"user": 1},
        {"user": 2},
    ]


@pytest.mark.parametrize("sid", ["", None, 7])
def test_a_genid_that_gives_no_id_is_told(site_of: Make, sid: Any) -> None:
    with pytest.raises(ConfigurationError, match="genid"):
        site_of(genid=lambda: sid).get(dict)


# --------------------------------------------------------------------------------------------------- outside a request


def test_the_manager_of_each_face() -> None:
    store, heard = MemoryStore(), list[Event]()
    options: Any = {"secret": "keyboard cat", "clock": Clock(lambda: NOW), "on_event": heard.append}
    cookie = Site("wsgi", store=store).get(lambda s: s.update(a=1)).cookie
    with express_sessions(store, **options) as sessions:
        manager = sessions.blocking()
        (sid,) = manager.all()
        session = manager.named(cookie)
        assert session is not None
        session["a"] = 2
        session.save()
        assert manager.length() == 1
        assert manager.named("connect.sid=x") is None
        assert manager.load("nobody") is None

    async def work() -> None:
        async with express_sessions(store, **options) as sessions:
            manager = sessions.awaiting()
            session = await manager.load(sid)
            assert session is not None
            assert await manager.named(cookie) is not None
            assert dict(session) == {"a": 2}
            await session.reload()
            await session.destroy()
            with pytest.raises(SessionGone):
                await (await manager.load("x") or session).save()
            assert await manager.all() == []
            assert await manager.length() == 0
            await manager.clear()
            await manager.setup()
            with pytest.raises(ConfigurationError, match="prunes"):
                await manager.prune()

    with pytest.raises(UsageError, match="destroyed"):
        asyncio.run(work())


def test_a_session_is_found_where_it_is(site_of: Make) -> None:
    site = site_of()
    assert site.get(lambda s: get_session(site.place) is s).result is True
    for nothing in ({}, object(), None):
        with pytest.raises(OutsideRequest, match=r"sessions\.asgi"):
            get_session(nothing)


def test_the_session_is_a_dict_and_its_cookie_counts_down(site_of: Make) -> None:
    site = site_of(cookie=CookieOptions(max_age=60_000))

    def use(session: Any) -> Any:
        session.setdefault("a", []).append(1)
        session.cookie.max_age = timedelta(minutes=2)
        site.now += 30
        left = session.cookie.max_age
        session.cookie.expires = datetime.fromtimestamp(site.now + 10, UTC)
        return (
            left,
            session.cookie.max_age,
            "a" in session,
            len(session),
            list(session),
            session.is_new,
            session.modified,
        )

    assert site.get(use).result == (90_000, 10_000, True, 1, ["a"], True, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("same_site", "what"),
        ("same_site", "auto"),
        ("same_site", 7),
        ("domain", "a b"),
        ("domain", ["example.com"]),
        ("path", "/\r\nSet-Cookie: x=y"),
        ("path", b"/"),
        ("secure", object()),
        ("http_only", 1),
        ("expires", "tomorrow"),
        ("expires", 7),
        ("expires", datetime(2027, 1, 1)),
        ("max_age", "1h"),
    ],
)
def test_what_is_no_attribute_of_a_cookie_is_refused_where_it_is_assigned(
    site_of: Make, name: str, value: Any
) -> None:
    """Stored, it would fail every request of that visitor in Node, and send no cookie here."""

    def assign(session: Any) -> None:
        session["a"] = 1
        with pytest.raises(UsageError, match=f"session.cookie.{name} = "):
            setattr(session.cookie, name, value)

    assert site_of().get(assign).set_cookies[0].endswith("; Path=/; HttpOnly")


def test_attributes_of_a_cookie_may_be_assigned(site_of: Make) -> None:
    def assign(session: Any) -> None:
        session["a"] = 1
        session.cookie.domain, session.cookie.path, session.cookie.same_site = "example.com", "/app", "lax"
        session.cookie.secure, session.cookie.http_only = False, False

    assert site_of().get(assign).set_cookies[0].endswith("; Domain=example.com; Path=/app; SameSite=Lax")


def test_corrupt_cookies_say_so() -> None:
    with pytest.raises(CorruptRecord, match="no cookie"):
        Cookie.loaded(None)


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
def test_a_store_that_is_away_is_told_when_the_application_starts(face: str) -> None:
    heard: list[Event] = []
    away = f"redis://127.0.0.1:{free_port()}"
    patience = Outage(connect_timeout=0.2, command_timeout=0.2)
    sessions = express_sessions(away, secret="keyboard cat", on_event=heard.append, outage=patience)
    if face == "wsgi":
        sessions.wsgi(lambda environ, start_response: [])
        sessions.close()
    else:
        asyncio.run(_started(sessions))
    assert [event.name for event in heard] == ["store.down"]


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("later", [3000.2, 3599.9, 3600.1, 5000])
def test_a_session_that_was_touched_is_not_ended_by_storing_it_at_once(
    site_of: Make, says: bool, later: float
) -> None:
    """A touch leaves the body's own end behind (wire formats 1.6): stored as it stands, the session would be over, as in Node."""
    store = _Marking(says=says)
    site = site_of(store=store, cookie=CookieOptions(max_age=3_600_000))
    cookie = site.get(lambda s: s.update(a=1)).cookie
    site.now += 3000
    site.get(dict, cookie=cookie)
    site.now = NOW + later

    def store_at_once(session: Any) -> None:
        session["b"] = 1
        site.act(session, "save")
        assert store.ends[session.id] > site.now

    assert site.get(store_at_once, cookie=cookie).status == 200
    assert site.get(dict, cookie=cookie).result == {"a": 1, "b": 1}


def test_work_outside_of_a_request_does_not_shorten_the_session_it_changes() -> None:
    store = _Marking(says=True)
    site = Site("wsgi", store=store, cookie=CookieOptions(max_age=3_600_000))
    cookie = site.get(lambda s: s.update(a=1)).cookie
    site.now += 3000
    site.get(dict, cookie=cookie)
    for later in (3100, 4000):
        site.now = NOW + later
        session = site.sessions.blocking().named(cookie)
        assert session is not None
        session["b"] = later
        if later == 4000:  # and another is quicker
            site.get(lambda s: s.update(c=1), cookie=cookie)
        session.save()
        (end,) = store.ends.values()
        assert end == NOW + (6600 if later == 3100 else 7600)


class _Marking(MemoryStore):
    """Keeps when a session ends beside its body, as every other store of Node's; `says`: and tells."""

    def __init__(self, *, says: bool) -> None:
        super().__init__()
        self.ends, self._says = dict[str, float](), says

    def _look(self, sid: str, now: float) -> Entry | None:
        text = self._entries.get(sid)
        if text is None or self.ends[sid] <= now:
            return None
        return Entry(text, self.ends[sid] if self._says else None, text)

    async def create(self, sid: str, text: bytes, *, expires: float | None, now: float) -> Any:
        verdict = await super().create(sid, text, expires=expires, now=now)
        self.ends[sid] = ceil(expires or now + 86_400)
        return verdict

    async def replace(self, sid: str, text: bytes, *, expires: float | None, **rest: Any) -> Any:
        outcome = await super().replace(sid, text, expires=expires, **rest)
        if outcome is SAVED:
            self.ends[sid] = ceil(expires or rest["now"] + 86_400)
        return outcome

    async def touch(self, sid: str, text: bytes, *, expires: float | None, now: float) -> None:
        self.ends[sid] = ceil(expires or now + 86_400)


def test_an_application_may_be_started_again_in_the_same_process(tmp_path: Path) -> None:
    """As a test client does for each test."""
    heard: list[Event] = []
    url = f"sqlite:///{tmp_path}/sessions.db"
    sessions = express_sessions(url, secret="keyboard cat", on_event=heard.append)
    sessions.blocking().setup()

    async def count(request: Request) -> JSONResponse:
        request.session["n"] = request.session.get("n", 0) + 1
        return JSONResponse(request.session["n"])

    application = Starlette(routes=[Route("/", count)])
    application.add_middleware(sessions.asgi)
    for _ in range(2):
        with TestClient(application) as client:
            assert [client.get("/").json() for _ in range(2)] == [1, 2]
    assert heard == []


async def _started(sessions: ExpressSessions) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    await sessions.asgi(application)({"type": "lifespan"}, receive, send)
