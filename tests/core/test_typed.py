"""Typed sessions: `session.data` for msgspec Structs, dataclasses and pydantic models."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from coatcheck.core import codec
from coatcheck.core.session import BaseSession
from coatcheck.core.typed import Schema
from coatcheck.errors import SchemaMismatch, UnstorableValue
from tests.core.sessions import Plain, live, new, settled


class Size(Enum):
    S = "small"
    L = "large"


class StructItem(msgspec.Struct):
    name: str
    n: int = 1


class StructCart(msgspec.Struct):
    items: list[StructItem] = []
    note: str | None = None
    size: Size = Size.S
    due: datetime | None = None
    day: date | None = None
    price: Decimal = Decimal("0.10")
    owner: UUID | None = None
    raw: bytes = b""
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = set()
    counts: dict[int, int] = {}


@dataclass
class DataItem:
    name: str
    n: int = 1


@dataclass(slots=True)
class DataCart:
    items: list[DataItem] = field(default_factory=list)
    note: str | None = None
    size: Size = Size.S
    due: datetime | None = None
    day: date | None = None
    price: Decimal = Decimal("0.10")
    owner: UUID | None = None
    raw: bytes = b""
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)


class ModelItem(pydantic.BaseModel):
    name: str
    n: int = 1


class ModelCart(pydantic.BaseModel):
    items: list[ModelItem] = []
    note: str | None = None
    size: Size = Size.S
    due: datetime | None = None
    day: date | None = None
    price: Decimal = Decimal("0.10")
    owner: UUID | None = None
    raw: bytes = b""
    pair: tuple[int, str] = (1, "a")
    tags: set[str] = set()
    counts: dict[int, int] = {}


KINDS = [(StructCart, StructItem), (DataCart, DataItem), (ModelCart, ModelItem)]
kinds = pytest.mark.parametrize(("cart", "item"), KINDS, ids=["struct", "dataclass", "pydantic"])


class Typed(Plain):
    schema: Schema | None = None

    @property
    def _schema(self) -> Schema | None:
        return self.schema


def typed(model: type[Any], data: dict[str, Any] | None = None) -> Typed:
    """A session that was loaded with this data, and speaks this model."""
    source = new() if data is None else live(data)
    session = Typed()
    session._standing, session._record = source._standing, source._record
    session.schema = Schema(model)
    return session


FULL: dict[str, Any] = {
    "note": "ring twice",
    "size": Size.L,
    "due": datetime(2026, 1, 2, 3, 4),
    "day": date(2026, 1, 2),
    "price": Decimal("1.10"),
    "owner": UUID(int=7),
    "raw": b"\x00\xff",
    "pair": (2, "b"),
    "tags": {"x", "y"},
    "counts": {1: 2},
}


@kinds
def test_every_field_comes_back_as_it_was(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart)
    for name, value in FULL.items():
        setattr(session.data, name, value)
    session.data.items.append(item(name="apple", n=3))
    stored = settled(session)

    again = typed(cart, stored)
    for name, value in FULL.items():
        back = getattr(again.data, name)
        assert (back, type(back)) == (value, type(value)), name
    assert again.data.items == [item(name="apple", n=3)]
    assert not again.modified


@kinds
def test_mere_reading_is_no_change(cart: type[Any], item: type[Any]) -> None:
    for data in (None, {}, {"items": [{"name": "apple", "n": 1}]}, {"items": [{"name": "apple"}]}):
        session = typed(cart, data)
        assert session.data.note is None
        assert list(session.data.items) == session.data.items
        assert not session.modified


@kinds
def test_a_new_session_begins_with_the_defaults_and_stores_what_differs(
    cart: type[Any], item: type[Any]
) -> None:
    session = typed(cart)
    assert session.data.items == []
    session.data.note = "hello"
    assert session.modified
    assert settled(session) == {"note": "hello"}


@kinds
def test_a_field_set_back_to_its_default_is_stored_so(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {"note": "hello"})
    session.data.note = None
    assert settled(session) == {"note": None}


@kinds
def test_keys_the_schema_does_not_know_are_kept(cart: type[Any], item: type[Any]) -> None:
    """Rolling deploys: the older release must not lose what the newer one stored."""
    session = typed(cart, {"from_a_newer_release": [1], "note": "a"})
    session.data.note = "b"
    assert settled(session) == {"from_a_newer_release": [1], "note": "b"}


@kinds
def test_what_is_held_across_a_commit_is_still_tracked(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {})
    data = session.data
    data.items.append(item(name="apple"))
    assert settled(session) == {"items": [{"name": "apple", "n": 1}]}
    assert not session.modified
    data.items[0].n = 5
    assert session.modified
    assert settled(session) == {"items": [{"name": "apple", "n": 5}]}


@kinds
def test_what_does_not_fit_is_told(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {"items": "not a list"})
    with pytest.raises(SchemaMismatch, match=f"does not fit {cart.__name__}"):
        _ = session.data
    session["items"] = []
    assert session.data.items == []


@kinds
def test_a_value_the_store_cannot_keep_is_refused_at_commit(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {})
    session.data.counts = {1: object()}
    with pytest.raises(UnstorableValue):
        session._changes()


# ------------------------------------------------------------------------------------------- both ways at once


@kinds
def test_what_is_set_by_key_and_what_is_set_by_field_are_both_kept(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {"n": 1})
    session.data.note = "typed"
    session.increment("n")
    session["more"] = True
    assert settled(session) == {"n": 2, "note": "typed", "more": True}


@kinds
def test_a_key_that_was_set_by_key_wins_over_a_field_that_was_only_read(
    cart: type[Any], item: type[Any]
) -> None:
    session = typed(cart, {"note": "before"})
    assert session.data.note == "before"
    session["note"] = "by key"
    assert settled(session) == {"note": "by key"}
    assert session["note"] == "by key"


@kinds
def test_a_field_counts_as_an_assignment_over_an_operation(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {"note": "a"})
    session.apply("note", lambda note: note + "b")
    session.data.note = "c"
    changes = session._changes()
    assert (dict(changes.sets), dict(changes.ops)) == ({"note": b'"c"'}, {})


@kinds
def test_clear_and_logout_clear_the_object_too(cart: type[Any], item: type[Any]) -> None:
    for clear in (BaseSession.clear, BaseSession.logout):
        session = typed(cart, {"note": "a"})
        session.data.note = "b"
        clear(session)
        assert session.data.note is None
        assert settled(session) == {}


# --------------------------------------------------------------------------------------------- other names on the wire


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    user_name: str = ""


class Aliased(pydantic.BaseModel):
    user_name: str = pydantic.Field(default="", alias="userName")


@pytest.mark.parametrize("model", [Renamed, Aliased])
def test_a_model_that_renames_its_fields_finds_them_again(model: type[Any]) -> None:
    session = typed(model, {})
    session.data.user_name = "eve"
    stored = settled(session)
    assert stored == {"userName": "eve"}
    again = typed(model, stored)
    assert again.data.user_name == "eve"
    again.data.user_name = ""
    assert settled(again) == {"userName": ""}


def test_the_codec_agrees_that_a_typed_session_is_plain_data() -> None:
    session = typed(StructCart)
    for name, value in FULL.items():
        setattr(session.data, name, value)
    assert codec.split(codec.join(session._changes().sets)).keys() == FULL.keys()


@kinds
def test_what_was_set_by_field_is_what_an_operation_works_on(cart: type[Any], item: type[Any]) -> None:
    session = typed(cart, {"note": "a"})
    session.data.note = "b"
    assert (session["note"], dict(session)) == ("b", {"note": "b"})
    assert session.apply("note", lambda note: note + "c") == "bc"
    assert settled(session) == {"note": "bc"}
    session.data.items.append(item(name="apple"))
    del session["items"]
    assert settled(session) == {"note": "bc"}
