"""connect-redis's sessions: the contract, and with the real connect-redis on the other side, in both directions."""

from itertools import count
from typing import Any

import pytest

from coatcheck.dialects.express.connect_redis import ConnectRedis
from servers import Server
from tests.dialects.contract import SENTENCES, Sentence, keep, named
from tests.dialects.rig import FACES, Place
from tests.patience import PATIENT
from tests.stores.redis_help import raw

_numbers = count()


def fresh() -> str:
    """A prefix that no other test has, and that is a pattern too: only its own keys may match it."""
    return f"sess[{next(_numbers)}]*?\\:"


def place(server: Server, **options: Any) -> Place:
    """A store under a prefix of its own. Redis counts the time itself, so time that passes is taken from the key."""
    prefix = options.pop("prefix", None) or fresh()

    def later(sid: str, seconds: float) -> None:
        with raw(server) as client:
            left = client.pttl(prefix + sid)
            if left >= 0:
                client.pexpire(prefix + sid, int(left - seconds * 1000))

    def opened() -> ConnectRedis:
        return ConnectRedis.from_url(server.url, prefix=prefix, outage=PATIENT, **options)

    return Place(
        open=opened,
        later=later,
        slack=60,
        ends=not options.get("disable_ttl"),
        default=options.get("ttl", 86_400),
    )


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("sentence", SENTENCES, ids=named)
def test_contract(sentence: Sentence, face: str, redis_server: Server) -> None:
    keep(sentence, face, place(redis_server))
