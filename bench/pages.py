"""Pages of the documentation that have measured figures in them: prose stays, what is between two marks is written anew."""

from collections.abc import Mapping, Sequence
from typing import Any

END = "<!-- end -->\n"


def filled(page: str, begin: str, words: str) -> str:
    """Return the page with these words between the mark and the next `END`.

    Raises:
        ValueError: the page has no such mark.
    """
    before, mark, rest = page.partition(begin)
    if not mark or END not in rest:
        raise ValueError(f"the page has no {begin.strip()} with {END.strip()} behind it")
    return before + begin + words + END + rest.partition(END)[2]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; all columns but the first are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def made_on(results: Mapping[str, Any], packages: Mapping[str, str]) -> str:
    """Return what the figures were measured on, with the versions of these, by the names they are to have; those not there left
    out.
    """
    machine, versions = results["machine"], results["versions"]
    named = "".join(f", {name} {versions[key]}" for name, key in packages.items() if key in versions)
    return (
        f"Measured on {machine['cores']} cores ({machine['cpu']}), {machine['system']}, Python {machine['python']}, load average"
        f" {machine['load_average_at_start']} at the start{named}.\n"
    )
