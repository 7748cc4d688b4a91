"""Section J of the security checklist, as far as memory and SQLite are concerned. Each test is named after its line."""

import ast
import pickle
import sqlite3
import stat
from asyncio import CancelledError
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import coatcheck
from coatcheck import ConfigurationError, SessionManager, SessionTooLarge, UnstorableValue
from coatcheck.core.ids import RandomIds
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from tests.canaries import CANARIES, LIBRARY
from tests.security.rig import WRITES, Browser, Sent, Site, forge, stranger

SOURCE = Path(coatcheck.__file__).parent


def visitor(site: Site, user: str = "ada") -> Browser:
    """Somebody who is logged in, with something in the session."""
    browser = site.browser()
    browser.post(f"/login?user={user}")
    browser.post(f"/set?v={user}")
    return browser


class Evil:
    """Raises when it is unpickled; it never should be."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("1 / 0",)


# ---------------------------------------------------------------------------------------------------- lines 111 and 112

PAYLOADS = {
    "a pickle": pickle.dumps(Evil()),
    "an old pickle": b"cos\nsystem\n(S'true'\ntR.",
    "marshal": b"\xe3\x00\x00\x00",
    "YAML": b"!!python/object/apply:os.system ['true']",
    "a pickle in JSON": b'{"k":{"py/reduce":[{"py/function":"os.system"},{"py/tuple":["true"]}]}}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_line_111_code_in_a_stored_session_is_not_run(site: Site, payload: bytes) -> None:
    ada = visitor(site)
    site.plant(ada.handle, data=payload)
    valid = payload.startswith(b"{")
    assert ada.get("/read").status == 200
    assert ada.get("/me").status == (200 if valid else 401)
    assert bool(site.heard("session.corrupt")) != valid


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_line_111_nor_in_a_row_of_sqlite(tmp_path: Path, payload: bytes) -> None:
    for face in ("asgi", "wsgi"):
        site = Site(face, "sqlite", tmp_path / face)
        ada = visitor(site)
        with closing(sqlite3.connect(site.file)) as db, db:
            db.execute("UPDATE session SET packed = ?", (payload,))
        assert (ada.get("/me").status, len(site.heard("session.corrupt"))) == (401, 1)
        site.close()


def test_line_111_nor_in_a_cookie_that_we_signed(site: Site) -> None:
    for payload in PAYLOADS.values():
        locator = urlsafe_b64encode(payload).decode().rstrip("=")[:128]
        assert site.get("/me", forge(locator, RandomIds().verifier())).status == 401


def test_line_111_the_library_cannot_unpickle_at_all() -> None:
    forbidden = {
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "marshal",
        "shelve",
        "yaml",
        "jsonpickle",
        "joblib",
    }
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            if isinstance(node, ast.ImportFrom):
                names.append(str(node.module))
            assert not {name.split(".")[0] for name in names} & forbidden, file
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), f"{file}:{node.lineno}"


def test_line_111_the_canary_sees_a_library_that_unpickles() -> None:
    code = compile("import pickle\npickle.loads(data)", f"{LIBRARY}/planted.py", "exec")
    with pytest.raises(RuntimeError, match=r"pickle\.find_class in .*planted\.py:2"):
        exec(code, {"data": pickle.dumps(Evil())})
    assert len(CANARIES.unsafe) == 1
    CANARIES.unsafe.clear()
    with pytest.raises(ZeroDivisionError):
        pickle.loads(pickle.dumps(Evil()))  # noqa: S301 - somebody else's affair, says this test


BROKEN = {
    "a deep list": b'{"k":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a deep dict": b'{"k":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "just too deep": b'{"k":' + b"[" * 65 + b"]" * 65 + b"}",
    "NaN": b'{"k":NaN}',
    "infinity": b'{"k":-Infinity}',
    "1e400": b'{"k":1e400}',
    "half a document": b'{"k":[1,2',
    "a list": b"[]",
    "nothing": b"",
    "null": b"null",
    "not UTF-8": b'{"k":"\xff\xfe"}',
    "UTF-16": '{"k":1}'.encode("utf-16"),
    "a tag that is none": b'{"k":{"$datetime":"soon"}}',
    "a decimal that is none": b'{"k":{"$decimal":"NaN"}}',
    "5000 digits": b'{"k":' + b"1" * 5_000 + b"}",
    "5000 digits in a list": b'{"k":[' + b"1" * 5_000 + b"]}",
}
TRIED = (
    "getitem", "get", "items", "values", "copy", "eq", "pop-missing", "popitem", "setitem", "setitem-dict", "setdefault",
    "increment", "apply", "update", "clear", "login",
)  # fmt: skip
ABSENT = {"getitem", "apply", "popitem"}
"""What may say that the key is not there, as it would of any other."""


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_line_112_stored_data_beyond_all_limits_is_no_session_and_no_error(site: Site, data: bytes) -> None:
    site.expected = (KeyError,)
    for look in TRIED:
        ada = visitor(site)
        site.plant(ada.handle, data=data)
        response = ada.get(f"/look/{look}")
        assert response.status == 200 or look in ABSENT, look
        assert site.post("/login?user=ada", ada.cookie).status == 200
    assert site.heard("session.corrupt")


@pytest.mark.parametrize(
    "name", ["a deep list", "a list that holds itself", "NaN", "5000 digits", "an object", "half a pair"]
)
def test_line_112_nothing_beyond_the_limits_is_stored(name: str) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)
    values = {
        "a deep list": deep,
        "a list that holds itself": loop,
        "NaN": float("nan"),
        "5000 digits": 10**5_000,
    }
    session = SessionManager("memory:").session()
    with pytest.raises(UnstorableValue, match=r'session\["k"\]'):
        session["k"] = values.get(name, "\ud800" if name == "half a pair" else object())
    assert dict(session) == {}
    while deep:
        deep = deep.pop()  # taken apart by hand: the interpreter would do it by recursion


# ---------------------------------------------------------------------------------------------------- lines 113 to 115

INJECTIONS = [
    "' OR '1'='1",
    "ada'; DROP TABLE session; --",
    '" OR ""="',
    "ada\\",
    "%",
    "_",
    '{"$ne": null}',
    "*",
    "ada\u0000",
]


@pytest.mark.parametrize("evil", INJECTIONS)
def test_line_113_no_user_or_handle_is_ever_part_of_a_command(site: Site, evil: str) -> None:
    from urllib.parse import quote

    ada = visitor(site)
    site.expected = (coatcheck.UsageError,)
    eve = site.browser()
    eve.post(f"/login?user={quote(evil)}")
    if eve.jar:
        assert [line.split()[1] for line in eve.get("/sessions").text.splitlines()] == [eve.handle]
        assert eve.send("DELETE", f"/sessions/{quote(evil)}").status == 404
        assert eve.send("DELETE", f"/sessions/{ada.handle}").status == 404
        assert site.admin.of(evil).end_all() == 1
    assert site.admin.end(evil) is False
    assert site.admin.find(evil) is None
    assert ada.get("/me").text == "ada"


def test_line_115_the_file_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE session (key TEXT, value TEXT)")
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="another application"):
        SQLiteStore(file)
    assert file.read_bytes() == before


# ---------------------------------------------------------------------------------------------------- lines 117 to 120


def test_line_117_an_outage_is_neither_a_logout_nor_a_stranger(site: Site) -> None:
    ada = visitor(site)
    site.store.fail()
    for method, target in (
        ("GET", "/me"),
        ("GET", "/read"),
        ("GET", "/has"),
        ("POST", "/set"),
        ("POST", "/logout"),
        ("POST", "/login"),
    ):
        response = ada.send(method, target)
        assert (response.status, response.cookies, response.cache) == (503, [], "no-store")
        assert response.all("retry-after") == ["5"]
    assert [ada.get("/pub").status, site.get("/pub").status, site.get("/me").status] == [200, 200, 401]
    site.store.recover()
    assert (ada.get("/me").text, ada.get("/read").text) == ("ada", "ada")


@pytest.mark.parametrize("target", ["/set", "/login?user=ada", "/incr", "/everything"])
@pytest.mark.parametrize("known", [False, True])
def test_line_119_a_session_that_was_not_saved_gets_no_cookie(site: Site, target: str, known: bool) -> None:
    ada = visitor(site) if known else site.browser()
    site.store.fail(*WRITES)
    response = ada.post(target)
    assert (response.status, response.cookies) == (503, [])
    assert len(site.heard("store.down")) == 1
    site.store.recover()
    assert ada.get("/read").text == ("ada" if known else "None")


@pytest.mark.parametrize("target", ["/logout", "/destroy", "/elevate"])
def test_line_119_a_logout_that_was_not_saved_does_not_pretend(site: Site, target: str) -> None:
    ada = visitor(site)
    site.store.fail(*WRITES)
    response = ada.post(target)
    assert (response.status, response.cookies) == (503, [])
    site.store.recover()
    assert ada.get("/me").text == "ada"


@pytest.fixture(params=["asgi", "wsgi"])
def impatient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site on an SQLite file that waits a fifth of a second for others who write."""
    file = tmp_path / "sessions.db"
    site = Site(request.param, "sqlite", file, inner=SQLiteStore(file, busy_timeout=0.2))
    yield site
    site.close()


def test_line_120_a_store_that_does_not_answer_is_given_up_in_time(impatient: Site) -> None:
    site = impatient
    ada = visitor(site)
    with closing(sqlite3.connect(site.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = monotonic()
        pending = [site.begin("POST", "/set?v=new", ada.cookie) for _ in range(20)]
        assert [site.get("/pub").status, ada.get("/me").status] == [200, 200]  # nobody else has to wait
        assert {one.result().status for one in pending} == {503}
        assert monotonic() - began < 20
    assert ada.post("/set?v=new").status == 200
    assert ada.get("/read").text == "new"


# ---------------------------------------------------------------------------------------------------- lines 121 to 125


def test_line_121_a_cancelled_request_leaves_its_answer_to_nobody_else(tmp_path: Path) -> None:
    site = Site("asgi", "sqlite", tmp_path / "sessions.db")
    site.expected = (CancelledError,)
    users = {f"user{n}": visitor(site, f"user{n}") for n in range(60)}
    for round_ in range(3):
        gate = site.hold(f"round{round_}")
        pending = {
            user: site.begin("POST", f"/set?v={user}-{round_}&gate=round{round_}", browser.cookie)
            for user, browser in users.items()
        }
        gate.wait_for(len(pending))
        with closing(sqlite3.connect(site.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the file is busy, so that every write has to wait somewhere
            gate.open()
            cancelled = {user for n, user in enumerate(pending) if n % 3 == round_ and pending[user].cancel()}
        assert {pending[user].result().status for user in pending.keys() - cancelled} == {200}
        for user, browser in users.items():
            read = browser.get("/read").text
            assert browser.get("/me").text == user
            assert read == f"{user}-{round_}" or (user in cancelled and read.startswith((f"{user}-", user)))
    site.close()


def test_line_122_nothing_passes_from_one_request_to_another(site: Site) -> None:
    users = {f"user{n}": visitor(site, f"user{n}") for n in range(100)}
    for target in ("/me", "/read"):
        answers = site.together([("GET", target, browser.cookie) for browser in users.values()])
        assert [answer.text for answer in answers] == list(users)
    written = site.together([("POST", f"/set?v={user}!", browser.cookie) for user, browser in users.items()])
    assert [answer.cookies for answer in written] == [[]] * 100
    assert [browser.get("/read").text for browser in users.values()] == [f"{user}!" for user in users]


def test_line_123_a_flood_of_strangers_costs_no_row(site: Site) -> None:
    def requests() -> Iterator[Sent]:
        for target in ("GET /pub", "GET /read", "GET /login", "POST /wrong", "GET /me"):
            method, path = target.split(" ")
            for _ in range(400):
                yield Sent(method, path)
                yield Sent(method, path, f"__Host-session={'B' * 101}".encode())
                yield Sent(method, path, stranger())

    answers = site.flood(requests())
    assert not [answer for answer in answers if answer.cookies]
    assert (site.rows(), set(site.store.told())) == (
        0,
        {"load"},
    )  # a genuine cookie is looked up, and that is all


def test_line_124_a_session_that_grew_too_large_keeps_what_it_had(site: Site) -> None:
    ada = visitor(site)
    site.expected = (SessionTooLarge,)
    response = ada.post("/big")
    assert (response.status, response.cookies) == (500, [])
    assert [ada.get("/read").text, ada.get("/read?k=big").text, ada.get("/me").text] == ["ada", "None", "ada"]
    stranger = site.browser()
    assert (stranger.post("/big").status, stranger.jar, site.rows()) == (500, {}, 1)


def test_line_125_the_expired_go_in_batches_and_nobody_else_does(site: Site) -> None:
    site.flood(Sent("POST", "/set") for _ in range(500))
    site.time += 80_000
    ada = visitor(site)
    site.time += 6_401
    assert ada.get("/me").status == 200  # moves the deadline
    swept = [site.admin.sweep(limit=100) for _ in range(8)]
    assert max(swept) <= 100
    assert (sum(swept), site.rows()) == (500, 1)
    site.time += 80_000
    assert site.admin.sweep() == 0
    assert ada.get("/me").text == "ada"


# ---------------------------------------------------------------------------------------------------- lines 127 and 128


def test_line_127_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    site = Site("wsgi", "sqlite", tmp_path / "sessions.db")
    visitor(site)
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    site.close()


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
def test_line_128_a_store_that_runs_out_of_room_logs_out_and_never_in(tmp_path: Path, face: str) -> None:
    site = Site(face, "memory", tmp_path / "unused", inner=MemoryStore(max_sessions=20))
    ended, stays = visitor(site), visitor(site)
    kept = ended.cookie
    ended.post("/logout")
    planted = site.browser()
    planted.post("/set")
    old = planted.cookie
    planted.post("/login?user=ada")
    site.flood(Sent("POST", "/login?user=eve") for _ in range(100))
    for cookie in (kept, stays.cookie, old, planted.cookie):
        assert site.get("/me", cookie).status == 401
    assert site.rows() <= 20
    site.close()
