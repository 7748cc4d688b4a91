"""The body of a WSGI response, with something to do at its end."""

from collections.abc import Callable, Iterable, Iterator

__all__ = ["Body", "close_of"]


class Body(Iterator[bytes]):
    """A body that calls `finish` at its end, once: when it is exhausted or, if the client has gone, when the server closes it.

    `fail` is called when it raises, and returns the last piece to send or raises.
    """

    __slots__ = ("_close", "_done", "_fail", "_finish", "_pieces")

    def __init__(
        self, body: Iterable[bytes], finish: Callable[[], None], fail: Callable[[BaseException], bytes]
    ) -> None:
        self._close, self._pieces = close_of(body), iter(body)
        self._finish, self._fail = finish, fail
        self._done = False

    def __next__(self) -> bytes:
        if self._done:
            raise StopIteration
        try:
            return next(self._pieces)
        except StopIteration:
            self._done = True
        except BaseException as error:
            self._done = True
            return self._fail(error)
        try:
            self._finish()
        except BaseException as error:
            return self._fail(error)
        raise StopIteration

    def close(self) -> None:
        """Close the application's body, then finish if nobody has."""
        try:
            self._close()
        finally:
            if not self._done:
                self._done = True
                self._finish()


def close_of(body: object) -> Callable[[], object]:
    """The body's `close`, or something harmless."""
    close: Callable[[], object] = getattr(body, "close", lambda: None)
    return close
