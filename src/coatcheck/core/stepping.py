"""Run a coroutine to its end without an event loop: how the sync face uses code that is written once, as `async def`.

Theory. A coroutine gives up control only where some awaitable at the bottom yields. The flows of coatcheck await nothing but
the store, and a store awaits nothing but its client. If the client *blocks* (a sync driver, a dict), nothing ever yields, so
one `send(None)` runs the whole flow, and `StopIteration` carries its result: a plain function call that happens to be spelt
`await`. No thread, no loop, no greenlet; the stack and the traceback are those of the caller.

If something does yield, an awaiting client sits under a sync face. Faces check that when they are built (`Backend.blocking`);
the guard below is for stores of other people that get it wrong. So flows never hold a lock, sleep, gather, use an async
generator or await in `finally`: closing the coroutine must not need the loop either.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from coatcheck.errors import WrongFace

__all__ = ["run_now"]

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Step `coroutine` once, to its end, and return its result. Raises WrongFace if it had to wait for an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
    try:
        coroutine.close()
    except RuntimeError:
        # The flow swallowed GeneratorExit and awaited again: the message below says more than Python's own would.
        pass
    raise WrongFace(
        "a store with an awaiting client was used from the sync face; give it a blocking client, "
        "or use the async face (AsyncSessionManager)"
    )
