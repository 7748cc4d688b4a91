"""Tokens over HTTP: who may pass with one (`Gate`), how a browser keeps them (`TokenCookies`), and the endpoints that refresh,
revoke and introspect them (`Desk`). The rules are here, without a framework and without I/O; `coatcheck.bearer.fastapi`, `.flask`
and so on are what an application imports.

This package imports no framework, and nothing of `coatcheck.tokens`: it is given what it needs.
"""

from coatcheck.bearer.clients import Attempt
from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.login import LoginProof, Proven

__all__ = ["Attempt", "LoginProof", "Proven", "TokenCookies"]
