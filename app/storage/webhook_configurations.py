"""The two webhook configurations with which the API server is told to call us, and when not to.

The match conditions keep it from calling at all when there is nothing to say. Each path in them is guarded by has():
a condition that errs skips the webhook that fails open and rejects for the one that fails closed.
"""

from collections.abc import Callable
from typing import Any

from app.storage.schema import Schema, spec_schema
from app.storage.spec import GROUP, PLURAL, VERSION

NAME = "dittofs-operator"

# Where the API server posts its reviews.
MUTATE_PATH = "/mutate-dittofs-dittofs-com-v1alpha1-dittoserver"
VALIDATE_PATH = "/validate-dittofs-dittofs-com-v1alpha1-dittoserver"

# Look-ups have 2 seconds in all; defaulting looks nothing up.
VALIDATE_TIMEOUT_SECONDS = 5
MUTATE_TIMEOUT_SECONDS = 2

ClientConfig = Callable[[str], dict[str, Any]]

_SPEC_IS_NEW = {
    "name": "spec-is-new",
    "expression": "request.operation == 'CREATE' || "
    "!has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec",
}


def webhook_configurations(client_config: ClientConfig) -> list[dict[str, Any]]:
    """Mutating fails open, validating fails closed. `client_config` says how a path of ours is reached."""
    mutate = {
        "name": f"mutate.{GROUP}",
        "failurePolicy": "Ignore",
        "timeoutSeconds": MUTATE_TIMEOUT_SECONDS,
        "reinvocationPolicy": "Never",
        "matchConditions": [_SPEC_IS_NEW, _something_to_default()],
    }
    validate = {
        "name": f"validate.{GROUP}",
        "failurePolicy": "Fail",
        "timeoutSeconds": VALIDATE_TIMEOUT_SECONDS,
        "matchConditions": [_SPEC_IS_NEW],
    }
    return [
        _configuration("MutatingWebhookConfiguration", mutate | {"clientConfig": client_config(MUTATE_PATH)}),
        _configuration("ValidatingWebhookConfiguration", validate | {"clientConfig": client_config(VALIDATE_PATH)}),
    ]


def _configuration(kind: str, webhook: dict[str, Any]) -> dict[str, Any]:
    always = {
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "matchPolicy": "Equivalent",
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": [VERSION],
                "operations": ["CREATE", "UPDATE"],
                "resources": [PLURAL],
                "scope": "Namespaced",
            }
        ],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "webhooks": [webhook | always],
    }


def _something_to_default() -> dict[str, str]:
    return {
        "name": "something-to-default",
        "expression": f"has(object.spec) && ({_something_is_absent(spec_schema(), 'object.spec')})",
    }


def _something_is_absent(section: Schema, at: str) -> str:
    """CEL for: a field with a default was left out, in this section or in one that was written in it."""
    reasons = []
    for name, field in section["properties"].items():
        path = f"{at}.{name}"
        if "default" in field:
            reasons.append(f"!has({path})")
        elif "properties" in field and (inner := _something_is_absent(field, path)):
            reasons.append(f"has({path}) && ({inner})")
    return " || ".join(reasons)
