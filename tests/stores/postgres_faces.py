"""The PostgreSQL store by each of its faces: blocking, awaiting, and awaiting without prepared statements."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from coatcheck.core.stepping import run_now
from coatcheck.stores.postgres import PostgresStore

__all__ = ["FACES", "Faced"]

FACES = ["blocking", "awaiting", "unprepared"]


class Faced:
    """A store by one of its faces; `run` runs a coroutine function of it to its end, each time on the same loop."""

    def __init__(self, face: str, url: str, **options: Any) -> None:
        self.face = face
        self.backend = PostgresStore.from_url(url, prepared_statements=face != "unprepared", **options)
        self._runner = None if face == "blocking" else asyncio.Runner()

    def run(self, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        if self._runner is None:
            return run_now(work(self.backend.blocking()))
        return self._runner.run(work(self.backend.awaiting()))

    def close(self) -> None:
        self.backend.close()
        if self._runner is not None:
            self._runner.run(self.backend.aclose())
            self._runner.close()
