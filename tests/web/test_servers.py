"""One visitor's life on every server that people run: log in, work, work at once, rotate, log out, expire, be revoked.

All by raw sockets, to one application (`tests.web.crowd`) in several frameworks, over SQLite and Redis. What becomes of a session
in detail is in `test_scenarios.py`; here it is the servers that differ: processes, threads, greenlets, event loops.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.web import crowd_elsewhere
from tests.web.between import Between
from tests.web.gates import Gate
from tests.web.places import STORES
from tests.web.servers import Browser, Seen, Server, aiohttp, granian, gunicorn, hypercorn, uvicorn
from tests.web.sites import somebody, standing

AT_ONCE = 20
Serve = Callable[..., AbstractContextManager[Server]]


@dataclass(frozen=True)
class Kind:
    """A way to serve an application. `room` is how many requests it works on at a time, `name` how it calls an application."""

    serve: Serve
    room: int = AT_ONCE
    name: str = "{}"


def _several(**options: Any) -> Serve:
    """Two processes, each with threads for the whole crowd."""
    return partial(gunicorn, workers=2, threads=AT_ONCE, **options)


PRELOAD = ["--preload"]
ONE_EACH = ["--worker-connections", "1", "--keep-alive", "0"]
THREADS = ["--blocking-threads", str(AT_ONCE + 4)]
ASGI = {
    "uvicorn": Kind(uvicorn),
    "hypercorn": Kind(hypercorn, name="made('{}')"),
    "granian": Kind(partial(granian, interface="asgi")),
    "gunicorn": Kind(partial(gunicorn, kind="asgi", workers=2)),
}
WSGI = {
    "sync": Kind(partial(gunicorn, kind="sync", workers=3), room=3),
    "gthread": Kind(_several()),
    "gevent": Kind(partial(gunicorn, kind="gevent")),
    "preload": Kind(_several(options=PRELOAD)),
    "preload_sync": Kind(partial(gunicorn, kind="sync", workers=3, options=PRELOAD), room=3),
    "preload_gevent": Kind(partial(gunicorn, kind="gevent", workers=2, options=PRELOAD)),
    "granian": Kind(partial(granian, interface="wsgi", options=THREADS)),
}
FACES = {
    "starlette": ASGI,
    "wsgi": WSGI,
    "flask": WSGI,
    "fastapi": ASGI,
    "quart": ASGI,
    "litestar": ASGI,
    "aiohttp": {
        "aiohttp": Kind(aiohttp),
        "gunicorn": Kind(partial(gunicorn, kind="aiohttp.GunicornWebWorker", workers=2)),
    },
    "django": WSGI,
    "django_asgi": ASGI,
}

_QUICK = {
    "starlette-hypercorn-sqlite", "starlette-granian-redis",
    "aiohttp-aiohttp-redis", "aiohttp-gunicorn-sqlite",
    "django-gthread-redis", "django-preload-sqlite", "django_asgi-uvicorn-redis",
    "fastapi-uvicorn-redis", "quart-hypercorn-redis", "litestar-granian-sqlite",
    "wsgi-sync-sqlite", "flask-sync-redis", "flask-gthread-redis", "wsgi-gevent-redis", "flask-gevent-sqlite",
    "wsgi-preload-sqlite", "flask-preload-redis", "wsgi-granian-redis",
}  # fmt: skip
"""What the default run has: every server, every framework, and both stores where processes share."""
_ALL = [
    (face, server, store)
    for face, kinds in FACES.items()
    for server in kinds
    for store in ("sqlite", "redis")
]
assert {"-".join(case) for case in _ALL} >= _QUICK

CASES = [
    pytest.param(case, id="-".join(case), marks=[] if "-".join(case) in _QUICK else [pytest.mark.slow])
    for case in _ALL
]


@dataclass
class Site:
    """A running application."""

    server: Server
    room: int

    def visitor(self, cookies: dict[str, str] | None = None) -> Browser:
        """Somebody new, or whoever holds these cookies."""
        return Browser(self.server, cookies=dict(cookies or {}))

    def logged_in(self, user: str | None = None) -> Browser:
        """Somebody who has logged in."""
        visitor = self.visitor()
        assert ask(visitor, f"/?login={user or somebody()}")["user"] is not None
        return visitor


def ask(visitor: Browser, path: str) -> dict[str, Any]:
    """Visit, and read the answer."""
    seen = visitor.visit(path)
    assert seen.status == 200, visitor.server.log.read_text()
    answer: dict[str, Any] = json.loads(seen.text)
    return answer


def is_out(visitor: Browser) -> bool:
    """Whether these cookies open nothing, get none, and what is done with them is not kept."""
    looked, tried, again = (visitor.visit(path) for path in ("/", "/?count=1", "/"))
    nothing: dict[str, Any] = {"user": None, "data": {}}
    return (
        json.loads(looked.text) == json.loads(again.text) == nothing
        and json.loads(tried.text) == {"user": None, "data": {"n": 1}}
        and not any(seen.all("set-cookie") for seen in (looked, tried, again))
    )


def at_once(visitor: Browser, paths: Sequence[str]) -> list[Seen]:
    """Ask for all of this at the same time; each has loaded the session before any of them commits."""
    with Gate() as gate, ThreadPoolExecutor(len(paths)) as pool:
        one = Browser(visitor.server, cookies=dict(visitor.cookies))
        asked = [pool.submit(one.visit, f"{path}&gate={gate.number}") for path in paths]
        gate.for_all(len(paths))
        gate.open()
        return [answer.result() for answer in asked]


@contextmanager
def serving(
    case: tuple[str, str, str], request: pytest.FixtureRequest, folder: Path, **env: str
) -> Iterator[Site]:
    face, server, store = case
    kind = FACES[face][server]
    env |= {"STORE": STORES[store](request, folder), "PATIENT": "yes"}
    if "preload" in server:
        env["WARM"] = "yes"
    module = "tests.web.crowd_elsewhere" if face in crowd_elsewhere.FACES else "tests.web.crowd"
    with kind.serve(f"{module}:{kind.name.format(face)}", folder=folder, env=env) as served:
        yield Site(served, kind.room)
        assert "Traceback" not in served.log.read_text()


@pytest.fixture(scope="module", params=CASES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(request.param, request, tmp_path_factory.mktemp("site")) as site:
        yield site


def test_a_login_keeps_the_data_and_changes_the_cookie(site: Site) -> None:
    visitor, user = site.visitor(), somebody()
    ask(visitor, "/?key=mine")
    planted = site.visitor(visitor.cookies)
    ask(visitor, f"/?login={user}")
    seen = ask(visitor, "/")
    assert (seen["user"], seen["data"]) == (user, {"mine": "mine"})
    assert visitor.cookies != planted.cookies
    assert is_out(planted)


def test_of_requests_at_the_same_time_each_counts(site: Site) -> None:
    visitor = site.logged_in()
    for begin in range(0, AT_ONCE, site.room):
        paths = ["/?count=1"] * min(site.room, AT_ONCE - begin)
        seen = at_once(visitor, paths)
        assert [(one.status, one.all("set-cookie")) for one in seen] == [(200, [])] * len(paths)
    keys = [f"key{number}" for number in range(site.room)]
    at_once(visitor, [f"/?key={key}" for key in keys])
    assert ask(visitor, "/")["data"] == {"n": AT_ONCE, **{key: key for key in keys}}


def test_after_a_rotation_the_old_cookie_is_dead(site: Site) -> None:
    visitor = site.logged_in()
    ask(visitor, "/?key=mine")
    old = site.visitor(visitor.cookies)
    before = ask(visitor, "/")
    ask(visitor, "/?rotate=1")
    assert visitor.cookies != old.cookies
    assert ask(visitor, "/") == before
    assert is_out(old)


def test_a_slow_request_brings_nothing_back_after_a_logout(site: Site) -> None:
    visitor = site.logged_in()
    copy = site.visitor(visitor.cookies)
    with standing(site.server, dict(visitor.cookies), "/?key=slow&count=1") as (gate, answer):
        ask(visitor, "/?logout=1")
        assert visitor.cookies == {}
        gate.open()
        late = answer.result()
    assert (late.status, late.all("set-cookie")) == (200, [])
    assert is_out(copy)


def test_a_slow_request_of_before_a_login_changes_nothing_of_it(site: Site) -> None:
    visitor, user = site.visitor(), somebody()
    ask(visitor, "/?key=mine")
    with standing(site.server, dict(visitor.cookies), "/?key=planted") as (gate, answer):
        ask(visitor, f"/?login={user}")
        gate.open()
        assert (answer.result().status, answer.result().all("set-cookie")) == (200, [])
    seen = ask(visitor, "/")
    assert (seen["user"], seen["data"]) == (user, {"mine": "mine"})


def test_a_session_expires(site: Site) -> None:
    visitor = site.logged_in()
    assert ask(visitor, "/")["user"] is not None
    before = dict(visitor.cookies)
    assert ask(visitor, "/late/") == {"user": None, "data": {}}
    assert ask(visitor, "/late/?count=1") == {"user": None, "data": {"n": 1}}
    ((name, value),) = before.items()
    assert visitor.cookies[name].partition(".")[0] != value.partition(".")[0]


def test_a_session_is_revoked_from_another_device(site: Site) -> None:
    user = somebody()
    here, there, stranger = site.logged_in(user), site.logged_in(user), site.logged_in()
    handle = ask(there, "/")["handle"]
    ask(stranger, f"/?end={handle}")
    assert ask(there, "/")["user"] == user
    with standing(site.server, dict(there.cookies), "/?count=1") as (gate, answer):
        ask(here, f"/?end={handle}")
        gate.open()
        assert (answer.result().status, answer.result().all("set-cookie")) == (200, [])
    assert is_out(there)
    assert (ask(here, "/")["user"], ask(here, "/")["data"]) == (user, {})
    ask(here, f"/?end_all={user}")
    assert is_out(here)


def test_visitors_at_the_same_time_get_each_their_own(site: Site) -> None:
    """Replies on a connection that two processes, threads or greenlets shared would reach the wrong one."""
    visitors = [site.logged_in(somebody()) for _ in range(site.room)]
    own = [ask(visitor, f"/?key=key{number}") for number, visitor in enumerate(visitors)]
    with ThreadPoolExecutor(site.room) as pool:
        for _ in range(3):
            assert list(pool.map(lambda visitor: ask(visitor, "/"), visitors)) == own


# --------------------------------------------------------------------------------------------------- what only one does


@pytest.mark.parametrize(("face", "options"), [("wsgi", []), ("flask", []), ("wsgi", PRELOAD)])
def test_under_gevent_others_go_on_while_one_waits_for_redis(
    face: str, options: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue("redis_server")
    with Between(server.port) as between:
        env = {"STORE": f"redis://127.0.0.1:{between.port}/7", "PATIENT": "yes"}
        if options:
            env["WARM"] = "yes"
        serve = partial(gunicorn, kind="gevent", options=options)
        with serve(f"tests.web.crowd:{face}", folder=tmp_path, env=env) as served:
            site = Site(served, AT_ONCE)
            visitors = [site.logged_in() for _ in range(5)]
            between.hold()
            with ThreadPoolExecutor(5) as pool:
                asked = [pool.submit(ask, visitor, "/?count=1") for visitor in visitors]
                between.for_all(5)  # all five wait for Redis, in one process and one thread
                assert site.visitor().visit("/untouched").status in (200, 404)
                assert not any(answer.done() for answer in asked)
                between.let_go()
                assert [answer.result()["data"] for answer in asked] == [{"n": 1}] * 5


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_what_a_master_opened_no_worker_uses(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """`--preload`, and the master has answered a visitor before it forks: the connections of that stay its own."""
    server = request.getfixturevalue("redis_server")
    with Between(server.port) as between:
        env = {"STORE": f"redis://127.0.0.1:{between.port}/7", "PATIENT": "yes", "WARM": "yes"}
        serve = partial(gunicorn, kind=kind, workers=3, threads=1, options=[*PRELOAD, *ONE_EACH])
        with serve("tests.web.crowd:wsgi", folder=tmp_path, env=env) as served:
            site = Site(served, 3)
            site.visitor().visit("/untouched")  # there are workers now, and none has asked Redis for anything
            of_master = list(between.pieces)
            assert sum(of_master) > 0
            visitor = site.logged_in()
            assert len(processes(visitor, 3)) == 3
            assert between.pieces[: len(of_master)] == of_master
            assert len(between.pieces) >= len(of_master) + 3
            assert ask(visitor, "/")["data"] == {"n": 3}


def processes(visitor: Browser, count: int) -> set[int]:
    """Have so many requests worked on at the same time; the processes that they were in."""
    with Gate() as gate, ThreadPoolExecutor(count) as pool:
        one = Browser(visitor.server, cookies=dict(visitor.cookies))
        asked = [pool.submit(ask, one, f"/?count=1&gate={gate.number}") for _ in range(count)]
        found = set(gate.for_all(count))
        gate.open()
        for answer in asked:
            answer.result()
        return found
