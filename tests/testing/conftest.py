"""The real servers that the explorer goes over: those of the stores' tests."""

from tests.stores.conftest import mongo_server, postgres_server, redis_server

__all__ = ["mongo_server", "postgres_server", "redis_server"]
