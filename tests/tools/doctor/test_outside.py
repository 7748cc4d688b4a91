"""A look from outside, over real TLS: nothing to mend where nothing is wrong, and each thing that is wrong is found."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coatcheck.tools.cli import main
from tests.demo.running import Demo
from tests.tools.doctor.conftest import Authority, server_context
from tests.tools.doctor.site import PASSWORD
from tests.web.servers import Server, gunicorn


def look(*words: str, code: int, **environment: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", *words], env={"PROBE": PASSWORD, **environment})
    assert result.exit_code == code, result.output
    assert PASSWORD not in result.output
    return result


def words_for(site: Server, authority: Authority, fault: str, plain: str) -> list[str]:
    base = f"/{fault}"
    return [
        f"https://localhost:{site.port}{base}/", "--ca", str(authority.file), "--http-url", plain, "--json",
        "--login-url", f"{base}/login", "--form", "user=ada", "--password-env", "PROBE", "--private-url", f"{base}/me",
        "--logout-url", f"{base}/logout", "--public-url", f"{base}/public",
    ]  # fmt: skip


def report_on(
    fault: str, site: Server, authority: Authority, plain: Server, *, path: str = "/redirect", code: int = 1
) -> dict[str, Any]:
    where = f"http://127.0.0.1:{plain.port}{path}"
    found: dict[str, Any] = json.loads(look(*words_for(site, authority, fault, where), code=code).output)
    return found


def lines(report: dict[str, Any]) -> set[int]:
    return {finding["line"] for finding in report["findings"] if finding["severity"] != "note"}


def test_a_well_made_site_is_clean(site: Server, authority: Authority, plain: Server) -> None:
    report = report_on("well", site, authority, plain, code=0)
    assert (report["findings"], report["clean"], report["not_looked_at"]) == ([], True, [])
    assert len(report["passed"]) == 23


def test_the_site_of_the_first_week_is_clean_but_for_its_faults(
    site: Server, authority: Authority, plain: Server
) -> None:
    """So that what is found in the others is their fault, and not the rig's."""
    report = report_on("naive", site, authority, plain, code=0)
    assert report["findings"] == []


FAULTS = {
    "script": 28, "insecure": 28, "no-site": 28, "domain": 28, "no-prefix": 28, "for-ever": 33, "twice": 36, "shown": 37,
    "stored": 85, "member-stored": 90, "no-vary": 86, "public-session": 87, "public-look": 87, "no-hsts": 39, "host": 107,
    "host-in-page": 107, "host-domain": 108, "forwarded": 105, "unsecured": 106, "clock": 68, "csrf": 102, "get-logout": 58,
    "fixed": 53, "old-becomes": 53, "old-lives": 53, "adopts": 4, "short": 1, "logout-only-clears": 57,
}  # fmt: skip
ALSO = {"csrf": {58}, "adopts": {53}, "short": set[int]()}
"""Who may be logged in from elsewhere may be logged out; an adopted id is kept at login."""


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found(fault: str, site: Server, authority: Authority, plain: Server) -> None:
    report = report_on(fault, site, authority, plain)
    assert lines(report) == {FAULTS[fault]} | ALSO.get(fault, set())
    assert all(finding["seen"] and finding["fix"] for finding in report["findings"])


@pytest.mark.parametrize("path", ["/served", "/cookie"])
def test_plain_http_that_is_answered_is_found(
    path: str, site: Server, authority: Authority, plain: Server
) -> None:
    report = report_on("well", site, authority, plain, path=path)
    assert lines(report) == {39}


def test_nobody_at_plain_http_is_as_good_as_a_redirect(site: Server, authority: Authority) -> None:
    where = "http://127.0.0.1:1/"
    report = json.loads(look(*words_for(site, authority, "well", where), code=0).output)
    assert "Plain HTTP leads to HTTPS" in report["passed"]


def test_a_line_can_be_somebody_elses_business(site: Server, authority: Authority) -> None:
    words = words_for(site, authority, "no-hsts", "http://127.0.0.1:1/")
    look(*words, "--ignore", "39", code=0)


def test_without_a_login_it_says_what_it_did_not_look_at(site: Server, authority: Authority) -> None:
    result = look(f"https://localhost:{site.port}/well/", "--ca", str(authority.file), code=0)
    assert "nothing to mend" in result.output
    assert "A logout ends the session on the server" in result.output
    assert "--logout-url" in result.output


def test_a_login_may_take_json(site: Server, authority: Authority) -> None:
    words = words_for(site, authority, "json", "http://127.0.0.1:1/")
    look(*words, "--form-as-json", code=0)
    said = look(*words, code=2).output
    assert "The login works" in {item["check"] for item in json.loads(said)["not_looked_at"]}


def test_a_wrong_password_is_not_a_clean_bill(site: Server, authority: Authority) -> None:
    """The checks that need the login say so, rather than pass."""
    words = words_for(site, authority, "well", "http://127.0.0.1:1/")
    result = look(*words, code=2, PROBE="wrong-password-7")
    report = json.loads(result.output)
    assert (report["clean"], report["findings"]) == (False, [])
    assert "401" in report["trouble"]
    unseen = {item["check"] for item in report["not_looked_at"]}
    assert {"The login works", "A logout ends the session on the server"} <= unseen


# --------------------------------------------------------------------------------------------------- certificates


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Strict-Transport-Security", "max-age=31536000")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Quiet(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us hangs up: that is the test."""


@contextmanager
def served(files: tuple[Path, Path]) -> Iterator[int]:
    server = _Quiet(("127.0.0.1", 0), _Hello)
    server.socket = server_context(files).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("days", "severity"), [(3.0, "medium"), (-0.1, "high")])
def test_a_certificate_at_its_end_is_found(days: float, severity: str, authority: Authority) -> None:
    with served(authority.issue("short", days=days)) as port:
        result = look(f"https://localhost:{port}/", "--ca", str(authority.file), "--json", code=1)
    (finding,) = json.loads(result.output)["findings"]
    assert (finding["line"], finding["severity"]) == (39, severity)
    assert "certificate" in finding["title"]


def test_a_certificate_of_nobody_we_know_is_found(authority: Authority) -> None:
    with served(authority.issue("unknown", days=20)) as port:
        result = look(f"https://localhost:{port}/", code=1)
    assert "the certificate is not to be trusted" in result.output


# ------------------------------------------------------------------------------------------------------- could not look


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["https://127.0.0.1:1/"], "does not answer"),
        (["http://127.0.0.1:1/"], "does not answer"),
        (["https:///"], "names no host"),
        (["https://ada:a-password@localhost/"], "leave user and password out"),
        (["https://localhost/", "--login-url", "https://evil.example/login"], "is not on https://localhost"),
        ([], "what should be looked at"),
        (["https://localhost/", "--login-url", "/login", "--form", "user"], "NAME=VALUE"),
        (["https://localhost/", "--login-url", "/login", "--password-env", "NO_SUCH"], "no such variable"),
    ],
)
def test_what_cannot_be_looked_at_is_neither_clean_nor_a_finding(words: list[str], says: str) -> None:
    assert says in look(*words, code=2).output


def test_plain_http_on_a_network_is_found(monkeypatch: pytest.MonkeyPatch, plain: Server) -> None:
    """Whatever its name resolves to."""
    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    result = look(f"http://app.example:{plain.port}/served", "--json", code=1)
    assert lines(json.loads(result.output)) == {39}


def test_what_a_server_says_cannot_command_the_terminal(site: Server, authority: Authority) -> None:
    from coatcheck.tools.doctor.render import as_text, hiding
    from coatcheck.tools.doctor.report import Finding, Report

    report = Report("x", [Finding(107, "high", "title", "Location: \x1b[2J\nfake line", "fix")])
    text = as_text(report, hiding([]))
    assert "\x1b[2J" not in text
    assert "\nfake line" not in text


# ------------------------------------------------------------------------------------------------------ the demo, a peer


def test_sessions_that_are_not_ours_are_looked_at_as_well(tmp_path: Path) -> None:
    """Plain Flask keeps the session in the cookie, where no logout reaches it, and tells caches nothing."""
    with gunicorn("tests.tools.doctor.peer:app", folder=tmp_path) as server:
        words = [
            f"http://127.0.0.1:{server.port}/", "--login-url", "/login", "--form", "user=ada", "--password-env", "PROBE",
            "--private-url", "/me", "--logout-url", "/logout", "--json",
        ]  # fmt: skip
        report = json.loads(look(*words, code=1).output)
    assert lines(report) == {28, 57, 58, 85, 90, 102}


def test_the_demo_is_clean_from_outside(tmp_path: Path) -> None:
    with Demo(tmp_path / "state") as demo:
        words = [
            demo.url, "--login-url", "/login", "--form", "username=demo", "--password-env", "PROBE", "--private-url", "/me",
            "--logout-url", "/logout", "--public-url", "/static/app.js", "--json",
        ]  # fmt: skip
        result = CliRunner().invoke(main, ["doctor", *words], env={"PROBE": "demo-password"})
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.output)["passed"]) == 19


def test_the_command_is_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coatcheck.tools.cli", "doctor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Exit status 0: nothing to mend. 1: findings. 2: could not look." in done.stdout
