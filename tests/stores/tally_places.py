"""Where counters are tested: a store of each kind."""

from pathlib import Path

import pytest

__all__ = ["KINDS", "url_of"]

KINDS = ("memory", "sqlite", "redis", "postgres", "mongo", "sqlalchemy-sqlite", "mariadb")


def url_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a store of this kind; its server is started when it is first needed."""
    if kind == "memory":
        return "memory:"
    if kind.endswith("sqlite"):
        prefix = "sqlalchemy+" if kind.startswith("sqlalchemy") else ""
        return f"{prefix}sqlite:///{folder / 'tallies.db'}"
    url: str = request.getfixturevalue(f"{kind}_server").url
    return url
