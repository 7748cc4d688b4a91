"""One session for an Express and a Python application, over each store and on each face: what one does, the other sees."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from coatcheck.dialects.express import CookieOptions
from coatcheck.dialects.express.connect_mongo import ConnectMongo
from coatcheck.dialects.express.connect_pg_simple import ConnectPgSimple
from coatcheck.dialects.express.connect_redis import ConnectRedis
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize
from tests.dialects.live import PythonApp
from tests.dialects.node import NodeApp, node_app
from tests.patience import PATIENT

SECRETS = ["the newer secret", "the older secret"]
OPTIONS = {"resave": False, "saveUninitialized": False, "cookie": {"maxAge": 600_000}}


class Place(NamedTuple):
    """Where both keep their sessions."""

    node: dict[str, Any]
    ours: Callable[[], Any]


def in_redis(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("redis_server").url
    return Place(
        {"kind": "connect-redis", "url": url, "options": {"prefix": "live:"}},
        lambda: ConnectRedis(url, prefix="live:", outage=PATIENT),
    )


def in_mongo(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("mongo_server").url
    return Place(
        {"kind": "connect-mongo", "url": url, "options": {"dbName": "live"}},
        lambda: ConnectMongo(url, db_name="live", outage=PATIENT),
    )


def in_postgres(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("postgres_server").url
    return Place(
        {
            "kind": "connect-pg-simple",
            "url": url,
            "options": {"tableName": "live", "createTableIfMissing": True},
        },
        lambda: ConnectPgSimple(url, table_name="live", create_table_if_missing=True, outage=PATIENT),
    )


def in_a_table(url: str) -> Place:
    """Of Sequelize's."""
    return Place(
        {"kind": "connect-session-sequelize", "url": url, "options": {"tableName": "Live"}, "sync": True},
        lambda: ConnectSessionSequelize(url, table_name="Live", outage=PATIENT),
    )


def in_mariadb(request: pytest.FixtureRequest) -> Place:
    return in_a_table(request.getfixturevalue("mariadb_server").url)


def in_sqlite(request: pytest.FixtureRequest) -> Place:
    folder = request.getfixturevalue("tmp_path_factory").mktemp("live")
    return in_a_table(f"sqlite:///{folder}/sessions.db")


PLACES = {
    "connect-redis": in_redis,
    "connect-mongo": in_mongo,
    "connect-pg-simple": in_postgres,
    "connect-session-sequelize-mariadb": in_mariadb,
    "connect-session-sequelize-sqlite": in_sqlite,
}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return PLACES[request.param](request)


@pytest.fixture(scope="module")
def node(place: Place) -> Iterator[NodeApp]:
    with node_app(place.node, session={**OPTIONS, "secret": SECRETS}) as app:
        yield app


@pytest.fixture(params=["asgi", "wsgi"])
def python(request: pytest.FixtureRequest, place: Place) -> Iterator[PythonApp]:
    options = {"secret": SECRETS, "cookie": CookieOptions(max_age=600_000)}
    with PythonApp(request.param, place.ours(), **options) as app:
        yield app


def test_what_node_begins_python_goes_on_with(node: NodeApp, python: PythonApp) -> None:
    cookie = node.run(["set", ["user"], {"name": "Zoë ☃", "n": 1.5}]).cookie
    seen = python.run(["set", ["cart"], [1]], cookie=cookie)
    assert seen.data == {"user": {"name": "Zoë ☃", "n": 1.5}, "cart": [1]}
    assert seen.cookie.partition("=")[2] == cookie.partition("=")[2]
    again = node.run(["push", ["cart"], 2], ["delete", ["user"]], cookie=cookie)
    assert again.data == {"cart": [1, 2]}
    assert python.run(cookie=cookie).data == {"cart": [1, 2]}


def test_what_python_begins_node_goes_on_with(node: NodeApp, python: PythonApp) -> None:
    cookie = python.run(["set", ["cart"], {"a": 1}]).cookie
    assert node.run(["set", ["cart", "b"], 2], cookie=cookie).data == {"cart": {"a": 1, "b": 2}}
    assert python.run(["set", ["cart", "c"], 3], cookie=cookie).data == {"cart": {"a": 1, "b": 2, "c": 3}}
    assert node.run(cookie=cookie).data == {"cart": {"a": 1, "b": 2, "c": 3}}


@pytest.mark.parametrize("verb", ["regenerate", "destroy"])
def test_what_one_ends_is_over_for_both(node: NodeApp, python: PythonApp, verb: str) -> None:
    for begins, ends, other in (
        (node, python, node),
        (python, node, python),
        (node, node, python),
        (python, python, node),
    ):
        cookie = begins.run(["set", ["a"], 1]).cookie
        assert other.run(cookie=cookie).data == {"a": 1}
        ended = ends.run([verb], *([["set", ["b"], 2]] if verb == "regenerate" else []), cookie=cookie)
        for app in (begins, ends, other):
            assert app.run(cookie=cookie).data == {}
            if verb == "regenerate":
                assert app.run(cookie=ended.cookie).data == {"b": 2}


def test_logged_in_there_is_logged_in_here(node: NodeApp, python: PythonApp) -> None:
    there = node.run(["set", ["passport"], {"user": 42}]).cookie
    assert python.run(["get", "passport"], cookie=there).body["results"] == [{"user": 42}]
    here = python.run(["login", "ada"], cookie=there).cookie
    assert node.run(["get", "passport"], cookie=here).body["results"] == [{"user": "ada"}]
    assert node.run(cookie=there).data == {}
    python.run(["logout"], cookie=here)
    assert node.run(cookie=here).data == {}


def test_both_leave_a_session_the_same_time_to_live(node: NodeApp, python: PythonApp) -> None:
    """To the second: what one writes, and what the other makes of it by a touch."""
    for begins, touches in ((node, python), (python, node), (python, python)):
        cookie = begins.run(["set", ["a"], 1], ["maxAge", 90_000]).cookie
        touched = time.time()
        seen = touches.run(cookie=cookie)
        expires = python.run(["expires_in_store"], cookie=cookie).body["results"][0]
        done = time.time()
        # Node's own arithmetic loses a millisecond (rule 6.1), and MariaDB's DATETIME what is less than a second.
        assert int(touched + 89.99) <= expires <= done + 91
        assert seen.body["data"]["cookie"]["originalMaxAge"] in (90_000, 89_999)


def test_secrets_that_rotate_agree(place: Place, python: PythonApp) -> None:
    """Signed by the older of two: both verify it, and both sign with the newer."""
    with node_app(place.node, session={**OPTIONS, "secret": SECRETS[1]}) as before:
        cookie = before.run(["set", ["a"], 1]).cookie
        seen = python.run(["set", ["a"], 2], cookie=cookie)
        assert seen.data == {"a": 2}
        assert seen.cookie != cookie
        assert before.run(cookie=seen.cookie).data == {}  # it knows nothing of the newer one
        assert before.run(cookie=cookie).data == {"a": 2}
