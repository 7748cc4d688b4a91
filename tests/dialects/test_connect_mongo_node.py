"""connect-mongo itself beside its store here, in every combination of options: each goes on with what the other began, and writes
the same documents."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express import express_sessions
from coatcheck.dialects.express.connect_mongo import ConnectMongo
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import GONE, SAVED, Changed, Entry
from servers import Server
from tests.dialects.connect_mongo_help import (
    LIFE,
    NOW,
    RAW,
    SECRET,
    SQUIRREL,
    Document,
    cookie,
    create,
    get,
    kruptein,
    lives,
    moment,
    replace,
    touch,
    upside,
    web,
)
from tests.dialects.node import Answer, NodeApp, node_app
from tests.dialects.rig import body, data
from tests.patience import PATIENT

MINUTE = timedelta(minutes=1)
WEB = {"secret": SQUIRREL, "iterations": 1_000}
MODES: dict[str, tuple[Document, Document]] = {
    "default": ({}, {}),
    "subdocument": ({"stringify": False}, {"stringify": False}),
    "touch_after": ({"touchAfter": 60}, {"touch_after": 60}),
    "timestamps": ({"timestamps": True}, {"timestamps": True}),
    "transform_id": ({"transformId": "upside"}, {"transform_id": upside}),
    "kruptein": ({"crypto": {"secret": SQUIRREL}}, {"crypto": kruptein()}),
    "kruptein_subdocument": (
        {"crypto": {"secret": SQUIRREL}, "stringify": False},
        {"crypto": kruptein(), "stringify": False},
    ),
    "web": ({"cryptoAdapter": {"web": WEB}}, {"crypto": web()}),
    "web_subdocument": (
        {"cryptoAdapter": {"web": WEB | {"algorithm": "AES-CBC", "encoding": "hex"}}, "stringify": False},
        {"crypto": web(algorithm="AES-CBC", encoding="hex"), "stringify": False},
    ),
    "all": (
        {"stringify": False, "touchAfter": 60, "timestamps": True, "transformId": "upside", "dbName": "shop",
         "collectionName": "all.sessions", "autoRemove": "interval"},
        {"stringify": False, "touch_after": 60, "timestamps": True, "transform_id": upside, "db_name": "shop",
         "collection_name": "all.sessions", "auto_remove": "interval"},
    ),
}  # fmt: skip
"""Options of the package, and ours that mean the same."""
LONG = ("timestamps", "transform_id", "kruptein_subdocument", "web_subdocument")
"""Tried in `make test-all`: each option of these is in another mode too."""
NASTY: Document = {
    "int": 1, "most": 2**31 - 1, "more": 2**31, "time": 1_764_120_000_000, "minus": -(2**31) - 1, "half": 1.5,
    "list": [1, None, True, {"a": [2**40]}], "text": "é \u2028 𝄞 \\ \"", "nothing": None, "nested": {"cookie": {}},
    "$dollar": {"$gt": 1}, "dots.and": {"a.b": 1}, "": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(mongo_server: Server) -> Iterator[MongoClient[Document]]:
    with MongoClient[Document](mongo_server.url, tz_aware=True) as client:
        yield client


class Shared:
    """A Node application and a store of ours over the same sessions, in one mode."""

    def __init__(self, node: NodeApp, backend: ConnectMongo, collection: Collection[Document]) -> None:
        self._node, self.collection = node, collection
        self.store = backend.blocking()
        self.manager = express_sessions(backend, secret=SECRET).blocking()

    def node(self, *ops: list[Any], cookie: str = "", now: float) -> Answer:
        answer = self._node.run(*ops, cookie=cookie, now=round(now * 1000))
        assert answer.status == 200, answer.body
        return answer

    def document(self, sid: str) -> Document:
        found = self.collection.find_one({"_id": {"$in": [sid, sid[::-1]]}})
        assert found is not None
        return found


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in MODES]
)
def shared(
    request: pytest.FixtureRequest, mongo_server: Server, client: MongoClient[Document]
) -> Iterator[Shared]:
    theirs, ours = MODES[request.param]
    name, where = ours.get("collection_name", f"of_{request.param}"), ours.get("db_name", "coatcheck")
    theirs, ours = theirs | {"collectionName": name}, ours | {"collection_name": name}
    session = {
        "secret": SECRET,
        "resave": False,
        "saveUninitialized": False,
        "cookie": {"maxAge": LIFE * 1000},
    }
    store = {"kind": "connect-mongo", "url": mongo_server.url, "options": theirs}
    with ConnectMongo.from_url(mongo_server.url, outage=PATIENT, **ours) as backend:
        run_now(backend.blocking().setup())  # first: then Node finds its index made
        with node_app(store, session=session) as node:
            yield Shared(node, backend, client[where][name])


def seen(entry: Entry) -> Document:
    """The data, without what `touch_after` adds."""
    return {key: value for key, value in data(entry.text).items() if key != "lastModified"}


def test_python_goes_on_with_what_node_began(shared: Shared) -> None:
    store, began = shared.store, shared.node(["set", ["views"], 1], ["set", ["who"], "Zoë ☃"], now=NOW)
    sid = began.body["id"]
    entry = lives(store, sid)
    assert seen(entry) == {"views": 1, "who": "Zoë ☃"}
    assert (
        load(entry.text)["cookie"]
        == began.body["data"]["cookie"]
        == load(body(NOW + LIFE, now=NOW))["cookie"]
    )
    assert entry.expires == NOW + LIFE

    assert replace(store, sid, entry, NOW + 1, views=2) is SAVED
    assert replace(store, sid, entry, NOW + 2, views=9) != SAVED  # nothing is overwritten unseen
    onward = shared.node(
        ["get", "views"], ["set", ["node"], [1, {"a": None}]], cookie=began.cookie, now=NOW + 3
    )
    assert (onward.body["id"], onward.body["results"][0]) == (sid, 2)
    entry = lives(store, sid, NOW + 4)
    assert seen(entry) == {"views": 2, "who": "Zoë ☃", "node": [1, {"a": None}]}
    assert entry.expires == NOW + 3 + LIFE


def test_node_goes_on_with_what_python_began(shared: Shared) -> None:
    store, sid = shared.store, f"python-{shared.collection.name}"
    assert create(store, sid, views=1, who="Zoë ☃") is SAVED
    read = lives(store, sid)
    answer = shared.node(
        ["get", "views"], ["get", "who"], ["set", ["views"], 2], cookie=cookie(sid), now=NOW + 1
    )
    assert answer.body["id"] == sid
    assert answer.body["results"][:2] == [1, "Zoë ☃"]
    assert answer.body["data"]["cookie"]["originalMaxAge"] == LIFE * 1000

    outcome = replace(store, sid, read, NOW + 2, views=3)
    assert isinstance(outcome, Changed)
    assert outcome.current is not None
    assert seen(outcome.current) == {"views": 2, "who": "Zoë ☃"}
    assert replace(store, sid, outcome.current, NOW + 2, views=3) is SAVED
    assert shared.node(["get", "views"], cookie=cookie(sid), now=NOW + 3).body["results"] == [3]


def test_both_move_the_end_and_leave_the_body(shared: Shared) -> None:
    store, began = shared.store, shared.node(["set", ["views"], 1], now=NOW)
    sid = began.body["id"]
    before = shared.document(sid)
    shared.node(["get", "views"], cookie=began.cookie, now=NOW + 100)
    assert lives(store, sid, NOW + 100).expires == NOW + 100 + LIFE
    touch(store, sid, lives(store, sid, NOW + 200), NOW + 200)
    after = shared.document(sid)
    assert after["expires"] == moment(NOW + 200 + LIFE)
    assert after["session"] == before["session"]
    late = NOW + 199 + LIFE  # the body says that it was over long ago
    assert shared.node(["get", "views"], cookie=began.cookie, now=late).body["results"] == [1]
    assert shared.node(cookie=began.cookie, now=late + LIFE).body["id"] != sid
    assert get(store, sid, late + LIFE) is None


def test_what_one_ends_is_over_for_the_other(shared: Shared) -> None:
    store, began = shared.store, shared.node(["set", ["views"], 1], now=NOW)
    sid = began.body["id"]
    assert run_now(store.destroy(sid)) is True
    again = shared.node(["set", ["views"], 1], cookie=began.cookie, now=NOW)
    assert again.body["id"] != sid

    read = lives(store, again.body["id"])
    assert shared.node(["destroy"], cookie=again.cookie, now=NOW).body["results"] == [None]
    assert get(store, again.body["id"]) is None
    assert replace(store, again.body["id"], read) is GONE
    touch(store, again.body["id"], read, NOW)
    assert get(store, again.body["id"]) is None


def test_nothing_of_three_writers_is_lost(shared: Shared) -> None:
    """The whole dialect over this store: two requests of ours that overlap, and one of Node's that began and ended between."""
    began = shared.node(["set", ["views"], 1], now=NOW)
    sid = began.body["id"]
    first, second = shared.manager.load(sid), shared.manager.load(sid)
    assert first is not None
    assert second is not None
    first["a"], second["b"] = 1, {"c": [2]}
    first.save()
    shared.node(["set", ["node"], 3], cookie=began.cookie, now=NOW)
    second.save()
    last = shared.node(cookie=began.cookie, now=NOW)
    assert {key: last.data[key] for key in last.data if key != "lastModified"} == {
        "views": 1, "a": 1, "node": 3, "b": {"c": [2]},
    }  # fmt: skip


def test_what_node_regenerates_has_another_id_here_too(shared: Shared) -> None:
    store, began = shared.store, shared.node(["set", ["views"], 1], now=NOW)
    anew = shared.node(["regenerate"], ["set", ["user"], "ada"], cookie=began.cookie, now=NOW)
    assert get(store, began.body["id"]) is None
    assert seen(lives(store, anew.body["id"])) == {"user": "ada"}


def test_a_body_comes_back_as_the_same_text(shared: Shared) -> None:
    """By which a caller whose reply was lost recognises its own write. `touch_after` adds its key."""
    sid = f"text-{shared.collection.name}"
    text = body(NOW + LIFE, now=NOW, **NASTY)
    run_now(shared.store.create(sid, text, expires=NOW + LIFE, now=NOW))
    read = load(lives(shared.store, sid).text)
    read.pop("lastModified", None)
    assert dump(read) == text


def test_both_write_the_same_document(shared: Shared) -> None:
    """Octet for octet, save what is drawn by lot or told by the server's clock."""
    values = NASTY
    began = shared.node(*(["set", [key], value] for key, value in values.items()), now=NOW)
    sid = f"same-{shared.collection.name}"
    assert create(shared.store, sid, **values) is SAVED
    (theirs, ours) = (raw(shared, key) for key in (began.body["id"], sid))
    assert set(theirs) == set(ours)
    assert theirs["expires"] == ours["expires"]
    for name in ("lastModified", "createdAt"):
        assert theirs.get(name) == ours.get(name)
    if "updatedAt" in theirs:
        assert abs(theirs["updatedAt"] - ours["updatedAt"]) < MINUTE
    if isinstance(theirs["session"], str) and theirs["session"].startswith("{"):
        assert ours["session"] == theirs["session"]
    elif isinstance(theirs["session"], RawBSONDocument):
        assert ours["session"].raw == theirs["session"].raw
    else:
        assert isinstance(ours["session"], str)
    assert seen(lives(shared.store, sid)) == seen(lives(shared.store, began.body["id"])) == values


def raw(shared: Shared, sid: str) -> RawBSONDocument:
    found = shared.collection.with_options(RAW).find_one({"_id": {"$in": [sid, sid[::-1]]}})
    assert found is not None
    return found


# ---------------------------------------------------------------------------------------------------------- a random course


class Course:
    """What sessions hold by rights while both sides work on them and time passes: data, when they are over, when last written."""

    def __init__(self, shared: Shared, seed: int) -> None:
        self.shared, self.choose = shared, random.Random(seed)
        self.now, self.there = NOW, dict[str, tuple[Document, float, float]]()
        self.touch_after = 60.0 if shared.collection.name in ("of_touch_after", "all.sessions") else 0.0

    def step(self, n: int) -> None:
        self.now += self.choose.choice([0.001, 1, 59.5, 61, 250])
        sid = self.choose.choice([*self.there, None])
        by = self.choose.choice(["node", "python"])
        if sid is None:
            sid = getattr(self, f"{by}_begins")({"n": n})
            self.written(sid, {"n": n})
            return
        held, end, _ = self.there[sid]
        verb = self.choose.choice(["touch", "change", "change", "end"]) if end > self.now else "touch"
        getattr(self, f"{by}_goes_on")(sid, verb, held if end > self.now else None, {"n": n, **self.some()})

    def some(self) -> Document:
        key = self.choose.choice(list(NASTY))
        return {key: NASTY[key]}

    def written(self, sid: str, held: Document) -> None:
        self.there[sid] = held, self.now + LIFE, self.now

    def touched(self, sid: str) -> None:
        held, end, last = self.there[sid]
        if end > self.now and self.now - last >= self.touch_after - 1e-6:
            self.there[sid] = held, self.now + LIFE, self.now

    def ended(self, sid: str) -> None:
        self.there[sid] = {}, 0.0, 0.0

    def node_begins(self, fields: Document) -> str:
        sid: str = self.shared.node(*sets(fields), now=self.now).body["id"]
        return sid

    def python_begins(self, fields: Document) -> str:
        sid = f"{self.shared.collection.name}-{self.choose.getrandbits(64):x}"
        assert create(self.shared.store, sid, self.now, **fields) is SAVED
        return sid

    def node_goes_on(self, sid: str, verb: str, held: Document | None, fields: Document) -> None:
        ops = {"change": sets(fields), "end": [["destroy"]], "touch": []}[verb]
        answer = self.shared.node(["get", "n"], *ops, cookie=cookie(sid), now=self.now)
        if verb != "end":
            assert (answer.body["id"] == sid) is (held is not None)
        assert answer.body["results"][0] == (None if held is None else held["n"])
        self.went_on(sid, verb, held, fields)

    def python_goes_on(self, sid: str, verb: str, held: Document | None, fields: Document) -> None:
        store, read = self.shared.store, get(self.shared.store, sid, self.now)
        assert (None if read is None else seen(read)) == held
        if read is None:
            return
        assert read.expires is not None
        assert abs(read.expires - self.there[sid][1]) < 0.002
        if verb == "change":
            assert replace(store, sid, read, self.now, **fields) is SAVED
        elif verb == "end":
            assert run_now(store.destroy(sid)) is True
        else:
            touch(store, sid, read, self.now)
        self.went_on(sid, verb, held, fields)

    def went_on(self, sid: str, verb: str, held: Document | None, fields: Document) -> None:
        if held is None:
            return
        if verb == "end":
            self.ended(sid)
        elif verb == "change":
            self.written(sid, held | fields)
        else:
            self.touched(sid)


def sets(fields: Document) -> list[list[Any]]:
    return [["set", [key], value] for key, value in fields.items()]


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4))])
def test_a_random_course_of_both_sides(shared: Shared, seed: int) -> None:
    """Both begin, read, change, touch and end the same sessions in turn, and see what a dict would hold, while it would."""
    course = Course(shared, seed)
    for n in range(60):
        course.step(n)
    assert any(end <= course.now for _, end, _ in course.there.values())
