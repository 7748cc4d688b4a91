"""Sessions of an Express application, gone on with: by their cookie, once, whether their browser or `migrate` comes first."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from coatcheck import ConfigurationError
from coatcheck.adoption import ExpressSession
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.memory import MemoryStore as ExpressMemory
from coatcheck.dialects.express.signed import Secrets
from coatcheck.errors import WeakSecret
from coatcheck.migration import migrate
from coatcheck.stores.memory import MemoryStore
from servers import Server
from tests.adoption.rig import FACES, NOTHING, Site
from tests.dialects.node import node_app
from tests.patience import PATIENT

SECRET = "keyboard cat"
SID = "MQyjsV9BTXB1wdmBLG_UT99xobJj4i6O"
VALUE = "s%3AMQyjsV9BTXB1wdmBLG_UT99xobJj4i6O.f9bZTak8LR7P%2FIMvWkWo7yDGckEQ7x6%2B9Rl5fV9mJXc"
"""What the real express-session made of these two (node-wire-formats 1.1)."""
DATA = {"passport": {"user": 7}, "cart": ["a"]}
PAGE = {"user": "7", "data": DATA}


def body(data: dict[str, Any], ends: float | None = None) -> bytes:
    expires = None if ends is None else datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return json.dumps({"cookie": {"originalMaxAge": None, "expires": expires}, **data}).encode()


def of(data: dict[str, Any] = DATA) -> ExpressMemory:
    store = ExpressMemory()
    run_now(store.create(SID, body(data), expires=None, now=1.0))
    return store


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    made: list[Site] = []
    yield made
    for site in made:
        site.close()


def site_of(
    sites: list[Site], face: str, old: ExpressMemory, new: MemoryStore | None = None, **fields: Any
) -> Site:
    fields = {"secret": SECRET, **fields}
    sites.append(Site(face, new or MemoryStore(), ExpressSession(store=old, **fields)))
    return sites[-1]


@pytest.mark.parametrize("face", FACES)
def test_a_browser_goes_on_where_it_was(face: str, sites: list[Site]) -> None:
    old = of()
    site = site_of(sites, face, old)
    browser = site.browser(**{"connect.sid": VALUE})
    before = browser.copy()
    assert browser.get() == PAGE
    assert old._entries == {}
    assert "connect.sid" not in browser.cookies
    assert browser.get() == PAGE
    assert before.get() == PAGE  # the response was lost: the old cookie goes on
    assert browser.get("/logout")["user"] is None
    site.time.now += 61
    assert site.browser(**{"connect.sid": VALUE}).get() == NOTHING


@pytest.mark.parametrize(
    ("data", "fields", "user"),
    [
        ({"user": {"id": "ada"}}, {"user_id": "user.id"}, "ada"),
        ({"userId": 9}, {"user_id": "userId"}, "9"),
        ({"passport": {}}, {}, None),
        ({"passport": 3}, {}, None),
        ({"passport": {"user": 7}}, {"user_id": None}, None),
        ({"passport": {"user": {"id": 3}}}, {"to_user_id": lambda user: user["id"]}, "3"),
    ],
)
def test_who_is_logged_in_is_at_a_path(data: Any, fields: Any, user: str | None, sites: list[Site]) -> None:
    browser = site_of(sites, "wsgi", of(data), **fields).browser(**{"connect.sid": VALUE})
    assert browser.get() == {"user": user, "data": data}


def test_what_names_nobody_is_refused_and_stays(sites: list[Site]) -> None:
    old = of({"passport": {"user": {"id": 3}}})
    site = site_of(sites, "wsgi", old)
    assert site.browser(**{"connect.sid": VALUE}).get() == NOTHING
    assert "adoption.refused" in site.ears.heard()
    assert SID in old._entries


@pytest.mark.parametrize("value", ["", "s%3A" + SID, VALUE[:-1] + "d", VALUE.removeprefix("s%3A"), SID])
def test_a_cookie_that_nobody_signed_is_none(value: str, sites: list[Site]) -> None:
    old = of()
    assert site_of(sites, "wsgi", old).browser(**{"connect.sid": value}).get() == NOTHING
    assert SID in old._entries


def test_a_secret_that_was_changed_verifies(sites: list[Site]) -> None:
    assert (
        site_of(sites, "wsgi", of(), secret=["newer", SECRET]).browser(**{"connect.sid": VALUE}).get() == PAGE
    )


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'"text"', b"\xff"])
def test_what_is_no_body_opens_nothing(text: bytes, sites: list[Site]) -> None:
    old = of()
    old._entries[SID] = text
    assert site_of(sites, "wsgi", old).browser(**{"connect.sid": VALUE}).get() == NOTHING


def test_after_migrate_the_old_cookie_opens_the_session(sites: list[Site]) -> None:
    old, new = of(), MemoryStore()
    assert migrate(old, new, move=True).done == 1
    site = site_of(sites, "wsgi", old, new)
    assert len(site.admin.of("7").list()) == 1
    browser = site.browser(**{"connect.sid": VALUE})
    assert browser.get() == PAGE
    assert "connect.sid" not in browser.cookies
    assert browser.get("/set?n=1")["data"]["n"] == "1"
    assert len(site.admin.of("7").list()) == 1


def test_what_node_writes_after_the_move_brings_nothing_back(sites: list[Site]) -> None:
    old, new = of(), MemoryStore()
    migrate(old, new, move=True)
    site = site_of(sites, "wsgi", old, new)
    browser = site.browser(**{"connect.sid": VALUE})
    browser.get("/set?n=1")
    run_now(
        old.create(SID, body({"passport": {"user": 8}}), expires=None, now=1.0)
    )  # a late request of Node's
    assert browser.get()["user"] == "7"
    browser.get("/logout")
    site.time.now += 61
    assert site.browser(**{"connect.sid": VALUE}).get() == NOTHING
    assert migrate(old, new, move=True).done == 0
    assert site.browser(**{"connect.sid": VALUE}).get() == NOTHING


@pytest.mark.parametrize("first", ["the browser", "migrate"])
def test_nor_does_it_once_the_session_would_have_been_over(first: str, sites: list[Site]) -> None:
    """It had an end when it was adopted. A request that Node had under way writes it with a later one."""
    old, new = ExpressMemory(), MemoryStore()
    site = site_of(sites, "wsgi", old, new)
    run_now(old.create(SID, body(DATA, ends=site.time.now + 600), expires=None, now=site.time.now))
    if first == "migrate":
        assert migrate(old, new, move=True).done == 1
    browser = site.browser(**{"connect.sid": VALUE})
    before = browser.copy()
    assert browser.get() == PAGE
    browser.get("/logout")
    run_now(old.create(SID, body(DATA, ends=site.time.now + 90 * 86_400), expires=None, now=site.time.now))
    site.time.now += 2 * 86_400
    assert before.get() == NOTHING


@pytest.mark.parametrize("first", ["the browser", "migrate"])
def test_with_the_real_packages_on_the_other_side(
    first: str, redis_server: Server, sites: list[Site]
) -> None:
    url, new = redis_server.url.removesuffix("/0") + "/4", MemoryStore()
    options = {"secret": "newest", "resave": False, "saveUninitialized": False}
    with node_app({"kind": "connect-redis", "url": url, "options": {}}, session=options) as node:
        said = node.run(["set", ["passport"], {"user": "ada"}], ["set", ["cart"], ["tea"]])
        if first == "migrate":
            assert migrate(f"express+{url}", new, move=True, outage=PATIENT).done == 1
        kind = ExpressSession(store=url, secret=["newest", SECRET], outage=PATIENT)
        sites.append(Site("wsgi", new, kind))
        browser = sites[-1].browser(**{"connect.sid": said.cookie.partition("=")[2]})
        assert browser.get() == {"user": "ada", "data": {"passport": {"user": "ada"}, "cart": ["tea"]}}
        assert node.run(["get", "cart"], cookie=said.cookie).body["results"] == [None]


def test_who_was_logged_out_everywhere_is_not_adopted(sites: list[Site]) -> None:
    site = site_of(sites, "wsgi", of())
    site.admin.of("7").end_all()
    assert site.browser(**{"connect.sid": VALUE}).get() == NOTHING


def test_secrets_do_not_show() -> None:
    kind = ExpressSession(store="redis://:sesame@cache", secret=SECRET)
    assert SECRET not in repr(kind)
    assert "sesame" not in repr(kind)
    assert Secrets(SECRET).sign(SID) == VALUE


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"user_key": "passport"}, "give user_id="),
        ({"user_id": "passport..user"}, "dots between"),
        ({"user_id": 7}, "dots between"),
        ({"secret": []}, "at least one"),
        ({"store": 7}, "no store of the Node world"),
        ({"store": "redys://x"}, "begins with redis:"),
    ],
)
def test_what_is_wrong_is_said(fields: Any, words: str) -> None:
    with pytest.raises((ConfigurationError, WeakSecret), match=words):
        ExpressSession(**{"store": of(), "secret": SECRET, **fields}).blocking()
