"""The public names: sorted, complete, documented, and importable without any framework or driver."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import coatcheck
from coatcheck import errors

FOREIGN = {"fastapi", "starlette", "flask", "werkzeug", "quart", "litestar", "aiohttp", "django"} | {
    "redis", "pymongo", "psycopg", "asyncpg", "sqlalchemy"
}  # fmt: skip
HEAVY = {
    "asyncio",
    "ssl",
    "concurrent",
    "subprocess",
    "cryptography",
    "zoneinfo",
    "sqlite3",
    "hiredis",
    "prometheus_client",
}
SOURCE = Path(coatcheck.__file__).parent


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by name: the order ruff keeps every other `__all__` in."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_public_names_are_sorted_and_unique() -> None:
    assert list(coatcheck.__all__) == sorted(set(coatcheck.__all__), key=order)


def test_public_names_are_complete() -> None:
    """Everything `__init__` has under a public name is announced, and everything announced is there."""
    there = {
        name
        for name in dir(coatcheck)
        if not name.startswith("_") and not inspect.ismodule(getattr(coatcheck, name))
    }
    assert there == {name for name in coatcheck.__all__ if not name.startswith("_")}
    assert [name for name in coatcheck.__all__ if not hasattr(coatcheck, name)] == []


def test_every_exception_is_public() -> None:
    """`except` needs the name, so the whole tree is at the front door."""
    assert [name for name in errors.__all__ if name not in coatcheck.__all__] == []


@pytest.mark.parametrize("name", sorted(coatcheck.__all__))
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(coatcheck, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_what_the_front_door_loads_later_is_told_from_what_is_not_there() -> None:
    script = "import coatcheck; before = set(vars(coatcheck)); coatcheck.Session; print(*set(vars(coatcheck)) - before)"
    assert "Session" in after(script)
    with pytest.raises(AttributeError, match="module 'coatcheck' has no attribute 'Sessions'"):
        coatcheck.Sessions  # type: ignore[attr-defined]  # noqa: B018


def test_the_front_door_imports_no_framework_and_no_driver() -> None:
    """In a fresh interpreter: what an application does not use is not loaded, and need not be installed."""
    assert after(f"import coatcheck; {LOADED}") & (FOREIGN | HEAVY) == set()


def test_every_public_name_is_had_without_what_takes_long_to_load() -> None:
    """asyncio and what it brings along (ssl, sockets) are half of what everything takes; `cryptography` has an extra."""
    assert after(f"from coatcheck import *; {LOADED}") & (FOREIGN | HEAVY) == set()


@pytest.mark.parametrize("module", ["coatcheck.wsgi", "coatcheck.stores.memory"])
def test_what_serves_wsgi_starts_no_asyncio(module: str) -> None:
    assert after(f"import {module}; {LOADED}") & (FOREIGN | HEAVY) == set()


LOADED = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"


def after(script: str) -> set[str]:
    """The words that a script prints, in an interpreter of its own."""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())
