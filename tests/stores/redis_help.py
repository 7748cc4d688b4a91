"""What the tests of the Redis store share."""

from itertools import count

_numbers = count()


def fresh() -> str:
    """A prefix that no other test has: `count` and `sweep` see nothing of theirs."""
    return f"t{next(_numbers)}:"
