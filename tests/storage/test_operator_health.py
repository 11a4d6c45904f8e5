import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given

from app.storage.operator_health import OperatorFailure, OperatorHealth, Webhook, count_ready, find_failure, webhook_of
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import webhook_configurations
from certs.authority import Authority
from tests.harness.json_strategies import ANY_JSON

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
SERVICE = Webhook("dittofs-system", "dittofs-operator")
ADDRESS = "https://dittofs-operator.dittofs-system.svc:443/validate-dittofs-dittofs-com-v1alpha1-dittoserver?timeout=5s"


def lease(renewed: datetime | str) -> Manifest:
    return {"spec": {"renewTime": renewed if isinstance(renewed, str) else f"{renewed:%FT%T.%fZ}"}}


FRESH, STALE = lease(NOW - timedelta(seconds=10)), lease(NOW - timedelta(minutes=5))
WORKING = OperatorHealth(SERVICE, ready=1, lease=FRESH, refusal="")


def refusal(why: str, webhook: str = "validate.dittofs.dittofs.com") -> str:
    return (
        f'Internal error occurred: failed calling webhook "{webhook}": failed to call webhook: Post "{ADDRESS}": {why}'
    )


def failure(**changes: Any) -> OperatorFailure:
    result = find_failure(replace(WORKING, **changes), NOW)
    assert result
    return result


@pytest.mark.parametrize(
    "health",
    [
        WORKING,
        OperatorHealth(),
        replace(WORKING, ready=None, lease=None, refusal=None),
        replace(WORKING, lease=lease("tomorrow")),
        # A policy, a quota or missing permissions say nothing about the webhook.
        replace(WORKING, refusal='forbidden: dittoservers is forbidden: User "a" cannot create resource'),
        replace(WORKING, refusal='admission webhook "policy.example.com" denied the request: no'),
    ],
)
def test_what_is_unknown_is_no_failure(health: OperatorHealth) -> None:
    assert find_failure(health, NOW) is None


def test_an_operator_that_does_not_run_stops_everything() -> None:
    down = failure(ready=0, lease=STALE, refusal=refusal("dial tcp 10.96.0.9:443: connect: connection refused"))

    assert (down.reason, down.stops_reconciling, down.since) == ("OperatorDown", True, "2026-02-01T11:55:00Z")
    assert down.message == (
        "no pod of the operator is ready behind Service dittofs-system/dittofs-operator: nothing is reconciled, "
        "no DittoServer can be created, and no spec can be changed"
    )
    assert down.command.startswith("kubectl -n dittofs-system describe pods -l app.kubernetes.io/name=dittofs-operator")


def test_replicas_without_a_leader_are_named() -> None:
    leaderless = failure(lease=STALE)

    assert (leaderless.reason, leaderless.stops_reconciling) == ("OperatorNoLeader", True)
    assert "Lease dittofs-system/dittofs-operator" in leaderless.message
    assert "logs -l" in leaderless.command


@pytest.mark.parametrize(
    ("why", "reason", "command"),
    [
        ("dial tcp 10.96.0.9:443: connect: connection refused", "WebhookDown", "describe pods"),
        ('no endpoints available for service "dittofs-operator"', "WebhookDown", "describe pods"),
        (
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time "
            "2026-02-01T12:00:00Z is after 2026-01-30T00:00:00Z",
            "CertificateExpired",
            "kubectl -n dittofs-system get events",
        ),
        ("x509: certificate signed by unknown authority", "WebhookFails", "kubectl dittofs doctor"),
        ("context deadline exceeded", "WebhookFails", "kubectl dittofs doctor"),
    ],
)
def test_a_failed_call_says_why_and_what_waits_for_it(why: str, reason: str, command: str) -> None:
    failed = failure(refusal=refusal(why))

    assert (failed.reason, failed.stops_reconciling) == (reason, False)
    assert failed.message == (
        f"the API server cannot call webhook validate.dittofs.dittofs.com: {why}; "
        "no DittoServer can be created, and no spec can be changed"
    )
    assert command in failed.command


def test_the_webhook_of_somebody_else_is_named() -> None:
    failed = failure(refusal=refusal("connection refused", "policy.example.com"))

    assert failed.reason == "WebhookFails"
    assert "webhook policy.example.com: connection refused" in failed.message
    assert failed.remedy == "Ask whoever runs that webhook."


def test_a_webhook_without_a_ready_pod_needs_no_trial() -> None:
    assert failure(ready=0, refusal=None).reason == "WebhookDown"


def test_an_expired_bundle_needs_no_trial() -> None:
    authority = Authority.create("test", NOW - timedelta(days=400))
    expired = failure(webhook=replace(SERVICE, ca_bundle=authority.pem), refusal=None)

    assert (expired.reason, expired.since) == ("CertificateExpired", "2025-12-28T12:00:00Z")
    # What the API server has just done counts more than what is read.
    assert find_failure(replace(WORKING, webhook=replace(SERVICE, ca_bundle=authority.pem)), NOW) is None
    valid = authority.pem + Authority.create("next", NOW).pem
    assert find_failure(replace(WORKING, webhook=replace(SERVICE, ca_bundle=valid), refusal=None), NOW) is None


def test_a_hostile_answer_stays_one_short_line() -> None:
    failed = failure(refusal=refusal("\x1b[2J\n" + "x" * 5000))

    assert failed.message.isprintable()
    assert len(failed.message) < 500


@given(ANY_JSON)
def test_any_lease_is_read(spec: Any) -> None:
    time = spec if isinstance(spec, str) else None
    find_failure(replace(WORKING, lease={"spec": {"renewTime": time}}), NOW)
    find_failure(replace(WORKING, lease={"spec": spec if isinstance(spec, dict) else None}), NOW)


@pytest.mark.parametrize(
    ("selector", "applies"),
    [
        (None, True),
        ({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["media"]}]}, True),
        ({"matchLabels": {"kubernetes.io/metadata.name": "media"}}, True),
        ({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}]}, False),
        ({"matchLabels": {"kubernetes.io/metadata.name": "other"}}, False),
        # Only the namespace's own labels would tell.
        ({"matchLabels": {"team": "media"}}, False),
    ],
)
def test_the_webhook_of_a_namespace_is_its_operator(selector: Manifest | None, applies: bool) -> None:
    service = {"namespace": "dittofs-system", "name": "dittofs-operator"}
    bundle = base64.b64encode(b"bundle").decode()
    configurations = webhook_configurations(lambda _: {"service": service, "caBundle": bundle})
    for configuration in configurations:
        configuration["webhooks"][0]["namespaceSelector"] = selector

    expected = replace(SERVICE, ca_bundle=b"bundle") if applies else None
    assert webhook_of(configurations, "media") == expected


def test_a_webhook_with_a_url_has_no_service() -> None:
    configurations = webhook_configurations(lambda _: {"url": "https://localhost:9443", "caBundle": "no base64"})

    assert webhook_of(configurations, "media") == Webhook()
    assert find_failure(OperatorHealth(Webhook()), NOW) is None


def test_ready_endpoints_are_counted() -> None:
    slices: list[Manifest] = [
        {"endpoints": [{"conditions": {"ready": True}}, {"conditions": {"ready": False}}]},
        {"endpoints": [{"conditions": {}}]},
        {"endpoints": None},
    ]

    assert count_ready(slices) == 2
    assert count_ready([{"endpoints": []}]) == 0
    assert count_ready([]) is None
