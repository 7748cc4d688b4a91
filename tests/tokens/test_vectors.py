"""Vectors of our own in every format of Wycheproof that concerns us; and that their runners catch what is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coatcheck.tokens import algorithms
from tests.tokens import wycheproof
from tests.tokens.wycheproof import GOLDEN, OURS, RUNNERS, accepts, cases, expected, files, groups

FILES = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize(("group", "vector"), cases(FILES))
def test_a_vector_of_our_own(group: dict[str, Any], vector: dict[str, Any]) -> None:
    if group["file"] == "json_web_signature_test.json":
        group = {**group, "file": "own"}  # its numbers are not Wycheproof's
    assert accepts(group, vector) is expected(group, vector), vector["comment"]


def test_every_kind_of_file_has_vectors() -> None:
    kinds = {group["type"] for path in FILES for group in groups(path)}
    assert kinds == set(RUNNERS)
    assert all(wycheproof.concerns_us(path) for path in FILES)
    assert len(FILES) == len(OURS) - 1 + 3  # ed25519 under one of its names; PSS also without salt


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_wrong_label_is_noticed(path: Path) -> None:
    """Each runner really decides: with every label turned round it disagrees with every one it agreed with."""
    for group in groups(path):
        for vector in group["tests"]:
            turned = {**vector, "tcId": 0, "result": "invalid" if vector["result"] == "valid" else "valid"}
            if "jwe" not in vector and group.get("sLen") != 0 and vector["result"] != "acceptable":
                assert accepts(group, vector) is not expected(group, turned), vector["comment"]


@pytest.mark.parametrize("kind", ["_Ecdsa", "_Ed25519", "_Rsa", "_Hmac"])
def test_a_planted_fault_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getattr(algorithms, kind), "verify", lambda *_: True)
    disagreed = set()
    for path in FILES:
        for group in groups(path):
            for vector in group["tests"]:
                try:
                    agrees = accepts(group, vector) is expected(group, vector)
                except (AssertionError, pytest.fail.Exception):
                    agrees = False
                if not agrees:
                    disagreed.add(group["type"])
    of = {
        "_Ecdsa": {"EcdsaP1363Verify"}, "_Ed25519": {"EddsaVerify"}, "_Hmac": {"MacTest"},
        "_Rsa": {"RsassaPkcs1Verify", "RsassaPssVerify"},
    }  # fmt: skip
    assert of[kind] <= disagreed


def test_where_the_files_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, one inside it as in Wycheproof's own repository, or one file."""
    deep = tmp_path / "testvectors_v1"
    deep.mkdir()
    for path in FILES:
        shutil.copy(path, deep)
    (deep / "aes_gcm_test.json").write_text(json.dumps({"testGroups": []}))
    monkeypatch.setenv("WYCHEPROOF", str(tmp_path))
    assert [path.name for path in files()] == [path.name for path in FILES]
    monkeypatch.setenv("WYCHEPROOF", str(deep / "json_web_key_test.json"))
    assert [path.name for path in files()] == ["json_web_key_test.json"]
    monkeypatch.setenv("WYCHEPROOF", str(deep / "aes_gcm_test.json"))
    with pytest.raises(AssertionError, match="no runner"):
        files()
