"""Wycheproof's vectors, where they are at hand."""

from tests.tokens.wycheproof import files

collect_ignore = [] if files() else ["test_wycheproof.py"]
