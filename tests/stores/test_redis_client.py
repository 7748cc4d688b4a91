"""What both clients of a Redis server do for stores of any format: plain commands, and walks."""

from typing import Any

import pytest

from coatcheck.core.outage import Outage
from coatcheck.core.stepping import run_now
from coatcheck.stores._health import Health
from coatcheck.stores._redis_link import Link
from coatcheck.stores._redis_scripts import Script
from coatcheck.stores._redis_url import parsed
from servers import Server
from tests.patience import PATIENT
from tests.stores.redis_help import fresh, raw


@pytest.fixture
def client(redis_server: Server) -> Any:
    link = Link(parsed(redis_server.url, PATIENT), Health("", Outage()), PATIENT)
    yield link.blocking()[0]
    link.close()


def test_a_command_without_a_script_takes_arguments(client: Any, redis_server: Server) -> None:
    key = fresh() + "key"
    assert run_now(client.run(Script("SET"), (key,), (b"value", "EX", 600))) == b"OK"
    with raw(redis_server) as there:
        assert there.get(key) == b"value"
        assert 590 < there.ttl(key) <= 600


def test_a_step_of_a_walk_looks_at_as_many_keys_as_it_is_told(client: Any, redis_server: Server) -> None:
    prefix = fresh()
    with raw(redis_server) as there:
        there.mset({f"{prefix}{n}": "" for n in range(300)})
    _, cursor = run_now(client.scan(prefix + "*", None, 10_000))
    assert cursor is None
    keys, cursor = run_now(client.scan(prefix + "*", None, 10))
    assert cursor is not None
    assert len(keys) < 100
