"""What a load costs with a cache in front of the store, and without: `python -m bench.layered [--store URL]`.

In process, over one connection, one load after the other: the best of many short rounds, in microseconds. A store that does not
tell of endings (SQLite) is lent a watch that says nothing but that it works, for the sake of the figures only.
"""

import argparse
import secrets
import tempfile
import time
from collections.abc import Callable
from typing import Any

from coatcheck.core.ports import SAVED, Notice, Store, Watches
from coatcheck.core.record import Record
from coatcheck.core.stepping import run_now
from coatcheck.stores import hide_password, open_store
from coatcheck.stores.layered import LayeredStore

NOW = 1_900_000_000.0


class Lent:
    """A store with a watch that never has anything to say."""

    def __init__(self, store: Store) -> None:
        for verb in ("load", "create", "replace", "touch", "delete"):
            setattr(self, verb, getattr(store, verb))

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        tell(Notice("watching", for_good=True))
        return lambda: None


def best(call: Callable[[], Any], *, calls: int = 200, rounds: int = 50) -> float:
    """The least that one call took, in microseconds."""
    least = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        least = min(least, time.perf_counter() - began)
    return 1e6 * least / calls


def measure(store: Store) -> dict[str, float]:
    """Microseconds of a load: of the store itself, of a hit, and of a miss."""
    key = secrets.token_urlsafe(18)
    record = Record(key, ("v",), bytes(32), b'{"cart":[1,2,3]}', NOW, NOW, NOW + 86_400, NOW + 864_000)
    if run_now(store.create(record, now=NOW)) is not SAVED:
        raise RuntimeError("a new session was not saved")
    below: Any = store if isinstance(store, Watches) else Lent(store)
    layered = LayeredStore(below, max_age=60)
    cache = layered.blocking()
    for _ in range(2):  # the first may come before the watch has said that it works
        run_now(cache.load(key, now=NOW))
        time.sleep(0.1)  # time for its first answer
    try:
        return {
            "without": best(lambda: run_now(store.load(key, now=NOW))),
            "with, a hit": best(lambda: run_now(cache.load(key, now=NOW))),
            "with, a miss": best(lambda: run_now(cache.load_anew(key, now=NOW))),
        }
    finally:
        layered.close()


def main(arguments: list[str] | None = None) -> int:
    """Measure one store, or memory and SQLite."""
    reader = argparse.ArgumentParser(prog="python -m bench.layered", description=__doc__)
    reader.add_argument("--store", metavar="URL")
    given = reader.parse_args(arguments).store
    with tempfile.TemporaryDirectory(prefix="coatcheck-layered-") as directory:
        for url in [given] if given else ["memory:", f"sqlite:///{directory}/sessions.db"]:
            backend: Any = open_store(url)
            figures = measure(backend.blocking())
            row = "   ".join(f"{name} {cost:7.2f} us" for name, cost in figures.items())
            print(f"{hide_password(url).partition(':')[0]:<10} {row}", flush=True)
            if hasattr(backend, "close"):
                backend.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
