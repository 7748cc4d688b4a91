"""The demo as scripts and shells meet it: JSON, restarts, Ctrl-C, a port that is taken, hostile requests."""

import asyncio
import shlex
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx
import pytest

from demo.users import Users, objection
from tests.demo.running import Demo

LOGIN = {"username": "demo", "password": "demo-password"}


OURS = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of our own pages."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo") / "state") as running:
        yield running


@pytest.fixture
def client(demo: Demo) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, headers=OURS) as visitor:
        yield visitor


def test_a_plain_client_tells_the_whole_story(demo: Demo) -> None:
    """What a script does that has read nothing but the addresses: no header of its own, a cookie jar."""
    with httpx.Client(base_url=demo.url) as script:
        assert script.get("/healthz").status_code == 200
        assert [script.get("/visits").json()["visits"] for _ in range(3)] == [1, 2, 3]
        assert script.get("/me").status_code == 401
        assert script.post("/login", data={**LOGIN, "password": "wrong"}).status_code == 401
        answer = script.post("/login", data=LOGIN)
        assert (answer.status_code, answer.json()) == (200, {"user": "demo"})
        assert script.get("/me").json() == {"user": "demo"}
        assert script.get("/visits").json() == {"visits": 4}
        assert any(device["current"] for device in script.get("/devices").json()["devices"])
        assert script.post("/logout").status_code == 200
        assert script.get("/me").status_code == 401


def test_curl_logs_in_and_out_with_a_cookie_jar(demo: Demo, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")

    def curl(path: str, *options: str) -> str:
        command = ["curl", "-sS", "-b", jar, "-c", jar, *options, "-w", " %{http_code}", demo.url + path]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    assert curl("/login", "-d", "username=demo", "-d", "password=demo-password") == '{"user":"demo"} 200'
    assert curl("/me") == '{"user":"demo"} 200'
    assert curl("/logout", "-X", "POST") == '{"user":null} 200'
    assert curl("/me").endswith(" 401")


# ---------------------------------------------------------------------------------------------------------- JSON


def test_health_touches_no_session(client: httpx.Client) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "set-cookie" not in answer.headers
    assert "vary" not in answer.headers


def test_visits_count_per_session(client: httpx.Client) -> None:
    assert [client.get("/visits").json() for _ in range(3)] == [{"visits": n} for n in (1, 2, 3)]
    client.cookies.clear()
    assert client.get("/visits").json() == {"visits": 1}


def test_fifty_visits_at_once_get_fifty_numbers(client: httpx.Client) -> None:
    client.get("/visits")
    base, cookies = str(client.base_url), dict(client.cookies)

    async def rush() -> list[int]:
        async with httpx.AsyncClient(base_url=base, cookies=cookies) as visitor:
            answers = await asyncio.gather(*(visitor.get("/visits") for _ in range(50)))
        return sorted(answer.json()["visits"] for answer in answers)

    assert asyncio.run(rush()) == list(range(2, 52))


def test_login_me_devices_logout(client: httpx.Client) -> None:
    assert client.get("/me").status_code == 401
    assert client.get("/devices").status_code == 401

    answer = client.post("/login", data=LOGIN)
    assert (answer.status_code, answer.json()) == (200, {"user": "demo"})
    assert client.get("/me").json() == {"user": "demo"}
    mine = [device for device in client.get("/devices").json()["devices"] if device["current"]]
    assert [device["name"] for device in mine] == ["a Python program"]

    ticket = client.cookies["session"]
    assert client.post("/logout").json() == {"user": None}
    assert client.get("/me").status_code == 401
    assert client.get("/me", headers={"Cookie": f"session={ticket}"}).status_code == 401
    assert client.post("/logout").status_code == 200, "a second time does no harm"


def test_a_browser_is_sent_on_after_the_login(client: httpx.Client) -> None:
    html = {"Accept": "text/html"}
    asked = client.get("/devices", headers=html)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/devices")
    for following, leads_to in [
        ("/devices", "/devices"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
    ]:
        answer = client.post("/login", data={**LOGIN, "next": following}, headers=html)
        assert (answer.status_code, answer.headers["location"]) == (303, leads_to)


# ------------------------------------------------------------------------------------------------- passwords


def test_unknown_name_and_wrong_password_get_the_same_answer(client: httpx.Client) -> None:
    answers = [
        client.post("/login", data={"username": name, "password": password})
        for name, password in [("demo", "wrong"), ("nobody", "wrong"), ("demo", "x" * 300), ("", "")]
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (401, '{"error":"The username or the password is wrong."}')
    }


def test_unknown_name_and_wrong_password_take_the_same_time(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.db")
    users.add("known", "some password")

    def duration(name: str, password: str) -> float:
        began = time.perf_counter()
        assert users.check(name, password) is None
        return time.perf_counter() - began

    tries = [("known", "wrong"), ("unknown", "wrong"), ("known", "y" * 100_000)]
    rounds = [[duration(*attempt) for attempt in tries] for _ in range(7)]
    typical = [median(column) for column in zip(*rounds, strict=True)]
    users.close()
    # Without the hash a check takes a thousandth of the time; the margin is for noisy machines.
    assert max(typical) < 3 * min(typical)


def test_accounts(client: httpx.Client) -> None:
    account = {"username": "Grace", "password": "a compiler, please"}
    assert client.post("/signup", data=account).json() == {"user": "grace"}
    assert client.get("/me").json() == {"user": "grace"}
    assert (
        client.post(
            "/signup", data={**account, "username": "\N{FULLWIDTH LATIN SMALL LETTER G}race"}
        ).status_code
        == 422
    )
    assert client.post("/login", data={**account, "username": "GRACE"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "password", "fine"),
    [
        ("ada", "12345678", True),
        ("ada", "1234567", False),
        ("ada", "x" * 256, True),
        ("ada", "x" * 257, False),
        ("a", "12345678", False),
        ("a da", "12345678", False),
        ("lovelace", "Lovelace", False),
    ],
)
def test_what_an_account_needs(name: str, password: str, fine: bool) -> None:
    assert (objection(name, password) is None) is fine


# ------------------------------------------------------------------------------------------------- hostile requests


def _token(client: httpx.Client) -> str:
    page = client.get("/cart", headers={"Accept": "text/html"}).text
    return page.partition('name="csrf_token" value="')[2].partition('"')[0]


FORGED = pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Referer": "https://evil.example/"},
    ],
    ids=str,
)


@FORGED
def test_another_sites_form_is_refused(demo: Demo, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{demo.url}/login", data=LOGIN, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@FORGED
def test_another_site_ends_nobodys_session(client: httpx.Client, headers: dict[str, str]) -> None:
    client.post("/login", data=LOGIN)
    del client.headers["Sec-Fetch-Site"]
    for path in ("/logout", "/devices/end-others", "/cart"):
        assert client.post(path, headers=headers).status_code == 403
    assert client.get("/me").json() == {"user": "demo"}


def test_a_guesser_is_slowed_down_and_the_owner_is_not(tmp_path: Path) -> None:
    with (
        Demo(tmp_path / "state") as demo,
        httpx.Client(base_url=demo.url, headers=OURS) as guesser,
        httpx.Client(base_url=demo.url, headers=OURS) as owner,
    ):
        assert owner.post("/login", data=LOGIN).status_code == 200
        wrong = {**LOGIN, "password": "guess"}
        assert [guesser.post("/login", data=wrong).status_code for _ in range(11)] == [401] * 10 + [429]
        page = guesser.post("/login", data=LOGIN, headers={"Accept": "text/html"})
        assert page.status_code == 429, "not even with the right password"
        assert "Too many tries" in page.text
        assert 1 <= int(page.headers["retry-after"]) <= 60
        assert owner.post("/login", data=LOGIN).status_code == 200, "from where they have logged in before"


@pytest.mark.parametrize("header", ["Sec-Fetch-Site", "Origin"])
def test_our_own_form_is_not(demo: Demo, header: str) -> None:
    headers = {header: demo.url if header == "Origin" else "same-origin"}
    assert httpx.post(f"{demo.url}/login", data=LOGIN, headers=headers).status_code == 200


def test_an_old_browsers_form_needs_the_sessions_token_and_a_login_ends_it(client: httpx.Client) -> None:
    del client.headers["Sec-Fetch-Site"]
    page = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    def buy(token: str) -> int:
        order = {"csrf_token": token, "sku": "hat", "quantity": "1"}
        return client.post("/cart", data=order, headers=page).status_code

    assert buy("") == 403
    first = _token(client)
    assert buy("x" + first) == 403
    assert buy(first) == 303
    client.post("/login", data=LOGIN, headers=OURS)
    assert buy(first) == 403
    assert buy(_token(client)) == 303
    assert client.get("/cart").json()["cart"] == {"hat": 1}, "the cart came along through the login"


@pytest.mark.parametrize(
    ("sku", "quantity"), [("spaceship", "1"), ("hat", "-1"), ("hat", "100"), ("hat", "²"), ("hat", "")]
)
def test_an_impossible_order(client: httpx.Client, sku: str, quantity: str) -> None:
    assert (
        client.post(
            "/cart", data={"csrf_token": _token(client), "sku": sku, "quantity": quantity}
        ).status_code
        == 400
    )


def test_a_huge_body_is_refused_unread(client: httpx.Client) -> None:
    assert client.post("/login", data={**LOGIN, "password": "x" * 1_000_000}).status_code == 413


def test_every_answer_is_strict(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/static/style.css", "/nothing-here"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy


# ------------------------------------------------------------------------------------------------- starting, stopping


def test_a_restart_loses_nobodys_session(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Demo(state) as before, httpx.Client(base_url=before.url, headers=OURS) as client:
        client.post("/login", data=LOGIN)
        client.get("/visits")
        cookies = dict(client.cookies)
        assert before.stop() == 0
        assert "Traceback" not in before.output
    with Demo(state) as after, httpx.Client(base_url=after.url, cookies=cookies, headers=OURS) as client:
        assert client.get("/me").json() == {"user": "demo"}
        assert client.get("/visits").json() == {"visits": 2}


def test_ctrl_c_lets_a_slow_request_finish(tmp_path: Path) -> None:
    with Demo(tmp_path / "state") as demo, httpx.Client(base_url=demo.url, headers=OURS) as client:
        client.get("/visits")
        order = "sku=hat&quantity=7&pace=slow"
        address = ("127.0.0.1", httpx.URL(demo.url).port or 0)
        with (
            socket.create_connection(address) as slow,
            socket.create_connection(address),
        ):  # and an idle visitor
            slow.sendall(
                f"POST /cart HTTP/1.1\r\nHost: {demo.url[7:]}\r\nCookie: session={client.cookies['session']}\r\n"
                "Sec-Fetch-Site: same-origin\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(order)}\r\n\r\n{order}".encode()
            )
            client.get("/healthz")  # answered by the same loop, so the order has been read
            assert demo.stop() == 0
            assert slow.recv(100).startswith(b"HTTP/1.1 303 ")
        cookies = dict(client.cookies)
    assert "Traceback" not in demo.output
    assert "Stopped." in demo.output
    with Demo(demo.state) as after, httpx.Client(base_url=after.url, cookies=cookies, headers=OURS) as client:
        assert client.get("/cart").json()["cart"] == {"hat": 7}


def test_ctrl_c_right_at_the_start(tmp_path: Path) -> None:
    with (
        Demo(tmp_path / "state") as demo,
        socket.create_connection(("127.0.0.1", httpx.URL(demo.url).port or 0)),
    ):
        assert demo.stop() == 0
    assert "Traceback" not in demo.output


def test_only_the_owner_can_read_what_it_keeps(demo: Demo) -> None:
    assert stat.S_IMODE(demo.state.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in demo.state.iterdir()}
    assert modes["secret"] == 0o600
    assert {"sessions.db", "users.db"} <= modes.keys()
    assert all(mode & 0o077 == 0 for mode in modes.values())


def test_it_prints_where_and_who_and_what_a_script_writes(demo: Demo, tmp_path: Path) -> None:
    assert demo.url in demo.output
    greeting = list(iter(lambda: _line(demo), ""))
    assert any("demo / demo-password" in line for line in greeting)
    commands = ["curl -sS" + line.partition("curl")[2] for line in greeting if "curl" in line]
    answers = [subprocess.check_output(shlex.split(line), cwd=tmp_path, text=True) for line in commands]
    assert answers == ['{"user":"demo"}'] * 2


def _line(demo: Demo) -> str:
    """The rest of the greeting, up to its blank last line."""
    assert demo.process.stdout is not None
    return demo.process.stdout.readline().strip()


def test_a_port_that_is_taken_is_one_clear_line(demo: Demo, tmp_path: Path) -> None:
    port = httpx.URL(demo.url).port
    assert port is not None
    second = Demo(tmp_path / "state", port=port)
    output, _ = second.process.communicate(timeout=30)
    assert (second.process.returncode, output) == (
        1,
        f"demo: port {port} is in use; choose another: make demo PORT={port + 1}\n",
    )


@pytest.mark.parametrize("spoilt", ["users.db", "sessions.db"])
def test_a_file_that_is_not_ours_is_one_clear_line(tmp_path: Path, spoilt: str) -> None:
    (tmp_path / spoilt).write_bytes(b"this is somebody's letter, not a database\n" * 200)
    demo = Demo(tmp_path)
    output, _ = demo.process.communicate(timeout=30)
    assert demo.process.returncode == 1
    assert output.startswith("demo: ")
    assert spoilt in output
    assert output.count("\n") == 1
