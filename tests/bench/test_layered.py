"""The command that prints what the cache saves."""

import pytest

from bench import layered


def test_it_prints_a_line_a_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layered, "best", lambda call, **_: (call(), 1.25)[1])
    assert layered.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["memory", "sqlite"]
    assert all(line.count("1.25 us") == 3 for line in lines)
    assert layered.main(["--store", "memory:"]) == 0
