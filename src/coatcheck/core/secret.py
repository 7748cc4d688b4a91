"""Which secrets may sign: random ones. Everything people leave in a configuration by mistake is refused at start-up.

Whoever knows the secret can sign anything, and lists of the usual ones are public: Apache Superset's default opened
two thousand servers (CVE-2023-27524), Airflow's likewise (CVE-2020-17526). Checklist 18, 19, 21.

No message here repeats a secret, not even in part.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from coatcheck.errors import ConfigurationError, WeakSecret

__all__ = ["MIN_BYTES", "Secret", "Secrets", "check_secret", "normalise", "reader"]

Secrets: TypeAlias = str | bytes | list[str] | list[bytes] | list[str | bytes] | tuple[str | bytes, ...]
"""One secret, or several: the first signs, all verify."""

Secret: TypeAlias = Secrets | Path | Callable[[], Secrets]
"""What a user may hand over: secrets, a file with one secret a line, or a function; the last two are read again while running."""

MIN_BYTES: Final = 32
"""As long as the output of the hash, which RFC 2104 section 3 asks of a key."""

_MIN_DISTINCT: Final = 8
_FIX: Final = "run `coatcheck secret` and use what it prints"


def normalise(secret: object, *, setting: str = "secret", insecure_dev: bool = False) -> tuple[bytes, ...]:
    """One or several secrets as bytes, checked, in their order; the first signs.

    `secret` is a str, bytes, or a list or tuple of them. `insecure_dev` lets weak ones pass, for a developer's own machine, but
    not empty ones. Raises WeakSecret, or ConfigurationError for what can be no secret at all.
    """
    several = secret if isinstance(secret, list | tuple) else (secret,)
    if not several:
        raise WeakSecret(f"{setting} is an empty list: {_FIX}")
    as_bytes = (_to_bytes(one, setting) for one in several)
    checked = as_bytes if insecure_dev else (check_secret(one, setting=setting) for one in as_bytes)
    return tuple(dict.fromkeys(checked))


def check_secret(secret: str | bytes, *, setting: str = "secret") -> bytes:
    """The secret as bytes, if it can be random. `setting` is how the user calls it, for the message.

    Raises WeakSecret, saying what is wrong and never what the secret is, if it is too short, well known, a placeholder that was
    never filled in, a public key, a UUID, or too regular to be random.
    """
    found = _to_bytes(secret, setting)
    reason = _weakness(found)
    if reason is not None:
        raise WeakSecret(f"{setting} {reason}: {_FIX}")
    return found


def reader(secret: Path | Callable[[], Secrets]) -> Callable[[], Secrets]:
    """The function that reads a file or asks a function. A file holds one secret a line, the first signs; replace it by `mv`."""
    return (lambda: _lines(secret.read_bytes())) if isinstance(secret, Path) else secret


def _lines(text: bytes) -> Secrets:
    return [line for line in map(bytes.strip, text.splitlines()) if line]


def _to_bytes(secret: object, setting: str) -> bytes:
    if secret is None or (isinstance(secret, str | bytes) and not secret.strip()):
        raise WeakSecret(f"{setting} is missing or empty: {_FIX}")
    if isinstance(secret, str):
        # An environment variable may hold any bytes; Python hands them over as halves of surrogate pairs.
        return secret.encode("utf-8", "surrogatepass")
    if isinstance(secret, bytes):
        return bytes(secret)
    raise ConfigurationError(
        f"{setting} is of type {type(secret).__name__}: give a str or bytes, or a list of them (the first signs, all verify)"
    )


# ------------------------------------------------------------------------------------------------ what is weak


def _weakness(secret: bytes) -> str | None:
    """What is wrong with it, or None. The kinds of mistake come first: they say more than a length."""
    text = secret.decode("ascii").strip() if secret.isascii() else ""
    squeezed = re.sub(r"[^a-z0-9]", "", text.lower())
    if _PLACEHOLDER.fullmatch(text):
        return "is a placeholder that was never filled in"
    if text.startswith("django-insecure-"):
        return "is the one django-admin startproject made for development"
    if _KEY_FILE.match(text):
        return "is a key file or a certificate, perhaps a public one, not a secret"
    if _UUID.fullmatch(text):
        return "is a UUID or a hash of 128 bits, which is too little and may not be random at all"
    if squeezed in _FAMOUS or any(word in squeezed for word in _WORDS):
        return "is a well-known default or holds the words of one"
    if len(secret) < MIN_BYTES:
        return f"has fewer than {MIN_BYTES} bytes"
    if _is_regular(secret):
        return "is too regular to be random"
    return None


def _is_regular(secret: bytes) -> bool:
    """Few different bytes, one piece again and again, or mostly runs as in `abcd` and `4321`."""
    if len(set(secret)) < _MIN_DISTINCT:
        return True
    if any(secret.startswith(secret[period:]) for period in range(1, len(secret) // 2 + 1)):
        return True
    steps = [abs(after - before) <= 1 for before, after in pairwise(secret)]
    return sum(steps) * 2 > len(steps)


_PLACEHOLDER: Final = re.compile(
    r"""\$\{.*\} | \$\(.*\) | \$[A-Za-z_]\w*     # shell, Compose
      | \{\{.*\}\} | \{%.*%\} | %\{.*\} | \{\w+\}  # Jinja, Helm, Terraform, str.format
      | <.*> | \[.*\]                              # manuals
      | %\(\w+\)s | %\w+%                          # ini files, Windows
      | \#\{.*\} | @\w+@ | __\w+__                 # Azure, Maven, sed
      | (os\.|process\.)?(environ|getenv|env)\b.*  # code that was meant to run
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_KEY_FILE: Final = re.compile(
    r"-----BEGIN|ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-|age1|\{\s*\"(kty|keys)\"", re.IGNORECASE
)
_UUID: Final = re.compile(r"(urn:uuid:)?\{?[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\}?", re.IGNORECASE)

# Compared in lower case, letters and digits only. Each word is so long that a random secret of 43 characters holds one of them
# less than once in ten million.
_WORDS: Final = (
    "changeme", "changethis", "changeit", "replaceme", "replacethis", "placeholder", "insertyour", "yoursecret", "yourrandom",
    "yourown", "mysecret", "secretkey", "supersecret", "topsecret", "randomsecret", "somesecret", "secretstring", "secrethere",
    "keyhere", "thisisa", "thisisthe", "thisismy", "notsecret", "notasecret", "notsosecret", "nondevsecret", "insecure",
    "unsafe", "temporarykey", "development", "devsecret", "devkey", "testsecret", "testkey", "example", "keyboardcat", "password",
    "passw0rd", "p4ssw0rd", "qwerty", "letmein", "correcthorse", "abcdefgh", "12345678", "deadbeefdeadbeef",
    "somerandom", "astringsecret", "256bitsecret", "32characters", "minimum32", "atleast32",
)  # fmt: skip
_FAMOUS: Final = frozenset({
    "dev", "test", "secret", "session", "secrets", "default", "admin", "root", "key", "none", "null", "undefined", "true",
    "false", "todo", "tbd", "fixme", "xxx", "foo", "bar", "foobar", "flask", "django", "fastapi", "express", "s3cr3t",
    # Printed in the manuals of FastAPI and Flask, and in Dify's docker-compose.yaml: copied into thousands of repositories.
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "sk9f73s3ljtxvcmt3blb3ljtqtskighxvcmt3blbkfjlk7u",
})  # fmt: skip
