"""One login in all frameworks: a real server for each, one store. What is made in one is seen, used and ended in each other."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import Any

import pytest

from tests.web.one_login import APPS, USERS
from tests.web.places import STORES
from tests.web.servers import Browser, Server, aiohttp, granian, gunicorn, hypercorn, uvicorn

SERVE: dict[str, Any] = {
    "aiohttp": aiohttp,
    "django": gunicorn,
    "flask": gunicorn,
    "fastapi": uvicorn,
    "quart": hypercorn,
    "litestar": partial(granian, interface="asgi"),
}
CALLED = {"quart": "make_quart()"}
"""What a server is told to serve, if not the name: hypercorn looks up no name that is not there yet."""
Sites = dict[str, Server]

_users = iter(USERS)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """A server for each framework."""
    folder = tmp_path_factory.mktemp("sites")
    env = {"STORE": STORES[request.param](request, folder), "FOLDER": str(folder)}
    with ExitStack() as stack:
        sites = {
            name: stack.enter_context(
                SERVE[name](f"tests.web.one_login:{CALLED.get(name, name)}", folder=folder, env=env)
            )
            for name in APPS
        }
        yield sites
        for server in sites.values():
            assert "Traceback" not in server.log.read_text()


class Visitor:
    """One browser that goes from site to site: they have one host name, so the cookie goes with it."""

    def __init__(self, sites: Sites, cookies: dict[str, str] | None = None) -> None:
        self.sites, self.cookies = sites, dict(cookies or {})

    def at(self, site: str, path: str = "/me") -> dict[str, Any]:
        """What a site answers."""
        seen = Browser(self.sites[site], cookies=self.cookies).visit(path)
        assert seen.status == 200, self.sites[site].log.read_text()
        answer: dict[str, Any] = json.loads(seen.text)
        return answer

    def copy(self) -> "Visitor":
        """Whoever has copied the cookies."""
        return Visitor(self.sites, self.cookies)

    def is_nobody(self) -> bool:
        """Whether no site knows who this is."""
        answers = [self.at(site) for site in self.sites]
        return all(answer["user"] is answer["user_id"] is None for answer in answers)


def somebody() -> str:
    """The id of a user that no other test has."""
    return str(next(_users))


PAIRS = pytest.mark.parametrize(("made", "met"), list(product(APPS, APPS)))


@PAIRS
def test_a_login_made_in_one_is_seen_used_and_ended_in_another(sites: Sites, made: str, met: str) -> None:
    visitor, user = Visitor(sites), somebody()
    visitor.at(made, "/count")
    planted = visitor.copy()
    visitor.at(made, f"/login?user={user}")
    assert visitor.cookies != planted.cookies
    assert planted.is_nobody()
    seen = visitor.at(met)
    assert (seen["user"], seen["user_id"], seen["n"]) == (user, user, 1)
    visitor.at(met, "/count")
    visitor.at(met, "/keep")
    assert visitor.at(made)["n"] == 2
    assert visitor.at(made, "/kept")["result"] is True
    copy = visitor.copy()
    visitor.at(met, "/logout")
    assert visitor.is_nobody()
    assert copy.is_nobody()
    assert [copy.at(site)["n"] for site in sites] == [0] * len(sites)


@PAIRS
def test_a_device_that_logged_in_at_one_is_listed_and_ended_at_another(
    sites: Sites, made: str, met: str
) -> None:
    user = somebody()
    here, there, stranger = Visitor(sites), Visitor(sites), Visitor(sites)
    here.at(made, f"/login?user={user}")
    there.at(met, f"/login?user={user}")
    stranger.at(met, f"/login?user={somebody()}")
    handles = [visitor.at(site)["handle"] for visitor, site in ((here, met), (there, made))]
    for visitor, site in product((here, there), (made, met)):
        assert visitor.at(site, "/devices")["result"] == sorted(handles)
    assert stranger.at(made, f"/end?handle={handles[0]}")["result"] is False
    assert there.at(met, f"/end?handle={handles[0]}")["result"] is True
    assert here.is_nobody()
    assert there.at(made)["user"] == user
    assert there.at(met, "/devices")["result"] == [handles[1]]


def test_all_of_them_at_once_lose_nothing(sites: Sites) -> None:
    visitor, user = Visitor(sites), somebody()
    visitor.at("fastapi", f"/login?user={user}")
    places = [*sites] * 8
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(lambda site: visitor.copy().at(site, "/count"), places))
    assert {visitor.at(site)["n"] for site in sites} == {len(places)}
