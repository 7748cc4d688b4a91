"""Stored session data as anybody might have left it: decoded, or refused as corrupt, and nothing else.

Checklist 68, 112, 209.
"""

import random
from dataclasses import dataclass

import msgspec

from coatcheck.core import codec
from coatcheck.errors import CorruptRecord, UnstorableValue

ATOMS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"null",
        b"true",
        b"0",
        b"-1",
        b"1e400",
        b"NaN",
        b"Infinity",
        b"0.1",
    ),
    *(
        b'"a"',
        b'"$set"',
        b'"$tuple"',
        b'"$bytes"',
        b'"$datetime"',
        b'"$decimal"',
        b'"$uuid"',
        b'"$dict"',
        b'"$x"',
        b'""',
    ),
    *(
        b'{"$date":"2026-02-30"}',
        b'{"$decimal":"NaN"}',
        b'{"$bytes":"?"}',
        b'{"$set":[{}]}',
        b'{"$tuple":[1,2]}',
    ),
    *(
        b"9" * 5000,
        b"[" * 200,
        b'{"a":' * 100,
        b"\xff",
        b"\xed\xa0\x80",
        b'"\\ud800"',
        b'"\\u0000"',
        b" ",
        b"\n",
    ),
)


@dataclass(frozen=True)
class Case:
    """The octets under a session's key."""

    data: bytes


def generate(rng: random.Random) -> Case:
    """Mostly an object with one damaged value; sometimes plain noise."""
    noise = b"".join(rng.choice(ATOMS) for _ in range(rng.randrange(1, 12)))
    return Case(noise if rng.random() < 0.3 else b'{"k":' + noise + b',"n":1}')


def check(case: Case) -> None:
    """Read it; what can be read can be written again, and reads the same: but for a foreign writer's number beyond 64 bits."""
    try:
        parts = codec.split(case.data)
        values = {key: codec.decode(part) for key, part in parts.items()}
    except CorruptRecord:
        return
    for key, value in values.items():
        try:
            again = codec.encode(value, key)
        except UnstorableValue as error:
            if "64 bits" not in str(error):
                raise
            continue
        assert codec.same(again, codec.encode(codec.decode(again), key))
        assert isinstance(parts[key], msgspec.Raw)
