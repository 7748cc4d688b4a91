"""What a request costs by how many come at once: ``python -m bench.concurrency``, over 1 to 256 connections.

There are at least twice as many sessions as connections, so that hardly two requests of one session meet.
"""

import sys
from dataclasses import replace

from bench import sweep, visitors
from bench.rounds import Plan, Stand

CONNECTIONS = (1, 4, 16, 64, 256)


def at(stand: Stand, connections: int) -> Stand:
    """Return the stand with so many connections, and sessions enough for them."""
    count = max(len(stand.cookies), 2 * connections)
    cookies = visitors.log_in(stand.contestant, stand.server.port, count)
    return replace(stand, connections=connections, cookies=cookies)


SWEEP = sweep.Sweep(
    name="concurrency",
    unit="connections",
    values=CONNECTIONS,
    at=at,
    figures=("added_cpu_us", "rps"),
    # Longer slices: each begins by making its connections.
    plan=Plan(rounds=3, slices=3, seconds=1.0),
)

if __name__ == "__main__":
    sys.exit(sweep.main(SWEEP, __doc__))
