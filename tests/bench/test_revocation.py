"""Revocation reaches every process within the stated lag (checklist 175): a short run by default, a thousand in the slow one."""

import pytest

from bench import revocation


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_revocation_is_known_everywhere_within_the_stated_lag(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert revocation.main(["--revocations", str(count)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["redis", str(count)], ["postgres", str(count)]]
    assert all(f" {figure} " in line for line in lines for figure in ("p50", "p99", "max"))
