"""The async transports of the Redis store, which the fault tests go through: options of `RedisStore.from_url`."""

from typing import Any, Final

import pytest

__all__ = ["BOTH", "TRANSPORTS"]

BOTH: Final[tuple[dict[str, Any], ...]] = ({"transport": "hiredis"}, {"transport": "redis-py"})
TRANSPORTS: Final[list[Any]] = [pytest.param(options, id=options["transport"]) for options in BOTH]
"""For `pytest.mark.parametrize`. What the server's settings are worth is the same over each, and is tested over the default."""
