"""The Redis store over a Cluster of six nodes and behind Sentinel, and through their failovers: all slow."""

from collections.abc import Iterator

import pytest

from coatcheck.stores.redis import RedisStore
from coatcheck.testing.contract import Sentence, StoreContract
from servers import RedisGroup, redis_cluster, redis_sentinel
from tests.stores.redis_help import fresh

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as group:
        yield group


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    with redis_sentinel(tmp_path_factory.mktemp("redis-sentinel")) as group:
        yield group


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_over_a_cluster(sentence: Sentence, cluster: RedisGroup) -> None:
    prefix = fresh()
    StoreContract(lambda: RedisStore.from_url(cluster.url, prefix=prefix)).run(sentence)


@pytest.mark.parametrize("sentence", StoreContract.sentences(), ids=lambda s: s.__name__)
def test_contract_behind_sentinel(sentence: Sentence, sentinel: RedisGroup) -> None:
    prefix = fresh()
    StoreContract(lambda: RedisStore.from_url(sentinel.url, prefix=prefix)).run(sentence)
