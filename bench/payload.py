"""What a session costs by how large it is: ``python -m bench.payload``, 0.2 to 64 kB of JSON in each.

Every value has sessions of its own, which were given a cart of that size at their login; a write changes a counter beside it.
"""

import sys
from dataclasses import replace

from bench import sweep, visitors
from bench.rounds import Plan, Stand

OCTETS = (200, 1_000, 4_000, 16_000, 64_000)


def at(stand: Stand, octets: int) -> Stand:
    """Return the stand with sessions of this size."""
    count = len(stand.cookies)
    cookies = visitors.log_in(stand.contestant, stand.server.port, count, octets=octets)
    return replace(stand, cookies=cookies)


SWEEP = sweep.Sweep(
    name="payload",
    unit="octets of JSON in the session",
    values=OCTETS,
    at=at,
    figures=("added_cpu_us",),
    plan=Plan(rounds=3, slices=4, seconds=0.5),
)

if __name__ == "__main__":
    sys.exit(sweep.main(SWEEP, __doc__))
