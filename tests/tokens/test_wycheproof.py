"""Project Wycheproof's vectors that are at hand, as labelled but for eight that cannot be (`wycheproof.LABELLED_WRONGLY`)."""

from typing import Any

import pytest

from tests.tokens.wycheproof import FILE, LABELLED_WRONGLY, accepts, cases, expected, files, groups

COUNTS = {
    FILE: 401, "json_web_key_test.json": 26, "json_web_crypto_test.json": 83,
    "ecdsa_secp256r1_sha256_p1363_test.json": 262, "ecdsa_secp384r1_sha384_p1363_test.json": 280,
    "hmac_sha256_test.json": 174, "hmac_sha384_test.json": 174, "hmac_sha512_test.json": 174, "ed25519_test.json": 151,
}  # fmt: skip
"""As the checklist has counted them: fewer would mean that some were not run."""


@pytest.mark.parametrize(("group", "vector"), cases(files()))
def test_a_vector(group: dict[str, Any], vector: dict[str, Any]) -> None:
    assert accepts(group, vector) is expected(group, vector), vector["comment"]


def test_a_key_that_signs_verifies_too() -> None:
    """The private halves of the same groups give the same answers: some of each, since RSA takes its time to load them."""
    for group in (group for path in files() if path.name == FILE for group in groups(path)[:6]):
        for vector in group["tests"][:4]:
            if vector["tcId"] not in LABELLED_WRONGLY[FILE]:
                assert accepts({**group, "public": group["private"]}, vector) is (vector["result"] == "valid")


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_count_is_what_the_checklist_says(path: Any) -> None:
    found = sum(len(group["tests"]) for group in groups(path))
    assert found >= COUNTS.get(path.name, 1)
