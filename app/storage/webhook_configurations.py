"""The two webhook configurations, which tell the API server when to call the operator, and what to do if that fails."""

from collections.abc import Callable
from typing import Any

from app.storage.schema import Schema, spec_schema
from app.storage.spec import GROUP, PLURAL, VERSION

NAME = "dittofs-operator"

# Where the API server posts its reviews.
MUTATE_PATH = "/mutate-dittofs-dittofs-com-v1alpha1-dittoserver"
VALIDATE_PATH = "/validate-dittofs-dittofs-com-v1alpha1-dittoserver"

# Lookups have 2 seconds in all; defaulting looks nothing up.
VALIDATE_TIMEOUT_SECONDS = 5
MUTATE_TIMEOUT_SECONDS = 2

ClientConfig = Callable[[str], dict[str, Any]]

# The match conditions spare calls that would change and find nothing. Each path in them is guarded by has(): a
# condition that errs skips the webhook that fails open and rejects for the one that fails closed.
_SPEC_IS_NEW = {
    "name": "spec-is-new",
    "expression": "request.operation == 'CREATE' || "
    "!has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec",
}


def webhook_configurations(client_config: ClientConfig) -> list[dict[str, Any]]:
    """Mutating fails open, validating fails closed. `client_config` says how to reach one of the operator's paths."""
    something_to_default = {
        "name": "something-to-default",
        "expression": f"has(object.spec) && ({_something_is_absent(spec_schema(), 'object.spec')})",
    }

    mutate = {
        "name": f"mutate.{GROUP}",
        "failurePolicy": "Ignore",
        "timeoutSeconds": MUTATE_TIMEOUT_SECONDS,
        "reinvocationPolicy": "Never",
        "matchConditions": [_SPEC_IS_NEW, something_to_default],
        "clientConfig": client_config(MUTATE_PATH),
    }
    validate = {
        "name": f"validate.{GROUP}",
        "failurePolicy": "Fail",
        "timeoutSeconds": VALIDATE_TIMEOUT_SECONDS,
        "matchConditions": [_SPEC_IS_NEW],
        "clientConfig": client_config(VALIDATE_PATH),
    }

    return [
        _configuration("MutatingWebhookConfiguration", mutate),
        _configuration("ValidatingWebhookConfiguration", validate),
    ]


def _configuration(kind: str, webhook: dict[str, Any]) -> dict[str, Any]:
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "operations": ["CREATE", "UPDATE"],
        "resources": [PLURAL],
        "scope": "Namespaced",
    }
    always = {"admissionReviewVersions": ["v1"], "sideEffects": "None", "matchPolicy": "Equivalent", "rules": [rule]}

    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "webhooks": [webhook | always],
    }


def _something_is_absent(section: Schema, path: str) -> str:
    """Returns CEL for: a field with a default was left out, in this section or in one that was written in it."""
    reasons = []
    for name, field in section["properties"].items():
        field_path = f"{path}.{name}"
        if "default" in field:
            reasons.append(f"!has({field_path})")
        elif "properties" in field and (inner := _something_is_absent(field, field_path)):
            reasons.append(f"has({field_path}) && ({inner})")
        elif "properties" in field.get("items", {}) and (inner := _something_is_absent(field["items"], "item")):
            reasons.append(f"has({field_path}) && {field_path}.exists(item, {inner})")

    return " || ".join(reasons)
