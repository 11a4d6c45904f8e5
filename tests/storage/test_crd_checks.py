from copy import deepcopy
from typing import Any

from app.storage.checkup import CheckResult
from app.storage.crd import custom_resource_definition
from app.storage.crd_checks import VERSION_LABEL, crd_checks
from app.storage.facts import Unknown
from app.storage.unstructured import Manifest

ESTABLISHED = [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]


def live(**metadata: Any) -> Manifest:
    crd = deepcopy(custom_resource_definition())
    crd["metadata"] |= {"labels": {VERSION_LABEL: "0.1.0"}, **metadata}
    return {**crd, "status": {"conditions": ESTABLISHED, "storedVersions": ["v1alpha1"]}}


def spec_of(crd: Manifest) -> Any:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def check(crd: Any) -> tuple[CheckResult, str]:
    [only] = crd_checks(crd, "0.1.0")
    assert (only.step is None) == (only.result == CheckResult.OK)
    return only.result, only.message


def test_the_definition_of_this_program_is_fine() -> None:
    assert check(live())[0] == CheckResult.OK


def test_a_missing_or_unknown_definition_is_told_apart() -> None:
    assert check(None) == (
        CheckResult.PROBLEM,
        "the CustomResourceDefinition dittoservers.dittofs.dittofs.com is not installed",
    )
    assert check(Unknown("forbidden")) == (CheckResult.UNKNOWN, "the CustomResourceDefinition is unknown: forbidden")


def test_one_that_is_being_deleted_is_a_problem() -> None:
    result, message = check(live(deletionTimestamp="2026-02-01T00:00:00Z"))
    assert result == CheckResult.PROBLEM
    assert "is being deleted, and with it every DittoServer" in message


def test_one_that_is_not_established_quotes_why() -> None:
    refused = {"type": "NamesAccepted", "status": "False", "message": '"ditto" is already in use'}
    result, message = check({**live(), "status": {"conditions": [refused]}})

    assert result == CheckResult.PROBLEM
    assert message == 'the CustomResourceDefinition is not NamesAccepted: "ditto" is already in use'


def test_one_without_a_status_is_not_established() -> None:
    assert check({**live(), "status": {}})[0] == CheckResult.PROBLEM


def test_another_version_is_a_problem() -> None:
    crd = live()
    crd["spec"]["versions"][0]["name"] = "v1"
    assert check(crd) == (CheckResult.PROBLEM, "the API server does not serve and store v1alpha1, only v1")


def test_versions_stored_before_are_a_warning() -> None:
    crd = live()
    crd["status"]["storedVersions"] = ["v1alpha0", "v1alpha1"]
    [former, now] = crd_checks(crd, "0.1.0")

    assert (former.result, former.message) == (CheckResult.WARNING, "servers may still be stored as v1alpha0")
    assert now.result == CheckResult.OK


def test_an_older_definition_lacks_fields() -> None:
    crd = live()
    del spec_of(crd)["properties"]["shares"]
    del spec_of(crd)["properties"]["s3"]["properties"]["region"]

    assert check(crd) == (
        CheckResult.PROBLEM,
        "the CustomResourceDefinition of version 0.1.0 lacks fields of this program's version 0.1.0: spec.s3.region, "
        "spec.shares",
    )


def test_a_newer_definition_has_more_fields() -> None:
    crd = live()
    spec_of(crd)["properties"] |= {f"next{number}": {"type": "string"} for number in range(7)}
    result, message = check(crd)

    assert result == CheckResult.WARNING
    assert message.endswith("spec.next0, spec.next1, spec.next2, spec.next3, spec.next4 and 2 more")


def test_other_rules_are_a_warning() -> None:
    crd = live(labels=None)
    spec_of(crd)["x-kubernetes-validations"].pop()

    assert check(crd) == (
        CheckResult.WARNING,
        "the CustomResourceDefinition without a version has other rules or descriptions than this program's "
        "version 0.1.0",
    )
