"""The load at fixed rates: everybody is timed from the arrival, whatever the server does meanwhile."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import pytest

from bench.arrivals import Order, Sending, arrivals, complete, send, sent
from bench.load import LoadFailed
from bench.stall import quantile

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(answer: Any) -> Iterator[int]:
    """A real HTTP server that answers by this function of the path; returns its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65_536  # head and body in one piece: between two, a system may wait

        def do_GET(self) -> None:
            body: bytes = answer(self)
            self.send_response(200 if body != b"wrong" else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: Any) -> None:
            """Nothing is logged."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield httpd.server_address[1]
        finally:
            httpd.shutdown()
            thread.join()


def order(port: int, **words: Any) -> Order:
    return Order(
        **{
            "port": port,
            "path": "/write",
            "cookies": ["a=1", "a=2"],
            "rate": 200.0,
            "seconds": 0.5,
            "connections": 4,
            **words,
        }
    )


def test_arrivals_are_as_many_as_the_rate_says_at_random_and_the_same_for_a_seed() -> None:
    found = arrivals(1_000.0, 10.0, 7)
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert found == sorted(found)
    assert found[-1] < 10.0
    gaps = [later - earlier for earlier, later in pairwise(found)]
    # Of exponential gaps the half are below ln 2 of their mean.
    assert quantile(gaps, 0.5) == pytest.approx(0.693e-3, rel=0.1)
    assert found == arrivals(1_000.0, 10.0, 7)
    assert found != arrivals(1_000.0, 10.0, 8)


def test_an_answer_is_whole_when_its_body_is() -> None:
    for cut in range(len(ANSWER)):
        assert not complete(ANSWER[:cut])
    assert complete(ANSWER)
    with pytest.raises(LoadFailed, match="503"):
        complete(ANSWER.replace(b"200 OK", b"503 No"))
    with pytest.raises(LoadFailed, match="how long"):
        complete(ANSWER.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked"))


STALL = 0.4


def stalls_once() -> Callable[[http.server.BaseHTTPRequestHandler], bytes]:
    """A server that at its fortieth request answers nobody for a while."""
    gate, seen = threading.Lock(), []

    def answer(page: http.server.BaseHTTPRequestHandler) -> bytes:
        with gate:
            seen.append(page.headers["Cookie"])
            if len(seen) == 40:
                threading.Event().wait(STALL)
            assert set(seen) <= {"a=1", "a=2"}
        return b"ok"

    return answer


def waited(latencies: list[float]) -> int:
    """How many had to wait for a good part of the stall."""
    return sum(seconds > STALL / 4 for seconds in latencies)


def test_whoever_comes_while_the_server_stands_still_has_waited_from_the_arrival() -> None:
    with server(stalls_once()) as port:
        timed = send(order(port, seconds=1.0, connections=2))
    # Of 200 a second about 60 come in the first three quarters of it.
    assert waited(timed.latencies) > 30
    assert max(timed.latencies) >= STALL * 0.9
    assert len(timed.latencies) == len(arrivals(200.0, 1.0, 1))


def test_a_generator_that_timed_from_the_sending_would_have_left_them_out() -> None:
    """The fault, planted: coordinated omission."""

    class Omitting(Sending):
        def serve(self) -> None:
            self.waiting[0] = time.perf_counter()
            super().serve()

    with server(stalls_once()) as port, ExitStack() as stack:
        asked = order(port, seconds=1.0, connections=2)
        timed = Omitting(asked, stack).run(arrivals(asked.rate, asked.seconds, asked.seed))
    assert 0 < waited(timed.latencies) <= 10


def test_an_answer_that_is_no_success_ends_the_load() -> None:
    with server(lambda page: b"ok" if page.path == "/read" else b"wrong") as port:
        with pytest.raises(LoadFailed, match="500"):
            send(order(port))
        with pytest.raises(LoadFailed, match="500"):
            sent(order(port), core=0)


def test_in_a_process_of_its_own_it_finds_the_same_kind_of_thing() -> None:
    with server(lambda page: b"ok") as port:
        timed = sent(order(port), core=1)
    assert len(timed.latencies) == len(arrivals(200.0, 0.5, 1))
    assert 0 < len(timed.late) <= len(timed.latencies)
    assert min(timed.latencies) > 0
