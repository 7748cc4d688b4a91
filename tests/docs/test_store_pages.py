"""What docs/stores.md and the pages of the stores say at a glance is so: URLs, extras, abilities, options, order of headings."""

import json
import re
import tomllib
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from coatcheck.core.ports import ByUser, Checks, Counts, SetsUp, Sweeps, Watches
from coatcheck.stores import _SCHEMES, open_store
from coatcheck.stores.redis import RedisStore
from tests.docs.test_tables import rows

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("memory", "sqlite", "redis", "postgres", "mongo", "sqlalchemy")
HEADINGS = (
    "Opening it",
    "Setting up",
    "What it guarantees",
    "What it costs",
    "Expired sessions",
    "Watching",
    "When it is away",
    "Processes, threads, loops",
    "What is in it",
    "Recipes",
)
ABILITIES: tuple[Any, ...] = (ByUser, Sweeps, Counts, Checks, Watches, SetsUp)
URLS = {
    "memory": "memory:",
    "SQLite": "sqlite:///sessions.db",
    "Redis": "redis://h",
    "PostgreSQL": "postgresql://u@h/d",
    "MongoDB": "mongodb://h/d",
    "SQLAlchemy": "mysql://u@h/d",
}


def test_every_url_scheme_is_in_the_table_with_its_extra() -> None:
    stated = {
        scheme: "" if row[1] == "nothing" else row[1].split("`")[1]
        for row in rows("stores.md", "## URLs")
        for scheme in re.findall(r"`([a-z+]+)[:…]", row[0])
    }
    assert stated == {"sqlalchemy+": "sqlalchemy"} | {scheme: kind.extra for scheme, kind in _SCHEMES.items()}


def test_the_octets_in_the_table_are_those_of_the_largest_run() -> None:
    """Of docs/_static/scale.json, which `python -m bench.scale --full --docs` writes. Capacity planning goes on from them."""
    stores = json.loads((ROOT / "docs" / "_static" / "scale.json").read_text())["stores"]
    measured = {name: [*stores[name]["sizes"].values()][-1]["octets"] for name in stores}
    stated = {row[0].lower(): row[1] for row in rows("stores.md", "### What a session takes up")}
    first = {name: f"{next(iter(octets.values())):,.0f}" for name, octets in measured.items()}
    assert {name: stated[{"postgres": "postgresql"}.get(name, name)] for name in first} == first


def test_every_extra_is_one() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {kind.extra for kind in _SCHEMES.values()} - {""} <= extras.keys()


def test_the_abilities_in_the_table_are_those_of_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stated = {row[0]: [cell == "yes" for cell in row[1:]] for row in rows("stores.md", "### Abilities")}
    assert stated == {
        store: [isinstance(open_store(url).blocking(), ability) for ability in ABILITIES]
        for store, url in URLS.items()
    }


@pytest.mark.parametrize("page", PAGES)
def test_the_page_of_a_store_has_the_headings_of_all_in_their_order(page: str) -> None:
    found = re.findall(r"^## (.+)$", (ROOT / "docs" / "stores" / f"{page}.md").read_text(), re.MULTILINE)
    assert found == [heading for heading in HEADINGS if heading in found]


def test_the_options_of_redis_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "stores" / "redis.md").read_text()
    stated = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \| ", page, re.MULTILINE))
    known = {
        name: "Outage()" if name == "outage" else f"{parameter.default!r}".replace("'", '"')
        for name, parameter in signature(RedisStore).parameters.items()
        if name != "client"
    }
    assert stated == known
