"""Hostile input, for as long as you let it: `python -m fuzz --seconds 3600`.

Two kinds of targets. A *made* case is put together by a module's `generate(random) -> case`, from nothing but the given
`random.Random`, and `check(case)` raises whatever it likes if a promise is broken: `cookies`, `requests`, `stored`. *Octets*
(`octets.py`) are any bytes at all: atheris (libFuzzer) steers them by what code they reach; in the tests hypothesis makes
some too.
"""
