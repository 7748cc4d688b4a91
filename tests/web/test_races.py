"""Promises 1, 2 and the fence, on every store, through real web servers with two worker processes.

Nothing here depends on luck: every request of a race has loaded its session, in one process or the other, before the first of
them commits.
"""

import json
from collections.abc import Iterator

import pytest

from servers import redis_cluster
from tests.web.crowd import CROWD
from tests.web.places import STORES
from tests.web.sites import Site, at_once, site, somebody

MANY = 40
"""More than one gunicorn worker takes: a crowd of twenty could, by chance, meet in one of them."""


SITES = [
    pytest.param(
        (store, face),
        id=f"{store}-{face}",
        marks=[pytest.mark.slow] if face == "wsgi" or store == "redis_cluster" else [],
    )
    for store in STORES
    for face in ("starlette", "flask", "wsgi")
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as group:
        yield group


@pytest.fixture(scope="module", params=SITES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    store, face = request.param
    folder = tmp_path_factory.mktemp(f"races-{store}-{face}")
    with site(face, STORES[store](request, folder), folder) as place:
        yield place


def test_fifty_writers_of_different_keys_and_a_hundred_increments(place: Site) -> None:
    cookies = place.begun("/?count=1")
    kept = {f"key{number}": f"key{number}" for number in range(CROWD)}
    seen = at_once(place, [(dict(cookies), f"/?key={key}") for key in kept])
    for _ in range(2):
        seen += at_once(place, [(dict(cookies), "/?count=1")] * CROWD)
    assert not any(response.all("set-cookie") for response in seen)
    assert place.seen_by(cookies)["data"] == {"n": 101, **kept}


@pytest.mark.parametrize("writers", [1, 10])
def test_a_logout_while_slow_requests_write_stays_a_logout(place: Site, writers: int) -> None:
    user = somebody()
    cookies = place.begun(f"/?login={user}&count=1")
    with place.crowd([(dict(cookies), "/?count=1")] * writers) as slow:
        browser = dict(cookies)
        place.visit("/?logout=1", browser, server=1)
        assert browser == {}
        answers = slow.goes_on()
    assert not any(answer.all("set-cookie") for answer in answers)
    for server in range(2):
        assert place.seen_by(cookies, server=server) == {"user": None, "data": {}}
    assert place.sessions.of(user).list() == []


def test_parallel_renewals_make_one_new_verifier_and_log_nobody_out(place: Site) -> None:
    user = somebody()
    cookies = place.begun(f"/?login={user}")
    browsers = [dict(cookies) for _ in range(MANY)]
    answers = at_once(place, [(browser, "/aged/") for browser in browsers])
    assert {json.loads(answer.text)["user"] for answer in answers} == {user}
    told = {tuple(browser.items()) for browser in browsers} - {tuple(cookies.items())}
    assert len(told) == 1
    assert set(place.users_of(browsers)) == {user}
    assert len(place.sessions.of(user).list()) == 1


def test_parallel_logins_with_a_limit_of_three_leave_three(place: Site) -> None:
    user = somebody()
    browsers: list[dict[str, str]] = [{} for _ in range(MANY)]
    at_once(place, [(browser, f"/three/?login={user}") for browser in browsers])
    assert all(browsers)
    users = place.users_of(browsers)
    assert users.count(user) == 3
    assert users.count(None) == MANY - 3
    assert len(place.sessions.of(user).list()) == 3


@pytest.mark.parametrize("end_all", ["before they commit", "while they commit"])
def test_no_session_begun_before_an_end_all_survives_it(place: Site, end_all: str) -> None:
    user = somebody()
    old = [place.begun(f"/?login={user}") for _ in range(4)]
    renewing = [dict(cookies) for cookies in old * 5]
    logging_in: list[dict[str, str]] = [{} for _ in range(MANY - len(renewing))]
    asks = [(browser, "/aged/") for browser in renewing]
    asks += [(browser, f"/?login={user}") for browser in logging_in]
    ending: list[tuple[dict[str, str], str]] = [({}, f"/?end_all={user}")]
    if end_all == "while they commit":
        at_once(place, [*asks[:10], *ending, *asks[10:]])
    else:
        with place.crowd(asks) as crowd:
            assert len(crowd.workers) == 2
            assert place.visit(ending[0][1], server=1).status == 200
            crowd.goes_on()
    holders = [browser for browser in (*old, *renewing, *logging_in) if browser]
    assert set(place.users_of(holders)) == {None}
    assert place.sessions.of(user).list() == []
    assert set(place.users_of([place.begun(f"/?login={user}")])) == {user}
