"""Every example, run by the command at its top, and visited through a raw socket: all of them answer alike."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.examples.running import APPS, EXAMPLES, command_of, running
from tests.web.servers import Browser, Seen, Server

PASSWORDS = {"ada": "analytical-engine", "grace": "nanoseconds"}
AT_ONCE = 20
LINES = {"django_app": 105}
"""A whole project in one file, with settings and a table of users."""


@pytest.fixture(scope="module", params=APPS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


class Visitor(Browser):
    """Reads the page as a person would, and sends the forms that are on it."""

    page = ""

    def look(self, path: str = "/") -> Seen:
        """Look at a page."""
        seen = self.visit(path)
        self.page = seen.text
        return seen

    def send(self, path: str, **fields: str) -> Seen:
        """Send a form of the page that was looked at, with what is hidden in it (a CSRF token)."""
        hidden = dict(re.findall(r'<input type="hidden" name="(csrf\w+)" value="([^"]*)"', self.page))
        return self.post(path, **hidden, **fields)

    def log_in(self, user: str) -> Seen:
        """Log in, as somebody who has just opened the page."""
        self.look()
        return self.send("/login", user=user, password=PASSWORDS[user])

    @property
    def user(self) -> str:
        """Whom the page greets."""
        return self.shown("user")

    def shown(self, what: str) -> str:
        """What the first page says."""
        self.look()
        found = re.search(rf'id="{what}">([^<]*)<', self.page)
        assert found is not None, self.page
        return found[1]

    def others(self) -> list[str]:
        """The handles of the user's other sessions."""
        assert self.look("/devices").status == 200
        return re.findall(r'name="handle" value="([^"]+)"', self.page)


def logged_in(server: Server, user: str = "ada") -> Visitor:
    visitor = Visitor(server)
    assert visitor.log_in(user).status in (302, 303)
    return visitor


def test_a_stranger_gets_no_cookie_and_no_devices(server: Server) -> None:
    stranger = Visitor(server)
    assert (stranger.user, stranger.shown("count")) == ("stranger", "0")
    assert not any("session" in name for name in stranger.cookies)
    assert stranger.look("/devices").status in (302, 401)


def test_a_wrong_password_logs_nobody_in(server: Server) -> None:
    visitor = Visitor(server)
    visitor.look()
    assert visitor.send("/login", user="ada", password="guess").status in (200, 401)
    assert visitor.user == "stranger"


def test_a_login_keeps_the_count_and_makes_the_old_cookie_worthless(server: Server) -> None:
    visitor = Visitor(server)
    visitor.look()
    for _ in range(2):
        assert visitor.send("/count").status == 303
    planted = Visitor(server, cookies=dict(visitor.cookies))
    visitor.log_in("ada")
    assert (visitor.user, visitor.shown("count")) == ("ada", "2")
    assert (planted.user, planted.shown("count")) == ("stranger", "0")


def test_of_requests_at_the_same_time_each_counts(server: Server) -> None:
    visitor = logged_in(server)
    visitor.look()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = list(pool.map(lambda _: visitor.send("/count"), range(AT_ONCE)))
    assert [response.status for response in seen] == [303] * AT_ONCE
    assert visitor.shown("count") == str(AT_ONCE)


def test_a_device_ends_another_of_its_user_and_nobody_elses(server: Server) -> None:
    here = logged_in(server, "grace")
    known = set(here.others())
    there, stranger = logged_in(server, "grace"), logged_in(server, "ada")
    (other,) = set(here.others()) - known
    stranger.look("/devices")
    stranger.send("/devices/end", handle=other)
    assert there.user == "grace"
    here.look("/devices")
    assert here.send("/devices/end", handle=other).status == 303
    assert (there.user, here.user) == ("stranger", "grace")


def test_a_logout_ends_the_session_on_the_server(server: Server) -> None:
    visitor = logged_in(server)
    copy = Visitor(server, cookies=dict(visitor.cookies))
    assert copy.user == "ada"
    visitor.look()
    assert visitor.send("/logout").status == 303
    assert (visitor.user, copy.user) == ("stranger", "stranger")


@pytest.mark.parametrize("example", APPS)
def test_an_example_is_short_and_says_how_it_is_run(example: str) -> None:
    assert len((EXAMPLES / f"{example}.py").read_text().splitlines()) < LINES.get(example, 75)
    assert f"examples.{example}" in command_of(example)


def test_every_example_is_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    programs = {file.stem for file in EXAMPLES.glob("*.py")} - {"pages"}
    assert {name for name in programs if f"]({name}.py)" in listed} == programs
    assert {example for example in APPS if command_of(example) in listed} == set(APPS)
