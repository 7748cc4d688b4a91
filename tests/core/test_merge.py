"""The three-way merge: a table of PROTOCOL rules 13-17, and what holds for any two requests whatever they do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.core import codec
from coatcheck.core.merge import (
    MISSING,
    Changes,
    Merged,
    Op,
    Resolver,
    merge,
    own,
    unopposed,
)
from coatcheck.core.session import BaseSession
from coatcheck.errors import SessionConflict
from tests.core.sessions import live, parts_of, values_of

Do = Callable[[BaseSession], Any]
Data = dict[str, Any]


def changes_of(base: Data, do: Do) -> Changes:
    """What a request does to a session that was loaded with `base`."""
    session = live(base)
    session._open()
    do(session)
    return session._changes()


def after(base: Data, do: Do) -> Data:
    """What is stored when nobody came between."""
    return values_of(unopposed(parts_of(base), changes_of(base, do)))


def both(base: Data, mine: Do, theirs: Do, resolvers: dict[str, Resolver] | None = None) -> Merged:
    """They commit first, then I do; both loaded `base`."""
    return merge(parts_of(base), changes_of(base, mine), parts_of(after(base, theirs)), resolvers)


# --------------------------------------------------------------------------------------------------------- the table


class Row(NamedTuple):
    base: Data
    mine: Do
    theirs: Do
    expected: Data
    conflicts: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def put(key: str, value: Any) -> Do:
    return lambda s: s.__setitem__(key, value)


def drop(key: str) -> Do:
    return lambda s: s.pop(key)


def nothing(session: BaseSession) -> None:
    pass


def inner(change: Callable[[Any], Any], key: str = "d") -> Do:
    return lambda s: change(s[key])


def clear_then(do: Do) -> Do:
    def clear(session: BaseSession) -> None:
        session.clear()
        do(session)

    return clear


def append(item: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda items: [*items, item]


ROWS = {
    # rule 13: per key, into dicts; lists and scalars are atoms
    "unchanged by me": Row({"a": 1}, nothing, put("a", 2), {"a": 2}),
    "unchanged by them": Row({"a": 1}, put("a", 2), nothing, {"a": 2}),
    "different keys": Row({"a": 1, "b": 1}, put("a", 2), put("b", 2), {"a": 2, "b": 2}),
    "new keys": Row({}, put("a", 1), put("b", 2), {"a": 1, "b": 2}),
    "the same atom": Row({"a": 1}, put("a", 2), put("a", 3), {"a": 2}, ("a",)),
    "the same atom, the same value": Row({"a": 1}, put("a", 2), put("a", 2), {"a": 2}),
    "the same new key": Row({}, put("a", 1), put("a", 2), {"a": 1}, ("a",)),
    "1 and 1.0 are two values": Row({"a": 0}, put("a", 1), put("a", 1.0), {"a": 1}, ("a",)),
    "True and 1 are two values": Row({"a": 0}, put("a", True), put("a", 1), {"a": True}, ("a",)),
    "lists are atoms": Row({"l": [1]}, put("l", [1, 2]), put("l", [1, 3]), {"l": [1, 2]}, ("l",)),
    "dicts are not": Row(
        {"d": {"x": 1, "y": 1}}, inner(lambda d: d.update(x=2)), inner(lambda d: d.update(y=2)), {"d": {"x": 2, "y": 2}}
    ),
    "however deep": Row(
        {"d": {"e": {"x": 1, "y": 1}}},
        inner(lambda d: d["e"].update(x=2)),
        inner(lambda d: d["e"].update(y=2)),
        {"d": {"e": {"x": 2, "y": 2}}},
    ),
    "the same atom within": Row(
        {"d": {"e": {"x": 1}}},
        inner(lambda d: d["e"].update(x=2)),
        inner(lambda d: d["e"].update(x=3)),
        {"d": {"e": {"x": 2}}},
        ("d.e.x",),
    ),
    "new dicts under one key": Row({}, put("d", {"x": 1}), put("d", {"y": 2}), {"d": {"y": 2, "x": 1}}),
    "a dict and an atom": Row({"d": 1}, put("d", {"x": 1}), put("d", 2), {"d": {"x": 1}}, ("d",)),
    "the order of keys is no change": Row(
        {"d": {"x": 1, "y": 2}}, put("d", {"y": 2, "x": 3}), put("d", {"y": 2, "x": 1}), {"d": {"x": 3, "y": 2}}
    ),
    # rule 14: deleting wins, whichever commits last
    "deleted by me": Row({"a": 1, "b": 1}, drop("a"), put("b", 2), {"b": 2}),
    "deleted by them": Row({"a": 1, "b": 1}, put("b", 2), drop("a"), {"b": 2}),
    "deleted by both": Row({"a": 1}, drop("a"), drop("a"), {}),
    "deleted by me, changed by them": Row({"a": 1}, drop("a"), put("a", 2), {}, ("a",)),
    "changed by me, deleted by them": Row({"a": 1}, put("a", 2), drop("a"), {}, ("a",)),
    "added again by me, changed by them": Row(
        {"a": 1}, lambda s: (s.pop("a"), put("a", 3)(s)), put("a", 2), {"a": 3}, ("a",)
    ),
    "added again as it was, changed by them": Row({"a": 1}, lambda s: (s.pop("a"), put("a", 1)(s)), put("a", 2), {"a": 2}),
    "deleted within by me": Row(
        {"d": {"x": 1, "y": 1}}, inner(lambda d: d.pop("x")), inner(lambda d: d.update(y=2)), {"d": {"y": 2}}
    ),
    "deleted within by me, changed by them": Row(
        {"d": {"x": 1}}, inner(lambda d: d.pop("x")), inner(lambda d: d.update(x=2)), {"d": {}}, ("d.x",)
    ),
    "changed within by me, deleted by them": Row(
        {"d": {"x": 1}}, inner(lambda d: d.update(x=2)), inner(lambda d: d.pop("x")), {"d": {}}, ("d.x",)
    ),
    "changed within by me, the whole deleted by them": Row(
        {"d": {"x": 1}}, inner(lambda d: d.update(x=2)), drop("d"), {}, ("d",)
    ),
    "deleted within by both": Row({"d": {"x": 1}}, inner(lambda d: d.pop("x")), inner(lambda d: d.pop("x")), {"d": {}}),
    "cleared by me": Row({"a": 1}, BaseSession.clear, put("b", 2), {}),
    "cleared by me, then set": Row({"a": 1}, clear_then(put("c", 3)), put("b", 2), {"c": 3}),
    "cleared by me, then set as it was": Row({"a": 1}, clear_then(put("a", 1)), put("a", 2), {"a": 1}),
    "cleared by them": Row({"a": 1, "b": 1}, put("a", 2), BaseSession.clear, {}, ("a",)),
    "cleared by them, new from me": Row({"a": 1}, put("b", 2), BaseSession.clear, {"b": 2}),
    # rule 15: operations are applied again
    "increments": Row({"n": 1}, lambda s: s.increment("n"), lambda s: s.increment("n", 10), {"n": 12}),
    "increments from nothing": Row({}, lambda s: s.increment("n"), lambda s: s.increment("n"), {"n": 2}),
    "increment of what they set": Row({"n": 1}, lambda s: s.increment("n"), put("n", 40), {"n": 41}),
    "apply": Row(
        {"l": [0]}, lambda s: s.apply("l", append(1)), lambda s: s.apply("l", append(2)), {"l": [0, 2, 1]}
    ),
    "several on one key": Row(
        {"n": 1}, lambda s: (s.increment("n"), s.apply("n", lambda n: n * 10)), put("n", 5), {"n": 60}
    ),
    "increment of what they deleted": Row({"n": 1}, lambda s: s.increment("n"), drop("n"), {}, (), ("n",)),
    "increment of what they deleted, with a default": Row(
        {"n": 7}, lambda s: s.increment("n", default=0), drop("n"), {"n": 1}
    ),
    "increment of what they cleared": Row({"n": 1}, lambda s: s.increment("n"), BaseSession.clear, {}, (), ("n",)),
    "increment after my own clear": Row(
        {"n": 7}, clear_then(lambda s: s.increment("n")), lambda s: s.increment("n"), {"n": 1}
    ),
    "assigned by me, incremented by them": Row({"n": 1}, put("n", 0), lambda s: s.increment("n"), {"n": 0}, ("n",)),
    "incremented, then changed in place": Row(
        {"l": [0]}, lambda s: s.apply("l", append(1)).append(2), lambda s: s.apply("l", append(3)), {"l": [0, 1, 2]}, ("l",)
    ),
    "flashes": Row(
        {},
        lambda s: s.flash("mine"),
        lambda s: s.flash("theirs"),
        {"_flashes": [("message", "theirs"), ("message", "mine")]},
    ),
    "flashes that were shown": Row(
        {"_flashes": [("message", "old")]}, lambda s: s.flashes(), lambda s: s.flash("new"), {}, ("_flashes",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_table(row: Row) -> None:
    merged = both(row.base, row.mine, row.theirs)
    assert codec.same(codec.join(merged.parts), codec.join(parts_of(row.expected)))
    assert merged.conflicts == row.conflicts
    assert merged.dropped == row.dropped


def test_a_default_that_the_function_changes_in_place_is_used_once() -> None:
    def add(items: list[int]) -> list[int]:
        items.append(1)
        return items

    def mine(session: BaseSession) -> None:
        session.apply("items", add, default=[])

    assert values_of(both({}, mine, put("other", 1)).parts) == {"other": 1, "items": [1]}


# ------------------------------------------------------------------------------------------------------ resolvers


def test_a_resolver_settles_what_both_changed() -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def union(base: Any, theirs: Any, mine: Any) -> Any:
        seen.append((base, theirs, mine))
        return sorted({*theirs, *mine})

    merged = both({"tags": ["a"]}, put("tags", ["a", "b"]), put("tags", ["a", "c"]), {"tags": union})
    assert values_of(merged.parts) == {"tags": ["a", "b", "c"]}
    assert merged.conflicts == ()
    assert seen == [(["a"], ["a", "c"], ["a", "b"])]


def test_a_resolver_sees_absence_and_may_answer_it() -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def resolve(*sides: Any) -> Any:
        seen.append(sides)
        return MISSING

    assert both({"a": 1}, put("a", 2), drop("a"), {"a": resolve}).parts == {}
    assert values_of(both({}, put("a", 2), put("a", 3), {"a": resolve}).parts) == {}
    assert seen == [(1, MISSING, 2), (MISSING, 3, 2)]


@pytest.mark.parametrize("theirs", [nothing, put("other", 1), put("tags", ["mine"])])
def test_a_resolver_is_not_asked_where_only_one_side_changed_or_both_agree(theirs: Do) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("asked")

    assert values_of(both({"tags": []}, put("tags", ["mine"]), theirs, {"tags": never}).parts)["tags"] == [
        "mine"
    ]


def test_what_is_missing_says_so() -> None:
    assert repr(MISSING) == "MISSING"
    assert not MISSING


# ---------------------------------------------------------------------------------------------- what a request did


def test_only_what_the_request_did_itself() -> None:
    """Rules 5 and 9: the content of a session that is not built on the one that was loaded."""
    base = {"kept": 1, "n": 5, "d": {"x": 1, "y": {"z": 1}}, "l": [1]}

    def do(session: BaseSession) -> None:
        session["new"] = 1
        session["d"]["y"]["w"] = 2
        session["l"].append(2)
        session.increment("n")
        session.increment("m", default=10)
        del session["kept"]

    mine = own(parts_of(base), changes_of(base, do))
    assert values_of(mine) == {"new": 1, "d": {"y": {"w": 2}}, "l": [1, 2], "m": 11}


def test_changes_are_true_if_there_are_any() -> None:
    assert not Changes()
    assert Changes(sets={"a": b"1"})
    assert Changes(deletes=frozenset({"a"}))
    assert Changes(cleared=True)
    assert Changes(ops={"a": (Op(abs),)})


# ---------------------------------------------------------------------------------------- whatever two requests do

KEYS = st.sampled_from(["a", "b", "c"])
ATOMS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, "x", (1,)])
VALUES = st.recursive(
    ATOMS, lambda v: st.lists(v, max_size=2) | st.dictionaries(KEYS, v, max_size=3), max_leaves=6
)
BASES = st.builds(
    lambda data, n: data if n is None else data | {"n": n},
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.none() | st.integers(0, 9),
)


@dataclass(frozen=True)
class Step:
    """One thing a request does, at a path of keys; "increment" and "forget" are about the number "n"."""

    what: str
    path: tuple[str, ...]
    value: Any

    def __call__(self, session: BaseSession) -> None:
        *way, key = self.path
        data: Any = session
        for name in way:
            data = data.get(name) if isinstance(data, (dict, BaseSession)) else None
        if self.what == "clear":
            session.clear()
        elif not isinstance(data, (dict, BaseSession)):
            return
        elif self.what == "delete":
            data.pop(key, None)
        elif self.what == "forget":
            data.pop("n", None)
        elif self.what == "increment":
            session.increment("n", 2)
        else:
            data[key] = self.value


PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)
STEPS = st.builds(
    Step, st.sampled_from(["set", "set", "delete", "increment", "forget", "clear"]), PATHS, VALUES
)


@dataclass(frozen=True)
class Steps:
    steps: tuple[Step, ...]

    def __call__(self, session: BaseSession) -> None:
        for step in self.steps:
            step(session)


REQUESTS = st.lists(STEPS, max_size=4).map(lambda steps: Steps(tuple(steps)))


def same(a: Data, b: Data) -> bool:
    return codec.same(codec.join(parts_of(a)), codec.join(parts_of(b)))


def test_counting_anew_after_a_delete_begins_at_nothing_whoever_else_writes() -> None:
    def recount(session: BaseSession) -> None:
        del session["n"]
        session.increment("n", 2)

    assert values_of(both({"n": 1}, recount, put("other", 1)).parts) == {"n": 2, "other": 1}


@given(BASES, REQUESTS)
def test_merging_with_an_unchanged_side_gives_the_other(base: Data, request: Steps) -> None:
    alone = after(base, request)
    assert same(values_of(both(base, request, nothing).parts), alone)
    assert same(values_of(both(base, nothing, request).parts), alone)
    assert both(base, request, nothing).conflicts == both(base, nothing, request).conflicts == ()


@given(BASES, REQUESTS)
def test_two_that_do_the_same_never_conflict(base: Data, request: Steps) -> None:
    again = Steps(tuple(step for step in request.steps if step.what != "increment"))
    assert same(values_of(both(base, again, again).parts), after(base, again))


@given(BASES, REQUESTS, REQUESTS)
def test_what_either_side_deleted_is_gone(base: Data, mine: Steps, theirs: Steps) -> None:
    merged = values_of(both(base, mine, theirs).parts)
    there = after(base, theirs)
    for key in changes_of(base, mine).deletes:
        assert key not in merged
    for key in base.keys() - there.keys():
        if key in merged:  # only what was cleared and set anew, or counted from a default, may be there again
            assert "clear" in {step.what for step in mine.steps} or changes_of(base, mine).ops


@given(BASES, REQUESTS, REQUESTS)
def test_clearing_leaves_nothing_that_was_there(base: Data, mine: Steps, theirs: Steps) -> None:
    clearing = Steps((Step("clear", ("a",), None), *mine.steps))
    assert same(values_of(both(base, clearing, theirs).parts), after(base, clearing))


def apart(letter: str) -> st.SearchStrategy[Steps]:
    """Requests that keep to their own keys: one of the session's, one of every dict under "c", and the counter."""
    inner = st.lists(KEYS, max_size=2).map(tuple)
    paths = inner.map(lambda rest: (letter, *rest)) | inner.map(lambda rest: ("c", letter, *rest))
    steps = st.builds(Step, st.sampled_from(["set", "set", "delete", "increment"]), paths, VALUES)
    return st.lists(steps, min_size=1, max_size=4).map(lambda steps: Steps(tuple(steps)))


@given(BASES, apart("a"), apart("b"))
def test_changes_at_different_places_come_out_the_same_in_either_order(
    base: Data, one: Steps, other: Steps
) -> None:
    forth, back = both(base, one, other), both(base, other, one)
    assert same(values_of(forth.parts), values_of(back.parts))
    assert same(values_of(forth.parts), after(after(base, one), other))
    assert forth.conflicts == back.conflicts == ()


@given(st.integers(), st.lists(st.integers(-5, 5), min_size=2, max_size=6))
def test_every_increment_counts_once(start: int, amounts: list[int]) -> None:
    """Any number of requests that all loaded the same and commit one after the other."""
    start %= 1000
    stored = parts_of({"n": start})
    for amount in amounts:
        mine = changes_of({"n": start}, lambda s, by=amount: s.increment("n", by))  # type: ignore[misc]  # bound now
        stored = merge(parts_of({"n": start}), mine, stored).parts
    assert values_of(stored) == {"n": start + sum(amounts)}


# ------------------------------------------------------------------ an operation that cannot be applied to the fresh value


def test_an_operation_that_the_fresh_value_does_not_take_is_a_conflict() -> None:
    """Another request put a text where this one counts: 409 and the page again, not a bare TypeError out of the commit."""
    mine = Changes(ops={"n": (Op(lambda value: value + 1),)}, estimates={"n": b"2"})
    with pytest.raises(SessionConflict) as conflict:
        merge({"n": b"1"}, mine, {"n": b'"many"'})
    assert conflict.value.keys == ("n",)
    assert isinstance(conflict.value.__cause__, TypeError)


def test_an_operation_that_its_own_default_does_not_take_is_one_too() -> None:
    mine = Changes(ops={"n": (Op(lambda value: value + 1, default="none"),)})
    with pytest.raises(SessionConflict):
        own({"n": b"1"}, mine)
