"""What it costs to make and to verify an access token, beside PyJWT and joserfc: `python -m bench.tokens`.

In one process, one token after the other, each library on the very same claims and key; the best of many short rounds, which take
turns. All verify the signature and the claims iss, aud, exp; only ours also iat, typ, duplicate names and the rest of RFC 9068.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
from joserfc import jwt as jose
from joserfc.jwk import import_key

from coatcheck.tokens import Key, KeyRing, TokenVerifier, base64url, jws
from coatcheck.tokens.jwk import public_members

ALGORITHMS = {"HS256": 2000, "ES256": 200, "Ed25519": 200, "RS256": 100}
"""Calls in a round."""
Calls = dict[str, Callable[[], object]]


def claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": "https://id.example", "sub": "42", "aud": "api", "exp": now + 3000, "iat": now, "jti": "Zm9vYmFyYmF6cXV4",
        "client_id": "web", "scope": "orders:read orders:write", "sid": "kQz4uGm0aLrXw1pVb7cD2eFh",
    }  # fmt: skip


def contestants(alg: str) -> tuple[Calls, Calls]:
    """(verify, issue), by library."""
    key, said = Key.generate(alg, kid="k1"), claims()
    material: Any = key.material
    shared = isinstance(material, bytes)
    public = material if shared else material.public_key()
    name = {"Ed25519": "EdDSA"}.get(alg, alg)  # as PyJWT calls it
    verifier = TokenVerifier(KeyRing([key]), issuer=said["iss"], audience="api")
    start = jws.prefix(key, typ="at+jwt")
    text = msgspec.json.encode(said)  # compact, as everybody writes it
    token = jws.sign(key, text, typ="at+jwt")
    theirs = jwt.encode(said, material, algorithm=name, headers={"kid": "k1"})
    jwk: Any = {"kty": "oct", "k": base64url.encode(material)} if shared else public_members(material)
    jose_key = import_key(jwk)
    rules = jose.JWTClaimsRegistry(
        iss={"essential": True, "value": said["iss"]}, aud={"essential": True, "value": "api"}
    )

    def by_jose() -> None:
        rules.validate(jose.decode(token, jose_key, algorithms=[alg]).claims)

    def by_jwt() -> object:
        return jwt.decode(theirs, public, algorithms=[name], audience="api", issuer=said["iss"])

    return (
        {"coatcheck": lambda: verifier.verify(token), "PyJWT": by_jwt, "joserfc": by_jose},
        {
            "coatcheck": lambda: jws.sign_under(start, key, msgspec.json.encode(said)),
            "PyJWT": lambda: jwt.encode(said, material, algorithm=name, headers={"kid": "k1"}),
        },
    )


def race(calls: Calls, *, number: int, rounds: int) -> dict[str, float]:
    """The least that one call took, in microseconds, by library; they take turns."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for library, call in calls.items():
            began = time.perf_counter()
            for _ in range(number):
                call()
            least[library] = min(least[library], (time.perf_counter() - began) / number)
    return {library: 1e6 * seconds for library, seconds in least.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each algorithm and act."""
    reader = argparse.ArgumentParser(prog="python -m bench.tokens", description=__doc__)
    reader.add_argument("--rounds", type=int, default=15)
    rounds = reader.parse_args(arguments).rounds
    for alg, number in ALGORITHMS.items():
        for act, calls in zip(("verify", "issue"), contestants(alg), strict=True):
            costs = race(calls, number=number if rounds > 1 else 1, rounds=rounds)
            ratio = costs["coatcheck"] / costs["PyJWT"]
            row = "   ".join(f"{library} {cost:7.1f} us" for library, cost in costs.items())
            print(f"{alg:<8} {act:<7} {row}   {ratio:5.2f} x PyJWT", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
