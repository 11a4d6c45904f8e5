"""Defines attributes that are worked out when somebody first asks for them."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - used like a function, as functools.cached_property is
    """Does what functools.cached_property does, without the lock that it takes before Python 3.12.

    A review asks for a dozen of these, and each lock costs as much as a rule.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, _owner: type) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
