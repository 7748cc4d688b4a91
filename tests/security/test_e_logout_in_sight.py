"""Section E of the security checklist, line 80: a way to log out on every page of somebody who is logged in (ASVS 7.4.4).

It is for applications to do; the examples show how. Each is run as its reader would run it, and crawled from its first page.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.examples.running import APPS, running
from tests.web.servers import Browser

PASSWORD = "analytical-engine"
HIDDEN = re.compile(r'<input type="hidden" name="(csrf\w+)" value="([^"]*)"')
LOGOUT = re.compile(r'<form method="post" action="/logout">.*?<button>Log out</button></form>', re.DOTALL)
LINK = re.compile(r'href="(/[^"]*)"')


def crawled(browser: Any) -> dict[str, str]:
    """Every page that links lead to, as this browser sees it."""
    found: dict[str, str] = {}
    wanted = ["/"]
    while wanted:
        path = wanted.pop()
        if path not in found:
            seen = browser.visit(path)
            assert seen.status == 200, path
            found[path] = seen.text
            wanted += LINK.findall(seen.text)
    return found


@pytest.mark.parametrize("example", APPS)
def test_line_80_every_page_of_an_example_shows_the_way_out(example: str, tmp_path: Path) -> None:
    with running(example, tmp_path) as server:
        ada = Browser(server)
        hidden = dict(HIDDEN.findall(ada.visit("/").text))
        assert ada.post("/login", user="ada", password=PASSWORD, **hidden).status in (302, 303)
        pages = crawled(ada)
        assert {"/", "/devices"} <= pages.keys()
        assert [path for path, text in pages.items() if LOGOUT.search(text) is None] == []
        assert ada.post("/logout", **dict(HIDDEN.findall(pages["/devices"]))).status in (302, 303)
        assert LOGOUT.search(ada.visit("/").text) is None
