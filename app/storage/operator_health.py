"""Decides whether anybody looks after the servers of a namespace: an operator that leads, and a webhook that answers.

What nobody could look up is None and counts against nobody. It looks nothing up itself.
"""

import base64
import binascii
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.storage.finding import one_line
from app.storage.objects import OPERATOR
from app.storage.operator_pods import describe_pods, show_log
from app.storage.spec import API_VERSION, GROUP, KIND
from app.storage.unstructured import Manifest

OPERATOR_DOWN, OPERATOR_NO_LEADER = "OperatorDown", "OperatorNoLeader"
WEBHOOK_DOWN, WEBHOOK_FAILS, CERTIFICATE_EXPIRED = "WebhookDown", "WebhookFails", "CertificateExpired"

# A holder renews its Lease every two seconds; the next one may take twenty seconds, and clocks differ.
LEASE_PATIENCE = timedelta(minutes=1)

# The names of the webhooks, and the label that the chart confines them to namespaces by.
VALIDATING_WEBHOOK = f"validate.{GROUP}"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"

_EFFECT = f"no {KIND} can be created, and no spec can be changed"
_FAILED_CALL = re.compile(r'failed calling webhook "([^"]{1,253})": (.*)', re.DOTALL)
_ADDRESS = re.compile(r'^(?:failed to call webhook: )?Post "[^"]*": ')
_EXPIRED = "certificate has expired"
_UNREACHED = re.compile(r"connection refused|no endpoints available|service \"[^\"]*\" not found")
# What else the API server says when it cannot call the webhook.
_REMEDIES = (
    (
        re.compile("signed by unknown authority|certificate is not trusted"),
        "No CA in the caBundle has signed the certificate that is served: let the operator or cert-manager write the "
        "caBundle, or set certificates.caBundle.",
    ),
    (
        re.compile("certificate is (?:not )?valid for"),
        "Serve a certificate that is issued for <Service>.<namespace>.svc.",
    ),
    (
        re.compile("deadline exceeded|[Tt]imeout|no route to host"),
        "Check that firewall and NetworkPolicies let the API server reach the port of the webhook.",
    ),
)
_MAX_QUOTED_CHARACTERS = 200


@dataclass(frozen=True)
class Webhook:
    """The webhook that judges the servers of a namespace; `namespace` and `service` are empty when it has a URL."""

    namespace: str = ""
    service: str = ""
    ca_bundle: bytes = b""


@dataclass(frozen=True)
class OperatorHealth:
    """Holds what is known about the operator of a namespace.

    `ready` counts the ready pods behind the webhook's Service. `refusal` is what the API server said to a server that
    it was asked to create without storing it; empty when it had nothing against that.
    """

    webhook: Webhook | None = None
    ready: int | None = None
    lease: Mapping[str, Any] | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class OperatorFailure:
    """A failure of the operator, which concerns all servers; `since` is in RFC 3339, None when nobody knows."""

    reason: str
    message: str
    remedy: str
    command: str
    since: str | None = None

    @property
    def stops_reconciling(self) -> bool:
        return self.reason in (OPERATOR_DOWN, OPERATOR_NO_LEADER)


def webhook_of(configurations: Iterable[Mapping[str, Any]], namespace: str) -> Webhook | None:
    """Returns the validating webhook that is called for the servers of this namespace."""
    webhooks = [webhook for configuration in configurations for webhook in configuration.get("webhooks") or ()]
    for webhook in webhooks:
        if webhook.get("name") == VALIDATING_WEBHOOK and _selects(webhook.get("namespaceSelector") or {}, namespace):
            client = webhook.get("clientConfig") or {}
            service = client.get("service") or {}
            names = str(service.get("namespace") or ""), str(service.get("name") or "")
            return Webhook(*names, ca_bundle=decode_bundle(client.get("caBundle")))
    return None


def count_ready(slices: Sequence[Mapping[str, Any]]) -> int | None:
    """Counts the ready endpoints of a Service; None when its slices do not exist: then nobody keeps them."""
    if not slices:
        return None
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or ()]

    # Unknown counts as ready, as the API says.
    return sum((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints)


def trial_server(namespace: str, name: str) -> Manifest:
    """Returns a server that nobody has a reason to reject, and for which nothing has to be looked up."""
    spec = {"storage": {"metadataSize": "1Gi", "cacheSize": "1Gi", "storageClassName": ""}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def find_failure(health: OperatorHealth, now: datetime) -> OperatorFailure | None:
    """Returns the failure to see to first; None when the operator does its work, as far as anybody knows."""
    return next(_failures(health, now), None)


def _failures(health: OperatorHealth, now: datetime) -> Iterator[OperatorFailure]:
    webhook = health.webhook or Webhook()
    where = f"Service {webhook.namespace}/{webhook.service}"
    see_pods = "See why the pods of the operator are not ready."
    pods = describe_pods(webhook.namespace)

    leaderless = leaderless_since(health.lease, now)
    if leaderless is not None and health.ready == 0:
        message = f"no pod of the operator is ready behind {where}: nothing is reconciled, {_EFFECT}"
        yield OperatorFailure(OPERATOR_DOWN, message, see_pods, pods, leaderless)
    elif leaderless is not None:
        lease = f"Lease {webhook.namespace}/{OPERATOR}"
        message = f"no pod of the operator leads, as {lease} says: nothing is reconciled"
        remedy = f"See in its log why none leads. If it elects no leader any more, delete {lease}."
        log = show_log(webhook.namespace)
        yield OperatorFailure(OPERATOR_NO_LEADER, message, remedy, log, leaderless)

    if failed := explain_failed_call(health.refusal or "", webhook):
        yield failed
    if health.refusal is None and (expired := _expired_since(webhook.ca_bundle, now)):
        message = f"every CA in the caBundle of webhook {VALIDATING_WEBHOOK} has expired: {_EFFECT}"
        yield _expired_certificate(message, webhook, expired)
    if health.ready == 0:
        message = f"no pod of the operator is ready behind {where}: {_EFFECT}"
        yield OperatorFailure(WEBHOOK_DOWN, message, see_pods, pods)


def explain_failed_call(refusal: str, webhook: Webhook) -> OperatorFailure | None:
    """Returns what keeps the API server from calling a webhook, as it says itself; None when it says nothing of it."""
    failed = _FAILED_CALL.search(refusal)
    if failed is None:
        return None

    name, why = failed[1], failed[2]
    cause = one_line(_ADDRESS.sub("", " ".join(why.split())))[:_MAX_QUOTED_CHARACTERS]
    message = f"the API server cannot call webhook {name}: {cause}; {_EFFECT}"
    if name != VALIDATING_WEBHOOK:
        command = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
        return OperatorFailure(WEBHOOK_FAILS, message, "Ask whoever runs that webhook.", command)

    if _EXPIRED in cause:
        return _expired_certificate(message, webhook)

    if _UNREACHED.search(cause):
        remedy = "See whether the operator runs, and why it is not ready."
        return OperatorFailure(WEBHOOK_DOWN, message, remedy, describe_pods(webhook.namespace))

    remedies = (remedy for pattern, remedy in _REMEDIES if pattern.search(cause))
    remedy = next(remedies, "Remove the cause that the message quotes.")
    return OperatorFailure(WEBHOOK_FAILS, message, remedy, "kubectl dittofs doctor")


def _expired_certificate(message: str, webhook: Webhook, since: datetime | None = None) -> OperatorFailure:
    remedy = "Renew the certificate of the operator (docs/how-to/manage-certificates.md#the-certificate-has-expired)."
    namespace = f"-n {shlex.quote(webhook.namespace)}" if webhook.namespace else "-A"
    command = f"kubectl {namespace} get events --sort-by=.lastTimestamp"
    return OperatorFailure(CERTIFICATE_EXPIRED, message, remedy, command, f"{since:%FT%TZ}" if since else None)


def leaderless_since(lease: Mapping[str, Any] | None, now: datetime) -> str | None:
    """Returns since when nobody leads; None while somebody does, or when nobody ever has."""
    spec = (lease or {}).get("spec") or {}
    try:
        renewed = datetime.fromisoformat(str(spec.get("renewTime")))
        is_fresh = now - renewed < LEASE_PATIENCE
    except (ValueError, TypeError):
        # Nobody has ever led, or somebody has edited the Lease.
        return None
    return None if is_fresh else f"{renewed:%FT%TZ}"


def _expired_since(bundle: bytes, now: datetime) -> datetime | None:
    """Returns when the last of the CAs expired; None while one is valid, or when there is none."""
    if not bundle:
        return None

    # Not at the top: cryptography takes some 70 ms to import, which commands without a bundle need not wait for.
    from certs.authority import certificates

    ends = max((authority.not_valid_after_utc for authority in certificates(bundle)), default=now)
    return ends if ends < now else None


def _selects(selector: Mapping[str, Any], namespace: str) -> bool:
    """Tells whether a selector of namespaces surely matches the one of this name, whose other labels nobody knows."""
    labels = dict(selector.get("matchLabels") or {})
    is_named = labels.pop(NAMESPACE_LABEL, namespace) == namespace

    names_it = (
        (item.get("key"), item.get("operator")) == (NAMESPACE_LABEL, "In") and namespace in (item.get("values") or ())
        for item in selector.get("matchExpressions") or ()
    )
    return is_named and not labels and all(names_it)


def decode_bundle(bundle: Any) -> bytes:
    """Returns the PEM of a caBundle, empty when it cannot be decoded."""
    try:
        return base64.b64decode(str(bundle or ""), validate=True)
    except (binascii.Error, ValueError):
        return b""
