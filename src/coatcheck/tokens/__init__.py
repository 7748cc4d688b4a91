"""JWT access tokens and rotating refresh tokens, on the same sessions.

Needs the extra: `pip install coatcheck[tokens]`.
"""

from coatcheck.tokens.access import AccessClaims, TokenVerifier
from coatcheck.tokens.grants import Pair
from coatcheck.tokens.keys import Key, KeyRing
from coatcheck.tokens.service import AsyncTokens, Tokens

__all__ = ["AccessClaims", "AsyncTokens", "Key", "KeyRing", "Pair", "TokenVerifier", "Tokens"]
