import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.storage.change import Change
from app.storage.checkup import Check, CheckResult
from app.storage.facts import Facts, Unknown
from app.storage.operator_health import trial_server
from app.storage.reading import read
from app.storage.rules import judge
from app.storage.unstructured import Manifest
from app.storage.webhook_checks import (
    WEBHOOKS,
    Trial,
    call_checks,
    configuration_checks,
    namespace_to_try,
    own_configurations,
    unacceptable_server,
)
from app.storage.webhook_configurations import webhook_configurations
from certs.authority import Authority

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
VALIDATING = "ValidatingWebhookConfiguration"
REJECTED = Trial(
    error='admission webhook "validate.dittofs.dittofs.com" denied the request: image contains white space'
)
DEFAULTED = Trial(created={"spec": {"image": "default"}})


def bundle(issued: datetime = NOW, days: float = 365) -> str:
    return base64.b64encode(Authority.create("ca", issued, timedelta(days=days)).pem).decode()


def configurations(**client: Any) -> dict[str, Any]:
    service = {"namespace": "dittofs-system", "name": "dittofs-operator"}
    live = webhook_configurations(lambda path: {"service": {**service, "path": path}, **client})
    return {item["kind"]: [item] for item in live}


def worst(checks: dict[str, Any]) -> list[Check]:
    return [check for check in configuration_checks(checks, NOW) if check.result != CheckResult.OK]


def call(unacceptable: Trial, acceptable: Trial = DEFAULTED) -> list[tuple[CheckResult, str]]:
    checks = list(call_checks(unacceptable, acceptable, "dittofs-system"))
    assert all((check.step is None) == (check.result == CheckResult.OK) for check in checks)
    return [(check.result, check.message) for check in checks]


def test_good_configurations_have_no_complaint() -> None:
    assert worst(configurations(caBundle=bundle())) == []


def test_missing_configurations_are_a_problem() -> None:
    checks = worst({kind: [] for kind in WEBHOOKS})
    assert [check.result for check in checks] == [CheckResult.PROBLEM] * 2
    assert checks[1].message == f"no {VALIDATING} has the webhook validate.dittofs.dittofs.com"


def test_configurations_that_may_not_be_listed_are_unknown() -> None:
    [check] = worst({VALIDATING: Unknown("forbidden")})
    assert (check.result, check.message) == (CheckResult.UNKNOWN, f"{VALIDATING}s are unknown: forbidden")


@pytest.mark.parametrize("client", [{}, {"caBundle": "no base64!"}, {"caBundle": "bm8gUEVN"}])
def test_a_bundle_without_a_certificate_is_a_problem(client: Manifest) -> None:
    checks = worst(configurations(**client))

    assert [check.result for check in checks] == [CheckResult.PROBLEM] * 2
    assert all("has no caBundle with a certificate in it" in check.message for check in checks)
    assert checks[0].step
    assert checks[0].step.command == (
        "kubectl -n dittofs-system logs "
        "-l app.kubernetes.io/name=dittofs-operator,app.kubernetes.io/component=operator --tail=50"
    )


def test_two_webhooks_that_are_trusted_differently_are_a_warning() -> None:
    live = configurations(caBundle=bundle())
    live[VALIDATING][0]["webhooks"][0]["clientConfig"]["caBundle"] = bundle()
    [check] = worst(live)

    assert check.result == CheckResult.WARNING
    assert check.message == "the two configurations dittofs-operator have different CAs in their caBundles"


def test_an_expired_ca_is_a_problem() -> None:
    [check, _] = worst(configurations(caBundle=bundle(NOW - timedelta(days=30), days=20)))

    assert check.result == CheckResult.PROBLEM
    assert "has expired, the last at 2026-01-22T12:00:00Z" in check.message


def test_a_ca_that_is_about_to_expire_is_a_warning() -> None:
    [check, _] = worst(configurations(caBundle=bundle(days=5)))
    assert (check.result, "is valid until 2026-02-06" in check.message) == (CheckResult.WARNING, True)


def test_one_valid_ca_of_several_is_enough() -> None:
    both = base64.b64decode(bundle(NOW - timedelta(days=30), days=20)) + base64.b64decode(bundle())
    assert worst(configurations(caBundle=base64.b64encode(both).decode())) == []


@pytest.mark.parametrize(
    ("policy", "effect"), [("Ignore", "is admitted while it does not answer"), ("Fail", "cannot be changed while")]
)
def test_another_failure_policy_is_a_warning(policy: str, effect: str) -> None:
    live = configurations(caBundle=bundle())
    for [item] in live.values():
        item["webhooks"][0]["failurePolicy"] = policy
    [check] = worst(live)

    assert check.result == CheckResult.WARNING
    assert effect in check.message


def test_configurations_of_others_are_left_out() -> None:
    [own] = configurations()[VALIDATING]
    other = {**own, "webhooks": [{**own["webhooks"][0], "name": "vdittoserver.kb.io"}]}

    assert own_configurations(VALIDATING, [other, own, {"metadata": {"name": "empty"}}]) == [own]


def test_a_confined_webhook_is_tried_where_it_is_called() -> None:
    expressions = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["media", "team"]}]
    [own] = configurations()[VALIDATING]
    own["webhooks"][0]["namespaceSelector"] = {"matchExpressions": expressions}

    assert namespace_to_try([own], "default") == "media"
    assert namespace_to_try([own], "team") == "team"

    own["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": "films"}}
    assert namespace_to_try([own], "default") == "films"
    assert namespace_to_try([], "default") == "default"


def test_the_servers_to_try_are_judged_as_expected() -> None:
    [rejection] = [finding for finding in judge(change(unacceptable_server("a", "b")), Facts()) if finding.rejects]

    assert rejection.path == "spec.image"
    assert not [finding for finding in judge(change(trial_server("a", "b")), Facts()) if finding.rejects]


def change(manifest: Manifest) -> Change:
    return Change(read(manifest))


def test_a_webhook_that_judges_is_fine() -> None:
    assert [result for result, _ in call(REJECTED)] == [CheckResult.OK, CheckResult.OK]


def test_a_webhook_that_is_not_called_is_a_problem() -> None:
    [(result, message), _] = call(DEFAULTED)

    assert result == CheckResult.PROBLEM
    assert message.endswith("has to reject: the webhook is not called")


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("x509: certificate has expired or is not yet valid", "Renew the certificate of the operator"),
        ("x509: certificate signed by unknown authority", "No CA in the caBundle has signed the certificate"),
        ("x509: certificate is valid for a, not for b", "Serve a certificate that is issued for"),
        ('service "dittofs-operator" not found', "See whether the operator runs"),
        ("context deadline exceeded", "Check that firewall and NetworkPolicies let"),
        ("something else", "Remove the cause that the message quotes."),
    ],
)
def test_a_failed_call_is_explained(why: str, remedy: str) -> None:
    whole = f'Internal error occurred: failed calling webhook "validate.dittofs.dittofs.com": {why}'
    [check] = call_checks(Trial(error=whole), Trial(error=whole), "dittofs-system")

    assert check.result == CheckResult.PROBLEM
    assert why in check.message
    assert check.step
    assert check.step.text.startswith(remedy)
    assert "doctor" not in str(check.step.command)


def test_who_may_not_try_learns_nothing() -> None:
    [(result, message)] = call(Trial(error="forbidden: you may not create", is_forbidden=True))
    assert (result, message) == (
        CheckResult.UNKNOWN,
        "the webhook could not be tried: forbidden: you may not create",
    )


def test_a_namespace_that_is_being_deleted_is_no_lack_of_permission() -> None:
    trial = Trial(error="forbidden: namespace a is being terminated", is_forbidden=True, is_namespace_terminating=True)
    [check] = call_checks(trial, trial, "dittofs-system")

    assert check.step
    assert check.step.text.startswith("Choose another namespace with -n")


def test_another_error_says_nothing_about_the_webhook() -> None:
    [(result, _)] = call(Trial(error='namespaces "gone" not found'))
    assert result == CheckResult.UNKNOWN


def test_another_webhook_that_fails_is_not_ours() -> None:
    error = 'Internal error occurred: failed calling webhook "policy.example.com": connection refused'
    [check] = call_checks(Trial(error=error), Trial(error=error), "dittofs-system")

    assert (check.result, "webhook policy.example.com" in check.message) == (CheckResult.PROBLEM, True)
    assert check.step
    assert check.step.text == "Ask whoever runs that webhook."


def test_defaulting_that_fails_open_is_a_warning() -> None:
    [_, (result, message)] = call(REJECTED, Trial(created={"spec": {}}))

    assert result == CheckResult.WARNING
    assert message.startswith("mutate.dittofs.dittofs.com filled in no defaults")


def test_who_refuses_a_good_server_is_quoted() -> None:
    [_, (result, message)] = call(REJECTED, Trial(error="denied by policy"))
    assert (result, message) == (
        CheckResult.WARNING,
        "the API server refuses a DittoServer that is fine: denied by policy",
    )
