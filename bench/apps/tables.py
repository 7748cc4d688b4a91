"""The tables of a store, made before the first request: once, by whoever starts the application."""

from coatcheck.core.ports import SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.stores import open_store


def prepare(url: str) -> None:
    """Make what the store of this URL needs to have made, if it is of that sort."""
    backend = open_store(url)
    store = backend.blocking()
    if isinstance(store, SetsUp):
        run_now(store.setup())
