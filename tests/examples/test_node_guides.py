"""The two programs that every Node session guide shows, as ported: they do what the guides promise."""

import runpy
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coatcheck.core.ids import VERIFIER_CHARS

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "nDq7vJ0wXb3sUe5yGt9zKc2mRh8fPa4LiVoW6xTjBuE"


@pytest.fixture
def client(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    monkeypatch.setenv("SESSION_STORE", f"sqlite:///{tmp_path}/sessions.db")
    app = runpy.run_path(str(EXAMPLES / f"{request.param}.py"))["app"]
    return TestClient(app, base_url="https://testserver")


@pytest.mark.parametrize("client", ["visit_counter"], indirect=True)
def test_the_visit_counter_counts_each_visitor_alone(client: TestClient) -> None:
    assert client.get("/").json() == "Welcome! Reload this page."
    assert [client.get("/").json() for _ in range(2)] == [
        f"You have seen this page {n} times." for n in (2, 3)
    ]
    client.cookies.clear()
    assert client.get("/").json() == "Welcome! Reload this page."


@pytest.mark.parametrize("client", ["login_profile"], indirect=True)
def test_the_profile_opens_with_a_login_and_closes_with_its_end(client: TestClient) -> None:
    assert client.get("/profile").status_code == 401
    assert client.post("/login", data={"name": "ada", "password": "guess"}).status_code == 401
    assert client.post("/login", data={"name": "ada", "password": "analytical-engine"}).status_code == 200
    assert client.get("/profile").json() == "This is the profile of ada."

    ticket = dict(client.cookies)
    assert client.post("/logout").status_code == 200
    assert dict(client.cookies) == {}, "the browser was told to forget the ticket"
    assert client.get("/profile", headers={"Cookie": _line(ticket)}).status_code == 401, (
        "the ticket opens nothing"
    )


def _line(cookies: dict[str, str]) -> str:
    assert all(len(value) > VERIFIER_CHARS for value in cookies.values())
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


@pytest.mark.parametrize("name", ["visit_counter", "login_profile"])
def test_they_are_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 40
