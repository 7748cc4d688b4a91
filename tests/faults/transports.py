"""The async transports of the Redis store, each of which the fault tests go through: options of `RedisStore.from_url`."""

from typing import Any, Final

import pytest

__all__ = ["TRANSPORTS"]

TRANSPORTS: Final[list[Any]] = [pytest.param({}, id="redis-py")]
"""To be extended here, and nowhere else."""
