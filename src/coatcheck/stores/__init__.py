"""Stores: one file a backend. `open_store` turns a URL into one; a driver is imported only when its URL is used."""

from importlib import import_module
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from coatcheck.core.ports import Backend
from coatcheck.errors import ConfigurationError

__all__ = ["hide_password", "open_store"]

_SCHEMES: Final = {
    "memory": ("coatcheck.stores.memory", "MemoryStore"),
    "sqlite": ("coatcheck.stores.sqlite", "SQLiteStore"),
}
"""URL scheme -> module and class; each class has `from_url(url)`."""


def open_store(url: str) -> Backend:
    """The store a URL names: `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`.

    Raises ConfigurationError for a scheme nobody knows.
    """
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}:" for name in _SCHEMES)
        raise ConfigurationError(
            f"store={hide_password(url)!r}: no store for this; give a URL that begins with {known}"
        )
    module, name = _SCHEMES[scheme]
    backend: Backend = getattr(import_module(module), name).from_url(url)
    return backend


def hide_password(url: str) -> str:
    """The URL as it may be shown: without its password (checklist 21)."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    except ValueError:
        return f"{url.partition(':')[0]}:…"
