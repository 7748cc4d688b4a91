"""Hostile input, for as long as you let it: `python -m fuzz --seconds 60`.

A target is a module with two functions: `generate(random) -> case` makes a case from nothing but the given `random.Random`, and
`check(case)` raises whatever it likes if a promise is broken. Nothing else is needed, so nothing else is installed.
"""
