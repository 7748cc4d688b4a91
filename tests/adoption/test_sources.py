"""Every kind of old session, made by the real package, is gone on with: once, in either face, and the old one ends."""

import pickle
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from coatcheck.adoption import (
    DjangoCookie,
    DjangoTable,
    FlaskCookie,
    FlaskSessionInRedis,
    StarletteCookie,
    StarsessionsCookie,
    StarsessionsInRedis,
)
from servers import Server
from tests.adoption import olds
from tests.adoption.conftest import MakeSite
from tests.adoption.rig import FACES, NOTHING
from tests.patience import PATIENT

DATA = {"cart": [1, {"n": 2.5}], "name": "Ada", "none": None}


@dataclass
class Place:
    """Where old and new sessions are."""

    redis: str
    folder: Path

    @property
    def client(self) -> Any:
        return redis.Redis.from_url(self.redis)


@dataclass
class Case:
    """An old session, and what is to adopt it."""

    adopt: Any
    name: str
    value: str
    user: str | None = None
    left: tuple[str, ...] = ()
    """Keys in Redis that must be gone afterwards."""


@pytest.fixture
def place(redis_server: Server, tmp_path: Path) -> Place:
    url = f"redis://127.0.0.1:{redis_server.port}/9"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return Place(url, tmp_path)


def starlette(place: Place) -> Case:
    value = olds.starlette({**DATA, "user": 7}, max_age=3600)
    return Case(StarletteCookie(secret_key=olds.SECRET, max_age=3600, user_key="user"), "session", value, "7")


def flask(place: Place) -> Case:
    value = olds.flask({**DATA, "_user_id": "7"})
    return Case(FlaskCookie(secret_key=olds.SECRET), "session", value, "7")


def flask_large(place: Place) -> Case:
    value = olds.flask({**DATA, "long": "a" * 2000})
    assert value.startswith(".")
    return Case(FlaskCookie(secret_key=olds.SECRET), "session", value)


def flask_fallback(place: Place) -> Case:
    value = olds.flask(DATA, olds.OLDER)
    return Case(FlaskCookie(secret_key=olds.SECRET, fallbacks=[olds.OLDER]), "session", value)


def flask_session(place: Place, form: str = "msgpack", signed: bool = False) -> Case:
    value = olds.flask_session(place.redis, {**DATA, "_user_id": "7"}, form=form, signed=signed)
    secret = olds.SECRET if signed else None
    adopt = FlaskSessionInRedis(server=place.redis, secret_key=secret, outage=PATIENT)
    sid = value.partition(".")[0]
    return Case(adopt, "session", value, "7", (f"session:{sid}",))


def flask_session_json(place: Place) -> Case:
    return flask_session(place, "json")


def flask_session_signed(place: Place) -> Case:
    return flask_session(place, signed=True)


def starsessions(place: Place) -> Case:
    value = olds.starsessions_in_redis(place.redis, {**DATA, "user": 7})
    adopt = StarsessionsInRedis(server=place.redis, user_key="user", outage=PATIENT)
    return Case(adopt, "session", value, "7", (f"starsessions.{value}",))


def starsessions_cookie(place: Place) -> Case:
    value = olds.starsessions_cookie({**DATA, "user": 7})
    return Case(StarsessionsCookie(secret_key=olds.SECRET, user_key="user"), "session", value, "7")


def starsessions_cookie_that_ends(place: Place) -> Case:
    value = olds.starsessions_cookie(DATA, 600)
    return Case(StarsessionsCookie(secret_key=olds.SECRET, lifetime=600), "session", value)


CASES = [
    starlette,
    flask,
    flask_large,
    flask_fallback,
    flask_session,
    flask_session_json,
    flask_session_signed,
    starsessions,
    starsessions_cookie,
    starsessions_cookie_that_ends,
]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_an_old_session_goes_on(make: Any, face: str, place: Place, site_of: MakeSite) -> None:
    case: Case = make(place)
    site = site_of(face, "memory:", case.adopt)
    browser = site.browser(**{case.name: case.value})
    page = browser.get()
    assert page["user"] == case.user
    assert {key: page["data"][key] for key in DATA} == DATA
    assert browser.cookies != {case.name: case.value}
    assert site.ears.heard().count("session.adopted") == 1
    assert browser.get("/set?k=v")["data"]["k"] == "v"
    if case.left:
        with place.client as client:
            assert client.exists(*case.left) == 0
    site.time.now += 11  # what a request may still be under way for with the old cookie
    assert site.browser(**{case.name: case.value}).get() == NOTHING
    assert browser.get()["data"]["k"] == "v"
    browser.get("/logout")
    site.time.now += 61
    assert site.browser(**{case.name: case.value}).get() == NOTHING
    assert "session.adopted" not in site.ears.heard()


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_cookie_that_somebody_changed_is_nothing(make: Any, place: Place, site_of: MakeSite) -> None:
    case: Case = make(place)
    site = site_of("wsgi", "memory:", case.adopt)
    middle = len(case.value) - 10  # in the signature, or in the id
    other = "b" if case.value[middle] != "b" else "c"
    changed = case.value[:middle] + other + case.value[middle + 1 :]
    for value in (changed, case.value[1:], case.value[:-3], ""):
        assert site.browser(**{case.name: value}).get() == NOTHING
    assert "session.adopted" not in site.ears.heard()


@pytest.mark.parametrize("make", [starlette, flask, starsessions_cookie], ids=lambda make: make.__name__)
def test_a_used_cookie_is_known_again_however_its_signature_is_spelled(
    make: Any, place: Place, site_of: MakeSite
) -> None:
    """itsdangerous takes any spelling that decodes to the signature: each would have been adopted as another session."""
    case: Case = make(place)
    site = site_of("wsgi", "memory:", case.adopt)
    browser = site.browser(**{case.name: case.value})
    browser.get()
    browser.get("/logout")
    site.time.now += 61
    site.ears.heard()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for spelled in (
        case.value[:-1] + alphabet[alphabet.index(case.value[-1]) ^ 1],
        case.value[:-1] + "!!!!" + case.value[-1],
        f'"{case.value}"',
    ):
        claim = case.adopt.claim(spelled.strip('"'), site.time.now)
        assert claim is not None, "it is genuine to itsdangerous"
        assert site.browser(**{case.name: spelled}).get() == NOTHING
    assert "session.adopted" not in site.ears.heard()


@pytest.mark.parametrize(
    ("make", "after"),
    [(starlette, 3600), (flask, 31 * 86_400), (starsessions_cookie_that_ends, 600)],
    ids=["starlette", "flask", "starsessions"],
)
def test_a_cookie_is_as_old_as_it_may_be_and_no_older(
    make: Any, after: float, place: Place, site_of: MakeSite
) -> None:
    case: Case = make(place)
    site = site_of("wsgi", "memory:", case.adopt)
    site.time.now = int(site.time.now) + after - 2.0
    assert site.browser(**{case.name: case.value}).get() != NOTHING
    other = site_of("wsgi", "memory:", case.adopt)
    other.time.now = int(other.time.now) + after + 2.0
    assert other.browser(**{case.name: case.value}).get() == NOTHING


def test_values_that_only_flask_could_keep_come_back_as_they_were() -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    data = {
        "tuple": (1, (2, b"\x00")),
        "uuid": UUID(int=5),
        "moment": moment,
        "tagged": {" t": 1},
        "nested": {"a": [{"b": (1,)}]},
    }
    value = olds.flask(data)
    claim = FlaskCookie(secret_key=olds.SECRET).claim(value, time.time())
    assert claim is not None
    assert claim.found is not None
    assert dict(claim.found.data) == data  # type: ignore[union-attr]  # not refused
    assert "<" in repr(claim)


def test_flasks_markup_stays_markup() -> None:
    from markupsafe import Markup

    claim = FlaskCookie(secret_key=olds.SECRET).claim(olds.flask({"m": Markup("<b>")}), time.time())
    assert claim is not None
    assert type(claim.found.data["m"]) is Markup  # type: ignore[union-attr]  # not refused


@pytest.mark.parametrize("face", FACES)
def test_a_permanent_session_of_flask_stays_permanent(face: str, site_of: MakeSite) -> None:
    site = site_of(face, "memory:", FlaskCookie(secret_key=olds.SECRET))
    browser = site.browser(session=olds.flask({"a": 1, "permanent": True}))
    assert browser.get()["data"] == {"a": 1}
    assert browser.last is not None
    assert "Max-Age=" in browser.last.all("set-cookie")[0]


class Trap:
    """A pickle of this runs code when it is read."""

    def __reduce__(self) -> Any:
        return (open, ("/tmp/this-file-is-never-made", "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("face", FACES)
def test_what_is_pickled_is_never_loaded(
    face: str, protocol: int, place: Place, monkeypatch: pytest.MonkeyPatch, site_of: MakeSite
) -> None:
    """As Flask-Session before 0.6 wrote it. It stays where it is: the old application may still be asked."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    sid = "s" * 43
    with place.client as client:
        client.set(f"session:{sid}", pickle.dumps({"user": Trap()}, protocol), ex=600)
        for name in ("loads", "load", "Unpickler"):
            monkeypatch.setattr(pickle, name, never)
        site = site_of(face, "memory:", FlaskSessionInRedis(server=place.redis, outage=PATIENT))
        assert site.browser(session=sid).get() == NOTHING
        (event,) = site.ears.events
        assert event.name == "adoption.refused"
        assert protocol < 2 or "pickled" in event.detail
        assert client.exists(f"session:{sid}") == 1


@pytest.mark.parametrize("stored", [b"", b"\xc1", b"[]", b"{", b"null", b"\x93\x01\x02\x03", b"[" * 5000])
def test_what_cannot_be_read_is_told_and_is_nothing(stored: bytes, place: Place, site_of: MakeSite) -> None:
    with place.client as client:
        client.set("session:" + "s" * 43, stored)
        client.set("starsessions." + "a" * 32, stored)
    for adopt, value in (
        (FlaskSessionInRedis(server=place.redis, outage=PATIENT), "s" * 43),
        (StarsessionsInRedis(server=place.redis, outage=PATIENT), "a" * 32),
    ):
        site = site_of("wsgi", "memory:", adopt)
        assert site.browser(session=value).get() == NOTHING
        assert site.ears.heard() == ["adoption.refused"]


@pytest.mark.parametrize("face", FACES)
def test_a_client_of_the_applications_own_will_do_and_stays_open(
    face: str, place: Place, site_of: MakeSite
) -> None:
    value = olds.flask_session(place.redis, DATA)
    if face == "wsgi":
        with redis.Redis.from_url(place.redis) as client:
            site = site_of(face, "memory:", FlaskSessionInRedis(server=client))
            assert site.browser(session=value).get()["data"] == DATA
            site.sessions.close()
            assert client.ping()
    else:
        from coatcheck import WrongFace

        with redis.Redis.from_url(place.redis) as client, pytest.raises(WrongFace):
            site_of(face, "memory:", FlaskSessionInRedis(server=client))


# ------------------------------------------------------------------------------------------------------------- Django

ENGINES = {"db": "sessions", "cached_db": "sessions", "signed_cookies": "cookie"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_of_django_goes_on_without_django(engine: str, place: Place, site_of: MakeSite) -> None:
    made = olds.django(engine, place.folder, place.redis, "login", "login")
    table = DjangoTable(
        database=f"sqlite:///{place.folder}/django.db", secret_key=olds.SECRET, outage=PATIENT
    )
    adopt = DjangoCookie(secret_key=olds.SECRET) if engine == "signed_cookies" else table
    for face, cookie in zip(FACES, made, strict=True):
        site = site_of(face, "memory:", adopt)
        browser = site.browser(sessionid=cookie)
        page = browser.get()
        assert page["user"] == "1"
        assert page["data"]["cart"] == ["a", {"n": 1}]
        assert list(browser.cookies) == ["session"]  # sessionid is cleared
        browser.get()
        site.time.now += 11
        assert site.browser(sessionid=cookie).get() == NOTHING
        browser.get("/logout")
        site.time.now += 61
        assert site.browser(sessionid=cookie).get() == NOTHING
        assert site.ears.heard().count("session.adopted") == 1
    if engine == "db":
        assert olds.django(engine, place.folder, place.redis, *(f"see {cookie}" for cookie in made)) == [
            None,
            None,
        ]


def test_django_signs_with_fallbacks_and_ends_by_its_own_clock(place: Place) -> None:
    (cookie,) = olds.django("signed_cookies", place.folder, place.redis, "login")
    assert DjangoCookie(secret_key="new", fallbacks=[olds.SECRET]).claim(cookie, time.time()) is not None
    assert DjangoCookie(secret_key="new").claim(cookie, time.time()) is None
    old = DjangoCookie(secret_key=olds.SECRET, cookie_age=60)
    assert old.claim(cookie, time.time() + 50) is not None
    assert old.claim(cookie, time.time() + 70) is None


def test_a_row_of_django_ends_when_it_says(place: Place, site_of: MakeSite) -> None:
    (cookie,) = olds.django("db", place.folder, place.redis, "expires 60")
    table = DjangoTable(
        database=f"sqlite:///{place.folder}/django.db", secret_key=olds.SECRET, outage=PATIENT
    )
    site = site_of("wsgi", "memory:", table)
    site.time.now += 70
    assert site.browser(sessionid=cookie).get() == NOTHING
    site.time.now -= 70
    browser = site.browser(sessionid=cookie)
    assert browser.get() != NOTHING
    assert browser.last is not None
    assert "Max-Age=" in browser.last.all("set-cookie")[0]


@pytest.mark.parametrize("engine", ["db", "cache", "cached_db"])
def test_a_session_of_django_goes_on_inside_django(engine: str, place: Place) -> None:
    """Both faces, the whole story, in a process of Django's own: its cache is in Redis, and pickled by Django itself."""
    story = olds.django(engine, place.folder, place.redis, "adopt wsgi", "adopt asgi")
    for told in story:
        assert told == {
            "first": {"user": "1", "cart": ["a", {"n": 1}], "stands_for_login": []},
            "again": {"user": "1", "cart": ["a", {"n": 1}], "stands_for_login": []},
            "old cookie later": NOTHING,
            "in the old engine": None,
            "events": ["session.adopted"],
        }


@pytest.mark.parametrize("engine", ["db", "cache"])
def test_a_changed_password_ends_an_old_session_of_django_inside_django(engine: str, place: Place) -> None:
    story = olds.django(engine, place.folder, place.redis, "password wsgi", "password asgi", "gone wsgi")
    assert story == [[NOTHING, ["adoption.refused"]]] * 3
