"""connect-mongo's store: the contract; subdocuments and their types; `touch_after`; expiry; hostile documents; upkeep,
options."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson import encode as bson
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, MongoClient
from pymongo.collection import Collection

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Checks, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express._connect_mongo_bson import date
from coatcheck.dialects.express._connect_mongo_sessions import ConnectMongoSessions
from coatcheck.dialects.express.connect_mongo import ConnectMongo
from coatcheck.dialects.express.connect_mongo_crypto import Kruptein, WebCrypto
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import SAVED, TAKEN, Entry, Lists, Prunes
from coatcheck.errors import (
    ConfigurationError,
    CorruptRecord,
    StoreError,
    StoreUnavailable,
    UnstorableValue,
    UsageError,
    WrongFace,
)
from servers import Server
from tests.dialects.connect_mongo_help import (
    AHEAD,
    LIFE,
    NOW,
    RAW,
    SECRET,
    SQUIRREL,
    Document,
    cookie,
    create,
    get,
    in_iso,
    kruptein,
    lives,
    moment,
    replace,
    touch,
    upside,
    web,
)
from tests.dialects.contract import FACES, SENTENCES, Place, keep, named
from tests.dialects.node import NodeApp, node_app
from tests.dialects.rig import body, data
from tests.patience import PATIENT


@pytest.fixture(scope="module")
def client(mongo_server: Server) -> Iterator[MongoClient[Document]]:
    with MongoClient[Document](mongo_server.url, tz_aware=True) as client:
        yield client


@pytest.fixture
def documents(client: MongoClient[Document]) -> Collection[Document]:
    """The sessions' collection, empty, for doing something behind the store's back."""
    collection = client["coatcheck"]["sessions"]
    collection.drop()
    return collection


@pytest.fixture
def opened(mongo_server: Server, documents: Collection[Document]) -> Iterator[Callable[..., Any]]:
    """Opens stores, over an empty collection."""
    backends = []

    def open(**options: Any) -> ConnectMongoSessions:
        backends.append(ConnectMongo.from_url(mongo_server.url, outage=PATIENT, **options))
        return backends[-1].blocking()

    yield open
    for backend in backends:
        backend.close()


# ----------------------------------------------------------------------------------------------------------- the contract


def keeps(mongo_server: Server, **options: Any) -> Place:
    return Place(
        open=lambda: ConnectMongo.from_url(
            mongo_server.url, outage=PATIENT, collection_name="contract", **options
        ),
        slack=0.001,
        default=1_209_600.0,
    )


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Any, face: str, mongo_server: Server, client: MongoClient[Document]) -> None:
    client["coatcheck"]["contract"].delete_many({})
    keep(sentence, face, keeps(mongo_server))


@pytest.mark.parametrize("options", [{"stringify": False, "timestamps": True}, {"crypto": web()}], ids=str)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract_of_what_is_no_plain_text(
    sentence: Any, options: Document, mongo_server: Server, client: MongoClient[Document]
) -> None:
    client["coatcheck"]["contract"].delete_many({})
    keep(sentence, "blocking", keeps(mongo_server, **options))


@pytest.mark.parametrize("ability", [Lists, Prunes, Checks, SetsUp])
def test_has_the_abilities(opened: Callable[..., Any], ability: type) -> None:
    assert isinstance(opened(), ability)


# --------------------------------------------------------------------------------------------------------------- subdocuments

BSON: Document = {
    "id": ObjectId("65f000000000000000000001"),
    "date": datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
    "nested": {
        "date": datetime(1960, 1, 1, tzinfo=UTC),
        "list": [datetime(2000, 1, 1, tzinfo=UTC), Int64(7)],
    },
    "long": Int64(2**53 - 1),
    "double": 3.0,
    "nan": float("nan"),
    "decimal": Decimal128("1.10"),
    "octets": Binary(b"\x00\xff", 0),
    "special": Binary(b"\x01", 128),
    "uuid": Binary(bytes(range(16)), 4),
    "regex": Regex("^a", "i"),
    "code": MaxKey(),
    "stamp": Timestamp(5, 6),
}


@pytest.fixture(scope="module")
def subdocuments(mongo_server: Server) -> Iterator[NodeApp]:
    """A Node application with `stringify: false`."""
    store = {"kind": "connect-mongo", "url": mongo_server.url, "options": {"stringify": False}}
    session = {"secret": SECRET, "resave": False, "saveUninitialized": False}
    with node_app(store, session=session) as node:
        yield node


def with_bson(documents: Collection[Document], sid: str = "sid", **more: Any) -> None:
    own = {"originalMaxAge": None, "expires": None, "httpOnly": True, "path": "/"}
    documents.insert_one(
        {"_id": sid, "session": {"cookie": own, **BSON, **more}, "expires": moment(NOW + LIFE)}
    )


def test_bson_is_read_as_node_says_it(
    subdocuments: NodeApp, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    with_bson(documents)
    answer = subdocuments.run(cookie=cookie("sid"), now=round(NOW * 1000))
    assert answer.body["id"] == "sid"
    entry = lives(opened(stringify=False), "sid")
    assert data(entry.text) == answer.data
    assert load(entry.text)["cookie"] == {
        "originalMaxAge": None,
        "expires": None,
        "httpOnly": True,
        "path": "/",
    }


def test_what_was_not_changed_keeps_its_types(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(stringify=False)
    with_bson(documents, views=1)
    before = documents.with_options(RAW).find_one({"_id": "sid"})
    assert replace(store, "sid", lives(store, "sid"), views=2, date="2027") is SAVED
    after = documents.with_options(RAW).find_one({"_id": "sid"})
    assert before is not None
    assert after is not None
    kept = [key for key in BSON if key != "date"]
    for key in kept:
        assert bson({"": after["session"][key]}) == bson({"": before["session"][key]}), key
    assert (after["session"]["views"], after["session"]["date"]) == (2, "2027")
    assert list(after["session"]["cookie"]) == [
        "originalMaxAge", "partitioned", "priority", "expires", "secure", "httpOnly", "domain", "path", "sameSite",
    ]  # fmt: skip
    assert after["session"]["cookie"]["expires"] == moment(NOW + LIFE).replace(tzinfo=None)
    assert after["session"]["cookie"]["secure"] is None


def test_a_change_of_type_only_is_a_change(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(stringify=False)
    create(store, flag=1, other=True)
    assert replace(store, "sid", lives(store, "sid"), flag=True, other=1) is SAVED
    found = documents.find_one({"_id": "sid"})
    assert found is not None
    assert (found["session"]["flag"], found["session"]["other"]) == (True, 1)
    assert found["session"]["flag"] is True


def test_keys_that_are_gone_go(opened: Callable[..., Any], documents: Collection[Document]) -> None:
    store = opened(stringify=False)
    create(store, a=1, b=2)
    read = lives(store, "sid")
    text = body(NOW + LIFE, now=NOW, b=2)
    assert run_now(store.replace("sid", text, over=read, expires=NOW + LIFE, now=NOW)) is SAVED
    assert data(lives(store, "sid").text) == {"b": 2}


def test_unknown_attributes_of_the_cookie_stay(opened: Callable[..., Any]) -> None:
    store = opened(stringify=False)
    own = {"originalMaxAge": 5, "expires": "soon", "path": "/", "sameSite": "lax", "later": [1.0]}
    run_now(store.create("sid", dump({"cookie": own}), expires=None, now=NOW))
    assert load(lives(store, "sid").text)["cookie"] == own | {"httpOnly": None}


def test_half_a_pair_is_written_as_node_writes_it(
    subdocuments: NodeApp, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(stringify=False)
    create(store, text="a\ud800b \ud83d\ude00")
    began = subdocuments.run(["set", ["text"], "a\ud800b \ud83d\ude00"], now=round(NOW * 1000))
    ours, theirs = lives(store, "sid"), lives(store, began.body["id"])
    assert data(ours.text) == data(theirs.text) == {"text": "a\ufffdb 😀"}


def test_what_bson_does_not_take_is_refused(opened: Callable[..., Any]) -> None:
    store = opened(stringify=False)
    with pytest.raises(UnstorableValue, match="NUL"):
        create(store, "sid", NOW, LIFE, **{"a\0b": 1})
    with pytest.raises(UnstorableValue, match="NUL"):
        create(store, a=[{"b\0": 1}])
    assert get(store, "sid") is None


def test_numbers_beyond_javascript(opened: Callable[..., Any]) -> None:
    """Nobody may write them (`plain.check`), but what another wrote is no reason to fail."""
    store = opened(stringify=False)
    create(store, big=10**400, more=2**70, zero=-0.0)
    assert data(lives(store, "sid").text) == {"big": None, "more": 2**70, "zero": 0}


# --------------------------------------------------------------------------------------------------------------- touch_after


def test_touch_after_spares_touches(opened: Callable[..., Any], documents: Collection[Document]) -> None:
    store = opened(touch_after=60)
    create(store, n=1)
    entry = lives(store, "sid")
    assert data(entry.text) == {
        "n": 1,
        "lastModified": in_iso(moment(NOW)),
    }
    for later, end in ((59.999, NOW), (60, NOW + 60)):
        touch(store, "sid", entry, NOW + later)
        found = documents.find_one({"_id": "sid"})
        assert found is not None
        assert (found["expires"], found["lastModified"]) == (moment(end + LIFE), moment(end))
        assert "lastModified" not in found["session"]
    touch(store, "sid", entry, NOW + 61)  # by what this request has read, as there
    assert lives(store, "sid").expires == NOW + 61 + LIFE


@pytest.mark.parametrize("options", [{}, {"stringify": False}, {"crypto": web()}], ids=str)
def test_last_modified_is_no_part_of_what_is_stored(options: Document, opened: Callable[..., Any]) -> None:
    store = opened(touch_after=60, **options)
    create(store, n=1)
    read = lives(store, "sid")
    assert replace(store, "sid", read, NOW + 5, n=2) is SAVED
    assert data(lives(opened(**options), "sid").text) == {"n": 2}
    assert data(lives(store, "sid").text) == {"n": 2, "lastModified": in_iso(moment(NOW + 5))}


def test_what_has_no_last_modified_is_touched_each_time(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    create(opened(), n=1)
    store = opened(touch_after=60)
    entry = lives(store, "sid")
    assert data(entry.text) == {"n": 1}
    touch(store, "sid", entry, NOW + 1)
    found = documents.find_one({"_id": "sid"})
    assert found is not None
    assert found["expires"] == moment(NOW + 1 + LIFE)
    assert "lastModified" not in found


def test_last_modified_shows_in_node_too(
    mongo_server: Server, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(touch_after=60)
    create(store, n=1)
    theirs = {"kind": "connect-mongo", "url": mongo_server.url, "options": {"touchAfter": 60}}
    session = {"secret": SECRET, "resave": False, "saveUninitialized": False}
    with node_app(theirs, session=session) as node:
        answer = node.run(cookie=cookie("sid"), now=round((NOW + 10) * 1000))
        assert answer.data == data(lives(store, "sid").text)
        assert lives(store, "sid").expires == NOW + LIFE  # Node has not touched it
        node.run(cookie=cookie("sid"), now=round((NOW + 60) * 1000))
        assert lives(store, "sid").expires == NOW + 60 + LIFE
        assert data(lives(store, "sid").text)["lastModified"] == in_iso(moment(NOW + 60))


@pytest.mark.parametrize("value", [None, False, 0, ""])
def test_a_key_of_that_name_stays_where_javascript_calls_it_false(
    value: Any, opened: Callable[..., Any]
) -> None:
    create(opened(touch_after=60), lastModified=value)
    assert data(lives(opened(), "sid").text) == {"lastModified": value}


# ----------------------------------------------------------------------------------------------------------------- expiry


def test_what_is_over_and_still_there_is_written_over_as_a_whole(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(timestamps=True)
    documents.insert_one({
        "_id": "sid", "session": "{}", "expires": moment(NOW), "createdAt": moment(0), "lastModified": moment(0),
        "left": "over",
    })  # fmt: skip
    assert get(store, "sid") is None
    touch(store, "sid", Entry(body(NOW + LIFE, now=NOW)), NOW)
    assert get(store, "sid") is None  # no touch brings it back
    assert create(store, n=1) is SAVED
    assert create(store, n=2) is TAKEN
    found = documents.find_one({"_id": "sid"})
    assert found is not None
    assert set(found) == {"_id", "session", "expires", "createdAt", "updatedAt"}
    assert found["createdAt"] == moment(NOW)


def test_the_mark_is_the_cookies_to_the_millisecond(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store, first = opened(), int(NOW) * 1000
    assert [int(date(ms / 1000 + 0.1)) - 100 for ms in range(first, first + 1000)] == [
        *range(first, first + 1000)
    ]
    create(store, now=NOW + 0.678)
    found = documents.find_one({"_id": "sid"})
    assert found is not None
    assert load(found["session"].encode())["cookie"]["expires"] == in_iso(found["expires"])
    assert found["expires"] == moment(NOW + LIFE) + timedelta(milliseconds=678)


@pytest.mark.parametrize("verb", ["replace", "touch"])
def test_timestamps(verb: str, opened: Callable[..., Any], documents: Collection[Document]) -> None:
    store = opened(timestamps=True)
    create(store, n=1)
    documents.update_one({"_id": "sid"}, {"$set": {"updatedAt": moment(0)}})
    if verb == "replace":
        assert replace(store, "sid", lives(store, "sid"), n=2) is SAVED
    else:
        touch(store, "sid", lives(store, "sid"), NOW)
    found = documents.find_one({"_id": "sid"})
    assert found is not None
    assert found["createdAt"] == moment(NOW)
    assert found["updatedAt"] >= moment(NOW - AHEAD)  # by the server's clock


@pytest.mark.parametrize(
    ("mark", "there"), [("no mark", True), (None, False), ("2999", False), (9e15, False)]
)
def test_marks_of_expiry_that_are_no_dates(
    mark: Any, there: bool, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    """The package's filter decides: without a mark for ever, with nonsense never."""
    store, expires = opened(), {} if mark == "no mark" else {"expires": mark}
    documents.insert_one({"_id": "sid", "session": body(None, now=NOW, n=1).decode(), **expires})
    entry = get(store, "sid")
    assert (entry is not None) is there
    if entry is not None:
        assert entry.expires is None
        assert replace(store, "sid", entry, n=2) is SAVED
        assert lives(store, "sid").expires == NOW + LIFE
    else:
        assert create(store, n=2) is SAVED


def test_an_end_beyond_our_years(opened: Callable[..., Any], documents: Collection[Document]) -> None:
    store = opened(touch_after=60)
    run_now(store.create("sid", body(None, now=NOW), expires=1e12, now=NOW))
    assert lives(store, "sid").expires == 1e12


# ------------------------------------------------------------------------------------------------------- hostile documents

CORRUPT: list[tuple[Document, Any]] = [
    ({}, None),
    ({}, 5),
    ({}, {"cookie": {}}),
    ({}, ["{}"]),
    ({}, "[1]"),
    ({}, ""),
    ({}, web().encrypt(b"{}")),
    ({"stringify": False}, "{}"),
    ({"stringify": False}, None),
    ({"crypto": web()}, '{"cookie":{}}'),
    ({"crypto": web()}, None),
    ({"crypto": web(), "stringify": False}, {"cookie": {}}),
    (
        {"crypto": WebCrypto(secret="another", iterations=1_000)},
        web().encrypt(b'{"cookie":{},"who":"sesame"}'),
    ),
    ({"crypto": Kruptein(secret="another")}, kruptein().encrypt(b'{"cookie":{},"who":"sesame"}')),
    ({"touch_after": 60}, '{"cookie":'),
]


@pytest.mark.parametrize(
    ("options", "session"), CORRUPT, ids=range(len(CORRUPT))
)  # a ciphertext is never the same
def test_what_these_options_did_not_write_is_corrupt(
    options: Document, session: Any, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    documents.insert_one({
        "_id": "the-session-id", "session": session, "expires": moment(NOW + 5), "lastModified": moment(NOW),
    })  # fmt: skip
    store = opened(**options)
    with pytest.raises(CorruptRecord) as refused:
        get(store, "the-session-id")
    for secret in ("the-session-id", SQUIRREL, "another", "sesame"):
        assert secret not in f"{refused.value!r} {refused.value.__cause__!r}"
    if "crypto" in options and session and str(session)[0] != "{":
        assert "crypto=" in str(refused.value)
    assert run_now(store.destroy("the-session-id"))


def test_text_that_is_no_utf8(opened: Callable[..., Any], documents: Collection[Document]) -> None:
    octets = bson({"_id": "sid", "session": "{#}", "expires": moment(NOW + 5)}).replace(b"{#}", b"{\xff}")
    documents.database.command("insert", documents.name, documents=[RawBSONDocument(octets)])
    with pytest.raises(CorruptRecord):
        get(opened(), "sid")
    with pytest.raises(CorruptRecord):
        get(opened(stringify=False), "sid")


def test_a_unique_index_of_somebodys_own_is_said(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    documents.create_index("session", unique=True)
    store = opened()
    create(store, "sid", n=1)
    create(store, "other", n=2)
    with pytest.raises(StoreError, match="unique index on session") as refused:
        create(store, "third", n=1)
    with pytest.raises(StoreError, match="unique index"):
        replace(store, "other", lives(store, "other"), n=1)
    assert "third" not in f"{refused.value!r} {refused.value.__cause__!r}"


# ------------------------------------------------------------------------------------------------------------------ upkeep


def test_setup_makes_the_index_that_node_makes(
    mongo_server: Server, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store, theirs = opened(), {"kind": "connect-mongo", "url": mongo_server.url}
    run_now(store.setup())
    run_now(store.setup())
    made = documents.index_information()
    with node_app(theirs, session={"secret": SECRET}) as node:  # which would not start
        node.run()
    assert documents.index_information() == made
    documents.drop_indexes()
    with node_app(theirs, session={"secret": SECRET}) as node:
        node.run()
    assert documents.index_information() == made
    run_now(store.setup())
    assert made["expires_1"]["key"] == [("expires", 1)]
    assert made["expires_1"]["expireAfterSeconds"] == 0


@pytest.mark.parametrize("how", ["interval", "disabled"])
def test_without_native_removal_setup_makes_no_index(
    how: str, opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    store = opened(auto_remove=how)
    create(store)
    run_now(store.setup())
    run_now(store.check())
    assert set(documents.index_information()) == {"_id_"}


def test_setup_refuses_somebody_elses_collection(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    """Its index would delete what has `expires`."""
    documents.insert_one({"invoice": 1, "expires": moment(0)})
    with pytest.raises(ConfigurationError, match="collection_name='sessions' holds documents of somebody"):
        run_now(opened().setup())
    assert set(documents.index_information()) == {"_id_"}


def test_setup_names_an_index_that_is_in_its_way(
    opened: Callable[..., Any], documents: Collection[Document]
) -> None:
    documents.create_index("expires", expireAfterSeconds=60)
    with pytest.raises(ConfigurationError, match="drop that index"):
        run_now(opened().setup())


def test_check_says_that_the_index_is_missing(
    opened: Callable[..., Any], documents: Collection[Document], caplog: pytest.LogCaptureFixture
) -> None:
    store = opened()
    with caplog.at_level(logging.WARNING):
        run_now(store.check())
        create(store)
        run_now(store.check())
    assert caplog.text.count("run setup() once") == 2
    run_now(store.setup())
    caplog.clear()
    run_now(store.check())
    assert not caplog.records


def test_length_counts_what_lives(opened: Callable[..., Any]) -> None:
    store = opened()
    create(store, "a")
    create(store, "b", NOW - LIFE)
    assert run_now(store.length(now=NOW)) == 1
    assert run_now(store.names(now=NOW)).sids == ["a"]


def test_transformed_ids_cannot_be_listed(opened: Callable[..., Any]) -> None:
    store = opened(transform_id=upside)
    create(store, "abc")
    with pytest.raises(UsageError, match="transform_id"):
        run_now(store.names(now=NOW))
    assert run_now(store.length(now=NOW)) == 1
    run_now(store.clear())
    assert run_now(store.length(now=NOW)) == 0


def test_a_transformation_must_make_text(opened: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="transform_id: it must return a str, not int"):
        get(opened(transform_id=len), "sid")


def test_pruning_goes_on_beyond_one_step(opened: Callable[..., Any], documents: Collection[Document]) -> None:
    documents.insert_many(
        [{"_id": str(n), "session": "{}", "expires": moment(NOW - 1)} for n in range(1_100)]
        + [
            {"_id": "alive", "session": "{}", "expires": moment(NOW + 1)},
            {"_id": "for ever", "session": "{}"},
        ]
    )
    store = opened()
    assert run_now(store.prune(now=NOW, limit=1_050)) == 1_050
    assert run_now(store.prune(now=NOW, limit=1_050)) == 50
    assert documents.count_documents({}) == 2


# ----------------------------------------------------------------------------------------------------- clients and options


def test_the_default_database_is_nodes(mongo_server: Server, client: MongoClient[Document]) -> None:
    url = mongo_server.url.replace("/coatcheck", "/")
    client["test"]["sessions"].drop()
    with ConnectMongo(url, outage=PATIENT) as backend:
        create(backend.blocking(), n=1)
    with node_app({"kind": "connect-mongo", "url": url}, session={"secret": SECRET}) as node:
        assert node.run(cookie=cookie("sid"), now=round(NOW * 1000)).data == {"n": 1}


def test_over_clients_of_the_application(
    mongo_server: Server, client: MongoClient[Document], documents: Collection[Document]
) -> None:
    backend = ConnectMongo(client, db_name="coatcheck")
    create(backend.blocking(), n=1)
    with pytest.raises(WrongFace, match="ConnectMongo over an AsyncMongoClient"):
        backend.awaiting()
    backend.close()
    assert client.admin.command("ping")["ok"] == 1  # it is not ours to close

    async def use() -> Entry | None:
        async with AsyncMongoClient[Document](mongo_server.url) as theirs, ConnectMongo(theirs) as ours:
            with pytest.raises(WrongFace, match="ConnectMongo over a MongoClient"):
                ours.blocking()
            return await ours.awaiting().get("sid", now=NOW)

    assert asyncio.run(use()) is not None


def test_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    quick = Outage(connect_timeout=0.05, command_timeout=0.05)
    backend = ConnectMongo("mongodb://user:sesame@127.0.0.1:1/shop", outage=quick)
    with backend, pytest.raises(StoreUnavailable) as away:
        get(backend.blocking(), "the-session-id")
    said = f"{away.value!r} {away.value.__cause__!r} {backend!r} {caplog.text}"
    assert "sesame" not in said
    assert "the-session-id" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": 1_209_600_000_000}, "milliseconds"),
        ({"touch_after": -1}, "touch_after"),
        ({"auto_remove": "sometimes"}, "auto_remove='sometimes'"),
        ({"auto_remove": "interval", "auto_remove_interval": 71_583}, "auto_remove_interval"),
        ({"auto_remove": "interval", "auto_remove_interval": 0}, "auto_remove_interval"),
        ({"auto_remove": "interval", "auto_remove_interval": True}, "auto_remove_interval"),
        ({"stringify": "false"}, "stringify"),
        ({"timestamps": 1}, "timestamps"),
        ({"transform_id": "upside"}, "transform_id"),
        ({"crypto": {"secret": SQUIRREL}}, "crypto"),
        ({"collection_name": "system.users"}, "collection_name"),
        ({"db_name": "a b"}, "database"),
    ],
)
def test_a_wrong_option_is_named(options: Document, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        ConnectMongo("mongodb://127.0.0.1:1/shop", **options)
    assert SQUIRREL not in str(refused.value)


def test_a_wrong_client_is_named() -> None:
    with pytest.raises(ConfigurationError, match="ConnectMongo"):
        ConnectMongo(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="mongodb"):
        ConnectMongo("redis://127.0.0.1")


def test_when_to_prune() -> None:
    url = "mongodb://127.0.0.1:1/shop"
    assert ConnectMongo(url).prune_every is None
    assert ConnectMongo(url, auto_remove="disabled").prune_every is None
    assert ConnectMongo(url, auto_remove="interval").prune_every == 600
    assert ConnectMongo(url, auto_remove="interval", auto_remove_interval=0.5).prune_every == 30
