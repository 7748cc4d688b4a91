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
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from coatcheck.core import codec
from coatcheck.core.ids import Ticket
from coatcheck.core.record import Lifetime, Login
from coatcheck.core.session import BaseSession, Phase, Standing
from coatcheck.errors import ConfigurationError, CorruptRecord, TooLate, UnstorableValue, UsageError
from coatcheck.manager import Session, SessionManager
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
        self.dict = copy.deepcopy(self.stored)
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
