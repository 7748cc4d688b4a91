"""The bench of tokens runs, and every library in it does what it is measured at."""

import pytest

from bench import tokens


def test_every_row_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert tokens.main(["--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [alg, act] for alg in tokens.ALGORITHMS for act in ("verify", "issue")
    ]
    assert all("x PyJWT" in line for line in lines)
