import re

from app.storage.webhook_configurations import webhook_configurations

MUTATING, VALIDATING = webhook_configurations(lambda path: {"url": f"https://localhost{path}"})


def test_validating_fails_closed_and_mutating_fails_open() -> None:
    assert VALIDATING["webhooks"][0]["failurePolicy"] == "Fail"
    assert MUTATING["webhooks"][0]["failurePolicy"] == "Ignore"


def test_deletion_is_never_reviewed() -> None:
    for configuration in (MUTATING, VALIDATING):
        assert configuration["webhooks"][0]["rules"][0]["operations"] == ["CREATE", "UPDATE"]


def test_an_absent_default_is_a_reason_to_be_called() -> None:
    [_, something_to_default] = MUTATING["webhooks"][0]["matchConditions"]
    expression = something_to_default["expression"]

    assert expression.startswith("has(object.spec) && (!has(object.spec.image) ||")
    assert "has(object.spec.storage) && (!has(object.spec.storage.cacheSize))" in expression
    assert "has(object.spec.smb.timeouts) && (!has(object.spec.smb.timeouts.read) ||" in expression


def test_each_section_in_a_condition_is_guarded() -> None:
    """A condition that errs would skip the webhook that fails open."""
    [_, something_to_default] = MUTATING["webhooks"][0]["matchConditions"]
    expression = something_to_default["expression"]

    for field in re.findall(r"!has\((object\.spec\.[\w.]+)\)", expression):
        section = field.rpartition(".")[0]
        assert section == "object.spec" or f"has({section}) && (" in expression
