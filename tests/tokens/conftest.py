"""Wycheproof's vectors, where they are at hand."""

from tests.tokens.wycheproof import folder

collect_ignore = [] if folder() else ["test_wycheproof.py"]
