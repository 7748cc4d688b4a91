"""Sessions brought from one store to another: all of each, once, whatever interrupts it; and what cannot be."""

import asyncio
import json
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from coatcheck import ConfigurationError, SessionManager
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Ended
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express.connect_redis import ConnectRedis
from coatcheck.dialects.express.connect_session_sequelize import ConnectSessionSequelize
from coatcheck.dialects.express.memory import MemoryStore as ExpressMemory
from coatcheck.eras import ERA_KEY
from coatcheck.migration import Report, _flow, migrate, migrate_async
from coatcheck.stores.encrypted import Encrypted
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.moving import Moving
from coatcheck.stores.redis import RedisStore
from coatcheck.stores.sqlite import SQLiteStore
from tests.patience import PATIENT

FACES = pytest.mark.parametrize(
    "face", [migrate, lambda *a, **k: asyncio.run(migrate_async(*a, **k))], ids=["sync", "async"]
)
MOVES = pytest.mark.parametrize("move", [False, True], ids=["copy", "move"])


def begun(store: Any, user: str | None = None, n: int = 1) -> Ticket:
    with_user = SessionManager(store)
    session = with_user.session()
    session["n"] = n
    if user is not None:
        session.login(user)
    session.save()
    assert session._record is not None
    assert session._verifier is not None
    return Ticket(session._record.key, session._verifier)


def seen(store: Any, ticket: Ticket) -> tuple[Any, str | None]:
    session = SessionManager(store).session(ticket)
    return session.get("n"), session.user_id


@FACES
@MOVES
def test_every_session_arrives_with_all_it_has(face: Any, move: bool) -> None:
    old, new = MemoryStore(), MemoryStore()
    tickets = [begun(old, user, n) for n, user in enumerate(["ada", "ada", None, "bob"])]
    records = {t.locator: old._rows[t.locator] for t in tickets}
    report: Report = face(old, new, move=move)
    assert (report.seen, report.done, report.is_whole, report.late) == (4, 4, True, 0)
    assert [seen(new, ticket) for ticket in tickets] == [(0, "ada"), (1, "ada"), (2, None), (3, "bob")]
    for key, record in records.items():
        there: Any = new._rows[key]
        assert there.versions[0] == record.versions[0]  # type: ignore[union-attr]
        assert [getattr(there, f) for f in there.__struct_fields__ if f != "versions"] == [
            getattr(record, f) for f in there.__struct_fields__ if f != "versions"
        ]
    assert {d.handle for d in SessionManager(new).of("ada").list()} == {t.locator for t in tickets[:2]}
    assert [seen(old, ticket)[1] for ticket in tickets] == (
        [None] * 4 if move else ["ada", "ada", None, "bob"]
    )


@MOVES
def test_a_second_time_changes_nothing(move: bool) -> None:
    old, new = MemoryStore(), MemoryStore()
    ticket = begun(old, "ada")
    migrate(old, new, move=move)
    report = migrate(old, new, move=move)
    assert (report.done, report.is_whole) == (0, True)
    assert seen(new, ticket) == (1, "ada")


def test_a_copy_follows_its_original_until_it_is_used() -> None:
    old, new = MemoryStore(), MemoryStore()
    changed, used, ended, begun_there = (begun(old, "ada") for _ in range(4))
    migrate(old, new)
    for store, ticket in ((old, changed), (new, used), (new, begun_there)):
        session = SessionManager(store).session(ticket)
        session["n"] = 7
        session.save()
    SessionManager(old).end(ended.locator)
    SessionManager(old).end(begun_there.locator)
    report = migrate(old, new)
    assert (seen(new, changed), seen(new, used)) == ((7, "ada"), (7, "ada"))
    assert seen(new, ended)[1] is None
    assert seen(new, begun_there) == (7, "ada")
    assert (report.ended, report.is_whole) == (1, True)


def looked_at(store: Any, ticket: Ticket, later: float) -> None:
    """A request that changes nothing: the session is seen, and lives longer."""
    there: Any = run_now(store.load(ticket.locator, now=time.time()))
    seen_at, deadline = there.seen_at + later, there.deadline + later
    given: Any = {"expected": there.versions[0], "now": time.time()}
    assert run_now(store.touch(ticket.locator, deadline=deadline, seen_at=seen_at, **given))


def test_who_only_looked_at_a_copy_has_used_it() -> None:
    old, new = MemoryStore(), MemoryStore()
    looked, untouched = begun(old, "ada"), begun(old, "ada")
    migrate(old, new)
    looked_at(new, looked, 100)
    for ticket in (looked, untouched):
        SessionManager(old).end(ticket.locator)
    assert migrate(old, new).ended == 1
    assert (seen(new, looked), seen(new, untouched)) == ((1, "ada"), (None, None))


def test_a_copy_that_followed_its_original_follows_it_to_the_end() -> None:
    old, new = MemoryStore(), MemoryStore()
    ticket = begun(old, "ada")
    migrate(old, new)
    looked_at(old, ticket, 100)
    migrate(old, new)
    assert run_now(new.load(ticket.locator, now=time.time())).seen_at == old._rows[ticket.locator].seen_at  # type: ignore[union-attr]
    SessionManager(old).end(ticket.locator)
    assert migrate(old, new).ended == 1


@MOVES
def test_copies_of_another_store_are_left_alone(tmp_path: Path, move: bool) -> None:
    """Two stores are brought to one."""
    new = MemoryStore()
    urls = []
    for name in ("one", "other"):
        with SQLiteStore(tmp_path / f"{name}.db") as store:
            begun(store, name)
        urls.append(f"sqlite:///{tmp_path}/{name}.db")
    assert migrate(urls[0], new).done == 1
    assert migrate(urls[1], new, move=move).ended == 0
    assert [len(SessionManager(new).of(name).list()) for name in ("one", "other")] == [1, 1]


@pytest.mark.parametrize("how", ["command", "requests"])
def test_after_a_rehearsal_the_original_has_the_last_word(how: str) -> None:
    old, new = MemoryStore(), MemoryStore()
    changed, ended, logged_in, same = begun(old, "ada"), begun(old, "ada"), begun(old), begun(old, "ada")
    migrate(old, new)
    session = SessionManager(old).session(changed)
    session["n"] = 7
    session.save()
    SessionManager(old).end(ended.locator)
    session = SessionManager(old).session(logged_in)
    session.login("bob")
    session.save()
    assert session._record is not None
    bob = Ticket(session._record.key, session._verifier)  # type: ignore[arg-type]
    looked_at(old, same, 100)
    later: Any = old._rows[same.locator]
    if how == "command":
        migrate(old, new, move=True)
    moving = Moving(new, old)
    assert [seen(moving, ticket) for ticket in (changed, ended, bob, same)] == [
        (7, "ada"),
        (None, None),
        (1, "bob"),
        (1, "ada"),
    ]
    users = {user: {d.handle for d in SessionManager(new).of(user).list()} for user in ("ada", "bob")}
    assert users == {"ada": {changed.locator, same.locator}, "bob": {bob.locator}}
    assert new._rows[same.locator].deadline >= later.deadline  # type: ignore[union-attr]
    assert migrate(old, new).ended == 0  # by mistake, without --move
    assert seen(new, same) == (1, "ada")


@pytest.mark.parametrize("carry", [True, False])
def test_a_logout_after_a_rehearsal_is_one_in_every_deploy(carry: bool) -> None:
    old, new = MemoryStore(), MemoryStore()
    ended, kept = begun(old, "ada"), begun(old, "ada")
    migrate(old, new)
    SessionManager(old).end(ended.locator)
    old._drop(ended.locator, old._rows[ended.locator])  # a minute later nobody remembers it
    sessions = SessionManager(Moving(new, old, carry=carry))
    assert {device.handle for device in sessions.of("ada").list()} == {kept.locator}
    assert seen(sessions._backend, ended) == (None, None)
    session = sessions.session(kept)
    session["n"] = 5
    session.save()
    assert seen(old, kept)[0] == (None if carry else 5)
    sessions.of("ada").end_all()
    assert SessionManager(new).of("ada").list() == SessionManager(old).of("ada").list() == []


@MOVES
def test_a_dry_run_writes_nothing(move: bool) -> None:
    old, new = MemoryStore(), MemoryStore()
    ticket = begun(old, "ada")
    before = dict(old._rows)
    report = migrate(old, new, move=move, dry_run=True)
    assert (report.done, old._rows, new._rows) == (1, before, {})
    assert seen(old, ticket) == (1, "ada")


@FACES
@MOVES
def test_one_that_is_interrupted_goes_on_where_it_stopped(
    face: Any, move: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flow, "BATCH", 5)
    with SQLiteStore(tmp_path / "old.db") as old:
        tickets = [begun(old, f"u{n}", n) for n in range(23)]
    urls = [f"sqlite:///{tmp_path / name}.db" for name in ("old", "new")]
    looked: list[int] = []

    class Interrupted(Exception):
        pass

    def stop(progress: Any) -> None:
        looked.append(progress.looked_at)
        if progress.looked_at == 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        face(*urls, move=move, resume=tmp_path / "state", on_progress=stop)
    state = json.loads((tmp_path / "state").read_text())
    assert state["report"]["seen"] == 10
    report = face(
        *urls, move=move, resume=tmp_path / "state", on_progress=lambda p: looked.append(p.looked_at)
    )
    assert looked[:4] == [5, 10, 15, 20]
    assert (report.seen, report.done, report.is_whole) == (23, 23, True)
    assert not (tmp_path / "state").exists()
    with SQLiteStore(tmp_path / "new.db") as new:
        assert [seen(new, ticket) for ticket in tickets] == [(n, f"u{n}") for n in range(23)]


def test_a_dry_run_leaves_alone_what_an_interrupted_one_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flow, "BATCH", 5)
    old, new = old_and_new(tmp_path, 12)
    state = tmp_path / "state"
    interrupt(old, new, state, at=5)
    before = state.read_bytes()
    assert migrate(old, new, move=True, resume=state, dry_run=True).seen == 12
    assert state.read_bytes() == before
    assert migrate(old, new, move=True, resume=state).seen == 12


def test_nobody_else_may_read_how_far_it_is(tmp_path: Path) -> None:
    """Of some stores of Express that is the id of a session."""
    old, new = old_and_new(tmp_path, 3)
    (tmp_path / "state.new").write_text("of somebody else")
    interrupt(old, new, tmp_path / "state", at=3)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("place", "words"), [("no-folder/state", "cannot be written"), ("", "cannot be read")]
)
def test_a_file_that_cannot_be_is_said_before_anything_is_changed(
    tmp_path: Path, place: str, words: str
) -> None:
    old, new = of_native(3), MemoryStore()
    before = dict(old._rows)
    with pytest.raises(ConfigurationError, match=words):
        migrate(old, new, move=True, resume=tmp_path / place)
    assert old._rows == before


def of_native(count: int) -> MemoryStore:
    store = MemoryStore()
    for n in range(count):
        begun(store, f"u{n}", n)
    return store


@pytest.mark.parametrize("text", [b"\xff", b'{"job":"\xff"}', b"", b"[]", b'{"job":1}'])
def test_what_is_no_file_of_a_migration_is_said(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "state").write_bytes(text)
    with pytest.raises(ConfigurationError, match="no file of a migration"):
        migrate(of_native(1), MemoryStore(), resume=tmp_path / "state")


def test_what_a_walk_found_before_it_was_interrupted_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that cannot be read, in the half of the second walk that was done before: nothing is verified."""
    monkeypatch.setattr(_flow, "BATCH", 5)
    old, new = old_and_new(tmp_path, 12)
    with sqlite3.connect(tmp_path / "old.db") as file:
        ((first,),) = file.execute("SELECT min(key) FROM session")
        file.execute("UPDATE session SET packed = x'00' WHERE key = ?", (first,))
    file.close()
    interrupt(old, new, tmp_path / "state", at=5, walk=2)
    looked: list[tuple[int, int]] = []
    report = migrate(
        old,
        new,
        move=True,
        resume=tmp_path / "state",
        on_progress=lambda p: looked.append((p.walk, p.looked_at)),
    )
    assert (report.seen, report.unreadable, report.is_whole) == (12, 1, False)
    assert looked[0] == (2, 10)


def test_what_came_late_is_told_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flow, "BATCH", 5)
    old, new = old_and_new(tmp_path, 12)

    def stop(progress: Any) -> None:
        if (progress.walk, progress.looked_at) == (1, 12):
            with SQLiteStore(tmp_path / "old.db") as store:
                for n in range(20):
                    begun(store, f"late{n}")
        if (progress.walk, progress.looked_at) == (2, 30):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        migrate(old, new, move=True, resume=tmp_path / "state", on_progress=stop)
    report = migrate(old, new, move=True, resume=tmp_path / "state")
    assert (report.seen, report.late, report.is_whole) == (12, 20, True)


def old_and_new(folder: Path, count: int) -> list[str]:
    with SQLiteStore(folder / "old.db") as store:
        for n in range(count):
            begun(store, f"u{n}", n)
    return [f"sqlite:///{folder / name}.db" for name in ("old", "new")]


def interrupt(old: Any, new: Any, state: Path, *, at: int, walk: int = 1) -> None:
    def stop(progress: Any) -> None:
        if (progress.walk, progress.looked_at) == (walk, at):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        migrate(old, new, move=True, resume=state, on_progress=stop)


def test_one_that_is_interrupted_when_all_were_looked_at_counts_none_twice(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "old.db") as store:
        for n in range(7):
            begun(store, f"u{n}", n)
    old, new = (f"sqlite:///{tmp_path / name}.db" for name in ("old", "new"))

    def stop(progress: Any) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        migrate(old, new, move=True, resume=tmp_path / "state", on_progress=stop)
    report = migrate(old, new, move=True, resume=tmp_path / "state")
    assert (report.seen, report.done, report.there, report.is_whole) == (7, 7, 0, True)


@FACES
def test_no_more_are_brought_in_a_second_than_was_said(face: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of a store that names them all at once."""
    done, passed = [0], list[tuple[float, int]]()

    class Counting(MemoryStore):
        async def load(self, key: str, *, now: float) -> Any:
            done[0] += key != ERA_KEY
            return await super().load(key, now=now)

    async def sleep(seconds: float) -> None:
        passed.append((seconds, done[0]))
        done[0] = 0

    monkeypatch.setattr(time, "sleep", lambda seconds: run_now(sleep(seconds)))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    old = Counting()
    for n in range(10):
        begun(old, f"u{n}")
    done[0] = 0
    assert face(old, MemoryStore(), rate=4, dry_run=True).seen == 10
    assert passed == [(1.0, 4), (1.0, 4)]
    with pytest.raises(ConfigurationError, match="rate=0"):
        face(old, MemoryStore(), rate=0)
    with pytest.raises(ConfigurationError, match="rate=nan"):
        face(old, MemoryStore(), rate=float("nan"))


def test_what_was_begun_in_the_source_meanwhile_is_found_and_told() -> None:
    old, new = MemoryStore(), MemoryStore()
    begun(old)
    late: list[Ticket] = []

    def begin(progress: Any) -> None:
        if not late:
            late.append(begun(old, "bob"))

    report = migrate(old, new, move=True, on_progress=begin)
    assert (report.seen, report.late, report.is_whole) == (1, 1, True)
    assert seen(new, late[0]) == (1, "bob")


def test_redis_to_postgres(redis_server: Any, postgres_server: Any) -> None:
    source, target = redis_server.url.removesuffix("/0") + "/3", postgres_server.url
    with SessionManager(target, outage=PATIENT) as sessions:
        sessions.setup()
    with SessionManager(source, outage=PATIENT) as sessions:
        backend = sessions._backend
        tickets = [begun(backend, user, n) for n, user in enumerate(["ada", None, "ada", "bob"])]
        SessionManager(backend).end(tickets[3].locator)
    report = migrate(source, target, move=True, outage=PATIENT)
    assert (report.done, report.late, report.is_whole) == (3, 0, True)
    with SessionManager(target, outage=PATIENT) as sessions:
        assert [seen(sessions._backend, t) for t in tickets] == [
            (0, "ada"),
            (1, None),
            (2, "ada"),
            (None, None),
        ]
        assert len(sessions.of("ada").list()) == 2


@pytest.mark.parametrize(
    "server",
    [
        "redis_server",
        "postgres_server",
        pytest.param("mongo_server", marks=pytest.mark.slow),
        pytest.param("mariadb_server", marks=pytest.mark.slow),
    ],
)
def test_copies_on_a_server_are_written_over(server: str, request: pytest.FixtureRequest) -> None:
    """Also where nothing has changed but when the session was seen: the write has the version that is there."""
    url = request.getfixturevalue(server).url
    with SessionManager(url, outage=PATIENT) as sessions:
        sessions.setup()
        backend, old, user = sessions._backend, MemoryStore(), f"rehearsed-{server}"
        same, changed, ended = (begun(old, user) for _ in range(3))
        migrate(old, backend)
        looked_at(old, same, 100)
        migrate(old, backend)
        looked_at(old, same, 200)
        session = SessionManager(old).session(changed)
        session["n"] = 7
        session.save()
        SessionManager(old).end(ended.locator)
        before: Any = old._rows[same.locator]
        report = migrate(old, backend, move=True)
        assert (report.is_whole, report.ended) == (True, 1)
        assert migrate(old, backend).ended == 0
        assert (seen(backend, same), seen(backend, changed)) == ((1, user), (7, user))
        there: Any = run_now(sessions.flows.store.load(same.locator, now=time.time()))
        assert there.deadline >= before.deadline
        assert there.versions[0] == before.versions[0]
        assert {d.handle for d in sessions.of(user).list()} == {same.locator, changed.locator}
        sessions.of(user).end_all()


@MOVES
def test_redis_lists_by_user_what_was_brought_there(redis_server: Any, move: bool) -> None:
    old, user = MemoryStore(), f"lou-{move}"
    target = RedisStore.from_url(redis_server.url.removesuffix("/0") + "/3", outage=PATIENT)
    tickets = [begun(old, user, n) for n in range(2)]
    migrate(old, target, move=move)
    with SessionManager(target) as sessions:
        assert {device.handle for device in sessions.of(user).list()} == {
            ticket.locator for ticket in tickets
        }
        sessions.of(user).end_all()


@pytest.mark.parametrize(
    ("source", "target", "given", "words"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", {}, "the same store"),
        ("cookie:?revocation=none", "sqlite:///a.db", {}, "with their browsers"),
        (MemoryStore(), ExpressMemory(), {}, "by its own"),
        (ExpressMemory(), MemoryStore(), {}, "--move"),
        (MemoryStore(), MemoryStore(), {"user_id": "user.id"}, "know whose they are"),
        (Moving(MemoryStore(), MemoryStore()), MemoryStore(), {}, "give the two stores"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_changed(
    source: Any, target: Any, given: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        migrate(source, target, **given)


def test_one_store_under_two_names(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "a.db").close()
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    with pytest.raises(ConfigurationError, match="under two names"):
        migrate(f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")


@pytest.mark.parametrize("around", ["FROM", "TO", "both"])
def test_one_store_with_another_secret_is_still_one(around: str) -> None:
    below = MemoryStore()
    sealed = [Encrypted(below, secret=secret * 9, insecure_dev=True) for secret in ("older", "newer")]
    source, target = {"FROM": (sealed[0], below), "TO": (below, sealed[0]), "both": sealed}[around]
    begun(source, "ada")
    before = dict(below._rows)
    with pytest.raises(ConfigurationError, match="under two names"):
        migrate(source, target, move=True)
    assert {key: row for key, row in below._rows.items() if not isinstance(row, Ended)} == before


def test_with_a_wrong_secret_nothing_is_changed() -> None:
    below, new = MemoryStore(), MemoryStore()
    begun(Encrypted(below, secret="right" * 9, insecure_dev=True), "ada")
    before = dict(below._rows)
    with pytest.raises(ConfigurationError, match="can be read"):
        migrate(Encrypted(below, secret="wrong" * 9, insecure_dev=True), new, move=True)
    assert below._rows == before
    assert SessionManager(new).count() == 0


def test_some_that_cannot_be_read_keep_nothing_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few are looked at at a time, and the first of them are damaged."""
    old, new = old_and_new(tmp_path, 5)
    with sqlite3.connect(tmp_path / "old.db") as file:
        ((second,),) = file.execute("SELECT key FROM session ORDER BY key LIMIT 1 OFFSET 1")
        file.execute("UPDATE session SET packed = x'00' WHERE key <= ?", (second,))
    file.close()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    report = migrate(old, new, move=True, rate=1, resume=tmp_path / "state")
    assert (report.done, report.unreadable) == (3, 2)


def test_a_target_where_everybody_was_logged_out_is_refused() -> None:
    old, new = MemoryStore(), MemoryStore()
    begun(old)
    SessionManager(new).end_everyone()
    with pytest.raises(ConfigurationError, match="everybody's sessions were ended"):
        migrate(old, new)


def test_the_end_of_everybody_comes_along() -> None:
    old, new = MemoryStore(), MemoryStore()
    before = begun(old)
    SessionManager(old).end_everyone()
    migrate(old, new, move=True)
    assert seen(new, before) == (None, None)
    later = time.time() + 3600
    eras = [run_now(store.load(ERA_KEY, now=later)) for store in (old, new)]
    assert eras[0].era == eras[1].era > 0  # type: ignore[union-attr]
    assert seen(old, before) == (None, None)


# -------------------------------------------------------------------------------------------------------------- Express


def body(data: dict[str, Any]) -> bytes:
    return json.dumps({"cookie": {"originalMaxAge": None, "expires": None, "path": "/"}, **data}).encode()


def of_express(**sessions: dict[str, Any]) -> ExpressMemory:
    store = ExpressMemory()
    for sid, data in sessions.items():
        run_now(store.create(sid, body(data), expires=None, now=1.0))
    return store


@MOVES
def test_express_to_express_is_a_copy_of_text(move: bool) -> None:
    old, new = of_express(a={"n": 1}, b={"passport": {"user": 7}}), of_express(b={"other": 1})
    report = migrate(old, new, move=move)
    assert (report.done, report.differs) == (1, 1)
    assert new._entries["a"] == body({"n": 1})
    assert new._entries["b"] == body({"other": 1})
    assert sorted(old._entries) == (["b"] if move else ["a", "b"])


@pytest.mark.parametrize("move", [False, True])
def test_a_session_of_express_that_was_touched_lives_as_long_as_it_did(move: bool, redis_server: Any) -> None:
    """connect-redis moves the end of the key, and leaves the text as it is."""
    urls = [redis_server.url.removesuffix("/0") + f"/{number}" for number in (5, 6)]
    old, new = (ConnectRedis.from_url(url, outage=PATIENT) for url in urls)
    now, text = time.time(), body({"n": 1})
    run_now(old.blocking().create("a", text, expires=now + 1000, now=now))
    migrate(old, new)
    run_now(old.blocking().touch("a", text, expires=now + 5000, now=now))
    report = migrate(old, new, move=move)
    assert (report.there, report.is_whole) == (1, True)
    entry = run_now(new.blocking().get("a", now=now))
    assert entry is not None
    assert entry.expires is not None
    assert entry.expires > now + 4000
    for store in (old, new):
        run_now(store.blocking().destroy("a"))
        store.close()


def test_express_to_a_table_of_sequelize(tmp_path: Path) -> None:
    (tmp_path / "node.db").touch()
    url = f"sqlite:///{tmp_path}/node.db"
    table = ConnectSessionSequelize.from_url(url)
    run_now(table.blocking().setup())
    old = of_express(a={"n": 1})
    assert migrate(old, table, move=True).done == 1
    assert run_now(table.blocking().names(now=time.time())).sids == ["a"]
    table.close()


def test_express_to_coatcheck_fills_the_index_by_user() -> None:
    old, new = (
        of_express(a={"n": 1}, b={"passport": {"user": 7}}, c={"passport": {}}, d={"passport": {"user": 7}}),
        MemoryStore(),
    )
    report = migrate(old, new, move=True)
    assert (report.done, report.is_whole, old._entries) == (4, True, {})
    assert len(SessionManager(new).of("7").list()) == 2
    assert migrate(old, new, move=True).done == 0


def test_one_that_cannot_be_adopted_stays_and_is_counted() -> None:
    old, new = of_express(a={"passport": {"user": {"id": 1}}}), MemoryStore()
    old._entries["b"] = b"[]"
    report = migrate(old, new, move=True)
    assert (report.done, report.refused, report.left, len(old._entries)) == (0, 2, 2, 2)
    assert any("to_user_id" in reason for reason in report.why)


class _Renamed:
    """The same store of Express, by another name."""

    def __init__(self, store: ExpressMemory) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return (lambda: self) if name in ("blocking", "awaiting") else getattr(self._store, name)


@MOVES
@FACES
def test_one_store_of_express_under_two_names_loses_nothing(face: Any, move: bool) -> None:
    old = of_express(a={"n": 1}, b={"n": 2})
    before = dict(old._entries)
    with pytest.raises(ConfigurationError, match="under two names"):
        face(old, _Renamed(old), move=move)
    assert old._entries == before


def test_a_target_where_everybody_was_logged_out_costs_express_nothing() -> None:
    old, new = of_express(a={"passport": {"user": 7}}), MemoryStore()
    SessionManager(new).end_everyone()
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="everybody's sessions were ended"):
            migrate(old, new, move=True, dry_run=dry_run)
    assert list(old._entries) == ["a"]
