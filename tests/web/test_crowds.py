"""Promise 1, through real servers: of fifty requests that change different keys at once, and of a hundred that count, nothing is
lost."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.web.crowd import CROWD
from tests.web.gates import Gate
from tests.web.servers import Browser, Server, gunicorn, uvicorn


@pytest.fixture(
    params=[f"{face}-{store}" for face in ("starlette", "wsgi", "flask") for store in ("memory", "sqlite")]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """One process: a crowd meets in it."""
    face, store = request.param.split("-")
    env = {"STORE": "memory:" if store == "memory" else f"sqlite:///{tmp_path}/sessions.db"}
    if face == "starlette":
        with uvicorn("tests.web.crowd:starlette", folder=tmp_path, env=env) as server:
            yield server
    else:
        with gunicorn(f"tests.web.crowd:{face}", folder=tmp_path, env=env, threads=CROWD) as server:
            yield server


def all_at_once(visitor: Browser, paths: Sequence[str]) -> None:
    """Ask for all these pages at the same time, with the same cookies."""
    with ThreadPoolExecutor(len(paths)) as pool:
        seen = list(pool.map(Browser(visitor.server, cookies=visitor.cookies).visit, paths))
    assert [response.status for response in seen] == [200] * len(paths)
    assert not any(response.all("set-cookie") for response in seen)


def together(visitor: Browser, paths: Sequence[str]) -> None:
    """The same, and each has loaded the session before any of them commits."""
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(all_at_once, visitor, [f"{path}&gate={gate.number}" for path in paths])
        gate.for_all(len(paths))
        gate.open()
        asked.result()


def kept_by(visitor: Browser) -> object:
    """What is in the session."""
    return json.loads(visitor.visit("/").text)["data"]


KEYS = {f"key{number}": f"key{number}" for number in range(CROWD)}


def test_fifty_writers_of_different_keys_and_a_hundred_increments(server: Server) -> None:
    visitor = Browser(server)
    visitor.visit("/?count=1")
    together(visitor, [f"/?key={key}" for key in KEYS])
    for _ in range(2):
        together(visitor, ["/?count=1"] * CROWD)
    assert kept_by(visitor) == {"n": 101, **KEYS}


def test_several_workers_on_one_file_lose_nothing_either(tmp_path: Path) -> None:
    env = {"STORE": f"sqlite:///{tmp_path}/sessions.db"}
    with gunicorn("tests.web.crowd:wsgi", folder=tmp_path, env=env, workers=3, threads=4) as server:
        visitor = Browser(server)
        visitor.visit("/?count=1")
        all_at_once(visitor, ["/?count=1"] * 100)
        all_at_once(visitor, [f"/?key={key}" for key in KEYS])
        assert kept_by(visitor) == {"n": 101, **KEYS}


def test_a_flask_and_a_starlette_application_share_a_login_over_one_file(tmp_path: Path) -> None:
    env = {"STORE": f"sqlite:///{tmp_path}/sessions.db"}
    with (
        gunicorn("tests.web.apps:flask", folder=tmp_path, env=env) as sync,
        uvicorn("tests.web.apps:starlette", folder=tmp_path, env=env) as awaiting,
    ):
        browser = Browser(sync)
        browser.visit("/login?user=ada")
        other, thief = (Browser(one, cookies=dict(browser.cookies)) for one in (awaiting, sync))
        assert (other.visit("/user").text, other.visit("/incr").text) == ("ada", "1")
        assert browser.visit("/incr").text == "2"
        other.visit("/logout")
        assert (thief.visit("/user").text, thief.visit("/incr").all("set-cookie")) == ("None", [])
