"""Quantities as Kubernetes and DittoFS write them, as numbers."""

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

SIZE_PATTERN = "^[0-9]+(Gi|Mi|Ti)$"

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?[0-9]{1,2}))")
_CACHE_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTPE]?)(i?)B?", re.IGNORECASE)


# The same few sizes are asked for over and over; none of them is long.
@lru_cache(maxsize=1024)
def parse(text: str) -> int:
    """A Kubernetes quantity in bytes, part of a byte rounded up; ValueError when it is none.

    >>> parse("1Gi"), parse("1G"), parse("1e3"), parse("100m")
    (1073741824, 1000000000, 1000, 1)
    """
    return _whole(amount(text))


def amount(text: str) -> Decimal:
    """A Kubernetes quantity as it is, such as 0.1 for 100m; ValueError when it is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity, such as 10Gi")
    number, suffix, exponent = match.groups()
    if suffix in _BINARY:
        return Decimal(number) * Decimal(1024) ** _BINARY[suffix]
    return Decimal(number).scaleb(int(exponent) if exponent else _DECIMAL[suffix or ""])


def text(size: int) -> str:
    """Bytes for a person to read, to a tenth of the unit.

    >>> text(5 * 2**30), text(1300 * 2**20), text(700)
    ('5Gi', '1.3Gi', '700')
    """
    suffix, power = next(((each, power) for each, power in reversed(_BINARY.items()) if size >= 1024**power), ("", 0))
    return f"{size / 1024**power:.1f}".removesuffix(".0") + suffix


@lru_cache(maxsize=1024)
def parse_cache_size(text: str) -> int | None:
    """DittoFS's own `cache.size` in bytes, `1GB` as well as `1Gi`; None when it cannot be read as one."""
    match = _CACHE_SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, prefix, binary = match.groups()
    base = 1024 if binary else 1000
    return _whole(Decimal(number) * base ** " KMGTPE".index(prefix.upper() or " "))


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))
