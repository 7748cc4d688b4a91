"""What the codec promises: a written value comes back equal and of the same type, everything else is refused with its path."""

import json
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from coatcheck.core import codec, tagged
from coatcheck.core.codec import MAX_DEPTH, decode, encode, join, same, split
from coatcheck.errors import CorruptRecord, UnstorableValue

BERLIN = ZoneInfo("Europe/Berlin")

# ---------------------------------------------------------------------------------------------------- every storable value

fixed_zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
moments = st.builds(
    lambda moment, fold: moment.replace(fold=fold),
    st.datetimes(timezones=st.none() | fixed_zones | st.timezones()),
    st.integers(0, 1),
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = texts | st.sampled_from(["$date", "$dict", "$set", "$new", "$", "__proto__"])
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary()
    | moments
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | texts.map(Markup),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)
values = st.recursive(
    hashables | st.sets(hashables, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def assert_identical(a: Any, b: Any) -> None:
    """Equal, of the same type, and the same in what equality overlooks: -0.0, 1.10, fold, offset, zone."""
    assert type(a) is type(b)
    assert a == b
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            assert_identical(one, other)
    elif isinstance(a, set):
        assert sorted(map(repr, a)) == sorted(map(repr, b))
    elif isinstance(a, datetime):
        assert (a.utcoffset(), a.fold, type(a.tzinfo)) == (b.utcoffset(), b.fold, type(b.tzinfo))
    else:
        assert repr(a) == repr(b)


@given(values)
def test_what_was_written_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    stored = encode(value, "x")
    assert_identical(decode(stored), value)
    assert_identical(decode(msgspec.Raw(stored)), value)


@given(values)
def test_encoding_again_gives_the_same_bytes(value: Any) -> None:
    stored = encode(value, "x")
    assert encode(decode(stored), "x") == stored
    assert same(stored, stored)


@given(plain)
def test_plain_values_are_plain_json_except_what_looks_like_a_tag(value: Any) -> None:
    stored = encode(value, "x")
    if b'"$' not in stored:
        assert json.loads(stored) == value


@given(st.dictionaries(keys, values, max_size=5))
def test_a_session_taken_apart_and_put_together_is_the_same(data: dict[str, Any]) -> None:
    stored = join({key: encode(value, key) for key, value in data.items()})
    parts = split(stored)
    assert join(parts) == stored
    assert_identical({key: decode(part) for key, part in parts.items()}, data)


@given(st.sets(hashables, max_size=6))
def test_equal_sets_have_equal_bytes(value: set[Any]) -> None:
    other = set(reversed(list(value)))
    assert encode(value, "x") == encode(other, "x")


# ---------------------------------------------------------------------------------------------------- the form is for ever

GOLDEN: dict[str, Any] = {
    "null": None,
    "true": True,
    "int": 42,
    "int, lowest": -(2**63),
    "int, highest": 2**64 - 1,
    "int, a double beyond 64 bits": 10**20,
    "float": 0.1,
    "float, integral": 1.0,
    "float, minus zero": -0.0,
    "float, exponent": 1e22,
    "str": 'Zoë "☃" \U0001f600 \x00 </script>',
    "list": [1, [2.5, None]],
    "dict": {"b": 1, "a": {"n": []}},
    "datetime, naive": datetime(2026, 11, 23, 9, 30),
    "datetime, naive, fold": datetime(2026, 10, 25, 2, 30, fold=1),
    "datetime, UTC": datetime(2026, 11, 23, 9, 30, 0, 123456, tzinfo=UTC),
    "datetime, offset": datetime(2026, 11, 23, 9, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    "datetime, zone": datetime(2026, 11, 23, 9, 30, tzinfo=BERLIN),
    "datetime, zone, second time round": datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    "date": date(2026, 11, 23),
    "uuid": UUID("0190f5fe-7c00-7a00-8000-0123456789ab"),
    "decimal": Decimal("1.10"),
    "decimal, exponent": Decimal("-0E+3"),
    "decimal, infinity": Decimal("-Infinity"),
    "bytes": b"\x00\xff\xfe",
    "bytes, empty": b"",
    "tuple": (1, "a", (None,)),
    "set": {3, 1, 2},
    "set, mixed": {"b", "a", (1, 2), None, date(2026, 1, 1)},
    "markup": Markup("<b>&amp;</b>"),
    "dict like a tag": {"$date": "2026-11-23"},
    "dict like an escape": {"$dict": {"$dict": 1}},
    "dict like an unknown tag": {"$price": 3},
    "dict with two dollars": {"$date": 1, "$set": 2},
    "nested": {"cart": [{"id": UUID(int=7), "price": Decimal("9.99"), "at": date(2026, 1, 2)}]},
}
PINNED: dict[str, str] = json.loads((Path(__file__).parent.parent / "data" / "codec.json").read_text("utf-8"))


def test_every_golden_value_is_pinned() -> None:
    assert GOLDEN.keys() == PINNED.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_stored_form_is_pinned(name: str) -> None:
    assert encode(GOLDEN[name], "x").decode() == PINNED[name]
    assert_identical(decode(PINNED[name].encode()), GOLDEN[name])


def test_a_newer_releases_tag_reads_as_a_dict_and_is_no_change() -> None:
    newer = b'{"$duration":90}'
    value = decode(newer)
    assert value == {"$duration": 90}
    assert same(encode(value, "x"), newer)


def test_a_zone_whose_rules_changed_keeps_its_instant() -> None:
    stored = b'{"$datetime":"2026-11-23T09:30:00+03:00[Europe/Berlin]"}'
    value = decode(stored)
    assert value == datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
    assert value.utcoffset() == timedelta(hours=3)


def test_a_zone_that_is_not_installed_keeps_its_offset() -> None:
    value = decode(b'{"$datetime":"2026-11-23T09:30:00+01:00[Mars/Olympus_Mons]"}')
    assert value == datetime(2026, 11, 23, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/passwd", "", "a]b"])
def test_what_is_no_name_of_a_zone_is_no_value_of_ours(zone: str) -> None:
    with pytest.raises(CorruptRecord):
        decode(b'{"$datetime":"2026-11-23T09:30:00+01:00[%s]"}' % zone.encode())


def test_a_zone_without_a_name_is_refused() -> None:
    with (Path("/usr/share/zoneinfo") / "Europe/Berlin").open("rb") as rules:
        nameless = ZoneInfo.from_file(rules)
    with pytest.raises(UnstorableValue, match="without a name"):
        encode(datetime(2026, 1, 1, tzinfo=nameless), "x")


def test_markup_without_markupsafe_is_a_str() -> None:
    script = (
        "import sys; sys.modules['markupsafe'] = None\n"
        "from coatcheck.core import codec\n"
        'value = codec.decode(b\'{"$markup":"<b>"}\')\n'
        "assert type(value) is str and value == '<b>', value\n"
        "assert codec.encode({'a': (value,)}, 'x') == b'{\"a\":{\"$tuple\":[\"<b>\"]}}'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ---------------------------------------------------------------------------------------------------- refusals


class Colour(IntEnum):
    RED = 1


class Size(StrEnum):
    S = "s"


class MyStr(str):
    """As Django's SafeString is one."""

    __slots__ = ()


class MyDatetime(datetime):
    """As pendulum's is one."""


class NowhereZone(tzinfo):
    """As pytz's and dateutil's are ones."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


class Person:
    """An ORM object, say."""


Point = namedtuple("Point", "x y")


def cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = [value]
    return value


REFUSED = [
    (float("nan"), "not a finite number", "None"),
    (float("-inf"), "not a finite number", "Decimal"),
    (2**64 + 1, "does not fit 64 bits", "str(value)"),
    (-(2**63) - 1, "does not fit 64 bits", "str(value)"),
    (10**5000, "does not fit 64 bits", "str(value)"),
    (Colour.RED, "Colour", "value.value"),
    (Size.S, "Size", "value.value"),
    (MyStr("x"), "MyStr", "str(value)"),
    (OrderedDict(a=1), "collections.OrderedDict", "dict(value)"),
    (defaultdict(list), "collections.defaultdict", "dict(value)"),
    (Point(1, 2), "Point", "_asdict()"),
    (frozenset({1}), "frozenset", "set(value)"),
    (bytearray(b"x"), "bytearray", "bytes(value)"),
    (memoryview(b"x"), "memoryview", "bytes(value)"),
    (timedelta(1), "datetime.timedelta", "total_seconds()"),
    (time(9, 30), "datetime.time", "isoformat()"),
    (MyDatetime(2026, 1, 1), "MyDatetime", "isoformat()"),
    (datetime(2026, 1, 1, tzinfo=NowhereZone()), "NowhereZone", "astimezone"),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))), "fraction of a second", "astimezone"),
    (Decimal("NaN"), "Decimal NaN", "None"),
    (Decimal("sNaN"), "Decimal NaN", "None"),
    (1 + 2j, "complex", "store its id"),
    (Person(), "Person", "store its id"),
    (Person, "type", "store its id"),
    (len, "builtin_function_or_method", "store its id"),
    (..., "ellipsis", "store its id"),
    ("\ud800", "half a surrogate pair", "replace"),
    ({"\udfff": 1}, "half a surrogate pair", "replace"),
    ({1: "a"}, "key of type int", "str(key)"),
    ({None: "a"}, "key of type NoneType", "str(key)"),
    ({True: "a"}, "key of type bool", "str(key)"),
    ({b"a": "a"}, "key of type bytes", "str(key)"),
    ({MyStr("a"): "a"}, "MyStr", "str(key)"),
    ({Size.S: "a"}, "Size", "str(key)"),
    (cycle(), "contains itself", "flatter"),
    (nested(MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}", "flatter"),
]


@pytest.mark.parametrize(("value", "problem", "fix"), REFUSED, ids=[problem for _, problem, _ in REFUSED])
@pytest.mark.parametrize("inside", ["itself", "list", "dict", "tuple", "beside a tag"])
def test_refused(value: Any, problem: str, fix: str, inside: str) -> None:
    wrapped, path = {
        "itself": (value, ""),
        "list": ([0, value], "[1]"),
        "dict": ({"in": value, "also": 1}, '["in"]'),
        "tuple": (("x", value), "[1]"),
        "beside a tag": ([date(2026, 1, 1), value], "[1]"),
    }[inside]
    with pytest.raises(UnstorableValue) as caught:
        encode(wrapped, "key")
    message = str(caught.value)
    assert message.startswith(f'session["key"]{path}')
    assert problem in message
    assert fix in message


def test_the_path_is_the_whole_path() -> None:
    with pytest.raises(
        UnstorableValue, match=r'^session\["cart"\]\["items"\]\[2\]\["a\\"b"\] is of type .*Person,'
    ):
        encode({"items": [1, 2, {'a"b': Person()}]}, "cart")


def test_the_path_into_a_set_says_so() -> None:
    with pytest.raises(UnstorableValue, match=r'^session\["tags"\]\{…\} is of type frozenset'):
        encode({frozenset({1})}, "tags")


def test_the_message_does_not_show_the_value() -> None:
    with pytest.raises(UnstorableValue) as caught:
        encode({"card": MyStr("4111 1111")}, "x")
    assert "4111" not in str(caught.value)


def test_a_key_of_the_session_that_is_not_text_is_refused() -> None:
    with pytest.raises(UnstorableValue, match="half a surrogate pair"):
        join({"a": b"1", "\ud800": b"2"})


DEEPEST = [
    nested(MAX_DEPTH),
    (nested(MAX_DEPTH - 2),),
    {"$date": nested(MAX_DEPTH - 2)},
    nested(MAX_DEPTH - 1, date(2026, 1, 1)),
    nested(MAX_DEPTH - 2, {1}),
    nested(MAX_DEPTH - 2, {"$x": 1}),
]


@pytest.mark.parametrize("value", DEEPEST)
def test_the_deepest_value_there_may_be_comes_back(value: Any) -> None:
    assert_identical(decode(encode(value, "x")), value)
    with pytest.raises(UnstorableValue, match="deeper"):
        encode([value], "x")


# ---------------------------------------------------------------------------------------------------- what the store may hold

CORRUPT = [
    b"",
    b"NaN",
    b"[NaN]",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" + b"9" * 5000 + b"]",
    b"[" * 100_000 + b"]" * 100_000,
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b"[" * 65 + b"]" * 65,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"[1,]",
    b"[1",
    b"{'a':1}",
    b'"\xff"',
    b'"\x00"',
    b'"a',
    b"01",
    b"1 2",
    b"\xef\xbb\xbf1",
    pickle.dumps({"a": 1}),
    b"\x80\x04}.",
    b"!!python/object/apply:os.system [id]",
    b'{"$date":"yesterday"}',
    b'{"$date":5}',
    b'{"$datetime":"2026-13-01T00:00:00"}',
    b'{"$datetime":"2026-01-01T00:00:00[_fold=2]"}',
    b'{"$datetime":"2026-01-01T00:00:00-12:34:56.780000"}',  # what could not be written again
    b'{"$uuid":"x"}',
    b'{"$uuid":1}',
    b'{"$decimal":"1,5"}',
    b'{"$decimal":"NaN"}',
    b'{"$decimal":1.5}',
    b'{"$bytes":"AA"}',
    b'{"$bytes":"A!A=="}',
    b'{"$bytes":"A\\u00e4=="}',
    b'{"$tuple":{}}',
    b'{"$set":[[1]]}',
    b'{"$set":[{"a":1}]}',
    b'{"$dict":[]}',
    b'{"$markup":["<b>"]}',
    b'[{"x":{"$date":"yesterday"}}]',
]


@pytest.mark.parametrize("data", CORRUPT, ids=[repr(data[:20]) for data in CORRUPT])
def test_112_malformed_deep_and_oversized_values_are_corrupt_records(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode(data)


@pytest.mark.parametrize("data", CORRUPT, ids=[repr(data[:20]) for data in CORRUPT])
def test_112_inside_a_session_they_are_corrupt_records_too(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode(split(b'{"x":' + data + b"}")["x"])


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b'"a"', b"1", b'{"a"}', b'{"a":1}x', b'{"\xff":1}', b'{"a":', b"{1:2}"]
)
def test_what_is_not_an_object_is_a_corrupt_record(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        split(data)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_corrupt_record(data: bytes) -> None:
    for read in (split, decode):
        with suppress(CorruptRecord):
            read(data)


@given(st.sampled_from(list(tagged._READERS)), st.text(max_size=20) | plain)
def test_no_payload_raises_anything_but_corrupt_record(tag: str, payload: Any) -> None:
    with suppress(CorruptRecord):
        decode(msgspec.json.encode({tag: payload}))


def test_the_error_does_not_carry_the_data() -> None:
    with pytest.raises(CorruptRecord) as caught:
        decode(b'["secret \xff"]')
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_111_nothing_here_can_run_code() -> None:
    events: list[str] = []
    armed = True
    sys.addaudithook(lambda event, _: events.append(event) if armed else None)
    for data in CORRUPT[-20:]:
        with pytest.raises(CorruptRecord):
            decode(data)
    armed = False
    assert not [
        event
        for event in events
        if event.startswith(("pickle", "exec", "compile", "os.", "subprocess", "import"))
    ]


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert decode(split(b'{"a":1,"a":2}')["a"]) == 2


def test_an_empty_session() -> None:
    assert split(codec.EMPTY) == {}
    assert join({}) == codec.EMPTY


def test_many_brackets_are_not_depth() -> None:
    wide = [[i] for i in range(200)]
    assert decode(encode(wide, "x")) == wide
    assert decode(encode(["[{" * 100], "x")) == ["[{" * 100]


# ---------------------------------------------------------------------------------------------------- other writers


def test_half_an_emoji_from_node_costs_that_character_only() -> None:
    stored = rb'{"name":"Zo\ud83d","pair":"\ud83d\ude00","slash":"\\ud83d","low":"\ude00x","n":1}'
    parts = split(stored)
    assert {key: decode(part) for key, part in parts.items()} == {
        "name": "Zo\ufffd",
        "pair": "\U0001f600",
        "slash": "\\ud83d",
        "low": "\ufffdx",
        "n": 1,
    }
    assert decode(rb'["\ud83d"]') == ["\ufffd"]
    assert decode(rb'{"$tuple":["\ud83d"]}') == ("\ufffd",)


def test_a_foreign_writer_may_spell_the_dollar_as_it_likes() -> None:
    assert decode(rb'{ "\u0024date" : "2026-01-02" }') == date(2026, 1, 2)
    assert decode(b'{ "$date" : "2026-01-02" }') == date(2026, 1, 2)


def test_an_int_from_javascript_that_is_beyond_64_bits_can_be_kept() -> None:
    value = decode(b'{"big":100000000000000000000}')
    assert value == {"big": 10**20}
    assert same(encode(value, "x"), b'{"big":100000000000000000000}')


SAME = [
    (b'{"a":1,"b":[1,2]}', b'{"b": [1, 2], "a": 1}'),
    (b'{"a":{"y":1,"x":2}}', b'{"a": {"x": 2, "y": 1}}'),
    ('["é"]'.encode(), rb'["\u00e9"]'),
    (b'["/"]', rb'["\/"]'),
    (b"[1.5]", b"[1.50]"),
    (b"[1e22]", b"[1E+22]"),
    (b'{"$date":"2026-01-02"}', b'{"$date": "2026-01-02"}'),
    (b'{"$set":[1,2]}', b'{"$set": [2, 1]}'),
    (b'{"$datetime":"2026-01-02T00:00:00+00:00"}', b'{"$datetime":"2026-01-02T00:00:00Z"}'),
    (b'[{"$date":"2026-01-02"},18446744073709551617]', b'[{"$date": "2026-01-02"}, 18446744073709551617]'),
]
DIFFERENT = [
    (b"1", b"1.0"),
    (b"1", b"true"),
    (b"1.0", b"true"),
    (b"0.0", b"-0.0"),
    (b"0", b"false"),
    (b"null", b"false"),
    (b'""', b"null"),
    (b"[]", b"{}"),
    (b"[1,2]", b"[2,1]"),
    (b'{"a":null}', b"{}"),
    (b'{"$tuple":[1]}', b"[1]"),
    (b'{"$decimal":"1.10"}', b'{"$decimal":"1.1"}'),
    (b'{"$date":"2026-01-02"}', b'{"$dict":{"$date":"2026-01-02"}}'),
    (b'{"a":[1]}', b'{"a":[1.0]}'),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_17_the_same_data_spelt_differently_is_the_same(a: bytes, b: bytes) -> None:
    assert same(a, b)
    assert same(b, msgspec.Raw(a))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_17_other_data_is_not_the_same(a: bytes, b: bytes) -> None:
    assert not same(a, b)
    assert not same(msgspec.Raw(b), a)


@given(values, values)
def test_17_same_means_identical(a: Any, b: Any) -> None:
    one, other = encode(a, "x"), encode(b, "x")
    if same(one, other):
        assert a == b
    assert same(one, json.dumps(json.loads(one), sort_keys=True, indent=1).encode())
