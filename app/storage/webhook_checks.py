"""Checks the webhook configurations, the CAs in them, and how the API server gets on with the webhook."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.storage.checkup import Check, CheckResult
from app.storage.facts import Unknown
from app.storage.next_step import NextStep
from app.storage.operator_checks import RENEWAL_OVERDUE
from app.storage.operator_health import (
    NAMESPACE_LABEL,
    WEBHOOK_FAILS,
    Webhook,
    decode_bundle,
    explain_failed_call,
    trial_server,
)
from app.storage.operator_pods import LIST_RELEASES, OPERATOR_NAMESPACE, describe_pods, show_log
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import webhook_configurations
from certs.authority import certificates, is_valid

CONFIGURATION, AUTHORITY, CALL = "webhook configuration", "webhook CA", "webhook call"
# The name of each webhook and what its failurePolicy should be, by the kind of its configuration.
WEBHOOKS = {
    configuration["kind"]: (configuration["webhooks"][0]["name"], configuration["webhooks"][0]["failurePolicy"])
    for configuration in webhook_configurations(lambda _path: {})
}

_INSTALL = NextStep("Install the chart, or upgrade it.", LIST_RELEASES)
_GET_CONFIGURATIONS = "kubectl get -o yaml mutatingwebhookconfiguration,validatingwebhookconfiguration"
_MUTATES, _VALIDATES = (name for name, _ in WEBHOOKS.values())


@dataclass(frozen=True)
class Trial:
    """Holds what the API server did when it was asked to create a server without storing it.

    `created` is the object that it would have stored, None when it refused, and `error` is what it said then.
    """

    created: Manifest | None = None
    error: str = ""
    is_forbidden: bool = False
    is_namespace_terminating: bool = False


def unacceptable_server(namespace: str, name: str) -> Manifest:
    """Returns a server that no schema rejects, so that only the webhook can."""
    manifest = trial_server(namespace, name)
    return {**manifest, "spec": {**manifest["spec"], "image": "no image has spaces in its name"}}


def own_configurations(kind: str, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Returns the configurations that have this operator's webhook, whatever they are called."""
    name, _ = WEBHOOKS[kind]
    return [item for item in manifests if name in [webhook.get("name") for webhook in item.get("webhooks") or ()]]


def namespace_to_try(configurations: Sequence[Manifest], preferred: str) -> str:
    """Returns a namespace for which the webhooks are called: the preferred one unless they are confined to others."""
    for webhook in (webhook for item in configurations for webhook in item["webhooks"]):
        selector = webhook.get("namespaceSelector") or {}
        names = [
            name
            for expression in selector.get("matchExpressions") or ()
            if (expression.get("key"), expression.get("operator")) == (NAMESPACE_LABEL, "In")
            for name in expression.get("values") or ()
        ]

        names += filter(None, [(selector.get("matchLabels") or {}).get(NAMESPACE_LABEL)])
        if names and preferred not in names:
            return str(names[0])
    return preferred


def configuration_checks(configurations: Mapping[str, Sequence[Manifest] | Unknown], now: datetime) -> Iterator[Check]:
    """Checks the configurations, by kind, that have a webhook of this operator."""
    for kind, manifests in configurations.items():
        if isinstance(manifests, Unknown):
            step = NextStep("Ask an administrator to run this command.")
            yield Check(CONFIGURATION, CheckResult.UNKNOWN, f"{kind}s are unknown: {manifests.why}", step)
        elif not manifests:
            message = f"no {kind} has the webhook {WEBHOOKS[kind][0]}"
            yield Check(CONFIGURATION, CheckResult.PROBLEM, message, _INSTALL)
        else:
            for manifest in manifests:
                yield from _webhook_checks(kind, manifest, now)

    yield from _difference_checks(configurations)


def _webhook_checks(kind: str, manifest: Manifest, now: datetime) -> Iterator[Check]:
    name, policy = WEBHOOKS[kind]
    subject = f"{kind} {manifest['metadata']['name']}"
    [webhook] = [webhook for webhook in manifest["webhooks"] if webhook["name"] == name]

    if (live := webhook.get("failurePolicy")) != policy:
        effect = (
            "what it should reject is admitted while it does not answer"
            if policy == "Fail"
            else "servers cannot be changed while it does not answer"
        )
        message = f"{subject} has the failurePolicy {live} instead of {policy}: {effect}"
        yield Check(CONFIGURATION, CheckResult.WARNING, message, _INSTALL)
    else:
        yield Check(CONFIGURATION, CheckResult.OK, f"{subject} has the failurePolicy {policy}")

    yield _authority_check(subject, webhook.get("clientConfig") or {}, now)


def _authority_check(subject: str, client: Mapping[str, Any], now: datetime) -> Check:
    namespace = str((client.get("service") or {}).get("namespace") or OPERATOR_NAMESPACE)
    step = NextStep("See in the operator's log what its certificate waits for.", show_log(namespace))

    authorities = certificates(decode_bundle(client.get("caBundle")))
    if not authorities:
        message = f"{subject} has no caBundle with a certificate in it, so that the API server trusts no webhook"
        return Check(AUTHORITY, CheckResult.PROBLEM, message, step)

    valid = [authority for authority in authorities if is_valid(authority, now)]
    if not valid:
        ended = max(authority.not_valid_after_utc for authority in authorities)
        return Check(
            AUTHORITY, CheckResult.PROBLEM, f"every CA of {subject} has expired, the last at {ended:%FT%TZ}", step
        )

    ends = max(authority.not_valid_after_utc for authority in valid)
    message = f"the CA of {subject} is valid until {ends:%FT%TZ}"
    is_overdue = ends - now < RENEWAL_OVERDUE
    return Check(
        AUTHORITY, CheckResult.WARNING if is_overdue else CheckResult.OK, message, step if is_overdue else None
    )


def _difference_checks(configurations: Mapping[str, Sequence[Manifest] | Unknown]) -> Iterator[Check]:
    """Warns when the two webhooks are trusted differently: nobody hears of the one that fails open."""
    trusted: dict[str, set[frozenset[Any]]] = {}
    for manifests in configurations.values():
        for manifest in () if isinstance(manifests, Unknown) else manifests:
            bundles = [
                decode_bundle((webhook.get("clientConfig") or {}).get("caBundle")) for webhook in manifest["webhooks"]
            ]
            authorities = trusted.setdefault(manifest["metadata"]["name"], set())
            authorities.update(frozenset(certificates(bundle)) for bundle in bundles)

    for name, authorities in trusted.items():
        if len(authorities) > 1:
            message = f"the two configurations {name} have different CAs in their caBundles"
            step = NextStep(
                "Let whoever writes one caBundle write the other one, too.", f"{_GET_CONFIGURATIONS} {name}"
            )
            yield Check(AUTHORITY, CheckResult.WARNING, message, step)


def call_checks(unacceptable: Trial, acceptable: Trial, namespace: str) -> Iterator[Check]:
    """Judges what the API server did with a server to reject and with one to accept; `namespace` is the operator's."""
    if unacceptable.is_forbidden:
        message = f"the webhook could not be tried: {unacceptable.error}"
        step = NextStep(f"Run this command as someone who may create {KIND}s.")
        if unacceptable.is_namespace_terminating:
            step = NextStep("Choose another namespace with -n: nothing can be created in one that is being deleted.")
        yield Check(CALL, CheckResult.UNKNOWN, message, step)
        return

    if unacceptable.created:
        message = f"the API server accepts a {KIND} that {_VALIDATES} has to reject: the webhook is not called"
        yield Check(CALL, CheckResult.PROBLEM, message, _INSTALL)
    elif f'admission webhook "{_VALIDATES}" denied the request' in unacceptable.error:
        yield Check(CALL, CheckResult.OK, f"{_VALIDATES} rejects a {KIND} that it has to reject (dry run)")
    else:
        yield _failed_call_check(unacceptable.error, namespace)
        return

    if acceptable.created:
        yield _defaulting_check(acceptable.created, namespace)
    else:
        message = f"the API server refuses a {KIND} that is fine: {acceptable.error}"
        step = NextStep("Find out who refuses it; the message quotes it.")
        yield Check(CALL, CheckResult.WARNING, message, step)


def _failed_call_check(error: str, namespace: str) -> Check:
    failure = explain_failed_call(error, Webhook(namespace))
    if failure is None:
        step = NextStep("Remove the cause that the message quotes.")
        return Check(CALL, CheckResult.UNKNOWN, f"the webhook could not be tried: {error}", step)

    # A failure that status leaves to this command is explained by the pods.
    command = failure.command if failure.reason != WEBHOOK_FAILS else describe_pods(namespace)
    return Check(CALL, CheckResult.PROBLEM, failure.message, NextStep(failure.remedy, command))


def _defaulting_check(created: Manifest, namespace: str) -> Check:
    if "image" in (created.get("spec") or {}):
        # Behind a CustomResourceDefinition of this version the webhook has nothing to fill in, and is not called.
        return Check(CALL, CheckResult.OK, f"the API server accepts a {KIND} and fills in its defaults (dry run)")

    message = f"{_MUTATES} filled in no defaults, nor did the CustomResourceDefinition: the webhook cannot be called"
    command = describe_pods(namespace)
    step = NextStep("See whether the operator runs; new servers get the same defaults from it later.", command)
    return Check(CALL, CheckResult.WARNING, message, step)
