"""The people behind the load: they log in once, and afterwards check that the server kept what it heard."""

from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

from bench.contestants import Contestant

# Requests on the wire when wrk stops are served but not counted, and a load may race a little with itself; a
# library that keeps less than this fraction of the writes is not doing the work that is being timed.
LEAST_KEPT = 0.9
PLACEHOLDER = "session=" + "x" * 43


class Wrong(Exception):
    """The sessions do not do what the workload asks of them."""


def log_in(contestant: Contestant, port: int, count: int, *, octets: int = 0) -> list[str]:
    """Return the Cookie headers of ``count`` different sessions, each proven by one write and one read.

    With ``octets`` each keeps so many besides its counter, in those applications that offer it.

    A contestant that keeps nothing gets placeholders of a usual length, so that its parser has the same work.

    Raises:
        Wrong: a login set no cookie, cookies repeat, or the counter is not 1 after one write.
    """
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as http:
        if contestant.keeps == "nothing":
            get(http, "/read")  # gunicorn listens before its worker has loaded the application
            return [PLACEHOLDER] * count
        cookies = [one_login(http, octets) for _ in range(count)]
    if contestant.keeps == "server" and len(set(cookies)) < count:
        raise Wrong("different logins were given the same session")
    return cookies


def one_login(http: HTTPConnection, octets: int = 0) -> str:
    """Log in, write once, read back; return the Cookie header to go on with."""
    jar = get(http, f"/login?octets={octets}" if octets else "/login")[1]
    if not jar:
        raise Wrong("the login set no cookie")
    jar |= get(http, "/write", header(jar))[1]
    value = get(http, "/read", header(jar))[0]
    if value != "1":
        raise Wrong(f"after one write the counter reads {value!r}")
    return header(jar)


def counters(port: int, cookies: list[str]) -> int:
    """Return the sum of all the sessions' counters.

    Raises:
        Wrong: a session has no counter.
    """
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as http:
        values = [get(http, "/read", cookie)[0] for cookie in cookies]
    if not all(value.isdecimal() for value in values):
        raise Wrong(f"a session reads {next(v for v in values if not v.isdecimal())!r}")
    return sum(int(value) for value in values)


def verdict(contestant: Contestant, workload: str, *, moved: int, requests: int) -> float | None:
    """Judge how far the counters moved during a load; return the fraction of writes kept, None if none counts.

    Raises:
        Wrong: writes were lost, or something moved that should not have.
    """
    if workload == "read" or contestant.keeps != "server":
        # The load repeats the cookies it was given, so a counter that lives in the cookie stands still.
        if moved:
            raise Wrong(f"the counters moved by {moved} without a write")
        return None
    kept = min(1.0, moved / requests)
    if kept < LEAST_KEPT:
        raise Wrong(f"only {moved} of {requests} writes were kept")
    return kept


def get(http: HTTPConnection, path: str, cookie: str = "") -> tuple[str, dict[str, str]]:
    """Send one GET; return the body and the cookies set.

    Raises:
        Wrong: the answer is not 200.
    """
    http.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    response = http.getresponse()
    body = response.read().decode()
    if response.status != 200:
        raise Wrong(f"GET {path} answered {response.status}")
    return body, set_cookies(response)


def set_cookies(response: HTTPResponse) -> dict[str, str]:
    """Return names and values of Set-Cookie byte for byte; attributes such as Secure do not matter here."""
    pairs = [value.split(";", 1)[0].partition("=") for value in response.headers.get_all("Set-Cookie", [])]
    return {name.strip(): value.strip() for name, _, value in pairs}


def header(jar: Mapping[str, str]) -> str:
    """Return the Cookie header of a jar."""
    return "; ".join(f"{name}={value}" for name, value in jar.items())
