"""The Redis store against a real server: the contract in both modes, and what is special to Redis."""

import pytest

from coatcheck.stores.redis import RedisStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import Server
from tests.stores.redis_help import fresh


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract(sentence: Sentence, redis_server: Server) -> None:
    prefix = fresh()
    StoreContract(lambda: RedisStore.from_url(redis_server.url, prefix=prefix)).run(sentence)
