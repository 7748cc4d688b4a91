"""The session as its users know it: a dict that remembers what changed."""

import copy
import logging
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from coatcheck.core import codec
from coatcheck.core.ids import Ticket
from coatcheck.core.merge import NO_CHANGES
from coatcheck.core.record import REMEMBERED, Lifetime, Login
from coatcheck.core.session import OF_LOGIN, BaseSession, Phase, Standing
from coatcheck.errors import ConfigurationError, CorruptRecord, TooLate, UnstorableValue, UsageError
from coatcheck.faces import Session
from coatcheck.manager import SessionManager
from coatcheck.stores.memory import MemoryStore
from tests.core.sessions import NOW, Plain, live, new, record, settled

# ------------------------------------------------------------------------------------- the same behaviour as a dict

KEYS = st.sampled_from(["a", "b", "c", "user.name", "_x", ""])
ATOMS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.text(max_size=3)
    | st.sampled_from([b"\x00", Decimal("1.10"), datetime(2026, 1, 2, tzinfo=UTC), (1, 2), {1, 2}])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


def snapshot(data: MutableMapping[str, Any]) -> dict[str, bytes]:
    """The data with its types: 1, 1.0 and True are three values."""
    return {key: codec.encode(value, key) for key, value in data.items()}


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the exception it raises."""
    try:
        return codec.encode(call(), "")
    except (KeyError, TypeError) as error:
        return type(error)


class LikeADict(RuleBasedStateMachine):
    """A session beside a plain dict, through requests, saves and reloads: nobody can tell them apart."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.sessions = SessionManager(MemoryStore())
        self.session = self.sessions.session()
        self.dict: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.exact = True
        """Nothing was done that counts as a change whatever it comes to: clear() and the operations."""

    @initialize(data=st.dictionaries(KEYS, VALUES, max_size=4))
    def begin(self, data: dict[str, Any]) -> None:
        self.session.update(copy.deepcopy(data))
        self.dict.update(copy.deepcopy(data))
        self.next_request()

    def both(self, do: Callable[[MutableMapping[str, Any]], Any]) -> None:
        assert outcome(lambda: do(self.session)) == outcome(lambda: do(self.dict))

    # -- what a dict does

    @rule(key=KEYS, value=VALUES)
    def assign(self, key: str, value: Any) -> None:
        self.both(lambda data: data.__setitem__(key, copy.deepcopy(value)))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.both(lambda data: data.__delitem__(key))

    @rule(key=KEYS, value=VALUES)
    def delete_and_add_again(self, key: str, value: Any) -> None:
        def change(data: MutableMapping[str, Any]) -> None:
            data.pop(key, None)
            data[key] = copy.deepcopy(value)

        self.both(change)

    @rule(key=KEYS)
    def look_up(self, key: str) -> None:
        self.both(lambda data: [data.get(key), key in data])
        self.both(lambda data: data[key])

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        self.both(lambda data: data.pop(key))

    @rule()
    def pop_the_last(self) -> None:
        self.both(lambda data: data.popitem())

    @rule(key=KEYS, value=VALUES)
    def set_default(self, key: str, value: Any) -> None:
        self.both(lambda data: data.setdefault(key, copy.deepcopy(value)))

    @rule(other=st.dictionaries(KEYS, VALUES, max_size=3))
    def update(self, other: dict[str, Any]) -> None:
        self.both(lambda data: data.update(copy.deepcopy(other)))

    @rule()
    def clear(self) -> None:
        self.both(lambda data: data.clear())
        self.exact = False

    @rule(key=KEYS, value=VALUES)
    def change_in_place(self, key: str, value: Any) -> None:
        def change(data: MutableMapping[str, Any]) -> None:
            container = data.get(key)
            if isinstance(container, list):
                container.append(copy.deepcopy(value))
            elif isinstance(container, dict):
                container["in place"] = copy.deepcopy(value)

        self.both(change)

    @rule(key=KEYS)
    def change_and_change_back(self, key: str) -> None:
        def change(data: MutableMapping[str, Any]) -> None:
            if key in data:
                value = data[key]
                data[key] = "something else"
                data[key] = value

        self.both(change)

    # -- objects the handler holds

    @rule(target=held, key=KEYS)
    def hold(self, key: str) -> tuple[Any, Any]:
        return self.session.get(key), self.dict.get(key)

    @rule(pair=held)
    def change_what_is_held(self, pair: tuple[Any, Any]) -> None:
        for container in pair:
            if isinstance(container, list):
                container.append("held")
            elif isinstance(container, dict):
                container["held"] = True

    @rule(pair=consumes(held), key=KEYS)
    def put_what_is_held(self, pair: tuple[Any, Any], key: str) -> None:
        self.session[key], self.dict[key] = copy.deepcopy(pair[0]), copy.deepcopy(pair[1])

    # -- what only a session does

    @rule(key=KEYS, by=st.integers(-3, 3))
    def increment(self, key: str, by: int) -> None:
        if isinstance(self.dict.get(key, 0), (int, float)):
            self.dict[key] = self.dict.get(key, 0) + by
            assert codec.encode(self.session.increment(key, by), "") == codec.encode(self.dict[key], "")
            self.exact = False

    @rule(key=KEYS, value=VALUES)
    def apply(self, key: str, value: Any) -> None:
        if isinstance(self.dict.get(key, []), list):
            # A new list, not the one that may be held: the function gets a copy.
            self.dict[key] = copy.deepcopy([*self.dict.get(key, []), value])
            self.session.apply(key, lambda items: [*items, copy.deepcopy(value)], default=[])
            self.exact = False

    @precondition(lambda self: self.session._standing is Standing.LIVE or self.dict)
    @rule()
    def save(self) -> None:
        self.session.save()
        self.committed()

    @precondition(lambda self: self.session._standing is Standing.LIVE)
    @rule()
    def reload(self) -> None:
        self.session.reload()
        assert snapshot(self.session) == snapshot(self.stored)
        # In the order that is stored: to delete a key and set it again to the same value stores nothing.
        self.dict = {key: copy.deepcopy(self.stored[key]) for key in self.session}
        self.exact = True

    @rule()
    def next_request(self) -> None:
        self.sessions.commit(self.session)
        record, verifier = self.session._record, self.session._verifier
        self.session = self.sessions.session(Ticket(record.key, verifier) if record and verifier else None)
        self.committed()
        self.dict = copy.deepcopy(self.dict)  # what the last request held is nothing to this one

    def committed(self) -> None:
        assert snapshot(self.session) == snapshot(self.dict)
        # The order of keys is a request's own: no database promises to keep it.
        self.dict = {key: self.dict[key] for key in self.session}
        self.stored = copy.deepcopy(self.dict)
        self.exact = True

    # -- at any time

    @invariant()
    def nobody_can_tell_them_apart(self) -> None:
        assert snapshot(self.session) == snapshot(self.dict)
        assert list(self.session) == list(self.dict)
        assert list(self.session.keys()) == list(self.dict.keys())
        assert len(self.session) == len(self.dict)
        assert bool(self.session) is bool(self.dict)
        assert self.session == self.dict

    @invariant()
    def modified_means_that_the_data_differ(self) -> None:
        differs = {k: codec.encode(v, k) for k, v in self.dict.items()} != snapshot(self.stored)
        if differs:
            assert self.session.modified
        elif self.exact:
            assert not self.session.modified


TestLikeADict = LikeADict.TestCase
TestLikeADict.settings = settings(max_examples=400, stateful_step_count=15, deadline=None)


# ------------------------------------------------------------------------------------------------ reading, changing


def test_what_was_changed_in_place_is_noticed_and_changed_back_is_not() -> None:
    session = live({"cart": {"lines": [{"n": 1}]}})
    assert not session.modified
    session["cart"]["lines"][0]["n"] += 1
    assert session.modified
    session["cart"]["lines"][0]["n"] -= 1
    assert not session.modified


def test_reading_is_no_change_and_equal_spellings_of_other_writers_are_none_either() -> None:
    """Rule 17: our own re-encoding is compared, never foreign bytes."""
    session = live(b'{ "cart" : {"b" : 1, "a" : "\\u0041"} }')
    assert session["cart"] == {"b": 1, "a": "A"}
    session["cart"] = {"a": "A", "b": 1}
    assert not session.modified
    session["cart"] = {"a": "A", "b": 1.0}
    assert session.modified


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.__setitem__("a", 1),
        lambda s: (s.pop("a"), s.__setitem__("a", 1)),
        lambda s: s.update(dict(s)),
        lambda s: s.setdefault("a", 5),
        lambda s: (s.__setitem__("new", 1), s.__delitem__("new")),
        lambda s: s.get("list"),
        lambda s: s.increment("nothing") and s.pop("nothing"),
        lambda s: list(s.items()),
        lambda s: (s["list"].append(3), s["list"].pop()),
    ],
)
def test_what_comes_to_nothing_is_not_modified(change: Callable[[BaseSession], Any]) -> None:
    session = live({"a": 1, "list": [1, 2]})
    change(session)
    assert not session.modified
    assert session._changes() is NO_CHANGES  # what lifecycle looks at


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.__setitem__("a", True),
        lambda s: s.__setitem__("a", 1.0),
        lambda s: s.pop("a"),
        lambda s: s["list"].append(3),
        lambda s: s.__setitem__("list", (1, 2)),
        lambda s: s.increment("a"),
        lambda s: s.clear(),
        lambda s: s.flash("Saved"),
        lambda s: setattr(s, "modified", True),
    ],
)
def test_what_differs_is_modified(change: Callable[[BaseSession], Any]) -> None:
    session = live({"a": 1, "list": [1, 2]})
    change(session)
    assert session.modified


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), r'^session\["x"\] '),
        ({"a": [1, {"b": object()}]}, r'^session\["x"\]\["a"\]\[1\]\["b"\] '),
        (float("nan"), r'^session\["x"\] '),
        ({1: "one"}, r'^session\["x"\] '),
        (Colour.RED, r'^session\["x"\] '),
        ([2**70 + 1], r'^session\["x"\]\[0\] '),
    ],
)
def test_a_value_that_would_not_come_back_is_refused_where_it_is_assigned(value: Any, path: str) -> None:
    session = live({"x": "before"})
    with pytest.raises(UnstorableValue, match=path):
        session["x"] = value
    assert session["x"] == "before"
    assert not session.modified


def test_what_only_another_writer_writes_can_be_read_and_is_refused_when_it_is_changed() -> None:
    """Python's json wrote a number that we would not: a page that looks at it must not fail."""
    session = live(b'{"x":{"n":10000000000000000000000001},"y":1}')
    assert session["x"] == {"n": 10**25 + 1}
    assert not session.modified
    session["y"] = 2
    assert session._changes().sets == {"y": b"2"}
    session["x"]["n"] += 1
    with pytest.raises(UnstorableValue, match=r'session\["x"\]\["n"\]'):
        session._changes()


def test_a_value_that_became_unstorable_in_place_is_refused_at_commit_with_its_path() -> None:
    session = live({"x": []})
    session["x"].append(object())
    with pytest.raises(UnstorableValue, match=r'^session\["x"\]\[0\] '):
        session._changes()


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_must_be_text(key: Any) -> None:
    session = new()
    with pytest.raises(UnstorableValue, match="a key must be a str"):
        session[key] = 1
    assert key not in session


def test_an_operation_that_gives_what_cannot_be_stored_changes_nothing() -> None:
    session = live({"n": 1})
    with pytest.raises(UnstorableValue):
        session.apply("n", lambda n: object())
    assert session["n"] == 1
    assert not session.modified


def test_the_empty_session_is_false_and_equals_the_empty_dict() -> None:
    session = new()
    assert not session
    assert session == {}
    assert session == new()
    assert session != {"a": 1}
    with pytest.raises(TypeError):
        hash(session)


def test_popitem_of_the_empty_session() -> None:
    with pytest.raises(KeyError, match="empty"):
        new().popitem()


# ----------------------------------------------------------------------------------------- increments and operations


def test_increment_returns_the_estimate_and_counts_from_nothing() -> None:
    session = live({"n": 5})
    assert session.increment("n") == 6
    assert session.increment("n", 10) == 16
    assert session.increment("fresh") == 1
    assert session.increment("given", 2, default=40) == 42
    assert session == {"n": 16, "fresh": 1, "given": 42}


def test_apply_needs_a_value_or_a_default() -> None:
    session = live()
    with pytest.raises(KeyError):
        session.apply("cart", lambda cart: cart)
    assert session.apply("cart", lambda cart: [*cart, "apple"], default=[]) == ["apple"]


def test_the_default_is_not_changed() -> None:
    empty: list[int] = []

    def add(items: list[int]) -> list[int]:
        items.append(1)
        return items

    assert new().apply("items", add, default=empty) == [1]
    assert empty == []


def test_apply_gives_the_function_a_copy() -> None:
    session = live({"items": [1]})

    def fail(items: list[int]) -> list[int]:
        items.append(2)
        raise ZeroDivisionError

    for _ in range(2):  # of what was loaded, then of what was assigned
        with pytest.raises(ZeroDivisionError):
            session.apply("items", fail)
        assert session["items"] == [1]
        session["items"] = [1]


def test_an_operation_on_what_was_assigned_is_part_of_the_assignment() -> None:
    session = live({"n": 5})
    session["n"] = 10
    assert session.increment("n") == 11
    changes = session._changes()
    assert changes.sets == {"n": b"11"}
    assert not changes.ops


def test_an_operation_on_what_was_changed_in_place_is_part_of_that_change() -> None:
    session = live({"items": [1]})
    session["items"].append(2)
    assert session.apply("items", lambda items: [*items, 3]) == [1, 2, 3]
    assert session._changes().sets == {"items": b"[1,2,3]"}


def test_an_operation_whose_outcome_was_changed_in_place_becomes_an_assignment() -> None:
    session = live({"items": [1]})
    session.apply("items", lambda items: [*items, 2]).append(3)
    changes = session._changes()
    assert changes.sets == {"items": b"[1,2,3]"}
    assert not changes.ops


def test_an_outcome_that_was_assigned_back_is_still_tracked() -> None:
    session = live({"items": [1]})
    items = session.apply("items", lambda items: [*items, 2])
    session["items"] = items
    items.append(3)
    assert settled(session) == {"items": [1, 2, 3]}


FORGETTING: tuple[Callable[[BaseSession], Any], ...] = (lambda s: s.pop("n"), lambda s: s.clear())


def test_an_operation_after_delete_or_clear_starts_from_its_default() -> None:
    for forget in FORGETTING:
        session = live({"n": 5})
        forget(session)
        assert session.increment("n") == 1
        assert session.increment("n") == 2
        assert settled(session) == {"n": 2}


def test_an_assignment_ends_an_operation() -> None:
    session = live({"n": 5})
    session.increment("n")
    session["n"] = 0
    assert not session._changes().ops
    session.increment("n")
    del session["n"]
    assert settled(session) == {}


# ----------------------------------------------------------------------------------------------------------- flashes


def test_flashes_are_shown_once_in_order() -> None:
    session = live()
    session.flash("Saved", "success")
    session.flash("Careful")
    assert settled(session) == {"_flashes": [("success", "Saved"), ("message", "Careful")]}
    assert session.flashes() == [("success", "Saved"), ("message", "Careful")]
    assert session.flashes() == []
    assert settled(session) == {}


# -------------------------------------------------------------------------------------------------- after a commit


def test_what_is_held_across_a_commit_is_still_tracked() -> None:
    session = live({"cart": ["apple"]})
    cart = session["cart"]
    cart.append("pear")
    settled(session)
    assert not session.modified
    cart.append("plum")
    assert session["cart"] is cart
    assert settled(session) == {"cart": ["apple", "pear", "plum"]}


def test_the_outcome_of_an_operation_is_tracked_across_a_commit_too() -> None:
    session = live({"cart": []})
    cart = session.apply("cart", lambda cart: [*cart, "apple"])
    settled(session)
    assert session._still() is False  # somebody may hold a container: it has to be looked at
    cart.append("pear")
    assert settled(session) == {"cart": ["apple", "pear"]}


def test_after_a_commit_nothing_is_meant_any_more() -> None:
    session = live({"a": 1})
    session.login("42")
    session.regenerate()
    session.touch()
    session.modified = True
    session.cookie.max_age = 60
    settled(session)
    assert not session._meant
    assert not session.modified


def test_a_key_that_another_request_changed_is_read_anew_after_the_commit() -> None:
    session = live({"mine": [1], "theirs": [1]})
    mine, theirs = session["mine"], session["theirs"]
    mine.append(2)
    session._changes()
    session._settle(record(), {"mine": b"[1,2]", "theirs": b"[9]"})
    assert session["mine"] is mine
    assert session["theirs"] == [9]
    theirs.append("lost, and rightly so: it is a value nobody stores any more")
    assert not session.modified


def test_no_class_of_session_has_an_enums_member_for_a_default() -> None:
    """Python would look the attribute up the slow way, on every instance and on every request."""
    for kind in Session.__mro__:
        assert not [name for name, value in vars(kind).items() if isinstance(value, Enum)], kind


def test_an_untouched_session_has_nothing_new_to_say() -> None:
    assert live()._still()
    session = live({"a": 1})
    assert session["a"] == 1
    session._view = None  # the headers leave, and nobody looks at it again
    assert session._still()
    session["a"] = 2
    assert not session._still()
    settled(session)
    assert session._still()


# -------------------------------------------------------------------------------------------------------- what it is


def test_what_a_stored_login_says_of_itself() -> None:
    session = live(
        {"a": 1},
        user_id="42",
        authenticated_at=NOW - 60,
        login=Login(),
        created_at=NOW - 90,
        seen_at=NOW - 30,
    )
    assert session.user_id == "42"
    assert session.authenticated_at == datetime.fromtimestamp(NOW - 60, UTC)
    assert session.created_at == datetime.fromtimestamp(NOW - 90, UTC)
    assert session.last_seen_at == datetime.fromtimestamp(NOW - 30, UTC)
    assert session.expires_at == session.cookie.expires == datetime.fromtimestamp(NOW + 3600, UTC)
    assert session.handle == session.id == "locator-of-what-is-stored"
    assert not session.is_new


def test_a_login_that_was_only_remembered_proves_nothing() -> None:
    session = live(user_id="42", authenticated_at=NOW - 60, login=Login(method=REMEMBERED))
    assert (session.user_id, session.authenticated_at) == ("42", None)


def test_the_next_login_leaves_behind_what_was_said_of_the_one_before() -> None:
    session = live({OF_LOGIN + "stale": True, "cart": 1}, user_id="42", authenticated_at=NOW, login=Login())
    session.login("42")
    session[OF_LOGIN + "own"] = True
    assert dict(session) == {"cart": 1, OF_LOGIN + "own": True}
    assert settled(session) == {"cart": 1, OF_LOGIN + "own": True}
    session._sign_out()
    assert dict(session) == {"cart": 1}


def test_what_a_new_session_says_of_itself() -> None:
    session = new()
    assert session.is_new
    assert session.handle == session.handle == "locator-of-something-new"
    said = (
        session.user_id,
        session.authenticated_at,
        session.created_at,
        session.last_seen_at,
        session.expires_at,
    )
    assert said == (None,) * 5
    assert session.cookie.max_age is None


def test_a_login_shows_at_once_and_a_logout_too() -> None:
    session = live({"a": 1}, user_id="old")
    session.login(UUID(int=7), method="hwk")
    assert session.user_id == str(UUID(int=7))
    session.logout()
    assert session.user_id is None
    assert session == {}
    assert session.handle == "locator-of-something-new"


@pytest.mark.parametrize("user", [None, "", True, 1.5, b"42", "nul\x00", "x" * 256])
def test_who_logs_in_must_be_somebody(user: Any) -> None:
    session = live()
    with pytest.raises(UsageError, match="user"):
        session.login(user)
    assert session.user_id is None


def test_user_ids_are_text() -> None:
    session = live()
    for user in (42, "42"):
        session.login(user)
        assert session.user_id == "42"


def test_the_cookie_of_this_session() -> None:
    session = live(lifetime=Lifetime(idle=90.0, persistent=True))
    assert session.cookie.max_age == 90
    session.cookie.max_age = timedelta(days=2)
    assert session.cookie.max_age == 172_800
    assert "172800" in repr(session.cookie)
    session.cookie.max_age = None
    assert session.cookie.max_age is None
    with pytest.raises(ConfigurationError, match="milliseconds"):
        session.cookie.max_age = 30 * 86_400_000


def test_neither_id_nor_data_are_in_the_repr(caplog: pytest.LogCaptureFixture) -> None:
    """Checklist 21 and 201: and to look at it neither loads nor counts as access."""
    session = live({"password": "hunter2"})
    session._verifier = "v" * 44
    assert repr(session) == "<Plain live>"
    assert not session.accessed
    session["password"] = "hunter3"
    logging.getLogger().warning("%r", session)
    assert "hunter" not in caplog.text
    assert "vvv" not in caplog.text
    assert repr(session) == "<Plain live modified>"
    assert repr(Plain()) == "<Plain unloaded>"


@pytest.mark.parametrize(
    "look", [len, bool, list, lambda s: "a" in s, lambda s: s.get("a"), lambda s: s.user_id]
)
def test_every_access_counts(look: Callable[[BaseSession], Any]) -> None:
    session = live()
    assert not session.accessed
    look(session)
    assert session.accessed


# ------------------------------------------------------------------------------------------------ when it is too late


def test_a_session_that_nobody_could_load_says_how() -> None:
    with pytest.raises(UsageError, match=r"await get_session\(request\)"):
        Plain()["a"]
    with pytest.raises(NotImplementedError):
        BaseSession()._new_locator()
    assert BaseSession()._client() == ("", "")
    assert BaseSession()._schema is None


def test_once_the_headers_have_left_data_may_change_and_nothing_else() -> None:
    session = live({"a": 1})
    session["a"] = 2
    session._phase = Phase.STREAMING
    session["a"] = 3
    session.increment("n")
    session.clear()
    for what in (
        session.regenerate,
        session.logout,
        lambda: session.login("42"),
        lambda: setattr(session.cookie, "max_age", 5),
    ):
        with pytest.raises(TooLate, match="headers have left"):
            what()


def test_a_new_session_and_a_first_access_are_too_late_once_the_headers_have_left() -> None:
    session = new()
    session._phase = Phase.STREAMING
    with pytest.raises(TooLate, match="new session"):
        session["a"] = 1
    unloaded = Plain()
    unloaded._phase = Phase.STREAMING
    with pytest.raises(TooLate, match="first access"):
        unloaded.get("a")


def test_after_the_response_any_change_raises_and_reading_goes_on() -> None:
    session = live({"a": 1})
    session._phase = Phase.DONE
    assert session["a"] == 1
    changes: list[Callable[[], Any]] = [
        lambda: session.__setitem__("a", 2),
        lambda: session.pop("a"),
        session.clear,
        lambda: session.increment("a"),
        lambda: session.flash("x"),
        lambda: setattr(session, "modified", True),
    ]
    for change in changes:
        with pytest.raises(TooLate, match="response has ended"):
            change()


# ---------------------------------------------------------------------------------------------------- corrupt data


class Watched(Plain):
    """Remembers what the operator was told."""

    told = ""

    def _corrupted(self, error: CorruptRecord) -> None:
        self.told = str(error)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"a":', b"\xff"])
def test_what_is_no_session_is_an_empty_new_one(data: bytes) -> None:
    session = Watched()
    session._standing, session._record = Standing.LIVE, record(data)
    assert dict(session) == {}
    assert session.is_new
    assert session.told


def test_a_value_that_is_none_ends_the_session_when_it_is_read() -> None:
    session = Watched()
    session._standing, session._record = Standing.LIVE, record(b'{"a":{"$datetime":"never"},"b":1}')
    assert session["b"] == 1
    assert session.get("a") is None
    assert session.is_new
    assert session.told


def test_a_value_that_is_none_cannot_be_counted_on() -> None:
    session = live(b'{"n":{"$datetime":"never"},"b":1}')
    assert session.increment("n", default=5) == 6
    assert session == {"n": 6}
    with pytest.raises(KeyError):
        live(b'{"n":{"$datetime":"never"}}').apply("n", str)


def test_a_value_that_is_none_can_be_replaced() -> None:
    session = live(b'{"a":{"$datetime":"never"}}')
    session["a"] = {"now": "well"}
    assert settled(session) == {"a": {"now": "well"}}


# ------------------------------------------------------------------------------------ what belongs to no session yet


def test_what_another_session_may_keep_is_only_what_this_request_did() -> None:
    session = live({"theirs": 1, "cart": {"a": 1, "b": 2}})
    session["mine"] = [1]
    session["cart"]["b"] = 3
    session.login("42")
    session._disown()
    assert session == {"mine": [1], "cart": {"b": 3}}
    assert session.user_id == "42"
    session["mine"].append(2)
    assert settled(session) == {"mine": [1, 2], "cart": {"b": 3}}


def test_nothing_comes_of_clearing_what_is_not_there() -> None:
    """On a stored session clear() means what others may have added meanwhile; a new one has nothing of the kind."""
    for clear in (BaseSession.clear, BaseSession.logout):
        session = new()
        clear(session)
        assert not session._changes()
        assert not session.modified
        assert settled(session) == {}


def test_a_typed_session_asks_for_a_schema() -> None:
    with pytest.raises(ConfigurationError, match="schema="):
        _ = new().data


def test_sessions_are_served_as_a_kind_of_these() -> None:
    assert issubclass(Session, BaseSession)


def test_it_joins_copies_and_reverses_as_a_dict_does() -> None:
    """What code written for a cookie session's dict does."""
    session, plain = live({"a": 1, "b": [2]}), {"a": 1, "b": [2]}
    assert list(reversed(session)) == list(reversed(plain))
    assert session | {"a": 3} == plain | {"a": 3}
    assert {"a": 3, "c": 4} | session == {"a": 3, "c": 4} | plain
    taken = session.copy()
    assert type(taken) is dict
    taken["new"] = 1
    assert not session.modified
    same = session
    session |= {"c": 5}
    assert session is same
    assert settled(session) == plain | {"c": 5}
