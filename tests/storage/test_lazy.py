from dataclasses import dataclass

from app.storage.lazy import lazy


@dataclass(frozen=True)
class Numbers:
    numbers: list[int]

    @lazy
    def total(self) -> int:
        return sum(self.numbers)


def test_an_attribute_is_worked_out_once() -> None:
    numbers = Numbers([1, 2])

    assert numbers.total == 3
    numbers.numbers.append(3)
    assert numbers.total == 3


def test_each_object_has_its_own() -> None:
    assert (Numbers([1]).total, Numbers([2]).total) == (1, 2)
