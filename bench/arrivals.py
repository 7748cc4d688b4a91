"""Requests at a fixed rate, whatever the server does: ``python -m bench.arrivals``, its order and its result as JSON.

Visitors do not wait for each other. A load generator whose connections each wait for their answer before they ask again sends
nothing while a server stands still, and so leaves out just those who would have waited longest (coordinated omission). Here the
arrivals are drawn before the load begins, from an order's seed, at random with exponential gaps as from many people who know
nothing of each other; **each request is timed from its arrival**, also when it has to wait for a connection that is free.

It runs in a process of its own, on the load's core: one loop over epoll and raw sockets, no garbage collected meanwhile. How
late it was itself (from the arrival until the request had left, where a connection was free) is in the result: a latency means
nothing below that. Debian has no generator that does this: wrk holds no rate, h2load sends one cookie and times from the sending.
"""

import gc
import json
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.load import CONNECTIONS, LoadFailed
from bench.server import ROOT

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE = 10.0
"""Seconds after the last arrival in which every answer must have come."""
CLOSED = "the server closed a connection"
SLACK = Path("/proc/self/timerslack_ns")


@dataclass(frozen=True)
class Order:
    """What is to be sent: where to, which path, the sessions' cookies in turn, arrivals a second, for how many seconds."""

    port: int
    path: str
    cookies: Sequence[str]
    rate: float
    seconds: float
    connections: int = CONNECTIONS
    seed: int = 1


@dataclass
class Timed:
    """Seconds from each arrival to the end of its answer, and how late the generator was where a connection was free."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


@dataclass
class Connection:
    """One kept-alive connection: since when whoever it serves has been there, and what has come of the answer."""

    socket: socket.socket
    arrived: float = 0.0
    answer: bytes = b""


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return when requests arrive, in seconds from the start: ``rate`` a second on average, at random."""
    chance = random.Random(seed)
    found, at = [], chance.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += chance.expovariate(rate)
    return found


def complete(answer: bytes) -> bool:
    """Tell whether this is a whole answer.

    Raises:
        LoadFailed: it is not a success, or does not say how long it is.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3")):
        raise LoadFailed(f"an answer was {head.splitlines()[0]!r}")
    length = LENGTH.search(head)
    if length is None:
        raise LoadFailed("an answer did not say how long it is")
    return len(body) >= int(length[1])


def request(order: Order, path: str, cookie: str) -> bytes:
    """Return one request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\nCookie: {cookie}\r\n\r\n".encode()


class Sending:
    """A load under way. All times are those of ``time.perf_counter``."""

    def __init__(self, order: Order, stack: ExitStack) -> None:
        self.requests = [request(order, order.path, cookie) for cookie in order.cookies]
        self.sent, self.timed = 0, Timed()
        self.waiting: deque[float] = deque()
        """When those arrived whom nobody serves yet."""
        first = request(order, "/read", order.cookies[0])
        self.free = deque(
            Connection(stack.enter_context(used(order.port, first))) for _ in range(order.connections)
        )
        """Whichever was used longest ago first, so that none is idle until the server closes it."""
        self.all = {connection.socket.fileno(): connection for connection in self.free}
        self.poll = stack.enter_context(select.epoll())
        for number in self.all:
            self.poll.register(number, select.EPOLLIN)

    def run(self, offsets: Sequence[float]) -> Timed:
        """Send a request at each of these, in seconds from now, and wait for all answers.

        Raises:
            LoadFailed: an answer was no success, or did not come.
        """
        began = time.perf_counter()
        due = deque(began + offset for offset in offsets)
        until = due[-1] + PATIENCE
        while due or self.waiting or len(self.free) < len(self.all):
            now = time.perf_counter()
            if now > until:
                raise LoadFailed(f"{len(self.timed.latencies)} of {len(offsets)} requests were answered")
            while due and due[0] <= now:
                self.arrive(due.popleft())
            self.receive((due[0] if due else until) - time.perf_counter())
        return self.timed

    def arrive(self, at: float) -> None:
        """Somebody is there since then."""
        self.waiting.append(at)
        if self.free:
            self.serve()
            self.timed.late.append(time.perf_counter() - at)

    def serve(self) -> None:
        """Send the request of whoever waits longest over a connection that is free."""
        connection = self.free.popleft()
        connection.arrived, connection.answer = self.waiting.popleft(), b""
        connection.socket.send(self.requests[self.sent % len(self.requests)])
        self.sent += 1

    def receive(self, seconds: float) -> None:
        """Take what comes within so many seconds: less than a millisecond too, which epoll alone would round up."""
        if not select.select([self.poll.fileno()], [], [], max(0.0, seconds))[0]:
            return
        for number, _ in self.poll.poll(0):
            connection = self.all[number]
            piece = connection.socket.recv(65_536)
            if not piece:
                raise LoadFailed(CLOSED)
            connection.answer += piece
            if complete(connection.answer):
                self.timed.latencies.append(time.perf_counter() - connection.arrived)
                self.free.append(connection)
                if self.waiting:
                    self.serve()


def used(port: int, request: bytes) -> socket.socket:
    """Return a connection that has been used once: with a new one a thread of gunicorn's sits and waits until something comes."""
    found = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.sendall(request)
    answer = b""
    while not complete(answer):
        if not (piece := found.recv(65_536)):
            raise LoadFailed(CLOSED)
        answer += piece
    return found


def send(order: Order) -> Timed:
    """Carry out an order in this process."""
    with ExitStack() as stack:
        sending = Sending(order, stack)
        return sending.run(arrivals(order.rate, order.seconds, order.seed))


def sent(order: Order, *, core: int) -> Timed:
    """Carry out an order in a process of its own, on this core.

    Raises:
        LoadFailed: it did not come to an end, or an answer was no success.
    """
    command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.arrivals"]
    done = subprocess.run(command, input=json.dumps(asdict(order)), capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise LoadFailed(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "arrivals ended")
    return Timed(**json.loads(done.stdout))


def main() -> int:
    """Carry out the order on standard input."""
    order = Order(**json.load(sys.stdin))
    SLACK.write_text("1")  # or the kernel wakes it up to 50 us late, to save wakings
    gc.disable()
    try:
        print(json.dumps(asdict(send(order))))
    except (LoadFailed, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
