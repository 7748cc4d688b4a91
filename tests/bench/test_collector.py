"""What the garbage collector is given to do by requests that wait for their store."""

import subprocess
import sys


def test_a_write_that_waits_for_its_commit_leaves_the_collector_nothing_to_do() -> None:
    """Where the application waits with it, the collector runs 366 times, three of them over everything."""
    told = subprocess.run(
        [sys.executable, "-m", "bench.collector", "starlette_coatcheck"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    runs = {fields[1]: [int(number) for number in fields[4:]] for fields in map(str.split, told.splitlines())}
    assert set(runs) == {"write", "read"}
    for young, _, everything in runs.values():
        assert young < 60
        assert everything == 0
