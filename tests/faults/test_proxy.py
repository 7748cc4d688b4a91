"""The proxy does what it is told, to old connections and new ones."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest

from tests.faults.proxy import FaultProxy

SAID = b"0123456789"


class Echo:
    """A server that says everything back; `heard` is all it was told."""

    def __init__(self, name: bytes = b"") -> None:
        self.name, self.heard = name, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                there, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(there,), daemon=True).start()

    def _serve(self, there: socket.socket) -> None:
        with there:
            try:
                while piece := there.recv(1000):
                    self.heard += piece
                    there.sendall(self.name + piece)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@contextmanager
def connected(echo: Echo, *, seed: int = 1) -> Iterator[tuple[FaultProxy, socket.socket]]:
    """A proxy, and a connection that works."""
    with (
        FaultProxy(echo.port, seed=seed) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as here,
    ):
        here.settimeout(20)
        assert asked(here) == SAID
        echo.heard = b""
        yield proxy, here


def asked(here: socket.socket, size: int = len(SAID)) -> bytes:
    """What is answered, up to so many octets or the end."""
    here.sendall(SAID)
    got = b""
    while len(got) < size and (piece := here.recv(1000)):
        got += piece
    return got


def is_silent(here: socket.socket) -> bool:
    here.settimeout(0.3)
    try:
        here.recv(1)
    except TimeoutError:
        return True
    finally:
        here.settimeout(20)
    return False


def test_drops_is_silence_for_ever_on_a_connection_that_spoke(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("drops")
        here.sendall(SAID)
        assert is_silent(here)
        proxy.be("well")
        here.sendall(SAID)
        assert is_silent(here)
        assert echo.heard == b""
        with socket.create_connection(("127.0.0.1", proxy.port)) as another:
            assert asked(another) == SAID


def test_hangs_keeps_replies_back_and_delivers_them_late(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("hangs")
        here.sendall(SAID)
        assert is_silent(here)
        assert echo.heard == SAID
        proxy.be("delays", delay=0.01)
        assert here.recv(1000) == SAID


def test_resets_are_resets_and_some_come_after_the_request_was_carried_out(echo: Echo) -> None:
    carried = 0
    for seed in range(12):
        with connected(echo, seed=seed) as (proxy, here):
            proxy.be("resets")
            with pytest.raises(ConnectionResetError):
                asked(here)
            proxy.be("well")  # that connection is over, the next is not hurt
            with socket.create_connection(("127.0.0.1", proxy.port)) as another:
                heard = echo.heard
                assert asked(another) == SAID
            carried += SAID in heard
    assert 0 < carried < 12


def test_closes_is_an_end_without_an_answer(echo: Echo) -> None:
    for seed in range(6):
        with connected(echo, seed=seed) as (proxy, here):
            proxy.be("closes")
            assert asked(here) in (b"", SAID)


def test_halves_is_half_an_answer_and_the_end(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("halves")
        assert asked(here, 100) == SAID[:5]


def test_doubles_is_an_answer_too_many(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("doubles")
        assert asked(here, 20) == SAID + SAID


def test_garbles_is_noise_of_the_same_length(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("garbles")
        noise = asked(here)
        assert len(noise) == len(SAID)
        assert noise != SAID


def test_delays_changes_nothing_but_the_time(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.be("delays", delay=0.05)
        assert [asked(here) for _ in range(5)] == [SAID] * 5


def test_odds_are_odds_and_the_seed_decides(echo: Echo) -> None:
    def story() -> list[bytes]:
        with connected(echo, seed=4) as (proxy, here):
            proxy.be("doubles", odds=0.5)
            return [asked(here)[:10] for _ in range(3)]

    assert story() == story()
    with connected(echo) as (proxy, here):
        proxy.be("halves", odds=0.0)
        assert [asked(here) for _ in range(20)] == [SAID] * 20


def test_cut_ends_every_connection_at_once(echo: Echo) -> None:
    with connected(echo) as (proxy, here):
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            here.recv(1)


def test_where_it_leads_may_change(echo: Echo) -> None:
    other = Echo(b"other ")
    with connected(echo) as (proxy, here):
        proxy.target = other.port
        assert asked(here) == SAID
        with socket.create_connection(("127.0.0.1", proxy.port)) as another:
            assert asked(another, 16) == b"other " + SAID
        other.close()
        proxy.target = 1  # where nobody listens
        with (
            socket.create_connection(("127.0.0.1", proxy.port)) as nowhere,
            pytest.raises(ConnectionResetError),
        ):
            nowhere.recv(1)


def test_it_can_end_at_once(echo: Echo) -> None:
    """Whoever connects gets through before anybody accepts, so a test can be over before its proxy runs."""
    for _ in range(50):
        with FaultProxy(echo.port, seed=1):
            pass


def test_whoever_connects_as_it_ends_leaves_nothing_behind(echo: Echo) -> None:
    """A socket that is left to the garbage collector is a warning, and so an error, in whatever test runs by then."""

    def connect_on_and_on(port: int, many: threading.Event) -> None:
        with suppress(OSError):  # until nobody listens any more
            for number in count():
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    if number == 20:
                        many.set()

    for _ in range(10):
        many = threading.Event()
        with FaultProxy(echo.port, seed=1) as proxy:
            visitor = threading.Thread(target=connect_on_and_on, args=(proxy.port, many))
            visitor.start()
            assert many.wait(20)
        visitor.join()
    gc.collect()
