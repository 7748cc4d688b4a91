"""Starlette's own tests of its session middleware, with ours in its place, under its argument names.

From `tests/middleware/test_session.py` of Starlette 0.46 (the oldest that we take: the first seven) and of 1.x (all). Everywhere

- the secret is a long one, since "example" is refused;
- a page answers `dict(request.session)`: ours is a mapping, and no dict, which `json` asks for.

| upstream | here | changed, and why |
|---|---|---|
| test_session | yes | `max_age` is given: by default our cookie goes when the browser closes, Starlette's after 14 days |
| test_session_expires | yes | `max_age=-1` is refused at start-up: it is said, and the session expires by the clock instead |
| test_secure_session | yes | none |
| test_session_cookie_subpath | yes | Path= in the case of the RFC |
| test_invalid_session_cookie | yes | none |
| test_session_cookie (`max_age=None`) | yes | none |
| test_domain_cookie | yes | Domain= in the case of the RFC |
| test_partitioned_session | yes | Partitioned in the case of the draft; `logout()` for `clear()`, which leaves an empty session |
| test_set_cookie_only_on_modification | yes | and a modification sends it only if it is new: the data are on the server |
| test_vary_cookie_on_access | yes | none |
| test_vary_cookie_on_session_pop | yes | no Set-Cookie where other keys stay: it is the same cookie |
| test_session_tracks_modification | yes | on the session of a request; `modified` means that something is different |
| test_session_persists_mutations | yes | none |
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from coatcheck import ConfigurationError
from coatcheck.starlette import SessionMiddleware
from tests.web.paths import SECRET
from tests.web.rig import Time

DATA = {"some": "data"}


def seen(request: Request) -> JSONResponse:
    return JSONResponse({"session": dict(request.session)})


async def update(request: Request) -> JSONResponse:
    request.session.update(await request.json())
    return seen(request)


async def update_in_place(request: Request) -> JSONResponse:
    session = request.session
    session |= await request.json()
    return seen(request)


async def pop(request: Request) -> JSONResponse:
    return JSONResponse({"value": request.session.pop("a")})


async def popitem(request: Request) -> JSONResponse:
    request.session.popitem()
    return seen(request)


async def clear(request: Request) -> JSONResponse:
    request.session.clear()
    return seen(request)


async def logout(request: Request) -> JSONResponse:
    session: Any = request.session
    session.logout()
    return seen(request)


def never_looks(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


ROUTES = [
    Route("/view", seen),
    Route("/other", never_looks),
    *(
        Route(f"/{page.__name__}", page, methods=["POST"])
        for page in (update, update_in_place, pop, popitem, clear, logout)
    ),
]


def application(**options: Any) -> Starlette:
    return Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, secret_key=SECRET, **options)])


def client(base_url: str = "http://testserver", **options: Any) -> TestClient:
    return TestClient(application(**options), base_url=base_url)


def attributes(response: Any) -> list[str]:
    (cookie,) = response.headers.get_list("set-cookie")
    return str(cookie).split("; ")[1:]


def test_session() -> None:
    browser = client(max_age=14 * 24 * 3600)
    assert browser.get("/view").json() == {"session": {}}
    response = browser.post("/update", json=DATA)
    assert response.json() == {"session": DATA}
    assert f"Max-Age={14 * 24 * 3600}" in attributes(response)
    assert browser.get("/view").json() == {"session": DATA}
    assert browser.post("/clear").json() == browser.get("/view").json() == {"session": {}}


def test_session_expires() -> None:
    with pytest.raises(ConfigurationError, match="max_age"):
        client(max_age=-1).get("/view")
    time = Time()
    browser = client(max_age=60, clock=time.clock)
    cookie = browser.post("/update", json=DATA).headers["set-cookie"].partition(";")[0]
    time.now += 61
    assert browser.get("/view", headers={"cookie": cookie}).json() == {"session": {}}


def test_secure_session() -> None:
    app = application(https_only=True)
    secure, unsecure = TestClient(app, base_url="https://testserver"), TestClient(app)
    assert unsecure.get("/view").json() == {"session": {}}
    assert unsecure.post("/update", json=DATA).json() == {"session": DATA}
    assert unsecure.get("/view").json() == secure.get("/view").json() == {"session": {}}
    assert secure.post("/update", json=DATA).json() == secure.get("/view").json() == {"session": DATA}
    assert secure.post("/clear").json() == secure.get("/view").json() == {"session": {}}


def test_session_cookie_subpath() -> None:
    app = Starlette(routes=[Mount("/second_app", app=application(path="/second_app"))])
    browser = TestClient(app, base_url="http://testserver/second_app")
    response = browser.post("/update", json=DATA)
    assert (response.status_code, "Path=/second_app" in attributes(response)) == (200, True)


def test_invalid_session_cookie() -> None:
    app = application()
    assert TestClient(app).post("/update", json=DATA).json() == {"session": DATA}
    browser = TestClient(app, cookies={"session": "invalid"})
    assert browser.get("/view").json() == {"session": {}}


def test_session_cookie() -> None:
    browser = client(max_age=None)
    response = browser.post("/update", json=DATA)
    assert response.json() == {"session": DATA}
    assert "max-age" not in response.headers["set-cookie"].lower()
    browser.cookies.delete("session")
    assert browser.get("/view").json() == {"session": {}}


def test_domain_cookie() -> None:
    browser = client(domain=".example.com")
    response = browser.post("/update", json=DATA)
    assert (response.json(), "Domain=.example.com" in attributes(response)) == ({"session": DATA}, True)
    browser.cookies.clear()
    assert browser.get("/view").json() == {"session": {}}


@pytest.mark.parametrize("partitioned", [False, True])
def test_partitioned_session(partitioned: bool) -> None:
    browser = client("https://testserver", https_only=True, same_site="none", partitioned=partitioned)
    assert ("Partitioned" in attributes(browser.post("/update", json=DATA))) is partitioned
    assert ("Partitioned" in attributes(browser.post("/logout"))) is partitioned


def test_set_cookie_only_on_modification() -> None:
    browser = client()
    assert "set-cookie" in browser.post("/update", json=DATA).headers
    response = browser.get("/view")
    assert (response.json(), "set-cookie" in response.headers) == ({"session": DATA}, False)


def test_vary_cookie_on_access() -> None:
    browser = client()
    assert "cookie" in browser.post("/update", json=DATA).headers["vary"].lower()
    assert "cookie" in browser.get("/view").headers["vary"].lower()
    assert "vary" not in browser.get("/other").headers


@pytest.mark.parametrize("data", [{"a": "1"}, {"a": "1", "b": "2"}])
def test_vary_cookie_on_session_pop(data: dict[str, str]) -> None:
    browser = client()
    assert browser.post("/update", json=data).json() == {"session": data}
    response = browser.post("/pop")
    assert (response.json(), response.headers["vary"]) == ({"value": "1"}, "Cookie")
    assert browser.get("/view").json() == {"session": {key: data[key] for key in data if key != "a"}}


@pytest.mark.parametrize(
    ("act", "modified"),
    [
        (lambda session: session.__setitem__("c", "3"), True),
        (lambda session: session.__delitem__("a"), True),
        (lambda session: session.clear(), True),
        (lambda session: session.pop("a"), True),
        (lambda session: session.pop("missing", None), False),
        (lambda session: session.setdefault("b", "2"), True),
        (lambda session: session.setdefault("a", "2"), False),
    ],
)
def test_session_tracks_modification(act: Callable[[Any], object], modified: bool) -> None:
    async def page(request: Request) -> JSONResponse:
        session: Any = request.session
        assert (session.modified, session.accessed) == (False, True)
        act(session)
        return JSONResponse(session.modified)

    app = Starlette(
        routes=[*ROUTES, Route("/act", page)], middleware=[Middleware(SessionMiddleware, secret_key=SECRET)]
    )
    browser = TestClient(app)
    browser.post("/update", json={"a": "1"})
    assert browser.get("/act").json() is modified


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [("/update_in_place", {"c": "3"}, {"a": "1", "b": "2", "c": "3"}), ("/popitem", None, {"a": "1"})],
)
def test_session_persists_mutations(path: str, data: dict[str, str] | None, expected: dict[str, str]) -> None:
    browser = client()
    browser.post("/update", json={"a": "1", "b": "2"})
    assert browser.post(path, json=data).json() == browser.get("/view").json() == {"session": expected}


def test_the_arguments_have_its_names_and_its_order() -> None:
    """Of the version that is installed: what it adds must be noticed."""
    import inspect

    from starlette.middleware.sessions import SessionMiddleware as Theirs

    theirs = list(inspect.signature(Theirs).parameters)
    ours = list(inspect.signature(SessionMiddleware).parameters)
    assert ours[: len(theirs)] == theirs
    assert re.search(r"\bpartitioned\b", SessionMiddleware.__doc__ or "")
