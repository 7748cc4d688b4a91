"""The usual request without a coroutine, on a store that can do that (`AtOnce`): nothing is let in or written that would not be
otherwise. The other tests of the middleware use a store that cannot.
"""

from itertools import product
from typing import Any

import pytest

from coatcheck import SessionTooLarge, Timeouts
from coatcheck.asgi import SessionMiddleware
from coatcheck.core import drafts
from coatcheck.core.ports import at_once
from coatcheck.eras import LAG
from coatcheck.stores.memory import MemoryStore
from tests.web.apps import SECRET
from tests.web.rig import Talk, Time, http_scope, page, run


class Watched(MemoryStore):
    """Counts what was done at once. Its verbs are the memory store's own, so it is one that can."""

    found, wrote = 0, 0

    async def load(self, key: str, *, now: float) -> Any:
        return await super().load(key, now=now)

    async def replace(self, *args: Any, **words: Any) -> Any:
        return await super().replace(*args, **words)

    def load_now(self, key: str, now: float) -> Any:
        there = super().load_now(key, now)
        self.found += there is not None
        return there

    def replace_now(self, *args: Any) -> bool:
        done = super().replace_now(*args)
        self.wrote += done
        return done


class Site:
    """An application whose page is swapped between two requests, and one browser."""

    def __init__(self, **options: Any) -> None:
        self.time, self.store, self.handle = Time(), Watched(), self.count
        given = {"store": self.store, "secret": SECRET, "clock": self.time.clock, **options}
        self.middleware = SessionMiddleware(self._answer, **given)
        assert at_once(self.store) is self.store

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await page(self.handle)(scope, receive, send)

    def ask(self, handle: Any, cookie: Any = None) -> Talk:
        self.handle = handle
        return run(Talk(self.middleware, http_scope(cookie=cookie) if cookie else http_scope()).run())

    @staticmethod
    def count(session: Any) -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @staticmethod
    def look(session: Any) -> str:
        return str(session.get("n"))

    @staticmethod
    def log_in(session: Any) -> str:
        session.login("ann")
        return "in"

    @staticmethod
    def who(session: Any) -> str:
        return str(session.user_id)


def test_the_usual_requests_go_that_way() -> None:
    site = Site()
    cookie = site.ask(site.count).cookie
    for _ in range(3):  # the first time the cookie is not known yet, nor the era
        site.ask(site.count, cookie)
    found, wrote = site.store.found, site.store.wrote
    assert site.ask(site.look, cookie).body == b"4"
    assert site.ask(site.count, cookie).body == b"5"
    assert (site.store.found - found, site.store.wrote - wrote) == (2, 1)


def test_a_cookie_from_before_a_login_opens_nothing() -> None:
    site = Site()
    before = site.ask(site.count).cookie
    assert site.ask(site.look, before).body == site.ask(site.look, before).body == b"1"
    after = site.ask(site.log_in, before).cookie
    assert site.ask(site.who, after).body == site.ask(site.who, after).body == b"ann"
    for _ in range(2):
        assert site.ask(site.who, before).body == b"None"
        assert site.ask(site.look, before).body == b"None"


def test_what_is_over_is_not_found() -> None:
    site = Site(timeouts=Timeouts(idle=600))
    cookie = site.ask(site.count).cookie
    site.ask(site.look, cookie)
    site.time.now += 599
    assert site.ask(site.look, cookie).body == b"1"
    site.time.now += 600
    assert site.ask(site.look, cookie).body == b"None"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_era_that_ended_is_over(elsewhere: bool) -> None:
    site = Site()
    other = Site(store=site.store) if elsewhere else site
    cookie = site.ask(site.count).cookie
    for _ in range(2):
        assert site.ask(site.look, cookie).body == b"1"
    run(other.middleware.sessions.end_everyone())
    site.time.now += LAG if elsewhere else 0
    for _ in range(2):
        assert site.ask(site.look, cookie).body == b"None"


def test_a_lazy_session_is_not_looked_up() -> None:
    site = Site()
    cookie = site.ask(site.count).cookie
    lazy = Site(store=site.store, lazy=True)
    for _ in range(3):
        lazy.ask(lambda session: "nothing", cookie)
    assert site.store.found == 0


def test_a_client_that_changed_is_still_suspected() -> None:
    site = Site(client_change="reauthenticate", keep_client="full")
    assert site.middleware.sessions.flows.lifecycle.finds_now() is None


def test_a_session_that_became_too_large_fails_and_keeps_what_was_there() -> None:
    site = Site(max_size=1000)
    cookie = site.ask(site.count).cookie
    site.ask(site.count, cookie)

    def too_much(session: Any) -> str:
        session["n"] = "x" * 2000
        return "much"

    with pytest.raises(SessionTooLarge):
        site.ask(too_much, cookie)
    assert site.ask(site.look, cookie).body == b"2"


def test_another_writer_in_between_is_merged_with() -> None:
    site = Site()
    cookie = site.ask(site.count).cookie
    site.ask(site.count, cookie)

    def slow(session: Any) -> str:
        session["mine"] = 1
        there: Any = site.store._rows[session.handle]
        after = drafts.following(there, "theirs", b'{"n":2,"theirs":2}', site.time.now, 100.0, None)
        assert site.store.replace_now(after, there.versions[0], site.time.now)
        return "slow"

    site.ask(slow, cookie)
    assert (
        site.ask(lambda session: repr(sorted(session.items())), cookie).body
        == repr([("mine", 1), ("n", 2), ("theirs", 2)]).encode()
    )


def test_a_request_that_failed_keeps_nothing() -> None:
    site = Site()
    cookie = site.ask(site.count).cookie
    site.ask(site.look, cookie)

    def give_up(session: Any) -> str:
        session["n"] = 99
        session._given_up = True
        return "an error page"

    site.ask(give_up, cookie)
    assert site.ask(site.look, cookie).body == b"1"


def logged_in(site: Site, **words: Any) -> Any:
    """The cookie of a login, known to the process and written once since."""

    def log_in(session: Any) -> str:
        session.login("ann", **words)
        return "in"

    cookie = site.ask(log_in).cookie
    site.ask(site.count, cookie)
    return cookie


def test_a_write_renews_a_login_that_is_due() -> None:
    site = Site()
    cookie = logged_in(site)
    wrote = site.store.wrote
    site.ask(site.count, cookie)
    assert site.store.wrote == wrote + 1
    site.time.now += 3600
    renewed = site.ask(site.count, cookie).cookie
    assert renewed not in (None, cookie)
    assert site.ask(site.count, renewed).body == b"4"


def test_a_session_with_a_lifetime_of_its_own_keeps_it() -> None:
    day = 86_400
    site = Site(timeouts=Timeouts(renewal=None, absolute=100 * day))
    cookie = logged_in(site, remember=True)
    site.time.now += 20 * day
    site.ask(site.count, cookie)  # good for 30 days from here on
    site.time.now += 20 * day
    assert site.ask(site.who, cookie).body == b"ann"


def test_a_rolling_session_is_sent_by_every_write() -> None:
    site = Site(rolling=True)
    cookie = site.ask(site.count).cookie
    for _ in range(2):
        assert site.ask(site.count, cookie).cookie == cookie


def test_what_is_more_than_assigning_is_carried_out() -> None:
    site = Site()
    cookie = site.ask(site.count).cookie
    site.ask(site.count, cookie)

    def more(session: Any) -> str:
        session["other"] = 1
        del session["n"]
        return "more"

    site.ask(more, cookie)
    assert site.ask(lambda session: repr(sorted(session.items())), cookie).body == b"[('other', 1)]"


def test_an_event_stream_is_known_among_usual_headers() -> None:
    """One look at the headers serves both: what must be said, and whether it is an event stream."""
    site, held = Site(), list[Any]()
    cookie = site.ask(site.count).cookie

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].get("n")
        await send({"type": "http.response.start", "status": 200, "headers": site.headers})  # type: ignore[attr-defined]
        passage = send.__self__
        held.append(passage.stream)
        await send({"type": "http.response.body", "body": b""})

    site._answer = answer  # type: ignore[method-assign]
    site.middleware.app = answer
    for kind, is_stream in (
        (b"text/event-stream", True),
        (b"Text/Event-Stream; a=b", True),
        (b"text/css", False),
    ):
        for name, other in product((b"content-type", b"Content-Type"), (b"content-length", b"x-more")):
            site.headers = [(other, b"0"), (name, kind)]  # type: ignore[attr-defined]
            site.ask(None, cookie)
            assert (held.pop() is not None) is is_stream, (name, kind)
