from app.admission.registration import webhook_configurations
from app.storage.defaults import paths

MUTATING, VALIDATING = webhook_configurations(lambda path: {"url": f"https://localhost{path}"})


def test_validating_fails_closed_and_mutating_fails_open() -> None:
    assert VALIDATING["webhooks"][0]["failurePolicy"] == "Fail"
    assert MUTATING["webhooks"][0]["failurePolicy"] == "Ignore"


def test_deletion_is_never_asked_about() -> None:
    for configuration in (MUTATING, VALIDATING):
        assert configuration["webhooks"][0]["rules"][0]["operations"] == ["CREATE", "UPDATE"]


def test_every_default_is_a_reason_to_be_called() -> None:
    [_, something_to_default] = MUTATING["webhooks"][0]["matchConditions"]
    assert all(f"!has(object.spec.{'.'.join(path)})" in something_to_default["expression"] for path in paths())


def test_each_path_in_a_condition_is_guarded() -> None:
    [_, something_to_default] = MUTATING["webhooks"][0]["matchConditions"]
    guarded = "has(object.spec.smb) && has(object.spec.smb.timeouts) && !has(object.spec.smb.timeouts.read)"
    assert guarded in something_to_default["expression"]
