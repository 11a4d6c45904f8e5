"""Turns quantities, as Kubernetes and DittoFS write them, into numbers, and numbers into text."""

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

SIZE_PATTERN = "^[0-9]+(Gi|Mi|Ti)$"

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?[0-9]{1,2}))")
_CACHE_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTPE]?)(i?)B?", re.IGNORECASE)


# The same few sizes are parsed over and over; none of them is long.
@lru_cache(maxsize=1024)
def parse(text: str) -> int:
    """Returns the bytes of a Kubernetes quantity, part of a byte rounded up. Raises ValueError when it is none.

    >>> parse("1Gi"), parse("1G"), parse("1e3"), parse("100m")
    (1073741824, 1000000000, 1000, 1)
    """
    return _round_up(parse_exact(text))


def parse_exact(text: str) -> Decimal:
    """Returns a Kubernetes quantity without rounding, such as 0.1 for 100m. Raises ValueError when it is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity, such as 10Gi")

    number, suffix, exponent = match.groups()
    if suffix in _BINARY:
        return Decimal(number) * Decimal(1024) ** _BINARY[suffix]
    return Decimal(number).scaleb(int(exponent) if exponent else _DECIMAL[suffix or ""])


def format_bytes(size: int) -> str:
    """Returns bytes as text for a person, to a tenth of the unit.

    >>> format_bytes(5 * 2**30), format_bytes(1300 * 2**20), format_bytes(700)
    ('5Gi', '1.3Gi', '700')
    """
    units = [("", 0), *_BINARY.items()]
    suffix, power = next((unit for unit in reversed(units) if size >= 1024 ** unit[1]), units[0])
    return f"{size / 1024**power:.1f}".removesuffix(".0") + suffix


@lru_cache(maxsize=1024)
def parse_cache_size(text: str) -> int | None:
    """Returns the bytes of DittoFS's own `cache.size`, such as `1GB` or `1Gi`; None when it cannot be read."""
    match = _CACHE_SIZE.fullmatch(text.strip())
    if match is None:
        return None

    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return _round_up(Decimal(number) * base ** " KMGTPE".index(prefix.upper() or " "))


def _round_up(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))
