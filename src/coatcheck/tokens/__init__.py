"""JWT access tokens and rotating refresh tokens, on the same sessions.

Needs the extra: `pip install coatcheck[tokens]`.
"""

from coatcheck.tokens.access import AccessClaims, TokenVerifier
from coatcheck.tokens.dpop import DPoP
from coatcheck.tokens.grants import Pair
from coatcheck.tokens.keyfile import KeyFile
from coatcheck.tokens.keys import Key, KeyRing
from coatcheck.tokens.possession import BoundTokenVerifier
from coatcheck.tokens.remote import RemoteKeys
from coatcheck.tokens.service import AsyncTokens, Tokens

__all__ = [
    "AccessClaims",
    "AsyncTokens",
    "BoundTokenVerifier",
    "DPoP",
    "Key",
    "KeyFile",
    "KeyRing",
    "Pair",
    "RemoteKeys",
    "TokenVerifier",
    "Tokens",
]
