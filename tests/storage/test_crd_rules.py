from collections.abc import Iterator
from typing import Any

from app.storage import crd_rules
from app.storage.crd import custom_resource_definition


def rules_in(value: Any) -> Iterator[dict[str, str]]:
    """Yields the rules anywhere in the value."""
    if isinstance(value, dict) and isinstance(value.get("rule"), str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from rules_in(item)


def all_rules() -> list[dict[str, str]]:
    return list(rules_in([value for name, value in vars(crd_rules).items() if name.isupper()]))


def test_every_rule_is_in_the_definition() -> None:
    published = list(rules_in(custom_resource_definition()))

    assert [rule["message"] for rule in all_rules() if rule not in published] == []


def test_no_two_rules_have_the_same_message() -> None:
    messages = [rule["message"] for rule in all_rules()]

    assert len(messages) > 30
    assert sorted(messages) == sorted(set(messages))
