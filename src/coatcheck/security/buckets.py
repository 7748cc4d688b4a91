"""Who a limit counts: names and addresses, made the same where they mean the same, and hashed before they are stored."""

import unicodedata
from hashlib import blake2b
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["bucket", "normalised", "place"]


def normalised(account: str) -> str:
    """An account's name as it is looked up and counted: NFKC, case folded, without blanks around it and without what cannot be
    seen (checklist 196). `Admin`, `admin ` and `\uff41dmin` are one; the Kelvin sign is a k.
    """
    text = unicodedata.normalize("NFKC", account[:LONGEST_NAME]).casefold()
    seen = "".join(char for char in text if unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFKC", seen).strip()


LONGEST_NAME: Final = 1024
"""Characters of a name that are looked at; there is no account of that name in any case."""
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs"})


def bucket(text: str) -> str:
    """What a name or an address is called in the store: a hash, so that it has one length and no store lists addresses."""
    return blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=16, person=b"coatcheck.limit"
    ).hexdigest()


def place(address: str, ipv6_prefix: int) -> str:
    """The place that an address is of: IPv4 as it is, also where it is mapped into IPv6; of IPv6 the network (checklist 193).

    What is no address, as behind a Unix socket, is one place: a proxy that says nothing is not to be trusted with less.
    """
    try:
        ip = ip_address(_bare(address))
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(IPv6Network((int(ip), ipv6_prefix), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)


def _bare(address: str) -> str:
    """Without a port, brackets and a zone, which some proxies write: whoever has one address must not have 65,000 places."""
    text = address.strip().partition("%")[0]
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
