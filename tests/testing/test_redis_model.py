"""The model of the Redis scripts against the scripts: whatever the commands, the same replies and the same keys afterwards."""

from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coatcheck.core.record import Record
from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores._redis_index import packed_time
from coatcheck.stores._redis_record import encoded
from coatcheck.stores._redis_scripts import Script
from coatcheck.testing.explorer.redis import PREFIX, RECORDS
from coatcheck.testing.explorer.redis_model import Keys, carry_out
from coatcheck.testing.explorer.redis_server import RedisServer
from servers import Server

NOW = 1_700_000_000.0
VERSIONS = ("v1", "v2", "version-three")
USERS = (None, "", "alice", "bob")
USER_KEYS = tuple(f"{PREFIX}u:{{a}}:{name}" for name in ("index", "beside", "fence"))
Call = tuple[Script, tuple[str, ...], tuple[Any, ...]]

times = st.sampled_from(
    [NOW + after for after in (-90_000, -3700, -61, -60, -1, 0, 1, 0.25, 59, 60, 3600, 90_000)]
)
keys = st.sampled_from(["k1", "k2", "k3", "k4", "k5"])
names = st.sampled_from(VERSIONS)
words = st.sampled_from(["", *VERSIONS])


def record(version: str, user: str | None, deadline: float, seen_at: float, ends_at: float) -> bytes:
    ends_at = max(ends_at, deadline)
    return encoded(
        Record(
            key="k",
            versions=(version,),
            verifier=bytes(32),
            data=b"{}",
            created_at=NOW,
            seen_at=seen_at,
            deadline=deadline,
            ends_at=ends_at,
            user_id=user,
        )
    )


records = st.builds(record, names, st.sampled_from(USERS), times, times, times)
ENDED = b"E" + pack(">d", NOW) + b"v1"
octets = records | st.sampled_from([b"R", b"E", b"Rubbish", b"?", ENDED])
entry_states = st.builds(
    lambda state, us, at: state + pack(">dd", us, at),
    st.sampled_from([b"c", b"p", b"v"]),
    st.sampled_from([0, 1e9, 1e9 + 61e6]),
    st.sampled_from([1.0, 2.0, 3.0]),
)
pairs = st.lists(st.tuples(keys, entry_states), max_size=4, unique_by=lambda pair: pair[0])
micros = st.sampled_from([1_000_000_000, 1_000_000_001, 1_061_000_000, 1_061_000_001])


def of_a_record(script: Script, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(lambda key, *rest: (script, (RECORDS + key,), rest), keys, times.map(packed_time), *args)


def of_a_user(script: Script, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(lambda *rest: (script, USER_KEYS, rest), times.map(packed_time), *args)


def with_pairs(script: Script, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return of_a_user(script, *args, pairs).map(
        lambda call: (script, call[1], (*call[2][:-1], *(part for pair in call[2][-1] for part in pair)))
    )


def put(how: st.SearchStrategy[str], expected: st.SearchStrategy[str]) -> st.SearchStrategy[Call]:
    plain, keeping = (how, expected, records), (how, expected, records, st.just("keep"))
    return of_a_record(scripts.PUT, *plain) | of_a_record(scripts.PUT, *keeping)


entry = (keys, times.map(repr), st.sampled_from([1.0, 2.0]).map(lambda at: pack(">d", at)))
fences = st.sampled_from(["", "1000000000", "1000000001", "999999999"])
calls = st.one_of(
    st.builds(lambda key: (scripts.LOAD, (RECORDS + key,), ()), keys),
    put(st.just("create"), st.just("")),
    put(st.sampled_from(["set", "replace"]), words),
    of_a_record(scripts.TOUCH, words, times.map(repr), times.map(repr)),
    of_a_record(
        scripts.END,
        names,
        st.sampled_from(["any", "version", "user"]),
        st.sampled_from(["", "alice", *VERSIONS]),
        st.just("explored:ended"),
        keys,
    ),
    of_a_record(scripts.PURGE),
    of_a_record(scripts.FORGET),
    of_a_record(scripts.RESTORE, words, st.just(b"") | records),
    of_a_user(scripts.INDEX, *entry),
    of_a_user(scripts.ENTRIES, st.sampled_from(["", "raise"])),
    with_pairs(
        scripts.CONFIRM,
        *entry,
        st.sampled_from(["999999999.5", "1000000000.0", "1000000001.0", "1000000002.0"]),
        fences,
        st.sampled_from([0, 1, 2, 3]),
        st.sampled_from(["evict", "refuse"]),
        st.sampled_from(["", "verified"]),
    ),
    with_pairs(scripts.HEAL),
)


@pytest.fixture(scope="module")
def server(redis_server: Server) -> Iterator[RedisServer]:
    with RedisServer(redis_server.url) as server:
        yield server


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.dictionaries(keys.map(RECORDS.__add__), octets),
    series=st.lists(st.tuples(calls, micros), min_size=1, max_size=25),
)
def test_the_model_does_as_the_scripts(
    server: RedisServer, first: Keys, series: list[tuple[Call, int]]
) -> None:
    there = first
    for (script, names_, args), clock in series:
        said, after = carry_out(there, script, names_, args, clock)
        really, is_there = server(there, script, names_, args, clock)
        assert (script.name, said, after) == (script.name, really, is_there)
        there = after
