"""Sessions in cookies as anybody might have left them: the record that was sealed comes back, or none, and nothing is raised.

Checklist 13, 14, 22, 23, 32.
"""

import random
from dataclasses import dataclass
from functools import cache

from coatcheck.carrying import Carrier, carrier_of
from coatcheck.core.cookies import CookieSettings
from coatcheck.core.record import Record
from coatcheck.stores.cookie import Carried

NAME = "__Host-session"
SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"
NOW = 1_800_000_000.0


@cache
def carrier() -> Carrier:
    return carrier_of(CookieSettings(), NAME, SECRET, 32_768, secure=True)


@dataclass(frozen=True)
class Case:
    """A session, and the Cookie field that came for it."""

    record: Record
    header: bytes
    is_whole: bool
    """Nothing of it was touched."""


def generate(rng: random.Random) -> Case:
    """A genuine header, whole or spoilt: octets, pieces and pairs changed, cut, doubled, exchanged."""
    data = b'{"a":"%s"}' % (b"x" * rng.choice((0, 1, 40, 3_000, 9_000)))
    user = rng.choice((None, "ada"))
    record = Record("k" * 24, ("v",), rng.randbytes(32), data, NOW, NOW, NOW + 60, NOW + 90, user_id=user)
    pairs = [field.split(";")[0].encode() for field in carrier().set(record, b"", max_age=None, now=NOW)]
    whole = pairs.copy()
    for _ in range(rng.choice((0, 1, 1, 1, 3))):
        _spoil(rng, pairs)
    rng.shuffle(pairs)
    return Case(record, b"; ".join(pairs), sorted(pairs) == sorted(whole))


def _spoil(rng: random.Random, pairs: list[bytes]) -> None:
    at = rng.randrange(len(pairs))
    pair = pairs[at]
    place = rng.randrange(len(pair) + 1)
    how = rng.randrange(6)
    if how == 0:
        pairs[at] = pair[:place] + rng.randbytes(1) + pair[place + 1 :]
    elif how == 1:
        pairs[at] = pair[:place]
    elif how == 2:
        pairs[at] = pair[:place] + rng.choice((b"A", b"=", b".", b"9", b"; ", b'"')) + pair[place:]
    elif how == 3:
        pairs.append(pair[:place] + b"B" + pair[place + 1 :])
    elif how == 4:
        pairs[at] = rng.choice(pairs)
    elif len(pairs) > 1:
        del pairs[at]


def check(case: Case) -> None:
    """The very record, or none."""
    found, event = carrier().read(case.header, NOW)
    assert event in (None, "cookie.forged")
    if found is None:
        assert not case.is_whole
        return
    ticket, older = found
    assert type(ticket.locator) is Carried
    assert (ticket.locator.record, older) == (case.record, False)
