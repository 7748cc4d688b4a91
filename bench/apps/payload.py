"""What a session holds besides its counter, when the cost against its size is measured: a cart with so many octets of JSON."""

ITEM = 67
"""Octets of one of these, as JSON with no more room than it needs, and its comma."""


def cart(octets: int) -> list[dict[str, object]]:
    """Return a cart of about so many octets, to the nearest item; empty for 0."""
    return [
        {"sku": f"a-{number:06}", "name": "Espresso cup, white", "n": 2, "cents": 1290}
        for number in range(round(octets / ITEM))
    ]
