"""JWT access tokens and rotating refresh tokens, on the same sessions.

Needs the extra: `pip install coatcheck[tokens]`.
"""

from coatcheck.tokens.access import AccessClaims, TokenVerifier
from coatcheck.tokens.keys import Key, KeyRing

__all__ = ["AccessClaims", "Key", "KeyRing", "TokenVerifier"]
