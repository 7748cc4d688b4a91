"""The memory store: the contract, its bound, what it forgets by itself, and its warnings."""

import gc
import logging
import multiprocessing
import random
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from msgspec.structs import replace as changed

from coatcheck import Clock, Options, SessionManager
from coatcheck.core.ports import FENCED, SAVED, TOMBSTONE, Checks, Counts, NeverWaits, Sweeps, Terms
from coatcheck.core.ports import ByUser as ByUserAbility
from coatcheck.core.record import Ended, Login, Record
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, UsageError
from coatcheck.stores._memory_sharing import BROWSERS, LONGEST
from coatcheck.stores.memory import BUCKET, FENCE_KEPT, FEW, LOG_EVERY, MemoryStore
from coatcheck.testing import Sentence, StoreContract

NOW = 1_700_000_000.0
IDLE = 1_000.0


@pytest.mark.parametrize("sentence", StoreContract.sentences())
def test_contract(sentence: Sentence) -> None:
    StoreContract(MemoryStore).run(sentence)


@pytest.mark.parametrize("ability", [ByUserAbility, Sweeps, Counts, Checks, NeverWaits])
def test_it_has_every_ability(ability: type) -> None:
    assert isinstance(MemoryStore(), ability)


# ------------------------------------------------------------------------------------------------------- helpers


def record(
    key: str, *, user_id: str | None = None, now: float = NOW, idle: float = IDLE, data: bytes = b"{}"
) -> Record:
    return Record(
        key=key,
        versions=(f"v-{key}",),
        verifier=bytes(32),
        data=data,
        created_at=now,
        seen_at=now,
        deadline=now + idle,
        ends_at=now + 30 * 86_400,
        user_id=user_id,
        authenticated_at=None if user_id is None else now,
    )


def put(
    store: MemoryStore, key: str, *, user_id: str | None = None, now: float = NOW, idle: float = IDLE
) -> Record:
    new = record(key, user_id=user_id, now=now, idle=idle)
    assert run_now(store.create(new, now=now)) is SAVED
    return new


def there(store: MemoryStore, keys: str, *, now: float = NOW) -> str:
    """Those of these one-letter keys that live."""
    return "".join(key for key in keys if isinstance(run_now(store.load(key, now=now)), Record))


def indexed(store: MemoryStore) -> set[tuple[str, str]]:
    """(user, key) of all that is in the index."""
    return {(user, key) for user in store._users for key in store._keys_of(user)}


def sizes(store: MemoryStore) -> dict[str, int]:
    """How much is kept in each of its tables: the leaks would be here."""
    return {
        "rows": len(store._rows),
        "anonymous": len(store._anonymous),
        "ended": len(store._ended),
        "known": len(store._known),
        "users": len(indexed(store)),
        "filed": sum(map(len, store._buckets.values())),
        "buckets": len(store._buckets),
    }


def sound(store: MemoryStore) -> None:
    """Every row is in one queue, one bucket, and the index if it has a user; nothing else is anywhere."""
    rows = store._rows
    assert {*store._anonymous} == {k for k, r in rows.items() if isinstance(r, Record) and r.user_id is None}
    assert {*store._known} == {k for k, r in rows.items() if isinstance(r, Record) and r.user_id is not None}
    assert {*store._ended} == {k for k, r in rows.items() if isinstance(r, Ended)}
    assert indexed(store) == {
        (r.user_id, k) for k, r in rows.items() if isinstance(r, Record) and r.user_id is not None
    }
    assert all(store._users.values())
    deadlines = {k: r.deadline if isinstance(r, Record) else r.at + TOMBSTONE for k, r in rows.items()}
    assert {(k, n) for n, keys in store._buckets.items() for k in keys} == {
        (k, int(d // BUCKET)) for k, d in deadlines.items()
    }
    assert all(store._buckets.values())
    assert {*store._buckets} <= {*store._heap}
    assert len(store._heap) <= 2 * len(store._buckets) + 64 or not store._buckets


# --------------------------------------------------------------------------------------------------------- bound


def test_at_the_bound_the_expired_make_room_first() -> None:
    store = MemoryStore(max_sessions=4)
    put(store, "a", idle=10_000)
    put(store, "b", idle=10)
    put(store, "c", user_id="u", idle=10_000)
    put(store, "d", idle=10_000)
    later = NOW + 10 + BUCKET
    put(store, "e", now=later)
    assert there(store, "abcde", now=later) == "acde"


def test_then_anonymous_sessions_seen_longest_ago() -> None:
    store = MemoryStore(max_sessions=4)
    put(store, "k", user_id="u")
    first = put(store, "a")
    for key in "bc":
        put(store, key)
    assert run_now(
        store.touch("a", deadline=NOW + 2_000, seen_at=NOW + 1, expected=first.version, now=NOW + 1)
    )
    put(store, "d")
    assert there(store, "kabcd") == "kacd"
    put(store, "e")
    assert there(store, "kacde") == "kade"


def test_a_write_counts_as_seen() -> None:
    store = MemoryStore(max_sessions=2)
    first = put(store, "a")
    put(store, "b")
    second = changed(first, versions=("2", first.version), data=b"2")
    assert run_now(store.replace(second, expected=first.version, now=NOW)) is SAVED
    put(store, "c")
    assert there(store, "abc") == "ac"


def test_then_tombstones_then_logins_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter([100.0, 101.0, 102.0, 100.0 + LOG_EVERY])
    store = MemoryStore(max_sessions=3, monotonic=lambda: next(ticks))
    put(store, "x")
    for key in "ab":
        put(store, key, user_id=f"user-{key}")
    assert run_now(store.delete("x", now=NOW, token="t"))
    with caplog.at_level(logging.WARNING, "coatcheck"):
        put(store, "c", user_id="user-c")
        assert run_now(store.load("x", now=NOW)) is None, "the tombstone made room"
        assert there(store, "abc") == "abc"
        assert not caplog.records
        for key in "defg":
            put(store, key, user_id=f"user-{key}")
    assert there(store, "abcdefg") == "efg"
    lines = [line.getMessage() for line in caplog.records]
    assert len(lines) == 2, "at most one line a minute"
    assert "max_sessions=3): 1 logged-in" in lines[0]
    assert "max_sessions=3): 3 logged-in" in lines[1]
    assert "user-" not in caplog.text
    sound(store)


def test_a_login_is_not_evicted_by_itself() -> None:
    store = MemoryStore(max_sessions=1)
    anonymous = put(store, "a")
    login = changed(anonymous, versions=("2", anonymous.version), user_id="u", authenticated_at=NOW)
    assert run_now(store.admit(login, expected=anonymous.version, terms=Terms(), now=NOW)) is SAVED
    assert there(store, "a") == "a"
    put(store, "b")
    assert there(store, "ab") == "b", "the newest stays, whatever it is"


def test_a_flood_of_anonymous_sessions_logs_nobody_out() -> None:
    store = MemoryStore(max_sessions=100)
    logins = [put(store, f"login-{n}", user_id=f"u{n % 7}") for n in range(50)]
    for n in range(5_000):
        put(store, f"bot-{n}")
    assert all(run_now(store.load(login.key, now=NOW)) == login for login in logins)
    assert sizes(store)["rows"] == 100
    sound(store)


@pytest.mark.parametrize("bound", [0, -1, True, 1.5, "100", None])
def test_a_wrong_bound_is_refused(bound: object) -> None:
    with pytest.raises(ConfigurationError, match=r"max_sessions=.*1 or more"):
        MemoryStore(max_sessions=bound)  # type: ignore[arg-type]  # that is the point


# -------------------------------------------------------------------------------------------- nothing piles up


def test_touching_for_ever_grows_nothing() -> None:
    store = MemoryStore()
    now, session = NOW, put(store, "a")
    for _ in range(20_000):
        now += 5
        assert run_now(store.touch("a", deadline=now + IDLE, seen_at=now, expected=session.version, now=now))
    assert sizes(store) == dict(rows=1, anonymous=1, ended=0, known=0, users=0, filed=1, buckets=1)
    assert len(store._heap) < 300
    sound(store)


def test_shortening_and_extending_for_ever_grows_nothing() -> None:
    store = MemoryStore()
    session = put(store, "a", idle=86_400)
    for n in range(20_000):
        new = changed(session, versions=(str(n),), deadline=NOW + 100 + n % 2 * (50_000 - n))
        assert run_now(store.replace(new, expected=session.version, now=NOW, may_shorten=True)) is SAVED
        session = new
    assert sizes(store)["buckets"] == 1
    assert len(store._heap) <= 66
    sound(store)


def test_logging_in_and_out_for_ever_grows_nothing() -> None:
    clock = [0.0]
    store = MemoryStore(monotonic=lambda: clock[0])
    for n in range(20_000):
        clock[0] += 10
        now = NOW + 10 * n
        login = record(f"s{n}", user_id=f"u{n}", now=now, idle=86_400)
        assert run_now(store.admit(login, expected=None, terms=Terms(limit=3), now=now)) is SAVED
        assert run_now(store.end_user(f"u{n}", keep=None, now=now, token="t")).count == 1
    assert sizes(store)["rows"] <= (TOMBSTONE + BUCKET) / 10 + 1, (
        "tombstones go after their minute, without a sweep"
    )
    assert len(store._fences) <= FENCE_KEPT / 10
    assert len(store._heap) <= 100
    sound(store)


def test_fences_are_forgotten_after_a_day_in_the_stores_own_clock() -> None:
    clock = [0.0]
    store = MemoryStore(monotonic=lambda: clock[0])
    run_now(store.end_user("u", keep=None, now=NOW, token="t"))
    clock[0] = FENCE_KEPT - 1
    run_now(store.sweep(now=NOW + 9 * FENCE_KEPT))
    late = Terms(stopwatch=lambda: FENCE_KEPT)
    assert run_now(store.admit(record("a", user_id="u"), expected=None, terms=late, now=NOW)) is FENCED
    clock[0] = FENCE_KEPT
    run_now(store.sweep(now=NOW))
    assert not store._fences


def test_expired_rows_go_without_a_sweep() -> None:
    store = MemoryStore()
    for n in range(1_000):
        put(store, f"old{n}", user_id=f"u{n}", idle=10)
    for n in range(400):
        put(store, f"new{n}", now=NOW + 100)
    assert sizes(store)["rows"] == 400
    sound(store)


def test_a_write_pays_for_a_few_expired_ones_only() -> None:
    store = MemoryStore()
    for n in range(1_000):
        put(store, f"old{n}", idle=10)
    put(store, "new", now=NOW + 100)
    assert 990 <= sizes(store)["rows"] <= 1_000


@pytest.mark.parametrize("seed", range(5))
def test_its_tables_agree_after_anything(seed: int) -> None:
    rnd = random.Random(seed)
    clock = [0.0]
    store = MemoryStore(max_sessions=40, monotonic=lambda: clock[0])
    now = NOW
    for step in range(3_000):
        clock[0] += 1
        now += rnd.choice([0, 0, 1, 20, -5])
        _anything(store, rnd, now, str(step))
        assert len(store._rows) <= 40
        if not step % 50:
            sound(store)
    run_now(store.sweep(now=now + 10**9, limit=10**6))
    assert not any(sizes(store).values())


def _anything(store: MemoryStore, rnd: random.Random, now: float, step: str) -> None:
    key, user = f"k{rnd.randrange(60)}", rnd.choice([None, "u0", "u1", "u2"])
    new = changed(record(key, user_id=user, now=now, idle=rnd.choice([5, 50, 500])), versions=(step,))
    old = run_now(store.load(key, now=now))
    expected = old.version if isinstance(old, Record) else "none"
    match rnd.randrange(8):
        case 0 | 1:
            run_now(store.create(new, now=now))
        case 2 | 3:
            run_now(store.replace(new, expected=expected, now=now, may_shorten=rnd.random() < 0.3))
        case 4:
            run_now(
                store.touch(key, deadline=now + rnd.choice([5, 90]), seen_at=now, expected=expected, now=now)
            )
        case 5:
            run_now(store.delete(key, now=now, token=step))
        case 6:
            terms = Terms(
                stopwatch=lambda: rnd.random() * 9, limit=rnd.choice([None, 1, 3]), evict=rnd.random() < 0.5
            )
            login = changed(new, user_id=user or "u3")
            run_now(store.admit(login, expected=rnd.choice([None, expected]), terms=terms, now=now))
        case _:
            if rnd.random() < 0.2:
                run_now(store.end_user(user or "u3", keep=key, now=now, token=step))
            run_now(store.sweep(now=now, limit=2))


def _soak(sessions: int, bound: int) -> int:
    """Create so many anonymous sessions, a hundred a second; return the most memory that was ever in use, in bytes."""
    store = MemoryStore(max_sessions=bound)
    tracemalloc.start()
    try:
        for n in range(sessions):
            put(store, f"{n:024d}", now=NOW + n / 100, idle=86_400)
            assert len(store._rows) <= bound
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sound(store)
    assert len(store._heap) <= 2 * len(store._buckets) + 64
    return peak


def test_a_soak_of_100_000_anonymous_sessions_stays_within_its_bound() -> None:
    assert _soak(100_000, bound=5_000) < 10_000_000  # 2 kB a session, with a buffer for the interpreter


@pytest.mark.slow
def test_a_soak_of_a_million_anonymous_sessions_stays_within_its_bound() -> None:
    assert _soak(1_000_000, bound=100_000) < 150_000_000


# ----------------------------------------------------------------------------------------------------- by user


def test_a_cursor_stands_for_a_place_not_for_a_session() -> None:
    store = MemoryStore()
    for n, key in enumerate("abcdef"):
        put(store, key, user_id="u", now=NOW + n)
    page = run_now(store.of_user("u", now=NOW + 9, limit=2))
    assert [r.key for r in page.records] == ["f", "e"]
    run_now(store.end_one("u", "e", now=NOW + 9, token="t"))
    put(store, "g", user_id="u", now=NOW + 9)
    page = run_now(store.of_user("u", now=NOW + 9, limit=2, cursor=page.cursor))
    assert [r.key for r in page.records] == ["d", "c"]
    page = run_now(store.of_user("u", now=NOW + 9, limit=2, cursor=page.cursor))
    assert ([r.key for r in page.records], page.cursor) == (["b", "a"], None)


@pytest.mark.parametrize("many", [2, FEW, FEW + 1, 3 * FEW])
def test_users_of_any_number_of_sessions_are_listed_while_they_come_and_go(many: int) -> None:
    """As many as are kept in a tuple, and more, in any order."""
    store, rnd = MemoryStore(), random.Random(1)
    keys = [f"s{n}" for n in range(many)]
    for turn in range(3):
        for n, key in enumerate(keys):
            put(store, key, user_id="u", now=NOW + turn * TOMBSTONE)
            assert len(store._keys_of("u")) == n + 1
            sound(store)
        for n, key in enumerate(rnd.sample(keys, many)):
            assert run_now(store.end_one("u", key, now=NOW + turn * TOMBSTONE, token="t"))
            assert len(store._keys_of("u")) == many - n - 1
            sound(store)
    assert not store._users


@pytest.mark.parametrize("cursor", ["", "x", "one two", "\x00"])
def test_a_strange_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor="):
        run_now(MemoryStore().of_user("u", now=NOW, cursor=cursor))


# ------------------------------------------------------------------------------------------------ several workers


def test_it_warns_when_there_are_several_workers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    MemoryStore()
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("WEB_CONCURRENCY is 4, but the memory store is not shared")
    assert "sqlite:" in line.getMessage()


@pytest.mark.parametrize("workers", [None, "", "1", "many"])
def test_it_does_not_warn_of_one(
    workers: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    if workers is not None:
        monkeypatch.setenv("WEB_CONCURRENCY", workers)
    put(MemoryStore(), "a")
    assert not caplog.records


def _in_a_worker(store: MemoryStore, lines: "multiprocessing.Queue[list[str]]") -> None:
    caught: list[str] = []

    class Catch(logging.Handler):
        def emit(self, line: logging.LogRecord) -> None:
            caught.append(line.getMessage())

    logging.getLogger("coatcheck").addHandler(Catch())
    put(store, "b")
    put(store, "c")
    lines.put(caught)


def test_it_warns_once_in_a_forked_worker() -> None:
    fork = multiprocessing.get_context("fork")
    lines = fork.Queue()
    worker = fork.Process(target=_in_a_worker, args=(MemoryStore(), lines))
    worker.start()
    [line] = lines.get(timeout=60)
    worker.join(timeout=60)
    assert line.startswith(
        "this process was forked after the store was built, but the memory store is not shared"
    )


# ------------------------------------------------------------------------------------------------------- threads


@pytest.fixture
def one_store() -> Iterator[MemoryStore]:
    store = MemoryStore(max_sessions=50)
    yield store
    sound(store)


def test_threads_on_one_small_store(one_store: MemoryStore) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rnd = random.Random(seed)
        try:
            for step in range(1_500):
                _anything(one_store, rnd, NOW + step, f"{seed}-{step}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_its_repr_shows_no_session() -> None:
    store = MemoryStore(max_sessions=7)
    put(store, "a", user_id="u")
    assert repr(store) == "<MemoryStore, 1 of at most 7>"


# ------------------------------------------------------------------------------------------------------------- memory


def made_anew(text: str) -> str:
    return text.encode().decode()


def login(key: str, user_id: str, browser: str = "Firefox") -> Record:
    """A login whose strings are nobody else's, as each request makes its own."""
    by = Login(user_agent=made_anew(browser), address=made_anew("192.0.2.0/24"))
    return changed(record(key, user_id=made_anew(user_id)), login=by)


def logged_in(store: MemoryStore, key: str, user_id: str, browser: str = "Firefox") -> Record:
    """Log in, and return what the store keeps: equal to what it was given, whatever it shares."""
    new = login(key, user_id, browser)
    assert run_now(store.admit(new, expected=None, terms=Terms(), now=NOW)) is SAVED
    kept = run_now(store.load(key, now=NOW))
    assert isinstance(kept, Record)
    assert kept == new
    return kept


def test_sessions_of_a_user_share_what_is_equal_and_nothing_else() -> None:
    store = MemoryStore()
    one, two = logged_in(store, "a", "user-1"), logged_in(store, "b", "user-1")
    assert two.user_id is one.user_id
    assert two.login is one.login
    elsewhere = logged_in(store, "c", "user-1", "Chrome/1")
    assert elsewhere.user_id is one.user_id
    other = logged_in(store, "d", "user-2", "Chrome/1")
    assert other.login is not None
    assert elsewhere.login is not None
    assert other.login.user_agent is elsewhere.login.user_agent
    assert [(r.key, r.user_id) for r in (elsewhere, other)] == [("c", "user-1"), ("d", "user-2")]
    sound(store)


def test_a_login_that_is_renewed_shares_with_the_one_before() -> None:
    store = MemoryStore()
    before = logged_in(store, "a", "user-1")
    again = changed(login("a", "user-1"), versions=("2", before.version))
    assert run_now(store.admit(again, expected=before.version, terms=Terms(), now=NOW)) is SAVED
    kept = run_now(store.load("a", now=NOW))
    assert isinstance(kept, Record)
    assert kept == again
    assert kept.login is before.login


def test_made_up_browsers_do_not_pile_up() -> None:
    store = MemoryStore(max_sessions=10)
    for n in range(3 * BROWSERS):
        logged_in(store, f"s{n}", f"u{n}", f"Made-up/{n}")
    assert len(store._sharing._browsers) <= BROWSERS
    long = "x" * (LONGEST + 1)
    logged_in(store, "long", "u", long)
    assert long not in store._sharing._browsers


@pytest.mark.parametrize("logged_in", [False, True])
def test_an_idle_session_takes_less_than_a_kilobyte_beside_what_is_in_it(logged_in: bool) -> None:
    """Of many, whose deadlines are as far apart as those of 100,000 visitors in a day."""
    many, now = 10_000, NOW
    options = Options(on_event=lambda event: None)  # whatever listens to the log here keeps it
    sessions = SessionManager(MemoryStore(), options=options, clock=Clock(time=lambda: now))

    def visit(number: int) -> int:
        nonlocal now
        now += 0.864
        session = sessions.session()
        session["cart"] = [number]
        if logged_in:
            session.login(f"user-{number}")
        sessions.commit(session)
        assert session._record is not None
        return len(session._record.data)

    visit(0)
    gc.collect()
    tracemalloc.start()
    try:
        content = sum(visit(number) for number in range(1, many + 1))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sessions.count() == many + 1
    assert (taken - content) / many < 1000
